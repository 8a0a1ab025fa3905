"""Golden vectors of a bundle: images whose decision is so firm that no runtime's rounding moves it."""

import numpy as np

from rdi_tf.export.bundle import GoldenVectors, describe_file
from rdi_tf.export.manifest import BundleError, Golden
from rdi_tf.export.runner import StageChain
from rdi_tf.export.tolerances import golden_tolerance
from rdi_tf.policies import decide, get_policy

CANDIDATES = 500  # validation images among which golden vectors are chosen
SEARCHED = 4  # times as many as are wanted are searched for disturbances that change their decision
ROUNDS = 2  # of the search over signs


def write_golden(folder, stages, policy, examples, options):
    """Choose golden vectors, write `golden.npz` and describe it.

    The answers are those of the stage files themselves, run here. Only images are taken for which no disturbance of the
    logits by the tolerance was found that changes exit or class, so that another runtime's rounding moves none of them;
    of those, equally many from each exit as far as there are.

    Args:
      folder: the bundle being built.
      stages: its `Piece`s.
      policy: its `ExitPolicy`.
      examples: (images, labels) to choose from; the first CANDIDATES are looked at.
      options: `ExportOptions`.

    Returns:
      The `Golden` entry.

    Raises:
      BundleError: no image's decision is as firm as that.
    """
    images, labels = (array[:CANDIDATES] for array in examples)
    exit_logits = StageChain(folder, stages).exit_logits(images)
    tolerance = golden_tolerance(options.dtype, stages, exit_logits)
    decision = decide(get_policy(policy.name), exit_logits, policy.thresholds)
    rows = _firm_rows(policy, exit_logits, decision.exits, tolerance, options.golden_images)
    if len(rows) == 0:
        raise BundleError(
            f"no decision on {len(images)} validation images withstands {tolerance:g} on the logits, which "
            f"{options.dtype} may move them by: so unsure a network has no golden vectors; train it longer"
            + ("" if options.dtype == "float32" else ", or export float32")
        )
    vectors = GoldenVectors(
        images[rows],
        labels[rows],
        exit_logits[rows],
        decision.exits[rows],
        decision.predictions[rows],
        decision.scores[rows],
    )
    vectors.save(folder / "golden.npz")
    return Golden(describe_file(folder / "golden.npz"), len(rows), tolerance)


def _firm_rows(policy, exit_logits, exits, tolerance, count):
    """Rows of at most `count` firm images, in order; the thorough search is made on some times as many alone."""
    rows = np.flatnonzero(_withstands_shifts(policy, exit_logits, tolerance))
    rows = rows[_spread(exits[rows], SEARCHED * count)]
    rows = rows[_withstands_search(policy, exit_logits[rows], exits[rows], tolerance)]
    return np.sort(rows[_spread(exits[rows], count)])


def _withstands_shifts(policy, exit_logits, tolerance):
    """Whether exit and class stay when one class is raised or lowered against all others, bool (n,)."""
    rule, classes = get_policy(policy.name), exit_logits.shape[-1]
    before, firm = decide(rule, exit_logits, policy.thresholds), np.ones(len(exit_logits), bool)
    for shift in (*(2 * np.eye(classes) - 1), *(1 - 2 * np.eye(classes))):
        moved = decide(rule, exit_logits + tolerance * shift, policy.thresholds)
        firm &= (moved.exits == before.exits) & (moved.predictions == before.predictions)
    return firm


def _withstands_search(policy, exit_logits, exits, tolerance):
    """Whether no exit up to the one taken can be brought across its threshold, bool (n,)."""
    firm = np.ones(len(exit_logits), bool)  # exits behind the one taken have no say
    for index, threshold in enumerate(policy.thresholds):
        surest = _extreme_scores(policy, exit_logits, index, tolerance, -1)
        least_sure = _extreme_scores(policy, exit_logits, index, tolerance, 1)
        firm[(exits > index) & (surest < threshold)] = False
        firm[(exits == index) & (least_sure >= threshold)] = False
    return firm


def _extreme_scores(policy, exit_logits, exit_index, tolerance, direction):
    """Highest (direction 1) or lowest (-1) score found at an exit, float64 (n,), by ascent over a disturbance's signs.

    It starts where the score moves most at first, the surest class against all others, and turns the sign of one class
    at a time, at all exits alike.
    """
    rule, classes = get_policy(policy.name), exit_logits.shape[-1]
    surest = exit_logits[:, exit_index].argmax(axis=-1)[:, None] == np.arange(classes)
    signs = direction * np.where(surest, -1.0, 1.0)

    def scores(signs):
        return rule.scores(exit_logits + tolerance * signs[:, None])[:, exit_index]

    best = scores(signs)
    for _ in range(ROUNDS):
        for turned in np.eye(classes):
            trial = signs * (1 - 2 * turned)
            found = scores(trial)
            better = direction * found > direction * best
            signs, best = np.where(better[:, None], trial, signs), np.where(better, found, best)
    return best


def _spread(exits, count):
    """Positions of at most `count` entries, taken from each exit in turn."""
    rank = np.zeros(len(exits), int)
    for exit_index in np.unique(exits):
        mine = exits == exit_index
        rank[mine] = np.arange(mine.sum())
    return np.lexsort((exits, rank))[:count]
