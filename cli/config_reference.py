"""The configuration reference in Markdown, made of the dataclasses of `rdi_tf.config`.

`make docs` writes it to docs/configuration.md: `python -m rdi_tf.cli.config_reference`.
"""

import dataclasses
import inspect
import json
import re
import types
import typing

import click

from rdi_tf import config as settings
from rdi_tf.cli.library import library
from rdi_tf.config import Config

TITLE = """# Configuration

Made by `make docs` from the dataclasses in `rdi_tf/config.py`; a test holds the two together.

- A configuration is a TOML file with the sections below. A key that is left out has its default.
- `rdi-tf train my.toml` trains one; `rdi-tf costs my.toml` checks its keys and values, and counts multiply-adds.
- `--set section.key=value` overrides one key, the value as TOML has it: `--set training.iterations=2000`,
  `--set 'model.exits=["conv2"]'`. `evaluate` takes keys of `evaluation` alone, `calibrate` of `policy`.
- Presets (`rdi-tf presets`) are such files. `config.toml` in a run folder has every key of that run.
- An unknown key, another type or a number that no run could use is refused with one line that names the key.
- What the choices do: defences and ingredients in [training.md](training.md), attacks in
  [evaluation.md](evaluation.md), exit rules in [bundle.md](bundle.md), compression in [compression.md](compression.md).
"""
# The words of `rdi_tf.config` that list what a key may be; backbones and branches are in registries of their own.
CHOICES = {
    "model.backbone": "BACKBONES",
    "model.branch": "BRANCHES",
    "data.augmentation": "AUGMENTATIONS",
    "defence.name": "DEFENCES",
    "defence.attack.algorithm": "ALGORITHMS",
    "defence.attack.norm": "NORMS",
    "defence.attack.loss": "LOSSES",
    "defence.outputs": "OUTPUTS",
    "defence.teacher": "TEACHERS",
    "training.schedule": "SCHEDULES",
    "training.precision": "PRECISIONS",
    "policy.name": "POLICIES",
    "policy.calibration": "CALIBRATIONS",
    "compression.method": "METHODS",
    "compression.pattern": "PATTERNS",
}
TRAINING_ONLY = " and ".join(f"`{word}`" for word in (*settings.TRAINING_ALGORITHMS, *settings.TRAINING_LOSSES))
NOTES = {
    "evaluation": f"`[evaluation]` refuses {TRAINING_ONLY}, which are for training alone.\n",
    "compression": "`rdi-tf compress` writes this section; a run cannot be trained from it.\n",
}
WORDS = {str: "string", int: "integer", float: "number", bool: "true or false"}


def configuration_reference():
    """The reference: the keys without section, then one table for each section; sections of one class share theirs."""
    sections = {}
    for name, value in _sections(Config(), ""):
        sections.setdefault(type(value), []).append(name)
    parts = [TITLE, "## Before the first section\n", _table(Config, "")]
    for cls, names in sections.items():
        titles = ", ".join(f"[{name}]" for name in names)
        parts += [f"## {titles}\n", f"{_summary(cls)}\n", _table(cls, names[0])]
        parts += [NOTES[name] for name in names if name in NOTES]
    return "\n".join(parts)


def choices(key):
    """What a key may be.

    Args:
      key: "section.key".

    Returns:
      Tuple of str; empty where anything of its type may be tried.
    """
    name = CHOICES.get(key)
    if name in ("BACKBONES", "BRANCHES"):
        return tuple(getattr(library("rdi_tf.models"), name))
    return tuple(getattr(settings, name)) if name else ()


def _sections(config, path):
    """(path, section) of every section, those inside a section after it."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            inner = f"{path}.{field.name}".lstrip(".")
            yield inner, value
            yield from _sections(value, inner)


def _table(cls, path):
    hints, meanings, default = typing.get_type_hints(cls), _attributes(cls), cls()
    lines = ["| key | type | default | choices | meaning |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(cls):
        value = getattr(default, field.name)
        if not dataclasses.is_dataclass(value):
            words = ", ".join(f"`{word}`" for word in choices(f"{path}.{field.name}"))
            shown = "left out" if value is None else f"`{json.dumps(value)}`"
            cells = (f"`{field.name}`", _type(hints[field.name]), shown, words, meanings[field.name])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells).replace("|  |", "| |") + " |")
    return "\n".join(lines) + "\n"


def _type(hint):
    if isinstance(hint, types.UnionType):
        inner = next(option for option in typing.get_args(hint) if option is not type(None))
        return f"{_type(inner)}, or left out"
    if typing.get_origin(hint) is tuple:
        item, *rest = typing.get_args(hint)
        return f"list of {WORDS[item]}s" if rest == [...] else f"list of {1 + len(rest)} {WORDS[item]}s"
    return WORDS[hint]


def _summary(cls):
    """What a class' docstring says before its attributes, as one line."""
    return " ".join(inspect.getdoc(cls).partition("\nAttributes:")[0].split())


def _attributes(cls):
    """Name and meaning of each attribute that a class' docstring lists; names of lists of choices are put in words."""
    text = inspect.getdoc(cls).partition("\nAttributes:\n")[2]
    found = re.findall(r"^  (\w+): (.*(?:\n {4}.*)*)", text, flags=re.MULTILINE)
    lists = "|".join(sorted(name for name in vars(settings) if name.isupper()))
    return {name: re.sub(rf"(?<![.\w])(?:{lists})\b", "the choices", " ".join(words.split())) for name, words in found}


if __name__ == "__main__":
    click.echo(configuration_reference(), nl=False)
