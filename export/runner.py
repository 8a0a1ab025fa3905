"""Running one model file with LiteRT, and the hand-over of feature maps from one stage to the next."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from rdi_tf.data.checks import check_images
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.export.bundle import check_file
from rdi_tf.export.manifest import BundleError
from rdi_tf.export.manifest_rules import DIRECT, IMAGE

MOST_THREADS = 256  # LiteRT crashes, without a word, where the system gives no more of them
INT8 = np.iinfo(np.int8)


def quantise(values, quantisation):
    """Numbers as int8: round(value / scale) + zero_point, saturated.

    Args:
      values: float32 array.
      quantisation: a `Quantisation`.

    Returns:
      int8 array of the same shape.
    """
    integers = np.rint(values / np.float32(quantisation.scale)) + quantisation.zero_point
    return np.clip(integers, INT8.min, INT8.max).astype(np.int8)


def dequantise(integers, quantisation):
    """Numbers that int8 values stand for: scale * (integer - zero_point), float32 array of the same shape."""
    shifted = integers.astype(np.float32) - np.float32(quantisation.zero_point)
    return shifted * np.float32(quantisation.scale)


def load_interpreter(path, num_threads=1):
    """A LiteRT interpreter of a file, its tensors allocated.

    Args:
      path: the file.
      num_threads: threads that it may use.

    Returns:
      `ai_edge_litert.interpreter.Interpreter`.

    Raises:
      BundleError: LiteRT cannot load the file.
      ConfigError: less than one thread, or more than MOST_THREADS.
    """
    if not 1 <= num_threads <= MOST_THREADS:
        raise ConfigError(f"num_threads: expected 1 to {MOST_THREADS}, got {num_threads}")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{path}: LiteRT cannot load it: {error}") from error
    return interpreter


class ModelRunner:
    """One model file, loaded.

    Attributes:
      piece: its `Piece` of the manifest.
    """

    def __init__(self, folder, piece, num_threads=1):
        """Load a file, which may have been replaced since the bundle was opened.

        Args:
          folder: `Path` of the bundle.
          piece: what the manifest says of the file.
          num_threads: threads that LiteRT may use, at least 1.

        Raises:
          BundleError: a file that LiteRT cannot load, or that is not what the manifest says.
          ConfigError: an unusable number of threads.
        """
        check_file(folder, piece.file)
        path = folder / piece.file.name
        self.piece = piece
        self._interpreter = load_interpreter(path, num_threads)
        signature = _signature(path, self._interpreter, piece.signature)
        inputs, outputs = signature.get_input_details(), signature.get_output_details()
        _check_tensor(path, piece.input, inputs.get(piece.input.name), 0, self._interpreter.get_input_details())
        for tensor in piece.outputs:
            # An operator may state a batch of 1 for its output although the input's is free.
            _check_tensor(path, tensor, outputs.get(tensor.name), 1, self._interpreter.get_output_details())
        self._input = inputs[piece.input.name]["index"]
        self._outputs = {tensor.name: outputs[tensor.name]["index"] for tensor in piece.outputs}
        self._allocated = max(1, piece.input.shape[0])

    def run(self, inputs):
        """Run the file on any number of images.

        Args:
          inputs: array (batch, ...) of the input's own dtype, batch >= 1. A file of fixed batch size is run as often
            as needed, the last batch filled up with copies of its last row.

        Returns:
          Dict from output name to array (batch, ...), of the output's own dtype.
        """
        fixed = self.piece.input.shape[0]
        if fixed == -1 or len(inputs) == fixed:
            return self._invoke(inputs)
        parts = []
        for start in range(0, len(inputs), fixed):
            rows = inputs[start : start + fixed]
            filled = np.concatenate([rows, np.repeat(rows[-1:], fixed - len(rows), axis=0)])
            parts.append({name: array[: len(rows)] for name, array in self._invoke(filled).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _invoke(self, inputs):
        self.feed(inputs)
        self.invoke()
        return self.fetch()

    def feed(self, inputs):
        """Hand over one batch: an array of the input's own shape and dtype. `run` does all three steps."""
        if len(inputs) != self._allocated:
            self._interpreter.resize_tensor_input(self._input, inputs.shape)
            self._interpreter.allocate_tensors()
            self._allocated = len(inputs)
        self._interpreter.set_tensor(self._input, inputs)

    def invoke(self):
        """Compute what was handed over."""
        self._interpreter.invoke()

    def fetch(self):
        """Copies of the outputs: dict from name to array of the output's own shape and dtype."""
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}

    def image_input(self, images):
        """Images, float32 (batch, height, width, channels) in [0, 1], as this file takes them."""
        tensor = self.piece.input
        return quantise(images, tensor.quantisation) if tensor.quantisation else images

    def numbers(self, name, array):
        """An output of this file as float32 numbers."""
        tensor = self.piece.output(name)
        return dequantise(array, tensor.quantisation) if tensor.quantisation else array


