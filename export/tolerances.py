"""How far logits may be from what they should be, for each dtype of a bundle. NumPy only.

Two comparisons. *Golden*: the same file on another machine; integer arithmetic may round a tie the other way, which
moves a logit by a step or two of its scale. *Keras*: the deployed file against the float model it was made from; for
the quantised dtypes a bound on the typical (root mean square) difference relative to the size of the logits, on the
share of images that take the same exit, and on the accuracy that may be lost.
"""

from dataclasses import dataclass

import numpy as np

FLOAT_TOLERANCE = 1e-4
INT8_STEPS = 4  # steps of the coarsest logits' scale
DYNAMIC_SHARE = 0.005  # of the largest logit; activations are quantised to 1/255 of their range while running


@dataclass(frozen=True)
class KerasTolerance:
    """What a deployed network must keep of the float model.

    Attributes:
      largest: largest difference of any logit; None for no bound.
      relative: root mean square of the differences, divided by that of the float model's logits.
      same_exit: share of images that must take the same exit.
      accuracy_loss: accuracy through the exit rule that may be lost, a fraction.
    """

    largest: float | None
    relative: float
    same_exit: float
    accuracy_loss: float


KERAS = {
    "float32": KerasTolerance(largest=FLOAT_TOLERANCE, relative=1e-4, same_exit=1.0, accuracy_loss=0.0),
    "float16": KerasTolerance(largest=None, relative=5e-3, same_exit=0.99, accuracy_loss=0.002),
    "dynamic_int8": KerasTolerance(largest=None, relative=0.1, same_exit=0.9, accuracy_loss=0.005),
    "int8": KerasTolerance(largest=None, relative=0.1, same_exit=0.9, accuracy_loss=0.005),
}


def golden_tolerance(dtype, stages, exit_logits):
    """Largest difference of a logit that another machine may show.

    Args:
      dtype: one of `rdi_tf.export.manifest_rules.DTYPES`.
      stages: `Piece`s of the bundle.
      exit_logits: float32 (n, exits, classes), logits as they are here.

    Returns:
      A number above 0.
    """
    if dtype == "int8":
        return INT8_STEPS * max(stage.output("logits").quantisation.scale for stage in stages)
    if dtype == "dynamic_int8":
        return DYNAMIC_SHARE * float(np.abs(exit_logits).max())
    return FLOAT_TOLERANCE
