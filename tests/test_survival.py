"""A run killed again and again ends as one that nobody disturbed: real processes, SIGKILL at seeded random moments."""

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.network import load
from rdi_tf.runs import RunFolder

SCRIPT = Path(__file__).parent / "killed_training.py"

# Everything that is random or has a memory: dropout (in attacks, too), augmentation, momentum, averages, a schedule.
SETTINGS = [
    "training.iterations=9",
    "training.batch_size=16",
    "training.validate_every=4",
    "training.validation_images=300",
    "training.label_smoothing=0.1",
    "training.ema_decay=0.9",
    'data.augmentation=["crop", "flip", "mixup", "cutmix"]',
    "data.crop_padding=1",
    "defence.training_mode=true",
    "defence.warmup_iterations=4",
    "defence.attack.steps=2",
    "model.dropout=0.5",
    "evaluation.steps=2",
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    from rdi_tf.config import Config

    folder = tmp_path_factory.mktemp("configs")

    def write(seconds):
        path = folder / f"every-{seconds}.toml"
        config = Config.load("digits-smallcnn").with_settings([*SETTINGS, f"training.checkpoint_seconds={seconds}"])
        path.write_text(config.to_toml())
        return path

    return write


def run_until(config_file, run_dir, moment):
    """Start the run, or carry it on, until it dies at a moment: (exit code, moments that it saw if it ended)."""
    command = [sys.executable, str(SCRIPT), str(config_file), str(run_dir), str(moment)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, int(done.stdout.split()[-1]) if done.returncode == 0 else None


def numbers(run_dir):
    """All numbers of the last checkpoint, of the model file and of history.csv, by name."""
    run = RunFolder.open(run_dir)
    newest = max(run.checkpoints.glob("ckpt-*"), key=lambda path: int(path.name.removeprefix("ckpt-")))
    reader = tf.train.load_checkpoint(str(newest / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if "_CHECKPOINTABLE" not in name]
    found = {name: reader.get_tensor(name) for name in names if "save_counter" not in name}
    net = load(run.model_file)
    found |= {f"model/{weight.name}": weight.numpy() for weight in net.weights}
    found["thresholds"] = np.array(net.thresholds)
    with open(run.history_file, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found |= {f"history/{row['iteration']}/{name}": float(value) for name, value in row.items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 45.0])
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(settings, tmp_path, seconds):
    config_file = settings(seconds)
    code, moments = run_until(config_file, tmp_path / "whole", -1)
    assert code == 0
    draw = random.Random(f"moments {seconds}")
    kills = [draw.randrange(moments) for _ in range(4)]
    for moment in kills:
        run_until(config_file, tmp_path / "killed", moment)
    assert run_until(config_file, tmp_path / "killed", -1)[0] == 0
    found, wanted = numbers(tmp_path / "killed"), numbers(tmp_path / "whole")
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        # Threads add up in any order: float32 sums may differ in the last digits. What was lost would differ by more.
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    left = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert left == ["ckpt-8", "ckpt-9"]
    assert not list((tmp_path / "killed").glob(".*"))
