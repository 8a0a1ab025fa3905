"""What an attack on many exits maximises: its form.

- `branch_k`, `main`: the loss of that exit (single attack);
- `average`: the mean of all exits' losses;
- `max_average`: all single attacks are run and, image by image, the candidate with the largest mean loss is taken;
- `random`: the exits' losses weighted by uniform random numbers, normalised and drawn once per batch;
- `worst_exit`: the largest of the exits' losses, image by image and step by step (for training; not the paper's);
- `random_exit`: the loss of one exit, drawn for each image (for training; not the paper's).

Forms that attack the exit rule are in `rdi_tf.attacks.policy`.

Source: paper, section 3.2 (single, average, max-average) and appendix D (random).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from rdi_tf.attacks.algorithms import search, search_best
from rdi_tf.attacks.exit_rules import ExitRule
from rdi_tf.attacks.losses import cross_entropy, divergence, dlr, dlr_targeted, margin
from rdi_tf.attacks.policy import SLOWDOWN, craft_policy, policy_form_names
from rdi_tf.attacks.targets import search_targets
from rdi_tf.errors import ConfigError
from rdi_tf.seeds import fold

WORST_EXIT = "worst_exit"
RANDOM_EXIT = "random_exit"


@dataclass(frozen=True)
class ExitLosses:
    """What an attack may ask of a network.

    Attributes:
      exit_names: "branch_1" … "main".
      single: for each exit a callable (images, labels) -> loss of that exit, (batch,), that runs no more of the
        network than this exit needs.
      every: callable (images, labels) -> losses of all exits, (batch, exits).
      loss: the loss itself, (logits, labels) -> loss per image.
      single_logits: for each exit a callable images -> its logits (batch, classes); targeted attacks need them.
      logits: callable images -> exit_logits (batch, exits, classes); these and attacks on the exit rule need it.
      rule: the `ExitRule` that attacks on it aim at, or None.
    """

    exit_names: tuple[str, ...]
    single: tuple[Callable, ...]
    every: Callable
    loss: Callable = cross_entropy
    single_logits: tuple[Callable, ...] | None = None
    logits: Callable | None = None
    rule: ExitRule | None = None

    @classmethod
    def of_logits(cls, exit_names, single_logits, logits, loss=cross_entropy, rule=None):
        """The losses of a network that is known by its logits.

        Args:
          exit_names, single_logits, logits, loss, rule: the attributes of these names.

        Returns:
          `ExitLosses`.
        """

        def single(exit_logits):
            return lambda images, labels: loss(exit_logits(images), labels)

        def every(images, labels):
            return loss(logits(images), labels)

        single_losses = tuple(single(exit_logits) for exit_logits in single_logits)
        return cls(tuple(exit_names), single_losses, every, loss, tuple(single_logits), logits, rule)

    def diverging_from(self, images):
        """The same network's divergence from what it says of these images, as losses that know no labels.

        Args:
          images: float32 tensor (batch, height, width, channels), those that candidates are made of.

        Returns:
          `ExitLosses` of `KL(exit's output on the image || on the candidate)`. There is no gradient at the images.

        Source: the inner problem of Zhang et al. (ICML 2019), algorithm 1.
        """
        clean = self.logits(images)

        def single(exit_index):
            logits = self.single_logits[exit_index]
            return lambda candidates, labels: divergence(clean[:, exit_index], logits(candidates))

        def every(candidates, labels):
            return divergence(clean, self.logits(candidates))

        return replace(self, single=tuple(single(k) for k in range(len(self.exit_names))), every=every)


def form_names(exit_names):
    """The paper's forms against these exits, in the order of its tables: each exit, average, max-average, random."""
    return (*exit_names, "average", "max_average", "random")


def defence_form(defence_name, exit_names):
    """The form that makes a defence's training images, or None for the standard defence (paper, section 3.3).

    The defence "free" makes its images while it updates the weights; where images alone are wanted, "average" it is.
    """
    forms = {
        "standard": None,
        "main_branch": exit_names[-1],
        "average": "average",
        "max_average": "max_average",
        "worst_exit": WORST_EXIT,
        "random_exit": RANDOM_EXIT,
        "rerouted": "rerouted",
        "free": "average",
    }
    if defence_name not in forms:
        raise ConfigError(f"defence: expected one of {', '.join(forms)}, got {defence_name!r}")
    return forms[defence_name]


