"""Batching, padding, resuming and the derived max-average of ExitAttacker, on a real small network."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.attacks import ExitRule, craft
from rdi_tf.config import AttackConfig, Config, ModelConfig, PolicyConfig
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.robustness import ExitAttacker, strongest_logits
from rdi_tf.models import build_network
from rdi_tf.network import RDINet
from rdi_tf.policies import get_policy
from rdi_tf.training.validation import Validator

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


def test_one_exit_is_attacked_once_whatever_the_papers_forms(batch):
    """With one exit they all maximise its loss."""
    one = RDINet(build_network(ModelConfig(input_shape=(16, 16, 1), exits=())))
    attack = dataclasses.replace(ATTACK, random_start=False)
    attacker, seen = ExitAttacker(one, attack, batch_size=10, rule=ExitRule("entropy", ())), []
    forms = ["max_average", "rerouted", "main", "random"]
    found = attacker.logits(forms, *batch, progress=lambda form, *_: seen.append(form))
    assert (list(found), seen) == (forms, ["main", "rerouted"])
    for form in ("max_average", "random"):
        np.testing.assert_array_equal(found[form], found["main"])
    images, labels = map(tf.constant, batch)
    seed = tf.random.fold_in(tf.constant([0, 0], tf.int32), 0)
    for form in ("average", "random"):
        crafted = craft(form, one.exit_losses(), images, labels, attack, seed)
        np.testing.assert_allclose(one(crafted), found["main"], atol=1e-4)


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


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_batches_that_cannot_be_read_are_computed_again(attacker, batch, tmp_path, damage):
    whole = attacker.logits(["main"], *batch, folder=tmp_path)["main"]
    file = tmp_path / "main-00001.npy"
    np.save(file, whole[:1]) if damage is None else file.write_bytes(damage)  # None: rows of another batch size
    np.testing.assert_array_equal(attacker.logits(["main"], *batch, folder=tmp_path)["main"], whole)


def test_progress_counts_images(attacker, batch):
    seen = []
    attacker.logits(["main"], *batch, progress=lambda *step: seen.append(step))
    assert seen == [("main", 4, 10), ("main", 8, 10), ("main", 10, 10)]


def test_strongest_logits_by_hand():
    """Two attacks, one image, one exit, two classes: the second leaves the true class the smaller probability."""
    candidates = np.array([[[[2.0, 0.0]]], [[[1.0, 0.0]]]], "float32")
    np.testing.assert_array_equal(strongest_logits(candidates, np.array([0])), candidates[1])
    np.testing.assert_array_equal(strongest_logits(candidates, np.array([1])), candidates[0])


@pytest.fixture(scope="module")
def averaging(net):
    """An attacker of what the running average calls classes from."""
    rule = ExitRule("running_average", (0.5, 0.5))
    return ExitAttacker(net, ATTACK, seed=3, batch_size=4, rule=rule, outputs="policy")


def test_policy_outputs_are_what_the_rule_calls_classes_from(averaging, net, batch):
    log_probabilities = get_policy("running_average").log_probabilities(net(batch[0]).numpy())
    expected = -np.take_along_axis(log_probabilities, batch[1][:, None, None].repeat(3, axis=1), axis=-1)[..., 0]
    losses = averaging.losses
    np.testing.assert_allclose(losses.every(batch[0], tf.constant(batch[1])), expected, rtol=1e-4)
    for exit_index, single in enumerate(losses.single):
        np.testing.assert_allclose(single(batch[0], tf.constant(batch[1])), expected[:, exit_index], rtol=1e-4)


def test_attacks_on_policy_outputs_raise_their_loss_more(averaging, attacker, batch):
    """Whether main's own logits are attacked or the average there: each raises its own loss more than the other."""
    labels = tf.constant(batch[1])

    def mean_loss(images):
        return float(tf.reduce_mean(averaging.losses.single[-1](images, labels)))

    aimed = mean_loss(averaging.adversarial_images("main", *batch))
    assert aimed > mean_loss(attacker.adversarial_images("main", *batch)) > mean_loss(batch[0])


