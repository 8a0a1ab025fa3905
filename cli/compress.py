"""`rdi-tf compress`: a smaller network made from another run's, still defended."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.compression.settings import PATTERNS, CompressionConfig
from rdi_tf.config_rules import doubts
from rdi_tf.errors import ConfigError
from rdi_tf.runs import RunFolder


@common.command("compress", example="rdi-tf compress runs/mnist-smallcnn --quantize-aware")
@common.run_argument
@click.option("--quantize-aware", is_flag=True, help="Train for int8: what the int8 export computes is simulated.")
@click.option("--prune", type=float, metavar="SHARE", help="Set this share of each layer's weights to zero, as 0.5.")
@click.option(
    "--pattern",
    type=click.Choice(PATTERNS),
    default="unstructured",
    show_default=True,
    help="Where --prune's zeros lie: anywhere, two of each four inputs, or blocks (dense layers only).",
)
@click.option("--prune-channels", type=float, metavar="SHARE", help="Take out this share of each layer's channels.")
@click.option("--cluster", type=int, metavar="N", help="Let each layer's weights have only N different values.")
@click.option("--iterations", type=click.IntRange(1), help="Of fine-tuning.  [default: a tenth of RUN's]")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder of the new run.  [default: RUN-qat and such]")
@common.settings_option
@common.data_dir_option
@common.quiet_option
def command(run, iterations, run_dir, settings, data_dir, quiet, **methods):
    """Make a new run of RUN: its network compressed, then fine-tuned under the same attacks.

    Fine-tuning takes a tenth of RUN's iterations at a tenth of its learning rate; --set changes that and everything
    else of training. A folder that holds the same compression is resumed. The new run is evaluated and exported like
    any other.
    """
    compression = _compression(**methods)
    if iterations is not None:
        settings = (
            f"training.iterations={iterations}",
            f"training.validate_every={max(1, iterations // 4)}",
            *settings,
        )
    runs = library("rdi_tf.compression.runs")
    chosen = runs.fine_tuning_config(RunFolder.open(run).config, compression).with_settings(settings)
    for doubt in doubts(chosen):
        common.warn(doubt)
    made, found = runs.compress_run(
        run, compression, run_dir, settings, data_dir=data_dir, progress=not quiet, command=common.command_line()
    )
    history = library("rdi_tf.training.history")
    best = history.History(made.history_file).best
    words = history.accuracies_in_words(best, chosen.defence.name != "standard")
    data = {"run": str(made.path), "model": str(made.model_file), "best_validation": best, **found}
    return common.Report(
        data, _text(made, f"best at iteration {best['iteration']}, on validation images {words}", found)
    )


def _compression(quantize_aware, prune, pattern, prune_channels, cluster):
    chosen = {
        "quantize_aware": {} if quantize_aware else None,
        "prune": {"sparsity": prune} if prune is not None else None,
        "prune_channels": {"sparsity": prune_channels} if prune_channels is not None else None,
        "cluster": {"clusters": cluster} if cluster is not None else None,
    }
    chosen = {method: fields for method, fields in chosen.items() if fields is not None}
    if len(chosen) != 1:
        options = "--quantize-aware, --prune, --prune-channels and --cluster"
        raise ConfigError(f"compress: expected one of {options}, got {len(chosen)} of them")
    if pattern != "unstructured" and prune is None:
        raise ConfigError("--pattern: expected --prune with it")
    ((method, fields),) = chosen.items()
    return CompressionConfig(method=method, pattern=pattern, **fields)


def _text(made, best_in_words, found):
    before, after = (found[key]["executed_macs"][-1] for key in ("costs_before", "costs"))
    sparsity = found["sparsity"]
    skipped = ", ".join(sparsity["skipped_by"]) or "no runtime: they are computed and counted"
    return (
        f"{made.model_file}: {found['method']}, {best_in_words}\n"
        f"executed MACs of the whole network {before:,.0f} -> {after:,.0f}\n"
        f"{sparsity['zeros']:,} of {sparsity['weights']:,} weights are zero ({sparsity['share']:.1%}), "
        f"skipped by {skipped}"
    )
