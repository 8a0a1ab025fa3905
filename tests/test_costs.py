"""The paper's cost table to the unit, the accounting's rules, and the layer types."""

import json

import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import ModelConfig
from rdi_tf.costs import costs_table, cut_decimals, network_costs
from rdi_tf.errors import ConfigError
from rdi_tf.models import build_backbone, build_network
from rdi_tf.models.macs import LAYER_MACS

layers = keras.layers


def paper_costs(backbone, shape):
    return network_costs(build_network(ModelConfig(backbone=backbone, input_shape=shape, branch="paper")))


@pytest.fixture(scope="module")
def smallcnn():
    return paper_costs("smallcnn", (28, 28, 1))


@pytest.fixture(scope="module")
def resnet38():
    return paper_costs("resnet", (32, 32, 3))


def executed(costs):
    return [exit_.executed_macs for exit_ in costs.exits]


def test_smallcnn_by_hand(smallcnn):
    conv1, conv2 = 26 * 26 * 9 * 1 * 32, 24 * 24 * 9 * 32 * 32
    conv3, conv4 = 10 * 10 * 9 * 32 * 64, 8 * 8 * 9 * 64 * 64
    dense = 4 * 4 * 64 * 200 + 200 * 200 + 200 * 10
    branch1_conv = 12 * 12 * 9 * 32 * 16
    branch1 = branch1_conv + 576 * 200 + 200 * 200 + 200 * 10
    branch2 = 1600 * 200 + 200 * 200 + 200 * 10
    assert executed(smallcnn) == [
        conv1 + branch1,
        conv1 + branch1 + conv2 + conv3 + branch2,
        conv1 + branch1 + conv2 + conv3 + branch2 + conv4 + dense,
    ]
    assert [exit_.paper_multiplications for exit_ in smallcnn.exits] == [
        conv1 + branch1_conv,
        conv1 + conv2 + conv3,
        conv1 + conv2 + conv3 + conv4,
    ]
    assert smallcnn.backbone.executed_macs == conv1 + conv2 + conv3 + conv4 + dense


def test_smallcnn_agrees_with_the_paper(smallcnn):
    assert executed(smallcnn) == [1_015_440, 8_529_056, 11_135_152]
    assert smallcnn.backbone.executed_macs == 9_952_400
    assert cut_decimals(smallcnn.exits[0].paper_mflops, 3) == "0.818"
    assert [cut_decimals(exit_.paper_mflops) for exit_ in smallcnn.exits[1:]] == ["7.00", "9.25"]
    assert cut_decimals(smallcnn.backbone.paper_mflops) == "9.25"


def test_resnet38_agrees_with_the_paper(resnet38):
    assert executed(resnet38) == [
        17_613_120,
        39_502_464,
        53_789_632,
        69_125_376,
        82_233_216,
        96_389_632,
        101_108_864,
    ]
    assert resnet38.backbone.executed_macs == 83_280_512
    figures = [cut_decimals(exit_.paper_mflops) for exit_ in (*resnet38.exits, resnet38.backbone)]
    assert figures == ["16.79", "30.29", "36.54", "50.04", "61.42", "74.92", "79.42", "79.42"]


def test_resnet38_first_exit_by_hand(resnet38):
    stem = 32 * 32 * 9 * 3 * 16
    block = 2 * 32 * 32 * 9 * 16 * 16
    branch = 16 * 16 * 25 * 16 * 64 + 8 * 8 * 9 * 64 * 32
    assert resnet38.exits[0].paper_multiplications == stem + 2 * block + branch
    assert resnet38.exits[0].executed_macs == stem + 2 * block + branch + 32 * 10


def test_resnet38_group_change_by_hand(resnet38):
    macs = {layer.name: layer.macs for layer in resnet38.layers}
    assert macs["group2_block1_conv1"] == 16 * 16 * 9 * 16 * 32
    assert macs["group2_block1_conv2"] == 16 * 16 * 9 * 32 * 32
    assert macs["group2_block1_shortcut"] == 16 * 16 * 1 * 16 * 32
    assert macs["group2_block1_bn1"] == macs["group2_block1_add"] == macs["pool"] == 0


