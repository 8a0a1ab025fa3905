"""Sweeps of epsilon on a real small run."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest

from rdi_tf.config import AttackConfig
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation import suites
from rdi_tf.evaluation.run import evaluate
from rdi_tf.evaluation.sweeps import scaled_attack, sweep_epsilons

ATTACK = AttackConfig(epsilon=0.02, step_size=0.01, steps=3)


@pytest.fixture
def run_dir(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def test_a_sweep_is_evaluations_at_each_epsilon(run_dir):
    options = {"attack": ATTACK, "limit": 40, "batch_size": 40}
    result = sweep_epsilons(run_dir, (0.0, 0.02, 0.2), "main,rerouted", **options)
    same = evaluate(run_dir, "main,rerouted", checks=False, **options)
    assert list(result.accuracies) == ["main", "rerouted"]
    for attack in same.attacks:
        clean, at_own, at_ten_times = result.accuracies[attack.name]
        assert (clean, at_own) == (same.clean.accuracy, attack.accuracy)
        assert at_ten_times < at_own
    assert result.per_image_worst_case[:2] == (same.clean.accuracy, same.per_image_worst_case)
    assert not list((run_dir / "evaluation").glob("unfinished-*"))
    file = run_dir / "evaluation" / "epsilons-0+0.02+0.2-main+rerouted-pgd-3-first-40.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(result.to_dict()))
    lines = list(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
    assert [float(line["epsilon"]) for line in lines] == [0.0, 0.02, 0.2] * 3
    assert float(lines[1]["accuracy"]) == pytest.approx(100 * result.accuracies["main"][1])
    table = [line for line in file.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert table[0] == "| epsilon | 0 | 0.02 | 0.2 |"
    assert table[-1].startswith("| per-image worst case |")
    assert "step size 0.5 of epsilon" in result.to_text()


def test_a_stopped_sweep_goes_on(run_dir):
    class Killed(BaseException):
        pass

    def kill(*_):
        if len(list((run_dir / "evaluation").rglob("main-00000.npy"))) == 2:
            raise Killed

    options = {"attack": ATTACK, "limit": 20, "batch_size": 20}
    with pytest.raises(Killed):
        sweep_epsilons(run_dir, (0.1, 0.2, 0.3), "main", progress=kill, **options)
    kept = list((run_dir / "evaluation").rglob("main-00000.npy"))
    for path in kept:  # what is kept is read: with other logits, every image would be wrong
        np.save(path, np.zeros_like(np.load(path)) - np.eye(10)[0])
    result = sweep_epsilons(run_dir, (0.1, 0.2, 0.3), "main", **options)
    assert len(set(result.accuracies["main"][:2])) == 1 and len(kept) == 2


def test_nothing_is_run_at_radius_zero(run_dir, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "turns", suites.Suite(("average", "main"), in_turns=True))
    seen = []
    options = {"attack": ATTACK, "limit": 20, "batch_size": 20, "progress": lambda *step: seen.append(step)}
    result = sweep_epsilons(run_dir, (0.0,), "turns", **options)
    assert seen == [] and len({*result.accuracies.values(), result.per_image_worst_case}) == 1


def test_suites_in_turns_say_what_their_figures_are(run_dir, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "turns", suites.Suite(("average", "square/main"), in_turns=True))
    attack = dataclasses.replace(ATTACK, norm="l2")  # Square knows no L2 ball
    result = sweep_epsilons(run_dir, (0.0, 0.5), "turns", attack=attack, limit=20, batch_size=20, split="validation")
    assert [warning.check for warning in result.warnings] == ["suite", "split"]
    assert result.to_text().count("WARNING (") == result.to_markdown().count("WARNING (") == 2
    result = sweep_epsilons(run_dir, (0.0, 0.02), "turns", attack=ATTACK, limit=20, batch_size=20)
    assert (result.remaining, result.warnings) == (("square/main",), ())
    assert [line.split("  ")[0] for line in result.to_text().splitlines()[3:]] == [
        "average",
        "remaining after square/main",
        "per-image worst case",
    ]


def test_step_sizes_grow_with_epsilon():
    found = scaled_attack(AttackConfig(epsilon=8 / 255, step_size=2 / 255, steps=20), 16 / 255)
    assert (found.epsilon, found.steps) == (16 / 255, 20)
    assert found.step_size == pytest.approx(4 / 255)


@pytest.mark.parametrize(
    ("attack", "epsilon", "message"),
    [
        (ATTACK, 8.0, "expected numbers from 0 to 1, got 8.0"),
        (ATTACK, -0.1, "expected numbers from 0 to 1"),
        (ATTACK, float("nan"), "expected numbers from 0 to 1"),
        (AttackConfig(norm="l2"), float("inf"), "expected numbers from 0 to inf"),
        (AttackConfig(algorithm="wrm"), float("inf"), "expected numbers from 0 to inf"),
        (AttackConfig(epsilon=0.0), 0.1, "whose epsilon is 0"),
    ],
)
def test_unusable_epsilons_are_refused(attack, epsilon, message):
    with pytest.raises(ConfigError, match=message):
        scaled_attack(attack, epsilon)


def test_attacks_may_be_a_list(run_dir):
    found = sweep_epsilons(run_dir, (0.0,), ["main", "average"], limit=5)
    assert list(found.accuracies) == ["main", "average"]


def test_nothing_to_sweep_is_refused(run_dir):
    with pytest.raises(ConfigError, match="expected one at least, got none"):
        sweep_epsilons(run_dir, (), limit=5)
    with pytest.raises(ConfigError, match="expected one at least to sweep epsilon, got 'none'"):
        sweep_epsilons(run_dir, (0.1,), "none", limit=5)
