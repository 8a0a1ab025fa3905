"""Exit logits that earlier evaluations kept in a run folder, for whoever asks the same of the same network again."""

import zipfile

import numpy as np

from rdi_tf.config import AttackConfig
from rdi_tf.errors import DataError
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.evaluation.suites import depends_on_rule

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
      Dict from attack name to exit logits (n, exits, classes), for the attacks that were found.
    """
    names = bench.net.exit_names
    wanted = {
        (attack.form, attack.search): attack.name
        for attack in attacks
        if not attack.on_survivors and not depends_on_rule(attack.form, names)
    }
    found = {}
    for file in sorted(bench.results.glob("*.npz")):
        result = _result_beside(file)
        if result is None or not _fits(bench, result):
            continue
        with np.load(file) as kept:
            if not _same_network(bench, kept):
                continue
            for outcome in result.attacks:
                key = outcome.name.rpartition("/")[2], AttackConfig(**outcome.search)
                if outcome.kind == "attack" and key in wanted and outcome.name in kept.files:
                    found[wanted[key]] = kept[outcome.name][: len(bench.labels)]
    return found


def _result_beside(file):
    """The result whose logits a file holds; None where there is none that can be read: such a file is not used."""
    try:
        result = EvaluationResult.load(file.with_suffix(".json"))
        with zipfile.ZipFile(file):
            return result
    except (DataError, OSError, zipfile.BadZipFile):
        return None


def _fits(bench, result):
    if result.images < len(bench.labels) or result.provenance.get("seed") != bench.seed:
        return False
    # What a rule calls classes from is another thing for every rule that averages.
    same_rule = result.policy == bench.rule.name
    return result.attack_outputs == bench.outputs and (bench.outputs == "exits" or same_rule)


def _same_network(bench, kept):
    if not {"labels", "clean"} <= set(kept.files):
        return False
    labels, clean = (kept[name][: len(bench.labels)] for name in ("labels", "clean"))
    if clean.shape != bench.clean.shape or not np.array_equal(labels, bench.labels):
        return False
    return np.allclose(clean, bench.clean, rtol=0, atol=SAME_LOGITS)
