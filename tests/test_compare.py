"""Comparisons of real runs: kinds and their marks, the page, files and times of what is exported."""

import dataclasses
import io
import itertools
import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image

from rdi_tf.cli import main as cli
from rdi_tf.compression.settings import METHODS
from rdi_tf.config import Config
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.run_results import RESULT_DIGEST, kept_evaluations, text_digest
from rdi_tf.latency import LatencyResult
from rdi_tf.reporting import cost_plots
from rdi_tf.reporting.compare import compare_runs
from rdi_tf.reporting.deployments import Conditions, Deployments, condition_letters
from rdi_tf.reporting.differences import Difference
from rdi_tf.reporting.kinds import Kind, reported_mark
from rdi_tf.runs import RunFolder

EVALUATION = "main+max_average-pgd-3-first-60"


def rdi_tf(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="rdi-tf")


@pytest.mark.parametrize(
    ("settings", "exits", "text"),
    [
        ([], 3, "RDI"),
        ([], 1, "one exit"),
        (["defence.name=standard"], 3, "3 exits, not defended"),
        (["compression.method=prune_channels", "compression.sparsity=0.5"], 1, "one exit, 50% of the channels out"),
        (["compression.method=prune", "compression.sparsity=0.5"], 3, "RDI, 50% of the weights zero"),
        (["compression.method=cluster", "compression.clusters=16"], 3, "RDI, 16 weights per layer"),
        (["compression.method=quantize_aware"], 3, "RDI, trained for int8"),
    ],
)
def test_kinds_in_words(settings, exits, text):
    assert Kind.of(Config.load("digits-smallcnn").with_settings(settings), exits).text == text


def test_kinds_are_told_apart_without_colour():
    kinds = [Kind(exits, True, method, 0.5) for exits, method in itertools.product((1, 3), METHODS)]
    marks = [kind.mark for kind in (*kinds, Kind(3, False, "none", 0))]
    marks += [reported_mark("RDI-ResNet38, max-average"), reported_mark("ATMC")]
    marks.append(reported_mark("ResNet-38, single exit, PGD-defended"))
    assert len({(mark.shape, mark.fill) for mark in marks}) == len(marks) == 14


@pytest.fixture(scope="module")
def evaluated(trained_run, tmp_path_factory):
    """Folder of a run that was evaluated under two attacks, exported and measured."""
    from rdi_tf.evaluation.run import evaluate
    from rdi_tf.export.benchmark import BenchmarkOptions, benchmark
    from rdi_tf.export.write import export_run

    folder = tmp_path_factory.mktemp("compare") / "run one"
    shutil.copytree(trained_run, folder)
    evaluate(folder, "main,max_average", limit=60, checks=False)
    export_run(folder, folder / "export" / "float32")
    options = BenchmarkOptions(rounds=1, warmup_rounds=1)
    benchmark(folder / "export" / "float32", options=options).save(folder / "latency.json")
    return folder


@pytest.fixture
def pruned(evaluated, tmp_path):
    """The same as if it had come of pruning."""
    folder = shutil.copytree(evaluated, tmp_path / "run two")
    settings = ["compression.method=prune", "compression.sparsity=0.5"]
    (folder / "config.toml").write_text(Config.load(folder / "config.toml").with_settings(settings).to_toml())
    found = {"sparsity": {"layers": [], "weights": 10, "zeros": 4, "share": 0.4, "skipped_by": []}}
    (folder / "compression.json").write_text(json.dumps(found))
    return folder


