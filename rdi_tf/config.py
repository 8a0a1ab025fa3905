"""Configuration: frozen dataclasses, TOML in and out. The only place where defaults live; imports no TensorFlow.

A `Config` describes one experiment completely. Presets are TOML files under `rdi_tf/presets/`; `Config.load` reads a
preset's name or a path, `Config.with_settings` applies `key.path=value` overrides from the command line.
"""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import tomli_w

from rdi_tf.compression.settings import METHODS, PATTERNS, CompressionConfig
from rdi_tf.config_rules import check_numbers
from rdi_tf.errors import ConfigError
from rdi_tf.plain_values import build_dataclass
from rdi_tf.policies import POLICIES

DEFENCES = ("standard", "main_branch", "average", "max_average", "worst_exit", "random_exit", "rerouted", "free")
ALGORITHMS = ("pgd", "fgsm", "wrm", "apgd", "square", "n_fgsm")
TRAINING_ALGORITHMS = ("n_fgsm",)  # leave the ball: good for training, no measure of robustness
NORMS = ("linf", "l2")
LOSSES = ("cross_entropy", "margin", "dlr", "dlr_targeted", "divergence")
TRAINING_LOSSES = ("divergence",)  # knows no labels
OUTPUTS = ("exits", "running_average", "weighted_running_average")
TEACHERS = ("main", "running_average", "weighted_running_average")
AUGMENTATIONS = ("crop", "flip", "mixup", "cutmix", "randaugment")
PRECISIONS = ("float32", "bfloat16", "mixed_float16")
SCHEDULES = ("step", "one_cycle", "cosine")
CALIBRATIONS = ("equal_share", "shares", "budget", "least_macs")


@dataclass(frozen=True)
class ModelConfig:
    """The network: a backbone, where its branches leave, and of which design they are.

    Attributes:
      backbone: name in `rdi_tf.models.BACKBONES`.
      input_shape: (height, width, channels) of one image.
      num_classes: classes of the classifier.
      branch: branch design, a name in `rdi_tf.models.BRANCHES`.
      exits: names of the backbone's layers after which branches leave, in order; left out (None) for the
        backbone's own (the paper's) positions, empty for a plain single-exit network.
      dropout: dropout rate where the backbone has dropout.
      depth: depth of a ResNet, 6n+2 where its groups are equal.
      group_blocks: blocks of each of a ResNet's three groups, together (depth - 2) / 2; empty for equal groups.
      width_multiplier: channel multiplier of MobileNetV2.
    """

    backbone: str = "smallcnn"
    input_shape: tuple[int, int, int] = (28, 28, 1)
    num_classes: int = 10
    branch: str = "light"
    exits: tuple[str, ...] | None = None
    dropout: float = 0.5
    depth: int = 38
    group_blocks: tuple[int, ...] = ()
    width_multiplier: float = 1.0


@dataclass(frozen=True)
class DataConfig:
    """The data set and what is done to its training images.

    Attributes:
      name: TFDS name, "digits", or the path of a folder with one sub-folder per class.
      validation_every: every n-th training example (index % n == n - 1, in the data set's own fixed order; of a folder
        about every n-th, by the checksum of its name) belongs to the validation split and is never trained on.
      augmentation: steps in order, from AUGMENTATIONS.
      crop_padding: pixels of zero padding on each side before the random crop.
    """

    name: str = "mnist"
    validation_every: int = 12
    augmentation: tuple[str, ...] = ()
    crop_padding: int = 4


@dataclass(frozen=True)
class AttackConfig:
    """How an attack searches its ball; the form (what it maximises) is chosen where it is used.

    Attributes:
      algorithm: one of ALGORITHMS.
      epsilon: radius of the ball, in units of the pixel range [0, 1], above 1 only for the L2 norm; of WRM the weight
        of the loss.
      step_size: length of one step (PGD; FGSM and N-FGSM take one of epsilon, the others choose their own lengths).
      steps: number of steps (1 for FGSM and N-FGSM); queries of the black-box attack "square".
      random_start: start PGD and APGD at a random point of the ball.
      restarts: independent runs; for each image the strongest is kept.
      norm: the ball's norm, one of NORMS. WRM has a penalty instead of a ball, Square and N-FGSM are implemented for
        L-infinity alone: these accept "linf" only.
      loss: what each exit's attack maximises, one of LOSSES.
      target_classes: classes that "dlr_targeted" aims at in turn, those that the clean image resembles most.
      square_fraction: share of the image that Square's first squares cover.
      noise: noise that N-FGSM adds, in multiples of epsilon.
    """

    algorithm: str = "pgd"
    epsilon: float = 0.3
    step_size: float = 0.01
    steps: int = 40
    random_start: bool = True
    restarts: int = 1
    norm: str = "linf"
    loss: str = "cross_entropy"
    target_classes: int = 9
    square_fraction: float = 0.8
    noise: float = 2.0


