"""The page of a comparison: pictures, tables and remarks. No TensorFlow."""

from rdi_tf.reporting import cost_plots, plots
from rdi_tf.reporting.deployments import all_conditions, condition_letters, deployment_blocks
from rdi_tf.reporting.kinds import MARKS_EXPLAINED, reported_mark
from rdi_tf.reporting.pages import Heading, Notes, Paragraph, Picture, TableBlock

HEADER = (
    "",
    "kind",
    "TA",
    "ATA, worst attack",
    "per-image worst",
    "MFlops (paper)",
    "executed MACs",
    "… clean",
    "zero weights",
    "images",
)

DIFFERENCES = ("TA", "per-image worst case", "executed MACs saved")


def blocks(runs, reported, deployed):
    """The blocks of a comparison's page.

    Args:
      runs: `rdi_tf.reporting.compare.ComparedRun`s.
      reported: `rdi_tf.evaluation.reported.ReportedPoint`s of the same data set.
      deployed: a `rdi_tf.reporting.deployments.DeployedRun` for each run.

    Returns:
      List of blocks (`rdi_tf.reporting.pages`).
    """
    found = [
        Heading("Accuracy against cost"),
        Paragraph(MARKS_EXPLAINED),
        *_pictures(runs, reported),
        TableBlock("", HEADER, tuple([*map(_row, runs), *map(_reported_row, reported)])),
        Paragraph("Accuracies in percent."),
        Notes(tuple(_remarks(runs, reported))),
        *_difference_blocks(runs),
    ]
    if any(one.held.bundles for one in deployed):
        found += [
            Heading("Kilobytes and milliseconds"),
            *_deployed_pictures(runs, deployed),
            *deployment_blocks(deployed),
        ]
    return found


def difference_rows(runs):
    """Of each `ComparedRun` that can be held against the first, image by image: its cells under DIFFERENCES."""
    return [
        (run.name, str(found.clean_accuracy), str(found.per_image_worst_case), f"{found.executed_saving:.1%}")
        for run in runs
        if (found := run.differences) is not None
    ]


def _difference_blocks(runs):
    rows = difference_rows(runs)
    if not rows:
        return []
    return [
        Heading(f"Differences from {runs[0].name}, image by image"),
        TableBlock("", ("", *DIFFERENCES), tuple(rows)),
        Paragraph(
            "Percentage points and their standard errors over the images; what another training of the same networks "
            "would change is not in them. Saved: of that run's multiply-adds, on clean images."
        ),
    ]


def _pictures(runs, reported):
    paper = [_point(run, number, run.paper_mflops) for number, run in enumerate(runs, start=1)]
    paper += [
        cost_plots.CostPoint(
            number=number,
            name=f"{point.network} (reported)",
            cost=point.paper_mflops,
            clean_accuracy=point.clean_accuracy,
            robust_accuracy=point.robust_accuracy,
            mark=reported_mark(point.network),
        )
        for number, point in enumerate(reported, start=len(runs) + 1)
    ]
    executed = [_point(run, number, run.executed_macs / plots.MACS_UNIT) for number, run in enumerate(runs, start=1)]
    return [
        _picture("cost-paper", paper, "average MFlops (paper)", "In the paper's accounting (its Figure 6)."),
        _picture(
            "cost-executed",
            executed,
            "executed MACs per image, millions",
            "In multiply-adds that really run, which the paper does not report.",
        ),
    ]


