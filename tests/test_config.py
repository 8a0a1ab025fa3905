"""Configuration: TOML in and out, overrides, every refusal, and no TensorFlow."""

import dataclasses
import re
import subprocess
import sys

import pytest

from rdi_tf.config import AttackConfig, Config, DefenceConfig, ModelConfig, PolicyConfig, TrainingConfig, preset_names
from rdi_tf.config_rules import doubts
from rdi_tf.errors import ConfigError

FULL = Config(
    model=ModelConfig(backbone="resnet", input_shape=(32, 32, 3), exits=("a", "b"), depth=20),
    defence=DefenceConfig("average", AttackConfig(epsilon=8 / 255, step_size=2 / 255, steps=10)),
    training=TrainingConfig(exit_weights=(0.5, 1.0, 2.0), decay_at=(10, 20), ema_decay=0.999),
    policy=PolicyConfig("margin", "shares", shares=(0.5, 0.25, 0.25)),
    name='with "quotes" and é',
    source="a test",
)


@pytest.mark.parametrize("config", [Config(), FULL], ids=["defaults", "full"])
def test_round_trip_through_a_file(config, tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert Config.load(path) == config
    assert Config.from_dict(config.to_dict()) == config


def test_a_file_without_a_name_takes_its_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nseed = 5\n")
    config = Config.load(path)
    assert (config.name, config.training.seed) == ("mine", 5)
    assert config.model == ModelConfig()


@pytest.mark.parametrize("name", preset_names())
def test_presets_load(name):
    config = Config.load(name)
    assert config.source
    assert Config.from_dict(config.to_dict()) == config


def test_load_refuses(tmp_path):
    with pytest.raises(ConfigError, match="'nothing' is neither a preset"):
        Config.load("nothing")
    (tmp_path / "broken.toml").write_text("[model")
    with pytest.raises(ConfigError, match="broken.toml is not a TOML file"):
        Config.load(tmp_path / "broken.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + b"[training]\nseed = 3\n")
    assert Config.load(tmp_path / "marked.toml").training.seed == 3
    with pytest.raises(ConfigError, match="bytes.toml is not a TOML file"):
        Config.load(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("training.seed=7", lambda config: config.training.seed, 7),
        ("training.learning_rate = 1", lambda config: config.training.learning_rate, 1.0),
        ("data.name=cifar10", lambda config: config.data.name, "cifar10"),
        ('data.name="cifar10"', lambda config: config.data.name, "cifar10"),
        ("data.name=folder=odd", lambda config: config.data.name, "folder=odd"),
        ("defence.attack.steps=10", lambda config: config.defence.attack.steps, 10),
        ("evaluation.random_start=false", lambda config: config.evaluation.random_start, False),
        ("model.input_shape=[32, 32, 3]", lambda config: config.model.input_shape, (32, 32, 3)),
        ("model.exits=[]", lambda config: config.model.exits, ()),
        ('data.augmentation=["crop", "flip"]', lambda config: config.data.augmentation, ("crop", "flip")),
        ("name=mine", lambda config: config.name, "mine"),
    ],
)
def test_settings(setting, read, expected):
    config = Config().with_settings([setting])
    assert read(config) == expected and type(read(config)) is type(expected)


def test_the_last_setting_wins_and_the_original_stays():
    config = Config()
    changed = config.with_settings(["training.seed=7", "training.seed=8", "training.schedule=cosine"])
    assert (changed.training.seed, changed.training.schedule) == (8, "cosine")
    assert config == Config()
    assert dataclasses.replace(changed.training, seed=0, schedule="step") == config.training


# One row for each refusal: the setting, and what the message has to name.
REFUSED = [
    ("training.seed", "expected section.key=value"),
    ("training.sed=1", "unknown key training.sed; expected one of .*seed"),
    ("trainig.seed=1", "unknown key trainig; expected one of model"),
    ("training.seed.deep=1", "'seed' is a value, not a section"),
    ("training=5", "training: expected keys with values, got 5"),
    ("training.seed=1.5", "training.seed: expected int, got 1.5"),
    ("training.seed=true", "training.seed: expected int, got True"),
    ("training.learning_rate=fast", "training.learning_rate: expected float, got 'fast'"),
    ("data.name=5", "data.name: expected str, got 5"),
    ("evaluation.random_start=1", "evaluation.random_start: expected bool, got 1"),
    ("model.input_shape=[28, 28]", "model.input_shape: expected a list of 3, got"),
    ("model.input_shape=28", "model.input_shape: expected a list of 3, got 28"),
    ('training.decay_at=[1, "2"]', r"training.decay_at\[1\]: expected int, got '2'"),
    ("model.exits=block_2", "model.exits: expected a list, got 'block_2'"),
    ("defence.name=none", "defence.name: expected one of standard, .*got 'none'"),
    ("defence.attack.algorithm=cw", "defence.attack.algorithm: expected one of pgd"),
    ("evaluation.algorithm=cw", "evaluation.algorithm: expected one of pgd"),
    ("evaluation.algorithm=n_fgsm", "evaluation.algorithm: expected one of pgd, fgsm, wrm, apgd, square, got 'n_fgsm'"),
    ("defence.attack.noise=-1", "defence.attack.noise: expected at least 0"),
    ("defence.alignment=-1", "defence.alignment: expected at least 0"),
    ("training.schedule=linear", "training.schedule: expected one of step"),
    ("training.precision=float16", "training.precision: expected one of float32"),
    ("policy.name=guess", "policy.name: expected one of entropy, .*got 'guess'"),
    ("policy.calibration=guess", "policy.calibration: expected one of equal_share"),
    ('data.augmentation=["crop", "blur"]', "data.augmentation: expected one of crop, .*got 'blur'"),
    ("defence.attack.epsilon=-0.1", "defence.attack.epsilon: expected at least 0, got -0.1"),
    ("defence.attack.epsilon=8", "defence.attack.epsilon: expected at most 1, got 8.0"),
    ("defence.attack.step_size=-1", "defence.attack.step_size: expected at least 0"),
    ("defence.attack.step_size=2", "defence.attack.step_size: expected at most 1"),
    ("defence.attack.steps=0", "defence.attack.steps: expected at least 1, got 0"),
    ("defence.attack.restarts=0", "defence.attack.restarts: expected at least 1"),
    ("defence.warmup_iterations=-1", "defence.warmup_iterations: expected at least 0"),
    ("evaluation.epsilon=-0.1", "evaluation.epsilon: expected at least 0"),
    ("evaluation.epsilon=8", "evaluation.epsilon: expected at most 1"),
    ("evaluation.step_size=-1", "evaluation.step_size: expected at least 0"),
    ("evaluation.step_size=2", "evaluation.step_size: expected at most 1"),
    ("evaluation.steps=0", "evaluation.steps: expected at least 1"),
    ("evaluation.restarts=0", "evaluation.restarts: expected at least 1"),
    ("evaluation={algorithm='fgsm', restarts=2}", "evaluation.restarts: expected 1 where nothing is random .fgsm"),
    ("defence.attack={random_start=false, restarts=3}", "defence.attack.restarts: expected 1 where .* got 3"),
    ("evaluation.epsilon=nan", "evaluation.epsilon: expected a finite number, got nan"),
    ("data.validation_every=1", "data.validation_every: expected at least 2"),
    ("data.crop_padding=-1", "data.crop_padding: expected at least 0"),
    ("model.num_classes=1", "model.num_classes: expected at least 2"),
    ("model.input_shape=[0, 28, 1]", "model.input_shape: expected at least 1"),
    ("model.dropout=1.0", "model.dropout: expected 0 <= value < 1, got 1.0"),
    ("model.dropout=-0.1", "model.dropout: expected 0 <= value < 1"),
    ("model.width_multiplier=0.0", "model.width_multiplier: expected more than 0"),
    ("training.iterations=0", "training.iterations: expected at least 1"),
    ("training.batch_size=0", "training.batch_size: expected at least 1"),
    ("training.learning_rate=0.0", "training.learning_rate: expected more than 0, got 0.0"),
    ("training.learning_rate=inf", "training.learning_rate: expected a finite number, got inf"),
    ("training.decay_at=[-1]", "training.decay_at: expected at least 0"),
    ("training.decay_at=[20, 10]", "training.decay_at: expected growing numbers"),
    ("training.decay_factor=0.0", "training.decay_factor: expected more than 0"),
    ("training.decay_factor=10", "training.decay_factor: expected at most 1"),
    ("training.warmup_fraction=-0.1", "training.warmup_fraction: expected at least 0"),
    ("training.warmup_fraction=1.1", "training.warmup_fraction: expected at most 1"),
    ("training.momentum=1.0", "training.momentum: expected 0 <= value < 1"),
    ("training.weight_decay=-1", "training.weight_decay: expected at least 0"),
    ("training.exit_weights=[1, -1]", "training.exit_weights: expected at least 0, got -1.0"),
    ("training.exit_weights=[0, 0]", "training.exit_weights: expected one above 0"),
    ("training.exit_weights=[1, nan]", "training.exit_weights: expected a finite number"),
    ("training.label_smoothing=1.0", "training.label_smoothing: expected 0 <= value < 1"),
    ("training.ema_decay=1.0", "training.ema_decay: expected 0 <= value < 1"),
    ("training.validate_every=0", "training.validate_every: expected at least 1"),
    ("training.validation_images=0", "training.validation_images: expected at least 1"),
    ("training.checkpoint_seconds=-1", "training.checkpoint_seconds: expected at least 0"),
    ("training.seed=-1", "training.seed: expected at least 0"),
    ("training.seed=99999999999", "training.seed: expected at most 4294967295, got 99999999999"),
    ("policy.shares=[1.5, -0.5]", "policy.shares: expected at least 0"),
    ("policy.shares=[0.5, 0.4]", "policy.shares: expected a sum of 1, .*0.9"),
    ("policy.calibration=shares", "policy.shares: expected one share for each exit"),
    ("policy.budget=-1", "policy.budget: expected at least 0"),
    ("policy.calibration=budget", "policy.budget: expected more than 0"),
    ("policy.max_accuracy_loss=-0.1", "policy.max_accuracy_loss: expected at least 0"),
    ("policy.max_accuracy_loss=1.1", "policy.max_accuracy_loss: expected at most 1"),
]


@pytest.mark.parametrize(("setting", "message"), REFUSED, ids=[setting for setting, _ in REFUSED])
def test_refuses(setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config().with_settings([setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["defence.name=standard"], "defence.alignment: expected 0 .*the standard defence attacks nothing.*got 0.2"),
        (["defence.attack.norm=l2"], "defence.attack.norm: expected 'linf' with defence.alignment, got 'l2'"),
        (["defence.attack.algorithm=wrm"], "defence.alignment: expected 0 with 'wrm', whose epsilon is no radius"),
        (["defence.attack.algorithm=n_fgsm", "defence.attack.norm=l2"], "defence.attack.norm: expected one of linf"),
    ],
)
def test_refuses_together(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config().with_settings([*settings, "defence.alignment=0.2"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("defence.name=standard defence.trades=6", "defence.trades: expected 0 .the standard defence attacks nothing"),
        ("defence.name=standard defence.distillation=1", "defence.distillation: expected 0 .the standard defence"),
        ("defence.name=free defence.trades=6", "defence.trades: expected 0 with the defence free, got 6.0"),
        ("defence.name=free defence.weight_perturbation=0.01", "defence.weight_perturbation: expected 0 with the def"),
        ("model.exits=[] defence.distillation=1", "defence.distillation: expected 0 in a network with one exit"),
        (
            "defence.distillation=1 defence.outputs=running_average defence.teacher=running_average",
            "defence.teacher: expected 'main' with defence.outputs running_average.* got 'running_average'",
        ),
        ("defence.name=worst_exit defence.attack.loss=dlr_targeted", "defence.attack.loss: expected another than 'dlr"),
        ("defence.name=rerouted defence.attack.loss=divergence", "defence.attack.loss: expected another than 'div"),
        ("defence.attack.loss=divergence defence.attack.algorithm=fgsm", "'divergence' has no gradient where 'fgsm'"),
        ("defence.attack.loss=divergence defence.attack.random_start=false", "no gradient where 'pgd' starts"),
        ("defence.attack={loss='divergence', algorithm='n_fgsm', noise=0}", "no gradient where 'n_fgsm' starts"),
        ("model.num_classes=2 evaluation.loss=dlr", "evaluation.loss: 'dlr' needs 3 classes or more, got 2"),
        ("model.num_classes=3 evaluation.loss=dlr_targeted", "'dlr_targeted' needs 4 classes or more, got 3"),
        ("evaluation.loss=divergence", "evaluation.loss: expected one of cross_entropy, .* got 'divergence'"),
        ("defence.outputs=entropy", "defence.outputs: expected one of exits, running_average, weighted_running_av"),
        ("defence.teacher=branch_1", "defence.teacher: expected one of main, running_average, weighted_running_av"),
        ("defence.temperature=0", "defence.temperature: expected more than 0"),
        ("defence.clean_share=0 defence.trades=6", "defence.clean_share: expected 0.5 with defence.trades, .* got 0.0"),
        ("defence.clean_share=0 defence.name=free", "defence.clean_share: expected 0.5 with the defence free, got 0.0"),
        ("defence.clean_share=0 defence.name=standard", "defence.clean_share: expected 0.5 .the standard defence"),
        ("defence.clean_share=1", "defence.clean_share: expected 0 <= value < 1, got 1.0"),
        ("defence.trades=-1", "defence.trades: expected at least 0"),
        ("defence.temperature=4", "defence.temperature: expected 1.0 without defence.distillation, got 4.0"),
        ("defence.teacher=running_average", "defence.teacher: expected 'main' without defence.distillation"),
        ("defence.distillation=-1", "defence.distillation: expected at least 0"),
        ("defence.weight_perturbation=-1", "defence.weight_perturbation: expected at least 0"),
    ],
)
def test_refuses_ingredients_that_do_not_go_together(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config().with_settings(re.split(r" (?=\w+\.)", settings))


def test_ingredients_are_accepted_together():
    settings = "name=max_average attack.loss=divergence trades=6 outputs=running_average distillation=1 temperature=4"
    config = Config().with_settings([f"defence.{setting}" for setting in settings.split()])
    assert Config.from_dict(config.to_dict()) == config
    assert (config.defence.trades, config.defence.outputs) == (6.0, "running_average")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("defence.attack.algorithm=n_fgsm", "defence.attack.algorithm: expected 'pgd' with the defence free"),
        ("defence.attack.restarts=2", "defence.attack.restarts: expected 1 with the defence free, got 2"),
        ("defence.attack.loss=margin", "defence.attack.loss: expected 'cross_entropy' with the defence free"),
        ("defence.alignment=0.2", "defence.alignment: expected 0 with the defence free, got 0.2"),
    ],
)
def test_free_training_refuses_what_it_would_ignore(setting, message):
    free = Config().with_settings(["defence.name=free", "defence.attack.norm=l2"])
    with pytest.raises(ConfigError, match=message):
        free.with_settings([setting, "defence.attack.norm=linf"])


def test_one_step_defences_are_accepted():
    config = Config().with_settings(["defence.attack.algorithm=n_fgsm", "defence.attack.noise=1", "evaluation.steps=3"])
    assert (config.defence.attack.algorithm, config.defence.attack.noise) == ("n_fgsm", 1.0)
    assert Config().with_settings(["defence.alignment=0.2"]).defence.alignment == 0.2


def test_values_on_the_border_are_accepted():
    Config().with_settings(
        [
            "evaluation.epsilon=0.0",
            "training.warmup_fraction=1",
            "training.exit_weights=[0, 1]",
            "training.decay_at=[]",
            "training.decay_factor=1.0",
            "training.seed=4294967295",
            "policy.shares=[0, 1]",
            "policy.max_accuracy_loss=0",
        ]
    )


@pytest.mark.parametrize(
    ("settings", "beyond"),
    [
        (["training.iterations=2000"], r"\[11700, 12900\]"),
        (["training.iterations=12900"], r"\[12900\]"),
        (["training.iterations=12901"], None),
        (["training.iterations=2000", "training.decay_at=[1500]"], None),
        (["training.iterations=2000", "training.decay_at=[]"], None),
        (["training.iterations=2000", "training.schedule=one_cycle"], None),
    ],
)
def test_decays_that_are_not_reached_are_named(settings, beyond):
    found = doubts(Config().with_settings(settings))
    if beyond is None:
        assert found == []
    else:
        assert re.match(f"training.decay_at: {beyond} is not reached within training.iterations=", *found)


def test_steps_of_no_length_are_refused_where_they_are_taken():
    with pytest.raises(ConfigError, match="evaluation.step_size: expected more than 0 for pgd, got 0"):
        Config().with_settings(["evaluation.step_size=0"])
    for settings in (["evaluation.epsilon=0"], ["evaluation.algorithm=fgsm"]):
        Config().with_settings([*settings, "evaluation.step_size=0"])


def test_a_warm_up_that_outlives_the_run_is_named():
    settings = ["training.iterations=20", "training.schedule=one_cycle", "defence.warmup_iterations=20"]
    (found,) = doubts(Config().with_settings(settings))
    assert found.startswith("defence.warmup_iterations=20 is not over within training.iterations=20, so that no attack")
    assert doubts(Config().with_settings([*settings, "defence.warmup_iterations=19"])) == []
    assert doubts(Config().with_settings([*settings, "defence.name=standard"])) == []


def test_settings_of_another_calibration_are_named():
    settings = ["policy.budget=58000000", "policy.shares=[0.5, 0.5]", "policy.max_accuracy_loss=0.05"]
    found = doubts(Config().with_settings(settings))
    assert found == [
        "policy.budget=58000000.0 is not used: policy.calibration is equal_share, not budget",
        "policy.shares=[0.5, 0.5] is not used: policy.calibration is equal_share, not shares",
        "policy.max_accuracy_loss=0.05 is not used: policy.calibration is equal_share, not least_macs",
    ]
    assert doubts(Config().with_settings([settings[2], "policy.calibration=least_macs"])) == []
    assert doubts(Config().with_settings([settings[0], "policy.calibration=budget"])) == []


def test_the_weight_of_wrms_loss_is_no_radius():
    Config().with_settings(["evaluation.algorithm=wrm", "evaluation.epsilon=8"])
    with pytest.raises(ConfigError, match="evaluation.epsilon: expected at most 1"):
        Config().with_settings(["evaluation.epsilon=8"])


@pytest.mark.parametrize("name", preset_names())
def test_presets_reach_the_ends_of_their_schedules(name):
    assert doubts(Config.load(name)) == []


def test_configurations_made_in_python_are_checked_too():
    with pytest.raises(ConfigError, match="training.iterations"):
        Config(training=TrainingConfig(iterations=0))
    with pytest.raises(ConfigError, match="^expected keys with values, got"):
        Config.from_dict([])


def test_a_device_can_import_these_without_tensorflow():
    modules = "config, policies, thresholds, provenance, runs, evaluation.results, evaluation.tables".split(", ")
    imports = "".join(f"import rdi_tf.{module}; " for module in modules)
    code = f"import sys; {imports}print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "rdi_tf" in imported
    assert not imported & {
        "tensorflow",
        "tf_keras",
        "keras",
        "keras_cv",
        "tensorflow_datasets",
        "sklearn",
        "matplotlib",
    }
