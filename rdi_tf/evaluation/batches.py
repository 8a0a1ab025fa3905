"""Finished batches of an evaluation, kept on disk so that one that was killed goes on where it was."""

import contextlib
from pathlib import Path

import numpy as np

from rdi_tf.npz import UNREADABLE
from rdi_tf.runs import atomic_path


class BatchFolder:
    """Exit logits of finished batches in a folder. Among several processes the chief reads and writes it for all."""

    def __init__(self, folder, cluster):
        """Prepare.

        Args:
          folder: where batches are kept; None to keep none.
          cluster: the `rdi_tf.distribution.Cluster` that attacks.
        """
        self._folder = None if folder is None else Path(folder)
        self._cluster = cluster

    def get(self, name, shape, compute):
        """The batch that is kept under a name; computed, and kept, where there is none that can be read.

        Args:
          name: of its file, without suffix.
          shape: of the batch.
          compute: callable () -> float32 array of that shape, called in all processes or in none.

        Returns:
          float32 array of that shape, the same in every process.
        """
        if self._folder is None:
            return compute()
        file, chief = self._folder / f"{name}.npy", self._cluster.is_chief
        batch = _read(file, shape) if chief else None
        (kept,) = self._cluster.any(batch is not None)
        if kept:
            return self._cluster.from_chief(batch if chief else np.zeros(shape, np.float32))
        found = compute()
        if chief:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                np.save(temporary, found)
        return found


def _read(file, shape):
    """The array in a file; None without the file, and where that is damaged or holds another shape."""
    if not file.is_file():
        return None
    with contextlib.suppress(*UNREADABLE):
        batch = np.load(file)
        return batch if batch.shape == tuple(shape) else None
    return None
