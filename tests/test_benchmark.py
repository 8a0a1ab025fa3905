"""The benchmark: every figure on a clock that only computation moves, so that each is known; the command for real."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from rdi_tf.calibration_source import image_digest
from rdi_tf.cli import main as cli
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.export import Bundle
from rdi_tf.export.benchmark import GOLDEN, BenchmarkOptions, benchmark
from rdi_tf.export.benchmark_images import load_images
from rdi_tf.export.runner import ModelRunner
from rdi_tf.latency import LatencyResult
from rdi_tf.reporting.latency_tables import headline, notes, tables

STAGE_MS = (1.0, 2.0, 4.0)
UNSPLIT_MS = 8.0


class Clock:
    """Seconds that stand still but for what files take to compute."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(tiny_bundle, monkeypatch):
    clock = Clock()
    manifest = Bundle.open(tiny_bundle()).manifest
    took = {stage.file.name: ms for stage, ms in zip(manifest.stages, STAGE_MS, strict=True)}
    took[manifest.unsplit.file.name] = UNSPLIT_MS
    invoke = ModelRunner.invoke

    def timed(self):
        clock.now += took[self.piece.file.name] / 1000
        invoke(self)

    monkeypatch.setattr(ModelRunner, "invoke", timed)
    return clock


@pytest.fixture
def golden(tiny_bundle):
    return Bundle.open(tiny_bundle()).golden()


@pytest.fixture
def result(tiny_bundle, clock):
    return benchmark(tiny_bundle(), options=BenchmarkOptions(rounds=3, warmup_rounds=2), clock=clock)


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="rdi-tf")


def test_every_figure_on_a_known_clock(result, golden, tiny_bundle):
    count = len(golden.images)
    manifest = Bundle.open(tiny_bundle()).manifest
    assert (result.rounds, result.images.count, result.images.source) == (3, count, GOLDEN)
    for stage, ms, piece in zip(result.stages, STAGE_MS, manifest.stages, strict=True):
        assert stage.invoke.typical == pytest.approx(ms)
        assert (stage.feed.max, stage.fetch.max, stage.file_bytes) == (0, 0, piece.file.bytes)
        assert stage.invoke.count == 3 * count
    # Everyone who leaves at the second exit has run the first two stages, and so on.
    for exit, ms, macs in zip(result.exits, (1, 3, 7), manifest.costs.executed_macs, strict=True):
        assert exit.latency.min == pytest.approx(ms) and exit.latency.max == pytest.approx(ms)
        assert exit.executed_macs == macs
    shares = np.bincount(golden.exits, minlength=3) / count
    assert [exit.share for exit in result.exits] == pytest.approx(shares.tolist())
    assert result.mix.latency.mean == pytest.approx(shares @ [1, 3, 7])
    assert result.unsplit.latency.typical == result.unsplit_invoke.typical == pytest.approx(8)
    assert result.mix.first_ms == pytest.approx(7) and result.unsplit.first_ms == pytest.approx(8)
    assert result.mix.warmup.count == 2 * count
    assert result.images.accuracy == pytest.approx((golden.predictions == golden.labels).mean())


def test_steps_are_told_apart(tiny_bundle, clock, monkeypatch):
    """Handing over takes 0.5 ms, computing what stages take, and taking out 0.25 ms."""
    for step, ms in ((ModelRunner.feed, 0.5), (ModelRunner.fetch, 0.25)):

        def timed(self, *arguments, step=step, ms=ms):
            clock.now += ms / 1000
            return step(self, *arguments)

        monkeypatch.setattr(ModelRunner, step.__name__, timed)
    found = benchmark(tiny_bundle(), options=BenchmarkOptions(rounds=2, warmup_rounds=1), clock=clock)
    for stage, ms in zip(found.stages, STAGE_MS, strict=True):
        assert (stage.feed.typical, stage.invoke.typical, stage.fetch.typical) == pytest.approx((0.5, ms, 0.25))
    assert [exit.latency.typical for exit in found.exits] == pytest.approx([1.75, 4.5, 9.25])
    assert found.unsplit.latency.typical == pytest.approx(8.75)
    assert found.unsplit_invoke.typical == pytest.approx(8)


