"""The evaluations that a run folder holds. No TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import CheckpointError, DataError
from rdi_tf.evaluation.results import EvaluationResult


@dataclass(frozen=True)
class KeptEvaluation:
    """One evaluation in RUN/evaluation.

    Attributes:
      name: of its files, without suffix.
      result: the `EvaluationResult`.
      logits_file: NPZ of the labels and of the exit logits behind it, clean and of each attack.
    """

    name: str
    result: EvaluationResult
    logits_file: Path

    def logits(self, names):
        """Some of its logits.

        Args:
          names: "clean", or attacks' names.

        Returns:
          (dict from name to float array (n, exits, classes), labels (n,)).

        Raises:
          DataError: a file that does not hold them.
        """
        try:
            with np.load(self.logits_file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names}, arrays["labels"]
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{self.logits_file}: cannot be read as exit logits: {error}") from error


def kept_evaluations(run):
    """Evaluations of a run with the logits behind them, the one with most images, then most attacks first.

    Args:
      run: a `RunFolder`.

    Returns:
      List of `KeptEvaluation`, not empty.

    Raises:
      CheckpointError: there is none.
      DataError: one that cannot be read.
    """
    found = []
    for file in sorted(run.evaluation.glob("*.json")):
        logits_file = file.with_suffix(".npz")
        if logits_file.is_file():  # sweeps and comparisons of exit rules keep none
            found.append(KeptEvaluation(file.stem, EvaluationResult.load(file), logits_file))
    if not found:
        raise CheckpointError(f"{run.path} holds no evaluation yet; run `rdi-tf evaluate {run.path}` first")
    return sorted(found, key=_importance)


def _importance(kept):
    result = kept.result
    in_turns = any(attack.kind == "remaining" for attack in result.attacks)
    return (-result.images, in_turns, -len(result.attacks), kept.name)
