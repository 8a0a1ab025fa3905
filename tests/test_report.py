"""Reported figures, curves, pages and pictures; reports and comparisons of real runs."""

import dataclasses
import html.parser
import io
import json
import re
import shutil
import types

import numpy as np
import pytest
from click.testing import CliRunner

from rdi_tf.cli import main as cli
from rdi_tf.compression.settings import METHODS
from rdi_tf.config import Config
from rdi_tf.errors import CheckpointError, ConfigError, DataError
from rdi_tf.evaluation.reported import reported_beside, reported_points, reported_rows
from rdi_tf.evaluation.run_results import RESULT_DIGEST, text_digest
from rdi_tf.models.registry import default_exits
from rdi_tf.policies import get_policy
from rdi_tf.reporting.curves import RATIOS, budget_curve
from rdi_tf.reporting.learning import learning_blocks
from rdi_tf.reporting.pages import Heading, Notes, Paragraph, Picture, TableBlock, to_html, to_markdown

CIFAR = {"epsilon": 8 / 255, "step_size": 2 / 255, "steps": 20}
PNG = b"\x89PNG\r\n\x1a\n"


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="rdi-tf")


def attack(**fields):
    """As the paper's, on MNIST; on CIFAR-10 with `CIFAR`."""
    search = {"algorithm": "pgd", "epsilon": 0.3, "step_size": 0.01, "steps": 40, "restarts": 1, "norm": "linf"}
    return {**search, "loss": "cross_entropy", "random_start": True, **fields}


def test_reported_rows_of_the_same_experiment_only():
    mnist = Config.load("mnist-smallcnn")
    name, rows = reported_rows(mnist, attack())
    assert (name, rows["TA"], rows["ATA (Branch 1)"], rows["Average MFlops"]) == ("Table 2", 99.52, 98.52, 6.08)
    average = mnist.with_settings(["defence.name=average"])
    assert reported_rows(average, attack())[1]["ATA (Branch 1)"] == 98.69
    for other in (
        {"epsilon": 0.2},
        {"steps": 20},
        {"step_size": 0.001},
        {"algorithm": "fgsm"},
        {"norm": "l2"},
        {"restarts": 5},
        {"loss": "margin"},
        {"random_start": False},
    ):
        assert reported_rows(mnist, attack(**other)) == ("", {})
    assert reported_rows(mnist.with_settings(["model.input_shape=[32, 32, 1]"]), attack()) == ("", {})
    assert reported_rows(mnist.with_settings(["data.name=digits"]), attack()) == ("", {})
    # A ResNet's depth tells; FGSM has one step, however many its configuration says.
    cifar = Config.load("cifar10-resnet38")
    fgsm = attack(algorithm="fgsm", epsilon=8 / 255, steps=20)
    assert reported_rows(cifar, fgsm)[1]["ATA (Worst-Case)"] == 51.05
    assert reported_rows(cifar, attack(**CIFAR))[0] == "Table 3"
    assert reported_rows(cifar.with_settings(["model.depth=20"]), fgsm) == ("", {})
    # One exit is another network, of another table.
    single = Config.load("cifar10-resnet38-single")
    assert reported_rows(single.with_settings(["model.group_blocks=[4,4,10]"]), attack(**CIFAR)) == ("", {})
    assert reported_rows(single.with_settings(["model.group_blocks=[6,6,6]"]), attack(**CIFAR))[0] == "Table 1"
    rows = {"TA": 83.62, "ATA (Main Branch)": 42.29, "Average MFlops": 79.42}
    assert reported_rows(single, attack(**CIFAR)) == ("Table 1", rows)
    assert reported_rows(single, fgsm) == ("", {})
    assert reported_rows(single.with_settings(["defence.name=standard"]), attack(**CIFAR)) == ("", {})


@pytest.mark.parametrize(
    ("suite", "policy", "split", "table"),
    [
        ("all", "entropy", "test", "Table 2"),
        ("", "entropy", "test", "Table 2"),
        ("strong", "entropy", "test", ""),
        ("all", "running_average", "test", ""),
        ("all", "entropy", "validation", ""),
    ],
)
def test_reported_figures_stand_only_beside_rows_that_mean_the_same(suite, policy, split, table):
    result = outcome_of("main", suite=suite, policy=policy, split=split)
    name, rows = reported_beside(result, Config.load("mnist-smallcnn"))
    assert (name, bool(rows)) == (table, bool(table))
    assert "ATA (Worst-Case)" not in rows  # of one attack alone


