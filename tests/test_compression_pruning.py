"""Pruning: which weights and channels go, that zeros stay, and that a network with fewer channels is what it was."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from rdi_tf._keras import keras
from rdi_tf.cli import main as cli
from rdi_tf.compression.channels import prune_channels
from rdi_tf.compression.clustering import ClusteredRDINet
from rdi_tf.compression.pruning import PrunedRDINet
from rdi_tf.compression.runs import _with_scaled_budget, folder_beside, label
from rdi_tf.compression.settings import CompressionConfig
from rdi_tf.compression.sparsity import count_zeros
from rdi_tf.config import Config
from rdi_tf.costs import network_costs
from rdi_tf.errors import ConfigError
from rdi_tf.models import build_network
from rdi_tf.network import RDINet, attach_exits, build, load
from rdi_tf.runs import RunFolder
from rdi_tf.training.run import train


def rdi_tf(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments)], prog_name="rdi-tf")


@pytest.fixture(scope="module")
def large_digits(digits):
    """The digits at 16x16, as the preset takes them."""
    return digits[0].repeat(2, axis=1).repeat(2, axis=2), digits[1]


def pruning_config(config, pattern="unstructured", sparsity=0.5):
    settings = (f'compression.pattern="{pattern}"', f"compression.sparsity={sparsity}")
    more = ("compression.method=prune", "training.iterations=4", "training.validate_every=3")
    return config.with_settings([*more, *settings])


def pruned(config, digits, steps, learning_rate=0.01):
    """A network of `config` after some steps on clean images."""
    keras.utils.set_random_seed(0)
    net = PrunedRDINet(build_network(config.model), config)
    net.compile(keras.optimizers.SGD(learning_rate))
    images, labels = digits
    net.fit(images[: 32 * steps], labels[: 32 * steps], batch_size=32, verbose=0)
    return net


def kernels(net):
    return {
        layer.name: layer.kernel.numpy()
        for layer in net.network.layers
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)
    }


def test_the_smallest_weights_of_each_layer_go_and_stay_away(tiny_config, large_digits, tmp_path):
    config = pruning_config(tiny_config)
    keras.utils.set_random_seed(0)
    before = kernels(RDINet(build_network(config.model)))
    net = pruned(config, large_digits, 3, learning_rate=1e-9)
    for name, kernel in kernels(net).items():
        expected = np.abs(before[name]) >= np.median(np.abs(before[name]))
        assert np.mean((kernel != 0) == expected) > 0.99, name
        assert np.count_nonzero(kernel == 0) == pytest.approx(kernel.size / 2, abs=1), name
    zeros = {name: kernel == 0 for name, kernel in kernels(net).items()}
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    net.optimizer.iterations.assign(3)
    net.fit(large_digits[0][:64], large_digits[1][:64], batch_size=32, verbose=0)
    for name, kernel in kernels(net).items():
        np.testing.assert_array_equal(kernel == 0, zeros[name])
        assert np.abs(kernel - before[name])[~zeros[name]].max() > 1e-4
    net.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert type(loaded) is RDINet and loaded.config == config
    np.testing.assert_array_equal(loaded(large_digits[0][:8]), net(large_digits[0][:8]))


def test_zeros_stay_zero_while_weights_are_perturbed(tiny_config, large_digits, monkeypatch):
    """Adversarial weight perturbation differentiates the network that will be deployed, not a dense one beside it."""
    config = pruning_config(tiny_config.with_settings(["defence.weight_perturbation=0.05"]), sparsity=0.9)
    net = PrunedRDINet(build_network(config.model), config)
    shares, differentiate = [], PrunedRDINet._differentiate

    def watched(self, *arguments, **options):
        shares.append(float(np.mean(self.network.get_layer("conv2").kernel.numpy() == 0)))
        return differentiate(self, *arguments, **options)

    monkeypatch.setattr(PrunedRDINet, "_differentiate", watched)
    net.compile(keras.optimizers.SGD(0.01), defence=config.defence, run_eagerly=True)
    net.fit(large_digits[0][:96], large_digits[1][:96], batch_size=32, verbose=0)
    assert len(shares) == 6 and shares[-2] > 0.85
    assert shares[1::2] == shares[0::2]  # the second gradient of an iteration is the perturbed network's


def test_zeros_are_counted(tiny_config, large_digits):
    net = pruned(pruning_config(tiny_config, sparsity=0.75), large_digits, 3)
    found = count_zeros(net.network)
    depthwise = [layer["name"] for layer in found["layers"] if layer["name"].endswith("depthwise")]
    assert found["weights"] == sum(layer["weights"] for layer in found["layers"])
    for layer in found["layers"]:
        expected = 0 if layer["name"] in depthwise else 0.75
        assert layer["zeros"] / layer["weights"] == pytest.approx(expected, abs=0.01)
    assert found["share"] == found["zeros"] / found["weights"] and found["skipped_by"] == []
    plain = RDINet(build_network(net.config.model))
    assert network_costs(net.network).exits == network_costs(plain.network).exits  # zeros save nothing


def test_two_of_four_inputs_go(tiny_config, large_digits):
    net = pruned(pruning_config(tiny_config, "2:4"), large_digits, 1)
    for name, kernel in kernels(net).items():
        inputs = kernel.shape[-2]
        groups = np.moveaxis(kernel, -2, -1)[..., : inputs - inputs % 4]
        zeros = np.count_nonzero(groups.reshape(*groups.shape[:-1], -1, 4) == 0, axis=-1)
        assert (zeros == 2).all(), name


def test_what_is_kept_of_averages_is_pruned_too(tiny_config, tmp_path):
    """Averages remember the weights from before the pruning; the validated and saved network has the zeros."""
    settings = ["training.ema_decay=0.99", "training.iterations=3", "defence.name=standard", "model.exits=[]"]
    config = pruning_config(tiny_config).with_settings(settings)

    def make_network(config):
        return PrunedRDINet(build_network(config.model), config)

    run = train(config, tmp_path / "run", progress=False, make_network=make_network)
    for layer in count_zeros(load(run.model_file).network)["layers"]:
        assert layer["zeros"] / layer["weights"] == pytest.approx(0.5, abs=0.01), layer["name"]


def test_blocks_of_dense_layers_go(tiny_config, large_digits):
    net = pruned(pruning_config(tiny_config, "block"), large_digits, 3)
    for name, kernel in kernels(net).items():
        if kernel.ndim == 4:
            assert (kernel != 0).all(), name
        else:
            whole = kernel[: len(kernel) - len(kernel) % 4].reshape(-1, 4, kernel.shape[1])
            zeros = np.count_nonzero(whole == 0, axis=1)
            assert set(np.unique(zeros)) == {0, 4}, name
            assert np.mean(zeros == 4) == pytest.approx(0.5, abs=0.02), name


def test_weights_share_values(tiny_config, large_digits, tmp_path):
    """Also after training, in which the values move; which weights share one does not change."""
    config = tiny_config.with_settings(["compression.method=cluster", "compression.clusters=8"])
    keras.utils.set_random_seed(0)
    net = ClusteredRDINet(build_network(config.model), config)
    before = kernels(net)
    net.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    net.fit(large_digits[0][:96], large_digits[1][:96], batch_size=32, verbose=0)
    for name, kernel in kernels(net).items():
        old, first, members = np.unique(before[name], return_index=True, return_inverse=True)
        assert len(old) == 8 and np.abs(kernel - before[name]).max() > 1e-5, name
        np.testing.assert_array_equal(kernel.ravel(), kernel.ravel()[first][members.ravel()])
    values = {layer["name"]: layer["values"] for layer in count_zeros(net.network)["layers"]}
    assert all(values[name] == 8 for name in before)
    net.save(tmp_path / "model.keras")
    assert type(load(tmp_path / "model.keras")) is RDINet


def test_a_shared_value_takes_the_mean_gradient():
    """By hand: the weights 0.4 and 0.6 of class 0 become 0.5, those of class 1 -0.5. For the image (1, 0) the logits
    are 0.5 and -0.5, so p = 1 / (1 + exp(-1)); of class 0 the gradients are p - 1 and 0, their mean half of it."""
    image = keras.Input((1, 1, 2), name="image")
    x = keras.layers.Dense(2, use_bias=False, name="dense")(keras.layers.Flatten()(image))
    network = keras.Model(image, keras.layers.Activation("linear", dtype="float32", name="main")(x))
    dense = network.get_layer("dense")
    dense.set_weights([np.array([[0.4, -0.4], [0.6, -0.6]])])
    net = ClusteredRDINet(network, Config().with_settings(["compression.method=cluster", "compression.clusters=2"]))
    np.testing.assert_allclose(dense.kernel, [[0.5, -0.5], [0.5, -0.5]], atol=1e-6)
    net.compile(keras.optimizers.SGD(1.0))
    net.fit(np.array([1.0, 0.0], "float32").reshape(1, 1, 1, 2), np.array([0], "int32"), verbose=0)
    value = 0.5 + (1 - 1 / (1 + np.exp(-1))) / 2
    np.testing.assert_allclose(dense.kernel, [[value, -value], [value, -value]], atol=1e-6)


def test_two_of_four_is_half(tiny_config):
    config = pruning_config(tiny_config, "2:4", sparsity=0.6)
    with pytest.raises(ConfigError, match="expected 0.5"):
        PrunedRDINet(build_network(config.model), config)


def channels(network):
    return {
        layer.name: layer.kernel.shape[-1]
        for layer in network.layers
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)
    }


def test_channels_without_effect_can_go_unnoticed(tiny_net, digits):
    """Where half of each block's inner channels have scale and shift 0, the network without them is the same."""
    network = keras.models.clone_model(tiny_net.network)
    network.set_weights(tiny_net.network.get_weights())
    for layer in network.layers:
        if layer.name.endswith("_bn1"):
            silent = np.arange(layer.gamma.shape[0]) % 2 == 0
            layer.gamma.assign(np.where(silent, 0, layer.gamma))
            layer.beta.assign(np.where(silent, 0, layer.beta))
    smaller = prune_channels(network, 0.5)
    before, after = channels(network), channels(smaller)
    inner = [name for name in before if name.startswith("block") and name.endswith("conv1")]
    assert len(inner) == 3
    for name in before:
        if name in inner:
            assert after[name] == before[name] // 2
        elif name.startswith("block"):
            assert after[name] == before[name], name
    images = digits[0][1000:1050]
    main = -1  # the branches' own channels are not silent, and lose half of them, too
    np.testing.assert_allclose(smaller(images)[main], network(images)[main], atol=1e-4)


