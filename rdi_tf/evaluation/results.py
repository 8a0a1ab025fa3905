"""Results of an evaluation as data: computed from exit logits, kept as JSON, printed as a table. No TensorFlow.

Accuracies, shares and savings are fractions (0 to 1) everywhere but in the printed tables, which show percent. Costs
stand in two accountings side by side: executed multiply-adds, and the paper's MFlops (`ExitCosts` says how they
differ). Savings are against the plain backbone without branches, each in its own accounting.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.efficacy import efficacy
from rdi_tf.plain_values import build_dataclass, parse_json
from rdi_tf.policies import POLICIES, decide
from rdi_tf.runs import write_atomic

# 1 had no suites: every attack met every image and searched like the evaluation. It is still read.
FORMAT = 2


@dataclass(frozen=True)
class ExitCosts:
    """What an image costs that leaves at each exit, in both accountings.

    Attributes:
      exit_names: "branch_1", …, "main".
      executed_macs: multiply-adds executed up to each exit, all branches before it included.
      paper_mflops: the paper's count of the same exits (trunk and own branch, convolutions only, in units of 2^20): 0
        without convolutions.
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
        executed = (*self.executed_macs, self.backbone_executed_macs)
        paper = (*self.paper_mflops, self.backbone_paper_mflops)
        if not all(0 < cost < math.inf for cost in executed):
            raise ConfigError(f"costs: expected finite executed multiply-adds above 0, got {executed}")
        if not all(0 <= cost < math.inf for cost in paper):
            raise ConfigError(f"costs: expected finite MFlops of at least 0, got {paper}")


