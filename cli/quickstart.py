"""`rdi-tf quickstart`: everything once, small: train on the built-in digits, calibrate, evaluate."""

import json
from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.calibrate import calibration_text
from rdi_tf.cli.library import library
from rdi_tf.config import Config

PRESET = "digits-smallcnn"


@common.command("quickstart", example="rdi-tf quickstart --run-dir runs/quickstart")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=Path("runs/quickstart"),
    show_default=True,
    help="Folder of the run.",
)
@common.settings_option
@common.quiet_option
def command(run_dir, settings, quiet):
    """Train a small network on scikit-learn's digits, calibrate its exits and evaluate it under attack.

    Downloads nothing. If it was stopped, the same command goes on where it was.
    """
    config = Config.load(PRESET).with_settings(settings)
    progress = None if quiet else common.attack_progress
    run = library("rdi_tf.training").train(config, run_dir, progress=not quiet)
    found = library("rdi_tf.calibration").calibrate_run(run.path, config.policy, progress=progress)
    result = library("rdi_tf.evaluation").evaluate(run.path, progress=progress, command=common.command_line())
    table = library("rdi_tf.tables").to_text(result).rstrip()
    data = {"run": str(run.path), "calibration": found.to_dict(), "evaluation": json.loads(result.to_json())}
    return common.Report(data, f"{calibration_text(found)}\n\n{table}\n\nIn {run.path}: model.keras, evaluation/")
