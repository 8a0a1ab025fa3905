"""Targeted searches: toward several wrong classes in turn."""

import tensorflow as tf

from rdi_tf.attacks.algorithms import search_best
from rdi_tf.attacks.loops import choose, repeat
from rdi_tf.seeds import fold


def search_targets(objective_for, logits, images, labels, attack, seed, scale=1.0):
    """Aim at the wrong classes that the clean images resemble most, one after the other, and keep the best candidate.

    Args:
      objective_for: callable, targets int32 (batch,) -> objective as `search_best` takes it.
      logits: float tensor (batch, classes) of the clean images, by which wrong classes are ranked.
      images, attack, seed, scale: as `rdi_tf.attacks.search`'s. `attack.target_classes` classes are tried, or all
        wrong ones where there are not so many.
      labels: int32 (batch,) or float32 (batch, classes).

    Returns:
      float32 tensor like `images`: for each image the candidate with the greatest merit.

    Source: Croce and Hein (ICML 2020), section 4: APGD with the targeted DLR loss.
    """
    count = min(attack.target_classes, logits.shape[-1] - 1)
    targets = ranked_wrong_classes(logits, labels)[:, :count]

    def toward(index, best, best_merit):
        folded = fold(seed, index)
        found, merit = search_best(objective_for(targets[:, index]), images, attack, folded, scale)
        better = merit > best_merit
        return choose(better, found, best), tf.where(better, merit, best_merit)

    _, merit = objective_for(targets[:, 0])(images)
    return repeat(0, count, toward, (images, merit))[0]


def ranked_wrong_classes(logits, labels):
    """All classes but the true one, most probable first: int32 (batch, classes - 1)."""
    if not labels.dtype.is_integer:
        labels = tf.argmax(labels, axis=-1)
    true = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    # Sinking the true class below all finite logits puts it last.
    wrong = tf.where(true, tf.constant(-float("inf"), logits.dtype), logits)
    return tf.math.top_k(wrong, logits.shape[-1]).indices[:, :-1]