def test_the_smallest_filters_go_through_flatten():
    """By hand: filters with norms 1, 3, 2 over 2x1 positions; half of 3 rounds to 2, so filter 0 goes, and with it
    inputs 0 and 3 of the dense layer; its units reach the exit and stay."""
    image = keras.Input((2, 1, 1), name="image")
    x = keras.layers.Conv2D(3, 1, name="conv")(image)
    x = keras.layers.Flatten(name="flatten")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Activation("linear", name="main")(keras.layers.Dense(2, name="dense")(x))
    network = keras.Model(image, x)
    network.get_layer("conv").set_weights([np.array([1.0, -3, 2]).reshape(1, 1, 1, 3), np.array([0.1, 0.2, 0.3])])
    network.get_layer("dense").set_weights([np.arange(12.0).reshape(6, 2), np.array([1.0, 2.0])])
    smaller = prune_channels(network, 0.4)
    kernel, bias = smaller.get_layer("conv").get_weights()
    np.testing.assert_allclose(kernel.ravel(), [-3, 2])
    np.testing.assert_allclose(bias, [0.2, 0.3])
    kernel, bias = smaller.get_layer("dense").get_weights()
    np.testing.assert_allclose(kernel, [[2, 3], [4, 5], [8, 9], [10, 11]])
    np.testing.assert_allclose(bias, [1, 2])
    # the convolution: 2 positions x 2 filters; the dense layer: 4 x 2
    assert network_costs(smaller).backbone.executed_macs == 2 * 2 + 4 * 2


