"""Free adversarial training: replays worked out in NumPy, and what an iteration is."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.network import RDINet
from rdi_tf.training.optimisation import WarmupThenDecay

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01
EXIT_WEIGHTS = (0.5, 2.0)
REPLAYS, EPSILON, STEP = 3, 0.1, 0.07
ATTACK = AttackConfig(epsilon=EPSILON, step_size=STEP, steps=REPLAYS, random_start=False)


def linear_net():
    """Two exits, 3 classes, both linear in the four pixels: gradients can be written down."""
    images = keras.Input((2, 2, 1))
    pixels = keras.layers.Flatten()(images)
    outputs = []
    for seed, name in enumerate(("branch_1", "main")):
        initializer = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        logits = keras.layers.Dense(3, kernel_initializer=initializer, name=f"{name}_logits")(pixels)
        outputs.append(keras.layers.Activation("linear", dtype="float32", name=name)(logits))
    return RDINet(keras.Model(images, outputs))


def compiled(attack=ATTACK, rate=RATE, **settings):
    net = linear_net()
    defence = DefenceConfig("free", attack, **settings)
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM)
    net.compile(optimizer, defence=defence, exit_weights=EXIT_WEIGHTS, weight_decay=DECAY)
    return net


@pytest.fixture
def batch():
    random = np.random.default_rng(5)
    return random.uniform(size=(6, 2, 2, 1)).astype(np.float32), np.array([0, 1, 2, 2, 1, 0], np.int32)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def replayed(net, images, labels, rates):
    """Weights and mean loss after one iteration for each rate, in NumPy: each pass moves weights and pixels."""
    clean = images.reshape(len(images), -1).astype(np.float64)
    targets = np.eye(3)[labels]
    weights = [weight.numpy().astype(np.float64) for weight in net.weights]
    velocities = [np.zeros_like(weight) for weight in weights]
    losses = []
    for rate in rates:
        pixels = clean
        for _ in range(REPLAYS):
            gradients, ascent, loss = [], np.zeros_like(pixels), 0.0
            for k, factor in enumerate(EXIT_WEIGHTS):
                probabilities = softmax(pixels @ weights[2 * k] + weights[2 * k + 1])
                loss -= factor * (targets * np.log(probabilities)).sum(axis=1).mean()
                error = factor * (probabilities - targets) / len(pixels)
                gradients += [pixels.T @ error, error.sum(axis=0)]
                ascent += error @ weights[2 * k].T
            losses.append(loss)
            for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
                velocity *= MOMENTUM
                velocity -= rate * (gradient + DECAY * weight)
                weight += velocity
            moved = np.clip(pixels + STEP * np.sign(ascent), clean - EPSILON, clean + EPSILON)
            pixels = np.clip(moved, 0, 1)
    return weights, np.mean(losses)


def test_one_pass_moves_weights_and_images(batch):
    images, labels = batch
    net = compiled()
    expected, loss = replayed(net, images, labels, [RATE, RATE])
    for _ in range(2):
        logs = net.train_step((tf.constant(images), tf.constant(labels)))
    for weight, by_hand in zip(net.weights, expected, strict=True):
        np.testing.assert_allclose(weight, by_hand, atol=1e-5)
    assert float(logs["loss"]) == pytest.approx(loss, abs=1e-5)
    assert list(logs) == ["loss", "adversarial_branch_1", "adversarial_main"]


def test_an_iteration_is_a_batch_with_one_learning_rate(batch):
    images, labels = batch
    schedule = WarmupThenDecay(0.3, 4, 0.5, "one_cycle")
    net = compiled(rate=schedule)
    expected, _ = replayed(net, images, labels, [0.15, 0.3, 0.3])
    for number in range(3):
        assert int(net.optimizer.iterations) == number
        net.train_step((tf.constant(images), tf.constant(labels)))
    for weight, by_hand in zip(net.weights, expected, strict=True):
        np.testing.assert_allclose(weight, by_hand, atol=1e-5)


def test_the_perturbation_starts_anew_as_the_iteration_says(batch):
    """The same weights at the same iteration give the same update, whatever came before."""
    net = compiled(AttackConfig(epsilon=EPSILON, step_size=STEP, steps=2))
    data = tuple(map(tf.constant, batch))
    net.optimizer.build(net.trainable_variables)
    variables = [*net.weights, *net.optimizer.variables]
    start = [variable.numpy() for variable in variables]
    ends = []
    for iteration in (0, 0, 1):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        net.optimizer.iterations.assign(iteration)
        net.train_step(data)
        ends.append(net.weights[0].numpy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[2] - ends[0]).max() > 1e-4  # another random start


def test_warmup_holds_the_images_back(batch):
    """At the start of a long warm-up the ball is next to nothing: replays are updates on the clean images."""
    data = tuple(map(tf.constant, batch))
    still = compiled(AttackConfig(epsilon=0.0, step_size=0.0, steps=REPLAYS))
    warming, moving = compiled(warmup_iterations=10**6), compiled()
    for net in (still, warming, moving):
        net.train_step(data)
    np.testing.assert_allclose(warming.weights[0], still.weights[0], atol=1e-6)
    assert np.abs(moving.weights[0] - still.weights[0]).max() > 1e-3
