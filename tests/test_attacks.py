"""Attacks against closed forms on linear networks, and the properties every attack must have."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.attacks import ExitLosses, craft, cross_entropy, form_names, search, strongest_candidate
from rdi_tf.config import AttackConfig
from rdi_tf.errors import ConfigError

SEED = tf.constant([3, 5], tf.int32)
SHAPE = (4, 6, 6, 1)
PGD = AttackConfig(epsilon=0.1, step_size=0.03, steps=10)


@pytest.fixture
def images():
    return tf.constant(np.random.default_rng(0).uniform(size=SHAPE), tf.float32)


@pytest.fixture
def labels():
    return tf.constant([0, 1, 2, 1])


@pytest.fixture
def losses():
    """Three linear exits of three classes."""
    kernels = [tf.constant(np.random.default_rng(k).normal(size=(36, 3)), tf.float32) for k in range(3)]

    def exit_loss(kernel):
        return lambda images, labels: cross_entropy(tf.reshape(images, (-1, 36)) @ kernel, labels)

    single = tuple(exit_loss(kernel) for kernel in kernels)

    def every(images, labels):
        return tf.stack([loss(images, labels) for loss in single], axis=1)

    return ExitLosses(("branch_1", "branch_2", "main"), single, every)


def signed_sum(weights):
    return lambda images: tf.reduce_sum(images * weights, axis=(1, 2, 3))


def test_cross_entropy_by_hand():
    logits = tf.math.log(tf.constant([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    np.testing.assert_allclose(cross_entropy(logits, tf.constant([0, 2])), -np.log([0.5, 0.7]), rtol=1e-6)
    soft = tf.constant([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    expected = [-(np.log(0.5) + np.log(0.25)) / 2, -np.log(0.7)]
    np.testing.assert_allclose(cross_entropy(logits, soft), expected, rtol=1e-6)


def test_cross_entropy_of_all_exits_is_that_of_each():
    logits = tf.random.stateless_normal((5, 3, 4), SEED)
    labels = tf.constant([0, 3, 1, 2, 2])
    each = tf.stack([cross_entropy(logits[:, k], labels) for k in range(3)], axis=1)
    np.testing.assert_allclose(cross_entropy(logits, labels), each, rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["pgd", "fgsm"])
def test_linear_loss_has_a_closed_form(algorithm, images):
    """The maximum of w.x over the ball and [0, 1] is clip(x + epsilon * sign(w))."""
    weights = tf.constant(np.random.default_rng(1).normal(size=SHAPE[1:]), tf.float32)
    attack = AttackConfig(algorithm=algorithm, epsilon=0.1, step_size=0.03, steps=10)
    found = search(signed_sum(weights), images, attack, SEED)
    np.testing.assert_allclose(found, np.clip(images + 0.1 * np.sign(weights), 0, 1), atol=1e-6)


def test_wrm_linear_loss_has_a_closed_form(images):
    """Ascent on epsilon * w.x' - |x' - x|^2 / 2 goes, inside [0, 1], along w by known fractions of epsilon."""
    weights = np.random.default_rng(1).normal(size=SHAPE[1:]) * 0.01
    inner = 0.25 + 0.5 * images
    attack = AttackConfig(algorithm="wrm", epsilon=0.3, steps=4)
    moved = 0.0
    for step in range(4):
        moved += (1.0 - moved) / np.sqrt(step + 2)
    found = search(signed_sum(tf.constant(weights, tf.float32)), inner, attack, SEED)
    np.testing.assert_allclose(found - inner, np.broadcast_to(0.3 * moved * weights, SHAPE), atol=1e-6)


@pytest.mark.parametrize("form", form_names(("branch_1", "branch_2", "main")))
def test_every_form_stays_in_the_ball_and_is_repeatable(form, losses, images, labels):
    found = craft(form, losses, images, labels, PGD, SEED)
    assert np.max(np.abs(found - images)) <= 0.1 + 1e-6
    assert np.min(found) >= 0 and np.max(found) <= 1
    np.testing.assert_array_equal(found, craft(form, losses, images, labels, PGD, SEED))


@pytest.mark.parametrize("form", form_names(("branch_1", "branch_2", "main")))
def test_random_start_depends_on_the_seed(form, losses, images, labels):
    one_step = AttackConfig(epsilon=0.1, step_size=0.01, steps=1)
    first, second = (craft(form, losses, images, labels, one_step, SEED + k) for k in range(2))
    assert np.any(first != second)
    from_the_image = AttackConfig(epsilon=0.1, step_size=0.01, steps=1, random_start=False)
    from_image = craft(form, losses, images, labels, from_the_image, SEED)
    assert np.max(np.abs(from_image - images)) <= 0.01 + 1e-6


@pytest.mark.parametrize("form", form_names(("branch_1", "branch_2", "main")))
def test_epsilon_zero_is_identity(form, losses, images, labels):
    attack = AttackConfig(epsilon=0.0, step_size=0.01, steps=3)
    np.testing.assert_array_equal(craft(form, losses, images, labels, attack, SEED), images)
    scaled = craft(form, losses, images, labels, PGD, SEED, scale=0.0)
    np.testing.assert_array_equal(scaled, images)


@pytest.mark.parametrize("exit_index", range(3))
def test_single_attack_is_best_at_its_own_exit(exit_index, losses, images, labels):
    """On a linear exit PGD reaches the maximum of the loss for two classes; here: no other single attack beats it."""
    found = [craft(name, losses, images, labels, PGD, SEED) for name in losses.exit_names]
    own = losses.single[exit_index]
    values = [float(tf.reduce_mean(own(candidate, labels))) for candidate in found]
    assert np.argmax(values) == exit_index


def test_max_average_takes_the_single_candidate_with_the_largest_mean_loss(losses, images, labels):
    candidates = [craft(name, losses, images, labels, PGD, SEED) for name in losses.exit_names]
    means = np.stack([np.mean(losses.every(candidate, labels), axis=1) for candidate in candidates])
    expected = [candidates[best][image] for image, best in enumerate(means.argmax(axis=0))]
    np.testing.assert_array_equal(craft("max_average", losses, images, labels, PGD, SEED), expected)


def test_strongest_candidate_by_hand():
    candidates = tf.constant([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    values = tf.constant([[0.1, 0.9, 0.2], [0.5, 0.3, 0.4]])
    np.testing.assert_array_equal(strongest_candidate(candidates, values), [[4.0], [2.0], [6.0]])


def test_average_beats_single_attacks_on_the_average_loss(losses, images, labels):
    def mean_loss(found):
        return float(tf.reduce_mean(losses.every(found, labels)))

    average = mean_loss(craft("average", losses, images, labels, PGD, SEED))
    assert average > max(mean_loss(craft(name, losses, images, labels, PGD, SEED)) for name in losses.exit_names)


def test_restarts_never_lose(images):
    """On a loss with many maxima, the kept run is for each image at least as good as the first run alone."""

    def bumpy(candidates):
        return tf.reduce_sum(tf.sin(40.0 * candidates), axis=(1, 2, 3))

    attack = AttackConfig(epsilon=0.2, step_size=0.02, steps=3)
    once = bumpy(search(bumpy, images, attack, SEED))
    often = bumpy(search(bumpy, images, AttackConfig(epsilon=0.2, step_size=0.02, steps=3, restarts=6), SEED))
    assert np.all(often >= once) and np.any(often > once)


def test_compiled_attack_equals_the_eager_one(losses, images, labels):
    compiled = tf.function(lambda x, y: craft("max_average", losses, x, y, PGD, SEED))
    np.testing.assert_allclose(
        compiled(images, labels), craft("max_average", losses, images, labels, PGD, SEED), atol=1e-6
    )


def test_unknown_names_are_refused(losses, images, labels):
    with pytest.raises(ConfigError, match="attack form: expected one of branch_1, .* got 'branch_9'"):
        craft("branch_9", losses, images, labels, PGD, SEED)
    with pytest.raises(ConfigError, match="algorithm: expected one of pgd"):
        search(signed_sum(1.0), images, AttackConfig(algorithm="nope"), SEED)