def test_what_calls_say_in_keywords_stays(digits):
    """Functions of TensorFlow take most arguments so; a batch norm that is frozen is called with training=False."""
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv1")(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name="bn")(x, training=False)
    x = tf.nn.leaky_relu(keras.layers.Conv2D(4, 3, name="conv2")(x), alpha=0.5)
    x = tf.reduce_mean(tf.concat([x, -x], axis=-1), axis=[1, 2])
    network = keras.Model(image, keras.layers.Dense(10, name="main")(x))
    network.get_layer("bn").set_weights([np.full(4, value) for value in (1.5, 0.1, 0.2, 2.0)])
    same, smaller = prune_channels(network, 0.01), prune_channels(network, 0.5)
    assert (channels(same)["conv1"], channels(smaller)["conv1"]) == (4, 2)
    for training in (False, True):
        np.testing.assert_allclose(same(digits[0], training=training), network(digits[0], training=training), atol=1e-5)
    assert np.isfinite(smaller(digits[0])).all()


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("mnist-smallcnn", ()),
        ("mnist-smallcnn", ("model.exits=[]",)),
        ("cifar10-resnet38", ("model.depth=14",)),
        ("cifar10-resnet38", ("model.depth=14", "model.exits=[]", "model.branch=light")),
        ("digits-smallcnn", ()),
    ],
)
def test_backbones_become_smaller(preset, settings):
    config = Config.load(preset).with_settings(settings)
    network = build_network(config.model)
    smaller = prune_channels(network, 0.5)
    before, after = network_costs(network), network_costs(smaller)
    assert smaller.output_names == network.output_names
    for old, new in zip((*before.exits, before.backbone), (*after.exits, after.backbone), strict=True):
        assert new.executed_macs < 0.6 * old.executed_macs, new.name
    # half the inputs and half the outputs of the convolutions between: about a quarter is left
    if config.model.backbone == "smallcnn":
        assert after.backbone.executed_macs < 0.3 * before.backbone.executed_macs


