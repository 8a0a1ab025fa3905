"""Image files as a bundle's network takes them. Pillow and NumPy only."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rdi_tf.errors import DataError


def read_image(path, preprocessing):
    """Read a picture and bring it to the network's size and colours.

    Args:
      path: an image file that Pillow can read. Its orientation mark is obeyed, transparency is dropped.
      preprocessing: the manifest's `Preprocessing`.

    Returns:
      float32 array (height, width, channels) in [0, 1].

    Raises:
      DataError: no such file, or not an image.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("L" if preprocessing.channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error
    size = (preprocessing.width, preprocessing.height)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)  # Pillow's bilinear filter is antialiased
    pixels = np.asarray(picture, np.float32) / np.float32(preprocessing.divide_by)
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)
