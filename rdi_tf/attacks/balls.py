"""The sets that attacks search: a ball around each image, cut to the pixel range [0, 1]."""

import tensorflow as tf

from rdi_tf.errors import ConfigError

# Passes of the L2 projection. Each one gives the length that clipping took from some pixels to the others; on images
# most of it is given in the first three.
_PASSES = 8


class LinfBall:
    """Images whose pixels differ by epsilon at most."""

    def __init__(self, images, epsilon):
        """Around `images`, float32 (batch, height, width, channels) in [0, 1], with radius `epsilon`, a scalar."""
        self.images, self.epsilon = images, epsilon
        self.low, self.high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)

    def project(self, candidates):
        """The nearest point of the ball."""
        return tf.clip_by_value(candidates, self.low, self.high)

    def random_point(self, seed):
        """A uniform point of the ball, not yet cut to [0, 1]."""
        return self.images + self.epsilon * tf.random.stateless_uniform(tf.shape(self.images), seed, -1.0, 1.0)

    def direction(self, gradient):
        """The direction of steepest ascent of length one in this norm."""
        return tf.sign(gradient)


class L2Ball:
    """Images whose difference has a Euclidean length of epsilon at most."""

    def __init__(self, images, epsilon):
        """Around `images`, float32 (batch, height, width, channels) in [0, 1], with radius `epsilon`, a scalar."""
        self.images, self.epsilon = images, epsilon

    def project(self, candidates):
        """The nearest point of the ball that lies in [0, 1].

        It is `clip(image + t * move)` for the largest t up to 1 that keeps within epsilon. Scaling first and clipping
        afterwards, as is common, ends inside the ball wherever pixels are clipped, and so attacks less than it may.
        """
        move = candidates - self.images
        reach = tf.where(move > 0, 1.0 - self.images, self.images)
        squares = move * move
        scale = tf.minimum(tf.math.divide_no_nan(self.epsilon, tf.sqrt(_total(squares))), 1.0)
        for _ in range(_PASSES):
            clipped = scale * tf.abs(move) > reach
            left = tf.maximum(self.epsilon**2 - _total(tf.where(clipped, reach * reach, 0.0)), 0.0)
            free = _total(tf.where(clipped, 0.0, squares))
            wider = tf.minimum(tf.sqrt(tf.math.divide_no_nan(left, free)), 1.0)
            scale = tf.maximum(scale, wider)
        return tf.clip_by_value(self.images + scale * move, 0.0, 1.0)

    def random_point(self, seed):
        """A uniform point of the ball, not yet cut to [0, 1]."""
        seeds = tf.random.split(seed)
        move = self.direction(tf.random.stateless_normal(tf.shape(self.images), seeds[0]))
        size = tf.cast(tf.reduce_prod(tf.shape(self.images)[1:]), tf.float32)
        share = tf.random.stateless_uniform([tf.shape(self.images)[0], 1, 1, 1], seeds[1])
        return self.images + self.epsilon * share ** (1.0 / size) * move

    def direction(self, gradient):
        """The direction of steepest ascent of length one in this norm; zero where there is no gradient."""
        # Gradients of saturated losses are so small that their squares underflow.
        scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True))
        return tf.math.divide_no_nan(scaled, tf.sqrt(_total(scaled * scaled)))


BALLS = {"linf": LinfBall, "l2": L2Ball}


def ball_around(images, norm, epsilon):
    """The ball of a norm ("linf" or "l2"; others raise `ConfigError`) and radius around each image."""
    if norm not in BALLS:
        raise ConfigError(f"norm: expected one of {', '.join(BALLS)}, got {norm!r}")
    return BALLS[norm](images, epsilon)


def _total(values):
    return tf.reduce_sum(values, axis=(1, 2, 3), keepdims=True)
