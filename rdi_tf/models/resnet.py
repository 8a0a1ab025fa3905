"""ResNet for CIFAR-sized images, of any depth 6n+2: three groups of n basic blocks with 16, 32 and 64 channels.

Or of unequal groups (`group_blocks`): a block costs the same in all three, half the side and twice the channels.

Source: He et al., "Deep Residual Learning" (CVPR 2016), section 4.2, with 1x1 convolution shortcuts as in Hu et al.,
"Triple Wins" (ICLR 2020), section 4.1.
"""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models.layers import batch_norm, convolution, dense, relu

GROUP_CHANNELS = (16, 32, 64)


def build(model_config):
    """Build the plain backbone.

    Layers: conv1, bn1, conv1_relu, then `group<g>_block<b>_…` (see `basic_block`) counted from 1, pool, logits.

    Args:
      model_config: a `ModelConfig`; input_shape, num_classes, depth and group_blocks are used.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> logits (batch, classes).

    Raises:
      ConfigError: a depth that is not 6n+2, or that the groups do not have.
    """
    groups = blocks_of_groups(model_config)
    images = keras.Input(model_config.input_shape, name="image")
    x = batch_norm(convolution(images, GROUP_CHANNELS[0], 3, "conv1", padding=1), "bn1")
    x = relu(x, "conv1_relu")
    for group, (channels, blocks) in enumerate(zip(GROUP_CHANNELS, groups, strict=True), start=1):
        for block in range(1, blocks + 1):
            strides = 2 if group > 1 and block == 1 else 1
            x = basic_block(x, channels, f"group{group}_block{block}", strides=strides)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, dense(x, model_config.num_classes, "logits"), name=f"resnet{model_config.depth}")


def blocks_of_groups(model_config):
    """How many blocks each of the three groups has: `group_blocks`, or n of the depth 6n+2 each.

    Raises:
      ConfigError: a depth that is not 6n+2 with n at least 1, or that the groups do not have.
    """
    groups, depth = model_config.group_blocks, model_config.depth
    if not groups:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ConfigError(f"model.depth: expected 6n+2 (8, 14, 20, …), got {depth}")
        return (blocks,) * len(GROUP_CHANNELS)
    if len(groups) != len(GROUP_CHANNELS) or min(groups) < 1 or 2 * sum(groups) + 2 != depth:
        raise ConfigError(
            "model.group_blocks: expected three numbers from 1 whose sum is (model.depth - 2) / 2 = "
            f"{(depth - 2) / 2:g}, or [] for equal groups, got {list(groups)}"
        )
    return tuple(groups)


def default_exits(model_config):
    """The paper's exit positions: after blocks 2 and 5 of the 6 in each group.

    Others take the same shares: block n/3 rounded (at least 1) and block 5n/6 rounded down, so that ResNet20
    has blocks 1 and 2 of 3. Shallow ones have fewer: block 0 does not exist, positions that coincide count once, and
    nothing leaves after the very last block, where the main exit is.
    """
    groups = blocks_of_groups(model_config)
    places = [
        (group, block)
        for group, blocks in enumerate(groups, start=1)
        for block in sorted({max(1, round(blocks / 3)), blocks * 5 // 6} - {0})
    ]
    return tuple(f"group{group}_block{block}_out" for group, block in places if (group, block) != (3, groups[-1]))


def basic_block(features, channels, name, *, strides=1):
    """Two 3x3 convolutions beside a shortcut.

    Layers: `<name>_conv1`, `_bn1`, `_relu1`, `_conv2`, `_bn2`, then `_shortcut` and `_shortcut_bn` where the shape
    changes, `_add`, `_out` (ReLU).

    Args:
      features: tensor (batch, height, width, channels in).
      channels: channels that come out.
      name: prefix of the layers' names.
      strides: step of the first convolution and the shortcut.

    Returns:
      Tensor (batch, height / strides, width / strides, channels).
    """
    x = batch_norm(convolution(features, channels, 3, f"{name}_conv1", strides=strides, padding=1), f"{name}_bn1")
    x = relu(x, f"{name}_relu1")
    x = batch_norm(convolution(x, channels, 3, f"{name}_conv2", padding=1), f"{name}_bn2")
    shortcut = features
    if strides != 1 or features.shape[-1] != channels:
        shortcut = convolution(features, channels, 1, f"{name}_shortcut", strides=strides)
        shortcut = batch_norm(shortcut, f"{name}_shortcut_bn")
    return relu(keras.layers.Add(name=f"{name}_add")([x, shortcut]), f"{name}_out")
