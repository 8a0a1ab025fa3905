"""On which images thresholds were chosen, kept beside them in the model file. NumPy only.

Thresholds that were chosen on the images of an evaluation flatter it; without a record nobody can tell afterwards.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CalibrationSource:
    """The images behind a network's thresholds.

    Attributes:
      dataset: name of the data set.
      split: "train", "validation" or "test".
      images: number of images, their adversarial versions not counted.
      digest: `image_digest` of them.
    """

    dataset: str
    split: str
    images: int
    digest: str


def image_digest(images):
    """Name a set of images by its content.

    Args:
      images: float array (n, height, width, channels).

    Returns:
      str: hexadecimal SHA-256 of shape and float32 values.
    """
    images = np.ascontiguousarray(images, np.float32)
    return hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
