"""Cut points, attaching branches to any classifier, and cutting networks into stages."""

import numpy as np
import pytest

from rdi_tf._keras import keras
from rdi_tf.calibration import exit_costs
from rdi_tf.config import ModelConfig
from rdi_tf.costs import network_costs
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.results import summarise
from rdi_tf.models import (
    attach_branches,
    attach_points,
    build_backbone,
    build_network,
    cut_points,
    flatten,
    split_stages,
    suggest_exits,
)
from rdi_tf.models.graph import ordered_nodes
from rdi_tf.network import attach_exits
from rdi_tf.policies import get_policy

layers = keras.layers
RNG = np.random.default_rng(0)


def images(model, count=3):
    return RNG.random((count, *model.input_shape[1:]), dtype=np.float32)


def shake(model):
    """Give every weight a random value, batch norm's running statistics too (a fresh network hides mistakes there)."""
    rng = np.random.default_rng(1)

    def shaken(name, value):
        scale = 1 + 0.2 * rng.standard_normal(value.shape)
        return value * scale if "kernel" in name else np.abs(scale) if "variance" in name else 0.5 * scale

    model.set_weights(
        [shaken(*pair) for pair in zip((w.name for w in model.weights), model.get_weights(), strict=True)]
    )
    return model


def diamond(final=None):
    """input -> stem -> (left | right) -> joined -> tail -> pool -> logits, with a shortcut around `tail`."""
    image = keras.Input((8, 8, 3), name="image")
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    left = layers.Conv2D(4, 3, padding="same", name="left")(stem)
    right = layers.Conv2D(4, 1, name="right")(stem)
    joined = layers.Add(name="joined")([left, right])
    tail = layers.ReLU(name="tail")(joined)
    summed = layers.Concatenate(name="summed")([tail, joined])
    pooled = layers.GlobalAveragePooling2D(name="pool")(summed)
    outputs = layers.Dense(5, activation=final, name="logits")(pooled)
    return keras.Model(image, outputs, name="diamond")


def names(points):
    return [point.layer for point in points]


def test_cut_points_of_a_graph_with_two_bypasses():
    assert names(cut_points(diamond())) == ["stem", "joined", "summed", "pool"]
    assert [point.shape for point in cut_points(diamond())] == [(8, 8, 4), (8, 8, 4), (8, 8, 8), (8,)]
    assert cut_points(diamond())[1].kind == "Add"


def test_cut_points_agree_with_the_definition():
    """A layer is a cut point if and only if the input no longer reaches the output once it is taken out."""
    model = build_backbone(ModelConfig(backbone="resnet", input_shape=(32, 32, 3), depth=14))
    nodes = ordered_nodes(model.outputs)
    successors = {id(node): [n for n in nodes if any(t.node is node for t in n.keras_inputs)] for node in nodes}

    def reaches_output(removed):
        waiting, seen = [nodes[0]], set()
        while waiting:
            node = waiting.pop()
            if node is nodes[-1]:
                return True
            if id(node) not in seen and node is not removed:
                seen.add(id(node))
                waiting.extend(successors[id(node)])
        return False

    expected = [node.layer.name for node in nodes[1:-1] if not reaches_output(node)]
    assert names(cut_points(model)) == expected
    assert "group2_block2_out" in expected and "group2_block2_conv1" not in expected


def test_ordered_nodes_are_what_an_output_needs():
    model = diamond()
    found = [node.layer.name for node in ordered_nodes([model.get_layer("joined").output])]
    assert set(found) == {"image", "stem", "left", "right", "joined"}
    assert found[0] == "image" and found[-1] == "joined"


def test_attach_points_come_from_the_graph():
    network = attach_branches(diamond(), ["stem", "summed"])
    assert attach_points(network) == ("stem", "summed")
    assert attach_points(attach_branches(diamond(), [])) == ()


def test_attached_network_shares_weights_and_logits():
    model = shake(diamond())
    network = attach_branches(model, ["joined"])
    x = images(model)
    np.testing.assert_array_equal(network(x)[-1], model(x))
    model.get_layer("logits").bias.assign_add([1.0] * 5)
    np.testing.assert_array_equal(network(x)[-1], model(x))


def ends_in_softmax_layer():
    model = diamond()
    return keras.Model(model.input, layers.Softmax()(model.output))


def ends_in_softmax_activation():
    model = diamond()
    return keras.Model(model.input, layers.Activation("softmax")(model.output))


