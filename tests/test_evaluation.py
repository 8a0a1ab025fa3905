"""Calibration and evaluation of a real, small, trained run."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from rdi_tf.calibration import calibrate_run, exit_costs, load_run
from rdi_tf.config import AttackConfig, PolicyConfig
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import CheckpointError, ConfigError, DataError
from rdi_tf.evaluation import suites, workbench
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.evaluation.run import evaluate, evaluation_name
from rdi_tf.evaluation.run_results import RESULT_DIGEST, text_digest
from rdi_tf.evaluation.suites import Search, Suite
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.network import load
from rdi_tf.policies import decide, get_policy
from rdi_tf.runs import RunFolder

EXITS = ("branch_1", "branch_2", "main")


@pytest.fixture
def run_dir(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture
def small_suite(monkeypatch):
    """Attacks in turns like the strong suite's, but few and short."""
    monkeypatch.setitem(suites.SEARCHES, "cw", Search({"loss": "margin", "steps": 4}))
    monkeypatch.setitem(suites.SUITES, "small", Suite(("average", "cw/rerouted", "cw/main"), in_turns=True))
    return "small"


def test_training_leaves_a_calibrated_network_that_has_learnt(trained_run):
    net = load(trained_run / "model.keras")
    assert len(net.thresholds) == 2
    images, labels = as_arrays(load_dataset(net.config.data, "test", net.config.model.input_shape))
    decision = decide(get_policy("entropy"), net.predict(images, verbose=0), net.thresholds)
    assert np.mean(decision.predictions == labels) > 0.8


def test_equal_shares_hold_on_the_validation_images(run_dir):
    found = calibrate_run(run_dir, PolicyConfig(calibration="equal_share"))
    assert found.images == 287  # 1,797 digits, every 5th for testing leaves 1,438, every 5th of those validates
    np.testing.assert_allclose(found.exit_shares, [1 / 3] * 3, atol=1 / 287)
    net = load(run_dir / "model.keras")
    assert net.thresholds == found.thresholds
    source = net.calibrated_on
    assert (source.dataset, source.split, source.images, len(source.digest)) == ("digits", "validation", 287, 64)
    assert source == found.source


def test_a_new_policy_is_kept_with_its_thresholds(run_dir):
    net = load(run_dir / "model.keras")
    macs = exit_costs(net).executed_macs
    budget = 0.5 * (macs[0] + macs[1])
    policy = PolicyConfig(name="margin", calibration="budget", budget=budget)
    found = calibrate_run(run_dir, policy)
    assert found.average_executed_macs <= budget
    assert load(run_dir / "model.keras").config.policy == policy


def test_adversarial_calibration_sees_twice_the_images(run_dir):
    found = calibrate_run(run_dir, PolicyConfig(adversarial=True), limit=40)
    assert found.images == 80 and found.source.images == 40


def test_evaluation_prints_and_keeps_the_papers_table(run_dir):
    result = evaluate(run_dir, limit=50, batch_size=50, checks=False)
    assert [attack.name for attack in result.attacks] == [*EXITS, "average", "max_average"]
    assert result.worst_case == min(attack.accuracy for attack in result.attacks)
    assert result.per_image_worst_case <= result.worst_case <= result.clean.accuracy + 0.1
    folder = run_dir / "evaluation"
    suffixes = sorted(path.suffix for path in folder.iterdir() if path.stem == "pgd-3-first-50")
    assert suffixes == [".csv", ".json", ".md", ".npz"]
    assert EvaluationResult.load(folder / "pgd-3-first-50.json") == result
    assert "Per-image worst case" in (folder / "pgd-3-first-50.md").read_text()
    assert json.loads((folder / "pgd-3-first-50.json").read_text())["provenance"]["seed"] == 0


def test_kept_logits_reproduce_the_result(run_dir):
    result = evaluate(run_dir, attacks="main", limit=40, batch_size=40, checks=False)
    kept = np.load(run_dir / "evaluation" / "main-pgd-3-first-40.npz")
    decision = decide(get_policy("entropy"), kept["main"], result.thresholds)
    assert np.mean(decision.predictions == kept["labels"]) == result.attacks[0].accuracy


