"""`rdi-tf compare`: several runs, accuracy over cost."""

import dataclasses
from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library


@common.command("compare", example="rdi-tf compare runs/mnist-smallcnn runs/mnist-smallcnn-standard")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("results/compare"),
    show_default=True,
    help="Folder for compare.html, compare.md, compare.json and pictures.",
)
@click.option("--reported/--no-reported", default=True, show_default=True, help="Show the paper's networks, too.")
def command(runs, output, reported):
    """Draw accuracy clean and attacked against cost for evaluated RUNs (the paper's Figure 6), with a table."""
    module = library("rdi_tf.reporting.compare")
    compared, files = module.compare_runs(runs, output, reported)
    rows = [
        (
            run.name,
            f"{run.clean_accuracy:.2%}",
            f"{run.robust_accuracy:.2%}",
            f"{run.paper_mflops:.2f}",
            f"{run.executed_macs:,.0f}",
        )
        for run in compared
    ]
    text = common.table(("RUN", "TA", "ATA, WORST ATTACK", "MFLOPS (PAPER)", "EXECUTED MACS"), rows)
    data = {"runs": [dataclasses.asdict(run) for run in compared], "html": str(files.html)}
    data |= {"markdown": str(files.markdown), "pictures": [str(file) for file in files.pictures]}
    return common.Report(data, f"{text}\n\n{files.html}\n{files.markdown}")
