"""How much faster a server answers with early exits than by running everything; ratio from one run, rounds in turn.

    python benchmarks/early_exit.py RUN [--batch 256] [--batches 4] [--rounds 9]

Both answer the same test images by the same exit rule. Everything: the whole network as one compiled function, then the
rule on all logits. Early exits: `EarlyExitPredictor`, which keeps only the images that have not left. Both decide the
same (checked). Data sets are looked for in TFDS_DATA_DIR.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.early_exit import EarlyExitPredictor
from rdi_tf.policies import decide
from rdi_tf.provenance import provenance
from rdi_tf.runs import RunFolder


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    net = load_run(RunFolder.open(arguments.run))
    config = net.config
    test = load_dataset(config.data, "test", config.model.input_shape)
    images, labels = as_arrays(test, arguments.batch * arguments.batches)
    parts = [images[start : start + arguments.batch] for start in range(0, len(images), arguments.batch)]
    predictor = EarlyExitPredictor(net)
    forward = tf.function(lambda batch: net(batch, training=False), autograph=False)

    def everything():
        return [decide(predictor.policy, forward(part).numpy(), predictor.thresholds) for part in parts]

    def early():
        return [predictor.predict(part) for part in parts]

    exits = [np.concatenate([answer.exits for answer in way()]) for way in (everything, early)]
    seconds = {everything: [], early: []}
    for _ in range(arguments.rounds):
        for way, times in seconds.items():
            started = time.perf_counter()
            answers = way()
            times.append(time.perf_counter() - started)
    predictions = np.concatenate([answer.predictions for answer in answers])
    shares = np.bincount(exits[1], minlength=net.num_exits) / len(images)
    costs = exit_costs(net)
    ratio = statistics.median(a / b for a, b in zip(seconds[everything], seconds[early], strict=True))
    found = {
        "what": f"{config.name}, {len(images)} test images in batches of {arguments.batch}",
        "times_as_fast_as_everything": round(ratio, 3),
        "median_seconds": {
            "everything": round(statistics.median(seconds[everything]), 4),
            "early_exits": round(statistics.median(seconds[early]), 4),
        },
        "same_exit": float((exits[0] == exits[1]).mean()),
        "accuracy": float((predictions == labels).mean()),
        "exit_shares": shares.round(4).tolist(),
        "executed_macs_ratio": round(costs.executed_macs[-1] / float(shares @ costs.executed_macs), 3),
        "provenance": provenance("benchmarks/early_exit.py", config.training.seed),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
