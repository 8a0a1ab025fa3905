"""Multiply-adds of single layers. What a network and its exits cost is in `rdi_tf.costs`."""

import math
import re

from rdi_tf.errors import ConfigError
from rdi_tf.models.graph import node_tensors


def layer_macs(node):
    """Multiply-adds of one node of a layer graph, for one image, and whether they are a convolution's.

    Args:
      node: a Keras node.

    Returns:
      (macs, is_convolution).

    Raises:
      ConfigError: unknown image size, or a layer that may multiply in a way that is not known here.
    """
    layer = node.layer
    while _names(layer) & _WRAPPERS:
        layer = layer.layer
    for name in (base.__name__ for base in type(layer).__mro__):
        if name in LAYER_MACS:
            shapes = [tuple(tensors[0].shape[1:]) for tensors in (node.keras_inputs, node_tensors(node))]
            if None in shapes[0] + shapes[1]:
                raise ConfigError(f"network: the image size at layer {layer.name!r} is unknown; build it with one")
            return LAYER_MACS[name](layer, *shapes), name in _CONVOLUTIONS
    if _names(layer) & _UNCOUNTED_PRODUCTS or _is_product(layer) or (layer.weights and not _names(layer) & _FREE):
        raise ConfigError(
            f"network: what layer {layer.name!r} costs is not known: no entry for {type(layer).__name__} in LAYER_MACS"
        )
    return 0, False


def _names(layer):
    return {base.__name__ for base in type(layer).__mro__}


def _is_product(layer):
    symbol = str(getattr(layer, "symbol", ""))  # of a TensorFlow function used as a layer
    return _PRODUCTS.search(symbol) is not None


def _convolution_macs(layer, input_shape, output_shape):
    # the kernel (height, width, channels in / groups, channels out) is applied once per output position
    return math.prod(output_shape[_positions(layer)]) * math.prod(layer.kernel.shape)


def _transposed_macs(layer, input_shape, output_shape):
    # the kernel (height, width, channels out, channels in) is applied once per input position
    return math.prod(input_shape[_positions(layer)]) * math.prod(layer.kernel.shape)


def _depthwise_macs(layer, input_shape, output_shape):
    return math.prod(output_shape[_positions(layer)]) * math.prod(layer.depthwise_kernel.shape)


def _separable_macs(layer, input_shape, output_shape):
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return math.prod(output_shape[_positions(layer)]) * kernels


def _dense_macs(layer, input_shape, output_shape):
    return math.prod(output_shape[:-1]) * math.prod(layer.kernel.shape)


def _positions(layer):
    """The slice of a shape without batch axis that holds a convolution's positions."""
    return slice(1, None) if layer.data_format == "channels_first" else slice(None, -1)


# class name (subclasses included) -> function (layer, input_shape, output_shape) -> multiply-adds for one image; shapes
# without the batch axis. Names, not classes, so that layers of packages that are not loaded can be listed.
LAYER_MACS = {
    "Conv": _convolution_macs,
    "Conv1DTranspose": _transposed_macs,
    "Conv2DTranspose": _transposed_macs,
    "Conv3DTranspose": _transposed_macs,
    "DepthwiseConv": _depthwise_macs,
    "SeparableConv": _separable_macs,
    "Dense": _dense_macs,
}
_CONVOLUTIONS = frozenset(LAYER_MACS) - {"Dense"}
# have weights, but neither convolve nor connect: neither accounting counts them
_FREE = {
    "BatchNormalizationBase",
    "GroupNormalization",
    "LayerNormalization",
    "LayerScale",
    "Normalization",
    "PReLU",
    "QuantizeLayer",
}
# multiply without having weights; a Lambda may do anything
_UNCOUNTED_PRODUCTS = {"BaseDenseAttention", "Dot", "Lambda"}
_PRODUCTS = re.compile(r"conv(?!ert)|matmul|einsum|tensordot")  # tf.convert_to_tensor multiplies nothing
_WRAPPERS = {"PruneLowMagnitude", "QuantizeWrapper", "QuantizeWrapperV2"}  # tfmot's, around the layer that counts