def test_mobilenetv2_agrees_with_the_paper():
    costs = paper_costs("mobilenetv2", (32, 32, 3))
    assert costs.backbone.paper_multiplications == 91_142_144
    assert cut_decimals(costs.backbone.paper_mflops) == "86.91"
    assert costs.backbone.executed_macs == 91_142_144 + 1280 * 10
    branch1 = 16 * 16 * 25 * 24 * 64 + 8 * 8 * 9 * 64 * 32
    assert costs.exits[0].paper_multiplications == 16_891_904 + branch1
    assert costs.exits[1].paper_multiplications == 53_645_312  # branch 2 has no convolution
    assert costs.exits[1].executed_macs == 53_645_312 + branch1 + 32 * 10 + 96 * 10


@pytest.mark.parametrize(
    ("backbone", "shape", "depth", "most"),
    [
        ("smallcnn", (28, 28, 1), 38, 0.02),
        ("resnet", (32, 32, 3), 38, 0.02),
        ("mobilenetv2", (32, 32, 3), 38, 0.02),
        ("smallcnn", (16, 16, 1), 38, 0.032),  # the quickstart's
        ("resnet", (32, 32, 3), 14, 0.029),  # the tutorial's
    ],
)
def test_light_branches_cost_little_together(backbone, shape, depth, most):
    model = ModelConfig(backbone=backbone, input_shape=shape, depth=depth, branch="light")
    costs = network_costs(build_network(model))
    branches = costs.exits[-1].executed_macs - costs.backbone.executed_macs
    assert 0 < branches < most * costs.backbone.executed_macs
    assert costs.exits[-1].executed_macs == sum(layer.macs for layer in costs.layers)


def test_residual_branches_cost_what_the_trunks_own_blocks_do():
    exits = ("group1_block2_out", "group2_block3_out", "group3_block2_out")
    model = ModelConfig(backbone="resnet", input_shape=(32, 32, 3), exits=exits, branch="residual")
    costs = network_costs(build_network(model))
    to_32 = 16 * 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)  # two convolutions and the shortcut, 32x32 to 16x16
    to_64 = 8 * 8 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    at_64 = 8 * 8 * 2 * 9 * 64 * 64
    branches = [to_32 + to_64, to_64 + at_64, 2 * at_64]
    assert costs.exits[-1].executed_macs - costs.backbone.executed_macs == sum(branches) + 3 * 64 * 10


def test_backbone_costs_are_those_of_the_plain_backbone(resnet38):
    plain = network_costs(build_backbone(ModelConfig(backbone="resnet", input_shape=(32, 32, 3))))
    assert plain.backbone == resnet38.backbone
    assert executed(plain) == [83_280_512]


def single(layer, shape):
    """Costs of a network made of one layer."""
    image = keras.Input(shape)
    (entry, result) = network_costs(keras.Model(image, layer(image))).layers
    assert entry.macs == 0
    return result


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "paper"),
    [
        (layers.Conv2D(8, (3, 5), groups=2), (9, 9, 4), 7 * 5 * (3 * 5) * (4 // 2) * 8, True),
        (layers.Conv2D(6, 3, dilation_rate=2), (9, 9, 4), 5 * 5 * 9 * 4 * 6, True),
        (layers.Conv2D(6, 3, strides=2, padding="same"), (9, 9, 4), 5 * 5 * 9 * 4 * 6, True),
        (layers.Conv2DTranspose(6, 3, strides=2), (4, 4, 5), 4 * 4 * 9 * 5 * 6, True),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4), 7 * 7 * 9 * 4 * 2, True),
        (layers.SeparableConv2D(6, 3, strides=2), (9, 9, 4), 4 * 4 * (9 * 4 + 4 * 6), True),
        (layers.Conv1D(6, 3), (9, 4), 7 * 3 * 4 * 6, True),
        (layers.Dense(6), (5, 4), 5 * 4 * 6, False),
        (layers.BatchNormalization(), (9, 9, 4), 0, False),
        (layers.Rescaling(1 / 255), (9, 9, 4), 0, False),
        (layers.RandomFlip(), (9, 9, 4), 0, False),
    ],
)
def test_layer_types_by_hand(layer, shape, macs, paper):
    costs = single(layer, shape)
    assert (costs.macs, costs.paper_multiplications) == (macs, macs if paper else 0)


