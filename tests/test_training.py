"""Whole training runs of a network so small that each takes a second or two."""

import csv
import errno
import os
import shutil
import signal
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.calibration import calibrate_run, load_run
from rdi_tf.config import PolicyConfig
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.models import registry
from rdi_tf.models.layers import batch_norm, convolution, relu
from rdi_tf.network import attach_exits, build, load
from rdi_tf.runs import RunFolder
from rdi_tf.training import run as training
from rdi_tf.training.history import accuracies_in_words
from rdi_tf.training.record import read_records
from rdi_tf.training.run import TrainingError, train

ITERATIONS = 6


def build_tiny(model_config):
    """One strided convolution with batch norm, then pool and dense."""
    images = keras.Input(model_config.input_shape)
    features = relu(batch_norm(convolution(images, 4, 3, "conv", strides=2), "bn"), "stem")
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(model_config.num_classes)(pooled))


TINY = types.SimpleNamespace(build=build_tiny, default_exits=lambda model_config: ("stem",))


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setitem(registry.BACKBONES, "tiny", TINY)


@pytest.fixture
def config(tiny_config):
    return short(tiny_config)


def short(tiny_config):
    """`tiny_config` with the tiny network, shorter still."""
    return tiny_config.with_settings(
        [
            'model.backbone="tiny"',
            "model.input_shape=[8,8,1]",
            f"training.iterations={ITERATIONS}",
            "training.batch_size=16",
            "training.ema_decay=0.9",
            "training.validate_every=3",
            "training.validation_images=32",
            "evaluation.steps=1",
        ]
    )


def stop(config, folder, when, **arguments):
    """Run `config` until `when(keeper)` holds after an iteration; then as if somebody pressed Ctrl-C."""
    original = training.RunKeeper.on_train_batch_end

    def interrupted(keeper, batch, logs=None):
        original(keeper, batch, logs)
        if when(keeper):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.RunKeeper, "on_train_batch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder, progress=False, **arguments)


def history(run):
    with open(run.history_file, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def newest_checkpoint(run):
    """Folder of the checkpoint with the greatest iteration."""
    return max(run.checkpoints.glob("ckpt-*"), key=lambda path: int(path.name.removeprefix("ckpt-")))


def final_state(run):
    """Every number of the newest checkpoint: weights, momenta, averages, iteration, metrics."""
    reader = tf.train.load_checkpoint(str(newest_checkpoint(run) / "state"))
    names = [name for name, shape in reader.get_variable_to_shape_map().items() if "_CHECKPOINTABLE" not in name]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}


