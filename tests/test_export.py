"""Conversion: stages that agree with Keras, folded batch norm, quantisation that fits together; `rdi-tf export`."""

import collections
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from rdi_tf.cli import main as cli
from rdi_tf.errors import CheckpointError, ConfigError, DataError
from rdi_tf.export import Bundle, BundleError, Cascade, Unsplit
from rdi_tf.export.convert import ExportOptions
from rdi_tf.export.manifest import Quantisation, Tensor
from rdi_tf.export.runner import load_interpreter
from rdi_tf.policies import decide, get_policy


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][1400:1600]


def rdi_tf(*arguments):
    return CliRunner().invoke(cli.main, arguments, prog_name="rdi-tf")


def operators(folder, name):
    """How often each operator is in a file, delegates left out."""
    operators = collections.Counter(entry["op_name"] for entry in load_interpreter(folder / name)._get_ops_details())
    del operators["DELEGATE"]
    return dict(operators)


def relative_difference(logits, expected):
    return np.sqrt(((logits - expected) ** 2).mean() / (expected**2).mean())


def test_float32_stages_agree_with_keras_and_decide_the_same(tiny_bundle, tiny_net, images):
    expected = tiny_net(images).numpy()
    cascade = Cascade(tiny_bundle())
    np.testing.assert_allclose(cascade.exit_logits(images), expected, atol=1e-4)
    decision = decide(get_policy("entropy"), expected, tiny_net.thresholds)
    np.testing.assert_array_equal(cascade.predict_batch(images).exits, decision.exits)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_batch_norm_is_folded(tiny_bundle, dtype):
    """Stage 1: two convolutions with batch norm and a shortcut's, one sum; a branch of two padded separable steps."""
    quantise = {"QUANTIZE": 1} if dtype == "int8" else {}
    assert operators(tiny_bundle(dtype=dtype), "stage_1.tflite") == {
        **quantise,
        "CONV_2D": 3 + 1,
        "ADD": 1,
        "PAD": 1,
        "DEPTHWISE_CONV_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }
    # strided: the trunk's first convolution is padded by hand, its shortcut is not; the map is 4x4, so the branch pools
    assert operators(tiny_bundle(dtype=dtype), "stage_2.tflite") == {
        "PAD": 1,
        "CONV_2D": 3,
        "ADD": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }


def test_signatures_name_the_tensors(tiny_bundle):
    signatures = load_interpreter(tiny_bundle() / "stage_2.tflite").get_signature_list()
    assert {key: {kind: sorted(names) for kind, names in one.items()} for key, one in signatures.items()} == {
        "serving_default": {"inputs": ["features"], "outputs": ["features", "logits"]}
    }
    unsplit = load_interpreter(tiny_bundle() / "unsplit.tflite").get_signature_list()["serving_default"]
    assert (list(unsplit["inputs"]), sorted(unsplit["outputs"])) == (["image"], ["branch_1", "branch_2", "main"])


def test_positions_are_those_of_the_file(tiny_bundle):
    bundle = Bundle.open(tiny_bundle())
    for stage in bundle.manifest.stages:
        details = load_interpreter(bundle.file(stage.file)).get_output_details()
        assert [details[tensor.position]["name"] for tensor in stage.outputs] == [t.tensor for t in stage.outputs]


def test_full_int8_hands_its_bytes_over(tiny_bundle, tiny_net, images):
    bundle = Bundle.open(tiny_bundle(dtype="int8"))
    stages = bundle.manifest.stages
    assert [stage.handover for stage in stages] == ["image", "direct", "direct"]
    assert [stage.input.dtype for stage in stages] == ["float32", "int8", "int8"]
    for before, after in zip(stages[:-1], stages[1:], strict=True):
        given = before.output("features")
        assert given.dtype == "int8"
        assert given.quantisation.zero_point == after.input.quantisation.zero_point
        np.testing.assert_allclose(given.quantisation.scale, after.input.quantisation.scale, rtol=1e-5)
    logits, expected = Cascade(bundle).exit_logits(images), tiny_net(images).numpy()
    assert 0 < relative_difference(logits, expected) < 0.1
    # the same arithmetic, but for scales that differ in their last digits, which turn a few roundings the other way
    assert np.abs(Unsplit(bundle).exit_logits(images) - logits).max() <= bundle.manifest.golden.tolerance


def test_int8_pixels_are_what_the_first_stage_makes_of_floats(tiny_bundle, images):
    floats, integers = (
        Cascade(tiny_bundle(dtype="int8")),
        Cascade(tiny_bundle(dtype="int8", int8_input=True, batch_size=4)),
    )
    tensor = integers.bundle.manifest.stages[0].input
    assert tensor.dtype == integers.bundle.manifest.unsplit.input.dtype == "int8"
    assert tensor.quantisation.zero_point == -128  # images are in [0, 1]
    np.testing.assert_allclose(tensor.quantisation.scale, 1 / 255, rtol=1e-6)
    # six images in files that take four at a time
    np.testing.assert_allclose(integers.exit_logits(images[:6]), floats.exit_logits(images[:6]), atol=1e-5)
    assert integers.predict(images[0]).prediction == floats.predict(images[0]).prediction


def test_int8_takes_pixels_that_calibration_has_not_seen(tiny_net, images, tmp_path):
    """An attack brightens images; calibrated on dark ones, the input would be cut off at the brightest of those."""
    dark = (images / 2, np.zeros(len(images), np.int32))
    from rdi_tf.export.write import export_network

    labels = [str(digit) for digit in range(10)]
    bundle = export_network(tiny_net, tmp_path / "b", ExportOptions("int8", int8_input=True), dark, labels)
    for tensor in (bundle.manifest.stages[0].input, bundle.manifest.unsplit.input):
        assert tensor.quantisation.zero_point == -128
        np.testing.assert_allclose(tensor.quantisation.scale, 1 / 255, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-3), ("dynamic_int8", 0.1)])
