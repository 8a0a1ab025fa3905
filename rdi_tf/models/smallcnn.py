"""SmallCNN, the MNIST backbone: four convolutions and three dense layers.

Source: Hu et al., "Triple Wins" (ICLR 2020), section 4.1; the network itself is TRADES' SmallCNN (Zhang et al. 2019).
"""

from rdi_tf._keras import keras
from rdi_tf.models.layers import convolution, dense, relu


def build(model_config):
    """Build the plain backbone.

    Layers: conv1 (32), conv2 (32), pool1, conv3 (64), conv4 (64), pool2, flatten, dense1 (200), dropout,
    dense2 (200), logits; each convolution valid, 3x3, with bias, followed by `conv<i>_relu`.

    Args:
      model_config: a `ModelConfig`; input_shape, num_classes and dropout are used.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> logits (batch, classes).
    """
    images = keras.Input(model_config.input_shape, name="image")
    x = images
    for index, filters in enumerate((32, 32, 64, 64), start=1):
        x = relu(convolution(x, filters, 3, f"conv{index}", use_bias=True), f"conv{index}_relu")
        if index % 2 == 0:
            x = keras.layers.MaxPooling2D(2, name=f"pool{index // 2}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = relu(dense(x, 200, "dense1"), "dense1_relu")
    x = keras.layers.Dropout(model_config.dropout, name="dropout")(x)
    x = relu(dense(x, 200, "dense2"), "dense2_relu")
    return keras.Model(images, dense(x, model_config.num_classes, "logits"), name="smallcnn")


def default_exits(model_config):
    """The paper's exit positions: after the first and the third convolution, ReLU included."""
    return ("conv1_relu", "conv3_relu")
