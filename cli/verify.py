"""`rdi-tf verify`: whether a bundle does what it says, and what the float model does."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import held_back_stderr, library

FAILED = 2


@common.command(
    "verify", example="rdi-tf verify runs/mnist-smallcnn/export/int8 --run runs/mnist-smallcnn --limit 1000"
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="Compare with the float model of this run, too.")
@click.option("--limit", type=click.IntRange(1), help="With --run: only the first so many test images.  [default: all]")
@click.option(
    "--attack",
    default="average",
    show_default=True,
    help='With --run: form of the adversarial images on which robust accuracy is reported, or "none".',
)
@click.option(
    "--attacked",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="With --run: how many test images are attacked.",
)
@common.threads_option
@common.data_dir_option
def command(bundle, run, limit, attack, attacked, threads, data_dir):
    """Check every file of BUNDLE against its checksum and run its golden vectors on this machine.

    With --run: its logits, exit decisions and accuracies against Keras on the test images, and its accuracy on
    adversarial images made against the float model. Exit code 2 if something does not hold.
    """
    if run is None:
        common.refuse_given("--run with it, got none", "limit", "attack", "attacked", "data_dir")
    if attack == "none":
        common.refuse_given("another --attack with it", "attacked")
    module = library("rdi_tf.export.verify" if run is None else "rdi_tf.export.compare")
    with held_back_stderr():
        if run is None:
            found = module.verify(bundle, threads)
        else:
            form = None if attack == "none" else attack
            found = module.verify_against_run(bundle, run, limit, form, attacked, data_dir, threads)
    lines = [f"{'holds' if check.passed else 'FAILS'}  {check.name}: {check.detail}" for check in found.checks]
    verdict = "holds" if found.passed else "does not hold"
    text = "\n".join([*lines, f"{bundle} ({found.dtype}) {verdict}"])
    return common.Report({"bundle": str(bundle), **found.to_dict()}, text, exit_code=0 if found.passed else FAILED)