def test_summary_by_hand(result):
    """Shares 1/2, 1/4, 1/4 of exits at 1, 3, 7 ms and 10, 30, 80 MACs; the unsplit network: 8 ms; backbone: 60 MACs."""
    exits = tuple(
        dataclasses.replace(exit, share=share, executed_macs=macs)
        for exit, share, macs in zip(result.exits, (0.5, 0.25, 0.25), (10.0, 30.0, 80.0), strict=True)
    )
    three_ms = dataclasses.replace(result.mix.latency, typical=3.2)
    found = dataclasses.replace(
        result, exits=exits, mix=dataclasses.replace(result.mix, latency=three_ms), backbone_executed_macs=60.0
    ).summary()
    assert found["predicted_mix_ms"] == pytest.approx(0.5 * 1 + 0.25 * 3 + 0.25 * 7)
    assert found["prediction_error"] == pytest.approx(3 / 3.2 - 1)
    assert found["executed_macs"] == pytest.approx(0.5 * 10 + 0.25 * 30 + 0.25 * 80)
    assert found["macs_saving"] == pytest.approx(1 - 32.5 / 80)
    assert found["macs_saving_against_backbone"] == pytest.approx(1 - 32.5 / 60)
    assert found["latency_saving"] == pytest.approx(1 - 3.2 / 8)
    assert found["latency_saving_over_macs_saving"] == pytest.approx(0.6 / (1 - 32.5 / 80))
    assert found["mix_invoke_ms"] == pytest.approx(3)
    assert found["invoke_saving"] == pytest.approx(5 / 8)
    assert (found["mix_handover_ms"], found["mix_rest_ms"]) == (0, pytest.approx(0.2))
    nothing_saved = tuple(dataclasses.replace(exit, share=float(exit.name == "main")) for exit in exits)
    assert dataclasses.replace(result, exits=nothing_saved).summary()["latency_saving_over_macs_saving"] is None


def test_handover_is_out_of_one_stage_and_into_the_next(result):
    def stage(index, feed, fetch):
        old = result.stages[index]
        times = {"feed": feed, "fetch": fetch}
        new = {name: dataclasses.replace(getattr(old, name), typical=ms) for name, ms in times.items()}
        return dataclasses.replace(old, **new)

    stages = (stage(0, 0.1, 0.2), stage(1, 0.4, 0.8), stage(2, 1.6, 3.2))
    changed = dataclasses.replace(result, stages=stages)
    assert changed.handover_ms == pytest.approx((0.2 + 0.4, 0.8 + 1.6))
    shares = [exit.share for exit in result.exits]
    assert changed.steps_ms == pytest.approx(np.dot(shares, (0.3, 0.3 + 1.2, 0.3 + 1.2 + 4.8)))


def test_names_of_benchmark_model(result):
    found = result.benchmark_model()["unsplit"]
    assert found["latency_metrics"]["init_ms"] == result.unsplit.load_ms
    assert found["latency_metrics"]["avg_ms"] == pytest.approx(8)
    assert found["latency_metrics"]["average_warm_up_ms"] == pytest.approx(8)
    assert found["misc_metrics"]["model_size_mb"] == result.unsplit.file_bytes / 1e6
    assert found["misc_metrics"]["num_runs"] == 3 * result.images.count


def test_no_further_round_after_the_time_allowed(tiny_bundle, clock, golden):
    one_round = 0.001 * len(golden.images) * (7 + 8 + 8 + 1 + 3 + 7)  # pieces, unsplit twice, three exits; the mix adds
    options = BenchmarkOptions(rounds=50, warmup_rounds=1, max_seconds=1.5 * one_round)
    assert benchmark(tiny_bundle(), options=options, clock=clock).rounds == 2


def test_own_images_without_labels(tiny_bundle, clock, golden, digits):
    images = digits[0][1500:1507]
    options = BenchmarkOptions(rounds=1, warmup_rounds=1)
    found = benchmark(tiny_bundle(), images, options=options, source="mine", clock=clock)
    assert found.images == type(found.images)("mine", 7, image_digest(images), None)
    assert "called right" not in headline(found)
    with pytest.raises(DataError, match="labels: expected 7, one for each image, got 6"):
        benchmark(tiny_bundle(), images, np.zeros(6, np.int32), options)


def test_bundles_of_more_images_and_options_are_refused(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["batch_size"] = 4
    for piece in (*manifest["stages"], manifest["unsplit"]):
        for tensor in (piece["input"], *piece["outputs"]):
            tensor["shape"][0] = 4
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="takes 4 images at a time"):
        benchmark(folder)
    with pytest.raises(ConfigError, match="rounds: expected at least 1, got 0"):
        BenchmarkOptions(rounds=0)
    with pytest.raises(ConfigError, match="max_seconds"):
        BenchmarkOptions(max_seconds=0)
    with pytest.raises(ConfigError, match="threads: expected at most 256, got 257"):
        BenchmarkOptions(threads=257)


def test_json_there_and_back(result, tmp_path):
    result.save(tmp_path / "latency.json")
    assert LatencyResult.load(tmp_path / "latency.json") == result
    table = json.loads((tmp_path / "latency.json").read_text())
    assert table["summary"] == result.summary()
    # A device need not work out what follows from the rest.
    del table["summary"], table["benchmark_model"]
    assert LatencyResult.from_json(json.dumps(table)) == result


