"""What the commands share: how a command is declared, what it prints, and the arguments that recur."""

import contextlib
import functools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from rdi_tf.config import Config, preset_names
from rdi_tf.errors import ConfigError
from rdi_tf.runs import RunFolder


@dataclass(frozen=True)
class Report:
    """What a command found.

    Attributes:
      data: plain values for `--json`: one object.
      text: the same for people; without the newline at the end.
      exit_code: of the process; not 0 where the command ran, and what it was asked to hold does not hold.
    """

    data: dict
    text: str
    exit_code: int = 0


def command(name, example):
    """Declare a command whose function returns a `Report`; adds `--json` and the example at the end of `--help`.

    While the function runs, what anything prints goes to stderr (Keras' progress bars would print on stdout), so that
    stdout holds the result and nothing else.

    Args:
      name: name on the command line.
      example: a command line that works, shown at the end of `--help`.

    Returns:
      A decorator that makes a `click.Command`.
    """

    def decorate(function):
        @functools.wraps(function)
        def run(as_json, **arguments):
            with contextlib.redirect_stdout(sys.stderr):
                report = function(**arguments)
            click.echo(json.dumps(report.data, indent=2, allow_nan=False) if as_json else report.text)
            return report.exit_code

        option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
        return click.command(name, epilog=f"\b\nExample:\n  {example}")(option(run))

    return decorate


def data_dir_option(function):
    """`--data-dir`: where TFDS data sets lie."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="TFDS_DATA_DIR",
        show_envvar=True,
        help="Folder of the TFDS data sets.  [default: TFDS' own, ~/tensorflow_datasets]",
    )(function)


def quiet_option(function):
    """`--quiet`: no progress on stderr."""
    return click.option("--quiet", is_flag=True, help="Show no progress on stderr.")(function)


def strategy_option(function):
    """`--strategy`: the devices that share the work, a name for `rdi_tf.distribution.open_cluster`."""
    return click.option(
        "--strategy",
        type=click.Choice(["single", "mirrored", "multi-worker"]),
        default="single",
        show_default=True,
        help="Use one device, all of this machine, or all machines that TF_CONFIG names.",
    )(function)


def threads_option(function):
    """--threads of commands that run a bundle."""
    help_text = "Threads of each stage."
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help=help_text)(function)


def settings_option(function):
    """`--set section.key=value`, as often as one likes."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one value of the configuration, as training.iterations=2000; may be repeated.",
    )(function)


def run_argument(function):
    """`RUN`: the folder of a training run."""
    return click.argument("run", metavar="RUN", type=click.Path(path_type=Path))(function)


def config_argument(function):
    """`CONFIG`: a preset's name, the folder of a run, or a TOML file; `read_config` reads it."""
    return click.argument("config", metavar="CONFIG")(function)


def read_config(text, settings=()):
    """The configuration that an argument names.

    Args:
      text: a preset's name, the folder of a run, or a TOML file.
      settings: overrides `section.key=value`.

    Returns:
      The `Config`.

    Raises:
      ConfigError: nothing of that name, or an override that cannot be applied.
    """
    run = run_folder_of(text)
    if run is None:
        return Config.load(text).with_settings(settings)
    if not (run / "config.toml").is_file():
        raise ConfigError(f"{text!r} is a folder without config.toml, so not a run folder")
    return Config.load(run / "config.toml").with_settings(settings)


def run_folder_of(text):
    """The folder that an argument names, or None: a preset goes before a folder of the same name."""
    path = Path(text)
    return path if text not in preset_names() and path.is_dir() else None


def section_of_run(run, section, settings):
    """One section of a run's configuration, with overrides that may touch nothing else.

    Args:
      run: the run's folder.
      section: "policy", "evaluation", …
      settings: overrides `section.key=value`.

    Returns:
      The section's dataclass.

    Raises:
      CheckpointError: no run folder.
      ConfigError: an override of another section, or one that cannot be applied.
    """
    for setting in settings:
        if not setting.strip().startswith(f"{section}."):
            raise ConfigError(f"--set {setting!r}: expected {section}.KEY=VALUE, all else is as the run was trained")
    return getattr(RunFolder.open(run).config.with_settings(settings), section)


def parse_numbers(text, option):
    """Numbers separated by commas as a tuple of floats; other text raises `ConfigError`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: expected numbers separated by commas") from error


def refuse_given(expected, *names):
    """Refuse options that were given on the command line and mean nothing there.

    Args:
      expected: what would make sense of them, in words.
      names: of the command's parameters.

    Raises:
      ConfigError: the first of them that was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option, value = name.replace("_", "-"), context.params[name]
            shown = f"--{option} {str(value)!r}"
            if isinstance(value, bool):
                shown = f"--{option}" if value else f"--no-{option}"
            raise ConfigError(f"{shown}: expected {expected}")


def check_output_file(path):
    """Refuse, before the work that it is to keep, an --output that cannot become a file; None passes.

    Args:
      path: `Path` of the file, or None; its folder must be there.

    Raises:
      ConfigError: a folder, or a file in a folder that does not exist or cannot be written in.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"--output {str(path)!r}: expected a file, got a folder")
    if not path.parent.is_dir():
        raise ConfigError(f"--output {str(path)!r}: expected a file in a folder that exists, {path.parent} does not")
    _check_writable(path, path.parent)


def check_output_folder(path):
    """Refuse, before the work that it is to keep, an --output that cannot become a folder; None passes.

    Args:
      path: `Path` of the folder, or None; it is made, with those above it, where it is missing.

    Raises:
      ConfigError: a file stands there, or where a folder above it should, or that folder cannot be written in.
    """
    if path is None:
        return
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        raise ConfigError(f"--output {str(path)!r}: expected a folder, but {existing} is a file")
    _check_writable(path, existing)


def _check_writable(path, folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--output {str(path)!r}: cannot be written: {error.strerror}") from error


def command_line():
    """The command line that is running, for the record of a result."""
    return click.get_current_context().obj


def warn(message):
    """A line on standard error, beside the results."""
    click.echo(f"rdi-tf: warning: {message}", err=True)


def attack_progress(form, done, images):
    """Show on stderr how many images an attack has done: a line that moves on a terminal, else one when it is done."""
    if sys.stderr.isatty() or done == images:
        click.echo(
            f"\r{form}: {done} of {images} images" if sys.stderr.isatty() else f"{form}: {images} images",
            err=True,
            nl=done == images,
        )
