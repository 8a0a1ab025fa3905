"""Networks in pictures of accuracy over cost (the paper's Figure 6), as the bytes of a PNG file."""

import math
from dataclasses import dataclass

from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from rdi_tf.reporting.kinds import Mark
from rdi_tf.reporting.plots import canvas, legend_below

CLEAN = "TA: accuracy on clean images, %"
ROBUST = "ATA: accuracy under the worst attack, %"
_SMALLEST, _LARGEST = 40, 300  # areas of markers, in square points
# Where a number may stand beside its marker, best first, in points: right above, right below, left above, left below.
_PLACES = ((9, 6), (9, -14), (-16, 6), (-16, -14), (16, -4), (-22, -4), (-3, 14), (-3, -22))


@dataclass(frozen=True)
class CostPoint:
    """A network in a picture of accuracy over cost.

    Attributes:
      number: what it is called in the picture.
      name: what it is, in the legend.
      cost: average cost of an image, in the axis' unit.
      clean_accuracy, robust_accuracy: percent.
      mark: its `Mark`.
    """

    number: int
    name: str
    cost: float
    clean_accuracy: float
    robust_accuracy: float
    mark: Mark


def cost_figure(points, unit):
    """Accuracy clean and attacked against cost, a panel for each, areas of the markers growing with cost: PNG bytes.

    Args:
      points: `CostPoint`s; numbers stand in the picture, names in the legend.
      unit: label of the horizontal axis.
    """
    largest = max(point.cost for point in points)
    with canvas(9, 4.2 + 0.22 * len(points)) as (figure, png):
        panels = figure.subplots(1, 2)
        for axes, label, accuracies in zip(
            panels,
            (CLEAN, ROBUST),
            ([point.clean_accuracy for point in points], [point.robust_accuracy for point in points]),
            strict=True,
        ):
            axes.set(xlabel=unit, ylabel=label, xlim=(0, 1.12 * largest), ylim=_limits(accuracies))
            axes.grid(alpha=0.3)
            for point, accuracy in zip(points, accuracies, strict=True):
                area = _SMALLEST + (_LARGEST - _SMALLEST) * point.cost / largest
                axes.add_line(_marker(point, [point.cost], [accuracy], math.sqrt(area)))
        handles = [_marker(point, [], [], 9) for point in points]
        legend_below(figure, (handles, [f"{point.number}  {point.name}" for point in points]), 1)
        figure.draw_without_rendering()  # the layout is settled: what lies where is known
        for axes, robust in zip(panels, (False, True), strict=True):
            places = [(point.cost, point.robust_accuracy if robust else point.clean_accuracy) for point in points]
            _label(axes, places, [str(point.number) for point in points])
    return png.getvalue()


def _limits(accuracies):
    low, high = min(accuracies), max(accuracies)
    margin = max(0.18 * (high - low), 0.2)
    return low - margin, high + margin


def _marker(point, x, y, size):
    mark = point.mark
    return Line2D(
        x,
        y,
        linestyle="",
        marker=mark.shape,
        fillstyle=mark.fill,
        color=mark.colour,
        markerfacecolor=to_rgba(mark.colour, 0.55),  # what lies under it shows through
        markerfacecoloralt=to_rgba("white", 0.55),
        markeredgecolor="black" if mark.fill != "none" else mark.colour,
        markeredgewidth=0.9 if mark.fill != "none" else 1.5,
        markersize=size,
    )


def _label(axes, positions, texts):
    """Put each point's text where it is clear of other markers and texts, the first place that is if there is one."""
    scale = axes.figure.dpi / 72
    taken = [tuple(axes.transData.transform(position)) for position in positions]
    markers = list(taken)
    for index, (x, y) in enumerate(markers):
        places = [(x + scale * (dx + 3), y + scale * (dy + 4)) for dx, dy in _PLACES]
        others = [other for number, other in enumerate(taken) if number != index]
        room = [min((math.dist(place, other) for other in others), default=math.inf) for place in places]
        room = [space if axes.bbox.contains(*place) else 0 for space, place in zip(room, places, strict=True)]
        best = next((i for i, space in enumerate(room) if space > 14 * scale), room.index(max(room)))
        taken.append(places[best])
        axes.annotate(texts[index], positions[index], _PLACES[best], textcoords="offset points", fontsize=9, zorder=5)
