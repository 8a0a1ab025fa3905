"""Results of an evaluation as data: computed from exit logits, kept as JSON, printed as a table. No TensorFlow.

Accuracies, shares and savings are fractions (0 to 1) everywhere but in the printed tables, which show percent. Costs
stand in two accountings side by side: executed multiply-adds, and the paper's MFlops (`ExitCosts` says how they
differ). Savings are against the plain backbone without branches, each in its own accounting.
"""

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.policies import decide
from rdi_tf.runs import write_atomic

FORMAT = 1


@dataclass(frozen=True)
class ExitCosts:
    """What an image costs that leaves at each exit, in both accountings.

    Attributes:
      exit_names: "branch_1", …, "main".
      executed_macs: multiply-adds executed up to each exit, all branches before it included.
      paper_mflops: the paper's count of the same exits (trunk and own branch, convolutions only, in units of 2^20).
      backbone_executed_macs: multiply-adds of the plain backbone.
      backbone_paper_mflops: the paper's count of the plain backbone.
    """

    exit_names: tuple[str, ...]
    executed_macs: tuple[float, ...]
    paper_mflops: tuple[float, ...]
    backbone_executed_macs: float
    backbone_paper_mflops: float

    def __post_init__(self):
        if not len(self.exit_names) == len(self.executed_macs) == len(self.paper_mflops) >= 1:
            raise ConfigError(
                f"costs: expected one cost for each exit, got {len(self.exit_names)} names, "
                f"{len(self.executed_macs)} executed_macs and {len(self.paper_mflops)} paper_mflops"
            )
        costs = (*self.executed_macs, *self.paper_mflops, self.backbone_executed_macs, self.backbone_paper_mflops)
        if not all(0 < cost < float("inf") for cost in costs):
            raise ConfigError(f"costs: expected finite numbers above 0, got {costs}")


@dataclass(frozen=True)
class Outcome:
    """What the exit policy made of one set of images: the clean ones, or those of one attack.

    Attributes:
      name: "clean", or the attack: its form ("branch_1", …, "main", "average", "max_average", "random", …), after the
        algorithm and a slash if the evaluation has several ("fgsm/average").
      kind: "clean" or "attack".
      accuracy: share of the images that the policy calls right.
      per_exit_accuracy: accuracy of each exit alone, on all images.
      exit_shares: share of the images that leave at each exit.
      average_executed_macs: executed multiply-adds per image.
      average_paper_mflops: the paper's MFlops per image.
      executed_saving: 1 - average / backbone, in executed multiply-adds; negative where the branches cost more.
      paper_saving: the same in the paper's MFlops.
    """

    name: str
    kind: str
    accuracy: float
    per_exit_accuracy: tuple[float, ...]
    exit_shares: tuple[float, ...]
    average_executed_macs: float
    average_paper_mflops: float
    executed_saving: float
    paper_saving: float


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation of one network.

    Attributes:
      name: the preset or configuration.
      dataset: the data set.
      images: number of images.
      attack: how the attacks searched (algorithm, epsilon, …), plain values.
      policy: name of the exit rule.
      thresholds: its thresholds.
      clean: the clean images.
      attacks: the attacks, in the order they were given.
      worst_case: lowest accuracy of the attacks (the paper's "worst-case"); None without attacks.
      worst_case_attack: the name of that attack.
      per_image_worst_case: share of the images that the policy calls right clean and under every one of the attacks.
        An attacker who picks the best of them for each image leaves this much; at most `worst_case`.
      costs: the exits' costs.
      provenance: where the figures come from: seed, command, versions, machine, date, seconds.
    """

    name: str
    dataset: str
    images: int
    attack: dict
    policy: str
    thresholds: tuple[float, ...]
    clean: Outcome
    attacks: tuple[Outcome, ...]
    worst_case: float | None
    worst_case_attack: str | None
    per_image_worst_case: float | None
    costs: ExitCosts
    provenance: dict

    def to_json(self):
        """This result as JSON text; numbers that are not finite, or other unfit values, raise `DataError`."""
        table = {"format": FORMAT, **dataclasses.asdict(self)}
        try:
            return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise DataError(f"result: expected finite numbers and plain values only: {error}") from error

    @classmethod
    def from_json(cls, text):
        """The result that `to_json` wrote; other text raises `DataError`."""
        try:
            table = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise DataError(f"result: expected JSON, got text that is not: {error}") from error
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            found = table.get("format") if isinstance(table, dict) else table
            raise DataError(f"result: expected an evaluation of format {FORMAT}, got {str(found)[:80]}")
        return _build(cls, {key: value for key, value in table.items() if key != "format"}, "result")

    def save(self, path):
        """Write this result to a JSON file, whole or not at all."""
        write_atomic(path, self.to_json())

    @classmethod
    def load(cls, path):
        """The result in a JSON file; a file that is missing or holds something else raises `DataError`."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a result: {error}") from error
        return cls.from_json(text)


