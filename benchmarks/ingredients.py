"""Ingredients of robust multi-exit training, weighed against each other at the same number of multiply-adds.

    python benchmarks/ingredients.py [--preset cifar10-resnet38-fast] [--set KEY=VALUE ...] [--iterations 300]
        [--seeds 0 1] [--images 500] [--output FOLDER] [--only NAME ...]

Every recipe is the base recipe with a thing or two changed; branches count from 1. The base gets its iterations,
every other as many as cost the same, counted from the layer graph (`rdi_tf.training.costs`), and the preset's
schedule shrunk to them, so that it ends where it should. Each is judged by what its exit rule calls right on
validation images, clean and under the suite `strict` made against that rule's own outputs: recipes are chosen here,
so test images stay out of it. Means over the seeds, with lowest and highest, are printed as Markdown; every single run
is kept in FOLDER/ingredients.json and says where and when it was judged, since runs may come from several calls.

Short runs tell the beginning of training. What is there already is not trained again, and what was killed goes on;
a FOLDER whose rows were made with other options is refused.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from short_runs import configuration, keep_row, kept_row, shortened

from rdi_tf.config import Config
from rdi_tf.evaluation.run import evaluate
from rdi_tf.network import build
from rdi_tf.provenance import provenance
from rdi_tf.runs import write_atomic
from rdi_tf.text_tables import markdown
from rdi_tf.training.costs import iteration_costs
from rdi_tf.training.run import train

_AVERAGES = ["defence.outputs=weighted_running_average"]
BASE = "base: average, PGD-2, adversarial images alone, light branches, weighted averages in the rule"
PLAIN = [
    "defence.name=average",
    "defence.attack.steps=2",
    "step:0.8",
    "defence.clean_share=0.0",
    "policy.name=weighted_running_average",
]
RECIPES = {
    BASE: [],
    "the backbone alone": ["branches:", "policy.calibration=equal_share"],
    "branch 2 alone": ["branches:2"],
    "branches 1 and 2": ["branches:1,2"],
    "branches 2 and 3": ["branches:2,3"],
    "paper branches": ["model.branch=paper"],
    "PGD-5": ["defence.attack.steps=5", "step:0.4"],
    "N-FGSM": ["defence.attack.algorithm=n_fgsm"],
    "free, 4 replays": ["defence.name=free", "defence.attack.steps=4", "step:1", "defence.clean_share=0.5"],
    "max-average": ["defence.name=max_average"],
    "worst exit": ["defence.name=worst_exit"],
    "random exit": ["defence.name=random_exit"],
    "rerouted": ["defence.name=rerouted"],
    "entropy in the rule": ["policy.name=entropy"],
    "weighted averages in rule, loss and attack": _AVERAGES,
    "weighted averages in rule, loss and attack, main": [*_AVERAGES, "defence.name=main_branch"],
    "branch 2 alone, weighted averages in rule, loss and attack": [*_AVERAGES, "branches:2"],
    "branch 2 alone, weighted averages in rule, loss and attack, main": [
        *_AVERAGES,
        "defence.name=main_branch",
        "branches:2",
    ],
    "weighted averages in rule, loss and attack, random exit": [*_AVERAGES, "defence.name=random_exit"],
    "weighted averages in rule, loss and attack, rerouted": [*_AVERAGES, "defence.name=rerouted"],
    "half clean images": ["defence.clean_share=0.5"],
    "TRADES": ["defence.trades=6.0", "defence.attack.loss=divergence", "defence.clean_share=0.5"],
    "distillation from main": ["defence.distillation=1.0"],
    "weight perturbation": ["defence.weight_perturbation=0.005"],
    "label smoothing": ["training.label_smoothing=0.1"],
    "no weight decay": ["training.weight_decay=0.0"],
    "no weight averaging": ["training.ema_decay=0.0"],
    "thresholds from attacked images, too": ["policy.adversarial=true"],
}
FIGURES = ("clean_accuracy", "per_image_worst_case", "executed_saving")


def cost(config):
    """Multiply-adds of an iteration for each image of its batch."""
    return iteration_costs(build(config), config.defence).total


def run_folder(name, seed, options):
    """Folder of one recipe's run from one seed; its row's file stands beside it."""
    return options.output / "".join(c if c.isalnum() else "-" for c in f"{name}-seed-{seed}")


def known(name, seed, options):
    """The row that is there already, or None; one of other options ends the script."""
    return kept_row(run_folder(name, seed, options).with_suffix(".json"), _made_with(name, options))


def _made_with(name, options):
    length = {"iterations": options.iterations, "images": options.images}
    return {"preset": options.preset, "set": options.settings, **length, "recipe": RECIPES[name]}


def measure(name, seed, options):
    """Train one recipe from one seed and judge it: a row."""
    row = known(name, seed, options)
    if row is not None:
        return row
    folder = run_folder(name, seed, options)
    preset = Config.load(options.preset).with_settings([*options.settings, f"training.seed={seed}"])
    base, config = (configuration(preset, [*PLAIN, *RECIPES[recipe]]) for recipe in (BASE, name))
    iterations = max(1, round(options.iterations * cost(base) / cost(config)))
    run = train(shortened(config, iterations), folder, progress=False)
    found = evaluate(run.path, "strict", split="validation", limit=options.images, checks=False)
    row = {
        "recipe": name,
        "seed": seed,
        "iterations": iterations,
        "clean_accuracy": found.clean.accuracy,
        "per_image_worst_case": found.per_image_worst_case,
        "executed_saving": found.clean.executed_saving,
        "settings": RECIPES[name],
        **{key: found.provenance[key] for key in ("processor", "date")},
    }
    keep_row(folder.with_suffix(".json"), _made_with(name, options), row)
    return row


def table(rows):
    """Rows as a Markdown table, in percent, a line for each recipe, the most robust first."""
    recipes = {}
    for row in rows:
        recipes.setdefault(row["recipe"], []).append(row)
    means = {
        name: [statistics.mean(row[figure] for row in runs) for figure in FIGURES] for name, runs in recipes.items()
    }
    lines = []
    for name in sorted(recipes, key=lambda name: -means[name][1]):
        runs = recipes[name]
        figures = map(_with_range, ([row[figure] for row in runs] for figure in FIGURES))
        lines.append((name, str(runs[0]["iterations"]), str(len(runs)), *figures))
    return markdown(("recipe", "iterations", "seeds", "clean", "per-image worst case", "multiply-adds saved"), lines)


def _with_range(values):
    percent = [100 * value for value in values]
    among = f" ({min(percent):.1f} to {max(percent):.1f})" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.1f}{among}"


def parsed(arguments=None):
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cifar10-resnet38-fast")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("runs/ingredients"))
    parser.add_argument("--only", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    return parser.parse_args(arguments)


def main():
    """Train, attack, print."""
    options = parsed()
    options.output.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for seed in options.seeds for name in options.only]
    for run in runs:  # rows of other options are refused before any time goes into new ones
        known(*run, options)
    rows = [measure(*run, options) for run in runs]
    found = {
        "what": f"{options.preset}, {options.iterations} iterations of the base, {options.images} validation images",
        "settings": options.settings,
        "rows": rows,
        "provenance": provenance(sys.argv, options.seeds[0]),
    }
    write_atomic(options.output / "ingredients.json", json.dumps(found, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