@pytest.mark.parametrize(
    "build", [lambda: diamond("softmax"), ends_in_softmax_layer, ends_in_softmax_activation], ids=range(3)
)
def test_softmax_is_taken_off(build):
    model = shake(build())
    x = images(model)
    logits = attach_branches(model, ["stem"])(x)[-1]
    assert not np.allclose(logits.numpy().sum(axis=1), 1)
    np.testing.assert_allclose(keras.activations.softmax(logits), model(x), rtol=1e-5)


@pytest.mark.parametrize("final", ["sigmoid", "relu"])
def test_other_final_activations_are_refused(final):
    with pytest.raises(ConfigError, match=f"expected logits or a softmax at the end, got 'logits'.*{final}"):
        attach_branches(diamond(final), ["stem"])


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (["left"], "no branch can leave after 'left': 'right' takes the output of 'stem' past it"),
        (["tail"], r"no branch can leave after 'tail': 'summed' takes the output of 'joined' past it"),
        (["jioned"], "there is no such layer; did you mean 'joined'"),
        (["image"], "it is the input"),
        (["logits"], "it is the output"),
        (["joined", "stem"], r"order of computation, \['stem', 'joined'\], got \['joined', 'stem'\]"),
        (["stem", "stem"], r"each layer once .* got \['stem', 'stem'\]"),
        ("stem", "expected a list of layer names, got the string 'stem'"),
    ],
)
def test_impossible_points_are_refused_with_the_reason(at, message):
    with pytest.raises(ConfigError, match=message):
        attach_branches(diamond(), at)


def test_shared_layers_and_several_outputs_are_no_cut_points():
    image = keras.Input((8, 8, 3))
    conv, relu = layers.Conv2D(3, 3, padding="same", name="conv"), layers.ReLU(name="shared")
    x = relu(conv(relu(image)))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten(name="flat")(x)))
    assert names(cut_points(model)) == ["conv", "flat"]
    with pytest.raises(ConfigError, match="'shared': it is called 2 times"):
        attach_branches(model, ["shared"])


def subclassed():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    return Own()


def two_inputs():
    first, second = keras.Input((4, 4, 1)), keras.Input((4, 4, 1))
    return keras.Model([first, second], layers.Dense(2)(layers.Flatten()(layers.Add()([first, second]))))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (subclassed, "expected a functional tf_keras model"),
        (lambda: keras.Sequential([layers.Flatten(), layers.Dense(2)]), "that has been built"),
        (two_inputs, "expected a model with one input, got 2"),
        (lambda: build_network(ModelConfig(branch="light")), r"one output \(batch, classes\), got \[\(None, 10\),"),
        (lambda: keras.Sequential([layers.Conv2D(4, 3, input_shape=(8, 8, 3))]), r"got \[\(None, 6, 6, 4\)\]"),
    ],
    ids=["subclassed", "unbuilt", "two inputs", "multi-exit", "feature map"],
)
def test_models_that_are_no_classifiers_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        attach_branches(build(), [])


def test_taken_names_and_wrong_designs_are_refused():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten(name="flat")(layers.ReLU(name="main")(image))))
    with pytest.raises(ConfigError, match="'main' has a name that an exit needs"):
        attach_branches(model, ["flat"])
    with pytest.raises(ConfigError, match="branch 'paper': the paper has none for this model"):
        attach_branches(diamond(), ["stem"], "paper")
    with pytest.raises(ConfigError, match="num_classes: expected the model's own 5, got 6"):
        attach_branches(diamond(), ["stem"], num_classes=6)


def test_branches_that_do_not_fit_are_named():
    image = keras.Input((1, 1, 8))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.ReLU(name="small")(image))))

    def halved(features, num_classes, exit_index, backbone, prefix, dropout):
        return layers.Dense(num_classes)(layers.Flatten()(layers.MaxPooling2D(2)(features)))

    with pytest.raises(ConfigError, match=r"exits: no such branch fits 'small' of shape \(1, 1, 8\): "):
        attach_branches(model, ["small"], halved)


def test_a_network_without_convolutions_has_costs():
    """The paper counts convolutions alone, so that its figure is 0 and nothing is saved in it."""
    image = keras.Input((8, 8, 1))
    hidden = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(image))
    logits = layers.Dense(10)(layers.Dense(16, activation="relu")(hidden))
    costs = exit_costs(attach_exits(keras.Model(image, logits), ["hidden"]))
    assert costs.executed_macs[0] > 64 * 16 and costs.paper_mflops == (0, 0)
    clean = summarise(np.zeros(4, int), np.zeros((4, 2, 10)), {}, get_policy("entropy"), (1000.0,), costs).clean
    assert clean.paper_saving == 0 and clean.executed_saving == pytest.approx(16 * 16 / (80 * 16 + 16 * 10))


