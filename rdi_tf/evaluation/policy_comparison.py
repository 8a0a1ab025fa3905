"""Exit rules side by side on one network: accuracy, robustness and cost of each, attacked by attacks that know it."""

import csv
import io
import json
from dataclasses import dataclass

from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.results import EvaluationResult
from rdi_tf.evaluation.run import evaluate_bench, evaluation_name, in_file_name, in_one_text
from rdi_tf.evaluation.suites import depends_on_rule, plan_attacks
from rdi_tf.evaluation.tables import images_in_words
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.policies import POLICIES
from rdi_tf.text_tables import aligned, markdown

FORMAT = 1
COLUMNS = (
    "exit rule",
    "clean accuracy",
    "worst attack",
    "per-image worst case",
    "executed MACs, clean",
    "executed saving, clean",
    "paper MFlops, clean",
)


@dataclass(frozen=True)
class PolicyComparison:
    """Evaluations of one network that differ in the exit rule alone.

    Attributes:
      results: one `rdi_tf.evaluation.results.EvaluationResult` for each rule.
    """

    results: tuple[EvaluationResult, ...]

    def to_dict(self):
        """Plain values for JSON."""
        return {"format": FORMAT, "policies": [json.loads(result.to_json()) for result in self.results]}

    def to_text(self):
        """The table for a terminal, columns aligned, accuracies in percent."""
        table = aligned(COLUMNS, [_cells(result) for result in self.results])
        return "\n".join([_title(self), "", table, *self._warnings()]) + "\n"

    def to_markdown(self):
        """The table in Markdown."""
        table = markdown(COLUMNS, [_cells(result) for result in self.results])
        return f"{_title(self)}\n\n{table}\n" + "".join(f"{line}\n" for line in self._warnings())

    def to_csv(self):
        """The table as CSV, six decimals; accuracies and savings in percent."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for result in self.results:
            figures = ("" if figure is None else round(figure, 6) for figure in _figures(result))
            writer.writerow([result.policy, *figures])
        return text.getvalue()

    def _warnings(self):
        lines = [
            f"WARNING ({result.policy}, {warning.check}): {warning.message}."
            for result in self.results
            for warning in result.warnings
        ]
        return ["", *lines] if lines else []


def compare_policies(run_dir, policies="all", attacks="paper", *, checks=True, reuse=False, command="", **options):
    """Evaluate a run's network under several exit rules.

    The run's own rule keeps its thresholds; every other is calibrated on the validation images the way that the run's
    configuration says. Attacks that do not depend on the rule run once.

    Args:
      run_dir: a run folder with a model.
      policies: "all", or names of exit rules: a list, or one text with commas between them.
      attacks, checks, reuse, command: as `rdi_tf.evaluation.run.evaluate`'s.
      **options: fields of `rdi_tf.evaluation.options.BenchOptions`, but for policy.

    Returns:
      `PolicyComparison`; also written to RUN/evaluation as JSON, CSV and Markdown.

    Raises:
      ConfigError: an unknown rule or attack.
      CheckpointError, DataError: as `evaluate`'s.
    """
    policies, attacks = in_one_text(policies), in_one_text(attacks)
    names = tuple(POLICIES) if policies == "all" else tuple(name.strip() for name in policies.split(","))
    if options.get("policy") is not None:
        raise ConfigError("policy and policies: expected one of the two, got both")
    bench = Workbench.open(run_dir, **options)
    listed = [] if names == tuple(POLICIES) else [in_file_name(",".join(names))]
    name = "-".join(["policies", *listed, evaluation_name(bench, attacks)])
    bench = bench.apart(name)
    bench.agree(names, attacks, checks, reuse)
    results, shared = [], {}
    for with_rule in bench.with_policies(names, options.get("data_dir")):
        known = shared.get(with_rule.aim, {})
        result, attacked = evaluate_bench(with_rule, attacks, checks, reuse, command, known)
        results.append(result)
        plan = plan_attacks(attacks, bench.attack, bench.net.exit_names, bench.net.num_classes)
        free = [a for a in plan.attacks if not a.on_survivors and not depends_on_rule(a.form, bench.net.exit_names)]
        shared[with_rule.aim] = {attack.name: attacked.logits[attack.name] for attack in free}
    found = PolicyComparison(tuple(results))
    text = json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"
    bench.keep(name, {".json": text, ".csv": found.to_csv(), ".md": found.to_markdown()})
    return found


def _figures(result):
    """The numbers of a rule's row, in the order of COLUMNS after the first; None where there is none."""
    clean = result.clean
    percent = (clean.accuracy, result.worst_case, result.per_image_worst_case)
    return (
        *(None if share is None else 100 * share for share in percent),
        clean.average_executed_macs,
        100 * clean.executed_saving,
        clean.average_paper_mflops,
    )


def _cells(result):
    shown = zip(_figures(result), COLUMNS[1:], strict=True)
    return (result.policy, *("" if figure is None else _in_words(figure, column) for figure, column in shown))


def _in_words(figure, column):
    return f"{figure:,.0f}" if "MACs" in column else f"{figure:.2f}"


def _title(comparison):
    result = comparison.results[0]
    named = f"{result.name}: " if result.name else ""
    missing = any(result.misses_rule for result in comparison.results)
    aim = ", attacks on exits aim at their own logits, not at what averaging rules call classes from" if missing else ""
    search = ", ".join(f"{key} {value}" for key, value in result.attack.items())
    attacks = f"; {len(result.attacks)} attacks{aim}: {search}" if result.attacks else ""
    return f"{named}exit rules on {images_in_words(result)}, in percent{attacks}"
