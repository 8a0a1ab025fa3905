"""The table of an evaluation, in the paper's rows and more: one list of rows, three renderings. No TensorFlow.

Rows that the paper has carry its names, so that reported figures can stand beside the measured ones.
"""

import csv
import io
from dataclasses import dataclass

from rdi_tf.text_tables import aligned, markdown

FORMATS = {"%": "{:.2f}", "MFlops (paper)": "{:.2f}", "MACs": "{:,.0f}", "of 1": "{:.3f}"}
FORM_LABELS = {"main": "Main Branch", "max_average": "Max-Average"}
SEARCH_LABELS = {"square": "Square"}


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
      label: what it shows; the paper's own name where the paper has the row.
      values: the measured number, or one for each exit; empty where only the paper has a figure.
      unit: a key of FORMATS; percentages are out of 100 here, as they are printed.
      reported: the reported figure in the same unit, or None.
    """

    label: str
    values: tuple[float, ...]
    unit: str
    reported: float | None = None


def rows(result, reported=None):
    """The table's rows.

    Args:
      result: a `rdi_tf.evaluation.results.EvaluationResult`.
      reported: dict from the paper's row names ("TA", "ATA (Branch 1)", …, in percent; "Average MFlops", "Computation
        Saving") to its figures. Those without a measured counterpart get rows of their own, at the end.

    Returns:
      List of `Row`.
    """
    reported = dict(reported or {})
    table = []
    for label, values, unit in (*_accuracies(result), *_costs(result), *_exits(result)):
        scale = 100 if unit == "%" else 1
        table.append(Row(label, tuple(scale * value for value in values), unit, reported.pop(label, None)))
    for label, figure in reported.items():
        table.append(Row(label, (), "MFlops (paper)" if "MFlops" in label else "%", figure))
    return table


def to_markdown(result, reported=None):
    """The table in Markdown, with notes on how to read it; arguments as `rows`."""
    header, *body = cells(result, reported)
    return f"{title(result)}\n\n{markdown(header, body)}\n\n" + "".join(f"- {note}\n" for note in notes(result))


def to_text(result, reported=None):
    """The table for a terminal, columns aligned; arguments as `rows`."""
    header, *body = cells(result, reported)
    return "\n".join([title(result), "", aligned(header, body), "", *notes(result)]) + "\n"


def to_csv(result, reported=None):
    """The table as CSV, six decimals, one line for each number (for each exit if there are many); arguments: `rows`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "exit", "measured", "unit", "reported"])
    for row in rows(result, reported):
        exits = result.costs.exit_names if len(row.values) > 1 else ("",)
        for name, value in zip(exits, row.values or ("",), strict=True):
            writer.writerow(
                [row.label, name, value and round(value, 6), row.unit, "" if row.reported is None else row.reported]
            )
    return text.getvalue()


def _accuracies(result):
    yield "TA", (result.clean.accuracy,), "%"
    for attack in result.attacks:
        named = (
            f"ATA ({attack_label(attack.name)})"
            if attack.kind == "attack"
            else f"Remaining after {attack_label(attack.name)}"
        )
        yield named, (attack.accuracy,), "%"
    if result.attacks:
        if result.worst_case is not None:
            yield "ATA (Worst-Case)", (result.worst_case,), "%"
        yield "Per-image worst case", (result.per_image_worst_case,), "%"


def _costs(result):
    """The paper's two rows are those under max-average; beside them executed work, slowdown attacks, clean images."""
    slowdowns = [attack for attack in result.attacks if attack.name.rpartition("/")[2] == "slowdown"]
    for attack in result.attacks:
        algorithm, _, form = attack.name.rpartition("/")
        if form == "max_average":
            yield from _costs_of(attack, f" ({algorithm.upper()})" if algorithm else "")
        elif attack in slowdowns:
            yield from _costs_of(attack, f" ({attack_label(attack.name)})")
            yield f"Efficacy ({attack_label(attack.name)})", (attack.efficacy,), "of 1"
    yield from _costs_of(result.clean, ", clean")
    if slowdowns:
        yield "Efficacy, clean", (result.clean.efficacy,), "of 1"


def _costs_of(outcome, suffix):
    yield f"Average MFlops{suffix}", (outcome.average_paper_mflops,), "MFlops (paper)"
    yield f"Computation Saving{suffix}", (outcome.paper_saving,), "%"
    yield f"Executed MACs{suffix}", (outcome.average_executed_macs,), "MACs"
    yield f"Executed saving{suffix}", (outcome.executed_saving,), "%"


