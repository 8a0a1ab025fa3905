"""Picture files, read in one way by training, evaluation and deployed bundles. Pillow and NumPy only."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rdi_tf.errors import DataError

GREY = ("1", "L", "LA", "La")
SIXTEEN_BITS = "I;16"  # Pillow calls it so, with a letter for the byte order behind it


def read_picture(path):
    """Read a picture as people see it: upright by its orientation mark, without transparency; an animation's start.

    Args:
      path: an image file that Pillow can read.

    Returns:
      Pillow image of mode "L" (grey) or "RGB", 8 bits a channel; 16 bits of grey are scaled to 8.

    Raises:
      DataError: no such file, not an image, or one whose grey levels have no known range (32 bits, floating point).
    """
    try:
        with Image.open(path) as opened:
            return _eight_bits(ImageOps.exif_transpose(opened))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error


def _eight_bits(picture):
    if picture.mode.startswith(SIXTEEN_BITS):
        levels = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"expected 8 or 16 bits a channel, got Pillow's mode {picture.mode!r}, whose range is unknown")
    return picture.convert("L" if picture.mode in GREY else "RGB")
