"""The scripts that compare ways to train by short runs, and the one that times training's steps and input."""

import json
import runpy
import sys

import pytest

from rdi_tf.config import Config

DIGITS = Config.load("digits-smallcnn")


@pytest.fixture
def script(repository, monkeypatch):
    """A script's names, as its own folder sees it."""
    folder = repository / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    return lambda name: runpy.run_path(str(folder / f"{name}.py"))


def test_settings_in_words(script):
    configuration = script("short_runs")["configuration"]
    weighted = DIGITS.with_settings(["training.exit_weights=[0.5, 0.7, 2.0]"])
    found = configuration(weighted, ["step:0.8", "branches:2", "defence.name=average"])
    assert (found.defence.name, found.defence.attack.step_size) == ("average", pytest.approx(0.8 * 0.15))
    assert len(found.model.exits) == 1 and found.training.exit_weights == (0.7, 2.0)
    alone = configuration(weighted, ["branches:"])
    assert (alone.model.exits, alone.training.exit_weights) == ((), ())
    assert configuration(DIGITS, []) == DIGITS


def test_schedules_shrink_in_proportion(script):
    found = script("short_runs")["shortened"](DIGITS, 60)
    assert (found.training.iterations, found.training.validate_every, found.defence.warmup_iterations) == (60, 60, 10)
    assert found.training.schedule == "one_cycle"


def test_every_recipe_and_every_way_is_a_configuration(script):
    preset, configuration = Config.load("cifar10-resnet38-fast"), script("short_runs")["configuration"]
    ingredients, ways = script("ingredients"), script("robustness_per_minute")
    recipes = {name: configuration(preset, [*ingredients["PLAIN"], *s]) for name, s in ingredients["RECIPES"].items()}
    assert len(set(recipes.values())) == len(recipes)
    assert len({configuration(preset, settings) for settings in ways["WAYS"].values()}) == len(ways["WAYS"])


def test_ingredients_are_weighed_at_equal_cost_on_validation_images(script, monkeypatch, capsys, tmp_path):
    ingredients = script("ingredients")
    names = [ingredients["BASE"], "half clean images"]
    small = ["--preset", "digits-smallcnn", "--set", "evaluation.steps=2", "training.batch_size=16"]
    arguments = [*small, "--iterations", "10", "--seeds", "0", "1", "--images", "20", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["ingredients.py", *arguments, "--only", *names])
    ingredients["main"]()
    found = json.loads((tmp_path / "ingredients.json").read_text())
    rows, command = found["rows"], found["provenance"]["command"]
    assert command.startswith("ingredients.py --preset digits-smallcnn --set evaluation.steps=2 training.batch_size=16")
    assert f"--images 20 --output {tmp_path.name} --only" in command
    assert [(row["recipe"], row["seed"]) for row in rows] == [(name, seed) for seed in (0, 1) for name in names]
    assert all(row["processor"] == found["provenance"]["processor"] and row["date"] for row in rows)
    # PGD-2 takes 4 forward passes; the update takes 6 of them, or 3 without the clean images.
    assert [row["iterations"] for row in rows] == [10, round(10 * 7 / 10)] * 2
    assert len(list(tmp_path.glob("*/evaluation/validation/*.json"))) == 4
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 3 and "| half clean images | 7 | 2 |" in printed
    kept = sorted(path.stat().st_mtime_ns for path in tmp_path.glob("*/model.keras"))
    ingredients["main"]()
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.glob("*/model.keras")) == kept
    # Under other options these would be old figures under a new title.
    for option in (["--iterations", "11"], ["--images", "21"], ["--set"], ["--preset", "mnist-smallcnn-fast"]):
        monkeypatch.setattr(sys, "argv", ["ingredients.py", *arguments, *option, "--only", "branch 2 alone", names[1]])
        with pytest.raises(SystemExit, match=f"was made with {option[0].removeprefix('--')} "):
            ingredients["main"]()
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.glob("*/model.keras")) == kept


def test_a_way_is_not_shown_for_other_minutes_than_its_own(script, monkeypatch, tmp_path):
    ways = script("robustness_per_minute")
    arguments = ["robustness_per_minute.py", "--preset=digits-smallcnn", "--minutes=0.001", "--test-images=20"]
    arguments += [f"--output={tmp_path}", "--only", "standard"]
    monkeypatch.setattr(sys, "argv", arguments)
    ways["main"]()
    found = json.loads((tmp_path / "robustness_per_minute.json").read_text())
    assert [row["way"] for row in found["rows"]] == ["standard"]
    assert found["provenance"]["command"] == " ".join(arguments).replace(str(tmp_path), tmp_path.name)
    ways["main"]()
    assert json.loads((tmp_path / "robustness_per_minute.json").read_text())["rows"] == found["rows"]
    # Killed after it had begun, with other iterations than the machine's pace gives now.
    (tmp_path / "standard.json").unlink()
    config = tmp_path / "standard" / "config.toml"
    config.write_text(config.read_text().replace("iterations = ", "iterations = 10"))
    ways["main"]()
    assert json.loads((tmp_path / "standard.json").read_text())["row"]["iterations"] < 1000
    for option in ("--minutes=2", "--test-images=30", "--preset=mnist-smallcnn-fast"):
        monkeypatch.setattr(sys, "argv", [*arguments, "free, 4 replays", option])
        with pytest.raises(SystemExit, match=f"was made with {option[2:].partition('=')[0]} ") as refused:
            ways["main"]()
        assert "\n" not in str(refused.value)
    assert [path.parent.name for path in tmp_path.glob("*/config.toml")] == ["standard"]


def test_rows_of_unknown_options_are_refused(script, tmp_path):
    """Those of earlier versions said nothing of their options."""
    kept_row = script("short_runs")["kept_row"]
    path = tmp_path / "row.json"
    assert kept_row(path, {"minutes": 5.0}) is None
    path.write_text('{"way": "standard", "robust_accuracy": 0.5}')
    with pytest.raises(SystemExit, match="was made with minutes unknown, expected minutes 5.0"):
        kept_row(path, {"minutes": 5.0})


def test_input_seconds_are_a_mean_or_the_words_of_what_is_missing(script, monkeypatch):
    """Of a queue that is filled in bursts, a median would tell how long a batch takes to be handed over."""
    input_seconds, took, clock = script("training")["input_seconds"], iter([9.0, 1.0, 1.0, 4.0]), [0.0]

    def batches(*_):
        for seconds in took:
            clock[0] += seconds
            yield None

    assert "no folder './nowhere'" in input_seconds(DIGITS.with_settings(["data.name=./nowhere"]), 3)
    monkeypatch.setitem(input_seconds.__globals__, "training_batches", batches)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert input_seconds(DIGITS, 3) == 2
