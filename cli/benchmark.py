"""`rdi-tf benchmark`: how long a bundle takes on this machine, or on another."""

from pathlib import Path

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import held_back_stderr, library
from rdi_tf.errors import ConfigError
from rdi_tf.text_tables import aligned


@common.command("benchmark", example="rdi-tf benchmark runs/mnist-smallcnn/export/float32 --rounds 50")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="NPZ file of images (and labels), as RUN/evaluation/images.npz.  [default: the bundle's golden inputs]",
)
@click.option("--set", "set_name", help="Which images of that file: clean, adversarial, slowdown, …")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Use the first so many images.")
@common.threads_option
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Measured passes of each kind.")
@click.option("--warmup-rounds", type=click.IntRange(1), default=3, show_default=True, help="Passes before them.")
@click.option("--max-seconds", type=float, default=150.0, show_default=True, help="Start no further round after that.")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the result in this JSON file, too.")
@click.option("--ssh", "host", metavar="HOST", help="Measure on HOST, which has rdi-tf installed.")
@click.option(
    "--adb",
    "serial",
    metavar="[SERIAL]",
    is_flag=False,
    flag_value="",
    help="Measure in the demo app on an Android device; SERIAL says which, if there are several. Behind BUNDLE, or as "
    "--adb=SERIAL, since the word behind it is taken for SERIAL.",
)
@click.option(
    "--remote-command",
    default="rdi-tf",
    show_default=True,
    help="With --ssh: how rdi-tf is called on HOST, as ~/venv/bin/rdi-tf.",
)
@click.option(
    "--timeout", type=float, default=900.0, show_default=True, help="With --ssh, --adb: give up after these seconds."
)
def command(bundle, images, set_name, limit, output, host, serial, remote_command, timeout, **measure):
    """Measure BUNDLE's latency: per stage, per exit and over the real mix of exits, beside the unsplit network.

    Savings in milliseconds stand beside savings in multiply-adds. Nothing else should be running on the machine.
    docs/latency.md says how everything is measured, and which field is which of TFLite's benchmark tool.
    """
    if host is not None and serial is not None:
        raise ConfigError("--ssh and --adb: expected one of them, got both")
    if set_name is not None and images is None:
        raise ConfigError(f"--set {set_name!r}: expected --images with it, got none")
    if host is None:
        common.refuse_given("--ssh with it, got none", "remote_command")
        if serial is None:
            common.refuse_given("--ssh or --adb with it, got none", "timeout")
    common.check_output_file(output)
    options = library("rdi_tf.export.benchmark").BenchmarkOptions(**measure)
    if host is not None or serial is not None:
        remote = library("rdi_tf.export.remote")
        job = remote.Job(bundle, options, images, set_name, limit, timeout)
        result = remote.over_adb(job, serial or None) if host is None else remote.over_ssh(job, host, remote_command)
    else:
        result = _measure_here(bundle, images, set_name, limit, options)
    if output is not None:
        result.save(output)
    return common.Report(result.to_dict(), latency_text(result))


def _measure_here(bundle, path, set_name, limit, options):
    arguments = {"options": options, "command": common.command_line(), "limit": limit}
    if path is not None:
        found = library("rdi_tf.export.benchmark_images").load_images(path, set_name, limit)
        arguments |= dict(zip(("images", "labels", "source"), found, strict=True))
    with held_back_stderr():
        return library("rdi_tf.export.benchmark").benchmark(bundle, **arguments)


def latency_text(result):
    """A `rdi_tf.latency.LatencyResult` for people."""
    module = library("rdi_tf.reporting.latency_tables")
    parts = [f"{table.title}\n{aligned(table.header, table.rows)}" for table in module.tables(result)]
    return "\n\n".join([module.headline(result), *parts, "\n".join(module.notes(result))])
