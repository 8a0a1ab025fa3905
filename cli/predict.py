"""`rdi-tf predict`: classify image files with a bundle."""

import dataclasses
from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import held_back_stderr, library
from rdi_tf.text_tables import aligned


@common.command("predict", example="rdi-tf predict runs/mnist-smallcnn/export/int8 three.png seven.png")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@common.threads_option
@click.option("--deadline-ms", type=float, help="Answer within so many milliseconds with the exit reached.")
@click.option("--thresholds", metavar="A,B,…", help="Thresholds of the early exits, in order.  [default: the bundle's]")
@click.option(
    "--invert",
    is_flag=True,
    help="Dark ink on light paper, for networks that know light on dark, as MNIST is: 1 - image.",
)
def command(bundle, images, threads, deadline_ms, thresholds, invert):
    """Classify IMAGES with BUNDLE; each leaves at the first exit that is sure enough.

    Pictures are brought to the network's size and colours; light stays light unless --invert is given. A bundle that
    is damaged, or that does not reproduce its golden vectors on this machine, is refused.
    """
    verify, read_image = library("rdi_tf.export.verify"), library("rdi_tf.export.images").read_image
    with held_back_stderr():
        cascade = verify.open_sound(bundle, threads)
    if thresholds is not None:
        cascade.thresholds = common.parse_numbers(thresholds, "--thresholds")
    pictures = [read_image(path, cascade.bundle.manifest.preprocessing) for path in images]
    if invert:
        pictures = [1 - picture for picture in pictures]
    found = list(cascade.stream(pictures, deadline_ms))
    rows = [
        (str(path), one.label, _exit(one), f"{one.confidence:.1%}", f"{one.latency_ms:.3f}")
        for path, one in zip(images, found, strict=True)
    ]
    data = {"bundle": str(bundle), "images": [_plain(path, one) for path, one in zip(images, found, strict=True)]}
    return common.Report(data, aligned(("IMAGE", "CLASS", "EXIT", "CONFIDENCE", "MILLISECONDS"), rows))


def _exit(prediction):
    """Where an answer was taken; by the deadline, it need not have been sure enough."""
    return f"{prediction.exit_name} (deadline)" if prediction.by_deadline else prediction.exit_name


def _plain(path, prediction):
    values = {entry.name: getattr(prediction, entry.name) for entry in dataclasses.fields(prediction)}
    return {"image": str(path), **values, "exit_logits": prediction.exit_logits.tolist()}
