"""The script that draws Figure 6: its steps, and which of them are skipped."""

import importlib.util
import shutil

import pytest


@pytest.fixture
def figure6(repository):
    spec = importlib.util.spec_from_file_location("figure6", repository / "benchmarks" / "figure6.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(figure6, folder, *more):
    few = ("--single-compressions", "channels50", "--rdi-compressions", "qat")
    return figure6.parsed(["--runs", str(folder), "--limit", "60", "--attacks", "paper", *few, *more])


def test_steps_from_scratch(figure6, tmp_path):
    found = list(figure6.steps(options(figure6, tmp_path)))
    assert not any(step.done for step in found)
    commands = [step.arguments[0] for step in found]
    assert commands == [
        *["train", "compress"] * 2,
        *["evaluate"] * 4,
        *["export"] * 4,
        *["benchmark"] * 4,
        "compare",
    ]
    single, rdi = tmp_path / "mnist-smallcnn-single-fast", tmp_path / "mnist-smallcnn-fast"
    runs = [str(rdi), f"{rdi}-qat", str(single), f"{single}-channels50"]
    assert list(found[-1].arguments[1:5]) == runs
    assert found[3].arguments[:6] == (
        *("compress", str(single), "--prune-channels", "0.5"),
        *("--set", "training.learning_rate=0.03"),
    )
    # The same attacks on the same images for all, the same images measured, in the arithmetic that was attacked.
    assert {step.arguments[2:6] for step in found[4:8]} == {("--attacks", "paper", "--limit", "60")}
    assert ["--save-images" in step.arguments for step in found[4:8]] == [True, False, False, False]
    assert [step.arguments[3] for step in found[8:12]] == ["float32", "int8", "float32", "float32"]
    assert len({step.arguments[2:8] for step in found[12:16]}) == 1
    outputs = [step.arguments[-1] for step in found[12:14]]
    assert outputs == [f"{rdi}/latency-float32.json", f"{rdi}-qat/latency-int8.json"]
    without = figure6.steps(options(figure6, tmp_path, "--no-benchmark"))
    assert "benchmark" not in [step.arguments[0] for step in without]


def test_what_is_there_is_skipped(figure6, trained_run, tmp_path):
    from rdi_tf.evaluation.run import evaluate

    single = shutil.copytree(trained_run, tmp_path / "mnist-smallcnn-single-fast")
    evaluate(single, limit=60, checks=False)
    (single / "export" / "float32").mkdir(parents=True)
    (single / "export" / "float32" / "manifest.json").touch()
    (tmp_path / "mnist-smallcnn-fast-qat").mkdir()
    (tmp_path / "mnist-smallcnn-fast-qat" / "compression.json").touch()
    found = [step.arguments[:2] for step in figure6.steps(options(figure6, tmp_path)) if step.done]
    rdi = str(tmp_path / "mnist-smallcnn-fast")
    assert found == [
        ("train", "mnist-smallcnn-fast"),
        ("compress", rdi),
        ("train", "mnist-smallcnn-single-fast"),
        ("evaluate", str(single)),
        ("export", str(single)),
    ]
    other = [step.arguments[:2] for step in figure6.steps(options(figure6, tmp_path, "--limit", "50")) if step.done]
    assert ("evaluate", str(single)) not in other
