"""Auto-PGD: projected gradient ascent with momentum that chooses its own step lengths.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks" (ICML 2020), section 3, algorithm 1.
"""

import math
import typing

import tensorflow as tf

from rdi_tf.attacks.balls import ball_around
from rdi_tf.attacks.loops import choose, keep_better, repeat, with_gradient

# The authors' alpha (share of the new step against the last move) and rho (share of steps that must improve).
MOMENTUM = 0.75
IMPROVING = 0.75


class _State(typing.NamedTuple):
    """Where each image's search stands; all tensors start with the batch.

    Attributes:
      images: the current candidate x, and `previous` the one before.
      loss, gradient: at x.
      best, best_loss, best_gradient: the candidate with the greatest loss so far.
      step_size: length of the next steps.
      improved: steps since the last checkpoint that raised the loss.
      halved: whether the last checkpoint halved the step size.
      checkpoint_loss: best loss at the last checkpoint.
    """

    images: tf.Tensor
    previous: tf.Tensor
    loss: tf.Tensor
    gradient: tf.Tensor
    best: tf.Tensor
    best_loss: tf.Tensor
    best_gradient: tf.Tensor
    step_size: tf.Tensor
    improved: tf.Tensor
    halved: tf.Tensor
    checkpoint_loss: tf.Tensor


def apgd(objective, images, attack, seed, scale, best):
    """Auto-PGD in the attack's norm; steps start at twice epsilon and are halved where progress stalls.

    Returns the candidate with the greatest loss for each image (and the best so far by merit). `steps` gradients are
    followed and one more is computed, at the start.
    """
    ball = ball_around(images, attack.norm, scale * attack.epsilon)
    start = ball.project(ball.random_point(seed) if attack.random_start else images)
    checkpoints = checkpoint_steps(attack.steps)
    # Steps since the checkpoint before, at checkpoints; elsewhere zero.
    spans = [0] * attack.steps
    for earlier, later in zip(checkpoints, checkpoints[1:], strict=False):
        spans[later - 1] = later - earlier
    spans = tf.constant(spans)

    def advance(step, *flat):
        state, best = _State(*flat[: len(_State._fields)]), flat[len(_State._fields) :]
        state, merit = _move(objective, ball, state, tf.where(step == 0, 1.0, MOMENTUM))
        best = keep_better(best, state.images, merit)
        span = spans[step]
        return (*tf.cond(span > 0, lambda: _checkpoint(state, span), lambda: state), *best)

    loss, merit, gradient = with_gradient(objective, start)
    best = keep_better(best, start, merit)
    step_size = tf.zeros_like(loss) + 2.0 * ball.epsilon
    nothing = tf.zeros_like(loss, tf.int32)
    first = _State(
        start, start, loss, gradient, start, loss, gradient, step_size, nothing, tf.zeros_like(loss, tf.bool), loss
    )
    flat = repeat(0, attack.steps, advance, (*first, *best))
    return _State(*flat[: len(_State._fields)]).best, tuple(flat[len(_State._fields) :])


def checkpoint_steps(steps):
    """After how many steps the step size is looked at, starting with 0; the last is at most `steps`.

    Shares p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) of all steps, rounded up.
    """
    # In hundredths, so that rounding up does not meet 22.000000000000004.
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({math.ceil(share * steps / 100) for share in shares if share <= 100})


def _move(objective, ball, state, momentum):
    """One step with momentum, its new loss and gradient, and the best loss seen."""
    step = _over_pixels(state.step_size) * ball.direction(state.gradient)
    ahead = ball.project(state.images + step)
    drift = (1.0 - momentum) * (state.images - state.previous)
    moved = ball.project(state.images + momentum * (ahead - state.images) + drift)
    loss, merit, gradient = with_gradient(objective, moved)
    better = loss > state.best_loss
    state = state._replace(
        images=moved,
        previous=state.images,
        loss=loss,
        gradient=gradient,
        best=choose(better, moved, state.best),
        best_loss=tf.where(better, loss, state.best_loss),
        best_gradient=choose(better, gradient, state.best_gradient),
        improved=state.improved + tf.cast(loss > state.loss, tf.int32),
    )
    return state, merit


def _checkpoint(state, span):
    """Halve the step and go back to the best candidate where too few steps improved, or nothing did.

    The second condition looks at steps of unchanged length only: neither halved at the last checkpoint nor better.
    """
    few = tf.cast(state.improved, tf.float32) < IMPROVING * tf.cast(span, tf.float32)
    stalled = ~state.halved & (state.best_loss <= state.checkpoint_loss)
    halve = few | stalled
    return state._replace(
        images=choose(halve, state.best, state.images),
        loss=tf.where(halve, state.best_loss, state.loss),
        gradient=choose(halve, state.best_gradient, state.gradient),
        step_size=tf.where(halve, state.step_size / 2.0, state.step_size),
        improved=tf.zeros_like(state.improved),
        halved=halve,
        checkpoint_loss=state.best_loss,
    )


def _over_pixels(values):
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
