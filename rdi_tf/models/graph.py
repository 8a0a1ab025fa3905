"""Reading a functional model as a graph: what an output depends on, where it can be cut, and cutting it into stages.

All of it walks backwards from output tensors along the nodes that Keras records (one node per call of a layer), so it
sees only what belongs to the model at hand, even where layers are shared with other models.

Functions that build a model (`flatten`, `split_stages`) call the same layer objects again: weights are shared, and
each called layer gets one more node. `layer.output` of such a layer is then ambiguous and Keras refuses it; nothing
here relies on it.
"""

import difflib
import inspect
from dataclasses import dataclass

import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError


@dataclass(frozen=True)
class CutPoint:
    """A layer whose single output carries everything that the model's output needs: a branch may leave after it.

    Attributes:
      layer: the layer's name.
      kind: the layer's class name.
      shape: shape of its output without the batch axis.
    """

    layer: str
    kind: str
    shape: tuple[int | None, ...]


def ordered_nodes(tensors, stop=()):
    """The nodes on which tensors depend, each after the nodes that it depends on.

    Args:
      tensors: Keras tensors.
      stop: Keras tensors that count as given; nothing behind them is visited.

    Returns:
      List of Keras nodes (`node.layer`, `node.keras_inputs`, `node.outputs`).
    """
    given = {id(tensor) for tensor in stop}
    found, entered = [], set()
    waiting = [(tensor, False) for tensor in reversed(list(tensors))]
    while waiting:
        tensor, complete = waiting.pop()
        node = tensor.node
        if complete:
            found.append(node)
        elif id(tensor) not in given and id(node) not in entered:
            entered.add(id(node))
            waiting.append((tensor, True))
            waiting.extend((parent, False) for parent in reversed(node.keras_inputs))
    return found


def node_tensors(node):
    """The Keras tensors that a node puts out, as a flat list."""
    return tf.nest.flatten(node.outputs)


def is_graph(layer):
    """Whether a layer is a model made of a layer graph that can be read (functional, or a built Sequential)."""
    outputs = getattr(layer, "outputs", None) if isinstance(layer, keras.Model) else None
    if not outputs or not all(keras.backend.is_keras_tensor(tensor) for tensor in outputs):
        return False
    return not any("call" in vars(c) for c in type(layer).__mro__ if not c.__module__.startswith("tf_keras."))


def require_graph(model, argument="model"):
    """Refuse what is not a functional model with one image input.

    Raises:
      ConfigError: not a functional (or built Sequential) tf_keras model, or one with several inputs.
    """
    if not is_graph(model):
        raise ConfigError(f"{argument}: expected a functional tf_keras model that has been built, got {model!r}")
    if len(model.inputs) != 1:
        raise ConfigError(f"{argument}: expected a model with one input, got {len(model.inputs)}: {model.input_names}")


def flatten(model):
    """Dissolve functional models inside a model into their layers, so that a branch can leave from within them.

    Args:
      model: functional tf_keras model.

    Returns:
      `model` itself if it contains none, else a new functional model over the same layers (weights shared).

    Raises:
      ConfigError: not a functional model, or two of its layers have the same name.
    """
    require_graph(model)
    if not any(is_graph(node.layer) for node in ordered_nodes(model.outputs)):
        return model
    known = {id(tensor): tensor for tensor in model.inputs}
    _replay(ordered_nodes(model.outputs, stop=model.inputs), known)
    outputs = [known[id(tensor)] for tensor in model.outputs]
    layers = {id(node.layer): node.layer.name for node in ordered_nodes(outputs)}
    repeated = sorted({name for name in layers.values() if list(layers.values()).count(name) > 1})
    if repeated:
        raise ConfigError(f"model: several of its layers are called {repeated[0]!r}; rename them (layer._name)")
    return keras.Model(model.inputs, outputs, name=model.name)


