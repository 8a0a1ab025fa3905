"""Square: a black-box attack that needs losses only, no gradients.

Source: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search" (ECCV
2020), algorithms 1 and 2 and the schedule of section 5.
"""

import numpy as np
import tensorflow as tf

from rdi_tf.attacks.balls import ball_around
from rdi_tf.attacks.loops import choose, keep_better, repeat
from rdi_tf.errors import ConfigError
from rdi_tf.seeds import fold

# Queries, of ten thousand, after which the squares' area is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(objective, images, attack, seed, scale, best):
    """Square attack in the L-infinity ball with `attack.steps` queries.

    Starts with vertical stripes of plus and minus epsilon; then each query sets one random square of each image to plus
    or minus epsilon, channel by channel, and keeps it where the loss rises. Images draw their own squares. Starts
    nowhere but there, whatever `attack.random_start` says.
    """
    if attack.norm != "linf":
        raise ConfigError(f"norm: square is implemented for 'linf' alone, got {attack.norm!r}")
    epsilon = scale * attack.epsilon
    ball = ball_around(images, attack.norm, epsilon)
    batch, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    sides = tf.constant(side_lengths(attack.steps, attack.square_fraction, height, width))

    def query(step, found, found_loss, *best):
        seeds = tf.random.split(fold(seed, step), 3)
        side = sides[step]
        inside = _inside(seeds[0], batch, height, side)[:, :, tf.newaxis, tf.newaxis]
        inside &= _inside(seeds[1], batch, width, side)[:, tf.newaxis, :, tf.newaxis]
        tried = tf.where(inside, ball.project(images + epsilon * _signs(seeds[2], [batch, 1, 1, channels])), found)
        loss, merit = objective(tried)
        better = loss > found_loss
        best = keep_better(best, tried, merit)
        return (choose(better, tried, found), tf.where(better, loss, found_loss), *best)

    stripes = ball.project(images + epsilon * _signs(seed, [batch, 1, width, channels]))
    loss, merit = objective(stripes)
    found, _, *best = repeat(1, attack.steps, query, (stripes, loss, *keep_better(best, stripes, merit)))
    return found, tuple(best)


def side_lengths(queries, fraction, height, width):
    """Side of the square of each query, int32 array (queries,), in pixels: from `fraction` of the area downward."""
    scaled = np.arange(queries) * 10_000 // queries
    halvings = (scaled[:, None] > np.array(HALVINGS)).sum(axis=1)
    sides = np.round(np.sqrt(fraction / 2.0**halvings * height * width))
    return np.clip(sides, 1, min(height, width)).astype(np.int32)


def _inside(seed, batch, size, side):
    """Which rows (or columns) a square of that side covers, bool (batch, size), placed uniformly for each image."""
    first = tf.random.stateless_uniform([batch, 1], seed, 0, size - side + 1, tf.int32)
    index = tf.range(size)[tf.newaxis, :]
    return (index >= first) & (index < first + side)


def _signs(seed, shape):
    return 2.0 * tf.cast(tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32), tf.float32) - 1.0
