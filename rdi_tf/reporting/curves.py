"""Accuracy against cost as the thresholds move, for an exit rule on kept exit logits. NumPy only."""

from dataclasses import dataclass

import numpy as np

from rdi_tf.policies import decide
from rdi_tf.thresholds import given_shares

# Shares of the exits form a geometric series with these ratios: below 1 most images leave early, above 1 late.
RATIOS = (1 / 64, 1 / 16, 1 / 6, 1 / 3, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 6.0, 16.0, 64.0)


@dataclass(frozen=True)
class Curve:
    """Accuracy against cost of one exit rule on one set of images, from all at the first exit to all at the last.

    Attributes:
      policy: the rule's name.
      exit_shares: array (points, exits), where the images left.
      accuracy: array (points,), fractions.
    """

    policy: str
    exit_shares: np.ndarray
    accuracy: np.ndarray

    def costs(self, exit_costs):
        """Average cost at each point, (points,), given what leaving at each exit costs, in any unit."""
        return self.exit_shares @ np.asarray(exit_costs, np.float64)


def budget_curve(policy, calibration_logits, exit_logits, labels, attacked=()):
    """Move the thresholds of an exit rule through all budgets.

    The thresholds of each point are found on the calibration images (without their labels), so that a fixed share of
    those leaves at each exit, and applied to the others.

    Args:
      policy: a `rdi_tf.policies.Policy`.
      calibration_logits: (n, exits, classes), of validation images.
      exit_logits: (m, exits, classes), of test images, clean or attacked.
      labels: integer array (m,).
      attacked: like `exit_logits`, of the same images under attacks; an image is then right if it is so under these,
        too. Where images leave is that of `exit_logits` alone.

    Returns:
      The `Curve`.

    Raises:
      DataError: unusable logits.

    Source: budgeted batch classification and the geometric series, Huang et al., "Multi-Scale Dense Networks" (ICLR
    2018), section 5; here with fixed ratios.
    """
    exits = calibration_logits.shape[1]
    points = [np.eye(exits)[0], *(_geometric(ratio, exits) for ratio in RATIOS), np.eye(exits)[-1]]
    shares, accuracy = [], []
    for wanted in points:
        thresholds = given_shares(policy, calibration_logits, wanted)
        decisions = [decide(policy, logits, thresholds) for logits in (exit_logits, *attacked)]
        shares.append(np.bincount(decisions[0].exits, minlength=exits) / len(labels))
        accuracy.append(np.all([decision.predictions == np.asarray(labels) for decision in decisions], axis=0).mean())
    return Curve(policy.name, np.array(shares), np.array(accuracy))


def _geometric(ratio, exits):
    series = ratio ** np.arange(exits)
    return series / series.sum()