def test_a_design_can_be_a_function():
    def design(features, num_classes, exit_index, backbone, prefix, dropout):
        pooled = layers.GlobalMaxPooling2D(name=f"{prefix}_max")(features)
        return layers.Dense(num_classes, name=f"{prefix}_out")(pooled)

    network = attach_branches(diamond(), ["stem", "joined"], design)
    assert {"branch_1_max", "branch_2_max", "branch_2_out"} <= {layer.name for layer in network.layers}


def test_suggested_exits_share_the_work():
    model = build_backbone(ModelConfig(backbone="resnet", input_shape=(32, 32, 3), depth=20))
    suggested = suggest_exits(model, 3)
    total = network_costs(model).backbone.executed_macs
    block = 2 * 32 * 32 * 9 * 16 * 16
    for share, name in zip((0.25, 0.5, 0.75), suggested, strict=True):
        costs = network_costs(keras.Model(model.input, model.get_layer(name).output)).backbone.executed_macs
        assert abs(costs - share * total) <= block / 2 and name.endswith("_out")
    assert suggest_exits(model, 0) == ()


def test_suggested_exits_are_distinct_and_limited():
    model = diamond()
    assert suggest_exits(model, 2) == ("stem", "summed")
    with pytest.raises(ConfigError, match="count: expected 0 to 2 exits"):
        suggest_exits(model, 3)
    with pytest.raises(ConfigError, match="got -1"):
        suggest_exits(model, -1)


NETWORKS = [
    ("smallcnn", (28, 28, 1), "paper"),
    ("smallcnn", (28, 28, 1), "light"),
    ("resnet", (32, 32, 3), "paper"),
    ("mobilenetv2", (32, 32, 3), "light"),
    ("resnet", (32, 32, 3), "residual"),
]


def check_stages(network):
    """Chained stages reproduce the network's logits and run each of its layers exactly once."""
    stages = split_stages(network)
    x = images(network)
    expected = [logits.numpy() for logits in network(x)]
    features, ran = x, []
    for index, stage in enumerate(stages):
        outputs = stage(features)
        logits, features = outputs if index < len(stages) - 1 else (outputs, None)
        np.testing.assert_allclose(logits, expected[index], rtol=1e-5, atol=1e-5 * np.abs(expected[index]).max())
        ran += [layer.name for layer in stage.layers if not isinstance(layer, layers.InputLayer)]
    assert len(stages) == len(network.outputs) and features is None
    assert sorted(ran) == sorted(layer.name for layer in network.layers if not isinstance(layer, layers.InputLayer))
    executed = [network_costs(stage).layers for stage in stages]
    total = sum(layer.macs for stage in executed for layer in stage)
    assert total == network_costs(network).exits[-1].executed_macs
    return stages


@pytest.mark.parametrize(("backbone", "shape", "branch"), NETWORKS)
def test_chained_stages_are_the_network(backbone, shape, branch):
    check_stages(shake(build_network(ModelConfig(backbone=backbone, input_shape=shape, branch=branch))))


def test_stages_share_weights_and_leave_the_network_intact(tmp_path):
    network = attach_branches(diamond(), ["joined"])
    stages = split_stages(network)
    x = images(network)
    network.get_layer("stem").kernel.assign_add(np.ones((3, 3, 3, 4), np.float32))
    np.testing.assert_allclose(stages[1](stages[0](x)[1]), network(x)[-1], rtol=1e-5)
    network.save(tmp_path / "network.keras")
    restored = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(restored(x)[0], network(x)[0])
    assert attach_points(restored) == ("joined",)
    check_stages(restored)


def test_a_network_without_branches_is_one_stage():
    model = diamond()
    (stage,) = split_stages(model)
    x = images(model)
    np.testing.assert_array_equal(stage(x), model(x))


def head(features, name):
    return layers.Dense(5, name=name)(layers.Flatten()(features))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda get: [head(get("left"), "one")], "exit 'one' leaves after 'left': 'right' takes the output of 'stem'"),
        (
            lambda get: [head(get("joined"), "one"), head(get("stem"), "two")],
            "exit 'two' leaves after 'stem', not behind",
        ),
        (
            lambda get: [head(layers.Concatenate()([get("stem"), get("joined")]), "one")],
            "exit 'one' leaves the trunk at 2 places",
        ),
        (lambda get: [get("pool")], "exit 'pool' leaves the trunk at 0 places"),
    ],
)
def test_networks_that_cannot_be_staged_are_refused(outputs, message):
    model = diamond()
    exits = outputs(lambda name: model.get_layer(name).output)
    with pytest.raises(ConfigError, match=message):
        split_stages(keras.Model(model.input, [*exits, model.output]))


