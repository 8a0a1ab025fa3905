"""Calibration: thresholds of an exit rule, found on validation images that the network was not trained on.

Two families. By shares: cut the scores so that wanted shares of the images leave at each exit, whatever they are
called there. By search: find the thresholds with the best accuracy for a budget of multiply-adds, or with the fewest
multiply-adds for a loss of accuracy. A threshold lies halfway between the last score that leaves and the first that
stays, so that another runtime's rounding moves no calibration image across it.
"""

import numpy as np

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.policies import get_policy
from rdi_tf.threshold_search import ThresholdSearch, between


def calibrate(policy_config, exit_logits, labels, executed_macs):
    """Thresholds as a configuration asks for them.

    Args:
      policy_config: a `rdi_tf.config.PolicyConfig`; names the rule and the calibration.
      exit_logits: floating array (n, exits, classes) of the calibration images.
      labels: integer array (n,), 0 <= label < classes.
      executed_macs: multiply-adds executed by an image that leaves at each exit, one number per exit, increasing.

    Returns:
      Tuple of floats, one for each exit but the last.

    Raises:
      DataError: logits or labels that do not fit together, or none.
      ConfigError: unknown rule or calibration, shares or costs that do not fit the exits, an impossible budget.
    """
    policy = get_policy(policy_config.name)
    calibrations = {
        "equal_share": lambda: equal_share(policy, exit_logits),
        "shares": lambda: given_shares(policy, exit_logits, policy_config.shares),
        "budget": lambda: for_budget(policy, exit_logits, labels, executed_macs, policy_config.budget),
        "least_macs": lambda: least_macs(policy, exit_logits, labels, executed_macs, policy_config.max_accuracy_loss),
    }
    if policy_config.calibration not in calibrations:
        raise ConfigError(
            f"policy.calibration: expected one of {', '.join(calibrations)}, got {policy_config.calibration!r}"
        )
    return calibrations[policy_config.calibration]()


def check_policy(policy_config, executed_macs):
    """Refuse what `calibrate` would refuse on whatever images: to be asked before a network is trained for it.

    Args:
      policy_config: a `rdi_tf.config.PolicyConfig`.
      executed_macs: multiply-adds executed by an image that leaves at each exit, one number per exit.

    Raises:
      ConfigError: shares that do not fit the exits, costs that do not grow where they are searched over, a budget below
        the first exit's cost.
    """
    exits = len(executed_macs)
    if policy_config.calibration == "shares":
        _check_shares(policy_config.shares, exits)
    if policy_config.calibration == "least_macs":
        _check_macs(executed_macs, exits)
    if policy_config.calibration == "budget":
        _check_budget(policy_config.budget, _check_macs(executed_macs, exits))


def equal_share(policy, exit_logits):
    """Thresholds with which every exit takes an equal share of the calibration images.

    Args, Returns, Raises: as `given_shares`.

    Source: Huang et al., "Multi-Scale Dense Networks" (ICLR 2018), section 4.2; used by Hu et al. (ICLR 2020).
    """
    exits = _calibration_scores(policy, exit_logits).shape[1]
    return given_shares(policy, exit_logits, (1 / exits,) * exits)


def given_shares(policy, exit_logits, shares):
    """Thresholds with which each exit takes its share of all calibration images.

    At each exit the scores of the images that have not left are sorted and cut. Images with equal scores cannot be
    told apart: where the cut would fall among them, it falls on the side that is nearer to the wanted share (their
    staying, if both are as near), and the next exits make up for it. Shares are met within 1/n where scores differ.

    Args:
      policy: a `rdi_tf.policies.Policy`.
      exit_logits: floating array (n, exits, classes), n >= 1.
      shares: one number >= 0 for each exit, main last, summing to 1.

    Returns:
      Tuple of floats, one for each exit but the last.

    Raises:
      DataError: unusable logits.
      ConfigError: unusable shares.
    """
    scores = _calibration_scores(policy, exit_logits)
    n, exits = scores.shape
    gone_by = np.rint(np.cumsum(_check_shares(shares, exits)) * n).astype(int)
    thresholds, staying = [], np.ones(n, bool)
    for k in range(exits - 1):
        arrived = scores[staying, k]
        thresholds.append(_cut(policy, arrived, gone_by[k] - (n - len(arrived))))
        staying &= scores[:, k] >= thresholds[-1]
    return tuple(thresholds)