@dataclass(frozen=True)
class Outcome:
    """What the exit policy made of one set of images: the clean ones, or those of one attack.

    Attributes:
      name: "clean", or the attack: its form ("branch_1", …, "main", "average", "max_average", "random", …), after the
        way to search and a slash if that is not the evaluation's own ("apgd-ce/average").
      kind: "clean"; "attack", which met all images; or "remaining", which met only those that the attacks before it had
        left standing. Figures of the last kind are over all images, those that fell before as they fell.
      accuracy: share of the images that the policy calls right: for "remaining", after this attack and all before it.
      per_exit_accuracy: accuracy if all images left at this exit; under averaging rules, of the average up to it.
      exit_shares: share of the images that leave at each exit.
      average_executed_macs: executed multiply-adds per image.
      average_paper_mflops: the paper's MFlops per image.
      executed_saving: 1 - average / backbone, in executed multiply-adds; negative where the branches cost more.
      paper_saving: the same in the paper's MFlops; 0 where the backbone has none.
      efficacy: what is left of the saving, between 0 and 1 (`rdi_tf.evaluation.efficacy`), over executed multiply-adds.
      images: number of images that the attack was run on.
      search: how the attack searched (algorithm, epsilon, …), plain values; empty for "clean".
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
    efficacy: float
    images: int
    search: dict


@dataclass(frozen=True)
class TrustWarning:
    """A reason not to take the figures at face value.

    Attributes:
      check: name of the check that found it (`rdi_tf.evaluation.trust`).
      message: what was found, in one sentence.
    """

    check: str
    message: str


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation of one network.

    Attributes:
      name: the preset or configuration.
      dataset: the data set.
      images: number of images.
      suite: name of the suite of attacks; empty for a list of attacks.
      attack: how the evaluation's own attack searched (algorithm, epsilon, …), plain values; empty without attacks.
      attack_outputs: what attacks on exits aimed at: "exits", each exit's own logits, or "policy", what the exit rule
        calls classes from.
      policy: name of the exit rule.
      thresholds: its thresholds.
      clean: the clean images.
      attacks: the attacks, in the order they were given.
      worst_case: lowest accuracy of the attacks (the paper's "worst-case"); None without attacks, and where some met
        only images that others had left standing, so that there is no accuracy to compare.
      worst_case_attack: the name of that attack.
      per_image_worst_case: share of the images that the policy calls right clean and under every one of the attacks.
        An attacker who picks the best of them for each image leaves this much; at most `worst_case`.
      costs: the exits' costs.
      provenance: where the figures come from: seed, command, versions, machine, date, seconds.
      checks: names of the trust checks that were made.
      warnings: what they found, tuple of `TrustWarning`.
      split: "test", "validation" or "train": where the images come from.
    """

    name: str
    dataset: str
    images: int
    suite: str
    attack: dict
    attack_outputs: str
    policy: str
    thresholds: tuple[float, ...]
    clean: Outcome
    attacks: tuple[Outcome, ...]
    worst_case: float | None
    worst_case_attack: str | None
    per_image_worst_case: float | None
    costs: ExitCosts
    provenance: dict
    checks: tuple[str, ...] = ()
    warnings: tuple[TrustWarning, ...] = ()
    split: str = "test"

    @property
    def misses_rule(self):
        """Whether attacks on exits aimed at logits from which the exit rule, which averages, calls no class."""
        return self.attack_outputs == "exits" and self.policy in POLICIES and POLICIES[self.policy].averages

    def to_json(self):
        """This result as JSON text; numbers that are not finite, or other unfit values, raise `DataError`."""
        table = {"format": FORMAT, **dataclasses.asdict(self)}
        try:
            return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise DataError(f"result: expected finite numbers and plain values only: {error}") from error

    @classmethod
    def from_json(cls, text):
        """The result that `to_json` wrote, now or in format 1; other text raises `DataError`."""
        table = parse_json(text, "result")
        found = table.get("format") if isinstance(table, dict) else table
        if found not in (1, FORMAT) or isinstance(table, int):
            raise DataError(f"result: expected an evaluation of format {FORMAT} or 1, got {str(found)[:80]}")
        if found == 1:
            table = _from_format_1(table)
        return build_dataclass(cls, {key: value for key, value in table.items() if key != "format"}, "result")

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
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def summarise(labels, clean_logits, attack_logits, policy, thresholds, costs, *, met=None, searches=None, **described):
    """Apply the exit policy to clean and attacked images and count.

    Args:
      labels: integer array (n,), n >= 1.
      clean_logits: exit logits (n, exits, classes) of the clean images.
      attack_logits: dict from attack name to exit logits of the same images under that attack, same shape.
      policy: a `rdi_tf.policies.Policy`.
      thresholds: one number for each exit but the last.
      costs: the `ExitCosts`.
      met: dict from the names of attacks on survivors to the number of images that they met; all others met all.
      searches: dict from attack name to how it searched; None where all searched as `attack` says.
      **described: name, dataset, split, suite, attack, attack_outputs, provenance, checks, warnings: kept in the result
        as they are.

    Returns:
      The `EvaluationResult`.

    Raises:
      DataError: logits and labels that do not fit together, or that are unusable.
      ConfigError: thresholds or costs that do not fit the exits.
    """
    described = {"name": "", "dataset": "", "suite": "", "attack": {}, "attack_outputs": "exits", **described}
    described["provenance"] = dict(described.get("provenance") or {})
    labels, met, searches = _check_labels(labels), met or {}, searches or {}
    clean, survives = _outcome("clean", "clean", labels, clean_logits, policy, thresholds, costs)
    outcomes = []
    for attack_name, logits in attack_logits.items():
        if np.shape(logits) != np.shape(clean_logits):
            raise DataError(
                f"attack_logits[{attack_name!r}]: expected shape {np.shape(clean_logits)}, got {np.shape(logits)}"
            )
        kind = "remaining" if attack_name in met else "attack"
        outcome, right = _outcome(attack_name, kind, labels, logits, policy, thresholds, costs)
        search = dict(searches.get(attack_name, described["attack"]))
        outcomes.append(dataclasses.replace(outcome, images=met.get(attack_name, len(labels)), search=search))
        survives = survives & right
    worst = None if met else min(outcomes, key=lambda outcome: outcome.accuracy, default=None)
    return EvaluationResult(
        **described,
        images=len(labels),
        policy=policy.name,
        thresholds=tuple(float(threshold) for threshold in thresholds),
        clean=clean,
        attacks=tuple(outcomes),
        worst_case=worst and worst.accuracy,
        worst_case_attack=worst and worst.name,
        per_image_worst_case=float(survives.mean()) if outcomes else None,
        costs=costs,
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
        paper_saving=1 - paper / costs.backbone_paper_mflops if costs.backbone_paper_mflops else 0.0,
        efficacy=efficacy(shares, costs.executed_macs),
        images=len(labels),
        search={},
    )
    return outcome, right


def _from_format_1(table):
    """A result of format 1 with what format 2 has more."""
    try:
        macs, attack = table["costs"]["executed_macs"], table["attack"]

        def outcome(old, search):
            return {**old, "efficacy": efficacy(old["exit_shares"], macs), "images": table["images"], "search": search}

        return {
            **table,
            "suite": "",
            "attack_outputs": "exits",
            "clean": outcome(table["clean"], {}),
            "attacks": [outcome(old, attack) for old in table["attacks"]],
            "checks": [],
            "warnings": [],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"result: missing or unknown in an evaluation of format 1: {error}") from error


def _check_labels(labels):
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iu":
        raise DataError(f"labels: expected one integer or more, got shape {labels.shape} of {labels.dtype}")
    return labels
