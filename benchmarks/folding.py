"""How much faster a step of an attack on all exits is with batch norm folded; a ratio from one run, rounds in turn.

    python benchmarks/folding.py [--preset cifar10-resnet38] [--batch 250] [--rounds 9]

Each step is one gradient of the summed loss of all exits with respect to the images, in inference mode, compiled.
"""

import argparse
import json
import statistics
import time

from rdi_tf.attacks import cross_entropy
from rdi_tf.config import Config
from rdi_tf.models import build_network, fold_batch_norm
from rdi_tf.provenance import provenance

import tensorflow as tf  # isort: skip  # after rdi_tf's


def gradient_step(network, labels):
    """A compiled function: images -> gradient of the summed cross-entropy of all exits."""

    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.add_n([cross_entropy(logits, labels) for logits in network(images, training=False)])
        return tape.gradient(loss, images)

    return tf.function(step, autograph=False)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cifar10-resnet38")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    config = Config.load(arguments.preset).model
    network = build_network(config)
    images = tf.random.stateless_uniform((arguments.batch, *config.input_shape), [0, 1])
    labels = tf.zeros((arguments.batch,), tf.int32)
    ways = {"plain": gradient_step(network, labels), "folded": gradient_step(fold_batch_norm(network), labels)}
    plain, folded = (way(images) for way in ways.values())
    # Rounding flips ReLUs whose input is close to zero, as moving the images by a millionth does.
    same = tf.reduce_mean(tf.cast(tf.abs(plain - folded) < 1e-4 * tf.reduce_max(tf.abs(plain)), tf.float32))
    seconds = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images)[0, 0, 0, 0].numpy()
            seconds[name].append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    found = {
        "what": f"gradient step of all exits, {arguments.preset}, batch {arguments.batch}, {arguments.rounds} rounds",
        "folded_times_as_fast_as_plain": round(ratio, 2),
        "median_seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "gradients_equal": round(float(same), 4),
        "provenance": provenance("benchmarks/folding.py", 0),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
