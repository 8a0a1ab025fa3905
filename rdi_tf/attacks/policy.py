"""Attacks on the exit rule itself, and on the savings.

- `rerouted`: the loss of the exit that the rule picks, picked anew at every step. With the algorithm "square" this is
  the black-box attack on the deployed decision, which sees the probabilities at the exit taken and nothing else.
- `policy_branch_k`, `policy_main`: make that exit wrong and sure enough to be taken, and all before it unsure.
- `slowdown`: keep images from leaving early; accuracy is no aim.

All look at what the rule looks at: running averages where the rule has them. An attack on accuracy keeps for each image
the candidate, of all on the way, that the deployed decision is most wrong about; slowdown the one that leaves last.

Source: adaptive attacks in the sense of Tramer et al., "On Adaptive Attacks to Adversarial Example Defenses" (NeurIPS
2020); slowdown after Hong et al., "A Panda? No, It's a Sloth" (ICLR 2021), with hinges at the thresholds in place of
the distance to uniform probabilities.
"""

import tensorflow as tf

from rdi_tf.attacks.algorithms import search_best
from rdi_tf.attacks.losses import dlr_targeted, margin
from rdi_tf.attacks.targets import search_targets
from rdi_tf.errors import ConfigError
from rdi_tf.seeds import fold

SLOWDOWN = "slowdown"

# How far beyond a threshold (as a gap: a tenth of its value) or a wrong call (in nats) is far enough.
KAPPA = 0.1


def policy_form_names(exit_names):
    """The forms that attack accuracy through the exit rule: rerouted, then one for each exit."""
    return ("rerouted", *(f"policy_{name}" for name in exit_names))


def craft_policy(form, losses, images, labels, attack, seed, scale=1.0):
    """Make adversarial images against an exit rule.

    Args:
      form: one of `policy_form_names(losses.exit_names)` or "slowdown".
      losses: `ExitLosses` with logits and the rule.
      images, labels, attack, seed, scale: as `rdi_tf.attacks.craft`'s. `attack.loss` is what "rerouted" maximises; the
        other forms have objectives of their own.

    Returns:
      float32 tensor like `images`.

    Raises:
      ConfigError: an unknown form, or losses that know no logits or no exit rule.
    """
    names = (*policy_form_names(losses.exit_names), SLOWDOWN)
    if form not in names:
        raise ConfigError(f"attack form: expected one of {', '.join(names)}, got {form!r}")
    if losses.logits is None or losses.rule is None:
        raise ConfigError(f"attack form {form!r} attacks the exit rule: it needs a calibrated network, got none")
    # Numbers that no form of `craft` folds in.
    seed = fold(seed, len(losses.exit_names) + 2 + names.index(form))
    if form == "rerouted" and attack.loss == "dlr_targeted":
        ranking = losses.rule.route(losses.logits(images)).taken()
        toward = _rerouted_toward(losses, labels)
        return search_targets(toward, ranking, images, labels, attack, seed, scale)
    return search_best(_objective(form, names, losses, labels), images, attack, seed, scale)[0]


def _objective(form, names, losses, labels):
    def objective(images):
        routing = losses.rule.route(losses.logits(images))
        taken = routing.taken()
        if form == SLOWDOWN:
            # What is behind an exit that nobody passes would only draw the steps away.
            passable = losses.rule.passable(routing.log_probabilities.shape[-1])
            return -_unsure(routing.gaps[:, :passable]), tf.cast(routing.exits, tf.float32)
        if form == "rerouted":
            loss = losses.loss(taken, labels)
        else:
            loss = -_shortfall(routing, labels, names.index(form) - 1)
        return loss, margin(taken, labels)

    return objective


def _rerouted_toward(losses, labels):
    def objective_for(targets):
        def objective(images):
            taken = losses.rule.route(losses.logits(images)).taken()
            return dlr_targeted(taken, labels, targets), margin(taken, labels)

        return objective

    return objective_for


def _unsure(gaps):
    """What is missing, summed over these exits, until an image stays at each: (batch,), zero once it does."""
    return tf.cast(tf.reduce_sum(tf.nn.relu(KAPPA - gaps), axis=1), tf.float32)


def _shortfall(routing, labels, exit_index):
    """What is missing until an exit is wrong and taken, (batch,), zero once it is."""
    wrong_by = margin(tf.cast(routing.log_probabilities[:, exit_index], tf.float32), labels)
    missing = tf.nn.relu(KAPPA - wrong_by) + _unsure(routing.gaps[:, :exit_index])
    if exit_index < routing.gaps.shape[1]:
        gap = tf.cast(routing.gaps[:, exit_index], tf.float32)
        # An exit that still calls the true class must not be made surer of it.
        gap = tf.where(wrong_by > 0, gap, tf.stop_gradient(gap))
        missing += tf.nn.relu(KAPPA + gap)
    return missing
