"""The report of a run: a self-contained HTML page and a Markdown page with its tables and pictures."""

import json
from dataclasses import dataclass
from pathlib import Path

from rdi_tf.calibration import load_run
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation import tables
from rdi_tf.evaluation.reported import reported_beside
from rdi_tf.evaluation.run_results import kept_evaluations
from rdi_tf.policies import decide, get_policy
from rdi_tf.reporting import plots
from rdi_tf.reporting.budgets import budget_blocks
from rdi_tf.reporting.deployments import attacked_dtype
from rdi_tf.reporting.latency_tables import headline
from rdi_tf.reporting.latency_tables import notes as latency_notes
from rdi_tf.reporting.latency_tables import tables as latency_tables
from rdi_tf.reporting.learning import learning_blocks
from rdi_tf.reporting.pages import Heading, Notes, Paragraph, Picture, TableBlock, to_html, to_markdown
from rdi_tf.reporting.samples import load_samples
from rdi_tf.runs import RunFolder, write_atomic
from rdi_tf.training.record import read_records

EXAMPLES = 5  # a picture wider than this cannot be read on a phone


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written.

    Attributes:
      html: report.html, which holds its pictures.
      markdown: report.md.
      pictures: the PNG files that report.md shows, in its folder.
    """

    html: Path
    markdown: Path
    pictures: tuple[Path, ...]


def write_report(run_dir, output=None, latencies=(), data_dir=None, bundles=None):
    """Write the report of a run from what lies in its folder.

    Args:
      run_dir: folder of a run that was evaluated.
      output: folder of the report; None for RUN/report. Files of the same names are replaced.
      latencies: `rdi_tf.latency.LatencyResult`s of bundles of this run, the newest last; accuracy is drawn against the
        milliseconds of the last in the arithmetic that was attacked, or else of the last.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default. The validation images are needed: thresholds
        that move are found on them.
      bundles: the run's `rdi_tf.reporting.deployments.Deployment`s, with which the page says what a latency is not of:
        what was evaluated; None to say nothing of that.

    Returns:
      `ReportFiles`.

    Raises:
      CheckpointError: no run, no evaluation in it, or a training.json that is something else.
      ConfigError: latency of another network.
      DataError: results or a data set that cannot be read.
    """
    run = RunFolder.open(run_dir)
    evaluations = kept_evaluations(run)
    net = load_run(run)
    # What an evaluation without attacks says stands in those with attacks, too.
    evaluations = [kept for kept in evaluations if kept.result.attacks] or evaluations
    main = evaluations[0]
    for latency in latencies:
        _refuse_other_network(latency, main.result.costs)
    blocks = [
        *_head_blocks(net.config, main.result, _calibration(net, main), read_records(run)),
        *(block for kept in evaluations for block in _table_blocks(net.config, kept)),
        *_exit_blocks(main.result),
        *budget_blocks(net, main, _of_attacked_arithmetic(latencies, net.config), data_dir),
        *_example_blocks(run, net, main.result),
        *learning_blocks(run),
        *_latency_blocks(latencies, [_what_it_is_not_of(one, bundles, main.result) for one in latencies]),
    ]
    title = f"{main.result.name or run.path.resolve().name}: robust dynamic inference"
    return write_pages(Path(output or run.path / "report"), "report", title, blocks)


def _refuse_other_network(latency, costs):
    there = [(exit.name, exit.executed_macs) for exit in latency.exits]
    if there != list(zip(costs.exit_names, costs.executed_macs, strict=True)):
        raise ConfigError(
            f"benchmark: expected one of the evaluated network, exits {', '.join(costs.exit_names)} with its "
            f"multiply-adds, got {latency.name!r}"
        )


def _what_it_is_not_of(latency, bundles, result):
    """Where a latency is not of what was evaluated, or nobody knows, a sentence in a list."""
    if bundles is None:
        return []
    bundle = next((one for one in bundles if one.sha256 == latency.bundle_sha256), None)
    if bundle is None:
        return ["Of no bundle in RUN/export: whether it has this run's weights and thresholds was not checked."]
    if (bundle.policy, bundle.thresholds) != (result.policy, result.thresholds):
        return [
            f"export/{bundle.folder} has another exit rule or other thresholds than what was evaluated: export again."
        ]
    return []


def _of_attacked_arithmetic(latencies, config):
    """The newest of latencies in the arithmetic that was attacked, else the newest; None without any."""
    dtype = attacked_dtype(config.compression.method)
    return next((one for one in reversed(latencies) if one.dtype == dtype), latencies[-1] if latencies else None)


def write_pages(folder, name, title, blocks):
    """Write blocks as NAME.html, NAME.md and the pictures beside it; returns `ReportFiles`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [block for block in blocks if isinstance(block, Picture)]
    for picture in pictures:
        write_atomic(folder / f"{picture.name}.png", picture.png)
    files = ReportFiles(
        folder / f"{name}.html",
        folder / f"{name}.md",
        tuple(folder / f"{picture.name}.png" for picture in pictures),
    )
    write_atomic(files.html, to_html(title, blocks))
    write_atomic(files.markdown, to_markdown(title, blocks))
    return files