def test_weights_may_be_kept_smaller(tiny_bundle, tiny_net, images, dtype, tolerance):
    bundle = Bundle.open(tiny_bundle(dtype=dtype))
    assert {tensor.dtype for stage in bundle.manifest.stages for tensor in (stage.input, *stage.outputs)} == {"float32"}
    assert 0 < relative_difference(Cascade(bundle).exit_logits(images), tiny_net(images).numpy()) < tolerance


def test_free_batch_sizes(tiny_bundle, images):
    free, fixed = Cascade(tiny_bundle(batch_size=None)), Cascade(tiny_bundle())
    assert free.bundle.manifest.stages[1].input.shape == (-1, 8, 8, 8)
    for count in (3, 1, 100):
        np.testing.assert_allclose(free.exit_logits(images[:count]), fixed.exit_logits(images[:count]), atol=1e-5)
    batches = [cascade.predict_batch(images) for cascade in (free, fixed)]
    np.testing.assert_array_equal(batches[0].exits, batches[1].exits)
    assert batches[0].stage_images == batches[1].stage_images


def test_costs_and_preprocessing_are_in_the_manifest(tiny_bundle, tiny_net):
    from rdi_tf.calibration import exit_costs

    manifest = Bundle.open(tiny_bundle()).manifest
    assert manifest.costs == exit_costs(tiny_net)
    assert (manifest.preprocessing.divide_by, manifest.preprocessing.resize) == (255.0, "bilinear")


def test_hand_over_by_scale():
    from rdi_tf.export.convert import _handover

    def tensor(scale, zero_point=-128):
        return Tensor("features", "x:0", 0, (1, 4), "int8", Quantisation(scale, zero_point))

    assert _handover(tensor(0.1), tensor(0.1 * (1 + 5e-6))) == "direct"
    assert _handover(tensor(0.1), tensor(0.1 * (1 + 5e-5))) == "requantise"
    assert _handover(tensor(0.1), tensor(0.1, -127)) == "requantise"
    numbers = Tensor("features", "x:0", 0, (1, 4), "float32", None)
    assert _handover(numbers, numbers) == "direct"
    assert _handover(numbers, tensor(0.1)) == "requantise"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "int4"}, "dtype: expected one of float32, float16, dynamic_int8, int8, got 'int4'"),
        ({"int8_input": True}, "int8_input: expected dtype 'int8' with it, got 'float32'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"calibration_images": 0}, "calibration_images: expected at least 1"),
    ],
)
def test_unusable_options_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ExportOptions(**fields)


