"""Where images come from: TFDS sets, folders of images, scikit-learn's digits.

A source is the data set's own training or test part, in its own fixed order, not yet decoded. `rdi_tf.data.batches`
splits, decodes, resizes and batches it.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from rdi_tf.data.pictures import read_picture
from rdi_tf.errors import DataError

TEST_EVERY = 5
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
TEST_PARTS = ("test", "validation", "val")


@dataclass(frozen=True)
class Source:
    """The training or the test part of a data set, not yet decoded.

    Attributes:
      examples: `tf.data.Dataset` of (raw, label): whatever `decode` takes, and a scalar integer.
      decode: function raw -> image tensor (height, width, channels), uint8 in [0, 255] or float32 in [0, 1].
      dtype: dtype of those images.
      size: number of examples.
      class_names: names of the classes, in label order.
      positions: int64 array (size,), the number of each example by which it is dealt out to parts; None where that is
        its place.
    """

    examples: tf.data.Dataset
    decode: Callable
    dtype: tf.DType
    size: int
    class_names: tuple[str, ...]
    positions: np.ndarray | None = None


def keep(source, rule):
    """The examples of a source whose position satisfies a rule.

    Args:
      source: a `Source`.
      rule: function from positions, an integer array, to booleans of the same shape.

    Returns:
      A `Source` of those examples, in the same order.
    """
    positions = np.arange(source.size) if source.positions is None else source.positions
    kept = rule(positions)
    of_place = tf.constant(kept, tf.bool)
    examples = source.examples.enumerate().filter(lambda place, _: of_place[place]).map(lambda _, example: example)
    left = None if source.positions is None else positions[kept]
    return replace(source, examples=examples, size=int(np.count_nonzero(kept)), positions=left)


def open_source(name, part, data_dir=None, download=False):
    """Open a data set's own training or test part.

    A set without a part for testing gives every fifth example (index % 5 == 4) to it.

    Args:
      name: "digits"; a folder's path (absolute, or with a separator in it); else a TFDS name such as "mnist",
        "imagenette/160px-v2" or "cifar10:3.0.2".
      part: "train" or "test".
      data_dir: folder of prepared TFDS sets; None for TFDS_DATA_DIR, and without that TFDS's own default.
      download: let TFDS download and prepare a set that is not there yet.

    Returns:
      A `Source`.

    Raises:
      DataError: no such set or folder, or one that does not hold images with class labels.
    """
    if name == "digits":
        return _split_off_test(_digits(), part)
    path = Path(name).expanduser()
    if _is_folder(name, path):
        return _folder(path, part)
    if _must_be_folder(name, path):
        raise DataError(f"data.name: no folder {name!r}")
    return _tfds(name, part, data_dir, download)


def short_name(name):
    """What a data set is called in results: a folder by its last part, a TFDS set without its version.

    Args:
      name: as `open_source`'s.
    """
    path = Path(name).expanduser()
    return path.name if _is_folder(name, path) or _must_be_folder(name, path) else name.partition(":")[0]


def _is_folder(name, path):
    return ("/" in name or os.sep in name) and path.is_dir()


def _must_be_folder(name, path):
    return path.is_absolute() or name.startswith(("./", "../", "~"))


def _split_off_test(source, part):
    return keep(source, lambda index: (index % TEST_EVERY == TEST_EVERY - 1) == (part == "test"))


def _digits():
    """scikit-learn's 1,797 digits, 8x8x1, levels 0 to 16 scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
    examples = tf.data.Dataset.from_tensor_slices((images, digits.target.astype(np.int32)))
    class_names = tuple(str(name) for name in digits.target_names)
    return Source(examples, lambda image: image, tf.float32, len(images), class_names)