def assert_same_end(run, expected):
    """Two runs ended with the same numbers and the same validations."""
    found, wanted = final_state(run), final_state(expected)
    assert set(found) == set(wanted) and len(found) > 20
    for name, value in wanted.items():
        # Sums in another order by threads may differ in the last digit; a lost momentum or batch would by far more.
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    rows = [history(one) for one in (run, expected)]
    assert [list(row) for row in rows[0]] == [list(row) for row in rows[1]]
    np.testing.assert_allclose(*([list(row.values()) for row in table] for table in rows), rtol=1e-4)
    kept = [[weight.numpy() for weight in load(one.model_file).weights] for one in (run, expected)]
    for value, wanted in zip(*kept, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """A run that nothing disturbed. Copy it before changing anything in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BACKBONES, "tiny", TINY)
        return train(short(tiny_config), tmp_path_factory.mktemp("runs") / "whole", progress=False)


def test_a_run_leaves_history_checkpoint_and_calibrated_model(config, finished):
    rows = history(finished)
    assert [row["iteration"] for row in rows] == [3, 6]
    kinds = [f"{kind}_{name}" for kind in ("clean", "adversarial") for name in ("branch_1", "main")]
    assert list(rows[0]) == ["iteration", "loss", *kinds, "clean_accuracy", "robust_accuracy"]
    assert all(0 <= row[name] <= 1 for row in rows for name in (*kinds, "clean_accuracy", "robust_accuracy"))
    assert all(row["robust_accuracy"] <= row["clean_accuracy"] for row in rows)
    net = load(finished.model_file)
    assert net.config == config == finished.config
    assert len(net.thresholds) == 1
    assert list(finished.logs.glob("events.out.tfevents.*"))
    assert not [path for path in finished.path.iterdir() if path.name.startswith(".")]


def test_a_run_says_what_it_was_trained_with(config, finished):
    (start,) = read_records(finished)
    assert start["versions"]["tensorflow"] == tf.__version__
    assert start["processor"] and start["date"] and start["seed"] == config.training.seed
    assert (start["strategy"], start["replicas"], start["from_iteration"]) == ("single", 1, 0)


@pytest.mark.parametrize("content", ["{", "{}", "[1]"])
def test_another_file_in_the_place_of_the_record_is_named(config, tmp_path, content):
    run = RunFolder.create(tmp_path / "run", config)
    run.training_file.write_text(content)
    with pytest.raises(CheckpointError, match="training.json: (not JSON|expected a list of objects)"):
        read_records(run)


def test_a_finished_run_is_left_as_it_is(config, finished):
    kept = (finished.model_file, finished.history_file, finished.training_file)
    before = {path: path.stat().st_mtime_ns for path in kept}
    train(config, finished.path, progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_stopped_midway_ends_as_one_that_was_not(config, finished, tmp_path):
    stop(config, tmp_path / "run", lambda keeper: keeper.iteration == 4)
    run = RunFolder.open(tmp_path / "run")
    assert [row["iteration"] for row in history(run)] == [3]
    (run.path / ".training.abcd.json").touch()  # of a process that was killed
    train(config, run.path, progress=False, command="rdi-tf train /home/someone/run")
    assert_same_end(run, finished)
    starts = read_records(run)
    assert [(start["from_iteration"], start["command"]) for start in starts] == [(0, ""), (4, "rdi-tf train run")]
    assert not list(run.path.glob(".*"))


def test_a_run_stopped_in_its_last_validation_makes_it_up(config, finished, tmp_path, monkeypatch):
    figures, calls = training.Validator.figures, []

    def interrupted(validator, folder, progress):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return figures(validator, folder, progress)

    monkeypatch.setattr(training.Validator, "figures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=False)
    assert_same_end(train(config, tmp_path / "run", progress=False), finished)


def test_a_killed_run_goes_on_from_its_last_checkpoint(config, finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    stop(config, tmp_path / "early", lambda keeper: keeper.iteration == 5)
    shutil.rmtree(run.checkpoints)
    shutil.copytree(tmp_path / "early" / "checkpoints", run.checkpoints)
    assert [row["iteration"] for row in history(run)] == [3, 6]  # the last is ahead of the checkpoint
    calibrate_run(run.path, PolicyConfig("margin"))  # meanwhile; a run ends by its own policy
    train(config, run.path, progress=False)
    assert_same_end(run, finished)
    ends = [load(folder.model_file) for folder in (run, finished)]
    assert ends[0].thresholds == ends[1].thresholds
    assert ends[0].config.policy == config.policy == ends[1].config.policy


def test_thresholds_of_a_finished_run_are_left_alone(config, finished, tmp_path):
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    calibrate_run(run.path, PolicyConfig("margin"))
    train(config, run.path, progress=False)
    assert load(run.model_file).config.policy.name == "margin"


def test_another_configuration_is_not_resumed(config, finished):
    with pytest.raises(CheckpointError, match="training.seed is 0 there, 1 here"):
        train(config.with_settings(["training.seed=1"]), finished.path, progress=False)


def test_a_folder_that_is_being_trained_is_left_alone(config, finished, tmp_path):
    pytest.importorskip("fcntl")
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    shutil.rmtree(newest_checkpoint(run))
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    with run.locked(), pytest.raises(CheckpointError, match="run is being trained by another process"):
        train(config, run.path, progress=False)
    with run.locked(), pytest.raises(CheckpointError, match="run is being trained by another process"):
        calibrate_run(run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.parametrize("kept", ["model.keras", "history.csv"])
def test_a_model_without_checkpoints_is_not_overwritten(config, finished, tmp_path, kept):
    run = RunFolder.create(tmp_path / "run", config)  # as import-weights leaves it, or a copy without checkpoints/
    shutil.copy(finished.path / kept, run.path)
    before = (run.path / kept).read_bytes()
    with pytest.raises(CheckpointError, match=f"run holds {kept}, but no checkpoint to go on from.*another folder"):
        train(config, run.path, progress=False)
    assert (run.path / kept).read_bytes() == before


def test_a_run_killed_before_its_first_checkpoint_begins_again(config, finished, tmp_path):
    run = RunFolder.create(tmp_path / "run", config)
    (run.checkpoints / ".ckpt-3.abcd").mkdir()
    assert_same_end(train(config, run.path, progress=False), finished)


def test_the_checkpoint_before_a_damaged_one_is_taken(config, finished, tmp_path, capsys):
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    next(newest_checkpoint(run).glob("*.data*")).write_bytes(b"")
    train(config, run.path, progress=False)
    words = capsys.readouterr().err
    assert "ckpt-6: a checkpoint that does not fit: " in words
    assert "; going on from the one before, ckpt-3" in words
    assert_same_end(run, finished)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["ckpt-3", "ckpt-6"]


def test_checkpoints_of_older_runs_are_read(config, finished, tmp_path):
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    newest = newest_checkpoint(run)
    files = [path.rename(run.path / path.name) for path in list(newest.iterdir())]
    for place in list(run.checkpoints.iterdir()):
        shutil.rmtree(place)
    for path in files:
        path.rename(run.checkpoints / path.name.replace("state", "ckpt-6", 1))
    (run.checkpoints / "checkpoint").write_text("TensorFlow's list")
    before = run.model_file.read_bytes()
    train(config, run.path, progress=False)
    assert run.model_file.read_bytes() == before


def test_the_most_robust_weights_are_kept_averaged(config, tmp_path, monkeypatch):
    seen = []

    def figures(validator, folder, progress):
        net = validator._attacker.net
        seen.append([weight.numpy() for weight in net.weights])
        return {"clean_accuracy": 0.9, "robust_accuracy": (0.2, 0.5, 0.5, 0.4)[len(seen) - 1]}

    monkeypatch.setattr(training.Validator, "figures", figures)
    settings = ["training.iterations=4", "training.validate_every=1"]
    run = train(config.with_settings(settings), tmp_path / "run", progress=False)
    assert [row["robust_accuracy"] for row in history(run)] == [0.2, 0.5, 0.5, 0.4]
    kept = [weight.numpy() for weight in load(run.model_file).weights]
    for weight, second, last in zip(kept, seen[1], seen[3], strict=True):
        np.testing.assert_array_equal(weight, second)
        assert np.any(weight != last)
    averaged, own = seen[3], final_state(run)
    assert not any(np.array_equal(averaged[0], value) for name, value in own.items() if name.startswith("net/"))


def test_a_network_of_ones_own_is_trained_and_knows_its_run(config, tmp_path):
    """As docs/extending.md says: exits on any classifier; one that other thresholds and settings came with."""

    def make_network(config):
        net = attach_exits(build_tiny(config.model), ["stem"])
        net.thresholds = (0.0,)
        return net

    config = config.with_settings(["training.iterations=2", "training.validate_every=2"])
    run = train(config, tmp_path / "run", progress=False, make_network=make_network)
    net = load_run(run)
    assert net.config == config
    assert net.thresholds != (0.0,) and net.calibrated_on.split == "validation"


@pytest.mark.parametrize(
    ("settings", "layer", "message"),
    [
        (["model.num_classes=9"], None, r"expected images \(8, 8, 1\) and 10 classes, got \(8, 8, 1\) and 9"),
        (["model.input_shape=[9, 9, 1]"], None, r"expected images \(8, 8, 1\) .* got \(9, 9, 1\)"),
        ([], keras.layers.Lambda(lambda x: x), "could not be read again: expected classes of Keras or registered ones"),
    ],
)
def test_a_network_of_ones_own_that_would_fail_later_is_refused(config, tmp_path, settings, layer, message):
    def make_network(config):
        model = build_tiny(config.with_settings(settings).model)
        if layer is not None:
            model = keras.Model(model.input, layer(model.output))
        return attach_exits(model, ["stem"])

    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run", progress=False, make_network=make_network)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_weights_of_another_and_goes_on_without_them(config, finished, tmp_path):
    """The first step is taken from these weights, whose SHA-256 the run keeps; a resumed run needs no other run."""
    settings = ["training.seed=5", "training.learning_rate=1e-30"]
    still = config.with_settings([*settings, "training.ema_decay=0.0"])
    run = train(still, tmp_path / "still", progress=False, start=finished.path)
    for weight, origin in zip(load_run(run).trainable_variables, load_run(finished).trainable_variables, strict=True):
        np.testing.assert_array_equal(weight, origin)

    wanted = train(config.with_settings(["training.seed=5"]), tmp_path / "whole", progress=False, start=finished.path)
    assert wanted.config.training.initial_weights == load_run(finished).weights_digest()
    stop(
        config.with_settings(["training.seed=5"]),
        tmp_path / "cut",
        lambda keeper: keeper.iteration == 4,
        start=finished.model_file,
    )
    cut = RunFolder.open(tmp_path / "cut")
    assert_same_end(train(cut.config, cut.path, progress=False), wanted)


def test_a_run_does_not_start_from_other_weights_than_it_says(config, finished, tmp_path):
    started = config.with_settings([f'training.initial_weights="{"a" * 64}"'])
    with pytest.raises(ConfigError, match="SHA-256 a{64}; say --from"):
        train(started, tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=f"SHA-256 a{{64}}, got {load_run(finished).weights_digest()}"):
        train(started, tmp_path / "other", progress=False, start=finished.path)
    with pytest.raises(ConfigError, match="with conv/kernel:0 of shape .*, got"):
        train(config, tmp_path / "other", progress=False, make_network=_wider, start=finished.path)
    with pytest.raises(ConfigError, match="expected a network of the same layers, with 7 arrays of weights, got 9"):
        backbone = config.with_settings(["model.exits=[]", "training.exit_weights=[]", "defence.name=main_branch"])
        train(backbone, tmp_path / "other", progress=False, start=finished.path)
    earlier = config.with_settings(['model.exits=["bn"]'])  # a branch there has weights of the same shapes
    with pytest.raises(ConfigError, match=r"exits where the configuration has them, behind \[\d+, \d+\] layers"):
        train(earlier, tmp_path / "other", progress=False, start=finished.path)
    with pytest.raises(CheckpointError, match="not a run folder"):
        train(config, tmp_path / "other", progress=False, start=tmp_path)
    assert not (tmp_path / "other").exists()


def _wider(config):
    images = keras.Input(config.model.input_shape)
    features = relu(batch_norm(convolution(images, 5, 3, "conv", strides=2), "bn"), "stem")
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return attach_exits(keras.Model(images, keras.layers.Dense(config.model.num_classes)(pooled)), ["stem"])


def test_accuracies_of_what_was_not_attacked_are_clean():
    row = {"clean_accuracy": 0.9129, "robust_accuracy": 0.9129}
    assert accuracies_in_words(row, attacked=False) == "91.29% clean"
    assert accuracies_in_words(row, attacked=True) == "91.29% clean, 91.29% robust"


CHEAPER = {
    "standard": ["defence.name=standard"],
    "main_branch": ["defence.name=main_branch"],
    "average": ["defence.name=average", "training.precision=bfloat16"],
    "n_fgsm": ["defence.attack.algorithm=n_fgsm"],
    "aligned": ["defence.name=average", "defence.attack.algorithm=fgsm", "defence.alignment=0.2"],
    "float16": ["defence.name=average", "training.precision=mixed_float16"],
    "adversarial_alone": ["defence.name=average", "defence.clean_share=0", "defence.alignment=0.2"],
    "free": ["defence.name=free", "defence.attack.steps=2"],
    "rerouted": ["defence.name=rerouted", "defence.outputs=running_average"],
    "worst_exit_float16": [
        "defence.name=worst_exit",
        "defence.outputs=weighted_running_average",
        "defence.trades=2",
        "defence.distillation=1",
        "defence.weight_perturbation=0.01",
        "training.precision=mixed_float16",
    ],
    "free_float16": ["defence.name=free", "defence.attack.steps=2", "training.precision=mixed_float16"],
}


@pytest.mark.parametrize("name", CHEAPER)
def test_other_ways_train_too_and_are_traced_once(config, tmp_path, name, monkeypatch):
    nets = []
    monkeypatch.setattr(training, "build", lambda config: nets.append(build(config)) or nets[0])
    run = train(config.with_settings(CHEAPER[name]), tmp_path / "run", progress=False)
    (row, last) = history(run)
    assert last["iteration"] == ITERATIONS and np.isfinite(list(last.values())).all()
    assert ("adversarial_main" in row) == (name != "standard")
    assert ("clean_main" in row) == (not name.startswith(("free", "adversarial_alone")))
    if name == "standard":
        assert row["robust_accuracy"] == row["clean_accuracy"]
    assert nets[0].train_tf_function.experimental_get_tracing_count() == 1
    assert {layer.compute_dtype for layer in load(run.model_file).network.layers} == {"float32"}


RESUMED = {
    "free": ["defence.name=free", "defence.attack.steps=2", "defence.warmup_iterations=5"],
    "ingredients": [
        "defence.name=rerouted",
        "defence.trades=2",
        "defence.distillation=1",
        "defence.weight_perturbation=0.01",
        "defence.warmup_iterations=5",
    ],
}


@pytest.mark.parametrize("name", RESUMED)
def test_other_ways_end_the_same_when_stopped_midway(config, tmp_path, name):
    config = config.with_settings(RESUMED[name])
    stop(config, tmp_path / "run", lambda keeper: keeper.iteration == 4)
    stopped = train(config, tmp_path / "run", progress=False)
    assert_same_end(stopped, train(config, tmp_path / "whole", progress=False))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["policy.calibration=shares", "policy.shares=[0.5, 0.25, 0.25]"], r"policy.shares: expected 2 numbers"),
        (["policy.calibration=budget", "policy.budget=1.0"], r"policy.budget: expected at least \d+, .* got 1.0"),
    ],
)
def test_a_policy_that_the_exits_cannot_follow_is_refused_before_training(config, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(config.with_settings(settings), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_broken_loss_ends_the_run_and_is_not_saved(config, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at iteration \d.*lower training.learning_rate"):
        train(config.with_settings(["training.learning_rate=1e30"]), tmp_path / "run", progress=False)
    run = RunFolder.open(tmp_path / "run")
    assert not run.model_file.exists()
    assert not list(run.checkpoints.iterdir())


def test_broken_weights_behind_a_sound_loss_are_not_saved(config, tmp_path, monkeypatch):
    original = training.RunKeeper.on_train_batch_end

    def breaking(keeper, batch, logs=None):
        if keeper.iteration == 4:
            keeper._net.weights[0].assign(np.nan * keeper._net.weights[0])
        original(keeper, batch, logs)

    monkeypatch.setattr(training.RunKeeper, "on_train_batch_end", breaking)
    with pytest.raises(TrainingError, match="the weights are no longer numbers after iteration 4.*checkpoint is kept"):
        train(config.with_settings(["training.checkpoint_seconds=0.0"]), tmp_path / "run", progress=False)
    run = RunFolder.open(tmp_path / "run")
    assert newest_checkpoint(run).name == "ckpt-3"
    assert all(np.isfinite(value).all() for value in final_state(run).values())


def test_ctrl_c_waits_for_the_end_of_the_iteration(config, finished, tmp_path):
    original = training.RunKeeper.on_train_batch_begin

    def signalled(keeper, batch, logs=None):
        original(keeper, batch, logs)
        if keeper.iteration == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.RunKeeper, "on_train_batch_begin", signalled)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", progress=False)
    run = RunFolder.open(tmp_path / "run")
    assert newest_checkpoint(run).name == "ckpt-4"
    assert_same_end(train(config, run.path, progress=False), finished)


def no_space(*arguments, **settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["os.replace", "tensorflow.train.Checkpoint.write", "rdi_tf.network.RDINet.save"])
def test_a_full_disk_is_named_and_loses_nothing(config, finished, tmp_path, monkeypatch, place):
    run = RunFolder.open(shutil.copytree(finished.path, tmp_path / "run"))
    shutil.rmtree(newest_checkpoint(run))  # it stands after iteration 3 again
    kept = [*newest_checkpoint(run).iterdir(), run.model_file, run.config_file]
    before = [path.read_bytes() for path in kept]
    monkeypatch.setattr("rdi_tf.training.history.History.is_best", lambda history, accuracy: True)
    monkeypatch.setattr(place, no_space)
    with pytest.raises(TrainingError, match="run cannot be written: no space left on device. The last checkpoint"):
        train(config, run.path, progress=False)
    assert [path.read_bytes() for path in kept] == before
    assert not [path for path in run.path.rglob(".*")]


@pytest.mark.slow
def test_memory_is_flat_over_a_long_run(config, tmp_path, monkeypatch):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs Linux' /proc")
    resident = {}
    original = training.RunKeeper.on_train_batch_end

    def watched(keeper, batch, logs=None):
        original(keeper, batch, logs)
        resident[keeper.iteration] = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    monkeypatch.setattr(training.RunKeeper, "on_train_batch_end", watched)
    settings = ["training.iterations=900", "training.validate_every=100", "training.checkpoint_seconds=2.0"]
    train(config.with_settings(settings), tmp_path / "run", progress=False)
    # 20 kB an iteration would show: a traced function is more. What validations take comes and goes.
    assert resident[900] - resident[300] < 12


def test_training_learns(trained_run):
    rows = history(RunFolder.open(trained_run))
    assert rows[-1]["clean_accuracy"] > 0.8  # the digits preset, shortened; guessing gives 0.1
