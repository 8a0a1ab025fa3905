"""The stream of training batches."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.config import DataConfig, TrainingConfig
from rdi_tf.data import batches as data
from rdi_tf.data.batches import (
    as_arrays,
    check_images,
    check_labels,
    explain_unreadable,
    load_dataset,
    training_batches,
)
from rdi_tf.errors import DataError

CIFAR, DIGITS = (32, 32, 3), (8, 8, 1)
STREAMS = pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "files"])
AUGMENTED = {"augmentation": ("crop", "flip"), "crop_padding": 2}


def first_batches(count, start_iteration=0, name="digits", shape=DIGITS, batch_size=64, seed=0, **settings):
    data_dir = settings.pop("data_dir", None)
    training = TrainingConfig(batch_size=batch_size, seed=seed)
    stream = training_batches(DataConfig(name=name, **settings), training, shape, 10, start_iteration, data_dir)
    return list(stream.take(count).as_numpy_iterator())


def assert_same_batches(first, second):
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@STREAMS
def test_same_seed_same_batches(monkeypatch, in_memory):
    monkeypatch.setattr(data, "MEMORY_LIMIT", 2**30 if in_memory else 0)
    batches = first_batches(4)
    tf.random.set_seed(0)  # as training does; TensorFlow's own seed must not count, whatever it is
    assert_same_batches(batches, first_batches(4))
    tf.random.set_seed(1)
    assert_same_batches(batches, first_batches(4))
    assert not np.array_equal(batches[0][1], first_batches(1, seed=1)[0][1])


@STREAMS
def test_resumed_stream_goes_on_with_the_same_batches(monkeypatch, in_memory):
    monkeypatch.setattr(data, "MEMORY_LIMIT", 2**30 if in_memory else 0)
    uninterrupted = first_batches(24, **AUGMENTED)  # 1,319 images: an epoch ends within batch 20
    for start in (1, 20):
        assert_same_batches(uninterrupted[start : start + 3], first_batches(3, start, **AUGMENTED))


def test_resumed_stream_of_mixed_images():
    settings = {"augmentation": ("flip", "mixup")}
    uninterrupted = first_batches(5, **settings)
    assert_same_batches(uninterrupted[3:], first_batches(2, 3, **settings))
    for images, labels in uninterrupted:
        assert labels.shape == (64, 10) and labels.dtype == np.float32
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        check_images(images, DIGITS)


@STREAMS
def test_an_epoch_holds_every_training_image_once(monkeypatch, in_memory):
    monkeypatch.setattr(data, "MEMORY_LIMIT", 2**30 if in_memory else 0)
    images, _ = as_arrays(load_dataset(DataConfig(name="digits"), "train", DIGITS))
    # 1,319 is prime: batches of 1,319 are epochs.
    first, second = (batch for batch, _ in first_batches(2, batch_size=1319))
    for epoch in (first, second):
        assert sorted(image.tobytes() for image in epoch) == sorted(image.tobytes() for image in images)
    assert not np.array_equal(first, second) and not np.array_equal(first, images)


def test_augmentation_differs_from_epoch_to_epoch():
    config = {"augmentation": ("crop",), "crop_padding": 2, "batch_size": 1319}
    first, second = (batch for batch, _ in first_batches(2, **config))
    shared = {image.tobytes() for image in first} & {image.tobytes() for image in second}
    assert len(shared) < 300  # 1/25 of 1,319 by chance, and some crops look alike


def test_real_images_through_the_file_stream(monkeypatch, tfds_dir):
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(data, "SHUFFLE_BUFFER", 500)
    settings = {"name": "cifar10", "shape": CIFAR, "data_dir": tfds_dir, "augmentation": ("crop", "flip")}
    batches = first_batches(4, **settings)
    for images, labels in batches:
        assert images.shape == (64, *CIFAR) and images.dtype == np.float32 and labels.dtype == np.int32
        check_images(images, CIFAR)
        check_labels(labels, 10)
    assert_same_batches(batches[2:], first_batches(2, 2, **settings))


def test_batches_are_larger_than_the_set():
    training = TrainingConfig(batch_size=2000)
    batches = training_batches(DataConfig(name="digits"), training, DIGITS, 10)
    assert batches.element_spec[0].shape == (2000, *DIGITS)
    images, _ = next(iter(batches))
    there, _ = as_arrays(load_dataset(DataConfig(name="digits"), "train", DIGITS))
    assert {image.tobytes() for image in images.numpy()} == {image.tobytes() for image in there}


def test_stream_needs_the_networks_number_of_classes():
    with pytest.raises(DataError, match="model.num_classes: the data set has 10 classes, the network 7"):
        training_batches(DataConfig(name="digits"), TrainingConfig(), DIGITS, 7)


def test_broken_image_file_in_a_stream(tmp_path, monkeypatch):
    """Sets that are not kept in memory are read while the network is fitted."""
    for name, index in itertools.product("ab", range(5)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{index}.png").write_bytes(b"not a picture")
    monkeypatch.setattr(data, "MEMORY_LIMIT", 1)
    stream = training_batches(DataConfig(name=str(tmp_path)), TrainingConfig(batch_size=2), (8, 8, 1), 2)

    def read():
        with explain_unreadable():
            next(iter(stream))

    with pytest.raises(DataError, match=r"\.png: cannot be read as an image"):
        read()


def test_other_errors_of_tensorflow_pass():
    with pytest.raises(tf.errors.InvalidArgumentError), explain_unreadable():
        tf.reshape(tf.zeros(3), (2, 2))