def outcome_of(*attacks, **fields):
    """What `reported_beside` looks at of an evaluation of a network with two branches."""
    costs = types.SimpleNamespace(exit_names=("branch_1", "branch_2", "main"))
    outcomes = [types.SimpleNamespace(name=name) for name in attacks]
    described = {"suite": "", "policy": "entropy", "split": "test", "attack": attack(), **fields}
    return types.SimpleNamespace(attacks=outcomes, costs=costs, **described)


def test_the_worst_case_stands_only_beside_that_of_all_the_papers_attacks():
    every = ["branch_1", "branch_2", "main", "average", "max_average"]
    config = Config.load("mnist-smallcnn")
    assert reported_beside(outcome_of(*every, "random"), config)[1]["ATA (Worst-Case)"] == 96.43
    short = [every[:1], *(every[:left] + every[left + 1 :] for left in range(5))]
    for attacks in (*short, [*every[:-1], "pgd-10/max_average"]):
        name, rows = reported_beside(outcome_of(*attacks), config)
        assert name == "Table 2" and "ATA (Worst-Case)" not in rows and rows["ATA (Branch 1)"] == 98.52


@pytest.mark.parametrize(
    "settings",
    [
        ['model.exits=["conv3_relu"]'],
        ['model.exits=["conv1_relu", "conv2_relu"]'],
        ["model.width_multiplier=0.5"],
        *(
            [f"compression.method={method}", "compression.sparsity=0.5", "compression.clusters=8"]
            for method in METHODS
            if method != "none"
        ),
    ],
    ids=" ".join,
)
def test_other_branches_and_compressed_networks_are_not_the_papers(settings):
    assert reported_rows(Config.load("mnist-smallcnn").with_settings(settings), attack()) == ("", {})
    single = Config.load("mnist-smallcnn-single")
    assert reported_rows(single, attack())[0] == "Table 1"
    assert reported_rows(single.with_settings(settings), attack()) == ("", {})


@pytest.mark.parametrize("preset", ["mnist-smallcnn", "cifar10-resnet38", "cifar10-mobilenetv2"])
def test_the_papers_own_branches_may_be_written_out(preset):
    """That they are the backbone's own holds reported.toml, which is read without TensorFlow, to the models."""
    config = Config.load(preset)
    written = dataclasses.replace(config.model, exits=default_exits(config.model))
    search = dataclasses.asdict(config.evaluation)
    found = reported_rows(dataclasses.replace(config, model=written), search)
    assert found == reported_rows(config, search) and found[0]


def test_reported_figures_are_those_of_the_paper(shared):
    import tomllib
    from importlib import resources

    paper = json.loads((shared / "reference" / "paper_tables.json").read_text())
    held = tomllib.loads((resources.files("rdi_tf.evaluation") / "reported.toml").read_text())
    keys = {key.split("_")[0].removeprefix("table"): key for key in paper if key.startswith("table")}
    for table in held["table"]:
        assert table["rows"] == paper[keys[table["name"].removeprefix("Table ")]]
    (atmc,) = (point for point in reported_points("cifar10") if point.network == "ATMC")
    assert (atmc.clean_accuracy, atmc.robust_accuracy, atmc.paper_mflops) == tuple(
        paper["table5_sparse_comparison"]["ATMC"][key] for key in ("TA", "ATA", "MFlops")
    )
    assert {point.network.split(",")[0] for point in reported_points("mnist")} == {"SmallCNN", "RDI-SmallCNN"}


def test_budget_curve_from_all_early_to_all_late():
    """Four images, two exits. Scores at the first exit grow with the row; it calls rows 0 and 1 right, the last all."""
    margins = np.array([4.0, 3.0, 2.0, 1.0])
    first = np.stack([margins, np.zeros(4)], axis=1)
    last = np.tile([5.0, 0.0], (4, 1))
    first[2:] = first[2:, ::-1]
    logits = np.stack([first, last], axis=1)
    labels = np.zeros(4, int)
    curve = budget_curve(get_policy("entropy"), logits, logits, labels)
    assert len(curve.accuracy) == len(RATIOS) + 2
    np.testing.assert_array_equal(curve.exit_shares[[0, -1]], [[1, 0], [0, 1]])
    assert (curve.accuracy[0], curve.accuracy[-1]) == (0.5, 1)
    even = 1 + RATIOS.index(1.0)
    np.testing.assert_array_equal(curve.exit_shares[even], [0.5, 0.5])
    assert curve.accuracy[even] == 1
    np.testing.assert_allclose(curve.costs([10, 30])[[0, even, -1]], [10, 20, 30])
    assert (np.diff(curve.costs([10, 30])) >= 0).all()


