"""Run folders: which file lies where, and files that appear whole or not at all."""

import contextlib
import errno
import os
import secrets
import sys
from pathlib import Path

from rdi_tf.config import Config
from rdi_tf.errors import CheckpointError, ConfigError

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two processes apart
    fcntl = None

# What file systems say that know no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class RunFolder:
    """The folder of one training run: names of its files and its configuration.

    Make one with `RunFolder.create` (a new run, or the same one resumed) or `RunFolder.open` (a run that exists).

    Attributes:
      path: the folder.
      config_file: config.toml, the run's `Config`.
      model_file: model.keras, the best validation checkpoint with its thresholds inside.
      checkpoints: checkpoints/, what a resumed run starts from.
      history_file: history.csv, one row for each validation.
      training_file: training.json, the command, versions and machine of each start.
      logs: logs/, for TensorBoard.
      evaluation: evaluation/, one JSON file for each evaluation.
      lock_file: lock, an empty file that the process that trains holds locked; it stays there.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config_file = self.path / "config.toml"
        self.model_file = self.path / "model.keras"
        self.checkpoints = self.path / "checkpoints"
        self.history_file = self.path / "history.csv"
        self.training_file = self.path / "training.json"
        self.logs = self.path / "logs"
        self.evaluation = self.path / "evaluation"
        self.lock_file = self.path / "lock"

    @classmethod
    def create(cls, path, config):
        """Make a run folder for `config`, or take the one that is there if it has the same configuration.

        Args:
          path: the folder; may exist if it is empty, hidden files apart, or a run folder.
          config: the run's `Config`.

        Returns:
          The `RunFolder`, with its sub-folders in place.

        Raises:
          CheckpointError: the folder holds something else, a run with another configuration, or cannot be made.
        """
        run = cls(path)
        if run.config_file.exists():
            _refuse_difference(run, config)
        elif run.path.is_dir() and any(not path.name.startswith(".") for path in run.path.iterdir()):
            raise CheckpointError(f"{run.path} is not empty and not a run folder; choose another")
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if not run.config_file.exists():  # first: a process killed here leaves a run folder, or nothing that counts
                write_atomic(run.config_file, config.to_toml())
            for folder in (run.checkpoints, run.logs, run.evaluation):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{run.path} cannot be made a run folder: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path):
        """The run folder at `path`; a folder without config.toml raises `CheckpointError`."""
        run = cls(path)
        if not run.config_file.is_file():
            raise CheckpointError(f"{run.path} is not a run folder: it has no config.toml")
        return run

    @contextlib.contextmanager
    def locked(self):
        """Context manager: no other process trains in this folder meanwhile. One that is killed leaves it free.

        Raises:
          CheckpointError: another process does.
        """
        with open(self.lock_file, "ab") as file:
            if fcntl is not None:
                self._lock(file)
            yield

    def _lock(self, file):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{self.path} is being trained by another process; wait for its end, or choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{self.path}: its file system knows no locks; let no other process train there", file=sys.stderr)

    @property
    def config(self):
        """The run's `Config`, read from config.toml; one that cannot be read raises `CheckpointError`."""
        try:
            return Config.load(self.config_file)
        except ConfigError as error:
            raise CheckpointError(f"{self.config_file}: {error}") from error


def write_atomic(path, content):
    """Write a file that appears whole or not at all.

    Args:
      path: the file; replaced if it exists.
      content: str (written as UTF-8) or bytes.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_path(path):
    """Context manager: a temporary name to write a file under, which takes its own name when the block succeeds.

    The temporary name lies in the same folder, so that the rename is atomic, and ends like the final one, because
    Keras chooses its format by the suffix. If the block raises, the temporary file is removed and `path` is untouched.

    Args:
      path: the file; replaced if it exists. Its folder must exist.

    Yields:
      The temporary `Path`, where no file exists yet.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path):
    """Put a file, or a folder's list of names, on disk before it is renamed: a crash would otherwise leave it empty."""
    is_folder = Path(path).is_dir()
    if is_folder and os.name == "nt":
        return  # Windows opens none, and flushes files only if they may be written to
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_difference(run, config):
    there, wanted = _flat(run.config.to_dict()), _flat(config.to_dict())
    for key in [*wanted, *there]:
        if there.get(key) != wanted.get(key):
            raise CheckpointError(
                f"{run.path} holds a run with another configuration: {key} is {there.get(key)!r} there, "
                f"{wanted.get(key)!r} here; choose another folder"
            )


def _flat(table, prefix=""):
    flat = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
