"""Verification by golden vectors, `rdi-tf verify`, and `rdi-tf predict`, which refuses what does not hold."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from rdi_tf.cli import main as cli
from rdi_tf.config import DataConfig
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import DataError
from rdi_tf.export import Bundle, BundleError
from rdi_tf.export.benchmark import BenchmarkOptions, benchmark
from rdi_tf.export.bundle import describe_file
from rdi_tf.export.images import read_image
from rdi_tf.export.manifest import Preprocessing
from rdi_tf.export.runner import ModelRunner
from rdi_tf.export.verify import open_sound, verify


def rdi_tf(*arguments):
    return CliRunner().invoke(cli.main, arguments, prog_name="rdi-tf")


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A float32 bundle that may be changed."""
    return shutil.copytree(tiny_bundle(), tmp_path / "bundle")


def change_golden(folder, change):
    """Alter the golden vectors, and the manifest so that the checksums hold all the same."""
    golden = Bundle.open(folder).golden()
    arrays = {field.name: getattr(golden, field.name).copy() for field in dataclasses.fields(golden)}
    change(arrays)
    np.savez(folder / "golden.npz", **arrays)
    manifest = folder / "manifest.json"
    table = json.loads(manifest.read_text())
    table["golden"]["file"] = dataclasses.asdict(describe_file(folder / "golden.npz"))
    manifest.write_text(json.dumps(table))


@pytest.fixture
def picture(folder):
    """A golden image that leaves at the first exit, enlarged to 32x32, as a PNG; and its index."""
    golden = Bundle.open(folder).golden()
    index = int(np.flatnonzero(golden.exits == 0)[0])
    pixels = np.rint(golden.images[index, :, :, 0] * 255).astype(np.uint8)
    path = folder.parent / "digit.png"
    Image.fromarray(pixels).save(path)
    return path, index


SLOW = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("float16", "dynamic_int8")]


@pytest.mark.parametrize("dtype", ["float32", "int8", *SLOW])
def test_fresh_bundles_hold(tiny_bundle, dtype):
    found = verify(tiny_bundle(dtype=dtype))
    assert found.passed
    golden = found.checks[1].values
    assert (golden["wrong_exits"], golden["wrong_predictions"], golden["images"]) == (0, 0, 16)
    assert golden["largest_difference"] <= golden["tolerance"]


def test_other_logits_do_not_hold(folder):
    def change(arrays):
        arrays["exit_logits"][3, 2, 1] += 2e-4

    change_golden(folder, change)
    found = verify(folder)
    assert not found.passed
    assert 1e-4 < found.checks[1].values["largest_difference"] < 3e-4
    with pytest.raises(BundleError, match="does not hold on this machine: golden vectors"):
        open_sound(folder)


@pytest.mark.parametrize("name", ["exits", "predictions"])
def test_other_decisions_do_not_hold(folder, name):
    def change(arrays):
        arrays[name][:2] = (arrays[name][:2] + 1) % 3

    change_golden(folder, change)
    values = verify(folder).checks[1].values
    assert (values["wrong_exits"], values["wrong_predictions"]) == ((2, 0) if name == "exits" else (0, 2))
    assert not verify(folder).passed


def test_other_scores_do_not_hold(folder):
    def change(arrays):
        arrays["scores"][3, 1] += 1e-3

    change_golden(folder, change)
    found = verify(folder)
    assert (found.checks[1].values["wrong_scores"], found.passed) == (1, False)


def test_another_unsplit_network_does_not_hold(folder, tiny_bundle):
    """The network against which savings are measured; `benchmark` refuses it, too."""
    stranger = Bundle.open(tiny_bundle(dtype="int8"))
    shutil.copy(stranger.file(stranger.manifest.unsplit.file), folder / "unsplit.tflite")
    manifest = folder / "manifest.json"
    table = json.loads(manifest.read_text())
    table["unsplit"] = json.loads((stranger.path / "manifest.json").read_text())["unsplit"]
    manifest.write_text(json.dumps(table))
    (check,) = [check for check in verify(folder).checks if check.name == "unsplit network"]
    assert not check.passed
    with pytest.raises(BundleError, match="does not hold on this machine: unsplit network"):
        benchmark(folder, options=BenchmarkOptions(rounds=1, warmup_rounds=1))


