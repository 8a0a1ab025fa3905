"""Exit logits that earlier evaluations kept in a run folder, for whoever asks the same of the same network again."""

import contextlib

import numpy as np

from rdi_tf.config import AttackConfig
from rdi_tf.errors import DataError
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.evaluation.run_results import text_digest, written_with
from rdi_tf.evaluation.suites import depends_on_rule
from rdi_tf.npz import readable_npz
from rdi_tf.plain_values import build_dataclass
from rdi_tf.policies import get_policy

# By how much a network's clean logits may differ from those that it gave then.
SAME_LOGITS = 1e-3


def kept_logits(bench, attacks):
    """What earlier evaluations found with the same attacks.

    An evaluation counts if it looked at the same images, or at these first and then at more, the network's clean logits
    were the same, and so were seed and outputs. Attacks that depend on the exit rule, or met survivors only, are never
    taken.

    Args:
      bench: the `rdi_tf.evaluation.workbench.Workbench` of a run.
      attacks: sequence of `rdi_tf.evaluation.suites.NamedAttack`.

    Returns:
      Dict from attack name to exit logits (n, exits, classes) and the name of the evaluation that kept them, for the
      attacks that were found.
    """
    names = bench.net.exit_names
    wanted = [a for a in attacks if not a.on_survivors and not depends_on_rule(a.form, names)]
    found, clean = {}, bench.clean  # an error of this pass is not one of a file
    for file in sorted(bench.results.glob("*.npz")):
        result = _result_beside(file)
        if result is None or not _fits(bench, result):
            continue
        with contextlib.suppress(DataError), readable_npz(file) as kept:
            if _together(file, kept) and _same_network(bench, clean, kept):
                found.update(_of_file(bench, kept, result, wanted, file.stem))
    return found


def _result_beside(file):
    """The result whose logits a file holds; None where there is none that can be read: such a file is not used."""
    try:
        return EvaluationResult.load(file.with_suffix(".json"))
    except DataError:
        return None


def _of_file(bench, kept, result, wanted, source):
    """What of the attacks that are wanted one evaluation kept, as `kept_logits` returns it."""
    there = {
        (outcome.name.rpartition("/")[2], build_dataclass(AttackConfig, outcome.search)): outcome.name
        for outcome in result.attacks
        if outcome.kind == "attack" and outcome.name in kept
    }
    names = {attack.name: there.get((attack.form, attack.search)) for attack in wanted}
    return {attack: (kept[name][: len(bench.labels)], source) for attack, name in names.items() if name is not None}


def _together(file, kept):
    """Whether logits and result were written by the same evaluation: one may have been killed between the two files."""
    text = file.with_suffix(".json").read_text(encoding="utf-8")
    return written_with(kept) == text_digest(text)


def _fits(bench, result):
    if result.images < len(bench.labels) or result.provenance.get("seed") != bench.seed:
        return False
    # What a rule calls classes from is another thing for every rule that averages.
    if bench.follows_rule:
        return result.attack_outputs == "policy" and result.policy == bench.rule.name
    return not (result.attack_outputs == "policy" and get_policy(result.policy).averages)


def _same_network(bench, clean, kept):
    if not {"labels", "clean"} <= set(kept):
        return False
    labels, kept_clean = (kept[name][: len(bench.labels)] for name in ("labels", "clean"))
    if kept_clean.shape != clean.shape or not np.array_equal(labels, bench.labels):
        return False
    return np.allclose(kept_clean, clean, rtol=0, atol=SAME_LOGITS)
