"""Several runs side by side: accuracy clean and attacked against cost (the paper's Figure 6), as a page."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.reported import reported_points
from rdi_tf.evaluation.run_results import kept_evaluations
from rdi_tf.evaluation.tables import title
from rdi_tf.reporting import plots
from rdi_tf.reporting.pages import Heading, Notes, Paragraph, Picture, TableBlock
from rdi_tf.reporting.report import ReportFiles, write_pages
from rdi_tf.runs import RunFolder, write_atomic

HEADER = ("", "TA", "ATA, worst attack", "per-image worst", "MFlops (paper)", "executed MACs", "… clean", "images")
ROBUST = "ATA: accuracy under the worst attack, %"


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison; accuracies are fractions.

    Attributes:
      name: of the run's folder.
      dataset: data set.
      evaluation: name of the evaluation that was taken.
      described: how it was evaluated, in words.
      images: number of test images.
      clean_accuracy: TA.
      robust_accuracy: ATA under the attack that does most harm.
      per_image_worst_case: share that is right clean and under every attack.
      paper_mflops, executed_macs: average cost under max-average, as the paper has it; on clean images without that.
      clean_executed_macs: average executed multiply-adds on clean images.
    """

    name: str
    dataset: str
    evaluation: str
    described: str
    images: int
    clean_accuracy: float
    robust_accuracy: float
    per_image_worst_case: float
    paper_mflops: float
    executed_macs: float
    clean_executed_macs: float


def compare_runs(run_dirs, output, with_reported=True):
    """Compare runs on the same data set.

    Args:
      run_dirs: folders of runs that were evaluated under attacks; of each, the evaluation with most images counts.
      output: folder for compare.html, compare.md, compare.json and the pictures.
      with_reported: add the paper's networks on that data set.

    Returns:
      (list of `ComparedRun`, `rdi_tf.reporting.report.ReportFiles`).

    Raises:
      CheckpointError: no run, or no evaluation in it.
      ConfigError: no attacks in an evaluation, or different data sets.
    """
    runs = _named([_compared(RunFolder.open(run_dir)) for run_dir in run_dirs])
    datasets = sorted({run.dataset for run in runs})
    if len(datasets) != 1:
        raise ConfigError(f"runs: expected runs on one data set, got {', '.join(datasets) or 'none'}")
    reported = reported_points(datasets[0]) if with_reported else []
    blocks = [
        Heading("Accuracy against cost"),
        *_pictures(runs, reported),
        TableBlock("", HEADER, tuple([*map(_row, runs), *map(_reported_row, reported)])),
        *_remarks(runs, reported),
    ]
    files = write_pages(Path(output), "compare", f"Runs on {datasets[0]} side by side", blocks)
    document = {"runs": [asdict(run) for run in runs], "reported": [asdict(point) for point in reported]}
    write_atomic(Path(output) / "compare.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    return runs, ReportFiles(files.html, files.markdown, files.pictures)


def _compared(run):
    kept = next((kept for kept in kept_evaluations(run) if kept.result.worst_case is not None), None)
    if kept is None:
        raise ConfigError(f"{run.path}: expected an evaluation under attacks that met all images, got none")
    result = kept.result
    cost = next((attack for attack in result.attacks if attack.name == "max_average"), result.clean)
    return ComparedRun(
        name=run.path.resolve().name,
        dataset=result.dataset,
        evaluation=kept.name,
        described=title(result).partition(": ")[2],
        images=result.images,
        clean_accuracy=result.clean.accuracy,
        robust_accuracy=result.worst_case,
        per_image_worst_case=result.per_image_worst_case,
        paper_mflops=cost.average_paper_mflops,
        executed_macs=cost.average_executed_macs,
        clean_executed_macs=result.clean.average_executed_macs,
    )


def _named(runs):
    names = [run.name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"runs: expected folders of different names, got {twice!r} twice")
    return runs


def _pictures(runs, reported):
    measured = [(run.name, 100 * run.clean_accuracy, 100 * run.robust_accuracy, run) for run in runs]
    paper = [plots.CostPoint(name, run.paper_mflops, clean, robust) for name, clean, robust, run in measured]
    paper += [
        plots.CostPoint(point.network, point.paper_mflops, point.clean_accuracy, point.robust_accuracy, reported=True)
        for point in reported
    ]
    executed = [
        plots.CostPoint(name, run.executed_macs / plots.MACS_UNIT, clean, robust)
        for name, clean, robust, run in measured
    ]
    told = "; ".join(
        f"{point.name}: {point.clean_accuracy:.2f}, {point.robust_accuracy:.2f} at {point.cost:.2f}" for point in paper
    )
    unit, executed_unit = "average MFlops (paper)", "executed MACs per image, millions"
    return [
        Picture(
            "cost-paper",
            plots.cost_figure(paper, unit, ROBUST),
            f"Accuracy clean and attacked against MFlops. {told}.",
            "In the paper's accounting (its Figure 6). Hollow: reported by the paper. Areas grow with cost.",
        ),
        Picture(
            "cost-executed",
            plots.cost_figure(executed, executed_unit, ROBUST),
            "The same against all multiply-adds that run.",
            "In multiply-adds that really run, which the paper does not report.",
        ),
    ]


def _row(run):
    return (
        run.name,
        f"{100 * run.clean_accuracy:.2f}",
        f"{100 * run.robust_accuracy:.2f}",
        f"{100 * run.per_image_worst_case:.2f}",
        f"{run.paper_mflops:.2f}",
        f"{run.executed_macs:,.0f}",
        f"{run.clean_executed_macs:,.0f}",
        f"{run.images:,}",
    )


def _reported_row(point):
    figures = (point.clean_accuracy, point.robust_accuracy)
    name = f"{point.network} ({point.source}, reported)"
    return (name, *(f"{figure:.2f}" for figure in figures), "", f"{point.paper_mflops:.2f}", "", "", "")


def _remarks(runs, reported):
    lines = [f"{run.name}: {run.evaluation}: {run.described}." for run in runs]
    if len({run.described for run in runs}) > 1:
        lines.insert(0, "The runs were not all evaluated in the same way: hold them against each other with care.")
    lines.append("Costs are those under the max-average attack where it was run, as the paper has them.")
    if reported:
        lines.append("Reported figures: Hu et al. (ICLR 2020), of the max-average defence where there are several.")
    return [Paragraph("Accuracies in percent."), Notes(tuple(lines))]