def _exits(result):
    yield "Accuracy of each exit, clean", result.clean.per_exit_accuracy, "%"
    yield "Exit shares, clean", result.clean.exit_shares, "%"
    for attack in result.attacks:
        # After turns, images lie where the attack that broke them left them: no exit shares of one attack.
        if attack.kind == "remaining":
            continue
        yield f"Exit shares ({attack_label(attack.name)})", attack.exit_shares, "%"


def attack_label(name):
    """ "branch_1" as the paper has it, "Branch 1"; "fgsm/branch_1" as "FGSM, Branch 1"."""
    algorithm, _, form = name.rpartition("/")
    label = FORM_LABELS.get(form, form.replace("_", " ").title())
    return f"{SEARCH_LABELS.get(algorithm, algorithm.upper())}, {label}" if algorithm else label


def cells(result, reported=None):
    """Header and rows as lists of strings, all of the same length."""
    lines = [["", "measured", "reported", "unit"]]
    for row in rows(result, reported):
        show = FORMATS[row.unit].format
        figure = "" if row.reported is None else show(row.reported)
        lines.append([row.label, " / ".join(map(show, row.values)), figure, row.unit])
    return lines if reported else [[label, measured, unit] for label, measured, _, unit in lines]


def _in_turns(result):
    return any(attack.kind == "remaining" for attack in result.attacks)


def title(result):
    """One line over a table: what was evaluated, on how many images, with which rule and which attacks."""
    named = f"{result.name}: " if result.name else ""
    return f"{named}{images_in_words(result)}, exit rule {result.policy}{attacks_in_words(result)}"


def attacks_in_words(result):
    """As "; strict attacks: algorithm pgd, epsilon 0.3", to follow other words; empty without attacks."""
    search = ", ".join(f"{key} {value}" for key, value in result.attack.items())
    suite = f"{result.suite} " if result.suite not in ("", "none", "paper") else ""
    return f"; {suite}attacks: {search}" if search else ""


def images_in_words(result):
    """As "1,000 validation images of mnist" (of test images the split is not said); any result with these fields."""
    kind = "" if result.split == "test" else f"{result.split} "
    return f"{result.images:,} {kind}images" + (f" of {result.dataset}" if result.dataset else "")


def notes(result):
    """What the rows mean where their names do not say it, and the reasons to distrust them."""
    return [
        *_attack_notes(result),
        *_cost_notes(result),
        f"Exits in order: {', '.join(result.costs.exit_names)}.",
        *([f"Trust checks made: {', '.join(result.checks)}."] if result.checks else []),
        *(f"WARNING ({warning.check}): {warning.message}." for warning in result.warnings),
    ]


def _cost_notes(result):
    if any(attack.name == "max_average" for attack in result.attacks):
        yield "Average MFlops and Computation Saving without further words are those under the max-average attack."
    yield (
        "Average MFlops and Computation Saving are in the paper's accounting; executed MACs count all that runs. "
        "Savings are against the plain backbone."
    )


def _attack_notes(result):
    if not result.attacks:
        return []
    lines = ["Per-image worst case is the share of images called right clean and under every one of these attacks."]
    if _in_turns(result):
        lines.insert(
            0,
            "ATA rows are accuracies over all images. Remaining after … rows are not: that attack met only the images "
            "that were still called right, and the figure is the share of all images that are right after it.",
        )
    else:
        lines.insert(
            0,
            f"ATA (Worst-Case) is the lowest of the {len(result.attacks)} accuracies under attack "
            f"({attack_label(result.worst_case_attack)}).",
        )
    if any("/" in attack.name for attack in result.attacks):
        lines.append("Before a comma in an attack's name stands how it searched, in place of what is said above.")
    if result.misses_rule:
        lines.append(
            "Attacks on exits aim at each exit's own logits, not at the averages that the exit rule calls classes "
            "from: weaker attacks."
        )
    if any(attack.name.rpartition("/")[2] == "slowdown" for attack in result.attacks):
        lines.append(
            "Efficacy is the area under the curve of the images that have left over the multiply-adds spent (DeepSloth,"
            " ICLR 2021); lower is slower. The slowdown attack keeps images from leaving; accuracy is not its aim."
        )
    return lines
