"""Quantisation-aware networks: the int8 arithmetic of the exported files, simulated while training.

tfmot's 8-bit scheme, with three departures. A convolution or dense layer before a ReLU keeps its weights quantised
(tfmot's scheme drops that together with the quantisation of the layer's output, and would train other weights than the
int8 files hold). An exit's logits are quantised once, not twice in a row. And all ranges start from what the float
network shows, where tfmot starts at -6 to 6 and takes thousands of iterations to forget it.

Gradients pass the rounding as if it were not there, and are zero where a value is clipped, as the exported files clip
it too. Pixels of 0 and 1 lie inside the range of the first quantiser, which is all of [0, 1].

Source: Jacob et al., "Quantization and Training of Neural Networks" (CVPR 2018), section 3.
"""

import json

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models import flatten
from rdi_tf.models.graph import node_tensors, ordered_nodes
from rdi_tf.models.layers import own_name
from rdi_tf.network import RDINet

_SCHEME = tfmot.quantization.keras.default_8bit
_KERNELS = {"Conv2D": "kernel", "DepthwiseConv2D": "depthwise_kernel", "Dense": "kernel"}
# How tfmot names the variables of a quantiser of activations: at the end of a layer, or after its activation function.
_RANGES = (("output_min", "output_max"), ("post_activation_min", "post_activation_max"))


class _Layout(tfmot.quantization.keras.QuantizeLayoutTransform):
    """tfmot's layout, weights before a ReLU included."""

    def apply(self, model, layer_quantize_map):
        model, configs = _SCHEME.Default8BitQuantizeLayoutTransform().apply(model, layer_quantize_map)
        registry = _SCHEME.Default8BitQuantizeRegistry()
        for layer in model.layers:
            chosen = configs.get(layer.name, {}).get("quantize_config")
            kernel = _KERNELS.get(type(layer).__name__)
            if kernel is not None and type(chosen).__name__ == "NoOpQuantizeConfig":  # has no public name
                weights_only = type(registry.get_quantize_config(layer))([kernel], [], False)
                configs[layer.name] = {"quantize_config": weights_only}
        return model, configs


class _Scheme(_SCHEME.Default8BitQuantizeScheme):
    def get_layout_transformer(self):
        return _Layout()


def quantize(network):
    """Put simulated int8 arithmetic around every layer of a network.

    Args:
      network: functional multi-exit network, see `rdi_tf.network.RDINet`.

    Returns:
      A new functional network with copies of the weights; layers, and so exits, keep their names. Its ranges are
      those of `start_ranges`, or learned; before either they mean nothing.

    Raises:
      ConfigError: a layer that the 8-bit scheme does not know.
    """
    network, exits = flatten(network), set(network.output_names)
    nothing = _SCHEME.Default8BitQuantizeRegistry().get_quantize_config(keras.layers.Flatten())

    def annotate(layer):
        # An exit repeats the logits of the layer before it, which are quantised already.
        config = nothing if layer.name in exits else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    try:
        annotated = keras.models.clone_model(network, clone_function=annotate)
        annotated.set_weights(network.get_weights())
        with tfmot.quantization.keras.quantize_scope():
            return tfmot.quantization.keras.quantize_apply(annotated, _Scheme(), quantized_layer_name_prefix="")
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"network: cannot be trained for int8: {reason}") from error


@keras.saving.register_keras_serializable("rdi_tf")
class QuantizedRDINet(RDINet):
    """An RDINet that computes as its int8 export will. Its file holds the float structure, and is wrapped anew."""

    def __init__(self, network, config=None, thresholds=None, calibrated_on=None, **kwargs):
        """Quantise a functional multi-exit network (float, its weights are copied); arguments as for `RDINet`."""
        self_contained = json.dumps(keras.saving.serialize_keras_object(network))
        super().__init__(quantize(network), config, thresholds, calibrated_on, **kwargs)
        self._float_structure = self_contained

    def get_config(self):
        """As `RDINet`'s; the network is the float one, without weights."""
        return {**super().get_config(), "network": json.loads(self._float_structure)}


def is_quantized(network):
    """Whether a functional network simulates int8 arithmetic."""
    return any(isinstance(layer, tfmot.quantization.keras.QuantizeWrapper) for layer in network.layers)


def start_ranges(quantized, network, images, batch_size=128):
    """Set every range of a quantised network to what its float original shows.

    Args:
      quantized: what `quantize` made of `network`.
      network: the float network.
      images: float32 (n, height, width, channels) in [0, 1]; clean and attacked ones, as it will see.
      batch_size: images at a time.
    """
    network = flatten(network)
    found = _activation_ranges(network, images, batch_size)
    for layer in quantized.layers:
        variables = {own_name(weight): weight for weight in layer.weights}
        for low, high in _RANGES:
            if low in variables:
                variables[low].assign(found[layer.name][0])
                variables[high].assign(found[layer.name][1])
        for name in set(_KERNELS.values()):
            if f"{name}_min" in variables:
                bound = _kernel_bound(getattr(network.get_layer(layer.name), name), variables[f"{name}_min"].shape)
                variables[f"{name}_min"].assign(-bound)
                variables[f"{name}_max"].assign(bound)
        if f"{layer.name}_max" in variables:  # the quantiser of the images
            variables[f"{layer.name}_min"].assign(0.0)
            variables[f"{layer.name}_max"].assign(1.0)


def _activation_ranges(network, images, batch_size):
    """Smallest and largest value of each layer's output, 0 included (int8 must represent it), by layer name."""
    nodes = ordered_nodes(network.outputs)
    tensors = [node_tensors(node)[0] for node in nodes]
    extremes = keras.Model(network.inputs, [tf.stack([tf.reduce_min(t), tf.reduce_max(t)]) for t in tensors])
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    found = np.array([extremes.predict_on_batch(part) for part in parts])
    lows, highs = np.minimum(found[..., 0].min(axis=0), 0.0), np.maximum(found[..., 1].max(axis=0), 0.0)
    return {node.layer.name: (low, high) for node, low, high in zip(nodes, lows, highs, strict=True)}


def _kernel_bound(kernel, shape):
    """Largest absolute weight, per output channel where `shape` has an axis for them."""
    return np.abs(kernel.numpy()).max(axis=tuple(range(len(kernel.shape) - len(shape))))


def output_range(network, layer_name):
    """The range to which a quantised network rounds what a layer puts out.

    Args:
      network: a network of `quantize`.
      layer_name: a layer; pooling and the like, which only pass values on, have the range of the layer before them.

    Returns:
      (lowest, highest) value, floats.

    Raises:
      ConfigError: nothing before it is quantised.
    """
    (node,) = [node for node in ordered_nodes(network.outputs) if node.layer.name == layer_name]
    while True:
        variables = {own_name(weight): weight for weight in node.layer.weights}
        for low, high in (*_RANGES, (f"{node.layer.name}_min", f"{node.layer.name}_max")):
            if low in variables:
                return float(variables[low]), float(variables[high])
        if len(node.keras_inputs) != 1:
            raise ConfigError(f"network: what {layer_name!r} puts out is not quantised")
        (tensor,) = node.keras_inputs
        node = tensor.node
