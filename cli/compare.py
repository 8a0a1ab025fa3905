"""`rdi-tf compare`: several runs, accuracy over cost."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.text_tables import aligned


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
    """Draw accuracy clean and attacked against cost for evaluated RUNs (the paper's Figure 6), with tables.

    Also against kilobytes where they are exported (RUN/export), and against milliseconds where `rdi-tf benchmark
    --output RUN/latency-DTYPE.json` kept what it found, each machine's for itself. Runs that were evaluated in the same
    way on the same images are held against the first, image by image: differences with standard errors.
    """
    common.check_output_folder(output)
    module = library("rdi_tf.reporting.compare")
    compared, files = module.compare_runs(runs, output, reported, library("rdi_tf.export.deployed").deployments)
    rows = [
        (
            run.name,
            run.kind.text,
            f"{run.clean_accuracy:.2%}",
            f"{run.robust_accuracy:.2%}",
            f"{run.paper_mflops:.2f}",
            f"{run.executed_macs:,.0f}",
            f"{run.images:,}",
        )
        for run in compared
    ]
    text = aligned(("RUN", "KIND", "TA", "ATA, WORST ATTACK", "MFLOPS (PAPER)", "EXECUTED MACS", "IMAGES"), rows)
    pages = library("rdi_tf.reporting.compare_pages")
    text = "\n".join([text, *pages.cautions(compared)])
    if held := pages.difference_rows(compared):
        header = (f"LESS {compared[0].name}", *(heading.upper() for heading in pages.DIFFERENCES))
        text += "\n\n" + aligned(header, held)
    data = {"runs": [run.to_dict() for run in compared], "html": str(files.html)}
    data |= {"markdown": str(files.markdown), "pictures": [str(file) for file in files.pictures]}
    return common.Report(data, f"{text}\n\n{files.html}\n{files.markdown}")