def test_mobilenet_loses_the_channels_inside_its_blocks():
    config = Config.load("cifar10-mobilenetv2").with_settings(["model.width_multiplier=0.25"])
    network = build_network(config.model)
    before, after = channels(network), channels(prune_channels(network, 0.5))
    assert all(after[name] == round(before[name] / 2) for name in before if name.endswith("_expand"))
    assert all(after[name] == before[name] for name in before if name.endswith("_project"))


def test_a_network_that_can_spare_nothing():
    image = keras.Input((4, 4, 1))
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(image))
    network = keras.Model(image, keras.layers.Activation("linear", name="main")(logits))
    with pytest.raises(ConfigError, match="no layer can lose channels"):
        prune_channels(network, 0.5)


def test_channels_of_a_foreign_network():
    """Concatenation is not followed: what reaches it keeps its channels."""
    image = keras.Input((8, 8, 1))
    one = keras.layers.Conv2D(4, 3, name="kept1")(image)
    other = keras.layers.Conv2D(4, 3, name="kept2")(keras.layers.Conv2D(8, 1, name="inner")(image))
    x = keras.layers.Concatenate(name="both")([one, other])
    x = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    net = attach_exits(keras.Model(image, x), ["both"])
    found = channels(prune_channels(net.network, 0.5))
    assert (found["inner"], found["kept1"], found["kept2"], found["logits"]) == (4, 4, 4, 2)


def test_a_budget_shrinks_with_the_backbone():
    preset = Config.load("cifar10-resnet38-strict").with_settings(
        ["model.depth=14", "model.group_blocks=[]", "model.exits=['group2_block1_out']"]
    )
    source = build(preset)
    pruned = _with_scaled_budget(source, CompressionConfig(method="prune_channels", sparsity=0.5))
    macs = [network_costs(net).backbone.executed_macs for net in (source.network, prune_channels(source.network, 0.5))]
    assert pruned.policy.budget == round(58_000_000 * macs[1] / macs[0]) < 58_000_000
    kept = _with_scaled_budget(source, CompressionConfig(method="prune", sparsity=0.5))
    assert kept.policy.budget == 58_000_000


