"""Quantisation-aware networks: what they compute, how they are kept, and what their int8 export holds."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from rdi_tf._keras import keras
from rdi_tf.cli import main as cli
from rdi_tf.compression.quantization import QuantizedRDINet, is_quantized, output_range, quantize, start_ranges
from rdi_tf.compression.runs import fine_tuning_config
from rdi_tf.compression.settings import CompressionConfig
from rdi_tf.config import Config
from rdi_tf.costs import network_costs
from rdi_tf.errors import ConfigError
from rdi_tf.export import Bundle, Cascade
from rdi_tf.export.convert import ExportOptions
from rdi_tf.export.runner import load_interpreter
from rdi_tf.export.write import export_network
from rdi_tf.models import attach_points, split_stages
from rdi_tf.network import RDINet, load
from rdi_tf.policies import decide, get_policy
from rdi_tf.runs import RunFolder


def rdi_tf(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments)], prog_name="rdi-tf")


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][1400:1600]


@pytest.fixture(scope="module")
def quantized_net(tiny_net, digits):
    net = QuantizedRDINet(tiny_net.network, thresholds=tiny_net.thresholds)
    start_ranges(net.network, tiny_net.network, digits[0][:500])
    return net


@pytest.fixture(scope="module")
def bundle(quantized_net, digits, tmp_path_factory):
    examples = tuple(array[1000:1400] for array in digits)
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    labels = [str(digit) for digit in range(10)]
    return export_network(quantized_net, folder, ExportOptions(dtype="int8"), examples, labels, name="tiny")


def one_convolution():
    """Images (1, 2, 1) -> one convolution over both pixels, ReLU, main."""
    image = keras.Input((1, 2, 1), name="image")
    x = keras.layers.Conv2D(1, (1, 2), name="conv")(image)
    x = keras.layers.Flatten(name="flatten")(keras.layers.ReLU(name="relu")(x))
    network = keras.Model(image, keras.layers.Activation("linear", dtype="float32", name="main")(x))
    network.get_layer("conv").set_weights([np.array([1.27, 0.634], "float32").reshape(1, 2, 1, 1), np.zeros(1)])
    return network


def test_weights_and_activations_are_rounded_to_int8():
    """By hand: the largest weight, 1.27, is 127 steps of 0.01, so 0.634 becomes 0.63. The output's range is [0, 2.55]
    in 255 steps of 0.01: 1.27 * 1 + 0.63 * 51/255 = 1.396 becomes 1.40."""
    network = one_convolution()
    quantized = quantize(network)
    start_ranges(quantized, network, np.ones((1, 1, 2, 1), "float32"))
    ranges = {weight.name.split("/")[-1]: weight for weight in quantized.get_layer("relu").weights}
    assert float(ranges["output_max:0"]) == pytest.approx(1.27 + 0.634)
    ranges["output_max:0"].assign(2.55)
    answer = quantized(np.array([1.0, 51 / 255], "float32").reshape(1, 1, 2, 1)).numpy()
    np.testing.assert_allclose(answer, [[1.40]], atol=1e-6)
    layer = quantized.get_layer("conv")
    layer(np.ones((1, 1, 2, 1), "float32"))
    np.testing.assert_allclose(np.ravel(layer.layer.kernel), [1.27, 0.63], atol=1e-6)


def test_names_costs_and_stages_stay(quantized_net, tiny_net, images):
    assert quantized_net.exit_names == tiny_net.exit_names
    assert attach_points(quantized_net.network) == attach_points(tiny_net.network)
    assert network_costs(quantized_net.network).exits == network_costs(tiny_net.network).exits
    expected, features = quantized_net(images).numpy(), images
    for index, stage in enumerate(split_stages(quantized_net.network)):
        logits, features = (*tf.nest.flatten(stage(features)), None)[:2]
        np.testing.assert_allclose(logits, expected[:, index], atol=1e-5)


def test_every_kernel_is_quantised(quantized_net):
    kernels = [w.name for layer in quantized_net.network.layers for w in layer.weights if "kernel:0" in w.name]
    bounds = [w.name for layer in quantized_net.network.layers for w in layer.weights if "kernel_max:0" in w.name]
    assert len(kernels) == len(bounds) > 10


def test_starts_close_to_the_float_network(quantized_net, tiny_net, images):
    expected, found = tiny_net(images).numpy(), quantized_net(images).numpy()
    assert np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()) < 0.05
    assert np.abs(found - expected).max() > 1e-3  # rounding is there


def image_gradient(net, images, labels):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = net(images)
        loss = sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits[:, k]) for k in range(3))
    return tape.gradient(loss, images).numpy()


def test_gradients_reach_the_image(quantized_net, tiny_net, digits):
    """Black and white pixels, at the ends of the first quantiser's range, get theirs like all others."""
    images, labels = digits[0][1400:1500], digits[1][1400:1500]
    found, expected = (image_gradient(net, images, labels) for net in (quantized_net, tiny_net))
    cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.8
    for pixels in (images == 0, images == 1):
        assert np.mean(found[pixels] != 0) >= 0.95 * np.mean(expected[pixels] != 0) > 0
    assert found.reshape(100, -1).any(axis=1).all()


