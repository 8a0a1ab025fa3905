"""Exit rules side by side, and the images kept for others, on a real small run."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest

from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation import trust
from rdi_tf.evaluation.policy_comparison import COLUMNS, PolicyComparison, compare_policies
from rdi_tf.evaluation.run import evaluate
from rdi_tf.evaluation.sample_images import save_images
from rdi_tf.network import load
from rdi_tf.policies import POLICIES, decide, get_policy

OPTIONS = {"limit": 40, "batch_size": 40}


@pytest.fixture
def run_dir(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.mark.parametrize(
    ("other", "run"),
    [("margin", ["main", "rerouted", "rerouted"]), ("running_average", ["main", "rerouted", "main", "rerouted"])],
)
def test_rules_share_the_attacks_that_do_not_depend_on_them(run_dir, other, run):
    seen = []
    found = compare_policies(
        run_dir,
        f"entropy,{other}",
        "main,rerouted",
        checks=False,
        progress=lambda name, *_: seen.append(name),
        **OPTIONS,
    )
    assert seen == run
    entropy, second = found.results
    alone = evaluate(run_dir, "main,rerouted", policy=other, checks=False, **OPTIONS)
    assert entropy.policy == "entropy" and entropy.thresholds == load(run_dir / "model.keras").thresholds
    assert (second.thresholds, second.attacks, second.clean) == (alone.thresholds, alone.attacks, alone.clean)


def test_checks_that_do_not_depend_on_the_rule_are_made_once(run_dir, monkeypatch):
    made = []
    for name in ("_vanished", "_two_passes"):
        check = getattr(trust, name)
        monkeypatch.setattr(trust, name, lambda bench, name=name, check=check: made.append(name) or check(bench))
    own = {"attack_outputs": "exits"}
    entropy, average = compare_policies(run_dir, "entropy,running_average", "main", **own, **OPTIONS).results
    assert sorted(made) == ["_two_passes", "_vanished"]
    assert entropy.checks == average.checks and "gradients" in entropy.checks
    made.clear()
    compare_policies(run_dir, "entropy,running_average", "main", **OPTIONS)
    assert sorted(made) == ["_two_passes", "_vanished", "_vanished"]


def test_the_table_of_every_rule(run_dir):
    found = compare_policies(run_dir, "all", "none", **OPTIONS)
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [line["exit rule"] for line in lines] == list(POLICIES)
    assert lines[0]["worst attack"] == ""
    clean = found.results[1].clean
    assert [float(lines[1][column]) for column in ("clean accuracy", *COLUMNS[4:])] == [
        round(100 * clean.accuracy, 6),
        round(clean.average_executed_macs, 6),
        round(100 * clean.executed_saving, 6),
        round(clean.average_paper_mflops, 6),
    ]
    attacked = dataclasses.replace(found.results[0], worst_case=1 / 3, per_image_worst_case=0.25)
    assert PolicyComparison((attacked,)).to_csv().splitlines()[1].split(",")[2:4] == ["33.333333", "25.0"]
    assert PolicyComparison((attacked,)).to_text().splitlines()[-1].split()[2:4] == ["33.33", "25.00"]
    assert f"{found.results[0].clean.average_executed_macs:,.0f}" in found.to_text()
    folder = run_dir / "evaluation"
    assert json.loads((folder / "policies-clean-first-40.json").read_text()) == found.to_dict()
    assert "| running_average |" in (folder / "policies-clean-first-40.md").read_text()
    header = next(line for line in found.to_text().splitlines() if line.startswith("exit rule"))
    assert header.endswith("paper MFlops, clean")


def test_attacks_on_policy_outputs_are_shared_by_rules_with_the_same_outputs(run_dir):
    seen = []
    compare_policies(
        run_dir,
        "entropy,margin,running_average",
        "average",
        checks=False,
        progress=lambda name, *_: seen.append(name),
        **OPTIONS,
    )
    assert seen == ["average", "average"]


def test_unknown_rules_are_refused(run_dir):
    with pytest.raises(ConfigError, match="policy: expected one of .*, got 'best'"):
        compare_policies(run_dir, "entropy,best", limit=5)
    with pytest.raises(ConfigError, match="expected one of the two"):
        compare_policies(run_dir, "all", policy="margin", limit=5)


def test_saved_images_are_what_the_network_saw(run_dir):
    path = save_images(run_dir, 12)
    net = load(run_dir / "model.keras")
    images, labels = as_arrays(load_dataset(net.config.data, "test", net.config.model.input_shape), 12)
    kept = np.load(path)
    np.testing.assert_array_equal(kept["clean"], images)
    np.testing.assert_array_equal(kept["labels"], labels)
    assert kept["class_names"].tolist() == [str(digit) for digit in range(10)]
    description = json.loads(str(kept["description"]))
    assert description["attack"]["epsilon"] == net.config.evaluation.epsilon
    assert (description["policy"], tuple(description["thresholds"])) == ("entropy", net.thresholds)
    for form in ("max_average", "slowdown"):
        assert kept[form].dtype == np.float32
        assert 0 < np.abs(kept[form] - images).max() <= net.config.evaluation.epsilon + 1e-6
    exits = [decide(get_policy("entropy"), net(kept[k]).numpy(), net.thresholds).exits for k in ("clean", "slowdown")]
    assert exits[1].mean() > exits[0].mean()
