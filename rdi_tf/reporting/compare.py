"""Several runs side by side: accuracy clean and attacked against cost (the paper's Figure 6), as a page."""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rdi_tf.compression.settings import REPORT
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.reported import reported_points
from rdi_tf.evaluation.run_results import kept_evaluations
from rdi_tf.evaluation.tables import attacks_in_words, images_in_words
from rdi_tf.reporting.compare_pages import blocks
from rdi_tf.reporting.deployments import DeployedRun, Deployments, attacked_dtype
from rdi_tf.reporting.differences import Differences, differences
from rdi_tf.reporting.kinds import Kind
from rdi_tf.reporting.report import ReportFiles, write_pages
from rdi_tf.runs import RunFolder, write_atomic


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison; accuracies are fractions.

    Attributes:
      name: of the run's folder.
      kind: its `Kind`.
      dataset: data set.
      evaluation: name of the evaluation that was taken.
      described: how it was evaluated, in words: images and attacks.
      policy: name of the exit rule under which that was; it is the network's own, as its thresholds are.
      images: number of test images.
      outdated: whether the run has another exit rule or other thresholds now.
      in_turns: whether attacks met only what others had left standing.
      clean_accuracy: TA.
      robust_accuracy: ATA under the attack that does most harm; what they left standing where attacks took turns.
      per_image_worst_case: share that is right clean and under every attack.
      paper_mflops, executed_macs: average cost under max-average, as the paper has it; on clean images without that.
      clean_executed_macs: average executed multiply-adds on clean images.
      zero_share: share of the weights that are zero, where compression counted them; None elsewhere.
      zeros_skipped_by: runtimes that save the multiply-adds of zeros; costs are lower by none of them.
      differences: its `rdi_tf.reporting.differences.Differences` from the first run; None for that one, and where the
        two were not evaluated in the same way on the same images.
    """

    name: str
    kind: Kind
    dataset: str
    evaluation: str
    described: str
    policy: str
    images: int
    outdated: bool
    in_turns: bool
    clean_accuracy: float
    robust_accuracy: float
    per_image_worst_case: float
    paper_mflops: float
    executed_macs: float
    clean_executed_macs: float
    zero_share: float | None = None
    zeros_skipped_by: tuple[str, ...] = ()
    differences: Differences | None = None

    def to_dict(self):
        """Plain values, the kind in words, too."""
        return {**asdict(self), "kind": {**asdict(self.kind), "text": self.kind.text}}


def compare_runs(run_dirs, output, with_reported=True, deployments_of=lambda folder: Deployments()):
    """Compare runs on the same data set.

    Args:
      run_dirs: folders of runs that were evaluated under attacks. Where all were evaluated in one same way, that
        evaluation counts, the most important if there are several; else of each the most important one
        (`rdi_tf.evaluation.run_results.kept_evaluations`).
      output: folder for compare.html, compare.md, compare.json and the pictures.
      with_reported: add the paper's networks on that data set.
      deployments_of: callable, a run's folder -> its `rdi_tf.reporting.deployments.Deployments`; without it, none.

    Returns:
      (list of `ComparedRun`, `rdi_tf.reporting.report.ReportFiles`).

    Raises:
      CheckpointError: no run, or no evaluation in it.
      ConfigError: no attacks in an evaluation, different data sets, or a bundle of another network than the run's.
      DataError: a file of results that cannot be read.
    """
    folders = [RunFolder.open(run_dir) for run_dir in run_dirs]
    chosen = _same_evaluations([_attacked(folder) for folder in folders])
    runs = _named([_compared(folder, kept) for folder, kept in zip(folders, chosen, strict=True)])
    runs = _held_against_the_first(runs, chosen)
    datasets = sorted({run.dataset for run in runs})
    if len(datasets) != 1:
        raise ConfigError(f"runs: expected runs on one data set, got {', '.join(datasets) or 'none'}")
    deployed = [
        _deployed(folder, run, kept.result, deployments_of(folder.path))
        for folder, run, kept in zip(folders, runs, chosen, strict=True)
    ]
    reported = reported_points(datasets[0]) if with_reported else []
    page = blocks(runs, reported, deployed)
    files = write_pages(Path(output), "compare", f"Runs on {datasets[0]} side by side", page)
    document = {
        "runs": [{**run.to_dict(), "deployments": one.to_dict()} for run, one in zip(runs, deployed, strict=True)],
        "reported": [asdict(point) for point in reported],
    }
    write_atomic(Path(output) / "compare.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    return runs, ReportFiles(files.html, files.markdown, files.pictures)


def _attacked(run):
    """Evaluations of a run under attacks, the most important first."""
    found = [kept for kept in kept_evaluations(run) if kept.result.attacks]
    if not found:
        raise ConfigError(f"{run.path}: expected an evaluation under attacks, got none")
    return found


def _same_evaluations(candidates):
    """Of each run the evaluation that all have in the same way, no weaker than its first; else each run's first."""
    ways = [[_way(kept.result) for kept in found if _standing(kept) == _standing(found[0])] for found in candidates]
    common = next((way for way in ways[0] if all(way in others for others in ways)), None) if ways else None
    places = [0 if common is None else way.index(common) for way in ways]
    return [found[place] for found, place in zip(candidates, places, strict=True)]


