"""`rdi-tf import-weights`: the authors' released weights as a run of ours."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.config import Config

EXAMPLE = "rdi-tf import-weights weights.pth.tar --preset cifar10-resnet38 --run-dir runs/authors"


@common.command("import-weights", example=EXAMPLE)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--preset", required=True, help="Preset or TOML file of the network that the weights belong to.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path), help="Folder of the run that is made.")
@click.option(
    "--thresholds",
    metavar="A,B,…",
    help="Thresholds of the early exits, in order.  [default: none; 'rdi-tf calibrate' finds them]",
)
@common.settings_option
def command(file, preset, run_dir, thresholds, settings):
    """Make a run folder of the authors' RDI-ResNet weights: FILE as PyTorch saved it, or its arrays as .npz.

    The file is read without PyTorch, and nothing that is written in it is run. Every array has to fit the preset's
    network.
    """
    config = Config.load(preset).with_settings(settings)
    parsed = None if thresholds is None else list(common.parse_numbers(thresholds, "--thresholds"))
    run = library("rdi_tf.importing").import_weights(file, config, run_dir, parsed)
    text = f"{run.model_file}: weights of {file.name}"
    if parsed is None:
        text += "; no thresholds yet, 'rdi-tf calibrate' finds them"
    return common.Report({"run": str(run.path), "model": str(run.model_file), "thresholds": parsed}, text)
