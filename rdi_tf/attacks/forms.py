"""What an attack on many exits maximises: its form.

- `branch_k`, `main`: the loss of that exit (single attack);
- `average`: the mean of all exits' losses;
- `max_average`: all single attacks are run and, image by image, the candidate with the largest mean loss is taken;
- `random`: the exits' losses weighted by uniform random numbers, normalised and drawn once per batch.

Source: paper, section 3.2 (single, average, max-average) and appendix D (random).
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from rdi_tf.attacks.algorithms import search
from rdi_tf.errors import ConfigError


@dataclass(frozen=True)
class ExitLosses:
    """What an attack may ask of a network.

    Attributes:
      exit_names: "branch_1" … "main".
      single: for each exit a callable (images, labels) -> loss of that exit, (batch,), that runs no more of the
        network than this exit needs.
      every: callable (images, labels) -> losses of all exits, (batch, exits).
    """

    exit_names: tuple[str, ...]
    single: tuple[Callable, ...]
    every: Callable


def form_names(exit_names):
    """All forms against these exits, in the order of the paper's tables: each exit, average, max-average, random."""
    return (*exit_names, "average", "max_average", "random")


def defence_form(defence_name, exit_names):
    """The form that makes a defence's training images, or None for the standard defence (paper, section 3.3)."""
    forms = {"standard": None, "main_branch": exit_names[-1], "average": "average", "max_average": "max_average"}
    if defence_name not in forms:
        raise ConfigError(f"defence: expected one of {', '.join(forms)}, got {defence_name!r}")
    return forms[defence_name]


def craft(form, losses, images, labels, attack, seed, scale=1.0):
    """Make adversarial images.

    Args:
      form: one of `form_names(losses.exit_names)`.
      losses: `ExitLosses` of the network.
      images: float32 tensor (batch, height, width, channels) in [0, 1].
      labels: int32 (batch,) or float32 (batch, classes).
      attack: `rdi_tf.config.AttackConfig`.
      seed: int32 tensor of shape (2,). Exit k's single attack folds k in, so that max-average's candidates are
        exactly the single attacks of the same seed.
      scale: factor on epsilon and step size (warm-up).

    Returns:
      float32 tensor like `images`.

    Raises:
      ConfigError: an unknown form.
    """
    num_exits = len(losses.exit_names)
    if form in losses.exit_names:
        exit_index = losses.exit_names.index(form)

        def single(candidate):
            return losses.single[exit_index](candidate, labels)

        return search(single, images, attack, _fold(seed, exit_index), scale)
    if form == "max_average":
        candidates = [craft(name, losses, images, labels, attack, seed, scale) for name in losses.exit_names]
        if num_exits == 1:
            return candidates[0]
        mean_losses = [tf.reduce_mean(losses.every(candidate, labels), axis=1) for candidate in candidates]
        return strongest_candidate(tf.stack(candidates), tf.stack(mean_losses))
    if form not in ("average", "random"):
        raise ConfigError(f"attack form: expected one of {', '.join(form_names(losses.exit_names))}, got {form!r}")
    weights = tf.fill([num_exits], 1.0 / num_exits)
    if form == "random":
        weights = tf.random.stateless_uniform([num_exits], _fold(seed, num_exits + 1))
        weights /= tf.reduce_sum(weights)

    def weighted(candidate):
        return tf.linalg.matvec(losses.every(candidate, labels), weights)

    return search(weighted, images, attack, _fold(seed, num_exits), scale)


def strongest_candidate(candidates, values):
    """For each image the candidate with the largest value.

    Args:
      candidates: tensor (candidates, batch, ...).
      values: float tensor (candidates, batch).

    Returns:
      Tensor (batch, ...).
    """
    return tf.gather(tf.experimental.numpy.moveaxis(candidates, 0, 1), tf.argmax(values, axis=0), batch_dims=1)


def _fold(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)
