"""NPZ files that may come from anywhere: what is wrong with one is a `DataError` that says so."""

import contextlib
import tokenize
import zipfile
import zlib

import numpy as np

from rdi_tf.errors import DataError

# What zipfile and NumPy raise for files that are no zip, cut off, altered, or of another kind.
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def readable_npz(path, what="NPZ"):
    """Context manager: the arrays of an NPZ file, without pickles.

    Args:
      path: the file.
      what: what it should be, in words.

    Yields:
      `numpy.lib.npyio.NpzFile`; arrays are read when they are asked for.

    Raises:
      DataError: the file, or what the block asks of it, cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as {what}: {error}") from error
