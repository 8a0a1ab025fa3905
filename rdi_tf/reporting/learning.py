"""How a training went: the learning curve that a report shows, from the run's history.csv."""

import numpy as np

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
    history = History(run.history_file)
    rows, best = history.rows, history.best
    if not rows:
        return []
    attacked = run.config.defence.name != "standard"  # without a defence robust_accuracy repeats the clean one
    wanted = {name: label for name, label in _LINES.items() if attacked or name != "robust_accuracy"}
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    lines = {label: columns[name] for name, label in wanted.items() if name in columns}
    under_attack = f", {best['robust_accuracy']:.1%} clean and under every exit's attack" if attacked else ""
    alt = (
        f"Lines of accuracy over {rows[-1]['iteration']:,} iterations. On validation images at iteration "
        f"{best['iteration']:,}, which was kept: {best['clean_accuracy']:.1%} clean{under_attack}."
    )
    caption = (
        "Accuracy as training went on. The star is the checkpoint that was kept, the most "
        f"{'robust' if attacked else 'accurate'} on validation images; thresholds there give every exit an equal share."
    )
    curve = _figure(columns["iteration"], lines, (best["iteration"], best["robust_accuracy"]))
    return [Heading("Training"), Picture("learning", curve, alt, caption)]


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
