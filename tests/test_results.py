"""Results by hand, their JSON, their table and their provenance."""

import csv
import dataclasses
import io
import json
import platform

import numpy as np
import pytest

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.results import EvaluationResult, ExitCosts, TrustWarning, summarise
from rdi_tf.evaluation.tables import rows, to_csv, to_markdown, to_text
from rdi_tf.policies import POLICIES, decide
from rdi_tf.provenance import provenance, strip_folders

COSTS = ExitCosts(("branch_1", "main"), (100, 300), (1.0, 4.0), 250, 4.0)
POLICY = POLICIES["max_probability"]
THRESHOLDS = (0.25,)
LABELS = np.array([0, 1, 0, 1])
SURE_0, SURE_1, UNSURE_0, UNSURE_1 = [0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]


def logits_of(*images):
    """Exit logits, given for each image the probabilities at each exit."""
    return np.log(np.array(images, np.float32))


# Clean: leave at 1, 1, main, main; right, right, right, wrong.
CLEAN = logits_of([SURE_0, SURE_0], [SURE_1, SURE_0], [UNSURE_1, SURE_0], [UNSURE_1, SURE_0])
# Average: image 2 is turned; images 3 and 4 are right.
AVERAGE = logits_of([SURE_0, SURE_0], [SURE_0, SURE_1], [UNSURE_1, SURE_0], [UNSURE_0, SURE_1])
# Max-average: all go to main; image 1 is turned, and image 3.
MAX_AVERAGE = logits_of([UNSURE_0, SURE_1], [UNSURE_1, SURE_1], [UNSURE_0, SURE_1], [UNSURE_0, SURE_1])


@pytest.fixture
def result():
    attacks = {"average": AVERAGE, "max_average": MAX_AVERAGE}
    return summarise(
        LABELS,
        CLEAN,
        attacks,
        POLICY,
        THRESHOLDS,
        COSTS,
        name="tiny",
        dataset="digits",
        attack={"algorithm": "pgd", "epsilon": 0.3},
        provenance={"seed": 1, "command": "rdi-tf evaluate run", "versions": {"numpy": "2"}},
    )


def test_clean_outcome_by_hand(result):
    clean = result.clean
    assert (clean.name, clean.kind, result.images) == ("clean", "clean", 4)
    assert clean.accuracy == 3 / 4
    assert clean.per_exit_accuracy == (3 / 4, 2 / 4)
    assert clean.exit_shares == (0.5, 0.5)
    assert clean.average_executed_macs == 0.5 * 100 + 0.5 * 300
    assert clean.average_paper_mflops == 0.5 * 1.0 + 0.5 * 4.0
    assert clean.executed_saving == pytest.approx(1 - 200 / 250)
    assert clean.paper_saving == pytest.approx(1 - 2.5 / 4)


def test_attacks_and_both_worst_cases_by_hand(result):
    average, max_average = result.attacks
    assert (average.name, average.kind, average.accuracy, average.exit_shares) == (
        "average",
        "attack",
        0.75,
        (0.5, 0.5),
    )
    assert (max_average.accuracy, max_average.exit_shares) == (0.5, (0, 1))
    assert max_average.executed_saving == pytest.approx(-0.2)  # the branches cost more than they save
    assert max_average.paper_saving == 0
    assert (result.worst_case, result.worst_case_attack) == (0.5, "max_average")
    # Image 1 falls to max-average, 2 to average, 3 to max-average, 4 is wrong clean: none survives everything.
    assert result.per_image_worst_case == 0


def test_per_image_worst_case_counts_clean_mistakes():
    """Image 4 survives the attack, but is wrong clean."""
    result = summarise(LABELS, CLEAN, {"average": AVERAGE}, POLICY, THRESHOLDS, COSTS)
    assert result.worst_case == 0.75
    assert result.per_image_worst_case == 0.5


