"""The command reference in Markdown, made of what `--help` says; `make docs` writes it to docs/commands.md."""

import click

from rdi_tf.cli.main import COMMANDS, main

WIDTH = 100
TITLE = """# Commands

Made by `make docs` from what `--help` says; a test holds the two together. Exit codes: 0 done, 2 an
error that you can mend (one line on stderr) or a bundle that does not hold, 130 interrupted.
"""


def reference():
    """The reference: one section for each command, in the order in which one would use them."""
    group = _help(main, click.Context(main, info_name="rdi-tf", **_format()))
    parts = [TITLE, f"```\n{group}\n```\n"]
    for name in COMMANDS:
        parent = click.Context(main, info_name="rdi-tf", **_format())
        found = main.get_command(parent, name)
        text = _help(found, click.Context(found, info_name=name, parent=parent, **_format()))
        parts.append(f"## {name}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _format():
    return {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}


def _help(command, context):
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    click.echo(reference(), nl=False)