def _folder(root, part):
    """A folder of images: ROOT/CLASS/IMAGE, or ROOT/train/CLASS/IMAGE with ROOT/test (or validation, val) beside it.

    Without the latter about every fifth image is for testing. The checksum of CLASS/IMAGE decides, for validation, too:
    no image changes its part when others come or go, so what was trained on is never tested on. Examples come in the
    order of these checksums, so that the first n of them are of all classes.
    """
    test_folder = next((root / name for name in TEST_PARTS if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test_folder is not None:
        class_names, files = _list_images(root / "train")
        if part == "test":
            test_names, files = _list_images(test_folder)
            if test_names != class_names:
                raise DataError(f"data.name: {test_folder} has classes {test_names}, its train {class_names}")
    else:
        class_names, files = _list_images(root)
        files = [file for file in files if (_checksum(file) % TEST_EVERY == TEST_EVERY - 1) == (part == "test")]
    files.sort(key=lambda file: (_checksum(file), file))
    paths, labels = [os.fsencode(path) for path, _ in files], np.array([label for _, label in files], np.int32)
    positions = np.array([_checksum(file) // TEST_EVERY for file in files], np.int64)
    examples = tf.data.Dataset.from_tensor_slices((tf.constant(paths, tf.string, [len(paths)]), labels))
    return Source(examples, _read_image, tf.uint8, len(files), class_names, positions)


def _checksum(file):
    path, _ = file
    return zlib.crc32(os.fsencode(Path(path.parent.name, path.name)))


def _list_images(folder):
    """Class names, and (path, label) of every image, sorted by class and then by name; hidden files are none."""
    class_names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    files = []
    for label, name in enumerate(class_names):
        entries = sorted(entry for entry in (folder / name).iterdir() if entry.name[0] != ".")
        deeper = next((entry for entry in entries if entry.is_dir()), None)
        if deeper is not None:
            raise DataError(f"data.name: expected images in {folder / name}, got the folder {deeper.name!r}")
        files += [(entry, label) for entry in entries if entry.suffix.lower() in SUFFIXES]
    if len(class_names) < 2 or not files:
        raise DataError(f"data.name: {folder} needs a sub-folder of images ({', '.join(SUFFIXES)}) for each class")
    empty = [name for label, name in enumerate(class_names) if not any(label == other for _, other in files)]
    if empty:
        raise DataError(f"data.name: {folder / empty[0]} holds no image ({', '.join(SUFFIXES)})")
    return class_names, files


def _read_image(path):
    """The pixels of `read_picture`, uint8 (height, width, 1 or 3)."""
    return tf.numpy_function(_pixels, [path], tf.uint8)


def _pixels(path):
    pixels = np.asarray(read_picture(os.fsdecode(path)))
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _tfds(name, part, data_dir, download):
    """A TFDS set, in the order in which it lies on disk.

    Its "train" split is for training. For testing its "test" split is taken, else "validation" (then not used
    otherwise), else every fifth example of "train".
    """
    import tensorflow_datasets as tfds

    builder = _tfds_builder(name, data_dir, download)
    image_key, label_key = _tfds_keys(name, builder.info)
    splits = builder.info.splits
    if "train" not in splits:
        raise DataError(f"data.name: TFDS set {name!r} has no split 'train', only {', '.join(splits)}")
    test_split = next((split for split in TEST_PARTS if split in splits), None)
    split = test_split if part == "test" and test_split else "train"
    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    ).map(lambda example: (example[image_key], example[label_key]))
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    source = Source(examples, image.decode_example, tf.uint8, splits[split].num_examples, tuple(label.names))
    return source if test_split else _split_off_test(source, part)


def _tfds_builder(name, data_dir, download):
    import tensorflow_datasets as tfds
    from absl import logging

    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"data.name: TFDS knows no set {name!r}; expected a name such as 'mnist', 'cifar10' or "
            "'imagenette/160px-v2', 'digits', or a folder such as './images'"
        ) from error
    except (AssertionError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(f"data.name: TFDS cannot open {name!r}: {first_line}") from error
    finally:
        logging.set_verbosity(verbosity)
    if not builder.is_prepared():
        if not download:
            raise DataError(
                f"data.name: no {name!r} in {builder.data_dir}; name the folder that holds it with --data-dir or "
                f'TFDS_DATA_DIR, or let TFDS download it: python -c "import tensorflow_datasets as tfds; '
                f"tfds.builder('{name}').download_and_prepare()\""
            )
        _download(name, builder)
    return builder


def _download(name, builder):
    import tensorflow_datasets as tfds

    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tf.errors.OpError, tfds.download.DownloadError) as error:
        raise DataError(f"data.name: TFDS could not download {name!r}: {error}") from error


def _tfds_keys(name, info):
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")  # sets that users write often leave the keys out
    if len(keys) != 2 or not all(isinstance(key, str) and key in info.features for key in keys):
        raise DataError(f"data.name: TFDS set {name!r} has no (image, label) pairs")
    image, label = (info.features[key] for key in keys)
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(f"data.name: TFDS set {name!r} is not for image classification: {image} and {label}")
    if image.tf_dtype != tf.uint8:
        raise DataError(f"data.name: TFDS set {name!r} has {image.tf_dtype.name} images, expected uint8")
    return keys
