"""Checks of images and labels that come from outside; NumPy only, so that a device can use them."""

import numpy as np

from rdi_tf.errors import DataError


def check_images(images, input_shape=None):
    """Refuse images that the networks cannot take.

    Args:
      images: array, wanted: floating point (batch, height, width, channels) with values in [0, 1].
      input_shape: (height, width, channels) that the network expects; None to accept any.

    Raises:
      DataError: wrong rank, shape or dtype, a value that is not finite, or a value outside [0, 1].
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise DataError(f"images: expected shape (batch, height, width, channels), got {images.shape}")
    if input_shape is not None and images.shape[1:] != tuple(input_shape):
        raise DataError(f"images: expected {tuple(input_shape)} per image, got {images.shape[1:]}")
    if images.dtype.kind != "f":
        hint = "; divide by 255" if images.dtype == np.uint8 else ""
        raise DataError(f"images: expected floating point values in [0, 1], got {images.dtype}{hint}")
    if images.size == 0:
        return
    low, high = np.minimum.reduce(images, axis=None), np.maximum.reduce(images, axis=None)
    if low >= 0 and high <= 1:  # first, because that is how it is: this runs before every image on a device
        return
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("images: expected finite values, got NaN or infinity")
    hint = "; divide by 255" if low >= 0 and 2 <= high <= 255 else ""
    raise DataError(f"images: expected values in [0, 1], got {low:g} to {high:g}{hint}")


def check_labels(labels, num_classes):
    """Refuse labels that are not class indices.

    Args:
      labels: array, wanted: integers (batch,) in [0, num_classes).
      num_classes: classes of the network.

    Raises:
      DataError: wrong rank or dtype, or a label out of range.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise DataError(f"labels: expected shape (batch,), got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels: expected integers, got {labels.dtype}")
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise DataError(f"labels: expected 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")


def check_num_classes(class_names, num_classes):
    """Refuse a data set whose number of classes is not the network's.

    Args:
      class_names: the data set's class names, in label order.
      num_classes: classes of the network.

    Raises:
      DataError: the numbers differ.
    """
    if len(class_names) != num_classes:
        raise DataError(f"model.num_classes: the data set has {len(class_names)} classes, the network {num_classes}")
