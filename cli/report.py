"""`rdi-tf report`: what is known of a run, as a page to read."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import held_back_stderr, library
from rdi_tf.errors import ConfigError
from rdi_tf.runs import RunFolder

KEPT_IMAGES = 100  # of RUN/evaluation/images.npz, on which a bundle is measured


@common.command("report", example="rdi-tf report runs/mnist-smallcnn --bundle runs/mnist-smallcnn/export/float32")
@common.run_argument
@click.option("--bundle", type=click.Path(path_type=Path), help="Measure this bundle's latency now, on this machine.")
@click.option(
    "--benchmark",
    "benchmark_file",
    type=click.Path(path_type=Path),
    help="Show this latency instead: a file that `rdi-tf benchmark --output` wrote, on whatever machine.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the report.  [default: RUN/report]")
@common.data_dir_option
def command(run, bundle, benchmark_file, output, data_dir):
    """Write report.html, which holds all it shows, and report.md: RUN's evaluations as tables and pictures.

    Attack tables beside the paper's reported figures, exits taken, accuracy against cost as the thresholds move,
    example images (of `evaluate --save-images`), the learning curve, latency. Without --bundle and --benchmark the
    latencies are those that lie in RUN/latency*.json (`rdi-tf benchmark --output`) and are of a bundle in RUN/export,
    the newest last.
    """
    if bundle is not None and benchmark_file is not None:
        raise ConfigError("--bundle and --benchmark: expected one of them, got both")
    common.check_output_folder(output)
    library("rdi_tf.evaluation.run_results").kept_evaluations(RunFolder.open(run))  # before anything is measured
    found, strays = library("rdi_tf.export.deployed").deployments(run), ()
    if benchmark_file is not None:
        latencies = [library("rdi_tf.latency").LatencyResult.load(benchmark_file)]
    elif bundle is not None:
        latencies = [measure(run, bundle)]
    else:
        latencies, strays = kept_latencies(found)
    files = library("rdi_tf.reporting.report").write_report(run, output, latencies, data_dir, found.bundles)
    data = {
        "html": str(files.html),
        "markdown": str(files.markdown),
        "pictures": [str(file) for file in files.pictures],
        "left_out": list(strays),
    }
    notes = [f"{name} is of no bundle in {Path(run) / 'export'}, so left out" for name in strays]
    return common.Report(data, "\n".join([*notes, str(files.html), str(files.markdown)]))


def kept_latencies(found):
    """Of a run's `Deployments` the latencies that are of its bundles, the newest last; and the names of other ones."""
    latencies = [latency for bundle in found.bundles for latency in bundle.latencies]
    return sorted(latencies, key=lambda latency: latency.date), found.strays


def measure(run, bundle, rounds=15):
    """Latency of a bundle on the clean images that its run kept, else on the bundle's golden inputs."""
    images = Path(run) / "evaluation" / "images.npz"
    arguments = {}
    if images.is_file():
        found = library("rdi_tf.export.benchmark_images").load_images(images, "clean", KEPT_IMAGES)
        arguments = dict(zip(("images", "labels", "source"), found, strict=True))
    module = library("rdi_tf.export.benchmark")
    with held_back_stderr():
        return module.benchmark(
            bundle, options=module.BenchmarkOptions(rounds=rounds), command=common.command_line(), **arguments
        )
