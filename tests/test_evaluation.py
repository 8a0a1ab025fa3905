"""Calibration and evaluation of a real, small, trained run."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rdi_tf.calibration import calibrate_run, exit_costs, load_run
from rdi_tf.config import AttackConfig, PolicyConfig
from rdi_tf.data import as_arrays, load_dataset
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.evaluation import attack_forms, evaluate
from rdi_tf.network import load
from rdi_tf.policies import decide, get_policy
from rdi_tf.results import EvaluationResult
from rdi_tf.runs import RunFolder

EXITS = ("branch_1", "branch_2", "main")


@pytest.fixture
def run_dir(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


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
    assert load(run_dir / "model.keras").thresholds == found.thresholds


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
    assert found.images == 80


def test_evaluation_prints_and_keeps_the_papers_table(run_dir):
    result = evaluate(run_dir, limit=50, batch_size=50)
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
    result = evaluate(run_dir, attacks="main", limit=40, batch_size=40)
    kept = np.load(run_dir / "evaluation" / "pgd-3-first-40.npz")
    decision = decide(get_policy("entropy"), kept["main"], result.thresholds)
    assert np.mean(decision.predictions == kept["labels"]) == result.attacks[0].accuracy


def test_stronger_attacks_break_more(run_dir):
    weak = evaluate(run_dir, attacks="main", limit=60, batch_size=60)
    strong = AttackConfig(epsilon=0.3, step_size=0.1, steps=10)
    assert evaluate(run_dir, attacks="main", attack=strong, limit=60, batch_size=60).worst_case < weak.worst_case - 0.3


def test_clean_figures_alone(run_dir):
    result = evaluate(run_dir, attacks="none")
    assert result.images == 359 and result.attacks == () and result.worst_case is None
    assert (run_dir / "evaluation" / "clean.json").is_file()


def test_an_interrupted_evaluation_goes_on(run_dir):
    """Killed after the second batch, the evaluation ends with what an uninterrupted one finds, files and all."""

    class Killed(BaseException):
        pass

    def kill(form, done, total):
        if done == 40:
            raise Killed

    whole = evaluate(run_dir, attacks="main,average", limit=60, batch_size=20)
    with pytest.raises(Killed):
        evaluate(run_dir, attacks="main,average", limit=60, batch_size=20, progress=kill)
    left = next((run_dir / "evaluation").glob("unfinished-*"))
    assert len(list(left.iterdir())) == 2
    again = evaluate(run_dir, attacks="main,average", limit=60, batch_size=20)
    assert dataclasses.replace(again, provenance={}) == dataclasses.replace(whole, provenance={})
    assert not left.exists()


def test_names_of_forms():
    assert attack_forms("paper", EXITS) == (*EXITS, "average", "max_average")
    assert attack_forms("all", EXITS)[-1] == "random"
    assert attack_forms("main, random", EXITS) == ("main", "random")
    with pytest.raises(ConfigError, match="'branch_7'"):
        attack_forms("main,branch_7", EXITS)


def test_what_is_not_a_finished_run_is_refused(run_dir, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate(tmp_path)
    (run_dir / "model.keras").unlink()
    with pytest.raises(CheckpointError, match="no model.keras yet"):
        evaluate(run_dir)


def test_a_network_without_thresholds_is_refused(run_dir):
    net = load_run(RunFolder.open(run_dir))
    net.thresholds = None
    net.save(run_dir / "model.keras")
    with pytest.raises(CheckpointError, match="rdi-tf calibrate"):
        evaluate(run_dir)
