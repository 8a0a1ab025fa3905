"""Bundles: a folder with a manifest, one LiteRT file per stage, the unsplit network and golden vectors. NumPy only."""

import contextlib
import hashlib
import math
import os
import re
import secrets
import shutil
import stat
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.export.manifest import BundleError, File, Manifest
from rdi_tf.export.manifest_rules import MANIFEST
from rdi_tf.npz import UNREADABLE, read_member
from rdi_tf.runs import flush_to_disk

LARGEST_MANIFEST = 2**20  # bytes; a manifest takes some kilobytes
OLD = ".old"  # ends the name of a bundle that is being replaced
RANDOM_BYTES = 4  # of the temporary name of a bundle in the making
ABANDONED = 24 * 3600  # seconds after which nobody is still making one
ENCRYPTED = 1  # bit of a ZIP member's flags
GOLDEN_DTYPES = {
    "images": np.float32,
    "labels": np.int32,
    "exit_logits": np.float32,
    "exits": np.int32,
    "predictions": np.int32,
    "scores": np.float64,
}


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and the answers that every runtime must give.

    Attributes:
      images: float32 (n, height, width, channels) in [0, 1].
      labels: int32 (n,), their true classes.
      exit_logits: float32 (n, exits, classes), those of exits that are not reached included.
      exits: int32 (n,), the exit taken, from 0.
      predictions: int32 (n,), the class called there.
      scores: float64 (n, exits), the exit rule's score at every exit.
    """

    images: np.ndarray
    labels: np.ndarray
    exit_logits: np.ndarray
    exits: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray

    def save(self, path):
        """Write them as NPZ, not compressed, so that any language can read it with a ZIP reader and little more."""
        np.savez(path, **{name: getattr(self, name).astype(dtype) for name, dtype in GOLDEN_DTYPES.items()})


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest holds and whose files are those it names.

    Attributes:
      path: the folder.
      manifest: its `Manifest`.
      sha256: of the manifest's file as it was read, hexadecimal: names the bundle, its files, exit rule and thresholds.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def open(cls, path):
        """Read a bundle and hold every file against its size and checksum.

        Args:
          path: the folder.

        Returns:
          The `Bundle`.

        Raises:
          BundleError: no bundle, a manifest that cannot be used, or a file that is missing, cut off or altered.
        """
        path = Path(path)
        text, digest = _read_manifest(path)
        try:
            bundle = cls(path, Manifest.from_json(text), digest)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        bundle.check_files()
        return bundle

    def file(self, file):
        """Path of a `File` of the manifest."""
        return self.path / file.name

    def check_files(self):
        """Hold every file against its size and checksum.

        Raises:
          BundleError: a file that is missing, cut off or altered.
        """
        for file in self.manifest.files:
            check_file(self.path, file)

    def golden(self):
        """The `GoldenVectors`; a file that does not hold what the manifest promises raises `BundleError`."""
        file, shapes = self.file(self.manifest.golden.file), self._golden_shapes()
        try:
            with zipfile.ZipFile(file) as archive:
                arrays = {name: _read_array(archive, name, shapes[name]) for name in GOLDEN_DTYPES}
        except UNREADABLE as error:
            raise BundleError(f"{file}: not the golden vectors that were expected: {error}") from error
        return GoldenVectors(**arrays)

    def _golden_shapes(self):
        manifest = self.manifest
        n, exits = manifest.golden.images, len(manifest.exit_names)
        shapes = {name: (n,) for name in ("labels", "exits", "predictions")}
        return {
            **shapes,
            "images": (n, *manifest.input_shape),
            "exit_logits": (n, exits, len(manifest.labels)),
            "scores": (n, exits),
        }


def check_file(folder, file):
    """Hold a file of a bundle against its size and checksum.

    Args:
      folder: the bundle's.
      file: its `File` of the manifest.

    Raises:
      BundleError: it is missing, cut off or altered.
    """
    path = folder / file.name
    try:
        size = _size(path)
        if size != file.bytes:
            raise BundleError(f"{path}: expected {file.bytes} bytes, got {size}: not whole")
        found = describe_file(path)
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: {file.name} is missing") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    if found.sha256 != file.sha256:
        raise BundleError(f"{path}: its SHA-256 is not the one in {MANIFEST}: altered")


def _read_manifest(path):
    """(text, SHA-256) of a bundle's manifest; a bundle may come from anywhere, so nothing endless or huge is read."""
    file = path / MANIFEST
    try:
        if _size(file) > LARGEST_MANIFEST:
            raise BundleError(f"{file}: far too large for a manifest")
        content = file.read_bytes()
        return content.decode("utf-8"), hashlib.sha256(content).hexdigest()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from error