def test_labels():
    names = {
        "qat": CompressionConfig(method="quantize_aware"),
        "pruned62.5": CompressionConfig(method="prune", sparsity=0.625),
        "pruned50-2of4": CompressionConfig(method="prune", sparsity=0.5, pattern="2:4"),
        "clusters16": CompressionConfig(method="cluster", clusters=16),
        "channels50": CompressionConfig(method="prune_channels", sparsity=0.5),
    }
    assert {name: label(compression) for name, compression in names.items()} == {name: name for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--prune", "--prune-channels"])
def test_compressed_runs(trained_run, tmp_path, option):
    folder = tmp_path / "run"
    arguments = ("compress", trained_run, option, "0.5", "--iterations", 4, "--run-dir", folder, "--quiet", "--json")
    result = rdi_tf(*arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["costs"]["executed_macs"][-1] <= report["costs_before"]["executed_macs"][-1]
    assert (report["costs"] != report["costs_before"]) == (option == "--prune-channels")
    assert (report["sparsity"]["share"] > 0.4) == (option == "--prune")
    assert json.loads((folder / "compression.json").read_text(encoding="utf-8"))["costs"] == report["costs"]
    net = load(folder / "model.keras")
    assert type(net) is RDINet and net.thresholds is not None
    evaluated = rdi_tf("evaluate", folder, "--attacks", "main", "--limit", "50", "--quiet", "--no-checks", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["costs"]["executed_macs"] == report["costs"]["executed_macs"]
    costs = rdi_tf("costs", folder, "--json")
    assert costs.exit_code == 0, costs.output
    found = [exit_["executed_macs"] for exit_ in json.loads(costs.stdout)["exits"]]
    assert found == report["costs"]["executed_macs"]
    assert rdi_tf("costs", folder, "--set", "model.branch=light").exit_code == 2
    again = rdi_tf(*arguments)  # finished: nothing to do
    assert again.exit_code == 0 and json.loads(again.stdout)["costs"] == report["costs"]
    other = rdi_tf("compress", trained_run, option, "0.6", "--iterations", 4, "--run-dir", folder)
    assert other.exit_code == 2 and "another configuration" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [".", "../run", "run/..//run"])
def test_compressed_runs_stand_beside_their_source(trained_run, tmp_path, monkeypatch, name):
    shutil.copytree(trained_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run" if name != "run/..//run" else tmp_path)
    compression = CompressionConfig(method="prune_channels", sparsity=0.5)
    assert folder_beside(RunFolder.open(name), compression) == tmp_path / "run-channels50"


def test_a_single_exit_network_is_compressed(tiny_config, tmp_path):
    config = tiny_config.with_settings(["model.exits=[]", "defence.name=main_branch", "training.iterations=4"])
    train(config.with_settings(["training.validate_every=4"]), tmp_path / "single", progress=False)
    for options, name in ((("--prune-channels", 0.5), "single-channels50"), (("--quantize-aware",), "single-qat")):
        result = rdi_tf("compress", tmp_path / "single", *options, "--iterations", 2, "--quiet")
        assert result.exit_code == 0, result.output
        exported = rdi_tf("export", tmp_path / name, "--dtype", "int8")
        assert exported.exit_code == 0, exported.output
        assert rdi_tf("verify", tmp_path / name / "export" / "int8").exit_code == 0


def test_wrong_options(tmp_path):
    for arguments, expected in {
        (): "got 0 of them",
        ("--prune", "0.5", "--quantize-aware"): "got 2 of them",
        ("--quantize-aware", "--pattern", "2:4"): "--pattern",
        ("--prune", "much"): "not a valid float",
    }.items():
        result = rdi_tf("compress", tmp_path, *arguments)
        assert result.exit_code == 2 and expected in result.stderr, result.output
