"""`rdi-tf train`: train a network, or carry on a run that was stopped."""

import csv
from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.config_rules import doubts


@common.command("train", example="rdi-tf train mnist-smallcnn-fast --set training.iterations=2000")
@common.config_argument
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Folder of the run.  [default: runs/NAME of the configuration, or CONFIG if that is a run folder]",
)
@common.strategy_option
@common.settings_option
@common.data_dir_option
@common.quiet_option
def command(config, run_dir, strategy, settings, data_dir, quiet):
    """Train CONFIG: a preset, a TOML file, or the folder of a run that was stopped.

    A folder that holds a run of the same configuration is resumed from its last checkpoint. The weights that did best
    on validation images are in RUN/model.keras.
    """
    chosen = common.read_config(config, settings)
    for doubt in doubts(chosen):
        click.echo(f"rdi-tf: warning: {doubt}", err=True)
    folder = run_dir or common.run_folder_of(config) or Path("runs") / chosen.name
    train = library("rdi_tf.training.run").train
    line = common.command_line()
    run = train(chosen, folder, data_dir=data_dir, progress=not quiet, strategy=strategy, command=line)
    best = best_validation(run.history_file)
    text = (
        f"{run.model_file}: best at iteration {best['iteration']} of {chosen.training.iterations}, on validation "
        f"images {best['clean_accuracy']:.2%} clean, {best['robust_accuracy']:.2%} robust"
    )
    return common.Report({"run": str(run.path), "model": str(run.model_file), "best_validation": best}, text)


def best_validation(history_file):
    """The row of history.csv whose weights were kept: the first with the highest robust accuracy."""
    with open(history_file, encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    best = max(rows, key=lambda row: row["robust_accuracy"])
    return {**best, "iteration": int(best["iteration"])}
