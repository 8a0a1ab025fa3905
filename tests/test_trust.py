"""Trust checks: each fires on a network or attack made to deceive, and is quiet on a normal trained one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.calibration_source import CalibrationSource, image_digest
from rdi_tf.config import AttackConfig
from rdi_tf.evaluation import trust
from rdi_tf.evaluation.suites import Attacked, Plan, plan_attacks
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.network import RDINet

ATTACK = AttackConfig(epsilon=0.02, step_size=0.01, steps=4)


@pytest.fixture(scope="module")
def bench(trained_run):
    # Without a folder: kept batches would answer for networks that are made of this one below.
    return dataclasses.replace(Workbench.open(trained_run, attack=ATTACK, limit=60, batch_size=60), folder=None)


def behind(bench, layer):
    """The bench with `layer` put before its network."""
    images = keras.Input(bench.images.shape[1:])
    outputs = bench.net.network(layer(images))
    named = zip(bench.net.exit_names, outputs, strict=True)
    outputs = [keras.layers.Activation("linear", name=name)(output) for name, output in named]
    net = RDINet(keras.Model(images, outputs), bench.net.config, bench.net.thresholds)
    return dataclasses.replace(bench, net=net, computed={})


class Quantise(keras.layers.Layer):
    """Rounds pixels to quarters: the classes stay, the gradients vanish."""

    def call(self, images):
        return tf.round(4 * images) / 4


class Noise(keras.layers.Layer):
    """Adds noise, in inference too."""

    def call(self, images):
        return images + tf.random.normal(tf.shape(images), stddev=0.2)


@pytest.fixture(scope="module")
def quantised(bench):
    return behind(bench, Quantise())


@pytest.mark.parametrize("check", ["thresholds", "determinism", "gradients", "huge_epsilon", "more_steps"])
def test_quiet_on_a_normal_network(bench, check):
    arguments = (bench, ATTACK) if check == "more_steps" else (bench,)
    assert getattr(trust, check)(*arguments) is None


def test_vanishing_gradients_are_seen(quantised):
    warning = trust.gradients(quantised)
    assert warning.check == "gradients" and "100.0% of 60 clean images" in warning.message


def test_accuracy_that_survives_every_epsilon_is_seen(quantised):
    clean = quantised.right(quantised.clean).mean()
    assert clean > 0.5
    assert f"{clean:.1%} of 60 images are still called right (chance: 10.0%)" in trust.huge_epsilon(quantised).message


def test_attacks_that_have_not_finished_are_seen(bench):
    short = AttackConfig(epsilon=0.3, step_size=0.02, steps=1, random_start=False)
    warning = trust.more_steps(bench, short)
    assert warning.check == "more steps" and "4 steps of the average attack" in warning.message


def test_decisions_by_chance_are_seen(bench):
    assert "decide differently" in trust.determinism(behind(bench, Noise())).message


def test_a_black_box_that_finds_more_is_seen(quantised):
    """PGD gets no gradient through the rounding; Square needs none."""
    attack = AttackConfig(epsilon=0.3, step_size=0.1, steps=3, random_start=False)
    masked = dataclasses.replace(quantised, attack=attack)
    plan = plan_attacks("main,square/rerouted", attack, masked.net.exit_names, 10)
    few_queries = dataclasses.replace(plan.attacks[1], search=dataclasses.replace(plan.attacks[1].search, steps=30))
    attacks = (plan.attacks[0], few_queries)
    found = masked.run_attacks(attacks)
    np.testing.assert_allclose(found.logits["main"], masked.clean, atol=1e-5)
    assert "Square, which sees no gradients, breaks" in trust.black_box(masked, attacks, found.logits).message


def test_a_black_box_that_finds_less_is_no_matter(bench):
    """Of 60 images PGD breaks all but the first; Square breaks others, and nothing that PGD did not."""
    attacks = plan_attacks("main,square/rerouted", ATTACK, bench.net.exit_names, 10).attacks
    right = np.where(np.arange(10) == bench.labels[:, None], 50.0, 0.0)[:, None].repeat(3, axis=1)
    wrong = np.roll(right, 1, axis=-1)
    bench = dataclasses.replace(bench, computed={"clean": right})
    first = (np.arange(60) == 0)[:, None, None]
    logits = {"main": np.where(first, right, wrong), "square/rerouted": np.where(first, right, wrong)}
    assert trust.black_box(bench, attacks, logits) is None
    assert trust.black_box(bench, attacks, {**logits, "square/rerouted": wrong}) is not None


def test_thresholds_of_unknown_origin_and_of_the_same_images_are_seen(bench):
    def warning(source):
        return trust.thresholds(dataclasses.replace(bench, calibrated_on=source))

    assert bench.calibrated_on.split == "validation"
    assert "nobody recorded" in warning(None).message
    same_split = CalibrationSource(bench.dataset, "test", 300, "another digest")
    assert "chosen on the test images" in warning(same_split).message
    same_images = CalibrationSource("a copy", "validation", 60, image_digest(bench.images))
    assert "evaluated here" in warning(same_images).message
    assert warning(CalibrationSource("another set", "test", 60, "another digest")) is None


def test_checks_are_chosen_by_what_was_run(bench, monkeypatch):
    made = ("thresholds", "determinism", "gradients", "huge_epsilon", "more_steps", "black_box")
    for name in made:
        monkeypatch.setattr(trust, name, lambda *arguments: None)

    def checks(attacks, attack=ATTACK):
        changed = dataclasses.replace(bench, attack=attack)
        plan = plan_attacks(attacks, attack, bench.net.exit_names, 10)
        return trust.run_checks(changed, plan, Attacked({}, {}))[0]

    assert checks("none") == ("thresholds", "determinism")
    assert checks("main") == ("thresholds", "determinism", "gradients", "huge epsilon", "more steps")
    assert checks("strong")[-1] == "black box"
    taken = []
    monkeypatch.setattr(trust, "more_steps", lambda bench, search: taken.append(search.steps))
    checks("pgd-r5/main,pgd-10/main,square/rerouted")
    assert taken == [10]
    assert "more steps" not in checks("main", AttackConfig("fgsm", epsilon=0.1))
    assert checks("square/rerouted") == ("thresholds", "determinism")


def test_other_splits_are_said(bench):
    found = trust.run_checks(dataclasses.replace(bench, split="train"), Plan("", ()), Attacked({}, {}))
    assert found[0][0] == "split" and "the weights were chosen by train images" in found[1][0].message


def test_what_a_suite_left_out_is_a_warning(bench, monkeypatch):
    for name in ("thresholds", "determinism", "gradients", "huge_epsilon", "more_steps"):
        monkeypatch.setattr(trust, name, lambda *arguments: None)
    plan = plan_attacks("strong", AttackConfig(norm="l2"), bench.net.exit_names, 10)
    _, (warning,) = trust.run_checks(bench, plan, Attacked({}, {}))
    assert (warning.check, warning.message) == ("suite", "square/rerouted is not run: it does not search l2 balls")