@dataclass(frozen=True)
class DefenceConfig:
    """Which attack makes the training images.

    Attributes:
      name: one of DEFENCES. "worst_exit" attacks the exit with the largest loss; "random_exit" one that is drawn for
        each image; "rerouted" the exit at which an image would leave, were thresholds set to give each exit an equal
        share of the batch; "free" trains on each batch
        `attack.steps` times and updates weights and images at once (Shafahi et al., NeurIPS 2019), on attacked images
        alone.
      attack: how that attack searches.
      training_mode: craft with dropout on and batch statistics (as the authors do) instead of inference mode; "free",
        whose passes are those of the updates, always does.
      warmup_iterations: grow epsilon and step size linearly from zero over so many first iterations.
      clean_share: weight of the clean images' loss, the adversarial images' being the rest; 0 to train on these alone
        (Madry et al., ICLR 2018), which saves the other pass. The paper's is a half.
      alignment: weight of GradAlign, which keeps one-step attacks honest: the loss grows by it times
        `1 - cos(gradient at the image, gradient at a random point of its ball)`; 0 for none.
      outputs: what is trained and attacked, one of OUTPUTS: each exit's own logits, or the averages over the exits so
        far that the exit rule of that name calls classes from.
      trades: weight of TRADES' divergence between clean and adversarial outputs, which then takes the place of the
        adversarial images' cross-entropy; 0 for none.
      distillation: weight of the divergence of each exit from the teacher's output on adversarial images; 0 for none.
      teacher: whom the exits learn from, one of TEACHERS: the last exit, or an average over all exits.
      temperature: of the distillation.
      weight_perturbation: length of the move of each kernel, in multiples of its own, before the gradient is taken
        (adversarial weight perturbation); 0 for none.
    """

    name: str = "max_average"
    attack: AttackConfig = field(default_factory=AttackConfig)
    training_mode: bool = True
    warmup_iterations: int = 0
    clean_share: float = 0.5
    alignment: float = 0.0
    outputs: str = "exits"
    trades: float = 0.0
    distillation: float = 0.0
    teacher: str = "main"
    temperature: float = 1.0
    weight_perturbation: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation. SGD with momentum; weight decay is an L2 term added to the gradient.

    Attributes:
      iterations: batches that are trained on, one optimiser step each ("free" makes several). Schedules, averages,
        warm-ups and validations count them.
      batch_size: images per step; most defences train on them clean and attacked, some on one of the two alone.
      learning_rate: peak learning rate.
      schedule: "step" (times decay_factor at each of decay_at), "one_cycle" (linear up over the first
        warmup_fraction, linear down to zero) or "cosine" (warm-up, then half a cosine to zero).
      decay_at: iterations of the step schedule.
      decay_factor: factor of the step schedule.
      warmup_fraction: share of the iterations spent warming up (one_cycle, cosine).
      momentum: SGD momentum.
      weight_decay: coefficient of the L2 term, PyTorch's convention (gradient += weight_decay * weight).
      exit_weights: weight of each exit's loss, in exit order, main last; empty for all ones.
      label_smoothing: mass moved from the true class to the uniform distribution, 0 to 1.
      ema_decay: decay of the exponential moving average of the weights that is validated and saved; 0 for none.
      precision: one of PRECISIONS.
      validate_every: iterations between validations.
      validation_images: validation images that are attacked at each validation.
      checkpoint_seconds: seconds of work between resumable checkpoints, at most so much is lost.
      seed: everything random derives from it.
      initial_weights: SHA-256 of the weights that training starts from (`RDINet.weights_digest`); empty for fresh ones.
        `rdi-tf train --from` fills it in.
    """

    iterations: int = 13_100
    batch_size: int = 256
    learning_rate: float = 0.033
    schedule: str = "step"
    decay_at: tuple[int, ...] = (11_700, 12_900)
    decay_factor: float = 0.1
    warmup_fraction: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    exit_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    precision: str = "float32"
    validate_every: int = 500
    validation_images: int = 512
    checkpoint_seconds: float = 45.0
    seed: int = 0
    initial_weights: str = ""


@dataclass(frozen=True)
class PolicyConfig:
    """When an input leaves, and how the thresholds are found on validation data.

    Attributes:
      name: exit rule, a name in `rdi_tf.policies.POLICIES`. The paper's is "entropy"; the default survives attacks on
        the rule better (docs/reproduction.md).
      calibration: one of CALIBRATIONS.
      shares: share of the calibration images that should leave at each exit, main last (calibration "shares").
      budget: average executed multiply-adds per image that may be spent (calibration "budget").
      max_accuracy_loss: accuracy on the calibration images, as a fraction, that may be lost against the best
        that the rule reaches (calibration "least_macs").
      adversarial: calibrate on clean and adversarial validation images instead of clean ones alone.
    """

    name: str = "weighted_running_average"
    calibration: str = "equal_share"
    shares: tuple[float, ...] = ()
    budget: float = 0.0
    max_accuracy_loss: float = 0.005
    adversarial: bool = False


@dataclass(frozen=True)
class Config:
    """One experiment, completely described.

    Attributes:
      model: the network.
      data: the data set.
      defence: the attack that it is trained against.
      evaluation: the attack that it is evaluated and validated against.
      training: the optimisation.
      policy: the exit rule and its calibration.
      compression: how the network was made from another run's, where it was.
      name: the preset's name, or what the user calls it.
      source: where the experiment comes from (a paper's table, a measured run), in words.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    evaluation: AttackConfig = field(default_factory=AttackConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    name: str = ""
    source: str = ""

    def __post_init__(self):
        _check(self)

    @classmethod
    def load(cls, name_or_path):
        """Read a preset by name or a TOML file by path.

        Args:
          name_or_path: name of a file in `rdi_tf/presets/` (without .toml), or the path of a TOML file.

        Returns:
          The `Config`.

        Raises:
          ConfigError: no such preset or file, or a file that does not hold a configuration.
        """
        text = str(name_or_path)
        if text in preset_names():
            source = resources.files("rdi_tf") / "presets" / f"{text}.toml"
        elif Path(text).is_file():
            source = Path(text)
        else:
            raise ConfigError(f"{text!r} is neither a preset ({', '.join(preset_names())}) nor a TOML file")
        try:
            table = tomllib.loads(source.read_text(encoding="utf-8-sig"))  # some editors begin with a mark
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{text} is not a TOML file: {error}") from error
        table.setdefault("name", Path(text).stem)
        return cls.from_dict(table)

    @classmethod
    def from_dict(cls, table):
        """Build a `Config` from nested dictionaries, as TOML and JSON hold it; unknown keys raise `ConfigError`."""
        return build_dataclass(cls, table, error=ConfigError)

    def to_dict(self):
        """This configuration as nested dictionaries of plain values; None is left out, as in TOML."""
        return _plain(self)

    def to_toml(self):
        """This configuration as TOML text that `Config.load` reads back."""
        return tomli_w.dumps(self.to_dict())

    def with_settings(self, settings):
        """Apply overrides.

        Args:
          settings: strings `section.key=value`, the value in TOML syntax (a bare word is taken as a string).

        Returns:
          A new `Config`.

        Raises:
          ConfigError: a setting that is not of this form, names no key, or has a value of the wrong type.
        """
        table = self.to_dict()
        for setting in settings:
            path, separator, text = setting.partition("=")
            if not separator:
                raise ConfigError(f"--set {setting!r}: expected section.key=value")
            *sections, key = path.strip().split(".")
            place = table
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"--set {setting!r}: {section!r} is a value, not a section")
            place[key] = _parse_value(text.strip())
        return type(self).from_dict(table)


