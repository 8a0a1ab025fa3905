"""The documentation against what it describes."""

import pydoc
import re

import pytest
from conftest import REPOSITORY

from rdi_tf.cli.config_reference import CHOICES, choices, configuration_reference
from rdi_tf.cli.main import COMMANDS
from rdi_tf.cli.reference import reference
from rdi_tf.config import Config, preset_names
from rdi_tf.errors import ConfigError

PAGES = ["README.md", "results/README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]


def test_the_command_reference_is_what_help_says(repository):
    written = (repository / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


def test_the_configuration_reference_is_what_the_dataclasses_say(repository):
    written = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == configuration_reference(), "run `make docs`"
    keys = {row.split("`")[1] for row in written.splitlines() if row.startswith("| `")}
    assert keys == {*_keys(Config().to_dict()), "exits"}  # which is left out by default


def _keys(table):
    for key, value in table.items():
        yield from _keys(value) if isinstance(value, dict) else (key,)


def test_choices_in_the_configuration_reference_are_those_that_are_accepted():
    for key in set(CHOICES) - {"model.backbone", "model.branch"}:  # which the registries refuse, when one is built
        value = '["nothing"]' if key == "data.augmentation" else "nothing"
        with pytest.raises(ConfigError, match=rf"{key}: expected one of {', '.join(choices(key))}, got 'nothing'"):
            Config().with_settings([f"{key}={value}"])
    assert choices("model.branch") and not choices("data.name")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(repository, page):
    path = repository / page
    for target in re.findall(r"(?:\]\(|<img src=\")([^)#\"]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_presets_that_pages_name_exist(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    for name in re.findall(r"^(?:    )?rdi-tf ([a-z][a-z-]+)", text, flags=re.MULTILINE):
        assert name in COMMANDS, f"{page}: rdi-tf {name}"
    for name in re.findall(r"^(?:    )?rdi-tf (?:train|costs) ((?:mnist|cifar10|digits)-[\w-]+)", text, flags=re.M):
        assert name in preset_names(), f"{page}: {name}"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "Makefile"])
def test_modules_and_files_that_pages_name_exist(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    listed = re.search(r"addprefix rdi_tf\.,([^)]*)", text)  # the Makefile's API
    names = [f"rdi_tf.{name}" for name in listed[1].replace("\\", "").split()] if listed else []
    for name in [*names, *re.findall(r"`(rdi_tf(?:\.\w+)+)`", text)]:
        assert pydoc.locate(name) is not None, f"{page}: {name}"
    for file in re.findall(r"`((?:rdi_tf|cli|export|tests|benchmarks|android_demo)/[\w/]+\.\w+)`", text):
        assert (repository / file).is_file(), f"{page}: {file}"
