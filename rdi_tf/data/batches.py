"""Data sets: TFDS by name, a folder of images, the built-in digits; training, validation and test split.

Images are float32 (height, width, channels) in [0, 1], labels int32. The splits follow a fixed rule: of the data set's
own training part, in its own fixed order, the examples with index % n == n - 1 (n = `DataConfig.validation_every`) are
for validation and all others for training; the data set's own test part is the test split. A data set without one gives
every fifth example to it first. Pictures in a folder are dealt out by their names instead (`rdi_tf.data.sources`).
"""

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from rdi_tf.data.augmentation import make_augmentation
from rdi_tf.data.checks import check_images, check_labels, check_num_classes
from rdi_tf.data.sources import keep, open_source
from rdi_tf.errors import DataError

__all__ = [
    "SPLITS",
    "ImageDataset",
    "as_arrays",
    "check_images",
    "check_labels",
    "check_num_classes",
    "explain_unreadable",
    "load_dataset",
    "training_batches",
]

SPLITS = ("train", "validation", "test")
MEMORY_LIMIT = 2**30  # bytes of decoded training images that are kept in memory
READ_BATCH = 256  # images that are decoded together
SHUFFLE_BUFFER = 10_000  # encoded examples, for training sets that are not kept in memory
_ORDER, _AUGMENTATION = 0, 1  # streams of random numbers, folded into the seed


@dataclass(frozen=True)
class ImageDataset:
    """One split of a data set, in its fixed order, decoded when it is read.

    Attributes:
      raw: `tf.data.Dataset` of (raw, label) as the source holds them; the label a scalar int32.
      decode: function raw -> image tensor of `input_shape`, uint8 in [0, 255] or float32 in [0, 1].
      dtype: dtype of those images.
      size: number of examples.
      class_names: names of the classes, in label order.
      input_shape: (height, width, channels) of every image.
    """

    raw: tf.data.Dataset
    decode: Callable
    dtype: tf.DType
    size: int
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]

    @property
    def num_classes(self):
        """Number of classes."""
        return len(self.class_names)

    @property
    def examples(self):
        """`tf.data.Dataset` of (image float32 of `input_shape` in [0, 1], label int32), in the fixed order."""
        return self.raw.map(lambda raw, label: (_to_float(self.decode(raw)), label), tf.data.AUTOTUNE)


def load_dataset(config, split, input_shape, data_dir=None, limit=None, download=False):
    """Open one split of a data set.

    Images of another size are resized (bilinear, antialiased); colour images become grey where `input_shape` has one
    channel, grey ones are repeated where it has three.

    Args:
      config: `rdi_tf.config.DataConfig`.
      split: "train", "validation" or "test".
      input_shape: (height, width, channels) that the images get.
      data_dir: folder of prepared TFDS sets; None for TFDS_DATA_DIR, and without that TFDS's own default.
      limit: take the first `limit` examples only; None for all.
      download: let TFDS download and prepare a set that is not there yet.

    Returns:
      An `ImageDataset`.

    Raises:
      DataError: an unknown split, or a data set that is missing or does not hold images with class labels.
    """
    if input_shape[-1] not in (1, 3):
        raise DataError(f"input_shape: expected 1 or 3 channels, got {input_shape[-1]}")
    if split not in SPLITS:
        raise DataError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    _check_limit(limit)
    source = open_source(config.name, "test" if split == "test" else "train", data_dir, download)
    if split != "test":
        every = config.validation_every
        source = keep(source, lambda index: (index % every == every - 1) == (split == "validation"))
    if limit is not None and limit < source.size:
        source = replace(source, examples=source.examples.take(limit), size=limit)
    if not source.size:
        raise DataError(f"data.name: {config.name!r} has no examples for the {split} split")
    raw = source.examples.map(lambda raw, label: (raw, tf.cast(label, tf.int32)))
    shape = tuple(input_shape)
    return ImageDataset(
        raw, lambda item: _fit(source.decode(item), shape), source.dtype, source.size, source.class_names, shape
    )


def as_arrays(dataset, limit=None):
    """Read a split into memory, for evaluation and calibration.

    Args:
      dataset: an `ImageDataset`.
      limit: read the first `limit` examples only; None for all.

    Returns:
      images: float32 (n, height, width, channels) in [0, 1].
      labels: int32 (n,).

    Raises:
      DataError: a limit below 1, or examples that cannot be read.
    """
    _check_limit(limit)
    images, labels = _read(dataset, dataset.size if limit is None else min(limit, dataset.size))
    return (images / np.float32(255) if images.dtype == np.uint8 else images), labels


def _check_limit(limit):
    if limit is not None and limit < 1:
        raise DataError(f"limit: expected at least 1, got {limit}")


