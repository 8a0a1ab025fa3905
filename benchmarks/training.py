"""What a training step takes, where the time goes, and how near it is to the floor; one run, rounds taken in turn.

    python benchmarks/training.py [--preset mnist-smallcnn] [--batch 256] [--steps 5] [--rounds 5]

- attack: the compiled max-average attack against the plain way (benchmarks/attack_step.py), float32 and bfloat16;
- step: a whole iteration of each way to train, and how many times as fast it is as max-average PGD;
- floor: multiply-adds of attack and update over the matrix-multiply rate of this machine, measured in the same run;
- input: batches of the preset's data and augmentation, without a network (needs the data set);
- steadiness: traces of each train_step in all (1: none after the first), growth of the process over further iterations.

Needs an idle machine for figures worth keeping.
"""

import argparse
import json
import resource
import statistics
import time

from attack_step import plain_max_average

from rdi_tf._keras import keras
from rdi_tf.config import Config
from rdi_tf.data.batches import training_batches
from rdi_tf.errors import DataError
from rdi_tf.network import build
from rdi_tf.precision import precision
from rdi_tf.provenance import provenance
from rdi_tf.training.costs import iteration_costs

import tensorflow as tf  # isort: skip  # after rdi_tf._keras

# Settings of each way to train, on top of the preset's max-average PGD.
WAYS = {
    "max-average, PGD": [],
    "max-average, PGD, bfloat16": ["training.precision=bfloat16"],
    "average, PGD": ["defence.name=average"],
    "average, one step from a random start": ["defence.name=average", "defence.attack.steps=1"],
    "average, N-FGSM": ["defence.name=average", "defence.attack.algorithm=n_fgsm"],
    "average, FGSM, GradAlign": ["defence.name=average", "defence.attack.algorithm=fgsm", "defence.alignment=0.2"],
    "max-average, N-FGSM": ["defence.attack.algorithm=n_fgsm"],
    "free, 4 replays": ["defence.name=free", "defence.attack.steps=4"],
    "standard": ["defence.name=standard"],
}


class Way:
    """One way to train: a network, its compiled train_step, and how long its steps took."""

    def __init__(self, config, batch):
        keras.utils.set_random_seed(0)
        self.precision = config.training.precision
        self.net = build(config)
        self.net.compile(keras.optimizers.SGD(0.01, momentum=0.9), defence=config.defence, weight_decay=1e-4)
        self.net.optimizer.build(self.net.trainable_variables)
        self.macs = iteration_costs(self.net, config.defence).total * len(batch[0])
        self._step = tf.function(lambda: self.net.train_step(batch), autograph=False)
        self.seconds = []
        self.run()
        self.first = self.seconds.pop()  # traced and compiled

    @property
    def traces(self):
        return self._step.experimental_get_tracing_count()

    def run(self):
        with precision(self.precision):
            started = time.perf_counter()
            float(self._step()["loss"])
            self.seconds.append(time.perf_counter() - started)


def multiply_rate(dtype, size=2048):
    """Multiply-adds per second of a matrix product, the fastest of some."""
    with precision(dtype):
        product = tf.function(lambda a, b: tf.reduce_sum(a @ b), autograph=False)
        a, b = (tf.random.stateless_uniform((size, size), [0, k]) for k in range(2))
        float(product(a, b))
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            float(product(a, b))
            seconds.append(time.perf_counter() - started)
    return size**3 / min(seconds)


def attack_ratios(config, batch, rounds):
    """How many times as fast as the plain way the compiled max-average attack is, by arithmetic."""
    keras.utils.set_random_seed(0)
    net = build(config)
    net.compile(keras.optimizers.SGD(0.01), defence=config.defence)
    images, labels = batch
    iteration, seed = tf.constant(0, tf.int64), tf.random.fold_in(tf.constant([0, 0], tf.int32), 0)
    compiled = tf.function(net.adversarial_images, autograph=False)

    def ours(name):
        with precision(name):
            return compiled(images, labels, iteration)

    ways = {
        "plain": lambda: plain_max_average(net, images, labels, config.defence.attack, seed),
        "float32": lambda: ours("float32"),
        "bfloat16": lambda: ours("bfloat16"),
    }
    seconds = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            float(tf.reduce_sum(way()))
            if round_number:  # the first traces and compiles
                seconds[name].append(time.perf_counter() - started)
    return {name: ratio(seconds["plain"], seconds[name]) for name in ("float32", "bfloat16")}


def ratio(slow, fast):
    """Median of the ratios of paired rounds."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 2)


def input_seconds(config, count):
    """Mean seconds that a batch takes to be made, with nothing else to do; without the data set the error's words."""
    try:
        stream = iter(
            training_batches(config.data, config.training, config.model.input_shape, config.model.num_classes)
        )
    except DataError as error:
        return str(error)
    next(stream)
    started = time.perf_counter()
    for _ in range(count):
        next(stream)
    return round((time.perf_counter() - started) / count, 5)


def resident_megabytes():
    """Greatest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def describe(way, reference, rates):
    """Times, ratio and floor of one way to train."""
    floor = way.macs / rates["bfloat16" if way.precision == "bfloat16" else "float32"]
    median = statistics.median(way.seconds)
    return {
        "median_seconds": round(median, 4),
        "times_as_fast_as_max_average_pgd": ratio(reference.seconds, way.seconds),
        "multiply_adds": way.macs,
        "floor_seconds": round(floor, 4),
        "times_the_floor": round(median / floor, 2),
        "first_step_seconds": round(way.first, 2),
        "traces": way.traces,
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mnist-smallcnn")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = Config.load(arguments.preset).with_settings(
        [
            "defence.name=max_average",
            "defence.attack.algorithm=pgd",
            f"defence.attack.steps={arguments.steps}",
            "defence.training_mode=false",
            "defence.warmup_iterations=0",
            f"training.batch_size={arguments.batch}",
        ]
    )
    images = tf.random.stateless_uniform((arguments.batch, *config.model.input_shape), [0, 1])
    labels = tf.random.stateless_uniform((arguments.batch,), [0, 2], 0, config.model.num_classes, tf.int32)
    rates = {name: multiply_rate(name) for name in ("float32", "bfloat16")}
    ways = {name: Way(config.with_settings(settings), (images, labels)) for name, settings in WAYS.items()}
    for _ in range(arguments.rounds):
        for way in ways.values():
            way.run()
    before = resident_megabytes()
    for _ in range(arguments.rounds):
        for way in ways.values():
            way.run()
    grown = resident_megabytes() - before
    reference = next(iter(ways.values()))
    found = {
        "what": f"training, {config.name}, batch {arguments.batch}, {arguments.steps} attack steps",
        "attack_times_as_fast_as_plain": attack_ratios(config, (images, labels), arguments.rounds),
        "step": {name: describe(way, reference, rates) for name, way in ways.items()},
        "giga_multiply_adds_per_second": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "input_seconds_per_batch": input_seconds(config, 4 * arguments.rounds),
        "megabytes_grown_in_second_half": round(grown, 1),
        "provenance": provenance(["benchmarks/training.py", *(f"--{k}={v}" for k, v in vars(arguments).items())], 0),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
