"""Data sets, their splits, and the checks of what users bring."""

import itertools
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rdi_tf.config import DataConfig
from rdi_tf.data import batches as data
from rdi_tf.data.batches import (
    as_arrays,
    check_images,
    check_labels,
    check_num_classes,
    load_dataset,
)
from rdi_tf.data.sources import short_name
from rdi_tf.errors import DataError

MNIST, CIFAR, DIGITS = (28, 28, 1), (32, 32, 3), (8, 8, 1)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """30 PNGs of 4x4x3, file i of class c all of level 80 c + i; beside them things that are no images."""
    root = tmp_path_factory.mktemp("colours")
    for label, name in enumerate(["ash", "birch", "cedar"]):
        (root / name).mkdir()
        for index in range(10):
            pixels = tf.fill((4, 4, 3), tf.constant(80 * label + index, tf.uint8))
            tf.io.write_file(str(root / name / f"{index}.png"), tf.io.encode_png(pixels))
    (root / "ash" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    return str(root)


# Data sets


@pytest.mark.parametrize(
    ("name", "shape", "every", "sizes"),
    [
        ("mnist", MNIST, 12, {"train": 55_000, "validation": 5_000, "test": 10_000}),
        ("cifar10", CIFAR, 10, {"train": 45_000, "validation": 5_000, "test": 10_000}),
    ],
)
def test_sizes_of_the_experiments(tfds_dir, name, shape, every, sizes):
    config = DataConfig(name=name, validation_every=every)
    loaded = {split: load_dataset(config, split, shape, tfds_dir) for split in sizes}
    assert {split: dataset.size for split, dataset in loaded.items()} == sizes
    assert all(dataset.num_classes == 10 for dataset in loaded.values())


@pytest.mark.slow
def test_all_of_mnist_can_be_read(tfds_dir):
    sums = {"train": 0, "validation": 0}
    for split in sums:
        images, labels = as_arrays(load_dataset(DataConfig(name="mnist", validation_every=12), split, MNIST, tfds_dir))
        check_images(images, MNIST)
        sums[split] = np.bincount(labels, minlength=10)
    # The known class counts of MNIST's 60,000 training images.
    total = sums["train"] + sums["validation"]
    assert total.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_first_labels(tfds_dir):
    """As TFDS shows them; every twelfth training example of MNIST is for validation."""
    known = {
        ("mnist", "validation"): [4, 9, 9, 7, 4, 8, 1, 5, 4, 2],
        ("mnist", "test"): [2, 0, 4, 8, 7, 6, 0, 6, 3, 1],
        ("cifar10", "validation"): [9, 4, 5, 7, 0, 7, 0, 1, 3, 8],
        ("cifar10", "test"): [7, 0, 6, 9, 5, 1, 7, 0, 3, 2],
    }
    for (name, split), labels in known.items():
        shape = MNIST if name == "mnist" else CIFAR
        dataset = load_dataset(DataConfig(name=name, validation_every=12), split, shape, tfds_dir)
        assert as_arrays(dataset, 10)[1].tolist() == labels, (name, split)
    assert dataset.class_names[:3] == ("airplane", "automobile", "bird")


def test_split_rule_against_tfds_itself(tfds_dir):
    import tensorflow_datasets as tfds

    everything = tfds.load("cifar10", split="train[:40]", shuffle_files=False, as_supervised=True, data_dir=tfds_dir)
    images, labels = (np.stack(parts) for parts in zip(*everything.as_numpy_iterator(), strict=True))
    config = DataConfig(name="cifar10", validation_every=10)
    expected = {"validation": [9, 19, 29, 39], "train": [index for index in range(40) if index % 10 != 9]}
    for split, indices in expected.items():
        got_images, got_labels = as_arrays(load_dataset(config, split, CIFAR, tfds_dir), len(indices))
        np.testing.assert_array_equal(got_images, images[indices].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(got_labels, labels[indices])
        assert got_images.dtype == np.float32 and got_labels.dtype == np.int32


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits = load_digits()
    index = np.arange(1797)
    rest = index[index % 5 != 4]  # 1438: every fifth is for testing
    position = np.arange(len(rest))
    expected = {
        "test": index[index % 5 == 4],
        "validation": rest[position % 12 == 11],
        "train": rest[position % 12 != 11],
    }
    for split, indices in expected.items():
        images, labels = as_arrays(load_dataset(DataConfig(name="digits", validation_every=12), split, DIGITS))
        np.testing.assert_array_equal(images[..., 0], (digits.images[indices] / 16).astype(np.float32))
        np.testing.assert_array_equal(labels, digits.target[indices])
    assert [len(indices) for indices in expected.values()] == [359, 119, 1319]


def test_digits_grow_to_the_networks_input():
    images, labels = as_arrays(load_dataset(DataConfig(name="digits"), "test", MNIST))
    assert images.shape == (359, 28, 28, 1)
    check_images(images, MNIST)
    check_labels(labels, 10)


def test_examples_and_arrays_agree():
    dataset = load_dataset(DataConfig(name="digits"), "validation", MNIST, limit=20)
    images, labels = as_arrays(dataset)
    examples = list(dataset.examples.as_numpy_iterator())
    assert len(examples) == dataset.size == 20
    np.testing.assert_allclose(np.stack([image for image, _ in examples]), images, atol=1e-6)
    assert [label for _, label in examples] == labels.tolist()


def test_folder_splits(colours):
    config = DataConfig(name=colours, validation_every=3)
    levels = {}
    for split in data.SPLITS:
        dataset = load_dataset(config, split, (4, 4, 3))
        images, labels = as_arrays(dataset)
        assert dataset.class_names == ("ash", "birch", "cedar")
        assert np.all(images == images[:, :1, :1, :1])
        levels[split] = np.round(images[:, 0, 0, 0] * 255).astype(int).tolist()
        assert [level // 80 for level in levels[split]] == labels.tolist()
    dealt = {split: [] for split in data.SPLITS}
    for label, index in itertools.product(range(3), range(10)):
        checksum = zlib.crc32(f"{('ash', 'birch', 'cedar')[label]}/{index}.png".encode())
        rest = "validation" if checksum // 5 % 3 == 2 else "train"
        dealt["test" if checksum % 5 == 4 else rest].append((checksum, 80 * label + index))
    assert levels == {split: [level for _, level in sorted(parts)] for split, parts in dealt.items()}
    assert min(map(len, levels.values())) >= 3 and sum(map(len, levels.values())) == 30


def test_pictures_that_are_added_move_no_other(tmp_path):
    """What was trained on must never be tested on: not after more pictures have come either."""
    split_of = {}
    for round_names in (range(0, 60, 2), range(0, 120, 3), range(40)):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir(exist_ok=True)
            for index in round_names:
                Image.new("L", (4, 4), index).save(tmp_path / name / f"{index:03d}.png")
        for split in data.SPLITS:
            images, labels = as_arrays(load_dataset(DataConfig(name=str(tmp_path)), split, (4, 4, 1)))
            for level, label in zip(np.round(images[:, 0, 0, 0] * 255).astype(int).tolist(), labels, strict=True):
                assert split_of.setdefault((level, int(label)), split) == split
    assert set(split_of.values()) == set(data.SPLITS)


def test_hidden_files_and_names_of_any_bytes(tmp_path):
    for name in (b"cat", b"dog"):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        for index in range(30):
            with open(folder + b"/%d\xe9.png" % index, "wb") as file:
                Image.new("L", (4, 4), index).save(file, "PNG")
        with open(folder + b"/._0.png", "wb") as file:
            file.write(b"what macOS leaves beside pictures")
    sizes = {split: len(as_arrays(load(str(tmp_path), split, shape=(4, 4, 1)))[0]) for split in data.SPLITS}
    assert sum(sizes.values()) == 60


def test_folder_comes_in_a_mixed_order_that_stays(colours):
    labels = as_arrays(load_dataset(DataConfig(name=colours), "train", (4, 4, 3)))[1].tolist()
    again = as_arrays(load_dataset(DataConfig(name=colours), "train", (4, 4, 3)))[1].tolist()
    assert labels == again
    assert labels != sorted(labels) and len(set(labels[:8])) == 3


@pytest.mark.parametrize("test_folder", ["test", "validation", "val"])
def test_folder_with_its_own_test_part(tmp_path, test_folder):
    for part, count in (("train", 40), (test_folder, 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = tf.io.encode_jpeg(tf.zeros((4, 4, 3), tf.uint8))
                tf.io.write_file(str(tmp_path / part / name / f"{index}.JPG"), pixels)
    config = DataConfig(name=str(tmp_path), validation_every=4)
    sizes = {split: load_dataset(config, split, (4, 4, 3)).size for split in data.SPLITS}
    assert sizes["train"] + sizes["validation"] == 80 and 10 <= sizes["validation"] <= 30 and sizes["test"] == 4


def test_images_get_the_networks_channels_and_size(tmp_path):
    pictures = {
        "red": tf.constant([255, 0, 0], tf.uint8) * tf.ones((6, 6, 3), tf.uint8),
        "grey": tf.fill((2, 2, 1), tf.constant(51, tf.uint8)),
        "see_through": tf.constant([0, 255, 0, 7], tf.uint8) * tf.ones((4, 4, 4), tf.uint8),
    }
    for name, picture in pictures.items():
        (tmp_path / name).mkdir()
        for index in range(10):
            tf.io.write_file(str(tmp_path / name / f"{index}.png"), tf.io.encode_png(picture))
    # Luma 0.2989 R + 0.5870 G + 0.1140 B: red 76, green 150 (149.7 rounded or cut).
    expected = {
        (4, 4, 3): {"red": [255, 0, 0], "grey": [51, 51, 51], "see_through": [0, 255, 0]},
        (4, 4, 1): {"red": [76], "grey": [51], "see_through": [149]},
    }
    for shape, colours_of in expected.items():
        dataset = load_dataset(DataConfig(name=str(tmp_path)), "test", shape)
        images, labels = as_arrays(dataset)
        assert images.shape == (dataset.size, *shape) and set(labels) == {0, 1, 2}
        for image, label in zip(images, labels, strict=True):
            want = np.broadcast_to(colours_of[dataset.class_names[label]], shape)
            np.testing.assert_allclose(image * 255, want, atol=1)


@pytest.fixture(scope="module")
def own_tfds_sets(tmp_path_factory):
    """Prepared TFDS sets: `plain_greys` has no test split, `boxed_greys` a validation split; others are unusable."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    image, label = tfds.features.Image(shape=(4, 4, 1)), tfds.features.ClassLabel(names=["dark", "light"])

    def rows(count):
        return [{"image": np.full((4, 4, 1), index, np.uint8), "label": index % 2} for index in range(count)]

    def store(name, features, splits):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
            data_dir=folder,
            disable_shuffling=True,
        )

    tfds.disable_progress_bar()
    store("plain_greys", {"image": image, "label": label}, {"train": rows(20)})
    store("boxed_greys", {"image": image, "label": label}, {"train": rows(20), "validation": rows(6)})
    captions = [{"image": row["image"], "text": "grey"} for row in rows(2)]
    store("captions", {"image": image, "text": tfds.features.Text()}, {"train": captions})
    regression = [{"image": row["image"], "label": 0.5} for row in rows(2)]
    store("regression", {"image": image, "label": tfds.features.Scalar(np.float32)}, {"train": regression})
    store("no_train", {"image": image, "label": label}, {"extra": rows(2)})
    return folder


def test_tfds_set_without_a_test_split(own_tfds_sets):
    config = DataConfig(name="plain_greys", validation_every=4)
    levels = {}
    for split in data.SPLITS:
        images, labels = as_arrays(load_dataset(config, split, (4, 4, 1), own_tfds_sets))
        levels[split] = np.round(images[:, 0, 0, 0] * 255).astype(int).tolist()
    assert levels["test"] == [4, 9, 14, 19]
    # Of 0 1 2 3 5 6 7 8 10 11 12 13 15 16 17 18 every fourth.
    assert levels["validation"] == [3, 8, 13, 18]
    assert levels["train"] == [0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17]


def test_tfds_validation_split_stands_in_for_the_test_split(own_tfds_sets):
    config = DataConfig(name="boxed_greys", validation_every=4)
    sizes = {split: load_dataset(config, split, (4, 4, 1), own_tfds_sets).size for split in data.SPLITS}
    assert sizes == {"train": 15, "validation": 5, "test": 6}


# What users bring


def message(function, *arguments):
    with pytest.raises(DataError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_good_images_and_labels_pass():
    check_images(np.random.default_rng(0).random((2, 4, 4, 1), np.float32), (4, 4, 1))
    check_images(np.zeros((0, 4, 4, 1), np.float32))
    check_labels(np.array([0, 9], np.int64), 10)
    check_labels(np.zeros(0, np.int32), 10)
    check_num_classes(("a", "b"), 2)


def test_bad_images_are_named():
    good = np.full((2, 4, 4, 1), 0.5, np.float32)
    with_nan, with_infinity, negative = good.copy(), good.copy(), good.copy()
    with_nan[0, 0, 0, 0], with_infinity[1, 2, 0, 0], negative[0, 0, 0, 0] = np.nan, np.inf, -0.25
    assert message(check_images, good[0]) == "images: expected shape (batch, height, width, channels), got (4, 4, 1)"
    assert message(check_images, good, (8, 8, 1)) == "images: expected (8, 8, 1) per image, got (4, 4, 1)"
    assert "got uint8; divide by 255" in message(check_images, (good * 255).astype(np.uint8))
    assert "got int64" in message(check_images, good.astype(np.int64))
    assert "NaN or infinity" in message(check_images, with_nan)
    assert "NaN or infinity" in message(check_images, with_infinity)
    assert message(check_images, good * 510) == "images: expected values in [0, 1], got 255 to 255; divide by 255"
    assert message(check_images, negative) == "images: expected values in [0, 1], got -0.25 to 0.5"


def test_bad_labels_are_named():
    assert "labels: expected shape (batch,), got (2, 1)" == message(check_labels, np.zeros((2, 1), int), 10)
    assert "labels: expected integers, got float32" == message(check_labels, np.zeros(2, np.float32), 10)
    assert "labels: expected 0 to 9, got 0 to 10" == message(check_labels, np.array([0, 10]), 10)
    assert "labels: expected 0 to 9, got -1 to 3" == message(check_labels, np.array([-1, 3]), 10)


def load(name, split="train", shape=MNIST, **settings):
    return load_dataset(DataConfig(name=name), split, shape, **settings)


def test_missing_tfds_set_tells_where_it_was_looked_for(tmp_path, monkeypatch):
    text = message(lambda: load("fashion_mnist", data_dir=tmp_path))
    assert "'fashion_mnist'" in text and str(tmp_path) in text and "--data-dir" in text and "TFDS_DATA_DIR" in text
    assert text.endswith("tfds.builder('fashion_mnist').download_and_prepare()\"")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in message(lambda: load("mnist"))
    assert not any(tmp_path.iterdir())


def test_unusable_tfds_sets(own_tfds_sets):
    assert "TFDS knows no set 'no_such_set'" in message(lambda: load("no_such_set", data_dir=own_tfds_sets))
    assert "TFDS cannot open 'mnist:0.0.1'" in message(lambda: load("mnist:0.0.1", data_dir=own_tfds_sets))
    assert "no (image, label) pairs" in message(lambda: load("captions", data_dir=own_tfds_sets))
    assert "not for image classification" in message(lambda: load("regression", data_dir=own_tfds_sets))
    assert "no split 'train', only extra" in message(lambda: load("no_train", data_dir=own_tfds_sets))


def test_short_names(tmp_path):
    (tmp_path / "pets").mkdir()
    names = {"cifar10:3.0.2": "cifar10", "imagenette/160px-v2": "imagenette/160px-v2", f"{tmp_path}/pets": "pets"}
    for name, short in {**names, "../gone/images": "images"}.items():
        assert short_name(name) == short


def test_unusable_folders(tmp_path, colours):
    assert "data.name: no folder" in message(lambda: load(str(tmp_path / "absent")))
    assert "needs a sub-folder of images" in message(lambda: load(str(tmp_path)))
    (tmp_path / "one_class").mkdir()
    assert "needs a sub-folder of images" in message(lambda: load(str(tmp_path)))
    (tmp_path / "two_classes" / "a").mkdir(parents=True)
    (tmp_path / "two_classes" / "a" / "0.png").touch()
    (tmp_path / "two_classes" / "b").mkdir()
    (tmp_path / "two_classes" / "b" / "0.heic").touch()
    assert "two_classes/b holds no image" in message(lambda: load(str(tmp_path / "two_classes")))
    for part, names in (("train", "ab"), ("test", "ac")):
        for name in names:
            (tmp_path / "parts" / part / name).mkdir(parents=True)
            (tmp_path / "parts" / part / name / "0.png").touch()
    assert "has classes ('a', 'c'), its train ('a', 'b')" in message(lambda: load(str(tmp_path / "parts"), "test"))


def test_broken_image_file(tmp_path):
    for name, index in itertools.product("ab", range(5)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{index}.png").write_bytes(b"not a picture")
    dataset = load(str(tmp_path), "test")
    assert f"data.name: cannot decode an image or record: {tmp_path}" in message(as_arrays, dataset)


def test_bad_arguments():
    assert "split: expected one of train, validation, test, got 'dev'" == message(lambda: load("digits", "dev"))
    assert "limit: expected at least 1, got 0" == message(lambda: load("digits", limit=0))
    assert "expected 1 or 3 channels, got 2" in message(lambda: as_arrays(load("digits", shape=(8, 8, 2))))