def _deployed_pictures(runs, deployed):
    """Accuracy over kilobytes, and over milliseconds under each of the conditions that they were measured under."""
    evaluated = [
        (number, run, one.evaluated)
        for number, (run, one) in enumerate(zip(runs, deployed, strict=True), start=1)
        if one.evaluated is not None
    ]
    if not evaluated:
        return []
    points = [_point(run, number, files.file_bytes / 1000) for number, run, files in evaluated]
    shown = (
        "Files in the arithmetic that was attacked (int8 after training for it, float32 otherwise) and under its "
        "thresholds."
    )
    pictures = [_picture("cost-kilobytes", points, "kilobytes of stage files", shown)]
    found = all_conditions(deployed)
    for letter, conditions in zip(condition_letters(len(found)), found, strict=True):
        points = [
            _point(run, number, latency.mix.latency.typical)
            for number, run, files in evaluated
            if (latency := files.under(conditions)) is not None
        ]
        if points:
            name = f"cost-milliseconds-{letter.lower()}"
            unit = f"typical milliseconds per image ({letter})"
            pictures.append(_picture(name, points, unit, f"{letter}: {conditions.text}."))
    return pictures


def _point(run, number, cost):
    return cost_plots.CostPoint(
        number=number,
        name=f"{run.name}: {run.kind.text}",
        cost=cost,
        clean_accuracy=100 * run.clean_accuracy,
        robust_accuracy=100 * run.robust_accuracy,
        mark=run.kind.mark,
    )


def _picture(name, points, unit, caption):
    told = "; ".join(
        f"{point.name}: {point.clean_accuracy:.2f}, {point.robust_accuracy:.2f} at {point.cost:.4g}" for point in points
    )
    alt = f"Accuracy clean and attacked against {unit}. {told}."
    return Picture(name, cost_plots.cost_figure(points, unit), alt, caption)


def _row(run):
    return (
        run.name,
        run.kind.text,
        f"{100 * run.clean_accuracy:.2f}",
        f"{100 * run.robust_accuracy:.2f}",
        f"{100 * run.per_image_worst_case:.2f}",
        f"{run.paper_mflops:.2f}",
        f"{run.executed_macs:,.0f}",
        f"{run.clean_executed_macs:,.0f}",
        "" if run.zero_share is None else f"{run.zero_share:.1%}",
        f"{run.images:,}",
    )


def _reported_row(point):
    figures = (f"{figure:.2f}" for figure in (point.clean_accuracy, point.robust_accuracy))
    return (point.network, f"{point.source}, reported", *figures, "", f"{point.paper_mflops:.2f}", "", "", "", "")


def cautions(runs):
    """What to bear in mind when `ComparedRun`s are held against each other, list of sentences."""
    lines = []
    if len({run.described for run in runs}) > 1:
        lines.append("The runs were not all evaluated in the same way: hold them against each other with care.")
    if outdated := [run.name for run in runs if run.outdated]:
        names = ", ".join(outdated)
        lines.append(f"{names}: evaluated under another exit rule or other thresholds than now; evaluate again.")
    if in_turns := [run.name for run in runs if run.in_turns]:
        names = ", ".join(in_turns)
        lines.append(f"{names}: attacks took turns there, so ATA is what they left together: the per-image worst case.")
    return lines


def _remarks(runs, reported):
    same = len({run.described for run in runs}) == 1
    lines = [f"{run.name}: {run.evaluation}, exit rule {run.policy}: {run.described}." for run in runs]
    lines = [*cautions(runs), *([f"All were evaluated on {runs[0].described}."] if same else lines)]
    lines.append("Costs are those under the max-average attack where it was run, as the paper has them.")
    if any(run.zero_share for run in runs):
        skipping = sorted({name for run in runs for name in run.zeros_skipped_by})
        what = f"{', '.join(skipping)} may skip them" if skipping else "no runtime that is exported to skips them"
        lines.append(f"Weights that are zero are counted in every cost as any other: {what}.")
    if reported:
        lines.append(
            "Reported figures: Hu et al. (ICLR 2020), of the max-average defence where there are several; "
            "under PGD, at epsilon 0.3 on MNIST and 8/255 on CIFAR-10."
        )
    if any(point.network == "ATMC" for point in reported):
        lines.append(
            "ATMC (Gui et al., NeurIPS 2019) prunes and quantises while it defends. How its MFlops count zeros, the "
            "table does not say."
        )
    return lines
