"""`rdi-tf evaluate`: accuracy, robust accuracy and computation of a trained network, through its exit policy."""

import json

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library


@common.command("evaluate", example="rdi-tf evaluate runs/mnist-smallcnn --attacks main,max_average --limit 1000")
@common.run_argument
@click.option(
    "--attacks",
    default="paper",
    show_default=True,
    help="paper (every exit, average, max_average), all (random too), none, or forms separated by commas.",
)
@common.settings_option
@click.option("--limit", type=click.IntRange(1), help="Only the first so many test images.  [default: all]")
@click.option("--batch-size", type=click.IntRange(1), default=250, show_default=True, help="Images at a time.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the attacks.")
@common.data_dir_option
@common.quiet_option
def command(run, attacks, settings, limit, batch_size, seed, data_dir, quiet):
    """Evaluate RUN's network on its test images, clean and attacked, and print the paper's table.

    The attack is the run's evaluation attack; --set evaluation.KEY=VALUE (algorithm, epsilon, step_size, steps,
    restarts) changes it. The table is kept in RUN/evaluation; an evaluation that was stopped goes on where it was.
    """
    result = library("rdi_tf.evaluation").evaluate(
        run,
        attacks=attacks,
        attack=common.section_of_run(run, "evaluation", settings),
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        data_dir=data_dir,
        progress=None if quiet else common.attack_progress,
        command=common.command_line(),
    )
    text = library("rdi_tf.tables").to_text(result).rstrip()
    return common.Report(json.loads(result.to_json()), text)
