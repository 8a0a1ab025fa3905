"""How an attack searches: FGSM, N-FGSM, PGD and WRM here, APGD and Square in files of their own.

Every algorithm maps `(objective, images, attack, seed, scale, best)` to adversarial images and the best so far, as
`rdi_tf.attacks.loops` describes them. Gradients are taken by GradientTape.
"""

import tensorflow as tf

from rdi_tf.attacks.apgd import apgd
from rdi_tf.attacks.balls import ball_around
from rdi_tf.attacks.loops import choose, keep_better, keep_last, repeat, with_gradient
from rdi_tf.attacks.square import square
from rdi_tf.errors import ConfigError
from rdi_tf.seeds import fold


def search(loss, images, attack, seed, scale=1.0):
    """Maximise a loss around images.

    Args:
      loss: callable, images (batch, height, width, channels) -> loss per image (batch,).
      images: float32 tensor (batch, height, width, channels) in [0, 1].
      attack: `rdi_tf.config.AttackConfig`; what its `loss` names is the caller's affair.
      seed: int32 tensor of shape (2,); the same seed gives the same result.
      scale: factor on epsilon and step size, a float or scalar tensor in [0, 1] (warm-up during training).

    Returns:
      float32 tensor like `images`, in [0, 1]; for all but WRM and N-FGSM within `scale * attack.epsilon` of `images`
      in the attack's norm. APGD and Square return the greatest loss that they met, the others where they end. With
      restarts, the run with the greatest final loss is kept for each image.

    Raises:
      ConfigError: an unknown algorithm or norm.
    """
    algorithm = _algorithm(attack)

    def objective(candidates):
        return loss(candidates), None

    found, _ = algorithm(objective, images, attack, fold(seed, 0), scale, ())
    if attack.restarts == 1:
        return found

    def another(restart, best, best_loss):
        found, _ = algorithm(objective, images, attack, fold(seed, restart), scale, ())
        found_loss = loss(found)
        better = found_loss > best_loss
        return choose(better, found, best), tf.where(better, found_loss, best_loss)

    return repeat(1, attack.restarts, another, (found, loss(found)))[0]


def search_best(objective, images, attack, seed, scale=1.0):
    """Maximise a loss, and keep for each image the candidate with the greatest merit of all that were met.

    The images themselves are the first candidate: an attacker may do nothing.

    Args:
      objective: callable, images (batch, height, width, channels) -> (loss, merit), each (batch,).
      images, attack, seed, scale: as `search`'s.

    Returns:
      float32 tensor like `images`: those kept; and their merits, (batch,).

    Raises:
      ConfigError: an unknown algorithm or norm.
    """
    algorithm = _algorithm(attack)

    def run(restart, *best):
        return algorithm(objective, images, attack, fold(seed, restart), scale, best)[1]

    best = run(0, images, objective(images)[1])
    return tuple(repeat(1, attack.restarts, run, best) if attack.restarts > 1 else best)


def pgd(objective, images, attack, seed, scale, best):
    """Projected gradient descent (Madry et al., ICLR 2018): random start, steps of steepest ascent, projection."""
    ball = ball_around(images, attack.norm, scale * attack.epsilon)
    start = ball.random_point(seed) if attack.random_start else images
    return _projected_gradient(objective, ball, start, scale * attack.step_size, attack.steps, best)


def fgsm(objective, images, attack, seed, scale, best):
    """Fast gradient (sign) method (Goodfellow et al., ICLR 2015): one step of epsilon, no random start."""
    del seed
    epsilon = scale * attack.epsilon
    return _projected_gradient(objective, ball_around(images, attack.norm, epsilon), images, epsilon, 1, best)


def wrm(objective, images, attack, seed, scale, best):
    """Wasserstein robust method (Sinha et al., ICLR 2018): ascent on `epsilon * loss - 0.5 * ||x' - x||_2^2`.

    Steps of 1 / sqrt(t + 2). The penalty alone keeps images near: they are clipped to [0, 1] but to no ball.
    """
    del seed
    epsilon = scale * attack.epsilon

    def ascend(step, adversarial, *best):
        _, merit, gradient = with_gradient(objective, adversarial)
        best = keep_better(best, adversarial, merit)
        ascent = epsilon * gradient - (adversarial - images)
        adversarial += tf.math.rsqrt(tf.cast(step, tf.float32) + 2.0) * ascent
        return (tf.clip_by_value(adversarial, 0.0, 1.0), *best)

    found, *best = repeat(0, attack.steps, ascend, (images, *best))
    return found, keep_last(objective, found, best)


def n_fgsm(objective, images, attack, seed, scale, best):
    """Noise-FGSM (de Jorge et al., NeurIPS 2022), for training: one gradient, and no collapse of its robustness.

    Uniform noise of up to `attack.noise * epsilon` per pixel, then one step of epsilon; both cut to [0, 1] but to no
    ball, so images may move by `(1 + attack.noise) * epsilon`.
    """
    epsilon = scale * attack.epsilon
    noisy = ball_around(images, "linf", attack.noise * epsilon).random_point(seed)
    pixels = ball_around(images, "linf", 1.0)  # cuts to [0, 1] and no further
    return _projected_gradient(objective, pixels, noisy, epsilon, 1, best)


ALGORITHMS = {"pgd": pgd, "fgsm": fgsm, "wrm": wrm, "apgd": apgd, "square": square, "n_fgsm": n_fgsm}


def _projected_gradient(objective, ball, start, step_size, steps, best):
    def ascend(step, adversarial, *best):
        del step
        _, merit, gradient = with_gradient(objective, adversarial)
        best = keep_better(best, adversarial, merit)
        return (ball.project(adversarial + step_size * ball.direction(gradient)), *best)

    found, *best = repeat(0, steps, ascend, (ball.project(start), *best))
    return found, keep_last(objective, found, best)


def _algorithm(attack):
    if attack.algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {attack.algorithm!r}")
    return ALGORITHMS[attack.algorithm]