def test_compare_two_runs(evaluated, pruned, tmp_path):
    found = rdi_tf("compare", evaluated, pruned, "--output", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert [entry["name"] for entry in document["runs"]] == ["run one", "run two"]
    assert [entry["kind"]["text"] for entry in document["runs"]] == ["RDI", "RDI, 50% of the weights zero"]
    assert [entry["images"] for entry in document["runs"]] == [60, 60]
    assert [entry["zero_share"] for entry in document["runs"]] == [None, 0.4]
    kept = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    assert [{**entry, "deployments": None} for entry in kept] == [{**r, "deployments": None} for r in document["runs"]]
    names = ["cost-paper", "cost-executed", "cost-kilobytes", "cost-milliseconds-a"]
    assert [path.rpartition("/")[2] for path in document["pictures"]] == [f"{name}.png" for name in names]
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| run two | RDI, 50% of the weights zero |" in text and "| 40.0% | 60 |" in text
    assert "counted in every cost as any other: no runtime that is exported to skips them." in text
    twice = rdi_tf("compare", evaluated, evaluated, "--output", tmp_path / "out")
    assert twice.exit_code == 2 and "'run one' twice" in twice.stderr


def test_files_and_times_of_one_machine(evaluated, pruned, tmp_path):
    compare = rdi_tf("compare", evaluated, pruned, "--output", tmp_path)
    assert compare.exit_code == 0, compare.stderr
    (one, _) = json.loads((tmp_path / "compare.json").read_text())["runs"]
    (files,) = one["deployments"]
    sizes = [path.stat().st_size for path in (evaluated / "export" / "float32").glob("stage*")]
    assert len(sizes) == 3 and files["file_bytes"] == sum(sizes) > files["compressed_bytes"] > 0
    latency = LatencyResult.load(evaluated / "latency.json")
    assert [entry["mix_ms"] for entry in files["latencies"]] == [latency.mix.latency.typical]
    text = (tmp_path / "compare.md").read_text()
    cells = [f"{sum(sizes) / 1000:,.1f}", f"{files['compressed_bytes'] / 1000:,.1f}"]
    cells += [f"{latency.mix.latency.typical:.3f}", f"{latency.invoke_ms:.3f}"]
    assert f"| run one | float32 | yes | {' | '.join(cells)} |" in text
    assert "do not compare them" not in text


def elsewhere(run, name="latency-pi.json", **fields):
    """A run's benchmark as another machine's."""
    latency = LatencyResult.load(run / "latency.json")
    provenance = {**latency.provenance, "processor": "Cortex-A72", "date": "2030-01-01T00:00:00+00:00"}
    dataclasses.replace(latency, provenance=provenance, **fields).save(run / name)


def test_times_of_different_machines_are_not_mixed(evaluated, pruned, tmp_path):
    elsewhere(pruned)
    (pruned / "latency.json").unlink()
    found = rdi_tf("compare", evaluated, pruned, "--output", tmp_path, "--json")
    assert found.exit_code == 0, found.stderr
    names = [path.rpartition("/")[2] for path in json.loads(found.stdout)["pictures"]]
    assert names[3:] == ["cost-milliseconds-a.png", "cost-milliseconds-b.png"]
    text = (tmp_path / "compare.md").read_text()
    assert "B: Cortex-A72, " in text and "Times of different letters were measured under different conditions" in text
    rows = [line.split(" | ") for line in text.splitlines() if "| float32 | yes |" in line]
    assert [[cell.strip(" |") != "" for cell in row[5:]] for row in rows] == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    (alone,) = [line for line in text.splitlines() if "cost-milliseconds-b" in line]
    assert "run two" in alone and "run one" not in alone


def test_the_newest_time_of_a_machine_counts(evaluated, pruned, tmp_path):
    elsewhere(pruned)
    latency = LatencyResult.load(pruned / "latency-pi.json")
    mix = dataclasses.replace(latency.mix, latency=dataclasses.replace(latency.mix.latency, typical=77.0))
    elsewhere(pruned, "latency-again.json", mix=mix)
    file = pruned / "latency-pi.json"
    file.write_text(file.read_text().replace("2030-01-01", "2029-01-01"))
    assert rdi_tf("compare", pruned, "--output", tmp_path).exit_code == 0
    assert "77.000" in (tmp_path / "compare.md").read_text()


def test_times_of_other_files_are_named_and_not_shown(evaluated, pruned, tmp_path):
    latency = LatencyResult.load(pruned / "latency.json")
    dataclasses.replace(latency, bundle_sha256="0" * 64).save(pruned / "latency.json")
    assert rdi_tf("compare", evaluated, pruned, "--output", tmp_path).exit_code == 0
    text = (tmp_path / "compare.md").read_text()
    assert "run two: latency.json is of none of its bundles, so not shown." in text
    assert "run two: not benchmarked." in text
    shutil.rmtree(pruned / "export")
    assert rdi_tf("compare", evaluated, pruned, "--output", tmp_path).exit_code == 0
    assert "run two: not exported." in (tmp_path / "compare.md").read_text()


def test_times_under_other_thresholds_are_not_of_the_bundle(evaluated, pruned, tmp_path):
    """The stage files are the same, but images leave elsewhere."""
    manifest = pruned / "export" / "float32" / "manifest.json"
    table = json.loads(manifest.read_text())
    table["policy"]["thresholds"] = [0.0, 0.0]
    manifest.write_text(json.dumps(table))
    assert rdi_tf("compare", evaluated, pruned, "--output", tmp_path).exit_code == 0
    assert "run two: latency.json is of none of its bundles, so not shown." in (tmp_path / "compare.md").read_text()


def test_files_of_other_thresholds_were_not_attacked(evaluated, pruned, tmp_path):
    """As after export, benchmark, calibrate and evaluate: milliseconds of one rule, accuracies of another."""
    from rdi_tf.export.bundle import Bundle

    manifest = pruned / "export" / "float32" / "manifest.json"
    table = json.loads(manifest.read_text())
    table["policy"]["thresholds"] = [0.0, 0.0]
    manifest.write_text(json.dumps(table))
    latency = LatencyResult.load(pruned / "latency.json")
    digest = Bundle.open(pruned / "export" / "float32").sha256
    dataclasses.replace(latency, bundle_sha256=digest).save(pruned / "latency.json")
    found = rdi_tf("compare", pruned, "--output", tmp_path, "--json")
    assert found.exit_code == 0, found.stderr
    assert "| run two | float32 | under other thresholds |" in (tmp_path / "compare.md").read_text()
    names = [path.rpartition("/")[2] for path in json.loads(found.stdout)["pictures"]]
    assert names == ["cost-paper.png", "cost-executed.png"]


def test_bundles_of_one_dtype_are_told_apart(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / "run one")
    shutil.copytree(run / "export" / "float32", run / "export" / "a-copy")
    shutil.copytree(run / "export" / "float32", run / "export" / ".float32.0a1b2c3d")  # left by a killed export
    assert rdi_tf("compare", run, "--output", tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| a-copy (float32) | yes |" in text and "| float32 | yes |" in text and "0a1b2c3d" not in text
    (one,) = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    assert [(files["folder"], files["evaluated"]) for files in one["deployments"]] == [
        ("a-copy", False),
        ("float32", True),
    ]


def test_conditions_have_names_however_many():
    letters = condition_letters(800)
    assert letters[:2] + letters[25:28] + letters[701:703] == ["A", "B", "Z", "AA", "AB", "ZZ", "AAA"]
    assert len(set(map(str.lower, letters))) == 800


def test_times_on_other_images_or_another_runtime_are_not_mixed(evaluated):
    latency = LatencyResult.load(evaluated / "latency.json")
    images = dataclasses.replace(latency.images, sha256="0" * 64)
    newer = {**latency.provenance, "versions": {**latency.provenance["versions"], "ai-edge-litert": "99"}}
    others = (dataclasses.replace(latency, images=images), dataclasses.replace(latency, provenance=newer))
    assert len({Conditions.of(one) for one in (latency, *others)}) == 3
    elsewhere = dataclasses.replace(latency.images, source="another file")
    assert Conditions.of(dataclasses.replace(latency, images=elsewhere)) == Conditions.of(latency)
    python = {**latency.provenance, "versions": {**latency.provenance["versions"], "python": "3.9"}}
    assert Conditions.of(dataclasses.replace(latency, provenance=python)) != Conditions.of(latency)


def test_attacks_that_aim_at_something_else_are_not_the_same(evaluated, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    for file in (other / "evaluation").glob("*.json"):
        average = {"policy": "running_average", "attack_outputs": "exits"}
        file.write_text(json.dumps(json.loads(file.read_text()) | average))
    found = rdi_tf("compare", evaluated, other, "--output", tmp_path)
    caution = "The runs were not all evaluated in the same way: hold them against each other with care."
    assert caution in found.stdout and caution in (tmp_path / "compare.md").read_text()
    missed = "attacks on exits aim at their own logits, not at what the rule calls classes from"
    assert missed in (tmp_path / "compare.md").read_text()


def test_evaluations_under_other_thresholds_are_named(evaluated, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    thresholds = json.loads((other / "evaluation" / f"{EVALUATION}.json").read_text())["thresholds"]
    evaluation(other, EVALUATION, thresholds=[value / 2 for value in thresholds])
    found = rdi_tf("compare", evaluated, other, "--output", tmp_path)
    assert "other: evaluated under another exit rule or other thresholds than now; evaluate again." in found.stdout


def test_an_older_benchmark_is_named(pruned, tmp_path):
    table = json.loads((pruned / "latency.json").read_text())
    (pruned / "latency.json").write_text(json.dumps(table | {"format": 1}))
    found = rdi_tf("compare", pruned, "--output", tmp_path)
    assert found.exit_code == 2
    assert f"{pruned / 'latency.json'}: latency: expected a benchmark of format 2, got 1; measure again" in found.stderr


def test_a_bundle_of_another_network_is_refused(evaluated, tmp_path):
    def others(folder):
        from rdi_tf.export.deployed import deployments

        (one,) = deployments(folder).bundles
        return Deployments((dataclasses.replace(one, executed_macs=(1.0, 2.0, 3.0)),))

    with pytest.raises(ConfigError, match="its float32 bundle is of another network than its evaluation"):
        compare_runs([evaluated], tmp_path, deployments_of=others)


def evaluation(run, name, **fields):
    """Keep an evaluation of a run once more under another name, changed."""
    file = run / "evaluation" / f"{EVALUATION}.json"
    text = json.dumps({**json.loads(file.read_text()), **fields})
    with np.load(file.with_suffix(".npz")) as kept:
        arrays = {**kept, RESULT_DIGEST: np.array(text_digest(text))}
    np.savez(file.with_name(f"{name}.npz"), **arrays)
    file.with_name(f"{name}.json").write_text(text)


def test_evaluations_in_the_same_way_are_taken_where_all_have_one(evaluated, pruned, tmp_path):
    first = shutil.copytree(evaluated, tmp_path / "more")
    evaluation(first, "pgd-3-first-90", images=90)
    runs, _ = compare_runs([first, pruned], tmp_path / "out")
    assert [run.images for run in runs] == [60, 60]
    assert "with care" not in (tmp_path / "out" / "compare.md").read_text()
    evaluation(pruned, "pgd-3-first-90", images=90)
    assert [run.images for run in compare_runs([first, pruned], tmp_path / "out")[0]] == [90, 90]
    for suffix in ("json", "npz"):
        (first / "evaluation" / f"pgd-3-first-90.{suffix}").unlink()
        (pruned / "evaluation" / f"{EVALUATION}.{suffix}").unlink()
    assert [run.images for run in compare_runs([first, pruned], tmp_path / "out")[0]] == [60, 90]
    assert "The runs were not all evaluated in the same way" in (tmp_path / "out" / "compare.md").read_text()


def test_a_difference_by_hand():
    """Right for the one alone, for both, for neither, for both: 1, 0, 0, 0."""
    found = Difference.of([True, True, False, True], [False, True, False, True])
    assert found.mean == 0.25
    assert found.error == pytest.approx(math.sqrt((0.75**2 + 3 * 0.25**2) / 3) / 2)
    assert str(found) == "+25.00 ± 25.00"
    assert Difference.of([True, False], [True, False]) == Difference(0.0, 0.0)


def test_runs_are_held_against_the_first_image_by_image(evaluated, tmp_path):
    """The second run leaves at the first exit always: less work, and other images right."""
    other = shutil.copytree(evaluated, tmp_path / "other")
    kept = kept_evaluations(RunFolder.open(evaluated))[0]
    with np.load(kept.logits_file) as arrays:
        logits = {name: arrays[name] for name in ("clean", "main", "max_average")}
        labels = arrays["labels"]
    first = {name: values[:, 0].argmax(axis=-1) == labels for name, values in logits.items()}
    cost = kept.result.costs.executed_macs[0]
    clean = {**json.loads(kept.result.to_json())["clean"], "average_executed_macs": cost}
    evaluation(other, EVALUATION, policy="max_probability", thresholds=[2.0, 2.0], clean=clean)
    found = rdi_tf("compare", evaluated, other, "--output", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.stderr
    runs = json.loads(found.stdout)["runs"]
    assert runs[0]["differences"] is None
    held = runs[1]["differences"]
    assert held["other"] == "run one"
    assert held["clean_accuracy"]["mean"] == pytest.approx(first["clean"].mean() - kept.result.clean.accuracy)
    survives = np.all(list(first.values()), axis=0).mean()
    assert held["per_image_worst_case"]["mean"] == pytest.approx(survives - kept.result.per_image_worst_case)
    assert held["executed_saving"] == pytest.approx(1 - cost / kept.result.clean.average_executed_macs)
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "Differences from run one, image by image" in page and "with care" not in page
    assert "LESS run one" in rdi_tf("compare", evaluated, other, "--output", tmp_path / "out").stdout


@pytest.mark.parametrize("fields", [{"split": "validation"}, {"attack_outputs": "exits", "policy": "running_average"}])
def test_runs_that_met_something_else_are_not_held_against_the_first(evaluated, tmp_path, fields):
    other = shutil.copytree(evaluated, tmp_path / "other")
    evaluation(other, EVALUATION, **fields)
    runs, files = compare_runs([evaluated, other], tmp_path / "out")
    assert [run.differences for run in runs] == [None, None]
    assert "image by image" not in files.markdown.read_text()


def test_the_papers_rivals_stand_beside_as_reported(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / "run")
    evaluation(run, EVALUATION, dataset="cifar10")
    assert rdi_tf("compare", run, "--output", tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| ATMC | Table 5, reported | 83.81 | 43.02 |  | 56.82 |" in text
    assert rdi_tf("compare", run, "--no-reported", "--output", tmp_path / "out").exit_code == 0
    assert "| ATMC |" not in (tmp_path / "out" / "compare.md").read_text()


def test_compare_refuses_what_cannot_be_compared(evaluated, pruned, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    evaluation(other, EVALUATION, dataset="mnist")
    found = rdi_tf("compare", evaluated, other, "--output", tmp_path / "out")
    assert found.exit_code == 2 and "expected runs on one data set, got digits, mnist" in found.stderr
    unattacked = {"attacks": [], "worst_case": None, "worst_case_attack": None, "per_image_worst_case": None}
    evaluation(other, EVALUATION, **unattacked)
    found = rdi_tf("compare", other, "--output", tmp_path / "out")
    assert found.exit_code == 2 and "expected an evaluation under attacks" in found.stderr
    (pruned / "compression.json").write_text("{}")
    with pytest.raises(DataError, match="compression.json: cannot be read as what a compression found"):
        compare_runs([pruned], tmp_path / "out")


def test_numbers_of_points_at_the_same_place_lie_apart():
    figure = Figure(figsize=(4, 4))
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    cost_plots._label(axes, [(5, 5), (5, 5), (5, 5), (1, 1), (10, 10)], ["1", "2", "3", "4", "5"])
    offsets = [text.xyann for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4", "5"]
    assert offsets[3] == offsets[0]  # where there is room they stand in the same place
    assert max(offsets[4]) < 0  # inside the panel
    gaps = [math.dist(one, other) for one, other in itertools.combinations(offsets[:3], 2)]
    assert min(gaps) > 10


def test_the_same_points_give_the_same_picture():
    points = [
        cost_plots.CostPoint(number, "name", 5.0 * number, 90.0, 80.0, Kind(number, True, "none", 0).mark)
        for number in (1, 2)
    ]
    png = cost_plots.cost_figure(points, "cost")
    assert png == cost_plots.cost_figure(points, "cost")
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert picture.shape[1] > 1000 and picture.std() > 20
