"""Augmentation of training batches by keras-cv layers, as a function of the batch and a seed.

keras-cv draws from stateful generators, so that a batch would depend on all batches before it, and a resumed run would
see other images than an uninterrupted one. Here every layer gets its draws from a seed instead. Crop and flip take them
as arguments; what has to be replaced inside other layers is replaced in this file only.
"""

import tensorflow as tf

from rdi_tf._keras import keras  # noqa: F401 (chooses the Keras that keras-cv will use)
from rdi_tf.errors import ConfigError


def make_augmentation(config, input_shape, num_classes):
    """Build the augmentation that a configuration asks for.

    Args:
      config: `rdi_tf.config.DataConfig`; `augmentation` names the steps in order, `crop_padding` the crop's padding.
      input_shape: (height, width, channels) of the images.
      num_classes: number of classes, for soft labels.

    Returns:
      Function (images, labels, seed) -> (images, labels): images float32 (batch, height, width, channels) in [0, 1];
      labels int32 (batch,), or float32 (batch, num_classes) once a step mixes images; seed an integer tensor of shape
      (2,). The same arguments give the same result.

    Raises:
      ConfigError: an unknown step, or one that such images cannot take.
    """
    unknown = [name for name in config.augmentation if name not in STEPS]
    if unknown:
        raise ConfigError(f"data.augmentation: expected some of {', '.join(STEPS)}, got {unknown[0]!r}")
    steps = [STEPS[name](config, input_shape, num_classes) for name in config.augmentation]

    def augment(images, labels, seed):
        for index, step in enumerate(steps):
            images, labels = step(images, labels, tf.random.fold_in(seed, index))
        return images, labels

    return augment


def _crop(config, input_shape, num_classes):
    """Pad with zeros on every side, cut the original size out at a uniform position (one for each image)."""
    import keras_cv

    height, width, _ = input_shape
    padding = config.crop_padding
    if 2 * padding >= min(height, width):
        # keras-cv crops by nearest-neighbour sampling, which is exact only below this.
        raise ConfigError(f"data.crop_padding: expected less than half of {height}x{width}, got {padding}")
    layer = keras_cv.layers.RandomCrop(height, width, dtype="float32")

    def step(images, labels, seed):
        images = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        shape = (2, tf.shape(images)[0], 1)
        offsets = tf.random.stateless_uniform(shape, seed, 0, 2 * padding + 1, tf.int32)
        tops, lefts = tf.unstack(tf.cast(offsets, tf.float32) / max(2 * padding, 1))
        return layer.augment_images(images, {"tops": tops, "lefts": lefts}), labels

    return step


def _flip(config, input_shape, num_classes):
    """Mirror every other image, left to right."""
    import keras_cv

    layer = keras_cv.layers.RandomFlip("horizontal", dtype="float32")

    def step(images, labels, seed):
        shape = (tf.shape(images)[0], 1)
        draws = {"flip_horizontals": tf.random.stateless_uniform(shape, seed), "flip_verticals": tf.zeros(shape)}
        return layer.augment_images(images, draws), labels

    return step


STEPS = {"crop": _crop, "flip": _flip}