def _calibration(net, kept):
    """How the thresholds of an evaluation were found, to follow them; nothing where that is not known."""
    known = net.calibrated_on is not None and not kept.outdated and kept.result.thresholds
    return f", calibrated by {net.config.policy.calibration.replace('_', ' ')}" if known else ""


def _head_blocks(config, result, calibration, starts):
    clean = result.clean
    found = f"{clean.accuracy:.2%} of {result.images:,} clean test images of {result.dataset} are called right"
    if result.worst_case is not None:
        label = tables.attack_label(result.worst_case_attack)
        search = next(one.search for one in result.attacks if one.name == result.worst_case_attack)
        found += f", {result.worst_case:.2%} under the attack that does most harm ({label}; {_searched(search)})"
    if result.attacks:
        found += f", {result.per_image_worst_case:.2%} clean and under every attack"
    cost = (
        f"A clean image takes {clean.average_executed_macs:,.0f} multiply-adds on average, "
        f"{clean.executed_saving:.1%} less than the plain backbone's {result.costs.backbone_executed_macs:,.0f}."
    )
    model = config.model
    shape = "x".join(map(str, model.input_shape))
    backbone = model.backbone
    if config.compression.method != "none":
        backbone += f" ({config.compression.method.replace('_', ' ')})"
    facts = (
        f"Network: {backbone}, {model.branch} branches, {len(result.costs.exit_names)} exits, {shape} images.",
        f"Defence: {config.defence.name.replace('_', ' ')}. Exit rule: {result.policy}, thresholds "
        f"{', '.join(f'{value:.4g}' for value in result.thresholds) or 'none'}{calibration}.",
    )
    return [Paragraph(f"{found}. {cost}"), Notes((*facts, *_training_notes(starts)))]


def _searched(attack):
    """How an attack searched, in words: "PGD, 20 steps, epsilon 0.03137, linf"."""
    steps = "" if attack["algorithm"] == "fgsm" else f", {attack['steps']} steps"
    return f"{attack['algorithm'].upper()}{steps}, epsilon {attack['epsilon']:.4g}, {attack['norm']}"


def _training_notes(starts):
    """What a run was trained with: a note for each start on another machine or with other versions than before."""
    notes, before = [], None
    for start in starts:
        used = [start.get(key) for key in ("processor", "platform", "replicas", "versions")]
        if used != before:
            source = _provenance_notes(start)[-1:]
            notes += [f"Trained from iteration {start.get('from_iteration')} with {text}" for text in source]
        before = used
    return notes


