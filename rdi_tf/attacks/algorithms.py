"""How an attack searches: one projected-gradient loop behind FGSM and PGD, and WRM.

Every algorithm maps `(loss, images, attack, seed)` to adversarial images. `loss` is a callable from images
(batch, height, width, channels) to a loss per image, shape (batch,); its gradient is taken by GradientTape.
"""

import tensorflow as tf

from rdi_tf.errors import ConfigError


def search(loss, images, attack, seed, scale=1.0):
    """Maximise a loss around images.

    Args:
      loss: callable, images (batch, height, width, channels) -> loss per image (batch,).
      images: float32 tensor (batch, height, width, channels) in [0, 1].
      attack: `rdi_tf.config.AttackConfig`.
      seed: int32 tensor of shape (2,); the same seed gives the same result.
      scale: factor on epsilon and step size, a float or scalar tensor in [0, 1] (warm-up during training).

    Returns:
      float32 tensor like `images`, in [0, 1]; for FGSM and PGD within `scale * attack.epsilon` of `images` in every
      pixel. With restarts, the run with the greatest final loss is kept for each image.

    Raises:
      ConfigError: an unknown algorithm.
    """
    if attack.algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {attack.algorithm!r}")
    algorithm = ALGORITHMS[attack.algorithm]
    best = algorithm(loss, images, attack, tf.random.experimental.stateless_fold_in(seed, 0), scale)
    if attack.restarts == 1:
        return best

    def another(restart, best, best_loss):
        found = algorithm(loss, images, attack, tf.random.experimental.stateless_fold_in(seed, restart), scale)
        found_loss = loss(found)
        better = found_loss > best_loss
        best = tf.where(better[:, tf.newaxis, tf.newaxis, tf.newaxis], found, best)
        return best, tf.where(better, found_loss, best_loss)

    return _repeat(1, attack.restarts, another, (best, loss(best)))[0]


def pgd(loss, images, attack, seed, scale=1.0):
    """Projected gradient descent in the L-infinity ball (Madry et al., ICLR 2018): random start, sign steps."""
    epsilon = scale * attack.epsilon
    start = images
    if attack.random_start:
        start += epsilon * tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)
    return _projected_gradient(loss, images, start, epsilon, scale * attack.step_size, attack.steps)


def fgsm(loss, images, attack, seed, scale=1.0):
    """Fast gradient sign method (Goodfellow et al., ICLR 2015): one step of epsilon, no random start."""
    del seed
    epsilon = scale * attack.epsilon
    return _projected_gradient(loss, images, images, epsilon, epsilon, 1)


def wrm(loss, images, attack, seed, scale=1.0):
    """Wasserstein robust method (Sinha et al., ICLR 2018): ascent on `epsilon * loss - 0.5 * ||x' - x||_2^2`.

    Steps of 1 / sqrt(t + 2). The penalty alone keeps images near: they are clipped to [0, 1] but to no ball.
    """
    del seed
    epsilon = scale * attack.epsilon

    def ascend(step, adversarial):
        ascent = epsilon * _gradient(loss, adversarial) - (adversarial - images)
        adversarial += tf.math.rsqrt(tf.cast(step, tf.float32) + 2.0) * ascent
        return (tf.clip_by_value(adversarial, 0.0, 1.0),)

    return _repeat(0, attack.steps, ascend, (images,))[0]


ALGORITHMS = {"pgd": pgd, "fgsm": fgsm, "wrm": wrm}


def _projected_gradient(loss, images, start, epsilon, step_size, steps):
    low, high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)

    def ascend(step, adversarial):
        del step
        adversarial += step_size * tf.sign(_gradient(loss, adversarial))
        return (tf.clip_by_value(adversarial, low, high),)

    return _repeat(0, steps, ascend, (tf.clip_by_value(start, low, high),))[0]


def _repeat(first, stop, body, state):
    """`for step in range(first, stop): state = body(step, *state)` as one graph loop.

    Written out because Keras traces a train_step without AutoGraph.
    """

    def step_body(step, *state):
        return (step + 1, *body(step, *state))

    _, *state = tf.while_loop(lambda step, *_: step < stop, step_body, (first, *state), parallel_iterations=1)
    return state


def _gradient(loss, images):
    # Only the images are watched: gradients of the weights are neither wanted nor computed.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = tf.reduce_sum(loss(images))
    return tape.gradient(total, images)
