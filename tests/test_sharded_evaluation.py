"""Several replicas find what one device finds, batch by batch, and one process writes it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdi_tf.distribution import Cluster
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.batches import BatchFolder
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.evaluation.run_results import RESULT_DIGEST
from rdi_tf.evaluation.workbench import Workbench

SCRIPT = Path(__file__).parent / "evaluating.py"
RESULT = "small-pgd-3-epsilon-0.06-step_size-0.02-random_start-False-first-37"


class OneOfTwo(Cluster):
    """One process of two, the other of which the test plays."""

    workers = replicas = 2
    is_chief = False

    def __init__(self, chief_has=None):
        super().__init__(None)
        self._chief_has = chief_has

    def any(self, *flags):
        assert flags == (False,)  # what lies in this process' reach does not count
        return (self._chief_has is not None,)

    def from_chief(self, values):
        assert values.shape == self._chief_has.shape
        return self._chief_has

    def _all_have(self, number):
        return False


@pytest.fixture
def batch():
    return np.arange(12, dtype=np.float32).reshape(2, 2, 3)


def test_a_process_that_is_not_the_chief_takes_what_the_chief_has(batch, tmp_path):
    np.save(tmp_path / "main-00000.npy", batch + 1)
    found = BatchFolder(tmp_path, OneOfTwo(batch)).get("main-00000", batch.shape, compute=None)
    np.testing.assert_array_equal(found, batch)


def test_a_process_that_is_not_the_chief_writes_nothing(batch, tmp_path):
    np.save(tmp_path / "main-00000.npy", batch + 1)
    found = BatchFolder(tmp_path, OneOfTwo()).get("main-00001", batch.shape, lambda: batch)
    np.testing.assert_array_equal(found, batch)
    assert [path.name for path in tmp_path.iterdir()] == ["main-00000.npy"]


def test_processes_with_different_work_are_refused(trained_run):
    bench = Workbench.open(trained_run, limit=5, cluster=OneOfTwo())
    with pytest.raises(ConfigError, match="this worker was given other work than others: expected the same command"):
        bench.agree("paper")


def test_batches_of_several_replicas_are_kept_apart(trained_run):
    """Their slices and random starts are others than those of one device."""
    one, two = (Workbench.open(trained_run, limit=5, cluster=cluster) for cluster in (Cluster(None), OneOfTwo()))
    assert one.folder != two.folder
    assert two.provenance("")["replicas"] == 2 and "replicas" not in one.provenance("")


def start(run_dir, strategy, index=0, ports=(), dies_after=0):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    if strategy == "multi-worker":
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    with open(f"{run_dir}-{index}.log", "ab") as log:
        command = [sys.executable, str(SCRIPT), str(run_dir), strategy, str(dies_after)]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def finish(run_dir, *processes):
    """The result and the logits that the processes leave."""
    codes = [process.wait() for process in processes]
    logs = [Path(f"{run_dir}-{index}.log").read_text(errors="replace") for index in range(len(processes))]
    assert codes == [0] * len(codes), "\n".join(logs)
    assert not list((run_dir / "evaluation").glob("unfinished-*"))
    with np.load(run_dir / "evaluation" / f"{RESULT}.npz") as arrays:
        logits = {name: arrays[name] for name in arrays.files if name != RESULT_DIGEST}
    return EvaluationResult.load(run_dir / "evaluation" / f"{RESULT}.json"), logits


@pytest.fixture(scope="module")
def alone(trained_run, tmp_path_factory):
    """What one device finds."""
    run_dir = shutil.copytree(trained_run, tmp_path_factory.mktemp("alone") / "run")
    return finish(run_dir, start(run_dir, "single"))


def assert_same(found, wanted):
    (result, logits), (wanted_result, wanted_logits) = found, wanted
    assert result.provenance["replicas"] == 2
    assert (result.attacks, result.clean) == (wanted_result.attacks, wanted_result.clean)
    assert (result.checks, result.warnings) == (wanted_result.checks, wanted_result.warnings)
    assert set(logits) == set(wanted_logits) and 0 < result.attacks[-1].images < 37
    for name, values in wanted_logits.items():
        np.testing.assert_allclose(logits[name], values, atol=1e-4, err_msg=name)


@pytest.fixture
def run_dir(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.mark.slow
def test_two_devices_of_one_machine_find_what_one_finds(run_dir, alone):
    assert_same(finish(run_dir, start(run_dir, "mirrored")), alone)


@pytest.mark.slow
def test_two_workers_find_what_one_finds_and_go_on_where_they_were_killed(run_dir, alone, free_ports):
    ports = free_ports(2)
    chief, other = (start(run_dir, "multi-worker", index, ports, dies_after=6) for index in range(2))
    assert chief.wait() == -9
    other.kill()
    other.wait()
    kept = {path: path.stat().st_mtime_ns for path in (run_dir / "evaluation").rglob("*.npy")}
    assert len(kept) == 6
    ports = free_ports(2)
    watched = start(run_dir, "multi-worker", 0, ports), start(run_dir, "multi-worker", 1, ports)
    assert_same(finish(run_dir, *watched), alone)
