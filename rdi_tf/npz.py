"""NPZ files that may come from anywhere: what is wrong with one is a `DataError` that says so."""

import contextlib
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from rdi_tf.errors import DataError

# What zipfile and NumPy raise for files that are no zip, cut off, altered, encrypted, or of another kind.
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Arrays(Mapping):
    """The arrays of an NPZ file by name, each read when it is asked for."""

    def __init__(self, archive):
        """Prepare.

        Args:
          archive: the open `zipfile.ZipFile`.
        """
        self._archive = archive
        self._members = {member.removesuffix(".npy"): member for member in archive.namelist()}

    def __getitem__(self, name):
        return read_member(self._archive, self._members[name])

    def __contains__(self, name):
        return name in self._members  # Mapping would read the array to find out

    def __iter__(self):
        return iter(self._members)

    def __len__(self):
        return len(self._members)


@contextlib.contextmanager
def readable_npz(path, what="NPZ"):
    """Context manager: the arrays of an NPZ file, without pickles.

    Args:
      path: the file.
      what: what it should be, in words.

    Yields:
      `Arrays`.

    Raises:
      DataError: the file, or what the block asks of it, cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Arrays(archive)
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as {what}: {error}") from error


def read_member(archive, member, expected=None):
    """An array of an NPZ file, which is looked at before memory is taken for it.

    Args:
      archive: `zipfile.ZipFile`.
      member: its name in the archive, or its `zipfile.ZipInfo`.
      expected: (shape, dtype) that it has to have; None for any.

    Returns:
      The array.

    Raises:
      ValueError: Python objects, more numbers than bytes, another shape or dtype, or an unknown version of the format.
      Others of UNREADABLE: a file that is damaged.
    """
    info = member if isinstance(member, zipfile.ZipInfo) else archive.getinfo(member)
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise ValueError(f"{name}: unknown version {version} of the .npy format")
        shape, _, dtype = _READ_HEADER[version](stream)
    if expected is not None and (shape, dtype) != expected:
        raise ValueError(f"{name}: expected {expected[1]} {expected[0]}, got {dtype} {shape}")
    # NumPy allocates what a header asks for, and a short deflated entry may inflate to anything.
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{name}: Python objects, or more numbers than bytes")
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
