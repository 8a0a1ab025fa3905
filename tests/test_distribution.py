"""Several replicas train as one does: shares of batches in this process, whole runs in processes of their own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, Config
from rdi_tf.distribution import Cluster, in_replicas, open_cluster, replica_seed
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.network import attach_exits, load
from rdi_tf.runs import RunFolder

SCRIPT = Path(__file__).parent / "worker.py"
ITERATIONS = 6


@pytest.fixture
def lonely():
    """A cluster of one replica, under a strategy."""
    return Cluster(tf.distribute.MirroredStrategy(["CPU:0"]))


def test_unknown_strategies_are_refused():
    with pytest.raises(ConfigError, match="strategy: expected one of single, mirrored, multi-worker, got 'cloud'"):
        open_cluster("cloud")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "TF_CONFIG: expected the cluster, as .*got nothing"),
        ("not json", "TF_CONFIG: expected something as .*got 'not json'"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG: expected something as"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "TF_CONFIG: task index 1 is not one of the cluster's workers",
        ),
    ],
)
def test_what_names_no_cluster_is_refused(monkeypatch, text, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=message):
        open_cluster("multi-worker")


def test_one_device_changes_nothing():
    cluster = open_cluster("single")
    stream = object()
    assert cluster.batches(stream, 7) is stream
    assert (cluster.replicas, cluster.workers, cluster.is_chief) == (1, 1, True)
    assert cluster.any(True, False) == (True, False)
    seed = tf.constant([1, 2])
    assert replica_seed(seed) is seed


class Four(Cluster):
    """Hands out the shares of four replicas on two machines, without the machines."""

    replicas = 4

    def __init__(self, pipeline):
        super().__init__(self)
        self._context = tf.distribute.InputContext(2, pipeline, 4)

    def distribute_datasets_from_function(self, share):
        return share(self._context)


@pytest.mark.parametrize("pipeline", [0, 1])
def test_every_replica_gets_its_rows_of_every_batch(pipeline):
    images = np.arange(2 * 8 * 3, dtype=np.float32).reshape(2, 8, 3)
    labels = np.arange(16, dtype=np.int32).reshape(2, 8)
    stream = tf.data.Dataset.from_tensor_slices((images, labels))
    found = list(Four(pipeline).batches(stream, 8).as_numpy_iterator())
    # Batches of 8 for 4 replicas: machine 0 has rows 0-1 and 2-3, machine 1 rows 4-5 and 6-7.
    rows = [slice(4 * pipeline + 2 * local, 4 * pipeline + 2 * local + 2) for local in (0, 1)]
    wanted = [(images[batch, part], labels[batch, part]) for batch in (0, 1) for part in rows]
    assert len(found) == len(wanted)
    for (x, y), (image, label) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x, image)
        np.testing.assert_array_equal(y, label)


def test_batches_that_cannot_be_shared_are_refused():
    with pytest.raises(ConfigError, match="training.batch_size: expected a multiple of the 4 replicas, got 10"):
        Four(0).check_batch(10)


def test_work_in_replicas_keeps_rows_in_order(lonely):
    double = in_replicas(lonely.strategy, lambda seed, rows: 2 * rows + tf.cast(seed[0], tf.float32))
    found = double(tf.constant([1, 0]), tf.constant([[1.0], [5.0]]))
    np.testing.assert_array_equal(found, [[3.0], [11.0]])


def test_attacks_shared_by_one_replica_are_those_without_a_strategy(lonely, digits):
    images, labels = (array[:10] for array in digits)
    config = AttackConfig(epsilon=0.2, step_size=0.1, steps=2)
    with lonely.scope():
        image = keras.Input((8, 8, 1))
        hidden = keras.layers.Dense(12, activation="relu", name="hidden")(keras.layers.Flatten()(image))
        net = attach_exits(keras.Model(image, keras.layers.Dense(10)(hidden)), ["hidden"])
    found, wanted = (
        ExitAttacker(net, config, 3, 4, cluster=cluster).logits(["main", "max_average"], images, labels)
        for cluster in (lonely, None)
    )
    for form, logits in wanted.items():
        np.testing.assert_allclose(found[form], logits, atol=1e-5)


def start(config_file, run_dir, strategy, index=0, ports=(), dies_after=-1):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    if strategy == "multi-worker":
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    command = [sys.executable, str(SCRIPT), str(config_file), str(run_dir), strategy, str(dies_after)]
    log = open(f"{run_dir}-{index}.log", "ab")
    with log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def finish(run_dir, *processes):
    codes = [process.wait() for process in processes]
    logs = [Path(f"{run_dir}-{index}.log").read_text(errors="replace") for index in range(len(processes))]
    assert codes == [0] * len(codes), "\n".join(logs)
    return numbers(run_dir)


def numbers(run_dir):
    """Weights of the model file and the rows of history.csv."""
    run = RunFolder.open(run_dir)
    found = {weight.name: weight.numpy() for weight in load(run.model_file).weights}
    with open(run.history_file, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [3, ITERATIONS]
    return found | {f"{row['iteration']}/{name}": float(value) for row in rows for name, value in row.items()}


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        # Sums over the batch are added up in another order: float32 rounding, through six updates.
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """No dropout, no batch norm, no random starts: then what replicas do is what one does."""
    config = Config.load("digits-smallcnn").with_settings(
        [
            f"training.iterations={ITERATIONS}",
            "training.batch_size=16",
            "training.validate_every=3",
            "training.validation_images=50",
            "training.ema_decay=0.9",
            "training.checkpoint_seconds=0.0",
            'data.augmentation=["flip", "mixup"]',
            "model.dropout=0.0",
            "defence.warmup_iterations=0",
            "defence.attack.steps=2",
            "defence.attack.random_start=false",
            "evaluation.steps=2",
            "evaluation.random_start=false",
        ]
    )
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(config.to_toml())
    return path


@pytest.fixture(scope="module")
def alone(config_file, tmp_path_factory):
    """What one device ends with."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    return finish(run_dir, start(config_file, run_dir, "single"))


