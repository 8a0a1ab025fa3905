"""`rdi-tf compress`: a smaller network made from a finished run, still defended."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.cli.train import best_validation
from rdi_tf.compression.settings import CompressionConfig
from rdi_tf.errors import ConfigError


@common.command("compress", example="rdi-tf compress runs/mnist-smallcnn --quantize-aware")
@common.run_argument
@click.option("--quantize-aware", is_flag=True, help="Train for int8: what the int8 export computes is simulated.")
@click.option("--iterations", type=click.IntRange(1), help="Of fine-tuning.  [default: a tenth of RUN's]")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder of the new run.  [default: beside RUN]")
@common.settings_option
@common.data_dir_option
@common.quiet_option
def command(run, quantize_aware, iterations, run_dir, settings, data_dir, quiet):
    """Make a new run of RUN: its network compressed, then fine-tuned under the same attacks.

    Fine-tuning takes a tenth of RUN's iterations at a tenth of its learning rate; --set changes that and everything
    else of training. A folder that holds the same compression is resumed. The new run is evaluated and exported like
    any other.
    """
    compression = _compression(quantize_aware)
    if iterations is not None:
        settings = (
            f"training.iterations={iterations}",
            f"training.validate_every={max(1, iterations // 4)}",
            *settings,
        )
    runs = library("rdi_tf.compression.runs")
    made = runs.compress_run(run, compression, run_dir, settings, data_dir=data_dir, progress=not quiet)
    best = best_validation(made.history_file)
    text = (
        f"{made.model_file}: {compression.method}, best at iteration {best['iteration']}, on validation images "
        f"{best['clean_accuracy']:.2%} clean, {best['robust_accuracy']:.2%} robust"
    )
    data = {"run": str(made.path), "model": str(made.model_file), "method": compression.method}
    return common.Report({**data, "best_validation": best}, text)


def _compression(quantize_aware):
    if not quantize_aware:
        raise ConfigError("compress: expected a method, --quantize-aware")
    return CompressionConfig(method="quantize_aware")
