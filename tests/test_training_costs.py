"""Multiply-adds of an iteration: RDI-SmallCNN with the paper's branches, as visible arithmetic."""

import dataclasses

import pytest

from rdi_tf.config import Config
from rdi_tf.errors import ConfigError
from rdi_tf.network import build
from rdi_tf.training.costs import iteration_costs

WHOLE = 11_135_152  # all exits
CONV1 = 26 * 26 * 9 * 32
BRANCH_1 = 1_015_440 - CONV1
# What each exit's attack runs: branch 1 with the first convolution, branch 2 without branch 1, the plain backbone.
SINGLE = (1_015_440, 8_529_056 - BRANCH_1, 9_952_400)


@pytest.fixture(scope="module")
def net():
    return build(Config.load("mnist-smallcnn"))


@pytest.fixture
def defence():
    return Config.load("mnist-smallcnn").defence


def changed(defence, name, **attack):
    return dataclasses.replace(defence, name=name, attack=dataclasses.replace(defence.attack, **attack))


def test_max_average_runs_every_exits_attack(net, defence):
    found = iteration_costs(net, defence)
    assert defence.attack.steps == 40
    assert found.attack == 40 * 2 * sum(SINGLE) + 3 * WHOLE
    assert found.update == 2 * 3 * WHOLE
    assert (found.alignment, found.total) == (0, found.attack + found.update)


def test_other_defences(net, defence):
    assert iteration_costs(net, changed(defence, "standard")).total == 3 * WHOLE
    assert iteration_costs(net, changed(defence, "main_branch", steps=5)).attack == 5 * 2 * SINGLE[2]
    assert iteration_costs(net, changed(defence, "average", steps=5, restarts=2)).attack == (10 * 2 + 2) * WHOLE


@pytest.mark.parametrize("algorithm", ["fgsm", "n_fgsm"])
def test_one_step_attacks_take_one_step(net, defence, algorithm):
    one_step = changed(defence, "average", algorithm=algorithm)
    assert iteration_costs(net, one_step).attack == 2 * WHOLE
    aligned = dataclasses.replace(one_step, alignment=0.2)
    assert iteration_costs(net, aligned).alignment == 2 * 6 * WHOLE


def test_what_is_not_counted_is_refused(net, defence):
    for changes, key in (({"algorithm": "square"}, "algorithm"), ({"loss": "dlr_targeted"}, "loss")):
        with pytest.raises(ConfigError, match=f"defence.attack.{key}: .* not counted"):
            iteration_costs(net, changed(defence, "average", **changes))


def test_free_training_costs_its_updates_alone(net, defence):
    found = iteration_costs(net, changed(defence, "free", steps=4))
    assert (found.attack, found.update) == (0, 4 * 3 * WHOLE)


def test_ingredients(net, defence):
    average = changed(defence, "average", steps=5)
    for name in ("worst_exit", "random_exit"):
        assert iteration_costs(net, changed(defence, name, steps=5)) == iteration_costs(net, average)
    # Two looks at the clean images (thresholds, first candidates), one at the last candidates.
    assert iteration_costs(net, changed(defence, "rerouted", steps=5)).attack == (5 * 2 + 3) * WHOLE
    assert iteration_costs(net, changed(defence, "average", steps=5, loss="divergence")).attack == (5 * 2 + 1) * WHOLE
    assert iteration_costs(net, dataclasses.replace(average, clean_share=0.0)).update == 3 * WHOLE
    perturbed = dataclasses.replace(average, weight_perturbation=0.01)
    assert iteration_costs(net, perturbed).update == 2 * iteration_costs(net, average).update
    aligned = iteration_costs(net, dataclasses.replace(average, alignment=0.2)).alignment
    both = dataclasses.replace(average, alignment=0.2, weight_perturbation=0.01)
    assert iteration_costs(net, both).alignment == 2 * aligned > 0
    averaged = dataclasses.replace(changed(defence, "max_average", steps=5), outputs="running_average")
    up_to = (1_015_440, 8_529_056, WHOLE)  # an average needs the branches before it
    assert iteration_costs(net, averaged).attack == 5 * 2 * sum(up_to) + 3 * WHOLE
