"""Mixed float16: what is computed in it, what is not, and what is saved. Derivatives by hand."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, Config, DefenceConfig
from rdi_tf.network import build, load
from rdi_tf.precision import FLOAT16_SCALE, as_float32, computes_in_float16, gradient_scaled, precision, unscaled

MODEL = Config.load("digits-smallcnn").with_settings(["model.dropout=0.0"])


def mixed_net():
    with precision("mixed_float16"):
        return build(MODEL)


def test_policies_end_with_their_block():
    before = keras.mixed_precision.global_policy().name
    with pytest.raises(KeyError), precision("mixed_float16"):
        assert keras.mixed_precision.global_policy().name == "mixed_float16"
        raise KeyError
    assert keras.mixed_precision.global_policy().name == before == "float32"


def test_layers_compute_in_float16_and_logits_and_weights_are_float32(tmp_path):
    net = mixed_net()
    assert computes_in_float16(net) and not computes_in_float16(build(MODEL))
    assert {layer.compute_dtype for layer in net.network.layers if layer.weights} == {"float16"}
    assert {weight.dtype for weight in net.weights} == {tf.float32}
    images = np.random.default_rng(0).uniform(size=(4, 16, 16, 1)).astype(np.float32)
    assert net(images).dtype == tf.float32
    as_float32(net).save(tmp_path / "net.keras")
    again = load(tmp_path / "net.keras")
    assert not computes_in_float16(again) and again.config == net.config
    assert {layer.compute_dtype for layer in again.network.layers} == {"float32"}
    for weight, expected in zip(again.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    # float16 has 11 bits: rounding at every layer.
    np.testing.assert_allclose(again(images), net(images), atol=0.02)


def test_the_saved_model_says_how_it_was_trained():
    config = MODEL.with_settings(["training.precision=mixed_float16"])
    with precision("mixed_float16"):
        net = build(config)
    assert not computes_in_float16(as_float32(net)) and as_float32(net).config == config


def test_as_float32_leaves_others_alone():
    net = build(MODEL)
    assert as_float32(net) is net


def test_small_derivatives_survive_float16():
    slope = 2.0**-26  # below float16's smallest number, 2^-24; times 1024 it is 2^-16

    def half(images):
        return tf.cast(tf.cast(images, tf.float16), tf.float32)

    def derivative(function):
        images = tf.ones((2, 3))
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = slope * tf.reduce_sum(function(images))
        return tape.gradient(loss, images).numpy()

    np.testing.assert_array_equal(derivative(half), np.zeros((2, 3)))
    np.testing.assert_array_equal(derivative(gradient_scaled(half)), np.full((2, 3), slope))
    np.testing.assert_array_equal(gradient_scaled(half)(tf.constant([0.5])), [0.5])


def test_an_update_that_overflows_is_left_out():
    sound = [tf.constant([1024.0, -2048.0]), tf.constant([512.0])]
    np.testing.assert_array_equal(np.concatenate(unscaled(sound)), [1.0, -2.0, 0.5])
    for broken in (np.inf, np.nan):
        np.testing.assert_array_equal(np.concatenate(unscaled([*sound, tf.constant([broken])])), np.zeros(4))


def test_what_overflowed_moves_nothing_and_is_counted():
    net = mixed_net()
    net.compile(keras.optimizers.SGD(0.1), defence=DefenceConfig("standard"), weight_decay=0.5)
    before = net.get_weights()
    for gradient, overflowed in ((np.inf, 1.0), (FLOAT16_SCALE, 0.5)):
        net.update_weights(unscaled([tf.fill(v.shape, gradient) for v in net.trainable_variables]))
        assert {m.name: float(m.result()) for m in net.metrics}["overflowed"] == overflowed
        same = all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
        assert same == (overflowed == 1.0)
    assert int(net.optimizer.iterations) == 2


@pytest.mark.parametrize("name", ["bfloat16", "mixed_float16"])
def test_a_step_is_nearly_that_of_float32(name):
    random = np.random.default_rng(1)
    images, labels = random.uniform(size=(16, 16, 16, 1)).astype(np.float32), np.arange(16, dtype=np.int32) % 10
    attack = AttackConfig(epsilon=0.05, step_size=0.05, steps=1, random_start=False)
    nets = []
    for precision_name in ("float32", name):
        with precision(precision_name):
            net = build(MODEL)
            net.set_weights(nets[0][0] if nets else net.get_weights())
            start = net.get_weights()
            net.compile(keras.optimizers.SGD(0.1), defence=DefenceConfig("max_average", attack), weight_decay=0.01)
            logs = tf.function(net.train_step, autograph=False)((tf.constant(images), tf.constant(labels)))
            moves = np.concatenate([(b - a).ravel() for a, b in zip(start, net.get_weights(), strict=True)])
            nets.append((start, moves, float(logs["loss"])))
    (_, wanted, loss), (_, found, other_loss) = nets
    assert other_loss == pytest.approx(loss, rel=0.02)
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine > 0.99 and np.linalg.norm(found) == pytest.approx(np.linalg.norm(wanted), rel=0.05)
