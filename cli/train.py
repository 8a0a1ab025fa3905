"""`rdi-tf train`: train a network, or carry on a run that was stopped."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.config_rules import doubts
from rdi_tf.errors import ConfigError


@common.command("train", example="rdi-tf train mnist-smallcnn-fast --set training.iterations=2000")
@common.config_argument
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Folder of the run.  [default: runs/NAME of the configuration, or CONFIG if that is a run folder]",
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, exists=True),
    help="Start from the weights of this run, or .keras file, whose network has the same layers.",
)
@common.strategy_option
@common.settings_option
@common.data_dir_option
@common.quiet_option
def command(config, run_dir, start, strategy, settings, data_dir, quiet):
    """Train CONFIG: a preset, a TOML file, or the folder of a run that was stopped.

    A folder that holds a run of the same configuration is resumed from its last checkpoint. The weights that did best
    on validation images are in RUN/model.keras.
    """
    chosen = common.read_config(config, settings)
    for doubt in doubts(chosen):
        common.warn(doubt)
    folder = run_dir or common.run_folder_of(config) or folder_of(chosen.name)
    train = library("rdi_tf.training.run").train
    line = common.command_line()
    run = train(chosen, folder, data_dir, not quiet, strategy=strategy, command=line, start=start)
    history = library("rdi_tf.training.history")
    best = history.History(run.history_file).best
    text = (
        f"{run.model_file}: best at iteration {best['iteration']} of {chosen.training.iterations}, on validation "
        f"images {history.accuracies_in_words(best, chosen.defence.name != 'standard')}"
    )
    return common.Report({"run": str(run.path), "model": str(run.model_file), "best_validation": best}, text)


def folder_of(name):
    """The folder of a configuration's own name, under runs/ and nowhere else."""
    if not name or set(name) & set("/\\") or name in (".", ".."):
        raise ConfigError(f"name: expected one that a folder can have, got {name!r}; or say --run-dir")
    return Path("runs") / name
