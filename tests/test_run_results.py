"""Which of a run's evaluations count first."""

import contextlib
import dataclasses
import json
import zipfile

import numpy as np
import pytest

from rdi_tf.config import Config
from rdi_tf.errors import DataError
from rdi_tf.evaluation.results import ExitCosts, summarise
from rdi_tf.evaluation.run_results import RESULT_DIGEST, kept_evaluations, text_digest
from rdi_tf.policies import POLICIES
from rdi_tf.runs import RunFolder

COSTS = ExitCosts(("branch_1", "main"), (100, 300), (1.0, 4.0), 250, 4.0)


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", Config.load("digits-smallcnn"))


def keep(run, name, *, images=8, wrong=4, policy="entropy", thresholds=(0.5,), suite="all", **attack):
    """An evaluation under one attack that `wrong` images do not survive, with its files."""
    labels = np.zeros(images, int)
    right, fooled = np.array([[9.0, 0.0]] * 2), np.array([[0.0, 9.0]] * 2)
    attacked = np.stack([fooled] * wrong + [right] * (images - wrong))
    result = summarise(
        labels,
        np.stack([right] * images),
        {"average": attacked},
        POLICIES[policy],
        thresholds,
        COSTS,
        name="digits-smallcnn",
        dataset="digits",
        suite=suite,
        attack=dataclasses.asdict(run.config.evaluation) | attack,
        attack_outputs="exits",
        provenance={},
    )
    result.save(run.evaluation / f"{name}.json")
    np.savez(run.evaluation / f"{name}.npz", labels=labels)


def test_logits_of_another_evaluation_are_not_drawn(run):
    """As one leaves them that is killed between its two files."""
    keep(run, "again")
    (kept,) = kept_evaluations(run)
    text = (run.evaluation / "again.json").read_text()
    for digest, message in ((text_digest(text), None), (text_digest("older"), "not those of the result beside it")):
        np.savez(kept.logits_file, labels=np.zeros(8, int), **{RESULT_DIGEST: np.array(digest)})
        with pytest.raises(DataError, match=message) if message else contextlib.nullcontext():
            kept.logits([])


def has_now(run, policy, thresholds):
    """A model file that says so."""
    with zipfile.ZipFile(run.model_file, "w") as archive:
        kept = {"config": {"policy": {"name": policy}}, "thresholds": thresholds}
        archive.writestr("config.json", json.dumps({"config": kept}))


def names(run):
    return [kept.name for kept in kept_evaluations(run)]


def test_the_runs_own_attack_comes_before_weaker_ones(run):
    keep(run, "a-fgsm", algorithm="fgsm", wrong=2)
    keep(run, "b-small-epsilon-many-images", epsilon=0.001, images=16, wrong=1)
    keep(run, "c-slowdown-many-images", suite="slowdown", images=16)
    keep(run, "d-own")
    assert names(run)[0] == "d-own"


def test_more_images_then_what_leaves_less(run):
    keep(run, "a-few", images=4)
    keep(run, "b-mild", wrong=1)
    keep(run, "c-harsh", wrong=6)
    assert names(run) == ["c-harsh", "b-mild", "a-few"]


@pytest.mark.parametrize("now", [("entropy", [0.25]), ("margin", [0.5])])
def test_another_rule_or_other_thresholds_come_last(run, now):
    keep(run, "a-before", images=16)
    keep(run, "b-now", policy=now[0], thresholds=tuple(now[1]))
    assert [kept.outdated for kept in kept_evaluations(run)] == [False, False]  # no model file: nobody knows
    has_now(run, *now)
    assert [(kept.name, kept.outdated) for kept in kept_evaluations(run)] == [("b-now", False), ("a-before", True)]
