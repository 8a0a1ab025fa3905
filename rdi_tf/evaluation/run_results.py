"""The evaluations that a run folder holds. No TensorFlow."""

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import CheckpointError, DataError
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.npz import readable_npz
from rdi_tf.policies import decide, get_policy

# In a file of logits: `text_digest` of the result that they were written with.
RESULT_DIGEST = "result_sha256"


@dataclass(frozen=True)
class KeptEvaluation:
    """One evaluation in RUN/evaluation.

    Attributes:
      name: of its files, without suffix.
      result: the `EvaluationResult`.
      logits_file: NPZ of the labels and of the exit logits behind it, clean and of each attack.
      outdated: whether RUN/model.keras has another exit rule or other thresholds now, as after `rdi-tf calibrate`.
      own_attack: whether its attacks searched as the run's configuration says, after wrong answers.
    """

    name: str
    result: EvaluationResult
    logits_file: Path
    outdated: bool = False
    own_attack: bool = True

    def logits(self, names):
        """Some of its logits.

        Args:
          names: "clean", or attacks' names.

        Returns:
          (dict from name to float array (n, exits, classes), labels (n,)).

        Raises:
          DataError: a file that does not hold them, or that another evaluation wrote than the result beside it.
        """
        with readable_npz(self.logits_file, "exit logits") as arrays:
            text = self.logits_file.with_suffix(".json").read_text(encoding="utf-8")
            if written_with(arrays) not in (None, text_digest(text)):  # killed between the two files
                raise DataError(
                    f"{self.logits_file}: its exit logits are not those of the result beside it; evaluate again"
                )
            return {name: arrays[name] for name in names}, arrays["labels"]

    def right(self):
        """Which images its exit rule calls right.

        Returns:
          (clean, survives, labels): bool arrays (n,), clean images, and clean and under every attack; labels (n,).

        Raises:
          DataError: as `logits`.
        """
        names = ["clean", *(attack.name for attack in self.result.attacks)]
        logits, labels = self.logits(names)
        policy, thresholds = get_policy(self.result.policy), self.result.thresholds
        right = [decide(policy, logits[name], thresholds).predictions == labels for name in names]
        return right[0], np.all(right, axis=0), labels


def text_digest(text):
    """Hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def written_with(arrays):
    """`text_digest` of the result that a file of exit logits was written with; None where it does not say."""
    return str(arrays[RESULT_DIGEST]) if RESULT_DIGEST in arrays else None


def kept_evaluations(run):
    """Evaluations of a run with the logits behind them, the most important first.

    First come those under the exit rule and thresholds that the run has now, by the run's own attack (slowdown aims at
    costs, so it comes behind); then those with more images, with all images under every attack, with more attacks, and
    that leave less.

    Args:
      run: a `RunFolder`.

    Returns:
      List of `KeptEvaluation`, not empty.

    Raises:
      CheckpointError: there is none.
      DataError: one that cannot be read.
    """
    found, rule, searched = [], _rule_now(run), asdict(run.config.evaluation)
    for file in sorted(run.evaluation.glob("*.json")):
        logits_file = file.with_suffix(".npz")
        if logits_file.is_file():  # sweeps and comparisons of exit rules keep none
            result = EvaluationResult.load(file)
            outdated = rule is not None and (result.policy, result.thresholds) != rule
            own = result.suite != "slowdown" and all(searched.get(key) == value for key, value in result.attack.items())
            found.append(KeptEvaluation(file.stem, result, logits_file, outdated, own))
    if not found:
        raise CheckpointError(f"{run.path} holds no evaluation yet; run `rdi-tf evaluate {run.path}` first")
    return sorted(found, key=_importance)


def _importance(kept):
    result = kept.result
    in_turns = any(attack.kind == "remaining" for attack in result.attacks)
    left = 1.0 if result.per_image_worst_case is None else result.per_image_worst_case
    return (kept.outdated, not kept.own_attack, -result.images, in_turns, -len(result.attacks), left, kept.name)


def _rule_now(run):
    """(exit rule, thresholds) in the run's model file, which is a zip with JSON in it; None where there is none."""
    try:
        with zipfile.ZipFile(run.model_file) as archive:
            kept = json.loads(archive.read("config.json"))["config"]
        return kept["config"]["policy"]["name"], tuple(kept["thresholds"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile):
        return None
