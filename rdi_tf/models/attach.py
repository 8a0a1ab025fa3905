"""Giving early exits to any functional classifier, and finding places for them."""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models.branches import BRANCHES
from rdi_tf.models.graph import cut_nodes, cut_points, flatten, node_tensors, ordered_nodes, require_graph, why_no_cut
from rdi_tf.models.macs import layer_macs


def attach_branches(backbone, at, branch="light", num_classes=None, *, backbone_name=None, dropout=0.5):
    """Make a multi-exit network of a classifier. Its layers and weights are shared with it, not copied.

    A softmax at the end is taken off: every exit of the network gives logits. A dense layer that has the softmax in
    itself is copied for that, so that training the network leaves that layer of the classifier behind.

    Args:
      backbone: functional (or built Sequential) tf_keras model, one image input (batch, height, width, channels), one
        output (batch, classes). Models inside it are dissolved into their layers.
      at: names of the layers after which branches leave, in the order of computation (see `cut_points`).
      branch: branch design: a name in `BRANCHES`, or a function of the same form.
      num_classes: number of classes that is expected of the backbone; None expects nothing.
      backbone_name: name in `BACKBONES` if it is one of those; branch "paper" needs it.
      dropout: dropout rate of branches that have dropout.

    Returns:
      Functional model: images -> list of logits, each (batch, classes) float32, in exit order, from layers named
      "branch_1", …, "main".

    Raises:
      ConfigError: a model that is no such classifier or whose output cannot be turned into logits, an unknown branch
        design, or a layer after which no branch can leave.
    """
    design = _design(branch)
    trunk = _trunk(backbone)
    classes = trunk.outputs[0].shape[-1]
    if num_classes not in (None, classes):
        raise ConfigError(f"num_classes: expected the model's own {classes}, got {num_classes}")
    points = _points(trunk, at)
    _check_names(trunk, len(points))
    exits = []
    for index, features in enumerate(points):
        name = f"branch_{index + 1}"
        try:
            logits = design(features, classes, index, backbone=backbone_name, prefix=name, dropout=dropout)
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            kind = branch if isinstance(branch, str) else "such"
            shape, reason = tuple(features.shape[1:]), str(error).strip().splitlines()[0]
            raise ConfigError(f"exits: no {kind} branch fits {at[index]!r} of shape {shape}: {reason}") from error
        exits.append(_exit(logits, name))
    return keras.Model(trunk.inputs[0], [*exits, _exit(trunk.outputs[0], "main")], name=f"rdi_{backbone.name}")


def suggest_exits(model, count):
    """Choose places for exits so that equal shares of the executed multiply-adds lie between them.

    Args:
      model: functional tf_keras classifier with fixed image size.
      count: number of early exits, at least 0.

    Returns:
      Tuple of layer names, in order, for `attach_branches`: of the cut points with feature maps, after each
      activation, sum or batch norm where there is one.

    Raises:
      ConfigError: a negative count, more exits than there are places, or a model whose costs are unknown.
    """
    model = flatten(model)
    total = sum(layer_macs(node)[0] for node in ordered_nodes(model.outputs[-1:]))
    places = _places(model)
    if not 0 <= count <= len(places):
        raise ConfigError(f"count: expected 0 to {len(places)} exits in {model.name!r}, got {count}")
    chosen, first = [], 0
    for index in range(count):
        target = total * (index + 1) / (count + 1)
        candidates = range(first, len(places) - (count - index) + 1)  # leaves places for the exits to come
        best = min(candidates, key=lambda place: abs(places[place][0] - target))
        chosen.append(places[best][1])
        first = best + 1
    return tuple(chosen)


def _places(model):
    """(multiply-adds until there, layer name) of one cut point for each different amount of work."""
    groups = {}
    for node in cut_nodes(model.outputs[-1]):
        (tensor,) = node_tensors(node)
        if len(tensor.shape) == 4:
            macs = sum(layer_macs(before)[0] for before in ordered_nodes([tensor]))
            groups.setdefault(macs, []).append(node.layer)
    groups.pop(0, None)  # nothing has been computed yet
    return [(macs, _preferred(layers)) for macs, layers in groups.items()]


def _preferred(layers):
    def rank(layer):
        kind = type(layer).__name__
        if "ReLU" in kind or _activation(layer) not in (None, "linear"):
            return 3
        return 2 if kind in ("Add", "Concatenate", "TFOpLambda") else int("Normalization" in kind)

    return max(reversed(layers), key=rank).name


def _design(branch):
    if callable(branch):
        return branch
    if branch not in BRANCHES:
        raise ConfigError(f"branch: expected one of {', '.join(BRANCHES)}, got {branch!r}")
    return BRANCHES[branch]


def _exit(logits, name):
    # a layer of its own, so that exits have the same names in every architecture and stay float32 in mixed precision
    return keras.layers.Activation("linear", dtype="float32", name=name)(logits)


def _trunk(backbone):
    """The backbone flattened, ending in logits."""
    require_graph(backbone, "model")
    shape = backbone.outputs[0].shape
    if len(backbone.outputs) != 1 or len(shape) != 2 or shape[-1] is None:
        shapes = [tuple(tensor.shape) for tensor in backbone.outputs]
        raise ConfigError(f"model: expected one output (batch, classes), got {shapes}")
    model = flatten(backbone)
    logits = _logits(model.outputs[0])
    return model if logits is model.outputs[0] else keras.Model(model.inputs[0], logits, name=model.name)


def _logits(tensor):
    """The logits behind a classifier's output tensor."""
    node = tensor.node
    layer = node.layer
    if isinstance(layer, keras.layers.Softmax) or "softmax" in str(getattr(layer, "symbol", "")):
        return _logits(node.keras_inputs[0])
    name = _activation(layer)
    if isinstance(layer, keras.layers.Activation) and name in ("softmax", "linear"):
        return _logits(node.keras_inputs[0])
    if name == "softmax" and type(layer) is keras.layers.Dense:
        linear = keras.layers.Dense.from_config({**layer.get_config(), "activation": "linear"})
        logits = linear(node.keras_inputs[0])
        linear.set_weights(layer.get_weights())
        return logits
    if name not in (None, "linear"):
        kind = type(layer).__name__
        raise ConfigError(f"model: expected logits or a softmax at the end, got {layer.name!r} ({kind}, {name!r})")
    return tensor


def _activation(layer):
    """Name of a layer's activation function, None for a layer that has none."""
    activation = getattr(layer, "activation", None)
    return None if activation is None else keras.activations.serialize(activation)


def _points(trunk, at):
    """Output tensors of the layers named in `at`."""
    if isinstance(at, str):
        raise ConfigError(f"exits: expected a list of layer names, got the string {at!r}")
    nodes = {node.layer.name: node for node in cut_nodes(trunk.outputs[0])}
    for name in at:
        if name not in nodes:
            raise ConfigError(f"exits: no branch can leave after {name!r}: {why_no_cut(trunk, str(name))}")
    ordered = [point.layer for point in cut_points(trunk) if point.layer in at]
    if list(at) != ordered:
        raise ConfigError(f"exits: expected each layer once and in the order of computation, {ordered}, got {list(at)}")
    return [node_tensors(nodes[name])[0] for name in at]


def _check_names(trunk, count):
    reserved = ["main", *(f"branch_{index + 1}" for index in range(count))]
    for layer in trunk.layers:
        if layer.name in reserved or layer.name.startswith(tuple(f"{name}_" for name in reserved[1:])):
            raise ConfigError(f"model: its layer {layer.name!r} has a name that an exit needs; rename it")
