"""Channel pruning: fewer channels in the layers themselves, so that what is left is a smaller dense network.

A convolution's or dense layer's channels can go where everything that takes them can do without: other convolutions
and dense layers lose the inputs, what works channel by channel (batch norm, ReLU, pooling, depthwise convolutions)
loses the channel. Channels that reach a sum or an exit stay, so in residual networks the inner channels of each block
are pruned and the trunk keeps its width.

The channels that go are those with the smallest batch-norm scale, or where no batch norm follows, the smallest L1 norm
of the weights that make them; in every layer the same share.

Source: Liu et al., "Network Slimming" (ICCV 2017) for the scale, Li et al., "Pruning Filters" (ICLR 2017) for the norm.
"""

from dataclasses import dataclass

import numpy as np

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models import flatten
from rdi_tf.models.graph import node_tensors, ordered_nodes, with_replaced
from rdi_tf.models.layers import own_name

# Exactly these classes: one that inherits from them may compute something else.
_PRODUCERS = ("Conv2D", "Dense")
_CHANNELWISE = (
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LeakyReLU",
    "MaxPooling2D",
    "ReLU",
    "ZeroPadding2D",
)
_ACROSS_CHANNELS = ("softmax", "log_softmax")


@dataclass(frozen=True)
class _Channels:
    """Where a tensor's last axis comes from: the layer that makes it, and how often it stands there (after Flatten)."""

    layer: str
    positions: int = 1


def prune_channels(network, share):
    """Take the least important channels out of every layer that can spare them.

    Args:
      network: functional tf_keras model, images of a fixed size.
      share: share of each such layer's channels that goes, 0 < share < 1; one channel at least stays.

    Returns:
      A new functional network with fresh layers of the same names, the weights that stay copied.

    Raises:
      ConfigError: no layer of the network can lose a channel.
    """
    network = flatten(network)
    sources = _channel_sources(network)
    kept = {name: _most_important(network, name, sources, share) for name in _prunable(network, sources)}
    if not kept:
        raise ConfigError("network: no layer can lose channels: all of them reach a sum, an exit or an unknown layer")
    nodes = [node for node in ordered_nodes(network.outputs) if not isinstance(node.layer, keras.layers.InputLayer)]
    fresh = {node.layer.name: _without_weights(node.layer, kept) for node in nodes}
    smaller = with_replaced(network, fresh)
    for node in nodes:
        _copy_weights(node, fresh[node.layer.name], sources, kept)
    return smaller


def _channel_sources(network):
    """`_Channels` of every tensor, by id; None where they cannot be followed."""
    sources = {}
    for node in ordered_nodes(network.outputs):
        layer, kind = node.layer, type(node.layer).__name__
        given = sources[id(node.keras_inputs[0])] if len(node.keras_inputs) == 1 else None
        if kind in _PRODUCERS and _is_plain(layer):
            source = _Channels(layer.name)
        elif kind in _CHANNELWISE and given is not None and _is_channelwise(layer):
            positions = int(np.prod(node.keras_inputs[0].shape[1:-1])) if kind == "Flatten" else 1
            source = _Channels(given.layer, given.positions * positions)
        else:
            source = None
        sources.update((id(tensor), source) for tensor in node_tensors(node))
    return sources


def _is_plain(layer):
    return getattr(layer, "groups", 1) == 1 and getattr(layer, "data_format", "channels_last") == "channels_last"


def _is_channelwise(layer):
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return _is_plain(layer) and getattr(layer, "depth_multiplier", 1) == 1 and activation not in _ACROSS_CHANNELS


def _prunable(network, sources):
    """Names of the layers whose channels can go, in the order of computation."""
    nodes = ordered_nodes(network.outputs)
    names = [node.layer.name for node in nodes]
    fixed = {sources[id(tensor)] for tensor in network.outputs}
    for node in nodes:
        known = type(node.layer).__name__ in (*_PRODUCERS, *_CHANNELWISE) and _is_channelwise(node.layer)
        if not known or names.count(node.layer.name) > 1:
            fixed.update(sources[id(tensor)] for tensor in (*node.keras_inputs, *node_tensors(node)))
    fixed = {source.layer for source in fixed if source is not None}
    makers = [node.layer for node in nodes if type(node.layer).__name__ in _PRODUCERS and _is_plain(node.layer)]
    return [layer.name for layer in makers if layer.name not in fixed and layer.kernel.shape[-1] > 1]


def _most_important(network, name, sources, share):
    """Indices of the channels of a layer that stay, growing."""
    scores = _scores(network, name, sources)
    count = max(1, round((1 - share) * len(scores)))
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _scores(network, name, sources):
    layer = network.get_layer(name)
    for node in ordered_nodes(network.outputs):
        takes = sources.get(id(node.keras_inputs[0])) if len(node.keras_inputs) == 1 else None
        is_norm = type(node.layer).__name__ == "BatchNormalization" and node.layer.scale
        if is_norm and takes is not None and takes.layer == name and takes.positions == 1:
            return np.abs(node.layer.gamma.numpy())
    return np.abs(layer.kernel.numpy()).sum(axis=tuple(range(len(layer.kernel.shape) - 1)))


def _without_weights(layer, kept):
    config = layer.get_config()
    if layer.name in kept:
        config["units" if isinstance(layer, keras.layers.Dense) else "filters"] = len(kept[layer.name])
    return type(layer).from_config(config)


def _copy_weights(node, fresh, sources, kept):
    inputs = _positions_kept(sources, node.keras_inputs[0], kept)
    outputs = kept.get(node.layer.name)
    weights = []
    for weight in node.layer.weights:
        value, own = weight.numpy(), own_name(weight)
        if own == "kernel":
            value = _take(_take(value, inputs, -2), outputs, -1)
        elif own == "depthwise_kernel":
            value = _take(value, inputs, -2)
        elif type(node.layer).__name__ in _PRODUCERS:  # a bias
            value = _take(value, outputs, -1)
        else:  # one number for each channel: batch norm, a depthwise convolution's bias
            value = _take(value, inputs, -1)
        weights.append(value)
    fresh.set_weights(weights)


def _positions_kept(sources, tensor, kept):
    """Indices along a tensor's last axis that stay; None for all."""
    source = sources.get(id(tensor))
    if source is None or source.layer not in kept:
        return None
    channels = tensor.shape[-1] // source.positions
    return (np.arange(source.positions)[:, None] * channels + kept[source.layer]).ravel()


def _take(value, indices, axis):
    return value if indices is None else np.take(value, indices, axis)
