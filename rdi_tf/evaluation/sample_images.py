"""A few test images with their adversarial versions, for benchmarks, reports and the Android demo."""

import dataclasses
import json

import numpy as np

from rdi_tf.attacks import SLOWDOWN
from rdi_tf.evaluation.workbench import Workbench

NAME = "images"


def save_images(run_dir, count, **options):
    """Keep the first images of a run's split, clean, under the max-average attack and under the slowdown attack.

    Args:
      run_dir: a run folder with a calibrated model.
      count: number of images.
      **options: fields of `rdi_tf.evaluation.options.BenchOptions`, but for limit.

    Returns:
      Path of RUN/evaluation/images.npz, which holds `clean`, `max_average` and `slowdown`, each float32 (count, height,
      width, channels) in [0, 1] exactly as the network saw them; `labels`, int32 (count,); `class_names`; and
      `description`, JSON text of the attack, the exit rule and its thresholds.

    Raises:
      CheckpointError, ConfigError, DataError: as `rdi_tf.evaluation.run.evaluate`'s.
    """
    bench = Workbench.open(run_dir, **{**options, "limit": count}).apart("images")
    bench.agree("images")
    attacker = bench.attacker(bench.attack)
    attacked = {
        form: attacker.adversarial_images(form, bench.images, bench.labels) for form in ("max_average", SLOWDOWN)
    }
    description = {
        "name": bench.config.name,
        "dataset": bench.dataset,
        "split": bench.split,
        "attack": dataclasses.asdict(bench.attack),
        "policy": bench.rule.name,
        "thresholds": list(bench.rule.thresholds),
        "seed": bench.seed,
    }
    arrays = {
        "clean": bench.images,
        "labels": bench.labels,
        "class_names": np.array(bench.class_names),
        "description": np.array(json.dumps(description)),
        **attacked,
    }
    bench.keep(NAME, {}, arrays)
    return bench.results / f"{NAME}.npz"