def test_what_cannot_be_exported_leaves_nothing_behind(tiny_net, digits, tmp_path):
    from rdi_tf.export.write import export_network
    from rdi_tf.network import RDINet

    names = [str(digit) for digit in range(10)]
    with pytest.raises(CheckpointError, match="no thresholds yet"):
        export_network(RDINet(tiny_net.network), tmp_path / "bundle", ExportOptions(), digits, names)
    nothing = tuple(array[:0] for array in digits)
    with pytest.raises(DataError, match="int8 is calibrated on images"):
        export_network(tiny_net, tmp_path / "bundle", ExportOptions(dtype="int8"), nothing, names)
    with pytest.raises(DataError, match="the data set has 9 classes, the network 10"):
        export_network(tiny_net, tmp_path / "bundle", ExportOptions(), digits, names[:9])
    assert list(tmp_path.iterdir()) == []


def test_export_command_then_verify_against_the_run(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    result = rdi_tf("export", str(run), "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    bundle = Bundle.open(document["bundle"])
    assert bundle.path == run / "export" / "float32"
    assert document["stage_bytes"] == bundle.manifest.stage_bytes
    assert bundle.manifest.name == "digits-smallcnn"
    assert bundle.manifest.provenance["command"] == "rdi-tf export run --json"
    again = rdi_tf("export", str(run))
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists already" in again.stderr

    arguments = ["verify", str(bundle.path), "--run", str(run), "--limit", "60"]
    found = rdi_tf(*arguments, "--attacked", "40", "--json")
    assert found.exit_code == 0, found.output
    checks = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    assert checks["logits against Keras"]["values"]["largest_difference"] <= 1e-4
    assert checks["exit decisions against Keras"]["values"]["same_exit"] == 1
    clean, robust = checks["clean accuracy"]["values"], checks["robust accuracy"]["values"]
    assert (clean["loss"], clean["allowed"]) == (0, 0)
    assert clean["accuracy"] == clean["keras_accuracy"] > robust["accuracy"] == robust["keras_accuracy"]
    assert (clean["images"], robust["images"]) == (60, 40)

    assert rdi_tf("calibrate", str(run), "--set", "policy.name=margin").exit_code == 0
    stale = rdi_tf(*arguments, "--attack", "none")
    assert stale.exit_code == 2
    assert "FAILS  exit rule and thresholds: bundle ('entropy'" in stale.stdout
    assert "does not hold" in stale.stdout


def test_export_command_refuses_in_one_line(trained_run, tmp_path):
    from rdi_tf.network import load

    run = shutil.copytree(trained_run, tmp_path / "run")
    net = load(run / "model.keras")
    net.thresholds = None
    net.save(run / "model.keras")
    for arguments, message in (
        ([str(run)], "has no thresholds yet; run `rdi-tf calibrate"),
        ([str(tmp_path)], "is not a run folder"),
        ([str(run), "--batch-size", "some"], "--batch-size 'some': expected a number or \"dynamic\""),
        ([str(run), "--int8-input"], "int8_input: expected dtype 'int8' with it"),
        ([str(run), "--calibration-images", "7"], "--calibration-images '7': expected --dtype int8 with it"),
    ):
        result = rdi_tf("export", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert message in line


def test_lost_accuracy_is_held_against_the_tolerance(tiny_bundle, tiny_net, digits):
    """Of 100 images two are lost that Keras calls right: 2%, and a standard error of sqrt(0.02 - 0.02^2) / 10."""
    from rdi_tf.export.compare import _check_accuracy, _Outputs

    cascade = Cascade(tiny_bundle(dtype="int8"))
    keras = tiny_net(digits[0][1400:1500]).numpy()
    calls = decide(cascade.policy, keras, cascade.thresholds)
    deployed = calls.predictions.copy()
    deployed[:2] = (deployed[:2] + 1) % 10
    outputs = _Outputs(keras, keras, calls.exits, deployed)
    whole = _check_accuracy("clean accuracy", cascade, outputs, calls.predictions, whole=True)
    assert (whole.passed, whole.values["allowed"]) == (False, 0.005)
    np.testing.assert_allclose(whole.values["loss"], 0.02)
    sample = _check_accuracy("robust accuracy", cascade, outputs, calls.predictions, whole=False)
    np.testing.assert_allclose(sample.values["allowed"], 0.005 + 2 * 0.014)
    assert sample.passed


def test_a_bundle_of_another_network_is_refused(tiny_bundle, trained_run):
    from rdi_tf.export.compare import verify_against_run

    with pytest.raises(BundleError, match="holds another network than the run"):
        verify_against_run(tiny_bundle(), trained_run)