@pytest.mark.parametrize("path", [("unsplit", "latency", "typical"), ("backbone_executed_macs",)])
def test_nothing_takes_no_time(result, path):
    table = inside = json.loads(json.dumps(result.to_dict()))
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = 0
    with pytest.raises(DataError, match="expected typical times and multiply-adds above 0"):
        LatencyResult.from_json(json.dumps(table))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a benchmark of format 2"),
        ("{", "text that is not"),
        (f'{{"format": {"1" * 5000}}}', "latency: expected JSON, got text that is not: .*digits"),
        ("[" * 100_000, "latency: expected JSON, got text that is not: .*recursion"),
        ('{"format": NaN}', "expected finite numbers, got NaN"),
        ('{"format": 2, "open_ms": 1e999}', "expected finite numbers, got 1e999"),
        ('{"format": 1}', "expected a benchmark of format 2, got 1"),
        ('{"format": 2, "name": "x"}', "latency: missing key dtype"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        LatencyResult.from_json(text)


def test_shares_must_add_up(result):
    exits = tuple(dataclasses.replace(exit, share=0.5) for exit in result.exits)
    with pytest.raises(DataError, match="sum of 1"):
        dataclasses.replace(result, exits=exits)


def test_tables_and_notes_show_the_figures(result):
    savings, exits, stages, start = tables(result)
    assert {len(row) for table in (savings, exits, stages, start) for row in table.rows} == {5, 9, 10, 3}
    found = result.summary()
    assert (
        savings.rows[0][3] == f"{found['macs_saving']:.1%}" and savings.rows[1][3] == f"{found['latency_saving']:.1%}"
    )
    assert exits.rows[1][-1] == "3.0000" and exits.rows[-1][-1] == "8.0000"
    assert stages.rows[2][3] == "4.0000"
    untold = dataclasses.replace(result, peak_mem_mb=None, load_average=None)
    assert "not told by this system" in notes(untold)[4]


def test_memory_is_told_on_linux():
    if sys.platform != "linux":
        pytest.skip("only Linux tells the memory held now")
    from rdi_tf.export.benchmark_memory import peak_mb, resident_kb

    before = resident_kb()
    block = np.ones(4_000_000)  # 31,250 kB
    assert 25_000 < resident_kb() - before < 60_000
    assert peak_mb() >= resident_kb() / 1024 > 10
    del block


@pytest.fixture
def images_file(tmp_path, digits):
    path = tmp_path / "images.npz"
    images, labels = digits[0][1500:1510], digits[1][1500:1510]
    np.savez(path, clean=images, max_average=1 - images, labels=labels, class_names=np.array(["a", "b"]))
    return path


def test_images_of_an_evaluation(images_file, digits):
    images, labels, source = load_images(images_file, limit=4)
    np.testing.assert_array_equal(images, digits[0][1500:1504])
    np.testing.assert_array_equal(labels, digits[1][1500:1504])
    assert source == "set 'clean' of images.npz"
    adversarial, labels, source = load_images(images_file, "adversarial")
    np.testing.assert_array_equal(adversarial, 1 - digits[0][1500:1510])
    assert source == "set 'max_average' of images.npz"
    np.savez(images_file.parent / "scalar.npz", clean=images, labels=3)
    with pytest.raises(DataError, match=r"labels: expected shape \(n,\), got \(\)"):
        load_images(images_file.parent / "scalar.npz")
    with pytest.raises(DataError, match="'slowdown', got clean, max_average"):
        load_images(images_file, "slowdown")
    (images_file.parent / "text.npz").write_text("text")
    for name in ("text.npz", "none.npz"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            load_images(images_file.parent / name)


def test_command(tiny_bundle, images_file, tmp_path):
    arguments = ["benchmark", tiny_bundle(), "--rounds", 1, "--warmup-rounds", 1, "--limit", 5]
    found = run(*arguments, "--images", images_file, "--output", tmp_path / "out.json", "--json")
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["images"]["count"] == 5 and document["images"]["source"] == "set 'clean' of images.npz"
    assert document == json.loads((tmp_path / "out.json").read_text())
    assert LatencyResult.load(tmp_path / "out.json").name == "tiny"
    assert document["stages"][0]["invoke"]["typical"] > 0
    text = run(*arguments).stdout
    assert "What leaving early saves" in text and "5 images" in text and "golden inputs" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ssh", "host", "--adb"), "expected one of them"),
        (("--set", "clean"), "expected --images with it"),
        (("--max-seconds", "0"), "max_seconds: expected a number above 0"),
        (("--images", "none.npz"), "none.npz: cannot be read"),
        (("--output", "nodir/x.json"), "--output 'nodir/x.json': expected a file in a folder that exists, nodir does"),
        (("--output", "."), "--output '.': expected a file, got a folder"),
    ],
)
def test_command_refuses(tiny_bundle, arguments, message, monkeypatch):
    monkeypatch.setattr("rdi_tf.export.benchmark.benchmark", None)  # nothing is measured before
    found = run("benchmark", tiny_bundle(), *arguments)
    assert found.exit_code == 2 and message in found.stderr and len(found.stderr.splitlines()) == 1


def test_a_device_needs_no_tensorflow(tiny_bundle):
    code = (
        "import sys; from rdi_tf.export.benchmark import *; "
        "benchmark(sys.argv[1], options=BenchmarkOptions(1, 1, 1)); "
        "sys.exit([name for name in ('tensorflow', 'tf_keras', 'matplotlib') if name in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle())], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
