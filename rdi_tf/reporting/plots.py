"""Pictures of results, each as the bytes of a PNG file. Needs matplotlib, no display.

Colours are Okabe and Ito's, which colour-blind readers tell apart; exits in order go from light to dark. All that a
colour says a hatch, marker, line style or label says too, so that pictures can be read in black and white.
"""

import io
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rdi_tf.evaluation.tables import attack_label

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "oooo")
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # names of classes and runs may have dollar signs
}
MACS_UNIT = 1e6


@dataclass(frozen=True)
class Sample:
    """An image as a picture shows it.

    Attributes:
      image: float array (height, width, channels) in [0, 1].
      exit_name: where it left.
      called: name of the class that it was called.
      right: whether that is its class.
    """

    image: np.ndarray
    exit_name: str
    called: str
    right: bool


@dataclass(frozen=True)
class Operating:
    """A point that is marked beside the curves: the thresholds that the run has.

    Attributes:
      panel: title of the panel it belongs to.
      cost: in the axis' unit.
      accuracy: fraction.
    """

    panel: str
    cost: float
    accuracy: float


def exits_figure(result):
    """Where images left, clean and under each attack, a bar for each (the paper's Figure 2): PNG bytes.

    Args:
      result: a `rdi_tf.evaluation.results.EvaluationResult`.
    """
    outcomes = [result.clean, *(attack for attack in result.attacks if attack.kind == "attack")]
    names = ["clean", *(attack_label(outcome.name) for outcome in outcomes[1:])]
    shares = np.array([outcome.exit_shares for outcome in outcomes])
    with canvas(6.8, 1.5 + 0.45 * len(outcomes)) as (figure, png):
        axes = figure.add_subplot()
        left = np.zeros(len(outcomes))
        for index, (exit_name, style) in enumerate(
            zip(result.costs.exit_names, exit_styles(shares.shape[1]), strict=True)
        ):
            axes.barh(names, shares[:, index], left=left, label=exit_name, edgecolor="black", linewidth=0.6, **style)
            for row, share in enumerate(shares[:, index]):
                if share >= 0.09:
                    _boxed(axes, left[row] + share / 2, row, f"{share:.0%}")
            left += shares[:, index]
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="share of the images that leave at each exit")
        axes.xaxis.set_major_formatter("{x:.0%}")
        legend_below(figure, axes.get_legend_handles_labels(), 4)
    return png.getvalue()


def budget_figure(panels, exit_costs, unit, operating=()):
    """Accuracy against cost as the thresholds move, a panel for each set of images, a line for each exit rule.

    Args:
      panels: dict from a panel's title to its `rdi_tf.reporting.curves.Curve`s.
      exit_costs: what leaving at each exit costs, in `unit`.
      unit: label of the horizontal axis.
      operating: `Operating` points.

    Returns:
      PNG bytes.
    """
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with canvas(3.6 * columns, 3.0 * rows + 1.1) as (figure, png):
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, curves) in zip(grid, panels.items(), strict=False):
            for number, curve in enumerate(curves):
                axes.plot(
                    curve.costs(exit_costs),
                    100 * curve.accuracy,
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    linestyle=LINES[number % len(LINES)],
                    markersize=4,
                    markevery=(number % 3, 3),
                    linewidth=1.4,
                    label=curve.policy.replace("_", " "),
                )
            for point in operating:
                if point.panel == title:
                    axes.plot(
                        point.cost,
                        100 * point.accuracy,
                        "*",
                        markersize=14,
                        color="white",
                        markeredgecolor="black",
                        label="this run's thresholds",
                    )
            axes.set(title=title, xlabel=unit, ylabel="accuracy, %")
            axes.grid(alpha=0.3)
        for axes in grid[len(panels) :]:
            axes.remove()
        legend_below(figure, grid[0].get_legend_handles_labels(), 3)
    return png.getvalue()