def test_layers_called_twice_cost_twice():
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    costs = network_costs(keras.Model(image, shared(shared(image))))
    assert costs.backbone.executed_macs == 2 * 8 * 8 * 9 * 3 * 3


class Scale(layers.Layer):
    """A layer with weights that costs.py has never heard of."""

    def build(self, input_shape):
        self.scale = self.add_weight("scale", (input_shape[-1],))

    def call(self, inputs):
        return inputs * self.scale


def test_unknown_layers_with_weights_are_refused_until_they_are_listed(monkeypatch):
    with pytest.raises(ConfigError, match="'mystery'.*Scale"):
        single(Scale(name="mystery"), (4, 4, 2))
    monkeypatch.setitem(LAYER_MACS, "Scale", lambda layer, input_shape, output_shape: 4 * 4 * 2)
    assert single(Scale(), (4, 4, 2)).macs == 32


@pytest.mark.parametrize("layer", [layers.LSTM(3), layers.LocallyConnected1D(3, 2)])
def test_keras_layers_that_are_not_counted_are_refused(layer):
    with pytest.raises(ConfigError, match="LAYER_MACS"):
        single(layer, (5, 4))


def test_products_without_weights_are_refused():
    image = keras.Input((5, 4))
    with pytest.raises(ConfigError, match="Dot"):
        network_costs(keras.Model(image, layers.Dot(axes=-1)([image, image])))
    with pytest.raises(ConfigError, match="not known"):
        network_costs(keras.Model(image, image @ keras.backend.ones((4, 3))))
    with pytest.raises(ConfigError, match="not known.*Lambda"):
        single(layers.Lambda(lambda x: x @ tf.ones((4, 3))), (5, 4))


def test_conversions_multiply_nothing():
    image = keras.Input((5, 4))
    logits = layers.Dense(2)(layers.Flatten()(tf.convert_to_tensor(image)))
    assert network_costs(keras.Model(image, logits)).backbone.executed_macs == 5 * 4 * 2


def test_unknown_image_size_is_refused():
    image = keras.Input((None, None, 3))
    with pytest.raises(ConfigError, match="image size at layer 'conv'"):
        network_costs(keras.Model(image, layers.Conv2D(4, 3, name="conv")(image)))


def test_to_dict_is_json(smallcnn):
    table = json.loads(json.dumps(smallcnn.to_dict()))
    assert table["exits"][0] == {
        "name": "branch_1",
        "executed_macs": 1_015_440,
        "paper_multiplications": 858_240,
        "paper_mflops": 858_240 / 2**20,
    }
    assert table["backbone"]["executed_macs"] == 9_952_400
    conv1 = next(layer for layer in table["layers"] if layer["name"] == "conv1")
    assert conv1 == {
        "name": "conv1",
        "type": "Conv2D",
        "output_shape": [26, 26, 32],
        "macs": 194_688,
        "paper_multiplications": 194_688,
    }


def test_costs_table(smallcnn):
    header, first, *_, backbone = costs_table(smallcnn).splitlines()
    assert header.split() == ["exit", "executed", "MACs", "of", "backbone", "paper", "MFlops"]
    assert first.split() == ["branch_1", "1,015,440", "10.2%", "0.81"]
    assert backbone.split() == ["backbone", "9,952,400", "100.0%", "9.25"]


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(79.429, 2, "79.42"), (0.8189, 3, "0.818"), (7.0, 2, "7.00"), (16.799, 0, "16")]
)
def test_cut_decimals_cuts(value, decimals, text):
    assert cut_decimals(value, decimals) == text
