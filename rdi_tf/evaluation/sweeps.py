"""Accuracy over epsilon: the same attacks in balls of several radii."""

import csv
import dataclasses
import io
import json
import time
from dataclasses import dataclass

from rdi_tf.errors import ConfigError
from rdi_tf.evaluation import trust
from rdi_tf.evaluation.results import TrustWarning
from rdi_tf.evaluation.run import evaluation_name, in_file_name, in_one_text
from rdi_tf.evaluation.suites import plan_attacks
from rdi_tf.evaluation.tables import images_in_words
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.text_tables import aligned, markdown

FORMAT = 1


@dataclass(frozen=True)
class SweepResult:
    """Accuracies through the exit rule over radii.

    Attributes:
      name: the preset or configuration.
      dataset: the data set.
      images: number of images.
      attack: how the attacks searched at the run's own epsilon, plain values; step sizes grow with epsilon.
      attack_outputs: what attacks on exits aimed at, "exits" or "policy".
      policy: name of the exit rule.
      thresholds: its thresholds.
      epsilons: the radii.
      accuracies: dict from attack name to an accuracy for each radius; of the attacks in `remaining`, the share of all
        images that is right after it and all before it.
      per_image_worst_case: for each radius the share of images right clean and under every one of the attacks.
      provenance: where the figures come from.
      split: "test", "validation" or "train": where the images come from.
      remaining: names of the attacks that met only what those before them had left standing.
      warnings: attacks of the suite that were left out, and what is wrong with thresholds and split
        (`rdi_tf.evaluation.trust`); tuple of `TrustWarning`. Other checks are not made.
    """

    name: str
    dataset: str
    images: int
    attack: dict
    attack_outputs: str
    policy: str
    thresholds: tuple[float, ...]
    epsilons: tuple[float, ...]
    accuracies: dict
    per_image_worst_case: tuple[float, ...]
    provenance: dict
    split: str = "test"
    remaining: tuple[str, ...] = ()
    warnings: tuple[TrustWarning, ...] = ()

    def to_dict(self):
        """Plain values for JSON."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def to_markdown(self):
        """The table in Markdown: a row for each attack, a column for each radius, in percent."""
        header, *body = _cells(self)
        return f"{_title(self)}\n\n{markdown(header, body)}\n" + "".join(f"\n{line}\n" for line in _warnings(self))

    def to_text(self):
        """The table for a terminal, columns aligned."""
        header, *body = _cells(self)
        return "\n".join([_title(self), "", aligned(header, body), *_warnings(self)]) + "\n"

    def to_csv(self):
        """The table as CSV, accuracies in percent with six decimals: one line for each attack and radius."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["attack", "epsilon", "accuracy"])
        for attack, accuracies in _rows(self):
            for epsilon, accuracy in zip(self.epsilons, accuracies, strict=True):
                writer.writerow([attack, epsilon, round(100 * accuracy, 6)])
        return text.getvalue()


def sweep_epsilons(run_dir, epsilons, attacks="average", *, command="", **options):
    """Attack a run's network in balls of several radii.

    Args:
      run_dir: a run folder with a calibrated model.
      epsilons: radii, at least one; 0 for no attack at all.
      attacks: a suite or a list, as `rdi_tf.evaluation.run.evaluate`'s. Step sizes grow with epsilon, number
        and kind of steps stay.
      command: the command line, for the record.
      **options: fields of `rdi_tf.evaluation.options.BenchOptions`.

    Returns:
      `SweepResult`; also written to RUN/evaluation as JSON, CSV and Markdown.

    Raises:
      ConfigError: unusable radii, an unknown attack, or none.
      CheckpointError, DataError: as `evaluate`'s.
    """
    started = time.monotonic()
    attacks = in_one_text(attacks)
    bench = Workbench.open(run_dir, **options)
    radii = in_file_name(",".join(f"{epsilon:.4g}" for epsilon in epsilons))
    name = f"epsilons-{radii}-{evaluation_name(bench, attacks)}"
    bench = bench.apart(name)
    bench.agree(epsilons, attacks)
    scaled = [scaled_attack(bench.attack, epsilon) for epsilon in epsilons]
    if not scaled:
        raise ConfigError("epsilons: expected one at least, got none")
    plans = [_plan(bench, attack, attacks) for attack in scaled]
    columns, survivors = zip(
        *(_at_epsilon(bench, attack, plan) for attack, plan in zip(scaled, plans, strict=True)), strict=True
    )
    result = SweepResult(
        name=bench.config.name,
        dataset=bench.dataset,
        images=len(bench.labels),
        attack=dataclasses.asdict(bench.attack),
        attack_outputs=bench.outputs,
        policy=bench.rule.name,
        thresholds=bench.rule.thresholds,
        epsilons=tuple(float(epsilon) for epsilon in epsilons),
        accuracies={name: tuple(column[name] for column in columns) for name in columns[0]},
        per_image_worst_case=survivors,
        split=bench.split,
        remaining=tuple(named.name for named in plans[0].attacks if named.on_survivors),
        warnings=trust.free_checks(bench, plans[0]),
        provenance={**bench.provenance(command), "seconds": round(time.monotonic() - started, 1)},
    )
    text = json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n"
    bench.keep(name, {".json": text, ".csv": result.to_csv(), ".md": result.to_markdown()})
    return result