def test_networks_that_give_no_numbers_do_not_hold(folder, monkeypatch):
    numbers = ModelRunner.numbers
    monkeypatch.setattr(ModelRunner, "numbers", lambda self, *output: numbers(self, *output) * np.float32(np.nan))
    images = len(Bundle.open(folder).golden().images)
    told = f"{images} images: {images * 30} of {images * 30} logits are not finite"
    found = rdi_tf("verify", str(folder), "--json")
    assert found.exit_code == 2
    checks = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    assert checks["files"]["passed"]
    for name in ("golden vectors", "unsplit network"):
        assert (checks[name]["passed"], checks[name]["detail"]) == (False, told)
    with pytest.raises(BundleError, match="does not hold on this machine: golden vectors: .* not finite"):
        open_sound(folder)


def test_verify_command(folder):
    result = rdi_tf("verify", str(folder))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{folder} (float32) holds"

    def change(arrays):
        arrays["exit_logits"] += 1

    change_golden(folder, change)
    result = rdi_tf("verify", str(folder), "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert not document["passed"]
    assert [check["passed"] for check in document["checks"]] == [True, False, False]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (("--attack", "nonsense", "--limit", "3"), "--limit '3'"),
        (("--attack", "average"), "--attack 'average'"),
        (("--attacked", "500"), "--attacked '500'"),
        (("--data-dir", "tfds"), "--data-dir 'tfds'"),
    ],
)
def test_verify_refuses_options_of_run_without_run(folder, options, value):
    result = rdi_tf("verify", str(folder), *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"rdi-tf: error: {value}: expected --run with it, got none\n"


def test_verify_takes_no_offence_at_the_environment(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert rdi_tf("verify", str(folder)).exit_code == 0


def test_predict_command(folder, picture):
    path, index = picture
    golden = Bundle.open(folder).golden()
    result = rdi_tf("predict", str(folder), str(path), str(path), "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["images"]
    assert first["label"] == second["label"] == str(golden.predictions[index])
    assert first["exit_name"] == "branch_1"
    assert 0 < first["confidence"] <= 1
    assert first["latency_ms"] >= sum(first["stage_latency_ms"]) > 0
    to_main = rdi_tf("predict", str(folder), str(path), "--thresholds", "-1,-1")
    assert to_main.stdout.split()[:5] == ["IMAGE", "CLASS", "EXIT", "CONFIDENCE", "MILLISECONDS"]
    assert "main" in to_main.stdout
    hurried = rdi_tf("predict", str(folder), str(path), "--thresholds", "-1,-1", "--deadline-ms", "1e-6")
    assert "branch_1 (deadline)" in hurried.stdout


def test_predict_inverts_dark_ink_on_light_paper(folder, picture, tmp_path):
    path, _ = picture
    ImageOps.invert(Image.open(path)).save(tmp_path / "paper.png")

    def found(*arguments):
        return json.loads(rdi_tf("predict", str(folder), *map(str, arguments), "--json").stdout)["images"][0]

    light_on_dark, dark_on_light = found(path), found(tmp_path / "paper.png", "--invert")
    assert dark_on_light["label"] == light_on_dark["label"]
    np.testing.assert_allclose(dark_on_light["exit_logits"], light_on_dark["exit_logits"], atol=1e-4)
    assert not np.allclose(found(tmp_path / "paper.png")["exit_logits"], light_on_dark["exit_logits"], atol=1e-2)


def test_predict_refuses_in_one_line(folder, picture, tmp_path):
    path, _ = picture
    (tmp_path / "text.png").write_text("no image")
    for arguments, message in (
        ([str(tmp_path / "nothing.png")], "nothing.png: cannot be read as an image: No such file"),
        ([str(tmp_path / "text.png")], "text.png: cannot be read as an image"),
        ([str(path), "--thresholds", "1,two"], "--thresholds '1,two': expected numbers separated by commas"),
        ([str(path), "--thresholds", "1"], "thresholds: expected 2 numbers"),
        ([str(path), "--thresholds", "1,5000"], "thresholds: expected -1 (nothing leaves) to 1000 (everything leaves)"),
        ([str(path), "--deadline-ms", "0"], "deadline_ms: expected a finite number above 0"),
    ):
        result = rdi_tf("predict", str(folder), *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr.splitlines()[-1]


def test_predict_refuses_bundles_that_do_not_hold(folder, picture):
    path, _ = picture

    def change(arrays):
        arrays["exit_logits"] += 1

    change_golden(folder, change)
    result = rdi_tf("predict", str(folder), str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "does not hold on this machine" in result.stderr
    (folder / "stage_1.tflite").write_bytes(b"")
    assert "not whole" in rdi_tf("verify", str(folder)).stderr


def test_bundles_run_without_tensorflow(folder, picture):
    """As a device would run it: a new process in which nothing of TensorFlow is loaded."""
    path, _ = picture
    code = f"""
import sys
from rdi_tf.cli import main as cli
for arguments in (["verify", {str(folder)!r}], ["predict", {str(folder)!r}, {str(path)!r}]):
    try:
        cli.main(arguments, prog_name="rdi-tf")
    except SystemExit as stop:
        assert stop.code == 0
loaded = [name for name in ("tensorflow", "tf_keras", "keras") if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "branch_1" in result.stdout


GREY, COLOUR = Preprocessing(2, 3, 1, 255.0, "bilinear"), Preprocessing(2, 3, 3, 255.0, "bilinear")


def test_pictures_get_the_networks_size_and_colours(tmp_path):
    """Pure red is 0.299 * 255 = 76 in grey."""
    path = tmp_path / "red.png"
    Image.new("RGBA", (12, 8), (255, 0, 0, 128)).save(path)
    colour = read_image(path, COLOUR)
    assert (colour.shape, colour.dtype) == ((2, 3, 3), np.float32)
    assert colour[0, 0].tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(read_image(path, GREY), np.full((2, 3, 1), 76 / 255), atol=1e-6)


def test_pictures_are_turned_upright(tmp_path):
    """Orientation 6: what is stored on the left is shown on top."""
    pixels = np.array([[0, 100], [0, 200], [0, 250]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png", GREY)[..., 0] * 255
    np.testing.assert_allclose(upright, [[0, 0, 0], [250, 200, 100]], atol=1e-4)


def _jpeg_lying_on_its_side(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((8, 12)).convert("RGB").save(path, "JPEG", exif=exif, quality=95)


def _sixteen_bits(path):
    Image.fromarray(np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)).save(path, "PNG")


def _transparent_palette(path):
    Image.linear_gradient("L").resize((8, 12)).convert("P").save(path, "PNG", transparency=0)


@pytest.mark.parametrize("write", [_jpeg_lying_on_its_side, _sixteen_bits, _transparent_palette])
@pytest.mark.parametrize("preprocessing", [Preprocessing(8, 12, 1, 255.0, "bilinear"), COLOUR])
def test_pictures_are_those_of_training(tmp_path, write, preprocessing):
    """What a folder of pictures gives to training and evaluation is what `predict` gives to the bundle."""
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "train" / name).mkdir(parents=True)
        write(tmp_path / "test" / name / "0.png")
        write(tmp_path / "train" / name / "0.png")
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    images, _ = as_arrays(load_dataset(DataConfig(name=str(tmp_path)), "test", shape))
    deployed = read_image(tmp_path / "test" / "a" / "0.png", preprocessing)
    np.testing.assert_allclose(images[0], deployed, atol=1.6 / 255)
    assert np.ptp(deployed) > 0.4  # neither black nor white all over


def test_pictures_of_unknown_range_are_refused(tmp_path):
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="expected 8 or 16 bits a channel"):
        read_image(tmp_path / "float.tif", GREY)


def test_huge_pictures_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "huge.png"
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(path, GREY)
