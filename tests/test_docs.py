"""The documentation against what it describes."""

import dataclasses
import pydoc
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

import rdi_tf
from rdi_tf.attacks import SLOWDOWN, policy_form_names
from rdi_tf.cli.config_reference import CHOICES, choices, configuration_reference
from rdi_tf.cli.main import COMMANDS
from rdi_tf.cli.reference import reference
from rdi_tf.config import AttackConfig, Config, preset_names
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.suites import SUITES, plan_attacks
from rdi_tf.export import Cascade, Prediction

FOLDERS = ["results", "benchmarks", "android_demo"]
PAGES = [
    "README.md",
    *(f"{folder}/README.md" for folder in FOLDERS),
    *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")),
]


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


PASSES = {  # docs/evaluation.md, per image; k exits, n steps, s still standing
    "paper": lambda k, n, s: 2 * n * (k + 1),
    "all": lambda k, n, s: 2 * n * (k + 2),
    "quick": lambda k, n, s: 20 * (k + 2),
    "strict": lambda k, n, s: 2 * n + s * n * (5 * k + 2),
    "strong": lambda k, n, s: 2 * n + s * (1000 * k + 14_080),
    "slowdown": lambda k, n, s: 2 * n + 400,
    "none": lambda k, n, s: 0,
}


def counted_passes(plan, exit_names, standing):
    """Passes of a plan over one image: two for a gradient, one for a query or a look at the rule."""
    looks_at_rule = (*policy_form_names(exit_names), SLOWDOWN)
    together = {(attack.form, attack.search) for attack in plan.attacks if not attack.on_survivors}
    for form, search in [pair for pair in together if pair[0] == "max_average"]:  # made of the single attacks
        together = together - {(form, search)} | {(name, search) for name in exit_names}
    turns = [(attack.form, attack.search) for attack in plan.attacks if attack.on_survivors]

    def passes(form, search, survivors):
        targets = search.target_classes if search.loss == "dlr_targeted" else 1
        each = 1 if search.algorithm == "square" else 2
        return search.steps * search.restarts * targets * (each + (survivors and form not in looks_at_rule))

    return sum(passes(*pair, False) for pair in together) + standing * sum(passes(*pair, True) for pair in turns)


@pytest.mark.parametrize("suite", list(SUITES))
def test_the_costs_of_suites_follow_from_their_definitions(repository, suite):
    for exits, steps, standing in ((3, 40, 1), (7, 20, 0.3)):
        names = [*(f"branch_{k + 1}" for k in range(exits - 1)), "main"]
        plan = plan_attacks(suite, AttackConfig(steps=steps), names, 10)
        assert counted_passes(plan, names, standing) == pytest.approx(PASSES[suite](exits, steps, standing))
    row = re.search(rf"^\| `{suite}` \|.*", (repository / "docs/evaluation.md").read_text(encoding="utf-8"), re.M)[0]
    assert row.endswith(f"| {PASSES[suite](3, 40, 1):,} |")


def blocks(language, text):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run_snippets(text):
    """Run the Python blocks of a page, one after the other, as one program; what they leave defined."""
    names = {}
    for block in blocks("python", text):
        exec(compile(block, "a snippet", "exec"), names)
    return names


def shortened(text, changes):
    """A page with smaller numbers."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def checkout(repository, tmp_path, monkeypatch):
    """A working folder that looks like the checkout, with a picture of dark ink on light paper in it."""
    from PIL import Image, ImageOps

    monkeypatch.chdir(tmp_path)
    (tmp_path / "android_demo").symlink_to(repository / "android_demo")
    golden = Cascade("android_demo/app/src/main/assets/bundles/int8").bundle.golden()
    ImageOps.invert(Image.fromarray((255 * golden.images[0, ..., 0]).astype("uint8"))).save("digit.png")
    return golden


def test_the_python_page_runs_a_bundle(repository, checkout, capsys):
    text = (repository / "docs/python.md").read_text(encoding="utf-8")
    names = run_snippets(text.partition("## Train")[0])
    label = str(checkout.predictions[0])
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(f"{label}, sure to ") and second == label
    fields = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)))
    assert fields == [field.name for field in dataclasses.fields(Prediction)]
    assert (names["batch"].predictions == checkout.predictions).all()


@pytest.mark.slow
def test_the_python_page_trains_exports_and_serves(repository, checkout):
    text = (repository / "docs/python.md").read_text(encoding="utf-8")
    assert all(re.search(rf"^(?:from rdi_tf import|    ).*\b{name}\b", text, re.MULTILINE) for name in rdi_tf.__all__)
    changes = {"training.iterations=600": "training.iterations=2", '"strict", limit=200': '"main", limit=8'}
    names = run_snippets(shortened(text, changes))
    assert names["result"].images == 8 and names["bundle"].path.is_dir()
    assert len(names["answer"].predictions) == 64


@pytest.mark.slow
def test_a_network_of_ones_own_trains_as_the_page_says(repository, checkout):
    text = (repository / "docs/extending.md").read_text(encoding="utf-8")
    changes = {
        "./images": "digits",
        "[64, 64, 3]": "[32, 32, 3]",
        "iterations = 2000": "iterations = 2",
        "batch_size = 64": "batch_size = 8\nvalidation_images = 8",
        '"strict")': '"main", limit=4, checks=False)',
    }
    text = shortened(text.partition("## A backbone for configurations")[0], changes)
    Path("mine.toml").write_text(*blocks("toml", text))
    names = run_snippets(text)
    assert len(names["result"].clean.exit_shares) == 3
    assert Path("runs/mine/export/float32/manifest.json").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(repository, page):
    path = repository / page
    for target in re.findall(r"(?:\]\(|<img src=\")([^)#\"]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_every_benchmark_stands_in_the_table(repository):
    text = (repository / "benchmarks/README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (repository / "benchmarks").glob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", text)) == scripts


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
