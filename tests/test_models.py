"""Backbones, branches and the networks that configurations describe."""

import functools
from pathlib import Path

import numpy as np
import pytest

from rdi_tf._keras import keras
from rdi_tf.config import ModelConfig
from rdi_tf.costs import network_costs
from rdi_tf.errors import ConfigError
from rdi_tf.models import attach_points, build_backbone, build_network
from rdi_tf.models.layers import convolution, dense, depthwise
from rdi_tf.models.mobilenet import GROUPS, make_divisible
from rdi_tf.models.resnet import default_exits

REFERENCE = Path(__file__).parents[1].parent / "shared" / "reference" / "triple_wins_resnet38_maxavg.npz"
CIFAR = (32, 32, 3)


@functools.cache
def built(backbone, branch="paper"):
    """A network that no test changes."""
    return build_network(config(backbone, branch=branch))


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def config(backbone, **settings):
    shape = (28, 28, 1) if backbone == "smallcnn" else CIFAR
    return ModelConfig(**{"backbone": backbone, "input_shape": shape, "branch": "paper", **settings})


@pytest.mark.parametrize(
    ("backbone", "points"),
    [
        ("smallcnn", ("conv1_relu", "conv3_relu")),
        ("resnet", tuple(f"group{group}_block{block}_out" for group in (1, 2, 3) for block in (2, 5))),
        ("mobilenetv2", ("block3_out", "block12_out")),
    ],
)
@pytest.mark.parametrize("branch", ["paper", "light", "residual"])
def test_networks_keep_the_contract(backbone, points, branch):
    network = built(backbone, branch)
    assert network.output_names == [f"branch_{index + 1}" for index in range(len(points))] + ["main"]
    assert [tuple(tensor.shape) for tensor in network.outputs] == [(None, 10)] * (len(points) + 1)
    assert attach_points(network) == points
    logits = network(np.random.default_rng(0).random((2, *network.input_shape[1:]), dtype=np.float32))
    assert all(np.isfinite(exit_logits).all() and np.ptp(exit_logits) > 0 for exit_logits in logits)


def test_classes_are_those_of_the_configuration():
    for branch in ("paper", "light", "residual"):
        network = build_network(config("smallcnn", branch=branch, num_classes=7))
        assert [tuple(tensor.shape) for tensor in network.outputs] == [(None, 7)] * 3


def test_no_exits_is_the_plain_backbone():
    network = build_network(config("resnet", exits=(), depth=8))
    assert network.output_names == ["main"]
    assert parameters(network) == parameters(build_backbone(config("resnet", depth=8)))


def test_configured_exits_are_taken():
    network = build_network(config("smallcnn", exits=("conv2_relu", "dense1_relu"), branch="light"))
    assert attach_points(network) == ("conv2_relu", "dense1_relu")


def test_logits_stay_float32_in_mixed_precision():
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        network = build_network(config("smallcnn"))
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert network.get_layer("conv1").compute_dtype == "bfloat16"
    assert {tensor.dtype.name for tensor in network.outputs} == {"float32"}


def test_smallcnn_parameters_by_hand():
    conv = (9 * 1 * 32 + 32) + (9 * 32 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64)
    dense_part = (200 * 200 + 200) + (200 * 10 + 10)
    backbone = conv + (1024 * 200 + 200) + dense_part
    branch1 = (9 * 32 * 16 + 16) + (576 * 200 + 200) + dense_part
    branch2 = (1600 * 200 + 200) + dense_part
    assert parameters(build_backbone(config("smallcnn"))) == backbone
    assert parameters(built("smallcnn")) == backbone + branch1 + branch2


def mobilenet_parameters_by_hand():
    """Trainable parameters of MobileNetV2: kernels, two per channel of each batch norm, dense."""
    total, entering = 9 * 3 * 32 + 2 * 32, 32
    for expansion, channels, repeats, first_strides in GROUPS:
        for repeat in range(repeats):
            inside = expansion * entering
            total += entering * inside + 2 * inside + 9 * inside + 2 * inside + inside * channels + 2 * channels
            if entering != channels and (repeat > 0 or first_strides == 1):
                total += entering * channels + 2 * channels
            entering = channels
    return total + 320 * 1280 + 2 * 1280 + 1280 * 10 + 10


def test_mobilenetv2_parameters_by_hand():
    backbone = build_backbone(config("mobilenetv2"))
    assert parameters(backbone) == mobilenet_parameters_by_hand()
    assert sum(type(layer).__name__ == "DepthwiseConv2D" for layer in backbone.layers) == 17
    channels = [backbone.get_layer(f"block{block}_out").output.shape[1:] for block in (1, 3, 4, 7, 11, 14, 17)]
    assert channels == [(32, 32, 16), (32, 32, 24), (16, 16, 32), (8, 8, 64), (8, 8, 96), (4, 4, 160), (4, 4, 320)]


