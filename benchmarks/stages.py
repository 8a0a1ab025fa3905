"""What splitting costs: all stages one after the other against the unsplit network; ratio from one run, in turn.

    python benchmarks/stages.py BUNDLE [--rounds 300] [--threads 1]

Needs no TensorFlow. The stages are run without an exit rule, as an image that leaves at the last exit would run them.
"Through Python" counts the hand-over of feature maps and the copies of logits as `rdi_tf.export` does them; "invoke
alone" counts LiteRT only. Rounds alternate, and which goes first alternates too. On a machine that does other things
as well, the ratio of the fastest rounds is the one that they disturb least.
"""

import argparse
import json
import statistics
import time

import numpy as np

from rdi_tf.export import Bundle, Cascade, Unsplit
from rdi_tf.export.runner import dequantise, quantise
from rdi_tf.provenance import provenance


def seconds_of(function):
    """Seconds that one call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def paired(first, second, rounds):
    """Median seconds of two functions, the median of their ratios, and the ratio of their fastest rounds, in turn."""
    seconds = ([], [])
    for number in range(rounds + rounds // 10):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            seconds[which].append(seconds_of((first, second)[which]))
    kept = [times[rounds // 10 :] for times in seconds]  # the first tenth warms up
    ratio = statistics.median(a / b for a, b in zip(*kept, strict=True))
    return statistics.median(kept[0]), statistics.median(kept[1]), ratio, min(kept[0]) / min(kept[1])


def measure(bundle, image, rounds, threads):
    """The figures of one bundle on one image, dict."""
    chain, unsplit = Cascade(bundle, threads).chain, Unsplit(bundle, threads).runner
    runners = [chain.runner(index) for index in range(len(bundle.manifest.stages))]

    def stages():
        carried = image
        for index in range(len(runners)):
            _, carried = chain.run(index, carried)

    def whole():
        outputs = unsplit.run(unsplit.image_input(image))
        for name, array in outputs.items():
            unsplit.numbers(name, array)

    def stages_invoke():
        for runner in runners:
            runner.invoke()

    through_python, alone = paired(stages, whole, rounds), paired(stages_invoke, unsplit.invoke, rounds)
    return {
        "through_python": _figures(through_python),
        "invoke_alone": _figures(alone),
        "hand_over_ms": hand_over(bundle, rounds),
    }


def hand_over(bundle, rounds):
    """Milliseconds of turning int8 features into another scale, per stage: what direct hand-over saves."""
    found = []
    for stage in bundle.manifest.stages[1:]:
        if stage.input.quantisation is not None:
            features = np.zeros((1, *stage.input.shape[1:]), np.int8)
            scale = stage.input.quantisation
            times = [seconds_of(lambda f=features, q=scale: quantise(dequantise(f, q), q)) for _ in range(rounds)]
            found.append(round(1000 * statistics.median(times), 4))
    return found


def _figures(measured):
    stages, unsplit, ratio, fastest = measured
    return {
        "stages_ms": round(1000 * stages, 4),
        "unsplit_ms": round(1000 * unsplit, 4),
        "ratio": round(ratio, 4),
        "ratio_of_fastest": round(fastest, 4),
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    image = bundle.golden().images[:1]
    found = {
        "what": f"{manifest.name}, {manifest.dtype}, {len(manifest.stages)} stages, threads: {arguments.threads}",
        "rounds": arguments.rounds,
        **measure(bundle, image, arguments.rounds, arguments.threads),
        "stage_bytes": manifest.stage_bytes,
        "unsplit_bytes": manifest.unsplit.file.bytes,
        "provenance": provenance("benchmarks/stages.py", 0),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