def test_average_mflops_of_the_released_resnet38():
    """Where the authors' released weights let 10,000 clean images leave costs 53.66 MFlops in their accounting."""
    costs = ExitCosts(
        (*(f"branch_{k}" for k in range(1, 7)), "main"),
        (17_613_120, 39_502_464, 53_789_632, 69_125_376, 82_233_216, 96_389_632, 101_108_864),
        (16.79, 30.29, 36.54, 50.04, 61.42, 74.92, 79.42),
        83_280_512,
        79.42,
    )
    leave_at = np.repeat(np.arange(7), [829, 1086, 1194, 2252, 1531, 1643, 1465])
    logits = np.zeros((10_000, 7, 2), np.float32)
    logits[np.arange(10_000), leave_at, 0] = 50
    clean = summarise(np.zeros(10_000, int), logits, {}, POLICIES["entropy"], (0.3,) * 6, costs).clean
    assert round(clean.average_paper_mflops, 2) == 53.66
    assert clean.paper_saving == pytest.approx(1 - 53.66 / 79.42, abs=1e-4)
    assert clean.executed_saving < clean.paper_saving - 0.1  # the heavy branches eat the saving


def test_agrees_with_the_policy_on_random_logits():
    random = np.random.default_rng(3)
    labels, clean, attacked = random.integers(0, 5, 200), *random.normal(0, 2, (2, 200, 2, 5))
    result = summarise(labels, clean, {"main": attacked}, POLICIES["entropy"], (0.8,), COSTS)
    decision = decide(POLICIES["entropy"], attacked, (0.8,))
    assert result.attacks[0].accuracy == np.mean(decision.predictions == labels)
    assert result.attacks[0].exit_shares[0] == np.mean(decision.exits == 0)
    assert result.per_image_worst_case <= min(result.worst_case, result.clean.accuracy)


def test_per_exit_accuracy_of_an_averaging_rule_is_that_of_its_averages():
    logits = logits_of([[0.95, 0.05], [0.45, 0.55]])
    result = summarise([0], logits, {}, POLICIES["running_average"], (-1.0,), COSTS)
    assert result.clean.per_exit_accuracy == (1, 1)


def test_without_attacks():
    result = summarise(LABELS, CLEAN, {}, POLICY, THRESHOLDS, COSTS)
    assert (result.worst_case, result.worst_case_attack, result.per_image_worst_case) == (None, None, None)
    assert EvaluationResult.from_json(result.to_json()) == result
    assert "ATA" not in to_text(result) + to_markdown(result) + to_csv(result)


