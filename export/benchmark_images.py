"""Real images for a benchmark, from an NPZ file. NumPy only."""

from pathlib import Path

from rdi_tf.errors import DataError
from rdi_tf.npz import readable_npz

ADVERSARIAL = "adversarial"


def load_images(path, set_name=None, limit=None):
    """Read images and their labels.

    Args:
      path: NPZ file with arrays `labels` (optional) and one or more sets of images, float (n, height, width, channels)
        in [0, 1]: `images`, or as `rdi-tf evaluate --save-images` writes them `clean`, `max_average`, `slowdown`.
      set_name: the set; "adversarial" means `max_average` where there is none of that name; None for `images`, or else
        `clean`.
      limit: the first so many; None for all.

    Returns:
      (images, labels, source): labels None where the file has none; source in words, for the record.

    Raises:
      DataError: no such file, or no such set in it.
    """
    with readable_npz(path) as arrays:
        names = [name for name in arrays if arrays[name].ndim == 4]
        if set_name == ADVERSARIAL and ADVERSARIAL not in names:
            set_name = "max_average"
        chosen = set_name or next((name for name in ("images", "clean") if name in names), None)
        if chosen not in names:
            wanted = repr(set_name) if set_name else "'images' or 'clean'"
            raise DataError(f"{path}: expected a set of images {wanted}, got {', '.join(names) or 'none'}")
        images = arrays[chosen][:limit]
        labels = arrays["labels"] if "labels" in arrays else None
        if labels is not None and labels.ndim != 1:
            raise DataError(f"{path}: labels: expected shape (n,), got {labels.shape}")
        labels = None if labels is None else labels[:limit]
    return images, labels, f"set {chosen!r} of {Path(path).name}"
