"""`rdi-tf export`: a bundle of LiteRT files of a trained network."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import held_back_stderr, library
from rdi_tf.errors import ConfigError
from rdi_tf.export.manifest_rules import DTYPES
from rdi_tf.text_tables import aligned


@common.command("export", example="rdi-tf export runs/mnist-smallcnn --dtype int8")
@common.run_argument
@click.option("--output", type=click.Path(path_type=Path), help="The bundle's folder.  [default: RUN/export/DTYPE]")
@click.option(
    "--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Weights and arithmetic."
)
@click.option("--batch-size", default="1", show_default=True, help='Images at a time, or "dynamic" for any number.')
@click.option("--int8-input", is_flag=True, help="Take int8 pixels instead of float32 (with --dtype int8).")
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="With --dtype int8: validation images on which it is calibrated (after --quantize-aware training none are).",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@common.data_dir_option
def command(run, output, dtype, batch_size, int8_input, calibration_images, overwrite, data_dir):
    """Export RUN's network as a bundle: one LiteRT file per exit, a manifest, and golden vectors to verify it by.

    The unsplit network lies beside the stages for comparison. docs/bundle.md describes the folder.
    """
    if dtype != "int8":
        common.refuse_given("--dtype int8 with it", "calibration_images")
    common.check_output_folder(output)
    options = library("rdi_tf.export.convert").ExportOptions(
        dtype, _batch_size(batch_size), int8_input, calibration_images
    )
    write = library("rdi_tf.export.write")
    with held_back_stderr():  # the converter writes dozens of lines
        bundle = write.export_run(
            run, output, options, data_dir=data_dir, overwrite=overwrite, command=common.command_line()
        )
    manifest = bundle.manifest
    rows = [
        (name, stage.file.name, f"{stage.file.bytes}", stage.handover)
        for name, stage in zip(manifest.exit_names, manifest.stages, strict=True)
    ]
    text = (
        f"{bundle.path}: {manifest.dtype}, stages {manifest.stage_bytes:,} bytes, "
        f"{manifest.golden.images} golden vectors\n" + aligned(("EXIT", "FILE", "BYTES", "INPUT"), rows)
    )
    data = {"bundle": str(bundle.path), "dtype": manifest.dtype, "stage_bytes": manifest.stage_bytes}
    data |= {"unsplit_bytes": manifest.unsplit.file.bytes, "handovers": [stage.handover for stage in manifest.stages]}
    return common.Report(data, text)


def _batch_size(text):
    if text == "dynamic":
        return None
    if not text.isdecimal():
        raise ConfigError(f'--batch-size {text!r}: expected a number or "dynamic"')
    return int(text)