def test_file_holds_it_all(quantized_net, images, tmp_path):
    quantized_net.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert isinstance(loaded, QuantizedRDINet) and loaded.thresholds == quantized_net.thresholds
    np.testing.assert_array_equal(loaded(images), quantized_net(images))


def test_checkpoint_holds_weights_and_ranges(tiny_net, images, tmp_path):
    """tfmot puts tensors in the place of the layers' kernels; the variables must still be found."""
    net = QuantizedRDINet(tiny_net.network)
    start_ranges(net.network, tiny_net.network, images)
    net(images, training=True)
    kept = net.get_weights()
    path = tf.train.Checkpoint(net=net).write(str(tmp_path / "checkpoint"))
    other = QuantizedRDINet(tiny_net.network)
    for weight in other.weights:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(net=other).read(path).assert_existing_objects_matched()
    for found, expected in zip(other.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_layers_that_cannot_be_quantised_are_named():
    image = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(keras.layers.ELU(name="bend")(image))
    network = keras.Model(image, keras.layers.Activation("linear", name="main")(keras.layers.Dense(2)(x)))
    with pytest.raises(ConfigError, match="bend"):
        quantize(network)


def test_export_has_the_learned_scales(bundle, quantized_net):
    """Scale of a range in 255 steps; both sides of each hand-over have it."""
    assert [stage.handover for stage in bundle.manifest.stages] == ["image", "direct", "direct"]
    for before, after, point in zip(
        bundle.manifest.stages, bundle.manifest.stages[1:], attach_points(quantized_net.network), strict=False
    ):
        low, high = output_range(quantized_net.network, point)
        assert before.output("features").quantisation.scale == pytest.approx((high - low) / 255, rel=1e-5)
        assert after.input.quantisation.scale == pytest.approx((high - low) / 255, rel=1e-5)


def test_exported_files_compute_in_int8_with_batch_norm_folded(bundle, tiny_bundle):
    def operators(folder, name):
        found = load_interpreter(folder / name)._get_ops_details()
        return sorted(entry["op_name"] for entry in found if entry["op_name"] != "DELEGATE")

    for name in ("stage_1.tflite", "stage_2.tflite", "stage_3.tflite"):
        assert operators(bundle.path, name) == operators(tiny_bundle(dtype="int8"), name)
        tensors = load_interpreter(bundle.path / name).get_tensor_details()
        floats = {entry["name"] for entry in tensors if entry["dtype"] is np.float32}
        assert floats <= {"serving_default_image:0"}


def test_exported_files_agree_with_the_network(bundle, quantized_net, images):
    """Of the same arithmetic, logits differ by few steps of their scale, where a rounding fell the other way."""
    expected = quantized_net(images).numpy()
    cascade = Cascade(bundle.path)
    step = max(stage.output("logits").quantisation.scale for stage in bundle.manifest.stages)
    difference = np.abs(cascade.exit_logits(images) - expected)
    assert difference.max() <= 4 * step and difference.mean() < step / 4
    decision = decide(get_policy("entropy"), expected, quantized_net.thresholds)
    assert np.mean(cascade.predict_batch(images).exits == decision.exits) >= 0.99


def test_only_int8_can_be_exported(quantized_net, digits, tmp_path):
    with pytest.raises(ConfigError, match="trained for int8"):
        export_network(
            quantized_net, tmp_path / "bundle", ExportOptions(), (digits[0][:100], digits[1][:100]), "0123456789"
        )
    assert not (tmp_path / "bundle").exists()


ARGUMENTS = ("--quantize-aware", "--iterations", 6, "--set", "training.validate_every=6", "--quiet")


@pytest.fixture(scope="module")
def compressed_run(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed") / "tiny-qat"
    seconds = ("--set", "training.checkpoint_seconds=0.0")  # a checkpoint after every iteration
    result = rdi_tf("compress", trained_run, *ARGUMENTS, *seconds, "--run-dir", folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best_validation"]["iteration"] == 6
    return folder


@pytest.mark.slow
def test_a_compressed_run_says_what_it_is(compressed_run, trained_run):
    config, source = RunFolder.open(compressed_run).config, RunFolder.open(trained_run).config
    assert (config.compression.method, config.compression.source) == ("quantize_aware", source.name)
    assert config.defence == dataclasses.replace(source.defence, warmup_iterations=0)
    assert config.training.iterations == 6
    assert config.training.learning_rate == pytest.approx(0.1 * source.training.learning_rate)
    net = load(compressed_run / "model.keras")
    assert is_quantized(net.network) and len(net.thresholds) == 2 and net.calibrated_on.split == "validation"
    assert not is_quantized(load(trained_run / "model.keras").network)


@pytest.mark.slow
def test_a_compressed_run_trains_its_weights(compressed_run, trained_run):
    before, after = (load(folder / "model.keras").network for folder in (trained_run, compressed_run))
    kernels = [[w.numpy() for w in network.weights if "conv2/kernel:0" in w.name] for network in (before, after)]
    assert [len(found) for found in kernels] == [1, 1]
    assert 0 < np.abs(kernels[0][0] - kernels[1][0]).max() < 0.1


@pytest.mark.slow
def test_a_compressed_run_is_resumed(compressed_run, trained_run):
    """From the checkpoint before the last one: the same weights and ranges come out."""
    expected = load(compressed_run / "model.keras")
    (compressed_run / "model.keras").unlink()
    shutil.rmtree(compressed_run / "checkpoints" / "ckpt-6")
    seconds = ("--set", "training.checkpoint_seconds=0.0")
    result = rdi_tf("compress", trained_run, *ARGUMENTS, *seconds, "--run-dir", compressed_run)
    assert result.exit_code == 0, result.output
    found = load(compressed_run / "model.keras")
    for weight, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)


@pytest.mark.slow
def test_other_commands_take_a_compressed_run(compressed_run):
    folder = compressed_run
    evaluated = rdi_tf("evaluate", folder, "--attacks", "main", "--limit", "50", "--quiet", "--no-checks", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    exported = rdi_tf("export", folder, "--dtype", "int8", "--json")
    assert exported.exit_code == 0, exported.output
    verified = rdi_tf("verify", folder / "export" / "int8", "--run", folder, "--limit", "100", "--json")
    assert verified.exit_code == 0, verified.output
    assert Bundle.open(folder / "export" / "int8").manifest.dtype == "int8"


@pytest.mark.slow
def test_refusals(compressed_run, trained_run, tmp_path):
    folder = compressed_run
    cases = {
        ("compress", trained_run): "expected one of",
        ("compress", folder, "--quantize-aware"): "already",
        ("compress", tmp_path / "nothing", "--quantize-aware"): "not a run folder",
        ("compress", trained_run, "--quantize-aware", "--set", "model.dropout=0.1"): "cannot be set",
        ("compress", trained_run, "--quantize-aware", "--set", "training.precision=mixed_float16"): "in float32",
        ("train", folder): "rdi-tf compress",
        ("export", folder): "trained for int8",
    }
    for arguments, expected in cases.items():
        result = rdi_tf(*arguments)
        assert result.exit_code == 2 and expected in result.stderr, (arguments, result.output)


def test_fine_tuning_is_short_and_gentle():
    config = Config.load("mnist-smallcnn-fast").with_settings(["training.precision=mixed_float16"])
    found = fine_tuning_config(config, CompressionConfig(method="quantize_aware"))
    training = found.training
    assert (training.iterations, training.learning_rate, training.validate_every) == (440, pytest.approx(0.005), 110)
    assert (training.precision, training.ema_decay, training.schedule) == ("float32", 0.0, "cosine")
    assert (found.name, found.model, found.defence.attack) == (
        "mnist-smallcnn-fast-qat",
        config.model,
        config.defence.attack,
    )


def test_a_plain_network_is_not_quantised(tiny_net):
    assert not is_quantized(tiny_net.network) and not isinstance(tiny_net, QuantizedRDINet)
    assert isinstance(tiny_net, RDINet)