def training_batches(config, training, input_shape, num_classes, start_iteration=0, data_dir=None):
    """The endless stream of training batches.

    Every batch is a function of the configuration, the seed and its number alone, augmentation included, so a resumed
    run goes on with exactly the batches that an uninterrupted one would have seen. Epochs follow each other without a
    gap: a batch may hold the end of one and the beginning of the next.

    Training images of less than 1 GiB are decoded once and kept in memory. Larger sets are read again in each epoch and
    shuffled through a buffer.

    Args:
      config: `rdi_tf.config.DataConfig`.
      training: `rdi_tf.config.TrainingConfig`; its `batch_size` and `seed` are used.
      input_shape: (height, width, channels) of the images.
      num_classes: classes of the network.
      start_iteration: number of the first batch.
      data_dir: folder of prepared TFDS sets, see `load_dataset`.

    Returns:
      `tf.data.Dataset` of (images, labels): float32 (batch_size, height, width, channels) in [0, 1], int32
      (batch_size,) or, with mixup or cutmix, float32 (batch_size, num_classes).

    Raises:
      DataError: see `load_dataset`; also a data set of another number of classes.
      ConfigError: an augmentation that these images cannot take.
    """
    augment = make_augmentation(config, input_shape, num_classes)
    dataset = load_dataset(config, "train", input_shape, data_dir)
    check_num_classes(dataset.class_names, num_classes)
    fits = dataset.size * math.prod(input_shape) < MEMORY_LIMIT
    stream = (_memory_stream if fits else _file_stream)(dataset, training, start_iteration)
    seed = _stream_seed(training.seed, _AUGMENTATION)

    def finish(iteration, batch):
        images, labels = batch
        return augment(_to_float(images), labels, tf.random.fold_in(seed, iteration))

    return stream.enumerate(start_iteration).map(finish, tf.data.AUTOTUNE).prefetch(2)


@contextlib.contextmanager
def explain_unreadable():
    """Turn TensorFlow's error about an example that cannot be read into a `DataError`; others pass as they are."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        ours = re.search("DataError: (.*)", error.message)  # raised while a picture was read, and named by TensorFlow
        if not ours and "Iterator::" not in error.message and not isinstance(error, tf.errors.DataLossError):
            raise
        reason = ours[1] if ours else error.message.strip().splitlines()[0]
        raise DataError(f"data.name: cannot decode an image or record: {reason}") from error


def _memory_stream(dataset, training, start_iteration):
    """Batches of decoded images, gathered from memory by a stream of positions."""
    images, labels = (tf.constant(array) for array in _read(dataset, dataset.size))
    seed = _stream_seed(training.seed, _ORDER)
    epoch, offset = divmod(start_iteration * training.batch_size, dataset.size)

    def positions(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(dataset.size), tf.random.fold_in(seed, epoch))
        return tf.data.Dataset.from_tensor_slices(order)

    stream = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max).flat_map(positions).skip(offset)
    batches = stream.batch(training.batch_size, drop_remainder=True)
    return batches.map(lambda index: (tf.gather(images, index), tf.gather(labels, index)))


def _file_stream(dataset, training, start_iteration):
    """Batches of images decoded as they are needed; what lies before the first batch is skipped undecoded."""
    seed = _stream_seed(training.seed, _ORDER)
    epoch, offset = divmod(start_iteration * training.batch_size, dataset.size)

    def one_epoch(epoch):
        epoch_seed = tf.random.fold_in(seed, epoch)  # its first element is the same for all epochs, so draw from it
        number = tf.random.stateless_uniform((), epoch_seed, None, None, tf.int64)
        # The seed of this function's own graph. Without it the global one would count, too, and where that is 0,
        # TensorFlow 2.21 cannot shuffle with a seed that is a tensor.
        tf.compat.v1.set_random_seed(1)
        return dataset.raw.shuffle(min(dataset.size, SHUFFLE_BUFFER), number, reshuffle_each_iteration=False)

    stream = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max).flat_map(one_epoch).skip(offset)
    decoded = stream.map(lambda raw, label: (dataset.decode(raw), label), tf.data.AUTOTUNE)
    return decoded.batch(training.batch_size, drop_remainder=True)


def _stream_seed(seed, stream):
    return tf.random.fold_in(tf.constant([seed, 0], tf.int64), stream)


def _read(dataset, count):
    """The first examples as arrays: images as `dataset.decode` gives them, labels int32."""

    def decode_batch(raw, labels):
        # Some times faster than a map over single examples, whose overhead outweighs decoding a small image.
        return tf.map_fn(dataset.decode, raw, fn_output_signature=dataset.dtype), labels

    batches = dataset.raw.take(count).batch(READ_BATCH).map(decode_batch, tf.data.AUTOTUNE)
    with explain_unreadable():
        images, labels = (np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True))
    if len(labels) != count:
        raise DataError(f"data.name: expected {count} examples, could read {len(labels)}")
    return images, labels


def _to_float(images):
    return tf.cast(images, tf.float32) / 255 if images.dtype == tf.uint8 else images


def _fit(image, input_shape):
    """Give an image the wanted channels and size; a uint8 image stays uint8, rounded after resizing."""
    height, width, channels = input_shape
    image = _with_channels(tf.ensure_shape(image, (None, None, None)), channels)
    if image.shape[:2] != (height, width):
        resized = tf.image.resize(tf.cast(image, tf.float32), (height, width), antialias=True)
        image = tf.cast(tf.round(resized), tf.uint8) if image.dtype == tf.uint8 else resized
    return tf.ensure_shape(image, input_shape)


def _with_channels(image, channels):
    """Convert between grey and colour; a channel for transparency is dropped."""
    if image.shape[-1] == channels:
        return image
    has_colour = tf.shape(image)[-1] >= 3
    if channels == 1:
        return tf.cond(has_colour, lambda: tf.image.rgb_to_grayscale(image[..., :3]), lambda: image[..., :1])
    return tf.cond(has_colour, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1))