def preset_names():
    """Names of the presets that come with the package, sorted."""
    folder = resources.files("rdi_tf") / "presets"
    return sorted(entry.name[: -len(".toml")] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _parse_value(text):
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(value):
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(item) for name, item in pairs if item is not None}
    return list(value) if isinstance(value, tuple) else value


def _check(config):
    """Refuse values that no run could use, naming the key, what was expected and what came."""
    choices = [
        ("defence.name", config.defence.name, DEFENCES),
        *_attack_choices("defence.attack", config.defence.attack),
        *_attack_choices("evaluation", config.evaluation, TRAINING_ALGORITHMS + TRAINING_LOSSES),
        ("defence.outputs", config.defence.outputs, OUTPUTS),
        ("defence.teacher", config.defence.teacher, TEACHERS),
        ("training.schedule", config.training.schedule, SCHEDULES),
        ("training.precision", config.training.precision, PRECISIONS),
        ("policy.name", config.policy.name, tuple(POLICIES)),
        ("policy.calibration", config.policy.calibration, CALIBRATIONS),
        ("compression.method", config.compression.method, METHODS),
        ("compression.pattern", config.compression.pattern, PATTERNS),
        *(("data.augmentation", step, AUGMENTATIONS) for step in config.data.augmentation),
    ]
    for key, value, allowed in choices:
        if value not in allowed:
            raise ConfigError(f"{key}: expected one of {', '.join(allowed)}, got {value!r}")
    check_numbers(config)


def _attack_choices(path, attack, excluded=()):
    norms = NORMS if attack.algorithm in ("pgd", "fgsm", "apgd") else ("linf",)
    return [
        (f"{path}.algorithm", attack.algorithm, tuple(name for name in ALGORITHMS if name not in excluded)),
        (f"{path}.norm", attack.norm, norms),
        (f"{path}.loss", attack.loss, tuple(name for name in LOSSES if name not in excluded)),
    ]