def _size(path):
    """Size of a file, or of the one that a link leads to; devices and pipes, which may have no end, are refused."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: expected a file, got something else")
    return status.st_size


def _read_array(archive, name, shape):
    """An array of an NPZ file, which is looked at before memory is taken for it.

    Raises:
      ValueError: compressed, encrypted, of another shape or dtype, shorter than that, or with NaN or infinity.
      KeyError: no such array.
    """
    member, dtype = archive.getinfo(f"{name}.npy"), np.dtype(GOLDEN_DTYPES[name])
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
        raise ValueError(f"{name}: expected it neither compressed nor encrypted")
    if math.prod(shape) * dtype.itemsize > _size(archive.filename):
        raise ValueError(f"{name}: expected {shape}, which is more than the file holds")
    array = read_member(archive, member, (shape, dtype))
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers")
    return array


def describe_file(path):
    """The `File` entry of a file: its name, size and SHA-256."""
    path = Path(path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return File(path.name, path.stat().st_size, digest)


@contextlib.contextmanager
def new_bundle(path, overwrite=False):
    """Context manager: a temporary folder to build a bundle in, which takes its own name when the block succeeds.

    Args:
      path: the bundle's folder.
      overwrite: replace a bundle that is there; never anything else, nor a bundle with files that it does not name.

    Yields:
      `Path` of the temporary folder, beside the final one. If the block raises, it is removed.

    Raises:
      BundleError: something is there already.
    """
    path = Path(os.path.realpath(path))
    _clear_up(path)
    _check_place(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(RANDOM_BYTES)}")
    temporary.mkdir()
    try:
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            flush_to_disk(file)
        _check_place(path, overwrite)
        if path.exists():
            _replace(path, temporary)
        else:
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(path, temporary):
    """Put a folder in the place of another, which stays if that fails: a folder cannot be renamed onto a full one."""
    old = path.with_name(f"{temporary.name}{OLD}")
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old)


def _clear_up(path):
    """Undo what killed processes left: in the middle of `_replace`, or long ago while they made a bundle."""
    made = re.compile(re.escape(f".{path.name}.") + f"[0-9a-f]{{{2 * RANDOM_BYTES}}}({re.escape(OLD)})?")
    for folder in path.parent.glob(".*"):
        match = made.fullmatch(folder.name)
        if match is None:
            continue
        if match[1] and not path.exists():
            os.rename(folder, path)
        elif match[1] or time.time() - folder.stat().st_mtime > ABANDONED:
            shutil.rmtree(folder)


def _check_place(path, overwrite):
    if not path.exists():
        return
    if not overwrite:
        raise BundleError(f"{path} exists already: --output names another folder, --overwrite replaces it")
    try:
        manifest = Manifest.from_json(_read_manifest(path)[0])
    except BundleError as error:
        raise BundleError(f"{path} exists and is not a bundle; it is not overwritten") from error
    foreign = {entry.name for entry in path.iterdir()} - {MANIFEST, *(file.name for file in manifest.files)}
    if foreign:
        raise BundleError(f"{path} holds {min(foreign)!r}, which is not the bundle's; it is not overwritten")
