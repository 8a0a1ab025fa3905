"""Batching, padding, resuming and the derived max-average of ExitAttacker, on a real small network."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.attacks import craft
from rdi_tf.config import AttackConfig, ModelConfig
from rdi_tf.models import build_network
from rdi_tf.network import RDINet
from rdi_tf.robustness import ExitAttacker, strongest_logits

ATTACK = AttackConfig(epsilon=0.1, step_size=0.05, steps=2)


@pytest.fixture(scope="module")
def net():
    tf.random.set_seed(0)
    return RDINet(build_network(ModelConfig(input_shape=(16, 16, 1), branch="light")))


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    return random.uniform(size=(10, 16, 16, 1)).astype("float32"), random.integers(0, 10, 10).astype("int32")


@pytest.fixture(scope="module")
def attacker(net):
    return ExitAttacker(net, ATTACK, seed=3, batch_size=4)


def test_clean_logits_are_the_networks_own(attacker, net, batch):
    np.testing.assert_allclose(attacker.clean_logits(batch[0]), net(batch[0]), atol=1e-5)


def test_logits_are_those_of_the_adversarial_images(attacker, net, batch):
    for form in ("branch_2", "average"):
        adversarial = attacker.adversarial_images(form, *batch)
        assert np.abs(adversarial - batch[0]).max() <= 0.1 + 1e-6
        np.testing.assert_allclose(attacker.logits([form], *batch)[form], net(adversarial), atol=1e-5)


def test_max_average_from_the_single_attacks_is_max_average(attacker, net, batch):
    """What is derived from the single attacks' logits is what the form itself crafts, image by image."""
    images, labels = batch[0][:4], batch[1][:4]
    seed = tf.random.fold_in(tf.constant([3, 0], tf.int32), 0)
    crafted = craft("max_average", net.exit_losses(), tf.constant(images), tf.constant(labels), ATTACK, seed)
    np.testing.assert_allclose(attacker.logits(["max_average"], images, labels)["max_average"], net(crafted), atol=1e-5)


def test_forms_come_back_in_the_order_asked_for_and_nothing_else(attacker, batch):
    assert list(attacker.logits(["max_average", "main"], *batch)) == ["max_average", "main"]


def test_each_form_is_traced_once(attacker, batch):
    attacker.logits(["main"], *batch)
    assert attacker._craft("main").experimental_get_tracing_count() == 1


def test_finished_batches_are_not_computed_again(attacker, batch, tmp_path):
    """An interrupted evaluation goes on: kept batches are read, missing ones computed, the result is the same."""
    whole = attacker.logits(["main"], *batch, folder=tmp_path)["main"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"main-0000{k}.npy" for k in range(3)]
    (tmp_path / "main-00001.npy").unlink()
    np.save(tmp_path / "main-00002.npy", whole[8:] + 1.0)
    again = attacker.logits(["main"], *batch, folder=tmp_path)["main"]
    np.testing.assert_array_equal(again[:8], whole[:8])
    np.testing.assert_array_equal(again[8:], whole[8:] + 1.0)


def test_progress_counts_images(attacker, batch):
    seen = []
    attacker.logits(["main"], *batch, progress=lambda *step: seen.append(step))
    assert seen == [("main", 4, 10), ("main", 8, 10), ("main", 10, 10)]


def test_strongest_logits_by_hand():
    """Two attacks, one image, one exit, two classes: the second leaves the true class the smaller probability."""
    candidates = np.array([[[[2.0, 0.0]]], [[[1.0, 0.0]]]], "float32")
    np.testing.assert_array_equal(strongest_logits(candidates, np.array([0])), candidates[1])
    np.testing.assert_array_equal(strongest_logits(candidates, np.array([1])), candidates[0])
