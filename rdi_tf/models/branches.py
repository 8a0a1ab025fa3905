"""Branch designs: the layers between a feature map of the trunk and the logits of an early exit.

A design is a function `(features, num_classes, exit_index, backbone, prefix, dropout) -> logits`: the features
(batch, height, width, channels), the number of classes, the exit's position counted from 0, the backbone's name in
`BACKBONES` (None for a foreign model), the prefix of all layer names, and the dropout rate where the design has
dropout. It returns logits (batch, classes). A new design is one function and one line in `BRANCHES`.
"""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models.layers import batch_norm, convolution, dense, depthwise, relu
from rdi_tf.models.resnet import basic_block

LIGHT_GRID = 4
LIGHT_STEPS = 2
RESIDUAL_GRID = 8
RESIDUAL_BLOCKS = 2


def paper_branch(features, num_classes, exit_index, backbone, prefix, dropout):
    """The branch as published. What leaves where is told by the channels, so that other positions have one too.

    Raises:
      ConfigError: a backbone for which the paper has no branches, or a layer that puts out no feature map.

    Source: Hu et al., "Triple Wins" (ICLR 2020), section 4.1. It does not describe MobileNetV2's two branches; here
    they are those of ResNet38 at the same size of feature map: convolutions at 32x32, pool and dense at 8x8.
    """
    if backbone not in _PAPER:
        raise ConfigError(f"branch 'paper': the paper has none for {backbone or 'this model'}, only for {list(_PAPER)}")
    if len(features.shape) != 4:
        raise ConfigError(f"branch 'paper': {prefix} needs a feature map, got features of shape {features.shape[1:]}")
    return _PAPER[backbone](features, num_classes, prefix, dropout)


def _paper_smallcnn(features, num_classes, prefix, dropout):
    x = features
    if x.shape[-1] == 32:  # the wide maps of the first two convolutions; the 64-channel ones go straight to the pool
        x = convolution(x, 16, 3, f"{prefix}_conv", strides=2, use_bias=True)
    x = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool")(x)
    x = keras.layers.Flatten(name=f"{prefix}_flatten")(x)
    x = dense(x, 200, f"{prefix}_dense1")
    x = keras.layers.Dropout(dropout, name=f"{prefix}_dropout")(x)
    x = dense(x, 200, f"{prefix}_dense2")
    return dense(x, num_classes, f"{prefix}_logits")


def _paper_resnet(features, num_classes, prefix, dropout):
    channels = features.shape[-1]
    if channels == 16:
        features = _paper_convolutions(features, prefix)
    elif channels == 32:
        features = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool1")(features)
        features = basic_block(features, 32, f"{prefix}_block")
    return _pool_and_classify(features, num_classes, prefix)


def _paper_mobilenet(features, num_classes, prefix, dropout):
    if features.shape[1] > 16:
        features = _paper_convolutions(features, prefix)
    return _pool_and_classify(features, num_classes, prefix)


def _paper_convolutions(features, prefix):
    x = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool1")(features)
    x = batch_norm(convolution(x, 64, 5, f"{prefix}_conv1", padding=2), f"{prefix}_bn1")
    x = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool2")(relu(x, f"{prefix}_relu1"))
    return batch_norm(convolution(x, 32, 3, f"{prefix}_conv2", padding=1), f"{prefix}_bn2")


_PAPER = {"smallcnn": _paper_smallcnn, "resnet": _paper_resnet, "mobilenetv2": _paper_mobilenet}


