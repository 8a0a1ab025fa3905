"""Augmentation is keras-cv's, but a function of the batch and the seed."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AUGMENTATIONS, DataConfig
from rdi_tf.data.augmentation import STEPS, make_augmentation
from rdi_tf.errors import ConfigError

SHAPE = (8, 6, 3)
STATEFUL = {
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "RandomGamma", "RandomShuffle", "TruncatedNormal"),
    *("StatefulUniform", "StatefulUniformInt", "StatefulStandardNormalV2", "RngReadAndSkip"),
}


def batch(count=64, shape=SHAPE):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (count, *shape)).astype(np.float32) / 255
    return tf.constant(images), tf.constant(rng.integers(0, 4, count).astype(np.int32))


def augmented(names, images, labels, seed=0, **settings):
    augment = make_augmentation(DataConfig(augmentation=names, **settings), images.shape[1:], 4)
    new_images, new_labels = augment(images, labels, tf.constant([seed, 1], tf.int64))
    return new_images.numpy(), new_labels.numpy()


def test_every_configurable_step_exists():
    assert set(STEPS) == set(AUGMENTATIONS)


def test_without_steps_nothing_changes():
    images, labels = batch(4)
    new_images, new_labels = augmented((), images, labels)
    np.testing.assert_array_equal(new_images, images)
    np.testing.assert_array_equal(new_labels, labels)


def test_crop_cuts_whole_pixels_at_every_offset_equally_often():
    images, labels = batch(1000)
    new_images, new_labels = augmented(("crop",), images, labels, crop_padding=2)
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    counts = np.zeros((5, 5), int)
    for top in range(5):
        for left in range(5):
            window = padded[:, top : top + 8, left : left + 6]
            counts[top, left] = np.all(window == new_images, axis=(1, 2, 3)).sum()
    assert counts.sum() == 1000  # pixels are all different and above zero, so one offset fits at most
    assert counts.min() >= 15 and counts.max() <= 70  # 40 expected, standard deviation 6.2
    np.testing.assert_array_equal(new_labels, labels)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_crop_is_exact_at_the_sizes_of_the_experiments(shape):
    images, labels = batch(200, shape)
    new_images, _ = augmented(("crop",), images, labels)
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)])
    height, width, _ = shape
    windows = np.stack([padded[:, t : t + height, s : s + width] for t in range(9) for s in range(9)])
    assert np.all(np.any(np.all(windows == new_images, axis=(2, 3, 4)), axis=0))


def test_crop_without_padding_changes_nothing():
    images, labels = batch(4)
    np.testing.assert_array_equal(augmented(("crop",), images, labels, crop_padding=0)[0], images)


def test_flip_mirrors_about_half_of_the_images():
    images, labels = batch(400)
    new_images, _ = augmented(("flip",), images, labels)
    same = np.all(new_images == images, axis=(1, 2, 3))
    mirrored = np.all(new_images == images[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(same ^ mirrored)
    assert 150 <= mirrored.sum() <= 250  # standard deviation 10


def test_mixup_blends_images_and_labels_in_the_same_shares():
    # Images of one grey level each, equal to a value per class: the label's mean of the values is the blended pixel.
    labels = tf.constant(np.arange(64) % 4, tf.int32)
    values = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    images = tf.constant(np.broadcast_to(values[labels][:, None, None, None], (64, *SHAPE)))
    new_images, new_labels = augmented(("mixup",), images, labels)
    assert new_labels.dtype == np.float32 and new_labels.shape == (64, 4)
    np.testing.assert_allclose(new_labels.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(new_images, np.broadcast_to((new_labels @ values)[:, None, None, None], (64, *SHAPE)),
                               atol=1e-6)  # fmt: skip
    assert np.any((new_labels.max(axis=1) > 0.01) & (new_labels.max(axis=1) < 0.99))


def test_cutmix_labels_count_pixels():
    labels = tf.constant(np.arange(256) % 4, tf.int32)
    values = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    images = tf.constant(np.broadcast_to(values[labels][:, None, None, None], (256, *SHAPE)))
    new_images, new_labels = augmented(("cutmix",), images, labels)
    shares = np.stack([(new_images == value).mean(axis=(1, 2, 3)) for value in values], axis=1)
    np.testing.assert_allclose(new_labels, shares, atol=1e-6)
    assert np.any(new_labels.max(axis=1) < 0.9)


def test_mixing_steps_follow_each_other():
    images, labels = batch()
    _, new_labels = augmented(("mixup", "cutmix"), images, labels)
    np.testing.assert_allclose(new_labels.sum(axis=1), 1, atol=1e-6)
    assert np.any((new_labels > 0.001).sum(axis=1) > 2)


@pytest.mark.parametrize("names", [("crop", "flip"), ("mixup",), ("cutmix",), ("randaugment",)])
def test_result_depends_on_the_seed_alone(names):
    images, labels = batch(16)
    settings = {"crop_padding": 2}
    tf.random.set_seed(1)
    first = augmented(names, images, labels, seed=5, **settings)
    tf.random.set_seed(2)
    again = augmented(names, images, labels, seed=5, **settings)
    other = augmented(names, images, labels, seed=6, **settings)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].dtype == np.float32 and first[0].min() >= 0 and first[0].max() <= 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "randaugment" else []) for name in AUGMENTATIONS]
)
def test_no_stateful_draw_is_left(name):
    augment = make_augmentation(DataConfig(augmentation=(name,), crop_padding=2), SHAPE, 4)
    images, labels = batch(4)
    function = tf.function(augment).get_concrete_function(images, labels, tf.constant([0, 1], tf.int64))
    definition = function.graph.as_graph_def()
    nodes = list(definition.node) + [node for item in definition.library.function for node in item.node_def]
    operations = {node.op for node in nodes}
    assert not operations & STATEFUL
    assert any(operation.startswith("Stateless") for operation in operations)


def test_randaugment_treats_images_differently_and_grey_ones_stay_grey():
    images = tf.constant(np.tile(batch(1, (8, 8, 1))[0], (12, 1, 1, 1)))
    new_images, _ = augmented(("randaugment",), images, tf.zeros(12, tf.int32), crop_padding=2)
    assert new_images.shape == (12, 8, 8, 1)
    assert len({image.tobytes() for image in new_images}) > 6


@pytest.mark.parametrize("name", ["crop", "flip", "mixup"])
def test_mixed_precision_training_keeps_float32_images(name):
    images, labels = batch(8)
    expected = augmented((name,), images, labels, crop_padding=2)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        got = augmented((name,), images, labels, crop_padding=2)
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[0].dtype == np.float32


def test_unknown_step_is_refused():
    with pytest.raises(ConfigError, match="data.augmentation: expected some of crop, .* got 'rotate'"):
        make_augmentation(DataConfig(augmentation=("rotate",)), SHAPE, 4)


def test_padding_beyond_half_the_image_is_refused():
    with pytest.raises(ConfigError, match="data.crop_padding: expected less than half of 8x6, got 3"):
        make_augmentation(DataConfig(augmentation=("crop",), crop_padding=3), SHAPE, 4)
