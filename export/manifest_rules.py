"""What a manifest must keep to so that its bundle can be run; called when one is made, whether read or written."""

import math
import re
import unicodedata

from rdi_tf.errors import ConfigError
from rdi_tf.policies import check_exit_thresholds

MANIFEST = "manifest.json"
DTYPES = ("float32", "float16", "dynamic_int8", "int8")
TENSOR_DTYPES = ("float32", "int8")
IMAGE, DIRECT, REQUANTISE = "image", "direct", "requantise"
HANDOVERS = (IMAGE, DIRECT, REQUANTISE)
# Control characters, halves of surrogate pairs, separators of lines and paragraphs.
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_manifest(manifest):
    """Refuse what cannot be run.

    Args:
      manifest: a `rdi_tf.export.manifest.Manifest`.

    Raises:
      ConfigError: an entry, what was expected of it and what came.
    """
    exits = len(manifest.exit_names)
    if exits < 1 or len(manifest.stages) != exits:
        _fail(f"stages: expected one for each of the {exits} exits, got {len(manifest.stages)}")
    if manifest.exit_names != (*(f"branch_{k + 1}" for k in range(exits - 1)), "main"):
        _fail(f"exit_names: expected branch_1, …, main, got {manifest.exit_names}")
    if manifest.dtype not in DTYPES:
        _fail(f"dtype: expected one of {', '.join(DTYPES)}, got {manifest.dtype!r}")
    if manifest.batch_size is not None and manifest.batch_size < 1:
        _fail(f"batch_size: expected at least 1, or null for any, got {manifest.batch_size}")
    check_text(manifest.name, *manifest.labels)
    if manifest.costs.exit_names != manifest.exit_names:
        _fail(f"costs.exit_names: expected {manifest.exit_names}, got {manifest.costs.exit_names}")
    check_exit_thresholds(manifest.policy.name, manifest.policy.thresholds, exits)
    if not (manifest.golden.images >= 1 and math.isfinite(manifest.golden.tolerance) and manifest.golden.tolerance > 0):
        _fail("golden: expected one image or more and a tolerance above 0")
    if min(manifest.input_shape) < 1 or manifest.preprocessing.channels not in (1, 3):
        _fail(f"preprocessing: expected a height, a width and 1 or 3 channels, got {manifest.input_shape}")
    if not 0 < manifest.preprocessing.divide_by < math.inf or manifest.preprocessing.resize != "bilinear":
        _fail("preprocessing: expected a divide_by above 0 and resize 'bilinear'")
    _check_files(manifest.files)
    _check_pieces(manifest)


def check_text(*texts):
    """Refuse, by `ConfigError`, names and labels that break a line or cannot be written as UTF-8."""
    if any(unicodedata.category(character) in _NOT_TEXT for text in texts for character in text):
        _fail("name, labels: expected text without control characters and line breaks")


def _check_files(files):
    names = [file.name for file in files]
    for file in files:
        if not PLAIN_NAME.fullmatch(file.name) or file.name == MANIFEST or names.count(file.name) > 1:
            _fail(f"file name {file.name!r}: expected a plain name, each once")
        if file.bytes < 0 or not re.fullmatch("[0-9a-f]{64}", file.sha256):
            _fail(f"file {file.name!r}: expected its size and 64 hexadecimal digits of SHA-256")


def _check_pieces(manifest):
    batch = -1 if manifest.batch_size is None else manifest.batch_size
    given, logits = (batch, *manifest.input_shape), (batch, len(manifest.labels))
    for index, stage in enumerate(manifest.stages):
        last = index == len(manifest.stages) - 1
        features = () if last else ("features",)
        _check_piece(f"stages[{index}]", stage, IMAGE if index == 0 else "features", given, ("logits", *features))
        if (stage.handover == IMAGE) != (index == 0):
            _fail(f"stages[{index}].handover: expected {IMAGE!r} for the first stage only, got {stage.handover!r}")
        if stage.output("logits").shape != logits:
            _fail(f"stages[{index}]: expected logits of shape {logits}, got {stage.output('logits').shape}")
        before = manifest.stages[index - 1].output("features") if index else None
        if stage.handover == DIRECT and before.dtype != stage.input.dtype:
            _fail(f"stages[{index}]: cannot take {before.dtype} directly, its input is {stage.input.dtype}")
        given = None if last else stage.output("features").shape
    _check_piece("unsplit", manifest.unsplit, IMAGE, (batch, *manifest.input_shape), manifest.exit_names)


def _check_piece(place, piece, input_name, input_shape, output_names):
    if piece.input.name != input_name or piece.input.shape != input_shape:
        _fail(
            f"{place}: expected input {input_name!r} of shape {input_shape}, got {piece.input.name!r} of "
            f"{piece.input.shape}"
        )
    if sorted(tensor.name for tensor in piece.outputs) != sorted(output_names):
        _fail(f"{place}: expected outputs {output_names}, got {[tensor.name for tensor in piece.outputs]}")
    if piece.handover not in HANDOVERS:
        _fail(f"{place}.handover: expected one of {', '.join(HANDOVERS)}, got {piece.handover!r}")
    for tensor in (piece.input, *piece.outputs):
        if tensor.dtype not in TENSOR_DTYPES or (tensor.dtype == "int8") != (tensor.quantisation is not None):
            _fail(f"{place}: {tensor.name}: expected float32, or int8 with its quantisation, got {tensor.dtype}")
        if tensor.quantisation is not None:
            scale, zero_point = tensor.quantisation.scale, tensor.quantisation.zero_point
            if not (0 < scale < math.inf and -128 <= zero_point <= 127):
                _fail(f"{place}: {tensor.name}: expected a scale > 0 and an int8 zero point, got {scale}, {zero_point}")


def _fail(message):
    raise ConfigError(message)
