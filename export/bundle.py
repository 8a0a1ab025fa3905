"""Bundles: a folder with a manifest, one LiteRT file per stage, the unsplit network and golden vectors. NumPy only."""

import contextlib
import hashlib
import os
import secrets
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.export.manifest import BundleError, File, Manifest
from rdi_tf.export.manifest_rules import MANIFEST
from rdi_tf.runs import flush_to_disk

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
    """

    path: Path
    manifest: Manifest

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
        try:
            text = (path / MANIFEST).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path / MANIFEST} cannot be read: {error}") from error
        try:
            bundle = cls(path, Manifest.from_json(text))
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
            found = self._describe(file)
            if found.bytes != file.bytes:
                raise BundleError(f"{self.file(file)}: expected {file.bytes} bytes, got {found.bytes}: not whole")
            if found.sha256 != file.sha256:
                raise BundleError(f"{self.file(file)}: its SHA-256 is not the one in {MANIFEST}: altered")

    def golden(self):
        """The `GoldenVectors`; a file that does not hold what the manifest promises raises `BundleError`."""
        file = self.file(self.manifest.golden.file)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                vectors = GoldenVectors(**{name: arrays[name] for name in GOLDEN_DTYPES})
        except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{file}: not the golden vectors that were expected: {error}") from error
        for name, shape in self._golden_shapes().items():
            array = getattr(vectors, name)
            if array.shape != shape or array.dtype != GOLDEN_DTYPES[name]:
                wanted = np.dtype(GOLDEN_DTYPES[name])
                raise BundleError(f"{file}: {name}: expected {wanted} {shape}, got {array.dtype} {array.shape}")
        return vectors

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

    def _describe(self, file):
        try:
            return describe_file(self.file(file))
        except FileNotFoundError as error:
            raise BundleError(f"{self.path}: {file.name} is missing") from error
        except OSError as error:
            raise BundleError(f"{self.file(file)} cannot be read: {error.strerror}") from error


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
      overwrite: replace a bundle that is there; never anything else.

    Yields:
      `Path` of the temporary folder, beside the final one. If the block raises, it is removed.

    Raises:
      BundleError: something is there already.
    """
    path = Path(path)
    _check_place(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            flush_to_disk(file)
        _check_place(path, overwrite)
        if path.exists():
            old = path.with_name(f"{temporary.name}.old")
            os.rename(path, old)  # a folder cannot be renamed onto one that is not empty
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_place(path, overwrite):
    if not path.exists():
        return
    if not overwrite:
        raise BundleError(f"{path} exists already; choose another folder, or say that it may be overwritten")
    if not (path / MANIFEST).is_file():
        raise BundleError(f"{path} exists and is not a bundle; it is not overwritten")