def scaled_attack(attack, epsilon):
    """An `AttackConfig` like `attack` with another epsilon and a step size that grew with it.

    Raises:
      ConfigError: an epsilon that no ball has, or an attack whose own epsilon is 0, by which nothing can be scaled.
    """
    # WRM's epsilon weighs the loss, and is no radius.
    most = 1.0 if attack.norm == "linf" and attack.algorithm != "wrm" else float("inf")
    if not 0 <= epsilon <= most or epsilon == float("inf"):
        raise ConfigError(f"epsilons: expected numbers from 0 to {most:g}, got {epsilon!r}")
    if not attack.epsilon > 0:
        raise ConfigError("epsilons: step sizes grow with epsilon from the evaluation attack's, whose epsilon is 0")
    return dataclasses.replace(attack, epsilon=epsilon, step_size=attack.step_size * epsilon / attack.epsilon)


def _plan(bench, attack, attacks):
    plan = plan_attacks(attacks, attack, bench.net.exit_names, bench.net.num_classes)
    if not plan.attacks:
        raise ConfigError(f"attacks: expected one at least to sweep epsilon, got {attacks!r}")
    return plan


def _at_epsilon(bench, attack, plan):
    """Accuracy under each attack, and per-image worst case, with one attack configuration."""
    bench = dataclasses.replace(bench, attack=attack, folder=bench.folder / f"epsilon-{attack.epsilon:.8f}")
    unchanged = {named.name: bench.clean for named in plan.attacks} if attack.epsilon == 0 else None
    attacked = bench.run_attacks(plan.attacks, unchanged)
    survives = bench.right(bench.clean)
    for logits in attacked.logits.values():
        survives = survives & bench.right(logits)
    accuracies = {name: float(bench.right(logits).mean()) for name, logits in attacked.logits.items()}
    return accuracies, float(survives.mean())


def _rows(result):
    labels = {name: f"remaining after {name}" if name in result.remaining else name for name in result.accuracies}
    named = [(labels[name], accuracies) for name, accuracies in result.accuracies.items()]
    return [*named, ("per-image worst case", result.per_image_worst_case)]


def _cells(result):
    return [
        ["epsilon", *(f"{epsilon:.4g}" for epsilon in result.epsilons)],
        *([name, *(f"{100 * accuracy:.2f}" for accuracy in accuracies)] for name, accuracies in _rows(result)),
    ]


def _warnings(result):
    return [f"WARNING ({warning.check}): {warning.message}." for warning in result.warnings]


def _title(result):
    named = f"{result.name}: " if result.name else ""
    search = ", ".join(f"{key} {value}" for key, value in result.attack.items() if key not in ("epsilon", "step_size"))
    return (
        f"{named}accuracy (%) over epsilon, {images_in_words(result)}, exit rule {result.policy}; "
        f"attacks: {search}, step size {result.attack['step_size'] / result.attack['epsilon']:.3g} of epsilon"
    )
