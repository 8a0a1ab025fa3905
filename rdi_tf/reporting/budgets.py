"""Accuracy against cost as the thresholds move: the part of a report that shows it for every exit rule."""

import dataclasses

import numpy as np

from rdi_tf.calibration import CalibrationImages
from rdi_tf.evaluation import tables
from rdi_tf.policies import POLICIES
from rdi_tf.reporting import plots
from rdi_tf.reporting.curves import budget_curve
from rdi_tf.reporting.deployments import Conditions
from rdi_tf.reporting.pages import Heading, Paragraph, Picture

STRICT = "clean and under every attack"
MACS = "executed MACs per image, millions"
MILLISECONDS = "typical milliseconds per image"


def budget_blocks(net, evaluation, latency, data_dir):
    """A heading and a picture for each kind of cost: multiply-adds, and milliseconds where they were measured.

    Args:
      net: the run's `rdi_tf.network.RDINet`.
      evaluation: a `rdi_tf.evaluation.run_results.KeptEvaluation` of it, with its logits.
      latency: `rdi_tf.latency.LatencyResult` of its bundle; None for none.
      data_dir: TFDS directory of the validation images, on which thresholds are found; None for TFDS' own.

    Returns:
      List of blocks of `rdi_tf.reporting.pages`.

    Raises:
      DataError: logits or images that cannot be read.
    """
    result = evaluation.result
    plain = dataclasses.replace(net.config, policy=dataclasses.replace(net.config.policy, adversarial=False))
    panels, points = _panels(evaluation, CalibrationImages.of(net, plain, data_dir).logits)
    axes = [("macs", MACS, np.array(result.costs.executed_macs) / plots.MACS_UNIT)]
    if latency is not None:
        axes.append(("milliseconds", MILLISECONDS, np.array([exit.latency.typical for exit in latency.exits])))
    blocks = [
        Heading("Accuracy against cost as the thresholds move"),
        Paragraph(
            "Each point: thresholds with which fixed shares of the clean validation images leave at each exit (a "
            "geometric series), applied to the test images. The attacks are those that were kept with the evaluation; "
            "they do not follow the thresholds. The star is the run's own point. The panel of every attack has "
            "the cost of clean images."
        ),
    ]
    for name, unit, exit_costs in axes:
        stars = [
            plots.Operating(panel, float(np.dot(shares, exit_costs)), accuracy)
            for panel, (shares, accuracy) in points.items()
        ]
        png = plots.budget_figure(panels, exit_costs, unit, stars)
        alt = f"Accuracy of {len(POLICIES)} exit rules against {unit}; panels: {', '.join(panels)}."
        where = "" if unit != MILLISECONDS else f" Bundle: {latency.dtype}; {Conditions.of(latency).text}."
        caption = f"Accuracy against {unit}, a line for each exit rule.{where}"
        blocks.append(Picture(f"budget-{name}", png, alt, caption))
    if latency is None:
        blocks.append(Paragraph("Against milliseconds: with a benchmark."))
    return blocks


def _panels(evaluation, calibration):
    """Two dictionaries by a panel's title: its `Curve`s, and (exit shares, accuracy) of the run's own thresholds."""
    result = evaluation.result
    shown = {"clean": result.clean} | {attack.name: attack for attack in _shown_attacks(result)}
    together = _attacks_together(result)
    logits, labels = evaluation.logits({"clean", *shown, *together})

    def curves(name, attacked=()):
        return [budget_curve(policy, calibration, logits[name], labels, attacked) for policy in POLICIES.values()]

    panels = {_panel(name): curves(name) for name in shown}
    points = {_panel(name): (outcome.exit_shares, outcome.accuracy) for name, outcome in shown.items()}
    if together:
        panels[STRICT] = curves("clean", [logits[name] for name in together])
        points[STRICT] = (result.clean.exit_shares, result.per_image_worst_case)
    return panels, points


def _shown_attacks(result):
    """Max-average, the most harmful, and a slowdown attack, as far as there are such."""
    full = {attack.name: attack for attack in result.attacks if attack.kind == "attack"}
    wanted = dict.fromkeys(("max_average", result.worst_case_attack or "average", "slowdown"))
    return [full[name] for name in wanted if name in full]


def _attacks_together(result):
    """Names of the attacks that all images met, whose survivors are the per-image worst case; none for other suites."""
    if result.worst_case is None:
        return ()
    return tuple(attack.name for attack in result.attacks if attack.kind == "attack")


def _panel(name):
    return "clean" if name == "clean" else f"{tables.attack_label(name)} attack"
