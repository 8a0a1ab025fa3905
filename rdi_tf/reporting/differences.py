"""Two networks on the same images: how far apart they are, and how sure that is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A figure of one network less that of another on the same images.

    Attributes:
      mean: the difference, of fractions.
      error: its standard error. Most images are right or wrong for both networks, so that it is smaller than the errors
        of the two figures would make it. What another training of the same networks would change is not in it.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, right, other_right):
        """The difference in accuracy.

        Args:
          right: bool array (n,), n >= 2: which images the one network calls right.
          other_right: the same of the other network.

        Returns:
          The `Difference`.
        """
        each = np.asarray(right, np.float64) - np.asarray(other_right, np.float64)
        return cls(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))))

    def __str__(self):
        """In percentage points: "+2.31 ± 0.30"."""
        return f"{100 * self.mean:+.2f} ± {100 * self.error:.2f}"


@dataclass(frozen=True)
class Differences:
    """How one run differs from another that was evaluated in the same way on the same images.

    Attributes:
      other: name of the other run.
      clean_accuracy: `Difference` in TA.
      per_image_worst_case: `Difference` in the share that is right clean and under every attack.
      executed_saving: share of the other's executed multiply-adds that are saved on clean images; negative where more.
    """

    other: str
    clean_accuracy: Difference
    per_image_worst_case: Difference
    executed_saving: float


def differences(kept, name, other):
    """How an evaluation differs from that of another run.

    Args:
      kept: `rdi_tf.evaluation.run_results.KeptEvaluation` under attacks.
      name: name of the other run.
      other: its `KeptEvaluation`.

    Returns:
      `Differences`; None where they are not of the same images, or of a single one.

    Raises:
      DataError: logits that cannot be read.
    """
    (clean, survives, labels), (other_clean, other_survives, other_labels) = kept.right(), other.right()
    result, other_result = kept.result, other.result
    same_source = (result.dataset, result.split) == (other_result.dataset, other_result.split)
    if not same_source or len(labels) < 2 or not np.array_equal(labels, other_labels):
        return None
    saving = 1 - result.clean.average_executed_macs / other_result.clean.average_executed_macs
    return Differences(name, Difference.of(clean, other_clean), Difference.of(survives, other_survives), saving)
