"""The group `rdi-tf`: finds commands, and is the one place where errors become one line and an exit code."""

import importlib
import shlex
import sys

import click

from rdi_tf import __version__
from rdi_tf.errors import RDIError, explain_missing_extra

# Command name -> module that holds it as `command`; imported when asked for. None of them imports TensorFlow itself.
COMMANDS = {
    "quickstart": "rdi_tf.cli.quickstart",
    "presets": "rdi_tf.cli.presets",
    "costs": "rdi_tf.cli.costs",
    "train": "rdi_tf.cli.train",
    "import-weights": "rdi_tf.cli.import_weights",
    "calibrate": "rdi_tf.cli.calibrate",
    "compress": "rdi_tf.cli.compress",
    "evaluate": "rdi_tf.cli.evaluate",
    "export": "rdi_tf.cli.export",
    "verify": "rdi_tf.cli.verify",
    "predict": "rdi_tf.cli.predict",
    "benchmark": "rdi_tf.cli.benchmark",
    "report": "rdi_tf.cli.report",
    "compare": "rdi_tf.cli.compare",
}

FAILED = 2
INTERRUPTED = 130


class Group(click.Group):
    """Imports commands when they are asked for, and ends expected errors with one line on stderr and exit code 2."""

    def list_commands(self, context):
        """Names of the commands, in the order in which one would use them."""
        return list(COMMANDS)

    def get_command(self, context, name):
        """The command of that name, or None."""
        return importlib.import_module(COMMANDS[name]).command if name in COMMANDS else None

    def main(self, args=None, **kwargs):
        """Run the command line and leave Python with its exit code."""
        args = sys.argv[1:] if args is None else list(args)
        kwargs["standalone_mode"] = False
        kwargs["obj"] = shlex.join(["rdi-tf", *args])  # results keep the command line that made them
        try:
            with explain_missing_extra():
                code = super().main(args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(FAILED)
        except click.ClickException as error:
            _fail(_usage_message(error))
        except click.Abort:  # click's name for Ctrl-C
            click.echo("rdi-tf: interrupted", err=True)
            sys.exit(INTERRUPTED)
        except RDIError as error:
            _fail(str(error))
        except OSError as error:
            _fail(_os_message(error))
        sys.exit(code or 0)


def _fail(message):
    click.echo(f"rdi-tf: error: {' '.join(message.split())}", err=True)
    sys.exit(FAILED)


def _usage_message(error):
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _os_message(error):
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rdi-tf")
def main():
    """Robust dynamic inference networks: train, evaluate and export multi-exit classifiers.

    Every command takes --json (one JSON document on stdout, everything else on stderr) and shows an example with
    --help.
    """
