"""Conversion: from a trained network to a bundle's files. Needs TensorFlow, as `write` and `compare` do; the rest of
`rdi_tf.export` does not.

Batch normalisation is folded into the convolutions by the converter, and each file's signature names its tensors. For
full int8 every file is calibrated on what it will see: the first stage and the unsplit network on validation images,
each later stage on the feature maps that the stage before it makes of them. A network that was trained for int8 brings
its ranges along and is not calibrated: both sides of a hand-over then have the range that training learned.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from rdi_tf.compression.quantization import is_quantized, output_range
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.export.bundle import describe_file
from rdi_tf.export.manifest import Piece, Quantisation, Tensor
from rdi_tf.export.manifest_rules import DIRECT, DTYPES, IMAGE, REQUANTISE
from rdi_tf.export.runner import load_interpreter
from rdi_tf.models import attach_points, flatten, split_stages

SIGNATURE = "serving_default"
# Two calibrations of one feature map on the same images agree up to the rounding of float32. So small a difference
# moves an int8 value by far less than one step, over its whole range of 255.
SAME_SCALE = 1e-5


@dataclass(frozen=True)
class ExportOptions:
    """How a network is to be exported.

    Attributes:
      dtype: one of DTYPES. "float16": weights kept in half precision; "dynamic_int8": int8 weights, activations
        quantised while running; "int8": everything int8, calibrated on validation images.
      batch_size: images at a time, at least 1; None leaves it free.
      int8_input: let the first stage take int8 pixels instead of float32 (dtype "int8" only).
      calibration_images: validation images on which "int8" is calibrated.
      golden_images: at most so many golden vectors.
    """

    dtype: str = "float32"
    batch_size: int | None = 1
    int8_input: bool = False
    calibration_images: int = 500
    golden_images: int = 16

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.int8_input and self.dtype != "int8":
            raise ConfigError(f"int8_input: expected dtype 'int8' with it, got {self.dtype!r}")
        for name in ("batch_size", "calibration_images", "golden_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")


def convert_stages(network, folder, options, images):
    """Write one file per stage of a network.

    Args:
      network: functional multi-exit network.
      folder: where `stage_1.tflite`, … are written.
      options: `ExportOptions`.
      images: float32 (n, height, width, channels) in [0, 1], for the calibration of int8.

    Returns:
      Tuple of `Piece`s.

    Raises:
      ConfigError: a network that cannot be split into stages, or that was trained for int8 and is to be something else.
      DataError: no images where int8 needs them.
    """
    learned = is_quantized(network)
    if learned and options.dtype != "int8":
        raise ConfigError(f"dtype: the network was trained for int8; expected 'int8', got {options.dtype!r}")
    ranges = [output_range(network, name) for name in attach_points(network)] if learned else []
    pieces, given = [], images
    for index, stage in enumerate(split_stages(network)):
        names = ("logits", "features")[: len(stage.outputs)]
        path = folder / f"stage_{index + 1}.tflite"
        int8_input = options.int8_input if index == 0 else options.dtype == "int8"
        input_name = "image" if index == 0 else "features"
        entry_range = ranges[index - 1] if learned and index > 0 else None
        path.write_bytes(convert(stage, input_name, names, options, given, int8_input, entry_range))
        piece = describe_piece(path, input_name, names, options)
        before = pieces[-1].output("features") if pieces else None
        pieces.append(dataclasses.replace(piece, handover=_handover(before, piece.input)))
        if "features" in names and options.dtype == "int8" and not learned:
            given = _features(stage, given)
    return tuple(pieces)


def convert_unsplit(network, folder, options, images):
    """Write the unsplit network as `unsplit.tflite`; arguments as for `convert_stages`; returns its `Piece`."""
    network = flatten(network)
    path = folder / "unsplit.tflite"
    names = tuple(network.output_names)
    path.write_bytes(convert(network, "image", names, options, images, options.int8_input))
    return describe_piece(path, "image", names, options)


def convert(model, input_name, output_names, options, images, int8_input, entry_range=None):
    """Convert a functional model.

    Args:
      model: functional tf_keras model with one input.
      input_name: name of the input in the signature.
      output_names: names of the outputs in the signature, in the model's order.
      options: `ExportOptions`.
      images: what the model sees, float32 (n, ...), n >= 1 where dtype is "int8".
      int8_input: let the input be int8; outputs are int8 whenever dtype is.
      entry_range: (lowest, highest) value to which the inputs of a model that was trained for int8 are rounded; None
        where the model rounds them itself.

    Returns:
      The file's bytes.
    """
    shape = (options.batch_size, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=input_name)])
    def signature(inputs):
        if entry_range is not None:
            inputs = tf.quantization.fake_quant_with_min_max_args(inputs, *entry_range)
        return dict(zip(output_names, tf.nest.flatten(model(inputs, training=False)), strict=True))

    # The converter saves what it is given; the model itself would have all of its layers traced once more.
    variables = tf.Module()
    variables.all = list(model.variables)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature.get_concrete_function()], variables)
    if options.dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if options.dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if options.dtype == "int8":
        if not is_quantized(model):
            seen = _with_whole_range(images) if input_name == IMAGE and len(images) else images
            _calibrate(converter, seen, shape[0] or 1)
        converter.inference_input_type = tf.int8 if int8_input else tf.float32
        converter.inference_output_type = tf.int8
    return converter.convert()


def _with_whole_range(images):
    """Images of which some pixel is 0 and some pixel 1, as others will have, under an attack above all."""
    if images.min() == 0 and images.max() == 1:
        return images
    widened = images[:1].copy()
    widened.flat[0], widened.flat[-1] = 0, 1
    return np.concatenate([images, widened])


def _calibrate(converter, images, batch_size):
    if len(images) == 0:
        raise DataError("images: int8 is calibrated on images, expected one at least, got none")
    converter.representative_dataset = lambda: ([batch] for batch in _calibration_batches(images, batch_size))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


def _calibration_batches(images, batch_size):
    """Batches of one size; the last is filled up with the first images, which changes no range."""
    missing = -len(images) % batch_size
    filled = np.concatenate([images, np.resize(images, (missing, *images.shape[1:]))])
    return (filled[start : start + batch_size] for start in range(0, len(filled), batch_size))


def _features(stage, given, batch_size=250):
    """Feature maps that a stage hands over, float32 (n, ...)."""
    run = tf.function(lambda inputs: stage(inputs, training=False)[1])
    return np.concatenate([run(given[start : start + batch_size]) for start in range(0, len(given), batch_size)])


def describe_piece(path, input_name, output_names, options):
    """The `Piece` entry of a model file, read back from the file itself; its hand-over is that of a first stage."""
    interpreter = load_interpreter(path)
    signature = interpreter.get_signature_runner(SIGNATURE)
    inputs, outputs = signature.get_input_details(), signature.get_output_details()
    input_places = [entry["index"] for entry in interpreter.get_input_details()]
    output_places = [entry["index"] for entry in interpreter.get_output_details()]
    return Piece(
        file=describe_file(path),
        signature=SIGNATURE,
        input=_describe_tensor(input_name, inputs[input_name], input_places, options),
        outputs=tuple(_describe_tensor(name, outputs[name], output_places, options) for name in output_names),
        handover=IMAGE,
    )


def _describe_tensor(name, details, places, options):
    # An operator may state a fixed batch size for its output even where the input's is free.
    batch = -1 if options.batch_size is None else options.batch_size
    scale, zero_point = details["quantization"]
    return Tensor(
        name=name,
        tensor=details["name"],
        position=places.index(details["index"]),
        shape=(batch, *(int(length) for length in details["shape_signature"][1:])),
        dtype=np.dtype(details["dtype"]).name,
        quantisation=Quantisation(float(scale), int(zero_point)) if scale else None,
    )


def _handover(before, after):
    if before is None:
        return IMAGE
    if before.dtype != after.dtype:
        return REQUANTISE
    if after.quantisation is None:
        return DIRECT
    one, other = before.quantisation, after.quantisation
    same = one.zero_point == other.zero_point and abs(one.scale - other.scale) <= SAME_SCALE * other.scale
    return DIRECT if same else REQUANTISE