def test_json_round_trip(result, tmp_path):
    assert EvaluationResult.from_json(result.to_json()) == result
    result.save(tmp_path / "result.json")
    assert EvaluationResult.load(tmp_path / "result.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    table = json.loads((tmp_path / "result.json").read_text())
    assert table["attacks"][1]["exit_shares"] == [0, 1]
    assert table["costs"]["backbone_executed_macs"] == 250


def test_format_1_is_still_read(result):
    """As format 1 wrote it: without what came later, which follows from the rest."""
    table = json.loads(result.to_json())
    for key in ("suite", "attack_outputs", "checks", "warnings"):
        del table[key]
    for outcome in (table["clean"], *table["attacks"]):
        del outcome["efficacy"], outcome["images"], outcome["search"]
    assert EvaluationResult.from_json(json.dumps({**table, "format": 1})) == result


def test_efficacy_by_hand(result):
    """Half the images leave at a third of the cost: triangle to (1/3, 1/2), trapezium to (1, 1)."""
    assert result.clean.efficacy == pytest.approx(0.5 * 1 / 3 * 0.5 + 2 / 3 * 0.75)
    assert result.attacks[1].efficacy == pytest.approx(2 / 3 * 0.5)


@pytest.fixture
def turns():
    """Average over all images; then max-average on the two survivors, with its logits for those alone."""
    survivors = np.array([True, False, True, False])  # image 2 was turned, 4 is wrong clean
    later = np.where(survivors[:, None, None], MAX_AVERAGE, AVERAGE)
    return summarise(
        LABELS,
        CLEAN,
        {"average": AVERAGE, "apgd-ce/main": later},
        POLICY,
        THRESHOLDS,
        COSTS,
        met={"apgd-ce/main": 2},
        searches={"apgd-ce/main": {"algorithm": "apgd"}},
        suite="strong",
        attack={"algorithm": "pgd"},
        checks=("thresholds", "black box"),
        warnings=(TrustWarning("black box", "Square breaks more"),),
    )


def test_attacks_on_survivors_by_hand(turns):
    average, later = turns.attacks
    assert (average.kind, average.images, average.search) == ("attack", 4, {"algorithm": "pgd"})
    assert (later.kind, later.images, later.search) == ("remaining", 2, {"algorithm": "apgd"})
    # Over all images: 1 and 3 fall to it, 2 had fallen before; 4, wrong clean, is right in the kept logits.
    assert later.accuracy == 0.25
    assert turns.per_image_worst_case == 0
    assert (turns.worst_case, turns.worst_case_attack) == (None, None)  # they did not meet the same images
    assert EvaluationResult.from_json(turns.to_json()) == turns


def test_table_tells_accuracies_from_remainders(turns):
    labels = [row.label for row in rows(turns)]
    assert labels[:4] == ["TA", "ATA (Average)", "Remaining after APGD-CE, Main Branch", "Per-image worst case"]
    assert "Exit shares (Average)" in labels and "Exit shares (APGD-CE, Main Branch)" not in labels
    for text in (to_text(turns), to_markdown(turns)):
        assert "strong attacks: algorithm pgd" in text
        assert "that attack met only the images" in text and "is the lowest of" not in text
        assert "Trust checks made: thresholds, black box." in text
        assert "WARNING (black box): Square breaks more." in text


def test_table_of_a_slowdown_attack():
    result = summarise(LABELS, CLEAN, {"slowdown": MAX_AVERAGE}, POLICY, THRESHOLDS, COSTS, suite="slowdown")
    table = {row.label: row for row in rows(result)}
    assert table["Executed MACs (Slowdown)"].values == (300,)
    assert table["Efficacy (Slowdown)"].values == (result.attacks[0].efficacy,)
    assert table["Efficacy, clean"].values[0] > table["Efficacy (Slowdown)"].values[0]
    assert "Average MFlops" not in table
    assert "DeepSloth" in to_text(result)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_numbers_that_are_not_finite(result, number, tmp_path):
    broken = dataclasses.replace(result, worst_case=number)
    with pytest.raises(DataError, match="finite"):
        broken.save(tmp_path / "result.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="finite"):
        EvaluationResult.from_json(result.to_json().replace('"worst_case": 0.5', f'"worst_case": {json.dumps(number)}'))


def test_json_refuses_other_files(result, tmp_path):
    table = json.loads(result.to_json())
    for wrong, message in [
        ({**table, "format": 99}, "format 2 or 1, got 99"),
        ({**table, "extra": 1}, "result: unknown key extra"),
        ({key: value for key, value in table.items() if key != "clean"}, "clean"),
        ({**table, "images": "4"}, "result: images: expected int"),
        ({**table, "thresholds": 0.3}, "result: thresholds: expected a list"),
        ({**table, "clean": {**table["clean"], "accuracy": None}}, "result: clean.accuracy: expected float"),
        ({**table, "clean": []}, "result: clean: expected keys with values"),
        ([1], "format 2 or 1"),
        (1, "format 2 or 1, got 1"),
        ({**table, "format": 1, "costs": {}}, "format 1: 'executed_macs'"),
    ]:
        with pytest.raises(DataError, match=message):
            EvaluationResult.from_json(json.dumps(wrong))
    for text in ("{", "1" * 5000, "[" * 100_000):
        with pytest.raises(DataError, match="result: expected JSON"):
            EvaluationResult.from_json(text)
    with pytest.raises(DataError, match="none.json cannot be read"):
        EvaluationResult.load(tmp_path / "none.json")


def test_summarise_refuses():
    with pytest.raises(DataError, match="exit logits of 'clean': expected shape .4, 2, classes."):
        summarise(LABELS, CLEAN[:3], {}, POLICY, THRESHOLDS, COSTS)
    with pytest.raises(DataError, match=r"attack_logits\['main'\]: expected shape \(4, 2, 2\), got \(3, 2, 2\)"):
        summarise(LABELS, CLEAN, {"main": CLEAN[:3]}, POLICY, THRESHOLDS, COSTS)
    with pytest.raises(DataError, match="labels"):
        summarise(LABELS.astype(float), CLEAN, {}, POLICY, THRESHOLDS, COSTS)
    with pytest.raises(DataError, match="labels"):
        summarise(LABELS[:0], CLEAN[:0], {}, POLICY, THRESHOLDS, COSTS)
    with pytest.raises(ConfigError, match="thresholds"):
        summarise(LABELS, CLEAN, {}, POLICY, (), COSTS)


@pytest.mark.parametrize(
    "change",
    [
        {"exit_names": ("main",)},
        {"executed_macs": (1, -2)},
        {"paper_mflops": ()},
        {"backbone_paper_mflops": float("nan")},
    ],
)
def test_costs_refuse(change):
    with pytest.raises(ConfigError, match="costs: expected"):
        dataclasses.replace(COSTS, **change)


def test_rows_have_the_papers_names(result):
    table = {row.label: row for row in rows(result, {"TA": 99.5, "Average MFlops": 5.95, "ATA (Random)": 44.86})}
    assert list(table)[:7] == [
        "TA",
        "ATA (Average)",
        "ATA (Max-Average)",
        "ATA (Worst-Case)",
        "Per-image worst case",
        "Average MFlops",
        "Computation Saving",
    ]
    assert (table["TA"].values, table["TA"].reported) == ((75.0,), 99.5)
    assert (table["Average MFlops"].values, table["Average MFlops"].reported) == ((4.0,), 5.95)
    assert table["Executed MACs"].values == (300,)
    assert table["Executed saving"].values[0] == pytest.approx(-20)
    assert table["Executed MACs, clean"].values == (200,)
    assert table["Exit shares (Max-Average)"].values == (0, 100)
    assert (table["ATA (Random)"].values, table["ATA (Random)"].reported) == ((), 44.86)


def test_names_of_single_attacks_and_of_several_algorithms():
    attacks = {"branch_1": CLEAN, "main": CLEAN, "fgsm/max_average": CLEAN, "exit_policy": CLEAN}
    labels = [row.label for row in rows(summarise(LABELS, CLEAN, attacks, POLICY, THRESHOLDS, COSTS))]
    assert labels[1:5] == ["ATA (Branch 1)", "ATA (Main Branch)", "ATA (FGSM, Max-Average)", "ATA (Exit Policy)"]
    assert "Average MFlops (FGSM)" in labels and "Average MFlops" not in labels
    square = summarise(LABELS, CLEAN, {"square/rerouted": CLEAN}, POLICY, THRESHOLDS, COSTS)
    assert "ATA (Square, Rerouted)" in to_text(square) and "stands how it searched" in to_text(square)


def test_markdown(result):
    text = to_markdown(result, {"TA": 99.5})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "| TA | 75.00 | 99.50 | % |" in lines
    assert "| Exit shares, clean | 50.00 / 50.00 |  | % |" in lines
    assert {line.count("|") for line in lines} == {5}
    assert "| TA | 75.00 | % |" in to_markdown(result)
    assert "lowest of the 2 accuracies under attack (Max-Average)" in text
    assert "clean and under every one" in text


def test_text_is_aligned(result):
    title, blank, header, *body = to_text(result, {"TA": 99.5}).splitlines()
    assert title == "tiny: 4 images of digits, exit rule max_probability; attacks: algorithm pgd, epsilon 0.3"
    assert blank == ""
    end = header.index("measured") + len("measured")
    table = body[: body.index("")]
    assert len(table) == len(rows(result))
    assert all(line[end - 1] != " " and line[end : end + 2] == "  " for line in table)
    assert not any(line.endswith(" ") for line in table)


def test_csv(result):
    lines = list(csv.DictReader(io.StringIO(to_csv(result, {"TA": 99.5, "ATA (Random)": 44.86}))))
    assert lines[0] == {"row": "TA", "exit": "", "measured": "75.0", "unit": "%", "reported": "99.5"}
    shares = [line for line in lines if line["row"] == "Exit shares, clean"]
    assert [(line["exit"], float(line["measured"])) for line in shares] == [("branch_1", 50), ("main", 50)]
    assert lines[-1] == {"row": "ATA (Random)", "exit": "", "measured": "", "unit": "%", "reported": "44.86"}


def test_provenance_is_plain_and_says_what_is_installed():
    found = provenance(["/usr/local/bin/rdi-tf", "evaluate", "./runs/mnist"], 7)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["seed"], found["command"]) == (7, "rdi-tf evaluate mnist")
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert found["cores"] >= 1 and found["processor"]
    assert platform.node() not in json.dumps({**found, "versions": {}}) or len(platform.node()) < 3


@pytest.mark.parametrize(
    ("command", "stripped"),
    [
        ("/opt/env/bin/rdi-tf train --out=/home/someone/run/", "rdi-tf train --out=run"),
        (["rdi-tf", "--data", "~/images", "C:\\Users\\me\\run"], "rdi-tf --data images run"),
        (["rdi-tf", "--epsilon", "8/255", "--set=evaluation.epsilon=8/255"], None),
        (["rdi-tf", "--set", "training.learning_rate=0.1", "-v"], None),
        (["rdi-tf", "/a b/c d"], "rdi-tf 'c d'"),
        (["rdi-tf", "--set", "data.name=../images", "--name=~/a=b/c"], "rdi-tf --set data.name=images --name=c"),
        (["rdi-tf", "--set", 'data.name = "/home/me/images/"'], """rdi-tf --set 'data.name = "images/"'"""),
        (["rdi-tf", "--remote-command", "nice /home/pi/bin/rdi-tf"], "rdi-tf --remote-command 'nice rdi-tf'"),
        ("rdi-tf evaluate runs/mnist/ --set=data.name=runs/mnist", "rdi-tf evaluate mnist --set=data.name=mnist"),
        (
            "rdi-tf evaluate runs/mnist --attacks apgd-ce/average,square/main --set data.name=imagenette/160px-v2 "
            "--epsilons 8/255,16/255",
            "rdi-tf evaluate mnist --attacks apgd-ce/average,square/main --set data.name=imagenette/160px-v2 "
            "--epsilons 8/255,16/255",
        ),
    ],
)
def test_folders_are_stripped(command, stripped, tmp_path, monkeypatch):
    """Of the relative paths those that exist: runs/mnist."""
    (tmp_path / "runs" / "mnist").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert strip_folders(command) == (stripped or " ".join(command))


def test_records_of_the_repository_are_read(repository):
    """Those of earlier versions, too: `compare` and `report` read such files, and so may users."""
    read = 0
    for path in sorted((repository / "results").glob("*/*.json")):
        if path.name == "training.json":  # where a training was started, a list
            continue
        table = json.loads(path.read_text(encoding="utf-8"))
        for evaluation in [table] if "attacks" in table else table.get("policies", []):
            assert EvaluationResult.from_json(json.dumps(evaluation)).images == evaluation["images"]
            read += 1
    assert read >= 25
