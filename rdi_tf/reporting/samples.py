"""Example images that an evaluation kept (`rdi-tf evaluate --save-images`), read back. No TensorFlow."""

import json
from dataclasses import dataclass

import numpy as np

from rdi_tf.npz import readable_npz

FILE = "images.npz"
VERSIONS = {"clean": "clean", "adversarial": "max_average", "slowdown": "slowdown"}


@dataclass(frozen=True)
class Samples:
    """The first images of a test split in several versions.

    Attributes:
      images: dict from "clean", "adversarial" (max-average) and "slowdown" to float32 (n, height, width, channels).
      labels: int array (n,).
      class_names: tuple of strings, in label order.
      attack: how the attacks searched, plain values.
    """

    images: dict
    labels: np.ndarray
    class_names: tuple[str, ...]
    attack: dict


def load_samples(run, count):
    """The first `count` images that a run kept.

    Args:
      run: a `RunFolder`.
      count: how many.

    Returns:
      `Samples`; None if the run kept none.

    Raises:
      DataError: a file that holds something else.
    """
    path = run.evaluation / FILE
    if not path.is_file():
        return None
    with readable_npz(path, "kept images") as arrays:
        return Samples(
            images={version: arrays[name][:count] for version, name in VERSIONS.items() if name in arrays},
            labels=arrays["labels"][:count],
            class_names=tuple(str(name) for name in arrays["class_names"]),
            attack=json.loads(str(arrays["description"]))["attack"],
        )