def test_budget_curve_of_images_that_are_right_under_attacks_too():
    """Clean images are all right and sure; of four attacked ones the first exit calls one wrong, the last another."""
    clean = np.tile([[4.0, 0.0], [5.0, 0.0]], (4, 1, 1))
    attacked = clean.copy()
    attacked[0, 0], attacked[1, 1] = [0.0, 9.0], [0.0, 9.0]
    policy, labels = get_policy("entropy"), np.zeros(4, int)
    curve = budget_curve(policy, clean, clean, labels, [attacked, clean])
    np.testing.assert_array_equal(curve.exit_shares, budget_curve(policy, clean, clean, labels).exit_shares)
    assert (curve.accuracy[0], curve.accuracy[-1]) == (0.75, 0.75)
    assert budget_curve(policy, clean, clean, labels, [attacked, attacked[::-1]]).accuracy[0] == 0.5


BLOCKS = [
    Heading("Accuracy <clean>"),
    Paragraph("a_b & c|d"),
    Notes(("one", "two")),
    TableBlock("a title", ("", "x_1"), (("row", "<b>"),)),
    Picture("bars", PNG, 'a "quoted" alt', "caption"),
]


class Checker(html.parser.HTMLParser):
    """Fails on tags that do not close in order; collects tags and text."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_whole_and_takes_nothing_from_elsewhere():
    page = Checker(to_html("A & B", BLOCKS))
    assert {"Accuracy <clean>", "a_b & c|d", "<b>", "A & B"} <= set(page.texts)
    (image,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert image["src"] == "data:image/png;base64,iVBORw0KGgo=" and image["alt"] == 'a "quoted" alt'
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert any(attributes.get("name") == "viewport" for _, attributes in page.tags)
    assert "prefers-color-scheme: dark" in "".join(page.texts)
    assert not [value for _, attributes in page.tags for value in attributes.values() if "http" in (value or "")]


def test_markdown_shows_text_as_it_is():
    text = to_markdown("A_B", BLOCKS)
    assert text.startswith("# A\\_B\n")
    assert "a\\_b & c\\|d" in text and "- one\n- two" in text
    assert "|  | x\\_1 |\n| --- | ---: |\n| row | \\<b\\> |" in text
    assert '![a "quoted" alt](bars.png)' in text


@pytest.fixture(scope="module")
def evaluated(trained_run, tmp_path_factory):
    """Folder of a run that was evaluated under two attacks, with images kept."""
    from rdi_tf.evaluation.run import evaluate
    from rdi_tf.evaluation.sample_images import save_images

    folder = tmp_path_factory.mktemp("report") / "run one"
    shutil.copytree(trained_run, folder)
    evaluate(folder, "main,max_average", limit=60, checks=False, command="rdi-tf evaluate here")
    save_images(folder, 6)
    return folder


@pytest.fixture(scope="module")
def latency_file(evaluated, tmp_path_factory):
    """A benchmark of the run's bundle."""
    folder = tmp_path_factory.mktemp("latency")
    from rdi_tf.export.benchmark import BenchmarkOptions, benchmark
    from rdi_tf.export.write import export_run

    export_run(evaluated, folder / "bundle")
    benchmark(folder / "bundle", options=BenchmarkOptions(rounds=1, warmup_rounds=1)).save(folder / "latency.json")
    return folder / "latency.json"


