"""Which way to train buys the most robustness in the same time: short runs, each given the same minutes, then attacked.

    python benchmarks/robustness_per_minute.py [--preset mnist-smallcnn-fast] [--minutes 5] [--test-images 1000]
        [--output FOLDER] [--only NAME ...]

Every way gets as many iterations as its own measured seconds per iteration allow, and the preset's schedule shrunk to
them, so that it ends where it should. Then all of them are attacked alike: the preset's evaluation attack on every
exit, thresholds at equal shares of the clean images; robust is what is right under every one of these attacks. The
table is printed as Markdown and kept with everything else in FOLDER/robustness_per_minute.json. Needs an idle machine
for figures worth keeping, and the data set. A run that is there already is not trained again; a FOLDER whose rows were
made with other options is refused.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

from short_runs import configuration, keep_row, kept_row, shortened

from rdi_tf._keras import keras
from rdi_tf.config import Config
from rdi_tf.data.batches import as_arrays, load_dataset, training_batches
from rdi_tf.network import build, load
from rdi_tf.precision import precision
from rdi_tf.provenance import provenance
from rdi_tf.runs import write_atomic
from rdi_tf.text_tables import markdown
from rdi_tf.training.optimisation import sgd
from rdi_tf.training.run import train
from rdi_tf.training.validation import Validator

import tensorflow as tf  # isort: skip  # after rdi_tf._keras

_PLAIN = ["defence.attack.algorithm=pgd", "defence.attack.random_start=true"]
_AVERAGE = ["defence.name=average"]
# Larger steps for fewer of them: epsilon is reached in any case. 1.25 epsilon is that of "fast" training (Wong 2020).
WAYS = {
    "max-average, PGD-5": ["defence.name=max_average", "defence.attack.steps=5", "step:0.4"],
    "max-average, PGD-2": ["defence.name=max_average", "defence.attack.steps=2", "step:0.8"],
    "max-average, N-FGSM": ["defence.name=max_average", "defence.attack.algorithm=n_fgsm"],
    "average, PGD-10": [*_AVERAGE, "defence.attack.steps=10", "step:0.25"],
    "average, PGD-5": [*_AVERAGE, "defence.attack.steps=5", "step:0.4"],
    "average, PGD-2": [*_AVERAGE, "defence.attack.steps=2", "step:0.8"],
    "average, one step, random start": [*_AVERAGE, "defence.attack.steps=1", "step:1.25"],
    "average, N-FGSM": [*_AVERAGE, "defence.attack.algorithm=n_fgsm"],
    "average, FGSM": [*_AVERAGE, "defence.attack.algorithm=fgsm"],
    "average, FGSM, GradAlign 0.2": [*_AVERAGE, "defence.attack.algorithm=fgsm", "defence.alignment=0.2"],
    "average, N-FGSM, no weight average": [*_AVERAGE, "defence.attack.algorithm=n_fgsm", "training.ema_decay=0.0"],
    "average, N-FGSM, label smoothing": [*_AVERAGE, "defence.attack.algorithm=n_fgsm", "training.label_smoothing=0.1"],
    "free, 4 replays": ["defence.name=free", "defence.attack.steps=4", "step:1"],
    "free, 8 replays": ["defence.name=free", "defence.attack.steps=8", "step:1"],
    "standard": ["defence.name=standard"],
}


def seconds_per_iteration(config, count=5):
    """Seconds that an iteration takes, the first left out, over the real batches."""
    keras.utils.set_random_seed(0)
    with precision(config.training.precision):
        net = build(config)
        net.compile(sgd(config.training), defence=config.defence, exit_weights=config.training.exit_weights)
        model = config.model
        stream = iter(training_batches(config.data, config.training, model.input_shape, model.num_classes))
        step = tf.function(net.train_step, autograph=False)
        float(step(next(stream))["loss"])
        started = time.perf_counter()
        for _ in range(count):
            float(step(next(stream))["loss"])
    return (time.perf_counter() - started) / count


def run_folder(name, arguments):
    """Folder of one way's run; its row's file stands beside it."""
    return arguments.output / "".join(c if c.isalnum() else "-" for c in name)


def known(name, arguments):
    """The row that is there already, or None; one of other options ends the script."""
    return kept_row(run_folder(name, arguments).with_suffix(".json"), _made_with(name, arguments))


def _made_with(name, arguments):
    length = {"minutes": arguments.minutes, "test-images": arguments.test_images}
    return {"preset": arguments.preset, **length, "way": WAYS[name]}


def measure(name, arguments, images, labels):
    """Train one way for its minutes and attack it: a row of the table."""
    row = known(name, arguments)
    if row is not None:
        return row
    config, folder = configuration(Config.load(arguments.preset), [*_PLAIN, *WAYS[name]]), run_folder(name, arguments)
    seconds = seconds_per_iteration(config)
    config = shortened(config, max(1, round(60 * arguments.minutes / seconds)))
    shutil.rmtree(folder, ignore_errors=True)  # of a way that was killed: minutes are what is measured
    started = time.perf_counter()
    run = train(config, folder, progress=False)
    wall = time.perf_counter() - started
    # Thresholds of its own, as in a validation: every exit takes an equal share of the clean images.
    attacked = dataclasses.replace(config, defence=Config().defence)
    figures = Validator(load(run.model_file), attacked, images, labels).figures()
    row = {
        "way": name,
        "seconds_per_iteration": round(seconds, 4),
        "iterations": config.training.iterations,
        "wall_minutes": round(wall / 60, 2),
        **{key: round(value, 4) for key, value in figures.items()},
    }
    keep_row(folder.with_suffix(".json"), _made_with(name, arguments), row)
    return row


def table(rows):
    """Rows as a Markdown table, the most robust first."""
    ordered = sorted(rows, key=lambda row: -row["robust_accuracy"])
    return markdown(list(rows[0]), [[str(cell) for cell in row.values()] for row in ordered])


def main():
    """Train, attack, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mnist-smallcnn-fast")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("runs/robustness_per_minute"))
    parser.add_argument("--only", nargs="*", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:  # rows of other options are refused before any time goes into new ones
        known(name, arguments)
    config = Config.load(arguments.preset)
    test = load_dataset(config.data, "test", config.model.input_shape)
    images, labels = as_arrays(test, limit=arguments.test_images)
    rows = [measure(name, arguments, images, labels) for name in arguments.only]
    found = {
        "what": f"{arguments.preset}, {arguments.minutes} minutes each, {len(labels)} test images",
        "rows": rows,
        "provenance": provenance(sys.argv, 0),
    }
    write_atomic(arguments.output / "robustness_per_minute.json", json.dumps(found, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