def craft(form, losses, images, labels, attack, seed, scale=1.0, decided=None):
    """Make adversarial images.

    Args:
      form: one of `form_names(losses.exit_names)`, of `policy_form_names(losses.exit_names)`, "worst_exit",
        "random_exit", "slowdown".
      losses: `ExitLosses` of the network, with the loss that `attack.loss` names (`loss_function`).
      images: float32 tensor (batch, height, width, channels) in [0, 1].
      labels: int32 (batch,) or float32 (batch, classes).
      attack: `rdi_tf.config.AttackConfig`.
      seed: int32 tensor of shape (2,). Exit k's single attack folds k in, so that max-average's candidates are
        exactly the single attacks of the same seed.
      scale: factor on epsilon and step size (warm-up).
      decided: callable, images -> float (batch, classes) from which the deployed class is called. With it, a form that
        attacks one exit or a mean keeps of all candidates that it met the one that this decision is most wrong about,
        as forms that attack the rule do in any case; without, the one that its search ends with.

    Returns:
      float32 tensor like `images`.

    Raises:
      ConfigError: an unknown form, or one that asks `losses` for what they do not have.
    """
    if form == SLOWDOWN or form in policy_form_names(losses.exit_names):
        return craft_policy(form, losses, images, labels, attack, seed, scale)
    if form == "max_average":
        candidates = [craft(name, losses, images, labels, attack, seed, scale) for name in losses.exit_names]
        if len(candidates) == 1:
            return candidates[0]
        mean_losses = [tf.reduce_mean(losses.every(candidate, labels), axis=1) for candidate in candidates]
        return strongest_candidate(tf.stack(candidates), tf.stack(mean_losses))
    if form in (WORST_EXIT, RANDOM_EXIT):
        return _craft_one_exit(form, losses, images, labels, attack, seed, scale)
    exit_index, weights = _exits_of(form, losses.exit_names, seed)
    own_seed = fold(seed, len(losses.exit_names) if exit_index is None else exit_index)
    if attack.loss == "dlr_targeted":
        return _craft_targeted(losses, exit_index, weights, images, labels, attack, own_seed, scale, decided)

    def loss(candidate):
        if exit_index is not None:
            return losses.single[exit_index](candidate, labels)
        return tf.linalg.matvec(losses.every(candidate, labels), weights)

    if decided is None:
        return search(loss, images, attack, own_seed, scale)

    def objective(candidate):
        return loss(candidate), margin(decided(candidate), labels)

    return search_best(objective, images, attack, own_seed, scale)[0]


def _exits_of(form, exit_names, seed):
    """The one exit that a form attacks, or None, and the weights of the exits that it looks at."""
    num_exits = len(exit_names)
    if form in exit_names:
        return exit_names.index(form), tf.ones([1])
    if form == "average":
        return None, tf.fill([num_exits], 1.0 / num_exits)
    if form == "random":
        weights = tf.random.stateless_uniform([num_exits], fold(seed, num_exits + 1))
        return None, weights / tf.reduce_sum(weights)
    known = (*form_names(exit_names), *policy_form_names(exit_names), WORST_EXIT, RANDOM_EXIT, SLOWDOWN)
    raise ConfigError(f"attack form: expected one of {', '.join(known)}, got {form!r}")


def _craft_one_exit(form, losses, images, labels, attack, seed, scale):
    """Each image's attack has an exit of its own: the worst one of the moment, or one that was drawn."""
    if attack.loss == "dlr_targeted":
        raise ConfigError(f"attack form {form!r}: expected another loss than 'dlr_targeted', which aims at fixed exits")
    num_exits = len(losses.exit_names)
    # No form folds in numbers below zero. In training, random layers do, of the same seed, and fold once more.
    drawn = tf.random.stateless_uniform([tf.shape(images)[0]], fold(seed, -1), maxval=num_exits, dtype=tf.int32)

    def loss(candidate):
        of_exits = losses.every(candidate, labels)
        return tf.reduce_max(of_exits, axis=1) if form == WORST_EXIT else tf.gather(of_exits, drawn, batch_dims=1)

    return search(loss, images, attack, fold(seed, num_exits), scale)


def _craft_targeted(losses, exit_index, weights, images, labels, attack, seed, scale, decided):
    if losses.logits is None or losses.single_logits is None:
        raise ConfigError("loss 'dlr_targeted' needs the network's logits, got losses alone: use ExitLosses.of_logits")

    def logits(candidate):
        if exit_index is None:
            return losses.logits(candidate)
        return losses.single_logits[exit_index](candidate)[:, tf.newaxis]

    def objective_for(targets):
        def objective(candidate):
            found = logits(candidate)
            toward = tf.linalg.matvec(dlr_targeted(found, labels, targets), weights)
            if decided is not None:
                return toward, margin(decided(candidate), labels)
            return toward, tf.linalg.matvec(dlr(found, labels), weights)

        return objective

    ranking = tf.einsum("bec,e->bc", tf.nn.log_softmax(logits(images)), weights)
    return search_targets(objective_for, ranking, images, labels, attack, seed, scale)


def strongest_candidate(candidates, values):
    """For each image the candidate with the largest value.

    Args:
      candidates: tensor (candidates, batch, ...).
      values: float tensor (candidates, batch).

    Returns:
      Tensor (batch, ...).
    """
    return tf.gather(tf.experimental.numpy.moveaxis(candidates, 0, 1), tf.argmax(values, axis=0), batch_dims=1)