class StageChain:
    """The stages of a bundle, one after another; each is loaded when it is first needed, or all at once."""

    def __init__(self, folder, stages, num_threads=1, lazy=False):
        """Prepare.

        Args:
          folder: where the files lie.
          stages: their `Piece`s, in order.
          num_threads: threads of each stage.
          lazy: load a stage only when an image gets there.

        Raises:
          BundleError, ConfigError: as `ModelRunner`.
        """
        self._folder = folder
        self._stages = stages
        self._num_threads = num_threads
        self._runners = [None] * len(stages)
        if not lazy:
            for index in range(len(stages)):
                self.runner(index)

    @property
    def loaded(self):
        """Whether each stage is in memory, tuple of bool."""
        return tuple(runner is not None for runner in self._runners)

    def runner(self, index):
        """The `ModelRunner` of a stage."""
        if self._runners[index] is None:
            stage = self._stages[index]
            self._runners[index] = ModelRunner(self._folder, stage, self._num_threads)
        return self._runners[index]

    def run(self, index, carried):
        """Run one stage.

        Args:
          index: the stage, from 0.
          carried: for the first stage images, float32 (batch, height, width, channels) in [0, 1]; else what the stage
            before it returned, or some of its rows.

        Returns:
          (logits, carried): float32 (batch, classes), and what the next stage takes; None from the last stage.
        """
        runner = self.runner(index)
        outputs = runner.run(self.hand_over(index, carried))
        return runner.numbers("logits", outputs["logits"]), outputs.get("features")

    def hand_over(self, index, carried):
        """What a stage takes, in its own dtype, of what the one before it returned (of images for the first)."""
        stage = self._stages[index]
        if stage.handover == IMAGE:
            return self.runner(index).image_input(carried)
        if stage.handover == DIRECT:
            return carried
        before = self._stages[index - 1].output("features")
        numbers = dequantise(carried, before.quantisation) if before.quantisation else carried
        return quantise(numbers, stage.input.quantisation) if stage.input.quantisation else numbers

    def exit_logits(self, images):
        """Logits of every exit, whether it would be reached or not.

        Args:
          images: float32 (batch, height, width, channels) in [0, 1], batch >= 1.

        Returns:
          float32 array (batch, exits, classes).
        """
        carried, logits = images, []
        for index in range(len(self._stages)):
            stage_logits, carried = self.run(index, carried)
            logits.append(stage_logits)
        return np.stack(logits, axis=1)


def _signature(path, interpreter, key):
    try:
        return interpreter.get_signature_runner(key)
    except ValueError as error:
        raise BundleError(f"{path}: has no signature {key!r}") from error


def check_batch(images, manifest):
    """Refuse images that a bundle cannot take.

    Args:
      images: array, wanted: floating point (batch, height, width, channels) in [0, 1], batch >= 1.
      manifest: the bundle's `Manifest`.

    Returns:
      The images as float32.

    Raises:
      DataError: images of another shape, dtype or range, or none.
    """
    check_images(images, manifest.input_shape)
    if len(images) == 0:
        raise DataError("images: expected one at least, got none")
    return np.asarray(images, np.float32)


def _check_tensor(path, tensor, details, axis, in_order):
    """Refuse a file whose tensor is not the one of the manifest.

    Shapes are compared from `axis` on; `in_order` are the file's inputs or outputs by place, which is how runtimes find
    a tensor that do not know signatures.
    """
    if details is None:
        raise BundleError(f"{path}: its signature has no tensor {tensor.name!r}")
    scale, zero_point = details["quantization"]
    expected = (tensor.quantisation.scale, tensor.quantisation.zero_point) if tensor.quantisation else (0.0, 0)
    shape = tuple(int(length) for length in details["shape_signature"])
    place = [each["index"] for each in in_order].index(details["index"])
    found = (shape[axis:], np.dtype(details["dtype"]).name, (float(scale), int(zero_point)), place)
    wanted = (tensor.shape[axis:], tensor.dtype, expected, tensor.position)
    if found != wanted:
        raise BundleError(f"{path}: {tensor.name}: the manifest says {wanted}, the file {found}")
