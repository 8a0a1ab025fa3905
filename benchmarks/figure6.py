"""The paper's Figure 6 from scratch: single-exit rivals, compressed and defended, against RDI and compressed RDI.

    python benchmarks/figure6.py [--rdi mnist-smallcnn-fast] [--single mnist-smallcnn-single-fast] [--runs runs]
        [--output results/figure6] [--attacks all] [--limit N] [--no-benchmark] [--dry-run]

Trains both presets, compresses them, evaluates every run under the same attacks, exports each in the arithmetic that
was attacked, measures all bundles one after the other on the same images, and draws `rdi-tf compare`. Each step is a
command of rdi-tf, printed before it runs. A step whose result is there is skipped, and one that was killed goes on
where it was: give the same command again. Measure on an idle machine, or leave that out and come back for it.
"""

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rdi_tf.config import Config
from rdi_tf.errors import CheckpointError
from rdi_tf.evaluation.run_results import kept_evaluations
from rdi_tf.runs import RunFolder

COMPRESSIONS = {
    "channels25": ("--prune-channels", "0.25"),
    "channels50": ("--prune-channels", "0.5"),
    "channels75": ("--prune-channels", "0.75"),
    "pruned50": ("--prune", "0.5"),
    "pruned80": ("--prune", "0.8"),
    "qat": ("--quantize-aware",),
}
OF_SINGLE = tuple(COMPRESSIONS)
OF_RDI = ("channels50", "pruned50", "qat")
# Networks that lost channels have more to mend than a tenth of the learning rate does; on MNIST 0.03 of 0.05 did it.
CHANNELS_RATE = 0.6
TEST_IMAGES = 200  # on which bundles are measured


@dataclass(frozen=True)
class Step:
    """A command of rdi-tf and whether its result is there.

    Attributes:
      arguments: of `rdi-tf`.
      done: bool.
    """

    arguments: tuple[str, ...]
    done: bool


def steps(options):
    """All steps in order; each looks at what is there when it is its turn.

    Args:
      options: the parsed command line.

    Yields:
      `Step`.
    """
    sources = {options.rdi: options.rdi_compressions, options.single: options.single_compressions}
    runs = []
    for preset, labels in sources.items():
        run = options.runs / preset
        runs += [run, *(run.with_name(f"{preset}-{label}") for label in labels)]
        # What follows training exists only after it; a finished run that is trained again ends at once.
        trained = any((other / "compression.json").is_file() for other in runs[-len(labels) :]) if labels else False
        yield _step(("train", preset, "--run-dir", run, "--quiet"), trained or _evaluated(run, options))
        for label in labels:
            done = (run.with_name(f"{preset}-{label}") / "compression.json").is_file()
            yield _step(("compress", run, *_compression(preset, label), "--quiet"), done)
    attacks = ("--attacks", options.attacks, *(() if options.limit is None else ("--limit", options.limit)))
    images = options.runs / options.rdi / "evaluation" / "images.npz"
    for run in runs:
        kept = images.is_file() or run != runs[0]
        keep = () if kept else ("--save-images", TEST_IMAGES)
        yield _step(("evaluate", run, *attacks, "--reuse", *keep, "--quiet"), kept and _evaluated(run, options))
    for run in runs:
        yield _step(("export", run, "--dtype", _dtype(run)), (run / "export" / _dtype(run) / "manifest.json").is_file())
    for run in runs if options.benchmark else ():
        output = run / f"latency-{_dtype(run)}.json"
        measured = ("--images", images, "--set", "clean", "--limit", TEST_IMAGES, "--output", output)
        yield _step(("benchmark", run / "export" / _dtype(run), *measured), output.is_file())
    yield _step(("compare", *runs, "--output", options.output), False)


def _step(arguments, done):
    return Step(tuple(map(str, arguments)), done)


def _compression(preset, label):
    arguments = COMPRESSIONS[label]
    if label.startswith("channels"):
        rate = CHANNELS_RATE * Config.load(preset).training.learning_rate
        return (*arguments, "--set", f"training.learning_rate={rate:g}")
    return arguments


def _dtype(run):
    """The arithmetic in which the run's network is attacked."""
    return "int8" if run.name.endswith("-qat") else "float32"


def _evaluated(run, options):
    try:
        kept = kept_evaluations(RunFolder.open(run))
    except CheckpointError:
        return False
    same = [one for one in kept if one.result.suite == options.attacks and not one.outdated]
    if options.limit is None:
        return any("-first-" not in one.name for one in same)
    return any(one.result.images == options.limit for one in same)


def parsed(arguments=None):
    """The parsed command line, or `arguments` instead of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rdi", default="mnist-smallcnn-fast", help="preset with several exits")
    parser.add_argument("--single", default="mnist-smallcnn-single-fast", help="preset with one")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--output", type=Path, default=Path("results/figure6"), help="folder of the comparison")
    parser.add_argument("--attacks", default="all", choices=("all", "paper", "quick"), help="suite")
    parser.add_argument("--limit", type=int, help="only the first so many test images")
    parser.add_argument("--single-compressions", nargs="*", default=OF_SINGLE, choices=COMPRESSIONS)
    parser.add_argument("--rdi-compressions", nargs="*", default=OF_RDI, choices=COMPRESSIONS)
    parser.add_argument("--no-benchmark", dest="benchmark", action="store_false", help="measure no milliseconds")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and run nothing")
    return parser.parse_args(arguments)


def main():
    """Run every step that is not done; end with the exit code of the first that fails."""
    options = parsed()
    for step in steps(options):
        print(f"{'done' if step.done else 'run '}  rdi-tf {shlex.join(step.arguments)}", flush=True)
        if step.done or options.dry_run:
            continue
        code = subprocess.run([sys.executable, "-m", "rdi_tf.cli", *step.arguments], check=False).returncode
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
