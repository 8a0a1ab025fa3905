#!/usr/bin/env python3
"""Make the demo app's assets from a trained run: its bundles, and sample images in three versions.

    rdi-tf train mnist-smallcnn-fast && rdi-tf calibrate runs/mnist-smallcnn-fast
    rdi-tf evaluate runs/mnist-smallcnn-fast --save-images 200
    python android_demo/make_assets.py runs/mnist-smallcnn-fast

Any run will do, one that was trained for int8 gives that bundle alone: the app knows nothing of the network but what
the bundle's manifest says. Its tests know ours: with another one, `SKIP_TESTS=1 make android`.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import click
import numpy as np

from rdi_tf.errors import DataError, RDIError
from rdi_tf.provenance import strip_folders
from rdi_tf.reporting.deployments import attacked_dtype
from rdi_tf.reporting.samples import load_samples
from rdi_tf.runs import RunFolder

ASSETS = Path(__file__).parent / "app" / "src" / "main" / "assets"
PARTS = ("samples", "bundles")


def write_samples(run, folder, count):
    """Keep sample images as 8-bit pixels, as a camera would give them.

    Args:
      run: a `RunFolder` whose evaluation kept images.
      folder: where `samples.npz` (uint8 (n, height, width, channels) for each version, labels int32 (n,)) and
        `samples.json` (order of the versions, how they were made) go.
      count: how many of each version.

    Raises:
      DataError: the run kept no images.
    """
    samples = load_samples(run, count)
    if samples is None:
        raise DataError(
            f"{run.path}: kept no images; run `rdi-tf evaluate {run.path.name} --save-images {count}` first"
        )
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {name: np.rint(255 * images).astype(np.uint8) for name, images in samples.images.items()}
    np.savez_compressed(folder / "samples.npz", **pixels, labels=samples.labels.astype(np.int32))
    description = {"versions": list(pixels), "images": len(samples.labels), "run": run.path.name}
    description["attack"] = samples.attack
    (folder / "samples.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def write_bundles(run, folder, data_dir):
    """Export the run in int8, and in float32 where that is what was attacked; the app starts with int8."""
    from rdi_tf.export.convert import ExportOptions
    from rdi_tf.export.write import export_run

    for dtype in dict.fromkeys(("int8", attacked_dtype(run.config.compression.method))):
        command = strip_folders(["rdi-tf", "export", str(run.path), "--dtype", dtype])
        export_run(run.path, folder / dtype, ExportOptions(dtype), data_dir=data_dir, command=command)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=ASSETS,
    help="Folder of the assets; samples and bundles in it are replaced.",
)
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="Images of each version.")
@click.option("--data-dir", envvar="TFDS_DATA_DIR", help="Folder of the TFDS data sets.")
def main(run, output, images, data_dir):
    """Make the app's assets from RUN."""
    try:
        folder = RunFolder.open(run)
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent) as made:  # all of one run, or nothing
            write_samples(folder, Path(made, "samples"), images)
            write_bundles(folder, Path(made, "bundles"), data_dir)
            for part in PARTS:
                shutil.rmtree(output / part, ignore_errors=True)
                os.rename(Path(made, part), output / part)
    except RDIError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
