"""Layers that several backbones and branches are made of, with PyTorch's padding and initialisation.

Convolutions start He-normal (He et al. 2015, fan in), dense layers with PyTorch's default uniform weights; every bias
starts at zero, where PyTorch draws the biases of its dense layers as well.
"""

from rdi_tf._keras import keras

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


def convolution(features, filters, size, name, *, strides=1, padding=0, use_bias=False):
    """Convolve, padded by the same number of zeros on every side as PyTorch does it.

    Keras' "same" pads a strided convolution of even-sized images at the right and bottom only; that is another
    network. Unstrided convolutions with `padding` = size // 2 are left to "same", which is then identical.

    Args:
      features: tensor (batch, height, width, channels).
      filters: channels that come out.
      size: height and width of the kernel.
      name: name of the convolution; a padding layer is called `<name>_pad`.
      strides: step in both directions.
      padding: zeros on each of the four sides.
      use_bias: add a bias per channel; not needed before batch norm.

    Returns:
      Tensor (batch, height', width', filters).
    """
    same = strides == 1 and padding > 0 and padding == size // 2
    if padding and not same:
        features = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(features)
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same" if same else "valid",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.HeNormal(),
        name=name,
    )(features)


def depthwise(features, size, name, *, strides=1):
    """Convolve every channel by itself, without bias, padded by size // 2 on every side.

    Args:
      features: tensor (batch, height, width, channels).
      size: height and width of the kernel, odd.
      name: name of the convolution; a padding layer is called `<name>_pad`.
      strides: step in both directions.

    Returns:
      Tensor (batch, height', width', channels).
    """
    if strides > 1:
        features = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(features)
    return keras.layers.DepthwiseConv2D(
        size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        depthwise_initializer=he_normal_depthwise(size),
        name=name,
    )(features)


def he_normal_depthwise(size):
    """He-normal start of a depthwise kernel: each output sees size * size inputs.

    Keras would count the channels in (its fan-in is size * size * channels) and start the kernel far too small.
    """
    return keras.initializers.RandomNormal(stddev=(2.0 / (size * size)) ** 0.5)


def batch_norm(features, name):
    """Normalise per channel as PyTorch does by default: epsilon 1e-5, running averages kept at 0.9."""
    layer = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)
    return layer(features)


def relu(features, name):
    """Rectify."""
    return keras.layers.ReLU(name=name)(features)


def dense(features, units, name):
    """Fully connected layer without activation, weights uniform in +-1/sqrt(fan in) as in PyTorch.

    Args:
      features: tensor (batch, channels).
      units: channels that come out.
      name: the layer's name.

    Returns:
      Tensor (batch, units).
    """
    initializer = keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform")
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name)(features)


def own_name(weight):
    """A weight's name within its layer, as "kernel": without the layers it lies in, and without TensorFlow's ":0"."""
    return weight.name.split("/")[-1].split(":")[0]