def _standing(kept):
    return kept.outdated, kept.own_attack


def _way(result):
    """How a network was evaluated, the same for networks with other exits."""
    return _described(result), frozenset(re.sub(r"branch_\d+", "main", attack.name) for attack in result.attacks)


def _described(result):
    aim = "; attacks on exits aim at their own logits, not at what the rule calls classes from"
    return images_in_words(result) + attacks_in_words(result) + (aim if result.misses_rule else "")


def _compared(run, kept):
    result = kept.result
    cost = next((attack for attack in result.attacks if attack.name == "max_average"), result.clean)
    zeros = _zeros(run)
    return ComparedRun(
        name=run.path.resolve().name,
        kind=Kind.of(run.config, len(result.costs.exit_names)),
        dataset=result.dataset,
        evaluation=kept.name,
        described=_described(result),
        policy=result.policy,
        images=result.images,
        outdated=kept.outdated,
        in_turns=result.worst_case is None,
        clean_accuracy=result.clean.accuracy,
        robust_accuracy=result.per_image_worst_case if result.worst_case is None else result.worst_case,
        per_image_worst_case=result.per_image_worst_case,
        paper_mflops=cost.average_paper_mflops,
        executed_macs=cost.average_executed_macs,
        clean_executed_macs=result.clean.average_executed_macs,
        zero_share=zeros.get("share"),
        zeros_skipped_by=zeros.get("skipped_by", ()),
    )


def _held_against_the_first(runs, chosen):
    """The runs with their differences from the first, where attacks of the same aims met the same images."""
    first, kept_first = runs[0], chosen[0]
    return [
        replace(run, differences=differences(kept, first.name, kept_first))
        if run is not first and _way(kept.result) == _way(kept_first.result)
        else run
        for run, kept in zip(runs, chosen, strict=True)
    ]


def _zeros(run):
    """What compression.json says of zeros; nothing for a run that was not compressed."""
    file = run.path / REPORT
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["sparsity"]
        return {"share": float(found["share"]), "skipped_by": tuple(map(str, found["skipped_by"]))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read as what a compression found: {error}") from error


def _deployed(folder, run, result, held):
    for one in held.bundles:
        if one.executed_macs != result.costs.executed_macs:
            raise ConfigError(
                f"{folder.path}: its {one.dtype} bundle is of another network than its evaluation {run.evaluation}: "
                "export it again"
            )
    return DeployedRun(run.name, attacked_dtype(run.kind.method), result.policy, tuple(result.thresholds), held)


def _named(runs):
    names = [run.name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"runs: expected folders of different names, got {twice!r} twice")
    return runs