def with_replaced(model, replacements):
    """The same graph over the same layers (weights shared), except for some.

    Args:
      model: functional model without models inside it (see `flatten`).
      replacements: dict from layer name to the callable that takes the layer's place; called with all that the layer
        was called with.

    Returns:
      A new functional model.
    """
    known = {id(tensor): tensor for tensor in model.inputs}
    _replay(ordered_nodes(model.outputs, stop=model.inputs), known, replacements=replacements)
    return keras.Model(model.inputs, [known[id(tensor)] for tensor in model.outputs], name=model.name)


def _replay(nodes, known, training=None, replacements=()):
    """Call the layers of `nodes` again on the tensors of `known` (by id of the old tensor), and add the new ones."""
    for node in nodes:
        arguments, keywords = tf.nest.map_structure(
            lambda value: known.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        if training is not None and "training" in inspect.signature(node.layer.call).parameters:
            keywords = {**keywords, "training": training}
        if is_graph(node.layer):
            outputs = _replay_model(node, known, keywords.get("training"))
        elif node.layer.name in replacements:
            outputs = tf.nest.flatten(replacements[node.layer.name](*arguments, **keywords))
        else:
            outputs = tf.nest.flatten(node.layer(*arguments, **keywords))
        known.update(zip((id(tensor) for tensor in node_tensors(node)), outputs, strict=True))


def _replay_model(node, known, training):
    model = node.layer
    if len(model.inputs) != len(node.keras_inputs):
        raise ConfigError(f"model: {model.name!r} inside it has {len(model.inputs)} inputs, but was called otherwise")
    pairs = zip(model.inputs, node.keras_inputs, strict=True)
    inner = {id(inside): known[id(outside)] for inside, outside in pairs}
    _replay(ordered_nodes(model.outputs, stop=model.inputs), inner, training)
    return [inner[id(tensor)] for tensor in model.outputs]


def cut_points(model):
    """Find every layer that all paths from the input to the (last) output pass: the places where a branch may leave.

    Args:
      model: functional tf_keras model with one input; of a multi-exit network the last output counts. Models inside
        it are dissolved as `flatten` does.

    Returns:
      List of `CutPoint` in the order of computation, without the input and without the layer of the output itself.

    Raises:
      ConfigError: not such a model.
    """
    return [
        CutPoint(node.layer.name, type(node.layer).__name__, tuple(node_tensors(node)[0].shape[1:]))
        for node in cut_nodes(flatten(model).outputs[-1])
    ]


def cut_nodes(output):
    """Nodes that every path from the input to a Keras tensor passes (its dominators), in order, both ends left out.

    In any order of computation a node is such a dominator if and only if no edge leads from before it to after it:
    every other node is needed for the output, so it lies before or behind a dominator, never beside it.
    """
    nodes = ordered_nodes([output])
    furthest = _furthest_uses(nodes)
    cuts, reach = [], 0
    for position, node in enumerate(nodes):
        inside = 0 < position < len(nodes) - 1
        if inside and reach <= position and _obstacle(nodes, node) is None:
            cuts.append(node)
        reach = max(reach, furthest[position])
    return cuts


def why_no_cut(model, name):
    """Say why no branch may leave after a layer.

    Args:
      model: functional model whose last output is meant, without models inside it (see `flatten`).
      name: name of a layer.

    Returns:
      The reason in words, or None if the layer is a cut point.
    """
    nodes = ordered_nodes([model.outputs[-1]])
    positions = [position for position, node in enumerate(nodes) if node.layer.name == name]
    if not positions:
        names = [node.layer.name for node in nodes]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        return "there is no such layer" + (f"; did you mean {' or '.join(map(repr, close))}?" if close else "")
    position = positions[0]
    if position == 0:
        return "it is the input"
    if position == len(nodes) - 1:
        return "it is the output"
    obstacle = _obstacle(nodes, nodes[position])
    if obstacle:
        return obstacle
    for before, furthest in enumerate(_furthest_uses(nodes)[:position]):
        if furthest > position:
            taker, giver = nodes[furthest].layer.name, nodes[before].layer.name
            return f"{taker!r} takes the output of {giver!r} past it"
    return None


def _obstacle(nodes, node):
    calls = sum(other.layer is node.layer for other in nodes)
    if calls > 1:
        return f"it is called {calls} times"
    tensors = len(node_tensors(node))
    return None if tensors == 1 else f"it has {tensors} outputs"


def _furthest_uses(nodes):
    """For each node the position of the last node that takes an output of it (its own position if none does)."""
    positions = {id(node): position for position, node in enumerate(nodes)}
    furthest = list(range(len(nodes)))
    for position, node in enumerate(nodes):
        for tensor in node.keras_inputs:
            furthest[positions[id(tensor.node)]] = position
    return furthest


def attach_points(network):
    """Find the trunk layer after which each branch of a multi-exit network leaves.

    Args:
      network: functional model with the logits of the exits as outputs, in order, the trunk's last.

    Returns:
      Tuple of layer names, one per branch, in exit order.

    Raises:
      ConfigError: a branch that does not leave from exactly one cut point of the trunk, depends on another branch,
        or leaves before the branch ahead of it.
    """
    require_graph(network, "network")
    return tuple(tensor.node.layer.name for tensor in _attach_tensors(network))


def _attach_tensors(network):
    *branches, main = network.outputs
    trunk = {id(node) for node in ordered_nodes([main])}
    cuts = [id(node) for node in cut_nodes(main)]
    points, earlier, taken = [], -1, set()
    for name, logits in zip(network.output_names, branches, strict=False):
        own = [node for node in ordered_nodes([logits]) if id(node) not in trunk]
        if taken & {id(node) for node in own}:
            raise ConfigError(f"network: exit {name!r} depends on the branch of another exit")
        entries = {id(t): t for node in own for t in node.keras_inputs if id(t.node) in trunk}
        if len(entries) != 1:
            raise ConfigError(f"network: exit {name!r} leaves the trunk at {len(entries)} places, expected one")
        (tensor,) = entries.values()
        layer = tensor.node.layer.name
        if id(tensor.node) not in cuts:
            raise ConfigError(f"network: exit {name!r} leaves after {layer!r}: {why_no_cut(network, layer)}")
        if cuts.index(id(tensor.node)) <= earlier:
            raise ConfigError(f"network: exit {name!r} leaves after {layer!r}, not behind the exit before it")
        earlier = cuts.index(id(tensor.node))
        taken |= {id(node) for node in own}
        points.append(tensor)
    return points


def split_stages(network):
    """Cut a multi-exit network into one model per exit, which run one after another.

    Every layer runs in exactly one stage, so running stages 1 to k costs what the network needs for exit k.

    Args:
      network: functional model with the logits of the exits as outputs, in order, the trunk's last.

    Returns:
      List of functional models, one per exit, sharing the network's weights. The first takes images (batch, height,
      width, channels), every other the feature map of the stage before it. All but the last return
      [logits (batch, classes), features for the next stage]; the last returns its logits alone.

    Raises:
      ConfigError: a network whose branches do not leave from the trunk one behind the other (see `attach_points`).
    """
    network = flatten(network)
    points = [*_attach_tensors(network), None]
    stages, given = [], network.inputs[0]
    for index, (logits, point) in enumerate(zip(network.outputs, points, strict=True)):
        wanted = [logits] if point is None else [logits, point]
        name = network.input_names[0] if index == 0 else "features"
        entry = keras.Input(given.shape[1:], dtype=given.dtype, name=name)
        known = {id(given): entry}
        _replay(ordered_nodes(wanted, stop=[given]), known)
        outputs = [known[id(tensor)] for tensor in wanted]
        stages.append(keras.Model(entry, outputs if point is not None else outputs[0], name=f"stage_{index + 1}"))
        given = point
    return stages