def examples_figure(rows, labels):
    """Images in several versions, with where each left and what it was called: PNG bytes.

    Args:
      rows: dict from a version's name to its `Sample`s, the same images in each.
      labels: the true class of each image, strings.
    """
    columns = len(labels)
    with canvas(1.5 * columns + 0.4, 2.1 * len(rows) + 0.3) as (figure, png):
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for row, (version, samples) in enumerate(rows.items()):
            for column, (axes, sample) in enumerate(zip(grid[row], samples, strict=True)):
                image = sample.image[..., 0] if sample.image.shape[-1] == 1 else sample.image
                axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set(
                        visible=True, linewidth=0.8 if sample.right else 3, linestyle="-" if sample.right else "--"
                    )
                    spine.set_color("black" if sample.right else COLOURS[1])
                verdict = "" if sample.right else " (wrong)"
                axes.set_xlabel(f"{sample.exit_name}\n{sample.called}{verdict}", fontsize=9)
                if column == 0:
                    axes.set_ylabel(version, fontsize=11)
                if row == 0:
                    axes.set_title(f"true: {labels[column]}", fontsize=9)
    return png.getvalue()


def latency_figure(latency):
    """Latency bars: what each stage's time goes into, and how long each exit, the mix and the unsplit network take.

    Args:
      latency: a `rdi_tf.latency.LatencyResult`.

    Returns:
      PNG bytes.
    """
    count = len(latency.stages)
    with canvas(7, 3.0 + 0.66 * count) as (figure, png):
        stages, exits = figure.subplots(2, 1, height_ratios=[count + 1, count + 3])
        names = [f"stage {number + 1} ({stage.name})" for number, stage in enumerate(latency.stages)]
        left = np.zeros(count + 1)
        steps = (("hand-over in", "feed", 4), ("computation", "invoke", 5), ("hand-over out", "fetch", 2))
        for number, (label, step, colour) in enumerate(steps):
            times = np.array([getattr(stage, step).typical for stage in latency.stages] + [0.0])
            if step == "invoke":
                times[-1] = latency.unsplit_invoke.typical
            style = {"color": COLOURS[colour], "hatch": HATCHES[(1, 0, 4)[number]]}
            stages.barh([*names, "unsplit"], times, left=left, label=label, edgecolor="black", linewidth=0.6, **style)
            left += times
        _value_labels(stages, left, [f"{ms:.3f}" for ms in left])
        stages.invert_yaxis()
        stages.set(xlabel="typical milliseconds of each file")
        stages.legend(frameon=False, fontsize=9)
        _exit_bars(exits, latency)
    return png.getvalue()


def _exit_bars(axes, latency):
    bars = [(f"left at {exit.name}", exit.latency.typical, exit.latency.p95) for exit in latency.exits]
    bars += [("mix, predicted", latency.predicted_ms, None)]
    bars += [("mix, measured", latency.mix.latency.typical, latency.mix.latency.p95)]
    bars += [("unsplit", latency.unsplit.latency.typical, latency.unsplit.latency.p95)]
    exits = len(latency.exits)
    styles = [*exit_styles(exits), {"color": "white", "hatch": "////"}, {"color": COLOURS[2]}, {"color": "#999999"}]
    widths = np.array([typical for _, typical, _ in bars])
    for (name, typical, _), style in zip(bars, styles, strict=True):
        axes.barh(name, typical, edgecolor="black", linewidth=0.6, **style)
    _value_labels(axes, widths, [_with_p95(typical, p95) for _, typical, p95 in bars])
    axes.invert_yaxis()
    axes.set(xlabel="typical milliseconds from the call to the answer (p95 in brackets)")


def _with_p95(typical, p95):
    return f"{typical:.3f}" if p95 is None else f"{typical:.3f} ({p95:.3f})"


@contextmanager
def canvas(width, height):
    """Context manager: a figure of so many inches, and a buffer that holds its PNG afterwards."""
    png = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, png
        # Without metadata the same result gives the same bytes.
        figure.savefig(png, format="png", dpi=130, facecolor="white", metadata={"Software": None})


def exit_styles(count):
    """Fill and hatch for exits in order: light to dark."""
    greys = np.linspace(1.0, 0.0, max(count, 2))
    light, dark = np.array([0.94, 0.97, 1.0]), np.array([0.0, 0.27, 0.50])
    return [
        {"color": tuple(dark + grey * (light - dark)), "hatch": HATCHES[index % len(HATCHES)]}
        for index, grey in enumerate(greys[:count])
    ]


def _boxed(axes, x, y, text):
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
    axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def _value_labels(axes, widths, texts):
    for row, (width, text) in enumerate(zip(widths, texts, strict=True)):
        axes.text(width + 0.01 * max(widths), row, text, va="center", fontsize=8)
    axes.set_xlim(0, 1.22 * max(widths))


def legend_below(figure, handles_and_labels, columns):
    """A legend under all panels: (handles, labels), each label once, in so many columns."""
    handles, labels = handles_and_labels
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
