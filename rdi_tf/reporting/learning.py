"""How a training went: the learning curve that a report shows, from the run's history.csv."""

import numpy as np

from rdi_tf.errors import DataError
from rdi_tf.reporting import plots
from rdi_tf.reporting.pages import Heading, Picture
from rdi_tf.training.history import History

# Column of history.csv: its label. Training accuracies are means over the iterations since the row before.
_LINES = {
    "clean_accuracy": "validation, clean",
    "robust_accuracy": "validation, clean and under every exit's attack",
    "clean_main": "training, main, clean",
    "adversarial_main": "training, main, training attack",
}


def learning_blocks(run):
    """A heading and the learning curve of a `RunFolder`; nothing without a history (imported weights have none).

    Raises:
      DataError: a history.csv that is something else.
    """
    rows = History(run.history_file).rows
    if not rows:
        return []
    attacked = run.config.defence.name != "standard"  # without a defence robust_accuracy repeats the clean one
    wanted = {name: label for name, label in _LINES.items() if attacked or name != "robust_accuracy"}
    try:
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        iterations, robust = columns["iteration"], columns["robust_accuracy"]
        best = int(robust.argmax())  # the first of equals, as training keeps it
        lines = {label: columns[name] for name, label in wanted.items() if name in columns}
        under_attack = f", {robust[best]:.1%} clean and under every exit's attack" if attacked else ""
        alt = (
            f"Lines of accuracy over {iterations[-1]:,.0f} iterations. On validation images at iteration "
            f"{iterations[best]:,.0f}, which was kept: {columns['clean_accuracy'][best]:.1%} clean{under_attack}."
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run.history_file}: expected a training's history, got {error}") from error
    caption = (
        "Accuracy as training went on. The star is the checkpoint that was kept, the most "
        f"{'robust' if attacked else 'accurate'} on validation images; thresholds there give every exit an equal share."
    )
    kept = (iterations[best], robust[best])
    return [Heading("Training"), Picture("learning", _figure(iterations, lines, kept), alt, caption)]


def _figure(iterations, lines, kept):
    """Accuracies (fractions, a line each) over iterations, a star at `kept` (iteration, accuracy): PNG bytes."""
    with plots.canvas(6.8, 4.0) as (figure, png):
        axes = figure.add_subplot()
        for number, (label, accuracies) in enumerate(lines.items()):
            style = {"color": plots.COLOURS[number], "marker": plots.MARKERS[number], "linestyle": plots.LINES[number]}
            axes.plot(iterations, 100 * accuracies, markersize=4, linewidth=1.4, label=label, **style)
        star = {"markersize": 14, "color": "white", "markeredgecolor": "black", "zorder": 3}
        axes.plot(kept[0], 100 * kept[1], "*", label="kept", **star)
        axes.set(xlabel="iterations", ylabel="accuracy, %", ylim=(0, 100))
        axes.grid(alpha=0.3)
        plots.legend_below(figure, axes.get_legend_handles_labels(), 2)
    return png.getvalue()
