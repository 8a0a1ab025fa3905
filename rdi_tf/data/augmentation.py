"""Augmentation of training batches by keras-cv layers, as a function of the batch and a seed.

keras-cv draws from stateful generators, so that a batch would depend on all batches before it, and a resumed run would
see other images than an uninterrupted one. Here every layer gets its draws from a seed instead: crop and flip take them
as arguments; in mixup, cutmix and RandAugment keras-cv's own draws are replaced, in this file only.
"""

import contextlib
import sys

import tensorflow as tf

from rdi_tf._keras import keras
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
    with _float32_policy():
        steps = [STEPS[name](config, input_shape, num_classes) for name in config.augmentation]

    def augment(images, labels, seed):
        for index, step in enumerate(steps):
            images, labels = step(images, labels, tf.random.fold_in(seed, index))
        return tf.clip_by_value(images, 0.0, 1.0), labels

    return augment


@contextlib.contextmanager
def _float32_policy():
    """Layers made here compute in float32, whatever precision the network trains in."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(policy)


def _keras_cv():
    # It announces its backend on standard output, where the commands write their results.
    with contextlib.redirect_stdout(sys.stderr):
        import keras_cv
    return keras_cv


def _crop(config, input_shape, num_classes):
    """Pad with zeros on every side, cut the original size out at a uniform position (one for each image)."""
    height, width, _ = input_shape
    padding = config.crop_padding
    if 2 * padding >= min(height, width):
        # keras-cv crops by nearest-neighbour sampling, which is exact only below this.
        raise ConfigError(f"data.crop_padding: expected less than half of {height}x{width}, got {padding}")
    layer = _keras_cv().layers.RandomCrop(height, width)

    def step(images, labels, seed):
        images = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        shape = (2, tf.shape(images)[0], 1)
        offsets = tf.random.stateless_uniform(shape, seed, 0, 2 * padding + 1, tf.int32)
        tops, lefts = tf.unstack(tf.cast(offsets, tf.float32) / max(2 * padding, 1))
        return layer.augment_images(images, {"tops": tops, "lefts": lefts}), labels

    return step


def _flip(config, input_shape, num_classes):
    """Mirror an image left to right, with probability 1/2."""
    layer = _keras_cv().layers.RandomFlip("horizontal")

    def step(images, labels, seed):
        shape = (tf.shape(images)[0], 1)
        draws = {"flip_horizontals": tf.random.stateless_uniform(shape, seed), "flip_verticals": tf.zeros(shape)}
        return layer.augment_images(images, draws), labels

    return step


def _mixup(config, input_shape, num_classes):
    """Blend every image and its label with another of the batch, in shares drawn from Beta(0.2, 0.2).

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    draws = _Draws()

    class MixUp(_keras_cv().layers.MixUp):
        def _mixup(self, images):
            order = draws.permutation(tf.shape(images)[0])
            share = draws.beta(tf.shape(images)[:1], self.alpha)
            kept = tf.reshape(share, [-1, 1, 1, 1])
            return kept * images + (1 - kept) * tf.gather(images, order), share, order

    return _mixing_step(MixUp(), draws, num_classes)


def _cutmix(config, input_shape, num_classes):
    """Paste a rectangle of another image of the batch into every image; labels by the area that is left of each.

    Departure from keras-cv: the area is counted in pixels, after the rectangle is cut off at the image's border.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019.
    """
    from keras_cv.src.utils import fill_utils

    draws = _Draws()
    height, width, _ = input_shape

    class CutMix(_keras_cv().layers.CutMix):
        def _cutmix(self, images):
            count = tf.shape(images)[:1]
            order = draws.permutation(count[0])
            side = tf.sqrt(1 - draws.beta(count, self.alpha))
            cut_height, cut_width = (tf.cast(side * length, tf.int32) for length in (height, width))
            row, column = (draws.uniform(count, 0, length, tf.int32) for length in (height, width))

            def paste(target, patch):
                return fill_utils.fill_rectangle(target, column, row, cut_width, cut_height, patch)

            kept = tf.reduce_mean(paste(tf.ones_like(images), tf.zeros_like(images)), axis=[1, 2, 3])
            return paste(images, tf.gather(images, order)), kept, order, row, column, cut_width, cut_height

    return _mixing_step(CutMix(), draws, num_classes)


def _mixing_step(layer, draws, num_classes):
    def step(images, labels, seed):
        draws.start(seed)
        if labels.dtype.is_integer:
            labels = tf.one_hot(labels, num_classes)
        mixed = layer({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    return step


def _randaugment(config, input_shape, num_classes):
    """RandAugment with keras-cv's defaults: 3 operations for each image, magnitude 0.5.

    Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2019.
    """
    draws = _Draws()
    layer = _keras_cv().layers.RandAugment(value_range=(0, 1))
    draws.take_over(layer, layer._random_choice, *layer.layers)

    def step(images, labels, seed):
        def augment_one(image_and_index):
            image, index = image_and_index
            draws.start(tf.random.fold_in(seed, index))
            return layer(image)

        channels = images.shape[-1]
        colour = tf.image.grayscale_to_rgb(images) if channels == 1 else images  # some operations need three channels
        indices = tf.range(tf.shape(images)[0])
        augmented = tf.map_fn(augment_one, (colour, indices), fn_output_signature=tf.float32)
        return tf.ensure_shape(augmented, colour.shape)[..., :channels], labels

    return step


class _Draws:
    """Random numbers from a seed, for layers that would otherwise draw from a generator of their own."""

    def __init__(self):
        self._seed, self._count = None, 0

    def start(self, seed):
        """Take what follows from this seed: an integer tensor (2,)."""
        self._seed, self._count = seed, 0

    def _next(self):
        self._count += 1
        return tf.random.fold_in(self._seed, self._count)

    def uniform(self, shape, minval=0, maxval=1, dtype=tf.float32):
        return tf.random.stateless_uniform(shape, self._next(), minval, maxval, dtype)

    def normal(self, shape, mean, stddev, dtype):
        return tf.random.stateless_normal(shape, self._next(), mean, stddev, dtype)

    def permutation(self, count):
        return tf.random.experimental.stateless_shuffle(tf.range(count), self._next())

    def beta(self, shape, alpha):
        first, second = (tf.random.stateless_gamma(shape, self._next(), alpha) for _ in range(2))
        return first / (first + second)

    def take_over(self, *layers):
        """Replace the generator of keras-cv layers, and the samplers of their strengths."""
        core = _keras_cv().core
        for layer in layers:
            layer._random_generator = self
            for name, value in list(vars(layer).items()):
                if isinstance(value, core.UniformFactorSampler):
                    setattr(layer, name, self._uniform_sampler(value))
                elif isinstance(value, core.NormalFactorSampler):
                    setattr(layer, name, self._normal_sampler(value))

    def _uniform_sampler(self, sampler):
        return lambda shape=(), dtype=tf.float32: self.uniform(shape, sampler.lower, sampler.upper, dtype)

    def _normal_sampler(self, sampler):
        def sample(shape=(), dtype=tf.float32):
            draw = self.normal(shape, sampler.mean, sampler.stddev, dtype)
            return tf.clip_by_value(draw, sampler.min_value, sampler.max_value)

        return sample


STEPS = {"crop": _crop, "flip": _flip, "mixup": _mixup, "cutmix": _cutmix, "randaugment": _randaugment}
