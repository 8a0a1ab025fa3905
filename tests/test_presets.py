"""The CIFAR-10 presets against the paper's numbers (epsilon 8/255, step 2/255 …), rivals against their RDI."""

import dataclasses

import pytest

from rdi_tf.config import AttackConfig, Config
from rdi_tf.models.registry import BACKBONES

PAPER = {
    # iterations, learning rate, where it falls, weights of the exits
    "cifar10-resnet38": (64_000, 0.1, (32_000, 48_000), (0.5, 0.5, 0.7, 0.7, 0.9, 0.9, 2.0)),
    "cifar10-mobilenetv2": (82_000, 0.05, (61_700, 70_000, 78_000), (0.5, 0.5, 1.0)),
}


@pytest.mark.parametrize("name", PAPER)
def test_schedule_and_attacks_are_the_papers(name):
    config = Config.load(name)
    training = config.training
    found = (training.iterations, training.learning_rate, training.decay_at, training.exit_weights)
    assert found == PAPER[name]
    assert (training.batch_size, training.momentum, training.weight_decay, training.decay_factor) == (
        128,
        0.9,
        1e-4,
        0.1,
    )
    assert (training.schedule, training.ema_decay, training.label_smoothing, training.precision) == (
        "step",
        0.0,
        0.0,
        "float32",
    )
    assert config.defence.attack == AttackConfig("pgd", epsilon=8 / 255, step_size=2 / 255, steps=10)
    assert config.evaluation == AttackConfig("pgd", epsilon=8 / 255, step_size=2 / 255, steps=20)
    assert (config.defence.name, config.defence.training_mode) == ("max_average", True)
    assert (config.data.augmentation, config.data.crop_padding, config.data.validation_every) == (
        ("crop", "flip"),
        4,
        10,
    )
    assert (config.policy.name, config.policy.calibration, config.model.branch) == ("entropy", "equal_share", "paper")


@pytest.mark.parametrize("name", PAPER)
def test_fast_presets_face_the_same_evaluation(name):
    paper, fast = Config.load(name), Config.load(f"{name}-fast")
    assert fast.evaluation == paper.evaluation
    assert fast.data == paper.data
    assert fast.defence.attack.epsilon == paper.defence.attack.epsilon
    assert fast.model.branch == "light"


@pytest.mark.parametrize("name", [*PAPER, *(f"{name}-fast" for name in PAPER)])
def test_every_exit_has_its_weight(name):
    config = Config.load(name)
    exits = BACKBONES[config.model.backbone].default_exits(config.model)
    assert len(config.training.exit_weights) == len(exits) + 1


@pytest.mark.parametrize(
    ("name", "suffix"),
    [(name, suffix) for name in ("mnist-smallcnn", "cifar10-resnet38") for suffix in ("", "-fast")]
    + [("cifar10-resnet38", "-strict")],
)
def test_single_exit_rivals_differ_in_exits_and_defence_alone(name, suffix):
    """One exit, attacked at that exit, on the same data, by the same attacks, for as many iterations.

    The strict preset's blocks lie in groups of its own; they cost what the rival's do, see below.
    """
    rdi, single = Config.load(name + suffix), Config.load(f"{name}-single{suffix}")
    assert (single.model.exits, single.defence.name) == ((), "main_branch")
    plain = {"exits": None, "branch": "paper", "group_blocks": ()}
    assert dataclasses.replace(single.model, **plain) == dataclasses.replace(rdi.model, **plain)
    assert dataclasses.replace(single.defence, name=rdi.defence.name, outputs=rdi.defence.outputs) == rdi.defence
    assert dataclasses.replace(single.training, exit_weights=rdi.training.exit_weights) == rdi.training
    assert (single.data, single.evaluation) == (rdi.data, rdi.evaluation)
    assert "single-exit" in single.source


def test_the_strict_preset_trains_and_attacks_what_it_deploys():
    config, published = Config.load("cifar10-resnet38-strict"), Config.load("cifar10-resnet38")
    assert config.defence.outputs == config.policy.name
    assert len(config.training.exit_weights) == len(config.model.exits) + 1
    from rdi_tf.costs import network_costs
    from rdi_tf.models import build_network

    costs = network_costs(build_network(config.model))
    early, main = (cost.executed_macs / costs.backbone.executed_macs for cost in costs.exits)
    assert (round(early, 3), round(main, 3)) == (0.662, 1.002)
    assert costs.backbone.executed_macs == 83_280_512
    assert config.policy.budget < 0.7 * costs.backbone.executed_macs
    assert (config.data, config.evaluation) == (published.data, published.evaluation)


def test_a_single_exit_rival_is_the_plain_backbone():
    from rdi_tf.costs import network_costs
    from rdi_tf.models import build_network

    (main,) = network_costs(build_network(Config.load("cifar10-resnet38-single").model)).exits
    assert (int(100 * main.paper_mflops), main.executed_macs) == (7942, 83_280_512)