def test_max_average_of_policy_outputs_is_max_average(averaging, net, batch):
    images, labels = batch[0][:4], batch[1][:4]
    seed = tf.random.fold_in(tf.constant([3, 0], tf.int32), 0)
    crafted = craft("max_average", averaging.losses, tf.constant(images), tf.constant(labels), ATTACK, seed)
    found = averaging.logits(["max_average"], images, labels)["max_average"]
    np.testing.assert_allclose(found, net(crafted), atol=1e-5)


def test_attacks_on_the_rule_are_the_same_for_both_outputs(averaging, net, batch):
    rule = averaging.losses.rule
    plain = ExitAttacker(net, ATTACK, seed=3, batch_size=4, rule=rule)
    images = [found.adversarial_images("rerouted", *batch) for found in (averaging, plain)]
    np.testing.assert_array_equal(*images)


def test_rules_that_look_at_one_exit_have_no_other_outputs(net, attacker, batch):
    rule = ExitRule("entropy", (0.5, 0.5))
    same = ExitAttacker(net, ATTACK, seed=3, batch_size=4, rule=rule, outputs="policy")
    np.testing.assert_array_equal(*(found.adversarial_images("branch_2", *batch) for found in (same, attacker)))


def test_validation_attacks_what_the_rule_calls_classes_from(averaging, net, batch):
    """Its candidates are those of an evaluation of the same rule, at the same batch size."""
    policy = PolicyConfig(name="running_average")
    config = dataclasses.replace(Config(), evaluation=ATTACK, policy=policy)
    seed, rule = config.training.seed, averaging.losses.rule
    expected = ExitAttacker(net, ATTACK, seed, len(batch[0]), rule, "policy")
    validating = Validator(net, config, *batch)._attacker
    for form in ("branch_2", "main"):
        images = [attacker.adversarial_images(form, *batch) for attacker in (validating, expected)]
        np.testing.assert_array_equal(*images)


def test_unusable_outputs_are_refused(net):
    with pytest.raises(ConfigError, match="expected one of exits, policy, got 'all'"):
        ExitAttacker(net, ATTACK, outputs="all")
    with pytest.raises(ConfigError, match="expected a network with an exit rule"):
        ExitAttacker(net, ATTACK, outputs="policy")


def test_survivors_alone_are_attacked(attacker, net, batch):
    known = np.zeros((10, 3, 10), "float32")
    survives = np.arange(10) % 3 == 0
    found = attacker.surviving_logits("main", *batch, survives, known)
    assert (found[~survives] == 0).all()
    expected = attacker.logits(["main"], batch[0][survives], batch[1][survives])["main"]
    np.testing.assert_array_equal(found[survives], expected)


def test_images_of_other_types_are_the_same_images(attacker, batch):
    images, labels = batch
    expected = attacker.logits(["main"], images, labels)["main"]
    for same in (images.astype("float64"), images.tolist(), tf.constant(images)):
        found = attacker.logits(["main"], same, labels.tolist())["main"]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :8], y), r"expected \(16, 16, 1\) per image, got \(8, 16, 1\)"),
        (lambda x, y: ((255 * x).astype("uint8"), y), "got uint8; divide by 255"),
        (lambda x, y: (x + np.nan, y), "got NaN or infinity"),
        (lambda x, y: (x + 1, y), r"expected values in \[0, 1\]"),
        (lambda x, y: (x, y + 10), "labels: expected 0 to 9"),
        (lambda x, y: (x, y.astype("float32")), "labels: expected integers"),
        (lambda x, y: (x, y[:7]), "labels: expected 10, one for each image, got 7"),
        (lambda x, y: (x[:0], y[:0]), "images: expected one at least, got none"),
    ],
)
def test_unusable_images_and_labels_are_refused(change, message, attacker, batch):
    images, labels = change(*batch)
    with pytest.raises(DataError, match=message):
        attacker.logits(["main"], images, labels)