def test_branches_that_build_on_each_other_are_refused():
    model = diamond()
    first = layers.Flatten(name="flat1")(model.get_layer("stem").output)
    second = layers.Concatenate()([first, layers.Flatten()(model.get_layer("joined").output)])
    network = keras.Model(
        model.input, [layers.Dense(5, name="one")(first), layers.Dense(5, name="two")(second), model.output]
    )
    with pytest.raises(ConfigError, match="exit 'two' depends on the branch of another exit"):
        split_stages(network)


def check_foreign(model, at):
    """Attach light branches to a foreign classifier, run it, keep its answers, cut it into stages."""
    x = images(model, count=2)
    expected = model(x).numpy()
    network = attach_branches(model, at)
    logits = network(x)
    assert [tuple(exit_logits.shape) for exit_logits in logits] == [expected.shape] * (len(at) + 1)
    np.testing.assert_allclose(keras.activations.softmax(logits[-1]), expected, atol=1e-5)
    assert attach_points(network) == tuple(at)
    check_stages(network)
    return network


def test_keras_applications_model():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), classes=10)
    found = names(cut_points(model))
    assert {"block_2_add", "block_3_expand", "out_relu"} <= set(found) and "block_2_expand" not in found
    at = suggest_exits(model, 3)
    costs = network_costs(check_foreign(shake_statistics(model), at))
    shares = [exit_.executed_macs / costs.backbone.executed_macs for exit_ in costs.exits]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1.0], atol=0.03)


def shake_statistics(model):
    """Random running statistics of moderate size, so that a deep network's features keep their scale."""
    rng = np.random.default_rng(2)
    for layer in flatten(model).layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(0.1 * rng.standard_normal(layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.8, 1.2, layer.moving_variance.shape))
    return model


def keras_cv_backbone():
    import keras_cv

    return keras_cv.models.ResNetV2Backbone(
        stackwise_filters=[8, 16],
        stackwise_blocks=[2, 2],
        stackwise_strides=[1, 2],
        include_rescaling=False,
        input_shape=(64, 64, 3),
    )


def test_keras_cv_backbone_as_a_layer():
    image = keras.Input((64, 64, 3))
    features = layers.GlobalAveragePooling2D()(keras_cv_backbone()(image))
    model = shake_statistics(keras.Model(image, layers.Dense(4, activation="softmax")(features)))
    found = names(cut_points(model))
    assert "v2_stack_0_block2_out" in found and "post_relu" in found
    check_foreign(model, ["v2_stack_0_block2_out", "post_relu"])


def test_keras_cv_backbone_continued():
    backbone = keras_cv_backbone()
    features = layers.GlobalAveragePooling2D()(backbone.output)
    model = shake_statistics(keras.Model(backbone.input, layers.Dense(4, activation="softmax")(features)))
    check_foreign(model, suggest_exits(model, 2))


def test_models_inside_models_are_dissolved():
    inner = keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="bn")], name="inner")
    image = keras.Input((8, 8, 3))
    frozen = inner(image, training=False)
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(layers.ReLU(name="relu")(frozen)))
    model = shake_statistics(keras.Model(image, outputs))
    assert names(cut_points(model))[:3] == ["conv", "bn", "relu"]
    network = check_foreign(model, ["bn"])
    before = inner.get_layer("bn").moving_mean.numpy()
    network(images(model), training=True)  # the inner model was called with training=False, and that must stay so
    np.testing.assert_array_equal(inner.get_layer("bn").moving_mean, before)


def test_equal_names_inside_models_are_refused():
    image = keras.Input((8, 8, 3))
    x = image
    for name in ("first", "second"):
        x = keras.Sequential([layers.Conv2D(4, 3, name="conv")], name=name)(x)
    with pytest.raises(ConfigError, match="several of its layers are called 'conv'"):
        flatten(keras.Model(image, layers.Dense(3)(layers.Flatten()(x))))


def test_an_own_call_makes_a_model_opaque():
    class Doubled(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    doubled = Doubled([layers.Conv2D(4, 3, name="conv", input_shape=(8, 8, 3))], name="doubled")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten(name="flat")(doubled(image))))
    assert names(cut_points(model)) == ["doubled", "flat"]
    with pytest.raises(ConfigError, match="'doubled'.*not known|not known.*Doubled"):
        network_costs(model)