def for_budget(policy, exit_logits, labels, executed_macs, budget):
    """Thresholds with the highest accuracy whose average cost is within a budget, on the calibration images.

    Args:
      policy: a `rdi_tf.policies.Policy`.
      exit_logits: floating array (n, exits, classes), n >= 1.
      labels: integer array (n,).
      executed_macs: multiply-adds executed up to each exit, increasing.
      budget: average multiply-adds per image that may be executed; at least those of the first exit.

    Returns:
      Tuple of floats, one for each exit but the last.

    Raises:
      DataError: unusable logits or labels.
      ConfigError: unusable costs, or a budget below the first exit's cost.
    """
    search = _search(policy, exit_logits, labels, executed_macs)
    _check_budget(budget, search.macs)
    within = budget * (1 + 1e-12)  # an average of equal costs may round to just above them
    return search.best(lambda accuracy, macs: np.where(macs <= within, search.accurate(accuracy, macs), -np.inf))


def least_macs(policy, exit_logits, labels, executed_macs, max_accuracy_loss):
    """Thresholds with the lowest average cost whose accuracy is close to the best the rule reaches.

    Args:
      policy, exit_logits, labels, executed_macs: as for `for_budget`.
      max_accuracy_loss: fraction (0 to 1) of accuracy on the calibration images that may be lost against the most
        accurate thresholds that the search finds.

    Returns:
      Tuple of floats, one for each exit but the last.

    Raises:
      DataError: unusable logits or labels.
      ConfigError: unusable costs or loss.
    """
    if not 0 <= max_accuracy_loss <= 1:
        raise ConfigError(f"policy.max_accuracy_loss: expected 0 <= value <= 1, got {max_accuracy_loss!r}")
    search = _search(policy, exit_logits, labels, executed_macs)
    top = search.best_choice(search.accurate)
    wanted = search.evaluate(top)[0] - max_accuracy_loss - 1e-12  # accuracies are counts / n: only undoes rounding
    return search.best(lambda accuracy, macs: np.where(accuracy >= wanted, -macs, -np.inf), (top,))


def _search(policy, exit_logits, labels, executed_macs):
    scores = _calibration_scores(policy, exit_logits)
    calls = policy.log_probabilities(exit_logits)
    correct = calls.argmax(axis=-1) == _check_labels(labels, calls)[:, None]
    return ThresholdSearch.over(policy, scores, correct, _check_macs(executed_macs, scores.shape[1]))


def _cut(policy, scores, count):
    """The threshold that lets about `count` of `scores` go."""
    if count <= 0 or len(scores) == 0:
        return policy.closed
    if count >= len(scores):
        return policy.open
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, ordered[count], side="left")
    through = np.searchsorted(ordered, ordered[count], side="right")
    count = below if count - below <= through - count else through
    if count == 0:
        return policy.closed
    return policy.open if count == len(ordered) else float(between(ordered[count - 1], ordered[count]))


def _calibration_scores(policy, exit_logits):
    scores = policy.scores(exit_logits)
    if len(scores) == 0:
        raise DataError("exit_logits: expected one calibration image at least, got none")
    return scores


def _check_labels(labels, log_probabilities):
    labels = np.asarray(labels)
    n, _, classes = log_probabilities.shape
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise DataError(f"labels: expected {n} integers, got shape {labels.shape} of {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels: expected 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    return labels


def _check_shares(shares, exits):
    shares = np.asarray(shares, np.float64)
    if shares.shape != (exits,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(f"policy.shares: expected {exits} numbers >= 0 with a sum of 1, got {shares.tolist()}")
    return shares


def _check_budget(budget, macs):
    if not budget >= macs[0]:
        raise ConfigError(
            f"policy.budget: expected at least {macs[0]:.0f}, what the first exit alone costs, got {budget!r}"
        )


def _check_macs(executed_macs, exits):
    macs = np.asarray(executed_macs, np.float64)
    if macs.shape != (exits,) or not np.isfinite(macs).all() or macs[0] <= 0 or not (np.diff(macs) > 0).all():
        raise ConfigError(
            f"executed_macs: expected {exits} growing numbers above 0, one for each exit, got {macs.tolist()}"
        )
    return macs
