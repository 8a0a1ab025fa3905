"""MobileNetV2 for CIFAR-sized images, as the paper uses it.

Departures from Sandler et al. (CVPR 2018), all of them the paper's: the stem and the first two groups keep the image's
size, plain ReLU instead of ReLU6, an expansion convolution even at expansion 1, and a 1x1 convolution on the shortcut
where only the channels change.

Source: Hu et al., "Triple Wins" (ICLR 2020), section 4.1.
"""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models.layers import batch_norm, convolution, dense, depthwise, relu

# expansion, channels, repeats, stride of the first
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def build(model_config):
    """Build the plain backbone.

    Layers: conv1, bn1, conv1_relu, then `block1_…` to `block17_…` (see `inverted_residual`), head, head_bn,
    head_relu, pool, logits.

    Args:
      model_config: a `ModelConfig`; input_shape, num_classes and width_multiplier are used.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> logits (batch, classes).

    Raises:
      ConfigError: a width multiplier that is not above 0.
    """
    width = model_config.width_multiplier
    if not width > 0:
        raise ConfigError(f"model.width_multiplier: expected more than 0, got {width}")
    images = keras.Input(model_config.input_shape, name="image")
    x = batch_norm(convolution(images, make_divisible(STEM_CHANNELS * width), 3, "conv1", padding=1), "bn1")
    x = relu(x, "conv1_relu")
    block = 0
    for expansion, channels, repeats, first_strides in GROUPS:
        for repeat in range(repeats):
            block += 1
            strides = first_strides if repeat == 0 else 1
            x = inverted_residual(x, expansion, make_divisible(channels * width), f"block{block}", strides=strides)
    # as in the field's implementations, a narrower network keeps its 1280 last features
    x = batch_norm(convolution(x, make_divisible(HEAD_CHANNELS * max(width, 1.0)), 1, "head"), "head_bn")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(relu(x, "head_relu"))
    return keras.Model(images, dense(x, model_config.num_classes, "logits"), name="mobilenetv2")


def default_exits(model_config):
    """The paper's exit positions: after inverted residual blocks 3 and 12 of 17."""
    return ("block3_out", "block12_out")


def make_divisible(channels, divisor=8):
    """Round a scaled number of channels to a multiple of `divisor`, never down by more than a tenth.

    Source: Sandler et al. (CVPR 2018), the authors' implementation.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def inverted_residual(features, expansion, channels, name, *, strides=1):
    """Expand by 1x1, convolve each channel by 3x3, project by 1x1; add the shortcut unless the size changes.

    Layers: `<name>_expand`, `_expand_bn`, `_expand_relu`, `_depthwise`, `_depthwise_bn`, `_depthwise_relu`,
    `_project`, then either `_out` (batch norm; strides 2), or `_project_bn`, `_shortcut` and `_shortcut_bn` where the
    channels change, and `_out` (sum).

    Args:
      features: tensor (batch, height, width, channels in).
      expansion: factor of the channels in between.
      channels: channels that come out.
      name: prefix of the layers' names.
      strides: step of the depthwise convolution.

    Returns:
      Tensor (batch, height / strides, width / strides, channels).
    """
    entering = features.shape[-1]
    x = batch_norm(convolution(features, expansion * entering, 1, f"{name}_expand"), f"{name}_expand_bn")
    x = relu(x, f"{name}_expand_relu")
    x = batch_norm(depthwise(x, 3, f"{name}_depthwise", strides=strides), f"{name}_depthwise_bn")
    x = convolution(relu(x, f"{name}_depthwise_relu"), channels, 1, f"{name}_project")
    if strides > 1:
        return batch_norm(x, f"{name}_out")
    x = batch_norm(x, f"{name}_project_bn")
    shortcut = features
    if entering != channels:
        shortcut = batch_norm(convolution(features, channels, 1, f"{name}_shortcut"), f"{name}_shortcut_bn")
    return keras.layers.Add(name=f"{name}_out")([x, shortcut])
