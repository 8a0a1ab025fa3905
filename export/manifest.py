"""The manifest of a bundle: what its files are, how they fit together and how they are to be used.

`manifest.json` is read by Python, by devices and by the Android demo; docs/bundle.md describes it for their writers.
NumPy only.
"""

import dataclasses
import json
from dataclasses import dataclass

from rdi_tf.errors import CheckpointError, DataError
from rdi_tf.evaluation.results import ExitCosts
from rdi_tf.export.manifest_rules import MANIFEST, check_manifest
from rdi_tf.plain_values import build_dataclass, parse_json

FORMAT = 1


class BundleError(CheckpointError):
    """A bundle that cannot be read, was altered, or does not do what it says."""


@dataclass(frozen=True)
class Quantisation:
    """How integers stand for numbers: number = scale * (integer - zero_point).

    Attributes:
      scale: above 0.
      zero_point: the integer that stands for 0.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model file.

    Attributes:
      name: its name in the signature.
      tensor: its name in the file.
      position: its place among the file's inputs or outputs, from 0, for runtimes that do not know signatures.
      shape: with the batch axis; -1 there where the batch size is free.
      dtype: one of TENSOR_DTYPES.
      quantisation: how its int8 values stand for numbers; None for float32.
    """

    name: str
    tensor: str
    position: int
    shape: tuple[int, ...]
    dtype: str
    quantisation: Quantisation | None


@dataclass(frozen=True)
class File:
    """A file of the bundle.

    Attributes:
      name: file name, in the bundle's folder.
      bytes: its size.
      sha256: its SHA-256, hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Piece:
    """A model file: one stage, or the unsplit network.

    Attributes:
      file: the file.
      signature: key of its signature.
      input: "image" or, in later stages, "features".
      outputs: of a stage "logits" and, unless it is the last, "features"; of the unsplit network each exit's logits
        under the exit's name.
      handover: where the input comes from: "image"; "direct", the stage before it, its bytes as they are; or
        "requantise", the stage before it, whose int8 values must be turned into this input's scale.
    """

    file: File
    signature: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    handover: str

    def output(self, name):
        """The output of that name; None if there is none."""
        return next((tensor for tensor in self.outputs if tensor.name == name), None)


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the first input: turn to grey or RGB, resize, divide; then quantise if the input is int8.

    Attributes:
      height, width: pixels.
      channels: 1 for grey (0.299 R + 0.587 G + 0.114 B), 3 for RGB.
      divide_by: 8-bit pixels are divided by this; the results, in [0, 1], are the images that the library knows.
      resize: "bilinear", antialiased when shrinking.
    """

    height: int
    width: int
    channels: int
    divide_by: float
    resize: str


@dataclass(frozen=True)
class ExitPolicy:
    """The exit rule.

    Attributes:
      name: a name in `rdi_tf.policies.POLICIES`.
      thresholds: one for each exit but the last; an image leaves at the first exit whose score is below.
    """

    name: str
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """Inputs with the answers that every runtime must give.

    Attributes:
      file: NPZ (not compressed) of images float32 (n, height, width, channels), labels int32 (n,), exit_logits float32
        (n, exits, classes), exits int32 (n,) from 0, predictions int32 (n,), scores float64 (n, exits).
      images: n.
      tolerance: largest difference of a logit that is allowed; exits and predictions must be equal.
    """

    file: File
    images: int
    tolerance: float


@dataclass(frozen=True)
class Manifest:
    """All of a bundle but the bytes of its files.

    Attributes:
      format: version of this description.
      name: what the network is called.
      dtype: one of DTYPES: how weights and arithmetic are kept in the files.
      batch_size: images that the files take at a time; None where it is free.
      labels: names of the classes.
      exit_names: "branch_1", …, "main".
      preprocessing: from a picture to an image.
      stages: one for each exit, in order.
      unsplit: the whole network, for comparison.
      policy: the exit rule.
      costs: what leaving at each exit costs.
      golden: what must come out.
      provenance: where it comes from: command, seed, versions, machine, date.
    """

    format: int
    name: str
    dtype: str
    batch_size: int | None
    labels: tuple[str, ...]
    exit_names: tuple[str, ...]
    preprocessing: Preprocessing
    stages: tuple[Piece, ...]
    unsplit: Piece
    policy: ExitPolicy
    costs: ExitCosts
    golden: Golden
    provenance: dict

    def __post_init__(self):
        check_manifest(self)

    @property
    def input_shape(self):
        """(height, width, channels) of an image."""
        return (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)

    @property
    def files(self):
        """Every `File` of the bundle."""
        return (*(stage.file for stage in self.stages), self.unsplit.file, self.golden.file)

    @property
    def stage_bytes(self):
        """Size of all stage files together."""
        return sum(stage.file.bytes for stage in self.stages)

    def to_json(self):
        """This manifest as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text):
        """The manifest that `to_json` wrote.

        Raises:
          BundleError: no JSON, a newer format, missing or unknown entries, or values that do not fit together.
        """
        try:
            table = parse_json(text, MANIFEST)
            version = table.get("format") if isinstance(table, dict) else None
            if type(version) is not int or version < 1:
                raise DataError(f"{MANIFEST}: not a bundle's manifest, it has no format number")
            if version > FORMAT:
                newer = f"format {version} is newer than this rdi-tf reads ({FORMAT}); update rdi-tf"
                raise DataError(f"{MANIFEST}: {newer}")
            return build_dataclass(cls, table, MANIFEST)
        except DataError as error:
            raise BundleError(str(error)) from error