def light_branch(features, num_classes, exit_index, backbone, prefix, dropout):
    """A branch that costs next to nothing, so that what an early exit saves is really saved.

    All light branches together cost under 2% of each of the paper's three backbones (`rdi_tf.costs`), which the paper
    promises and its own do not keep; of smaller networks they cost more (about 3% of a SmallCNN at 16x16 pixels and of
    a ResNet14). At most two steps, each a strided depthwise 3x3 convolution and a pointwise one to twice the channels,
    then batch norm and ReLU, until the map is 4x4 or smaller; then global average pool and dense. Why so: early
    features are local and few, so what an early exit lacks is a wider view and more channels, and that is where the
    work goes. Striding before the pointwise convolution quarters the price of the channels; depthwise kernels widen the
    view at a ninth to a hundredth of a full convolution's price. Late maps (up to 4x4) are deep enough for pool and
    dense alone, as in the paper.

    SmallCNN is so cheap itself that its branches must do with less, and keeps its own form (strokes of digits are told
    apart by where they are, so the map is flattened, not pooled; no batch norm, as the backbone). The paper's three
    dense layers have no activations between them, so at inference they are one linear map: here it is one dense
    layer, which can represent all that they can. Branch 2 is the paper's otherwise; in branch 1 a pool, a strided
    depthwise 5x5 and a pointwise convolution to 64 channels with ReLU stand for the full convolution.

    Raises:
      ConfigError: features that are neither a map of known size nor a vector.
    """
    shape = features.shape[1:]
    if len(shape) == 1:
        return dense(features, num_classes, f"{prefix}_logits")
    if len(shape) != 3 or None in shape:
        raise ConfigError(f"branch 'light': {prefix} needs a feature map of known size or a vector, got {tuple(shape)}")
    if backbone == "smallcnn":
        return _light_smallcnn(features, num_classes, prefix)
    for step in range(1, LIGHT_STEPS + 1):
        if max(features.shape[1:3]) <= LIGHT_GRID:
            break
        channels = 2 * features.shape[-1]
        features = depthwise(features, 3, f"{prefix}_depthwise{step}", strides=2)
        features = batch_norm(convolution(features, channels, 1, f"{prefix}_pointwise{step}"), f"{prefix}_bn{step}")
        features = relu(features, f"{prefix}_relu{step}")
    return _pool_and_classify(features, num_classes, prefix)


def _light_smallcnn(features, num_classes, prefix):
    x = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool")(features)
    if features.shape[-1] == 32:
        x = depthwise(x, 5, f"{prefix}_depthwise", strides=2)
        x = relu(convolution(x, 64, 1, f"{prefix}_pointwise", use_bias=True), f"{prefix}_relu")
    return dense(keras.layers.Flatten(name=f"{prefix}_flatten")(x), num_classes, f"{prefix}_logits")


def residual_branch(features, num_classes, exit_index, backbone, prefix, dropout):
    """A branch with work of its own, for an exit at which most images are to leave under attack, too.

    Two of ResNet's basic blocks or more: as many as bring the map to 8x8 or smaller, each halving it and doubling the
    channels, then blocks at that size; global average pool and dense. Robustness takes more capacity than clean
    accuracy does, and an exit is only as robust as what stands before it: in the trunk of a ResNet, where the map
    is still large, the channels are few. After a ResNet's map it costs what two of the trunk's own blocks do, 10% of a
    ResNet38 after its 16x16 maps, and images that go on pay for it, too: one or two exits, late ones, are what it is
    made for. It is not made for trunks of cheap layers: the first one of a SmallCNN costs twice the backbone, the one
    at MobileNetV2's 8x8 maps a quarter of it.

    Raises:
      ConfigError: features that are no map of known size.
    """
    shape = features.shape[1:]
    if len(shape) != 3 or None in shape:
        raise ConfigError(f"branch 'residual': {prefix} needs a feature map of known size, got {tuple(shape)}")
    block = 0
    while block < RESIDUAL_BLOCKS or max(features.shape[1:3]) > RESIDUAL_GRID:
        block += 1
        strides = 2 if max(features.shape[1:3]) > RESIDUAL_GRID else 1
        features = basic_block(features, strides * features.shape[-1], f"{prefix}_block{block}", strides=strides)
    return _pool_and_classify(features, num_classes, prefix)


def _pool_and_classify(features, num_classes, prefix):
    x = keras.layers.GlobalAveragePooling2D(name=f"{prefix}_pool")(features)
    return dense(x, num_classes, f"{prefix}_logits")


BRANCHES = {"paper": paper_branch, "light": light_branch, "residual": residual_branch}
