"""Checkpoints of a run that is under way: whole or not there, the newest two kept, a damaged one passed over."""

import contextlib
import errno
import os
import secrets
import shutil
import sys

import tensorflow as tf

from rdi_tf.errors import CheckpointError, TrainingError
from rdi_tf.runs import flush_to_disk

KEPT = 2
_STATE = "state"
_OURS = ("ckpt-", ".ckpt-", "checkpoint")  # the last is TensorFlow's own list, which older runs have
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Checkpoints:
    """The checkpoints of one run: `<folder>/ckpt-<iteration>/`, each a TensorFlow checkpoint named `state`.

    A checkpoint is written under another name and renamed when all of it is on disk, so that a process that is killed
    leaves none that is half there. Old ones are deleted only then.
    """

    def __init__(self, folder, **parts):
        """Prepare.

        Args:
          folder: where they lie; a `Path`.
          **parts: what they hold, objects that `tf.train.Checkpoint` takes, with all their variables made.
        """
        self._folder = folder
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._known_good = []

    def save(self, iteration):
        """Write a checkpoint; of those before, the newest is kept.

        Args:
          iteration: number of finished iterations.

        Raises:
          OSError, tf.errors.OpError: it could not be written; all that was there before is left as it was.
        """
        place = self._folder / f"ckpt-{iteration}"
        if place in self._known_good:
            return
        temporary = self._folder / f".{place.name}.{secrets.token_hex(4)}"
        try:
            temporary.mkdir()
            self._checkpoint.write(str(temporary / _STATE))
            for path in [*temporary.iterdir(), temporary]:
                flush_to_disk(path)
            if place.exists():  # damaged, or ahead of the one that was gone back to
                _remove(place)
            temporary.replace(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._known_good = [place, *self._known_good][:KEPT]
        for path in self._folder.iterdir():
            if path.name.startswith(_OURS) and not any(_belongs(path, place) for place in self._known_good):
                _remove(path)

    def restore(self):
        """Go back to the newest checkpoint that can be read; says on standard error which ones cannot.

        Returns:
          Whether there was one.

        Raises:
          CheckpointError: there are checkpoints, but none that can be read and fits.
        """
        problems = []
        for place, prefix in self._newest_first():
            try:
                # A part that the file does not have would keep the weights it was made with, without a word.
                self._checkpoint.read(str(prefix)).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, IndexError, ValueError, OSError) as error:
                problems.append(f"{place}: a checkpoint that does not fit: {str(error).splitlines()[0]}")
                continue
            for problem in problems:
                print(f"{problem}; going on from the one before, {place.name}", file=sys.stderr)
            self._known_good = [place]
            return True
        if problems:
            raise CheckpointError("; ".join(problems) + "; no checkpoint can be read")
        if any(not path.name.startswith(".") for path in self._folder.iterdir()):
            raise CheckpointError(f"{self._folder}: holds something, but no checkpoint; mend or empty it")
        return False

    def _newest_first(self):
        """Pairs of (folder or index file, prefix). Older runs have their checkpoints as files in one folder."""
        found = {}
        for path in self._folder.glob("ckpt-*"):
            number = path.name.removeprefix("ckpt-").removesuffix(".index")
            if number.isdecimal():
                found[int(number)] = path, (path / _STATE if path.is_dir() else path.with_suffix(""))
        return [found[number] for number in sorted(found, reverse=True)]


@contextlib.contextmanager
def full_disk_explained(place):
    """Context manager: turns what a full disk makes others raise into a `TrainingError` that says so.

    Args:
      place: folder that is written to, named in the message.
    """
    try:
        yield
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        reason = _reason_of_full_disk(error)
        if reason is None:
            raise
        raise TrainingError(
            f"{place} cannot be written: {reason}. The last checkpoint is whole; make room and give the same command "
            "again, and the run goes on from there"
        ) from error


def _reason_of_full_disk(error):
    """What a full disk is called, if that is what an error tells of; h5py and TensorFlow hide it in their text."""
    codes = [code for code in _FULL if getattr(error, "errno", None) == code or os.strerror(code) in str(error)]
    return os.strerror(codes[0]).lower() if codes else None


def _belongs(path, place):
    """Whether a file is part of a checkpoint; of older runs' several files, the index is what it is known by."""
    return path == place or (place.suffix == ".index" and path.name.startswith(f"{place.stem}."))


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
