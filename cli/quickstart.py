"""`rdi-tf quickstart`: everything once, small: train on the built-in digits, calibrate, evaluate, export, measure."""

import json
from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.benchmark import latency_text
from rdi_tf.cli.calibrate import calibration_text
from rdi_tf.cli.library import held_back_stderr, library
from rdi_tf.cli.report import KEPT_IMAGES, measure
from rdi_tf.config import Config
from rdi_tf.config_rules import doubts

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
    """Train a small network on scikit-learn's digits, calibrate its exits, evaluate it under attack, export it as a
    bundle, measure that and write a report.

    Downloads nothing. If it was stopped, the same command goes on where it was.
    """
    config = Config.load(PRESET).with_settings(settings)
    for doubt in doubts(config):
        common.warn(doubt)
    progress = None if quiet else common.attack_progress
    line = common.command_line()
    run = library("rdi_tf.training.run").train(config, run_dir, progress=not quiet, command=line)
    found = library("rdi_tf.calibration").calibrate_run(run.path, config.policy, progress=progress)
    result = library("rdi_tf.evaluation.run").evaluate(run.path, progress=progress, command=line)
    library("rdi_tf.evaluation.sample_images").save_images(run.path, KEPT_IMAGES)
    with held_back_stderr():  # the converter writes dozens of lines
        bundle = library("rdi_tf.export.write").export_run(run.path, overwrite=True, command=line)
    latency = measure(run.path, bundle.path)
    latency.save(run.path / "latency.json")
    files = library("rdi_tf.reporting.report").write_report(run.path, latencies=[latency])
    data = {
        "run": str(run.path),
        "calibration": found.to_dict(),
        "evaluation": json.loads(result.to_json()),
        "bundle": str(bundle.path),
        "latency": latency.to_dict(),
        "report": str(files.html),
    }
    table = library("rdi_tf.evaluation.tables").to_text(result).rstrip()
    parts = [calibration_text(found), table, latency_text(latency), *slower_notes(latency.summary())]
    where = f"In {run.path}: model.keras, evaluation/, {bundle.path.relative_to(run.path)}/, latency.json"
    return common.Report(data, "\n\n".join([*parts, f"{where}\nTo read: {files.html}"]))


def slower_notes(found):
    """Why an answer took longer although computation was saved, as is usual for a network of this size.

    Args:
      found: the `summary` of a `rdi_tf.latency.LatencyResult`.

    Returns:
      List of one sentence or none: empty where milliseconds were saved, and where not even computation was.
    """
    if found["latency_saving"] >= 0 or found["invoke_saving"] <= 0:
        return []
    return [
        f"Leaving early saved {found['invoke_saving']:.1%} of the computation, yet the answer took longer: Python's "
        f"part of the exits ({found['mix_rest_ms']:.4f} ms per image) outweighs what was saved on so small a network. "
        "On larger ones milliseconds are saved, too (docs/latency.md)."
    ]
