"""Dropout masks that are a function of seed, iteration, layer and pass."""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks.loops import repeat
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.models.random_layers import seed_random_layers
from rdi_tf.network import RDINet, load
from rdi_tf.seeds import current_seed, folded, seed_scope

SEED = tf.constant([3, 4], tf.int32)


def dropout_net(rate=0.5):
    """Two exits; a trunk with dropout before both, and another dropout before the second alone."""
    image = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(image)
    x = keras.layers.Dense(40, kernel_initializer="ones", name="trunk")(x)
    x = keras.layers.Dropout(rate, name="drop1")(x)
    early = keras.layers.Dense(3, name="early")(x)
    x = keras.layers.Dropout(rate, name="drop2")(x)
    late = keras.layers.Dense(3, name="late")(x)
    outputs = [
        keras.layers.Activation("linear", dtype="float32", name=name)(logits)
        for name, logits in (("branch_1", early), ("main", late))
    ]
    return RDINet(keras.Model(image, outputs))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(8, 6, 6, 1)).astype(np.float32)


def test_masks_keep_the_mean_and_follow_the_seed():
    layer = keras.layers.Dropout(0.25, name="drop")
    model = keras.Sequential([keras.Input((10_000,)), layer])
    seed_random_layers(model)
    ones = tf.ones((1, 10_000))
    with seed_scope(SEED):
        first, again = (layer(ones, training=True).numpy() for _ in range(2))
        with folded(1):
            other = layer(ones, training=True).numpy()
        kept = layer(ones, training=False).numpy()
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(first, again)
    # Independent masks agree at 0.75^2 + 0.25^2 = 0.625 of the places.
    assert abs((first == other).mean() - 0.625) < 0.03
    np.testing.assert_array_equal(kept, ones)


def test_layers_differ_from_each_other():
    layers = [keras.layers.Dropout(0.5, name=name) for name in ("one", "two")]
    for layer in layers:
        seed_random_layers(keras.Sequential([keras.Input((1000,)), layer]))
    with seed_scope(SEED):
        one, two = (layer(tf.ones((1, 1000)), training=True).numpy() for layer in layers)
    assert 0.4 < (one == two).mean() < 0.6


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.GaussianNoise(1.0),
        keras.layers.SpatialDropout2D(0.5),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomContrast(0.5),
    ],
)
def test_other_noise_follows_the_seed_too(layer):
    seed_random_layers(keras.Sequential([keras.Input((4, 4, 100)), layer]))
    images = tf.random.stateless_uniform((32, 4, 4, 100), (1, 2))
    with seed_scope(SEED):
        np.testing.assert_array_equal(layer(images, training=True), layer(images, training=True))
    assert np.any(layer(images, training=True) != layer(images, training=True))


def test_outside_of_scopes_keras_draws():
    layer = keras.layers.Dropout(0.5)
    seed_random_layers(keras.Sequential([keras.Input((100,)), layer]))
    assert np.any(layer(tf.ones((1, 100)), training=True) != layer(tf.ones((1, 100)), training=True))
    assert current_seed() is None
    with folded(1):
        assert current_seed() is None


def test_a_subnetwork_drops_what_the_whole_network_drops(images):
    net = dropout_net()
    with seed_scope(SEED):
        whole = net(images, training=True)
        for exit_index in range(2):
            part = net.subnetwork(exit_index)(images, training=True)
            np.testing.assert_allclose(whole[:, exit_index], part, rtol=1e-5)
    assert np.any(np.abs(whole - net(images)) > 1e-3)


def test_layers_inside_layers_are_found(images):
    inner = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Dropout(0.5)])
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, inner(image))
    seed_random_layers(model)
    with seed_scope(SEED):
        np.testing.assert_array_equal(model(images, training=True), model(images, training=True))


def test_every_step_of_an_attack_draws_anew(images):
    net = dropout_net()
    single = net.exit_losses(training=True).single_logits[1]

    @tf.function(autograph=False)
    def logits_of_steps():
        with seed_scope(SEED):
            empty = tf.zeros((4, 8, 3))

            def body(step, found):
                return (tf.tensor_scatter_nd_update(found, [[step]], single(images)[tf.newaxis]),)

            return repeat(0, 4, body, (empty,))[0]

    found, again = logits_of_steps().numpy(), logits_of_steps().numpy()
    np.testing.assert_array_equal(found, again)
    assert all(np.any(found[i] != found[j]) for i in range(4) for j in range(i))


def trained(net, images, iterations):
    """Weights after some iterations, from `net`'s own weights, whose optimiser has counted as far as it says."""
    labels = tf.constant(np.arange(8) % 3, tf.int32)
    step = tf.function(lambda: net.train_step((tf.constant(images), labels)), autograph=False)
    for _ in range(iterations):
        step()
    return [weight.numpy() for weight in net.weights]


@pytest.mark.parametrize("name", ["standard", "max_average"])
def test_a_step_of_training_is_a_function_of_the_iteration(images, name):
    attack = AttackConfig(epsilon=0.1, step_size=0.05, steps=2)
    nets = [dropout_net() for _ in range(3)]
    for net in nets:
        net.set_weights(nets[0].get_weights())
        net.compile(keras.optimizers.SGD(0.01), defence=DefenceConfig(name=name, attack=attack), seed=7)
    middle = trained(nets[0], images, 2)
    whole = trained(nets[0], images, 1)
    nets[1].set_weights(middle)
    nets[1].optimizer.iterations.assign(2)
    for found, expected in zip(trained(nets[1], images, 1), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    nets[2].set_weights(middle)  # the same step at another iteration has other masks
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(trained(nets[2], images, 1), whole, strict=True))


def test_files_hold_keras_own_dropout(images, tmp_path):
    net = dropout_net()
    net.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["network"]["config"]["layers"]
    (drop,) = (layer for layer in layers if layer["config"]["name"] == "drop1")
    assert (drop["module"], drop["class_name"], drop["registered_name"]) == ("keras.layers", "Dropout", None)
    assert "rng_type" not in drop["config"]
    again = load(tmp_path / "net.keras")
    with seed_scope(SEED):
        np.testing.assert_allclose(again(images, training=True), net(images, training=True), rtol=1e-5)