def test_resnet38_has_the_parameters_of_the_authors_checkpoint():
    if not REFERENCE.is_file():
        pytest.skip(f"the authors' released weights are not beside the checkout: {REFERENCE.name}")
    theirs, running = {}, ("running_mean", "running_var", "num_batches_tracked")
    with np.load(REFERENCE) as arrays:
        for name in arrays.files:
            if not name.endswith(running):
                shape = arrays[name].shape
                axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), range(len(shape)))  # PyTorch's order to Keras'
                key = tuple(shape[axis] for axis in axes)
                theirs[key] = theirs.get(key, 0) + 1
    ours = {}
    network = built("resnet")
    for weight in network.trainable_weights:
        ours[tuple(weight.shape)] = ours.get(tuple(weight.shape), 0) + 1
    assert ours == theirs
    assert parameters(network) == sum(int(np.prod(shape)) * count for shape, count in theirs.items()) == 692_310


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (20, 3)])
def test_resnet_of_other_depths(depth, blocks):
    backbone = build_backbone(config("resnet", depth=depth, num_classes=7))
    kinds = [type(layer).__name__ for layer in backbone.layers]
    assert kinds.count("Conv2D") == 1 + 3 * 2 * blocks + 2  # stem, two per block, the two shortcuts
    assert kinds.count("Add") == 3 * blocks
    assert backbone.output_shape == (None, 7)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (8, [(1, 1), (2, 1)]),
        (14, [(1, 1), (2, 1), (3, 1)]),
        (20, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]),
        (56, [(1, 3), (1, 7), (2, 3), (2, 7), (3, 3), (3, 7)]),
    ],
)
def test_resnet_exits_of_other_depths(depth, blocks):
    expected = tuple(f"group{group}_block{block}_out" for group, block in blocks)
    assert default_exits(config("resnet", depth=depth)) == expected


@pytest.mark.parametrize("depth", [2, 7, 39])
def test_resnet_depth_must_be_6n_plus_2(depth):
    with pytest.raises(ConfigError, match=f"model.depth: expected 6n.2.*got {depth}"):
        build_network(config("resnet", depth=depth))


def test_resnet_of_groups_of_ones_own_costs_what_equal_groups_do():
    """Up to its exit it is a ResNet26; a block costs the same in each group."""
    cut = ("group3_block4_out",)
    uneven = build_network(config("resnet", depth=38, group_blocks=(4, 4, 10), exits=cut))
    equal = build_backbone(config("resnet", depth=38))
    executed = network_costs(uneven).backbone.executed_macs
    assert executed == network_costs(equal).backbone.executed_macs == 83_280_512
    names = [layer.name for layer in build_backbone(config("resnet", depth=26)).layers if "group" in layer.name]
    assert names == [layer.name for layer in uneven.layers if "group" in layer.name][: len(names)]
    assert default_exits(config("resnet", depth=38, group_blocks=(1, 6, 11))) == (
        "group1_block1_out",
        *("group2_block2_out", "group2_block5_out"),
        *("group3_block4_out", "group3_block9_out"),
    )


@pytest.mark.parametrize("groups", [(6, 6), (6, 6, 7), (0, 6, 12), (-1, 7, 12)])
def test_resnet_groups_must_be_of_its_depth(groups):
    message = r"model.group_blocks: expected three numbers from 1 whose sum is .* = 18, or \[\] for equal groups, got"
    with pytest.raises(ConfigError, match=message):
        build_network(config("resnet", depth=38, group_blocks=groups))


@pytest.mark.parametrize(("channels", "expected"), [(32, 32), (16 * 0.35, 8), (24 * 0.75, 24), (96 * 1.4, 136)])
def test_make_divisible(channels, expected):
    assert make_divisible(channels) == expected


def test_width_multiplier():
    backbone = build_backbone(config("mobilenetv2", width_multiplier=0.5))
    assert backbone.get_layer("conv1").filters == 16
    assert backbone.get_layer("block17_project").filters == 160
    assert backbone.get_layer("head").filters == 1280


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vgg"}, "model.backbone: expected one of smallcnn, resnet, mobilenetv2, got 'vgg'"),
        ({"branch": "heavy"}, "branch: expected one of paper, light, residual, got 'heavy'"),
        ({"exits": ("conv9",)}, "no branch can leave after 'conv9': there is no such layer; did you mean 'conv"),
        ({"exits": ("dense1_relu",)}, "branch_1 needs a feature map"),
        ({"exits": ("dense1_relu",), "branch": "residual"}, "branch_1 needs a feature map of known size, got .200,"),
        ({"input_shape": (8, 8, 1)}, r"model.input_shape: smallcnn cannot take \(8, 8, 1\)"),
        ({"backbone": "mobilenetv2", "width_multiplier": 0.0}, "model.width_multiplier: expected more than 0"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_network(config(settings.pop("backbone", "smallcnn"), **settings))


def test_strided_convolution_pads_as_pytorch_does():
    # ones under a kernel of ones: with one zero on each side the corner of a 4x4 image sees 2x2 ones, at stride 2 the
    # others see 2x3 and 3x3. Keras' "same" would pad right and bottom only and see 3x3 in the first corner.
    image = keras.Input((4, 4, 1))
    expected = np.array([[4, 6], [6, 9]])
    for output in (convolution(image, 1, 3, "conv", strides=2, padding=1), depthwise(image, 3, "dw", strides=2)):
        model = keras.Model(image, output)
        model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
        np.testing.assert_array_equal(model(np.ones((1, 4, 4, 1), np.float32))[0, :, :, 0], expected)


def test_batch_norm_is_pytorchs_default_everywhere():
    for backbone in ("resnet", "mobilenetv2"):
        network = built(backbone, "light")
        norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert {(layer.epsilon, layer.momentum) for layer in norms} == {(1e-5, 0.9)}
        convolutions = [layer for layer in network.layers if "Conv2D" in type(layer).__name__]
        assert not any(layer.use_bias for layer in convolutions)


def test_initial_weights_have_the_stated_scale():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 64))
    model = keras.Model(image, dense(depthwise(convolution(image, 128, 3, "conv"), 3, "dw"), 50, "dense"))
    conv, kernel, weights = (model.get_layer(name).get_weights()[0] for name in ("conv", "dw", "dense"))
    assert conv.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    bound = 1 / 128**0.5
    assert 0.99 * bound < np.abs(weights).max() <= bound