def test_stronger_attacks_break_more(run_dir):
    options = {"attacks": "main", "limit": 60, "batch_size": 60, "checks": False}
    weak = evaluate(run_dir, **options)
    strong = AttackConfig(epsilon=0.3, step_size=0.1, steps=10)
    assert evaluate(run_dir, attack=strong, **options).worst_case < weak.worst_case - 0.3


def test_clean_figures_alone(run_dir):
    result = evaluate(run_dir, attacks="none")
    assert result.images == 359 and result.attacks == () and result.worst_case is None
    assert (run_dir / "evaluation" / "clean.json").is_file()


def test_other_splits_are_kept_apart(run_dir):
    result = evaluate(run_dir, "average,main", split="validation", limit=30)
    folder = run_dir / "evaluation"
    name = "average+main-pgd-3-first-30"
    assert not (folder / f"{name}.json").exists()
    assert EvaluationResult.load(folder / "validation" / f"{name}.json") == result
    assert (result.split, result.images) == ("validation", 30)
    assert "split" in {warning.check for warning in result.warnings}
    assert "30 validation images of digits" in (folder / "validation" / f"{name}.md").read_text()
    config = load(run_dir / "model.keras").config
    images, labels = as_arrays(load_dataset(config.data, "validation", config.model.input_shape), limit=30)
    assert np.array_equal(np.load(folder / "validation" / f"{name}.npz")["labels"], labels)
    # What is kept there is used again there, and nowhere else.
    again = evaluate(run_dir, "average,main", split="validation", limit=30, reuse=True, checks=False)
    assert again.provenance["reused"] == {"average": name, "main": name}
    assert "reused" not in evaluate(run_dir, "main", limit=30, reuse=True, checks=False).provenance


def test_the_strict_suite_attacks_every_exit_and_the_rule(run_dir):
    result = evaluate(run_dir, "strict", limit=30, checks=False)
    expected = ["average", "rerouted", *EXITS, *(f"policy_{name}" for name in EXITS)]
    assert [attack.name for attack in result.attacks] == expected
    assert [attack.kind for attack in result.attacks] == ["attack", *["remaining"] * 7]
    standing = [attack.accuracy for attack in result.attacks]
    assert standing == sorted(standing, reverse=True) and standing[-1] == result.per_image_worst_case
    nine = evaluate(run_dir, limit=30, checks=False)
    assert result.per_image_worst_case <= nine.per_image_worst_case + 0.1


class Killed(BaseException):
    """Stops an evaluation wherever it is."""


def killer(attack, batches):
    """Progress that kills the evaluation once an attack has done so many batches."""
    seen = []

    def progress(name, done, total):
        seen.append(name)
        if seen.count(attack) == batches:
            raise Killed

    return progress


@pytest.mark.parametrize(
    ("attacks", "first", "second", "batches"),
    [("main,average", ("main", 2), ("average", 1), 2), ("small", ("cw/rerouted", 1), ("cw/main", 1), 4)],
)
def test_an_interrupted_evaluation_goes_on(run_dir, small_suite, attacks, first, second, batches):
    """Killed in the middle, the evaluation ends with what an uninterrupted one finds, survivors' turns and all."""
    options = {"limit": 60, "batch_size": 20, "checks": False}
    whole = evaluate(run_dir, attacks, **options)
    with pytest.raises(Killed):
        evaluate(run_dir, attacks, **options, progress=killer(*first))
    left = next((run_dir / "evaluation").glob("unfinished-*"))
    kept = {path: path.stat().st_mtime_ns for path in left.rglob("*.npy")}
    assert len(kept) == batches
    with pytest.raises(Killed):
        evaluate(run_dir, attacks, **options, progress=killer(*second))
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in left.rglob("*.npy")}.items()  # not computed again
    again = evaluate(run_dir, attacks, **options)
    assert dataclasses.replace(again, provenance={}) == dataclasses.replace(whole, provenance={})
    assert not left.exists()


