"""GradAlign on losses whose gradients can be written down."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.defence.alignment import misalignment
from rdi_tf.network import RDINet


def pixels(*rows):
    """Images of 1x2 pixels."""
    return tf.constant(rows, tf.float32)[:, tf.newaxis, :, tf.newaxis]


def test_linear_losses_are_aligned_everywhere():
    slope = tf.constant([3.0, -4.0])
    found = misalignment(
        lambda x: tf.linalg.matvec(x[:, 0, :, 0], slope), pixels([0, 0], [1, 2]), pixels([5, 5], [0, 1])
    )
    assert float(found) == pytest.approx(0.0, abs=1e-6)


def test_cosines_by_hand():
    # The loss |x|^2 / 2 has x itself as its gradient: angles of 0, 90, 180 and 45 degrees.
    start = pixels([1, 0], [1, 0], [1, 0], [1, 0])
    moved = pixels([3, 0], [0, 2], [-1, 0], [1e-9, 1e-9])
    found = misalignment(lambda x: tf.reduce_sum(x * x, axis=(1, 2, 3)) / 2, start, moved)
    assert float(found) == pytest.approx((0 + 1 + 2 + 1 - 0.5**0.5) / 4, rel=1e-6)


def test_derivative_by_hand():
    # Gradients (1, 0) and (1, w): the cosine is 1 / sqrt(1 + w^2), minus its derivative w / (1 + w^2)^1.5.
    weight = tf.Variable(0.75)

    def loss(x):
        first, second = x[:, 0, 0, 0], x[:, 0, 1, 0]
        return first + weight * second**2 / 2

    with tf.GradientTape() as tape:
        found = misalignment(loss, pixels([0, 0]), pixels([0, 1]))
    assert float(found) == pytest.approx(1 - 0.8, rel=1e-6)
    assert float(tape.gradient(found, weight)) == pytest.approx(0.75 / 1.25**3, rel=1e-5)


def test_images_without_gradient_break_nothing():
    weight = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        found = misalignment(lambda x: weight * tf.reduce_sum(x * 0.0, axis=(1, 2, 3)), pixels([1, 2]), pixels([2, 1]))
    assert float(found) == 1.0
    assert float(tape.gradient(found, weight)) == 0.0


def curved_net():
    """One exit, smooth and not linear, so that alignment has something to straighten."""
    image = keras.Input((3, 3, 1))
    x = keras.layers.Dense(16, activation="tanh")(keras.layers.Flatten()(image))
    x = keras.layers.Dense(3, name="logits")(x)
    return RDINet(keras.Model(image, keras.layers.Activation("linear", dtype="float32", name="main")(x)))


def test_training_with_it_straightens_the_loss():
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(size=(32, 3, 3, 1)), tf.float32)
    labels = tf.one_hot(random.integers(3, size=32), 3)
    attack = AttackConfig(algorithm="fgsm", epsilon=0.3)
    left, start = {}, None
    for alignment in (0.0, 2.0):
        net = curved_net()
        start = start or net.get_weights()
        net.set_weights(start)
        defence = DefenceConfig("main_branch", attack, training_mode=False, alignment=alignment)
        net.compile(keras.optimizers.SGD(0.1), defence=defence)
        step = tf.function(net.train_step, autograph=False)
        losses = [float(step((images, labels))["loss"]) for _ in range(40)]
        left[alignment] = float(net.misalignment(images, labels, tf.constant(0, tf.int64)))
        assert np.isfinite(losses).all()
    assert left[2.0] < 0.7 * left[0.0]


def test_the_loss_grows_by_its_weight():
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(size=(8, 3, 3, 1)), tf.float32)
    labels = tf.one_hot(random.integers(3, size=8), 3)
    net, losses = curved_net(), []
    weights = net.get_weights()
    for alignment in (0.0, 0.5):
        net.set_weights(weights)
        attack = AttackConfig(algorithm="fgsm", epsilon=0.3)
        net.compile(
            keras.optimizers.SGD(0.0), defence=DefenceConfig("main_branch", attack, alignment=alignment), seed=3
        )
        losses.append(float(net.train_step((images, labels))["loss"]))
    misaligned = float(net.misalignment(images, labels, tf.constant(0, tf.int64)))
    assert misaligned > 0.001
    assert losses[1] - losses[0] == pytest.approx(0.5 * misaligned, rel=1e-3)
