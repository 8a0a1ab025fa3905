"""Image files as a bundle's network takes them. Pillow and NumPy only."""

import numpy as np
from PIL import Image

from rdi_tf.data.pictures import read_picture


def read_image(path, preprocessing):
    """Read a picture and bring it to the network's size and colours.

    Args:
      path: an image file, read by `rdi_tf.data.pictures.read_picture` as in training.
      preprocessing: the manifest's `Preprocessing`.

    Returns:
      float32 array (height, width, channels) in [0, 1].

    Raises:
      DataError: no such file, or not an image that can be used.
    """
    picture = read_picture(path).convert("L" if preprocessing.channels == 1 else "RGB")
    size = (preprocessing.width, preprocessing.height)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)  # Pillow's bilinear filter is antialiased
    pixels = np.asarray(picture, np.float32) / np.float32(preprocessing.divide_by)
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)