KILL_ITSELF = """
import os, signal, sys
from rdi_tf.evaluation.run import evaluate

def progress(name, done, total):
    if (name, done) == ("average", 20):
        os.kill(os.getpid(), signal.SIGKILL)

evaluate(sys.argv[1], "main,average", limit=40, batch_size=20, checks=False, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_process_loses_no_finished_batch(run_dir, repository):
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", KILL_ITSELF, str(run_dir)]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(path.name for path in (run_dir / "evaluation").glob("unfinished-*/*.npy"))
    assert left == ["average-00000.npy", "main-00000.npy", "main-00001.npy"]
    seen = []
    options = {"limit": 40, "batch_size": 20, "checks": False}
    result = evaluate(run_dir, "main,average", **options, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("average", 40, 40) and result.images == 40


def test_a_suite_in_turns_meets_survivors_only(run_dir, small_suite):
    result = evaluate(run_dir, small_suite, attack=AttackConfig(epsilon=0.1, step_size=0.05, steps=4), limit=60)
    first, second, third = result.attacks
    assert [attack.kind for attack in result.attacks] == ["attack", "remaining", "remaining"]
    assert first.images == 60
    assert 60 > second.images >= third.images == round(60 * second.accuracy)
    assert result.worst_case is None  # of attacks that met other images there is no lowest accuracy
    assert result.per_image_worst_case == third.accuracy <= second.accuracy <= first.accuracy
    assert (second.search["loss"], second.search["epsilon"]) == ("margin", 0.1)
    assert (result.suite, result.attack["loss"]) == ("small", "cross_entropy")
    # What the result says is what the kept logits say.
    (file,) = (run_dir / "evaluation").glob("small-pgd-4-epsilon-0.1-*-first-60.npz")
    kept = np.load(file)
    decision = decide(get_policy("entropy"), kept["cw/main"], result.thresholds)
    assert np.mean(decision.predictions == kept["labels"]) == third.accuracy
    assert result.checks[:2] == ("thresholds", "determinism")
    # Whether four steps are enough depends on the network, which other processors train a little differently.
    assert {warning.check for warning in result.warnings} <= {"more steps"}


def test_slowdown_suite_slows_down(run_dir):
    attack = AttackConfig(epsilon=0.1, step_size=0.03, steps=5)
    result = evaluate(run_dir, "slowdown", attack=attack, limit=40, batch_size=40, checks=False)
    assert [outcome.name for outcome in result.attacks] == ["slowdown", "pgd-r5/slowdown"]
    for outcome in result.attacks:
        assert outcome.efficacy < result.clean.efficacy - 0.1
        assert outcome.average_executed_macs > result.clean.average_executed_macs
        assert outcome.exit_shares[-1] > result.clean.exit_shares[-1]


def test_another_exit_rule_is_calibrated_on_validation_images(run_dir):
    result = evaluate(run_dir, "main,rerouted", policy="running_average", limit=40, batch_size=40, checks=False)
    assert result.policy == "running_average"
    found = calibrate_run(shutil.copytree(run_dir, run_dir.parent / "other"), PolicyConfig(name="running_average"))
    assert result.thresholds == found.thresholds
    assert (run_dir / "evaluation" / "main+rerouted-pgd-3-running_average-first-40.json").is_file()
    assert load(run_dir / "model.keras").config.policy.name == "entropy"  # the run stays as it is
    with pytest.raises(ConfigError, match="policy: expected one of"):
        evaluate(run_dir, policy="best")


def test_kept_logits_are_used_again_where_they_fit(run_dir):
    """Another exit rule leaves attacks on exits as they are; attacks on the rule, and other attacks, run again."""
    options = {"limit": 40, "batch_size": 40, "checks": False}
    first = evaluate(run_dir, "main,average,rerouted", **options)
    seen = []

    def again(**changes):
        seen.clear()
        return evaluate(
            run_dir, "main,rerouted", reuse=True, progress=lambda name, *_: seen.append(name), **options | changes
        )

    result = again(policy="margin")
    assert (list(result.provenance["reused"]), seen) == (["main"], ["rerouted"])
    assert result.attacks[0].per_exit_accuracy == first.attacks[0].per_exit_accuracy
    fewer = again(limit=20, batch_size=20)
    assert (list(fewer.provenance["reused"]), fewer.images) == (["main"], 20)
    for changes in (
        {"seed": 1},
        {"limit": 41, "batch_size": 41},
        {"attack": AttackConfig(epsilon=0.1, step_size=0.05, steps=2)},
        {"policy": "running_average"},
    ):
        assert "reused" not in again(**changes).provenance, changes
        assert seen == ["main", "rerouted"]
    net = load(run_dir / "model.keras")
    net.set_weights([1.1 * weight for weight in net.get_weights()])
    net.save(run_dir / "model.keras")
    assert "reused" not in again().provenance


def test_logits_beside_another_result_are_not_used_again(run_dir):
    """As an evaluation leaves them that is killed between its two files."""
    options = {"limit": 20, "batch_size": 20, "checks": False}
    weak = AttackConfig(epsilon=0.01, step_size=0.01, steps=3)
    evaluate(run_dir, "main", **options, attack=weak)
    evaluate(run_dir, "main", **options)
    folder = run_dir / "evaluation"
    (other,) = folder.glob("main-pgd-3-epsilon-0.01-*.npz")
    os.replace(other, folder / "main-pgd-3-first-20.npz")
    assert "reused" not in evaluate(run_dir, "main", reuse=True, **options).provenance


@pytest.mark.parametrize(("suffix", "content"), [(".json", "{"), (".json", None), (".npz", "no zip")])
def test_damaged_files_are_passed_over(run_dir, suffix, content):
    options = {"limit": 20, "batch_size": 20, "checks": False}
    evaluate(run_dir, "main", **options)
    (file,) = (run_dir / "evaluation").glob(f"*{suffix}")
    if content is None:  # costs that do not go together
        table = json.loads(file.read_text())
        table["costs"]["executed_macs"].pop()
        content = json.dumps(table)
    file.write_text(content)
    assert "reused" not in evaluate(run_dir, "main", reuse=True, **options).provenance


def test_two_names_for_one_attack(run_dir, monkeypatch):
    monkeypatch.setitem(suites.SEARCHES, "same", Search())
    result = evaluate(run_dir, "main,same/main", limit=20, batch_size=20, checks=False)
    first, second = result.attacks
    assert (first.name, second.name) == ("main", "same/main") and first.accuracy == second.accuracy


def test_what_differs_is_kept_under_another_name(run_dir):
    bench = Workbench.open(run_dir, limit=20)
    usual = bench.attack

    def name(attacks="paper", **changes):
        return evaluation_name(dataclasses.replace(bench, **changes), attacks)

    assert (name(), name("none"), name("all")) == ("pgd-3-first-20", "clean-first-20", "all-pgd-3-first-20")
    assert name("main, apgd-ce/average") == "main+apgd-ce-average-pgd-3-first-20"
    assert name(seed=4) == "pgd-3-seed-4-first-20"
    assert name(outputs="exits") == "pgd-3-exit-outputs-first-20"
    fast = dataclasses.replace(usual, algorithm="fgsm", norm="l2", epsilon=0.25)
    assert name(attack=fast) == "fgsm-epsilon-0.25-norm-l2-first-20"
    long = ",".join(f"apgd-dlr-t/{exit_name}" for exit_name in (*EXITS, "average"))
    assert len(name(long)) < 40 and name(long) != name(f"{long},random")


def test_a_killed_evaluation_is_left_alone_by_others(run_dir):
    options = {"limit": 20, "batch_size": 20, "checks": False}
    with pytest.raises(Killed):
        evaluate(run_dir, "paper", **options, progress=killer("branch_1", 1))
    (left,) = (run_dir / "evaluation").glob("unfinished-*")
    evaluate(run_dir, "none", **options)
    evaluate(run_dir, "main", **options)
    assert [path.name for path in left.iterdir()] == ["branch_1-00000.npy"]


def test_warnings_stand_in_the_result_and_its_table(run_dir):
    net = load(run_dir / "model.keras")
    net.calibrated_on = None
    net.save(run_dir / "model.keras")
    result = evaluate(run_dir, "none", limit=20)
    assert [warning.check for warning in result.warnings] == ["thresholds"]
    assert result.checks == ("thresholds", "determinism")
    assert "WARNING (thresholds): nobody recorded" in (run_dir / "evaluation" / "clean-first-20.md").read_text()


def test_benches_of_several_rules_share_one_pass_over_the_validation_images(run_dir, monkeypatch):
    bench = Workbench.open(run_dir, limit=20)
    calls = []
    once = workbench.CalibrationImages.of
    monkeypatch.setattr(workbench.CalibrationImages, "of", lambda *args, **_: calls.append(1) or once(*args))
    own, margin, patience = bench.with_policies(["entropy", "margin", "patience"])
    assert len(calls) == 1
    assert own is bench and margin.clean is bench.clean
    assert (margin.rule.name, patience.rule.name) == ("margin", "patience")
    assert margin.calibrated_on.split == "validation" and margin.config.policy.name == "margin"


def test_attacked_calibration_images_aim_at_what_each_rule_calls_classes_from(run_dir):
    bench = Workbench.open(run_dir, limit=20)
    policy = dataclasses.replace(bench.config.policy, adversarial=True)
    bench = dataclasses.replace(bench, config=dataclasses.replace(bench.config, policy=policy))
    margin, average = bench.with_policies(["margin", "running_average"])
    own, averaged = (
        bench.computed["calibration", get_policy(name).combine].logits for name in ("margin", "running_average")
    )
    clean = len(own) // 2
    np.testing.assert_array_equal(own[:clean], averaged[:clean])
    labels = as_arrays(load_dataset(bench.config.data, "validation", bench.config.model.input_shape))[1]

    def loss(logits):  # of what the running average calls classes from
        calls = get_policy("running_average").log_probabilities(logits[clean:])
        return -np.take_along_axis(calls, labels[:, None, None].repeat(3, axis=1), axis=-1).mean()

    assert loss(averaged) > loss(own)
    assert margin.rule.thresholds != average.rule.thresholds


def test_what_is_not_a_finished_run_is_refused(run_dir, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate(tmp_path)
    (run_dir / "model.keras").unlink()
    with pytest.raises(CheckpointError, match="no model.keras yet"):
        evaluate(run_dir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": AttackConfig(algorithm="n_fgsm", epsilon=0.1, step_size=0.1)}, "evaluation"),
        ({"attack": AttackConfig(epsilon=8.0)}, "evaluation.epsilon"),
        ({"attack": AttackConfig(steps=0)}, "evaluation.steps"),
        ({"limit": 0}, "limit: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
    ],
)
def test_what_a_configuration_refuses_is_refused_from_python_too(run_dir, options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        evaluate(run_dir, "main", **options)
    assert not list((run_dir / "evaluation").glob("*.json"))


def test_attacks_may_be_a_list(run_dir):
    options = {"limit": 20, "batch_size": 20, "checks": False}
    found = evaluate(run_dir, ["main", "average"], **options)
    assert [one.name for one in found.attacks] == ["main", "average"]


def test_results_with_a_search_that_is_not_known_are_passed_over(run_dir):
    options = {"limit": 20, "batch_size": 20, "checks": False}
    evaluate(run_dir, "main", **options)
    (file,) = (run_dir / "evaluation").glob("main-*.json")
    table = json.loads(file.read_text())
    table["attacks"][0]["search"]["patience"] = 3
    file.write_text(json.dumps(table))
    npz = file.with_suffix(".npz")
    with np.load(npz) as kept:
        arrays = {**kept, RESULT_DIGEST: np.array(text_digest(file.read_text()))}
    np.savez(npz, **arrays)
    assert "reused" not in evaluate(run_dir, "main", reuse=True, **options).provenance


def test_a_network_without_thresholds_is_refused(run_dir):
    net = load_run(RunFolder.open(run_dir))
    net.thresholds = None
    net.save(run_dir / "model.keras")
    with pytest.raises(CheckpointError, match="rdi-tf calibrate"):
        evaluate(run_dir)
