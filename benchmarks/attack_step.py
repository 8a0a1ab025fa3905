"""How much faster the compiled max-average attack is than the plain way; ratios from one run, rounds taken in turn.

    python benchmarks/attack_step.py [--preset mnist-smallcnn] [--batch 256] [--steps 5] [--rounds 7]

The plain way is what one would write first: eager, the whole network run once for every exit and step, and once more
for each candidate. Ours compiles one graph, runs single attacks on the part of the network that ends at their exit, and
in bfloat16 lets oneDNN rewrite convolutions and matrix products. Both find the same images (checked in float32).
"""

import argparse
import json
import statistics
import time

from rdi_tf._keras import keras
from rdi_tf.attacks import cross_entropy
from rdi_tf.config import Config
from rdi_tf.network import build
from rdi_tf.precision import precision
from rdi_tf.provenance import provenance

import tensorflow as tf  # isort: skip  # after rdi_tf._keras


def plain_max_average(net, images, labels, attack, seed):
    """Max-average PGD in eager mode on the whole network. Arguments and result as `rdi_tf.attacks.craft`'s."""
    low, high = tf.maximum(images - attack.epsilon, 0.0), tf.minimum(images + attack.epsilon, 1.0)
    candidates, values = [], []
    for exit_index in range(net.num_exits):
        # The same random start as craft: the exit's number folded in, then the restart's (0).
        start_seed = tf.random.fold_in(tf.random.fold_in(seed, exit_index), 0)
        start = images + attack.epsilon * tf.random.stateless_uniform(images.shape, start_seed, -1.0, 1.0)
        adversarial = tf.clip_by_value(start, low, high)
        for _ in range(attack.steps):
            with tf.GradientTape() as tape:
                tape.watch(adversarial)
                loss = tf.reduce_sum(cross_entropy(net(adversarial)[:, exit_index], labels))
            step = attack.step_size * tf.sign(tape.gradient(loss, adversarial))
            adversarial = tf.clip_by_value(adversarial + step, low, high)
        candidates.append(adversarial)
        values.append(tf.reduce_mean(cross_entropy(net(adversarial), labels), axis=1))
    best = tf.argmax(tf.stack(values))
    return tf.gather(tf.stack(candidates, axis=1), best, batch_dims=1)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mnist-smallcnn")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    settings = [f"defence.attack.steps={arguments.steps}", "defence.training_mode=false", "defence.warmup_iterations=0"]
    config = Config.load(arguments.preset).with_settings(settings)
    keras.utils.set_random_seed(0)
    net = build(config)
    net.compile(keras.optimizers.SGD(0.1), defence=config.defence)
    images = tf.random.stateless_uniform((arguments.batch, *config.model.input_shape), [0, 1])
    labels = tf.random.stateless_uniform((arguments.batch,), [0, 2], 0, config.model.num_classes, tf.int32)
    iteration = tf.constant(0, tf.int64)
    seed = tf.random.fold_in(tf.constant([0, 0], tf.int32), iteration)
    compiled = tf.function(net.adversarial_images, autograph=False)

    def plain():
        return plain_max_average(net, images, labels, config.defence.attack, seed)

    def ours(name):
        def run():
            with precision(name):
                return compiled(images, labels, iteration)

        return run

    ways = {"plain": plain, "float32": ours("float32"), "bfloat16": ours("bfloat16")}
    found = {name: way() for name, way in ways.items()}
    same = float(tf.reduce_mean(tf.cast(tf.abs(found["plain"] - found["float32"]) < 1e-4, tf.float32)))
    seconds = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True))
        for name in ("float32", "bfloat16")
    }
    print(
        json.dumps(
            {
                "what": f"max-average attack, {config.name}, batch {arguments.batch}, {arguments.steps} steps",
                "times_as_fast_as_plain": {name: round(ratio, 2) for name, ratio in ratios.items()},
                "median_seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
                "pixels_equal_to_plain_in_float32": round(same, 5),
                "provenance": provenance("benchmarks/attack_step.py", 0),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