def test_report_of_a_run(evaluated, latency_file, tmp_path):
    found = run("report", evaluated, "--benchmark", latency_file, "--output", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    text = (tmp_path / "out" / "report.html").read_text()
    page = Checker(text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(document["pictures"]) == 6
    assert all(attributes["alt"] for attributes in images)
    assert {"Exits taken", "Examples", "Training", "Latency"} <= set(page.texts)
    markdown = (tmp_path / "out" / "report.md").read_text()
    for name in re.findall(r"\]\(([\w-]+\.png)\)", markdown):
        assert (tmp_path / "out" / name).read_bytes().startswith(PNG)
    assert "ATA (Max-Average)" in markdown and "per MACs saved" in markdown
    assert re.search(r"Trained from iteration 0 with .*\btensorflow 2\.", markdown)
    assert "reported" not in markdown.partition("## Exits taken")[0]  # the paper has no digits


@pytest.mark.parametrize("defence", ["average", "standard"])
def test_the_learning_curve_marks_the_checkpoint_that_was_kept(tmp_path, defence):
    config = types.SimpleNamespace(defence=types.SimpleNamespace(name=defence))
    run_folder = types.SimpleNamespace(history_file=tmp_path / "history.csv", config=config)
    assert learning_blocks(run_folder) == []
    history = "iteration,loss,adversarial_main,clean_accuracy,robust_accuracy\n"
    run_folder.history_file.write_text(history + "10,2,0.1,0.5,0.25\n20,1,0.2,0.625,0.5\n30,1,0.3,0.75,0.5\n")
    heading, picture = learning_blocks(run_folder)
    assert heading == Heading("Training") and picture.png.startswith(PNG)
    assert "over 30 iterations" in picture.alt
    under_attack = "" if defence == "standard" else ", 50.0% clean and under every exit's attack"
    assert f"at iteration 20, which was kept: 62.5% clean{under_attack}." in picture.alt
    run_folder.history_file.write_text("iteration,loss\n10,2\n")
    with pytest.raises(DataError, match="history.csv: expected a training's history, got other columns"):
        learning_blocks(run_folder)


def test_report_tells_each_machine_that_a_run_was_trained_on():
    from rdi_tf.reporting.report import _training_notes

    start = {"processor": "Xeon", "platform": "Linux", "date": "2026", "versions": {"tensorflow": "2.21.0"}}
    starts = [{**start, "from_iteration": 0}, {**start, "from_iteration": 5}]
    starts.append({**start, "from_iteration": 9, "versions": {"tensorflow": "2.22.0"}})
    assert _training_notes(starts) == [
        "Trained from iteration 0 with Xeon, Linux, 2026; tensorflow 2.21.0.",
        "Trained from iteration 9 with Xeon, Linux, 2026; tensorflow 2.22.0.",
    ]
    assert _training_notes([]) == []


@pytest.mark.parametrize(
    "settings",
    [
        "clean_share=0",
        "trades=6",
        "outputs=running_average",
        "attack.epsilon=0.1",
        "attack.norm=l2",
        "attack.loss=margin",
    ],
)
def test_other_defences_are_not_the_papers(settings):
    preset = Config.load("mnist-smallcnn")
    assert reported_rows(preset.with_settings(["defence.attack.steps=5"]), attack())[0] == "Table 2"
    assert reported_rows(preset.with_settings([f"defence.{settings}"]), attack()) == ("", {})


def test_report_measures_a_bundle_on_the_images_kept(evaluated, latency_file, tmp_path):
    found = run("report", evaluated, "--bundle", latency_file.parent / "bundle", "--output", tmp_path)
    assert found.exit_code == 0, found.stderr
    assert "6 images (set 'clean' of images.npz)" in (tmp_path / "report.html").read_text().replace("&#x27;", "'")
    assert found.stdout.splitlines() == [str(tmp_path / "report.html"), str(tmp_path / "report.md")]


def test_report_takes_the_latencies_that_lie_in_the_run(evaluated, latency_file, tmp_path):
    from rdi_tf.latency import LatencyResult

    folder = shutil.copytree(evaluated, tmp_path / "run")
    shutil.copytree(latency_file.parent / "bundle", folder / "export" / "float32")
    latency = LatencyResult.load(latency_file)
    latency.save(folder / "latency.json")
    older = {**latency.provenance, "processor": "Cortex-A72", "date": "2020-01-01T00:00:00+00:00"}
    dataclasses.replace(latency, provenance=older).save(folder / "latency-pi.json")
    found = run("report", folder)
    assert found.exit_code == 0, found.stderr
    text = (folder / "report" / "report.md").read_text()
    assert "(budget-milliseconds.png)" in text and "(latency.png)" in text and "(latency-2.png)" in text
    assert text.index("Cortex-A72") < text.index("(latency-2.png)")  # the newest last
    assert "calibrated by equal share" in text and "export again" not in text
    (kept,) = (folder / "evaluation").glob("*.json")
    moved = json.dumps({**json.loads(kept.read_text()), "thresholds": [0.5, 0.5]})
    with np.load(kept.with_suffix(".npz")) as arrays:
        logits = {**arrays, RESULT_DIGEST: np.array(text_digest(moved))}
    np.savez(kept.with_suffix(".npz"), **logits)
    kept.write_text(moved)
    assert run("report", folder, "--benchmark", folder / "latency.json").exit_code == 0
    text = (folder / "report" / "report.md").read_text()
    assert "export/float32 has another exit rule or other thresholds than what was evaluated" in text
    assert "calibrated by" not in text
    shutil.rmtree(folder / "export")
    left_out = run("report", folder, "--json")
    assert json.loads(left_out.stdout)["left_out"] == ["latency-pi.json", "latency.json"]
    assert "Not measured" in (folder / "report" / "report.md").read_text()
    assert "latency.json is of no bundle in" in run("report", folder).stdout


def test_report_without_latency_and_images_says_so(evaluated, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(evaluated, folder)
    (folder / "evaluation" / "images.npz").unlink()
    assert run("report", folder).exit_code == 0
    text = (folder / "report" / "report.html").read_text()
    assert "--save-images 100" in text and "Not measured" in text
    assert text.count("<img") == 3


def test_names_with_dollar_signs_are_no_formulas():
    from rdi_tf.reporting import plots

    sample = plots.Sample(np.zeros((4, 4, 1)), "main", "$a_b_c$", False)
    assert plots.examples_figure({"clean": [sample]}, ["$a_b_c$"]).startswith(b"\x89PNG")


def test_report_refuses(trained_run, evaluated, latency_file, tmp_path):
    from rdi_tf.latency import LatencyResult
    from rdi_tf.reporting.report import write_report

    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    with pytest.raises(CheckpointError, match="holds no evaluation yet"):
        write_report(folder)
    latency = LatencyResult.load(latency_file)
    dearer = tuple(dataclasses.replace(one, executed_macs=2 * one.executed_macs) for one in latency.exits)
    with pytest.raises(ConfigError, match="expected one of the evaluated network"):
        write_report(evaluated, tmp_path / "out", [dataclasses.replace(latency, exits=dearer)])
    one = dataclasses.replace(
        latency, stages=latency.stages[:1], exits=(dataclasses.replace(latency.exits[0], share=1.0),)
    )
    with pytest.raises(ConfigError, match="exits branch_1, branch_2, main"):
        write_report(evaluated, tmp_path / "out", [one])
    both = run("report", evaluated, "--bundle", "x", "--benchmark", latency_file)
    assert both.exit_code == 2 and "expected one of them, got both" in both.stderr
    (folder / "evaluation" / "pgd-3.json").write_text("{}")
    (folder / "evaluation" / "pgd-3.npz").write_bytes(b"")
    with pytest.raises(DataError, match="expected an evaluation"):
        write_report(folder)


def test_pictures_do_not_lean_on_colour_alone(evaluated):
    """In grey the exits' fills stay apart, and every exit rule has a line style and a marker of its own."""
    from rdi_tf.policies import POLICIES
    from rdi_tf.reporting import plots

    for count in (2, 3, 7):
        styles = plots.exit_styles(count)
        grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in (style["color"] for style in styles)]
        assert (np.diff(grey) < -0.08).all()
        assert all(a["hatch"] != b["hatch"] for a, b in zip(styles, styles[1:], strict=False))
    for kinds in (plots.COLOURS, plots.MARKERS, plots.LINES):
        assert len(set(kinds)) >= len(POLICIES)


def test_the_same_result_gives_the_same_picture(evaluated):
    from PIL import Image

    from rdi_tf.evaluation.run_results import kept_evaluations
    from rdi_tf.reporting import plots
    from rdi_tf.runs import RunFolder

    result = kept_evaluations(RunFolder.open(evaluated))[0].result
    png = plots.exits_figure(result)
    assert png == plots.exits_figure(result)
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert picture.shape[1] > 600 and picture.std() > 20