def _table_blocks(config, kept):
    result = kept.result
    source, reported = reported_beside(result, config)
    header, *rows = tables.cells(result, reported)
    notes = list(tables.notes(result))
    if reported:
        where = f"Reported: {source} of Hu et al. (ICLR 2020), {config.defence.name.replace('_', ' ')} column."
        how = f"This run: {config.model.branch} branches, {config.training.iterations:,} iterations"
        notes.insert(0, f"{where} {how}, evaluated on {result.images:,} images.")
    if kept.outdated:
        notes.insert(0, "The run has another exit rule or other thresholds now: evaluate it again.")
    notes += _provenance_notes(result.provenance)
    return [
        Heading(f"Accuracy under attack: {kept.name}"),
        Paragraph(tables.title(result)),
        TableBlock("", tuple(header), tuple(map(tuple, rows))),
        Notes(tuple(notes)),
    ]


def _provenance_notes(source):
    machine = ", ".join(str(source[key]) for key in ("processor", "platform", "date") if key in source)
    versions = source.get("versions")
    versions = (
        ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    )
    notes = [f"Command: {source['command']}; seed {source.get('seed')}."] if source.get("command") else []
    return [*notes, f"{machine}; {versions}."] if machine else notes


def _exit_blocks(result):
    shares = ", ".join(
        f"{name} {share:.1%}" for name, share in zip(result.costs.exit_names, result.clean.exit_shares, strict=True)
    )
    picture = Picture(
        "exits",
        plots.exits_figure(result),
        f"Bars of where images leave, clean and under each attack. Clean: {shares}.",
        "Where images leave, clean and under each attack (the paper's Figure 2).",
    )
    return [Heading("Exits taken"), picture]


def _example_blocks(run, net, result):
    samples = load_samples(run, EXAMPLES)
    heading = Heading("Examples")
    if samples is None:
        return [heading, Paragraph(f"None are kept; `rdi-tf evaluate {run.path.name} --save-images 100` keeps some.")]
    rows = {}
    for version, images in samples.images.items():
        decision = decide(get_policy(result.policy), net(images).numpy(), result.thresholds)
        rows[version] = [
            plots.Sample(image, result.costs.exit_names[exit_index], samples.class_names[called], bool(called == label))
            for image, exit_index, called, label in zip(
                images, decision.exits, decision.predictions, samples.labels, strict=True
            )
        ]
    truth = [samples.class_names[label] for label in samples.labels]
    told = "; ".join(
        f"{version}: " + ", ".join(f"{sample.exit_name}, {sample.called}" for sample in row)
        for version, row in rows.items()
    )
    caption = (
        f"The first {len(truth)} test images, clean and attacked ({json.dumps(samples.attack)}): the exit that each "
        "left at and the class it was called there. Wrong ones have a thick broken frame."
    )
    return [heading, Picture("examples", plots.examples_figure(rows, truth), f"Examples. {told}.", caption)]


def _latency_blocks(latencies, remarks):
    if not latencies:
        how = "`rdi-tf benchmark` keeps a result as RUN/latency.json (--output), --bundle measures a bundle now."
        return [Heading("Latency"), Paragraph(f"Not measured: {how}")]
    names = ["latency", *(f"latency-{number}" for number in range(2, len(latencies) + 1))]
    blocks = [_one_latency(*found) for found in zip(names, latencies, remarks, strict=True)]
    return [Heading("Latency"), *(block for part in blocks for block in part)]


def _one_latency(name, latency, remarks):
    found = latency.summary()
    alt = (
        f"Bars of milliseconds: mix {found['mix_ms']:.3f}, predicted {found['predicted_mix_ms']:.3f}, unsplit "
        f"{found['unsplit_ms']:.3f}."
    )
    caption = "Above: what each file's time goes into. Below: how long an answer takes."
    return [
        Paragraph(headline(latency)),
        Picture(name, plots.latency_figure(latency), alt, caption),
        *(TableBlock(table.title, table.header, table.rows) for table in latency_tables(latency)),
        Notes((*remarks, *latency_notes(latency))),
    ]