@pytest.mark.slow
def test_two_devices_of_one_machine_train_as_one(config_file, alone, tmp_path):
    run_dir = tmp_path / "run"
    assert_same(finish(run_dir, start(config_file, run_dir, "mirrored")), alone)


@pytest.mark.slow
def test_two_workers_train_as_one(config_file, alone, free_ports, tmp_path):
    run_dir, ports = tmp_path / "run", free_ports(2)
    workers = [start(config_file, run_dir, "multi-worker", index, ports) for index in range(2)]
    assert_same(finish(run_dir, *workers), alone)
    files = {"config.toml", "history.csv", "model.keras", "training.json", "lock"}
    assert {path.name for path in run_dir.iterdir()} == {*files, "checkpoints", "logs", "evaluation"}
    (record,) = json.loads((run_dir / "training.json").read_text())
    assert (record["strategy"], record["replicas"]) == ("multi-worker", 2)
    assert len(list((run_dir / "logs").glob("events*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["defence.name=free"],
        ["defence.name=average", "defence.trades=2", "defence.distillation=1", "defence.weight_perturbation=0.01"],
    ],
    ids=["free", "ingredients"],
)
def test_two_workers_train_as_one_in_other_ways(config_file, settings, free_ports, tmp_path):
    """Replays update the weights several times in an iteration; perturbed weights are moved and put back in all."""
    other = tmp_path / "other.toml"
    other.write_text(Config.load(config_file).with_settings(settings).to_toml())
    wanted = finish(tmp_path / "alone", start(other, tmp_path / "alone", "single"))
    run_dir, ports = tmp_path / "run", free_ports(2)
    assert_same(finish(run_dir, *(start(other, run_dir, "multi-worker", index, ports) for index in range(2))), wanted)


@pytest.mark.slow
def test_a_job_that_lost_a_worker_is_started_again_and_goes_on(config_file, alone, free_ports, tmp_path):
    run_dir, ports = tmp_path / "run", free_ports(2)
    chief, other = (start(config_file, run_dir, "multi-worker", index, ports, (-1, 4)[index]) for index in range(2))
    assert other.wait() == -9
    chief.kill()
    assert chief.wait() != 0
    assert {path.name for path in (run_dir / "checkpoints").glob("ckpt-*")} <= {"ckpt-3", "ckpt-4", "ckpt-5"}
    assert not (run_dir / "checkpoints" / "ckpt-6").exists()
    ports = free_ports(2)
    workers = [start(config_file, run_dir, "multi-worker", index, ports) for index in range(2)]
    assert_same(finish(run_dir, *workers), alone)
