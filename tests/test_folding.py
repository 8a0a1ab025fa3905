"""Batch norm folded into convolutions: the same function, for weights that change, too."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import Config
from rdi_tf.models import build_network, fold_batch_norm

LAYERS = keras.layers


def shaken(model, seed=0):
    """The model with random weights and positive random variances, far from those that it starts with."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name else -0.3
        weight.assign(random.uniform(low, 1.0 if low > 0 else 0.3, weight.shape))
    return model


def norms(model):
    return sum(isinstance(layer, LAYERS.BatchNormalization) for layer in model.layers)


def assert_same(model, folded, images):
    for expected, found in zip(tf.nest.flatten(model(images)), tf.nest.flatten(folded(images)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(tf.reduce_max(tf.abs(expected))))


@pytest.fixture(scope="module")
def images():
    return tf.random.stateless_uniform((3, 32, 32, 3), [0, 1])


@pytest.mark.parametrize(
    ("preset", "settings"),
    [("cifar10-resnet38", ["model.depth=14"]), ("cifar10-mobilenetv2", ["model.width_multiplier=0.25"])],
)
def test_networks_of_ours_lose_every_batch_norm_and_stay_the_same_function(preset, settings, images):
    network = shaken(build_network(Config.load(preset).with_settings(settings).model))
    folded = fold_batch_norm(network)
    assert norms(network) > 0
    assert norms(folded) == 0
    assert folded.output_names == network.output_names
    assert_same(network, folded, images)


def test_it_follows_the_weights_that_change_later(images):
    network = shaken(build_network(Config.load("cifar10-resnet38").with_settings(["model.depth=8"]).model))
    folded = fold_batch_norm(network)
    before = folded(images)[-1].numpy()
    shaken(network, seed=1)
    assert np.abs(folded(images)[-1] - before).max() > 1e-3
    assert_same(network, folded, images)


def test_biases_and_norms_without_scale_or_centre_are_kept(images):
    entry = keras.Input((32, 32, 3))
    x = LAYERS.BatchNormalization(scale=False)(LAYERS.Conv2D(4, 3, use_bias=True)(entry))
    x = LAYERS.BatchNormalization(center=False)(LAYERS.DepthwiseConv2D(3, depth_multiplier=2, use_bias=True)(x))
    model = shaken(keras.Model(entry, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == 0
    assert_same(model, folded, images)


def test_what_cannot_be_folded_stays(images):
    entry = keras.Input((32, 32, 3))
    seen_twice = LAYERS.Conv2D(3, 3, padding="same")(entry)
    activated = LAYERS.Conv2D(3, 3, padding="same", activation="relu")(entry)
    x = LAYERS.BatchNormalization()(seen_twice) + LAYERS.BatchNormalization()(activated) + seen_twice
    x = LAYERS.BatchNormalization()(x)
    model = shaken(keras.Model(entry, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == 3
    assert_same(model, folded, images)


def always_training():
    """A model whose batch norm takes the statistics of each batch, said by name, by place, and by a model inside."""
    entry = keras.Input((32, 32, 3))
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 3)(entry), training=True)
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 3)(x), True)
    inside = keras.Input(x.shape[1:])
    inner = keras.Model(inside, LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 3)(inside)))
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 3)(inner(x, training=True)), training=False)
    return keras.Model(entry, x)


def test_a_batch_norm_that_is_always_in_training_stays(images):
    model = shaken(always_training())
    folded = fold_batch_norm(model)
    assert norms(folded) == 3  # the last is folded
    assert_same(model, folded, images)


def test_a_model_inside_whose_names_repeat_is_left_as_it_is(images):
    inner = build_network(Config.load("cifar10-resnet38").with_settings(["model.depth=8"]).model)
    entry = keras.Input((32, 32, 3))
    outputs = [
        LAYERS.Activation("linear", name=name)(out) for name, out in zip(inner.output_names, inner(entry), strict=True)
    ]
    model = keras.Model(entry, outputs)
    assert fold_batch_norm(model) is model


def test_gradients_for_images_are_the_same(images):
    network = shaken(build_network(Config.load("cifar10-resnet38").with_settings(["model.depth=8"]).model))

    def gradient(model):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.add_n([tf.reduce_sum(logits[:, 0]) for logits in model(images)])
        return tape.gradient(loss, images).numpy()

    expected = gradient(network)
    np.testing.assert_allclose(gradient(fold_batch_norm(network)), expected, atol=1e-4 * np.abs(expected).max())