def summarise(
    labels, clean_logits, attack_logits, policy, thresholds, costs, *, name="", dataset="", attack=None, provenance=None
):
    """Apply the exit policy to clean and attacked images and count.

    Args:
      labels: integer array (n,), n >= 1.
      clean_logits: exit logits (n, exits, classes) of the clean images.
      attack_logits: dict from attack name to exit logits of the same images under that attack, same shape.
      policy: a `rdi_tf.policies.Policy`.
      thresholds: one number for each exit but the last.
      costs: the `ExitCosts`.
      name, dataset, attack, provenance: kept in the result as they are.

    Returns:
      The `EvaluationResult`.

    Raises:
      DataError: logits and labels that do not fit together, or that are unusable.
      ConfigError: thresholds or costs that do not fit the exits.
    """
    labels = _check_labels(labels)
    clean, survives = _outcome("clean", "clean", labels, clean_logits, policy, thresholds, costs)
    outcomes = []
    for attack_name, logits in attack_logits.items():
        if np.shape(logits) != np.shape(clean_logits):
            raise DataError(
                f"attack_logits[{attack_name!r}]: expected shape {np.shape(clean_logits)}, got {np.shape(logits)}"
            )
        outcome, right = _outcome(attack_name, "attack", labels, logits, policy, thresholds, costs)
        outcomes.append(outcome)
        survives = survives & right
    worst = min(outcomes, key=lambda outcome: outcome.accuracy, default=None)
    return EvaluationResult(
        name=name,
        dataset=dataset,
        images=len(labels),
        attack=dict(attack or {}),
        policy=policy.name,
        thresholds=tuple(float(threshold) for threshold in thresholds),
        clean=clean,
        attacks=tuple(outcomes),
        worst_case=worst and worst.accuracy,
        worst_case_attack=worst and worst.name,
        per_image_worst_case=float(survives.mean()) if worst else None,
        costs=costs,
        provenance=dict(provenance or {}),
    )


def _outcome(name, kind, labels, exit_logits, policy, thresholds, costs):
    """The `Outcome`, and which images the policy calls right, bool (n,)."""
    exits = len(costs.exit_names)
    shape = np.shape(exit_logits)
    if len(shape) != 3 or shape[:2] != (len(labels), exits):
        raise DataError(f"exit logits of {name!r}: expected shape ({len(labels)}, {exits}, classes), got {shape}")
    decision = decide(policy, exit_logits, thresholds)
    right = decision.predictions == labels
    calls = policy.log_probabilities(exit_logits).argmax(axis=-1)
    shares = np.bincount(decision.exits, minlength=exits) / len(labels)
    executed, paper = float(shares @ costs.executed_macs), float(shares @ costs.paper_mflops)
    outcome = Outcome(
        name=name,
        kind=kind,
        accuracy=float(right.mean()),
        per_exit_accuracy=tuple((calls == labels[:, None]).mean(axis=0).tolist()),
        exit_shares=tuple(shares.tolist()),
        average_executed_macs=executed,
        average_paper_mflops=paper,
        executed_saving=1 - executed / costs.backbone_executed_macs,
        paper_saving=1 - paper / costs.backbone_paper_mflops,
    )
    return outcome, right


def _check_labels(labels):
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iu":
        raise DataError(f"labels: expected one integer or more, got shape {labels.shape} of {labels.dtype}")
    return labels


def _refuse_constant(text):
    raise DataError(f"result: expected finite numbers, got {text}")


def _build(cls, table, place):
    hints = typing.get_type_hints(cls)
    if not isinstance(table, dict) or set(table) != set(hints):
        found = sorted(set(table) ^ set(hints)) if isinstance(table, dict) else table
        raise DataError(f"{place}: missing or unknown: {', '.join(map(str, found)) if found else found!r}")
    return cls(**{key: _convert(hint, table[key], f"{place}.{key}") for key, hint in hints.items()})


def _convert(hint, value, place):
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, place)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise DataError(f"{place}: expected a list, got {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, place) for item in value)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise DataError(f"{place}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value
