"""Evaluation of a run on the test split: the paper's table and the strict figures beside it, kept in RUN/evaluation."""

import dataclasses
import hashlib
import shutil
import time
from pathlib import Path

import numpy as np

from rdi_tf.attacks import form_names
from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.data import as_arrays, load_dataset
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.policies import get_policy
from rdi_tf.provenance import provenance
from rdi_tf.results import summarise
from rdi_tf.robustness import ExitAttacker
from rdi_tf.runs import RunFolder, atomic_path, write_atomic
from rdi_tf.tables import to_csv, to_markdown


def evaluate(
    run_dir,
    attacks="paper",
    attack=None,
    limit=None,
    seed=0,
    batch_size=250,
    data_dir=None,
    progress=None,
    command="",
):
    """Evaluate a run's network on its test split, clean and attacked, through its exit policy.

    Finished batches are kept in the run folder until the evaluation is done: one that was killed goes on where it was.

    Args:
      run_dir: a run folder with a calibrated model.
      attacks: "paper" (every exit, average, max-average), "all" (random too), "none", or forms separated by commas.
      attack: `AttackConfig`; None for the run's own evaluation attack.
      limit: use the first so many test images; None for all.
      seed: seed of the attacks.
      batch_size: images at a time.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: callable (form, images done, images), or None.
      command: the command line, for the record.

    Returns:
      `rdi_tf.results.EvaluationResult`; also written to RUN/evaluation as JSON, CSV and Markdown, with the exit logits
      behind it as NPZ.

    Raises:
      CheckpointError: no run, no model, or a model without thresholds.
      ConfigError: an unknown attack form.
      DataError: the data set cannot be had.
    """
    started = time.monotonic()
    run = RunFolder.open(run_dir)
    net = load_run(run)
    config = net.config
    forms = attack_forms(attacks, net.exit_names)
    if net.thresholds is None:
        raise CheckpointError(f"{run.model_file}: has no thresholds yet; run `rdi-tf calibrate {run.path}` first")
    attack = attack or config.evaluation
    dataset = load_dataset(config.data, "test", config.model.input_shape, data_dir)
    images, labels = as_arrays(dataset, limit)
    attacker = ExitAttacker(net, attack, seed, batch_size)
    unfinished = run.evaluation / f"unfinished-{_key(net, attack, config.data.name, len(images), seed, batch_size)}"
    clean = attacker.clean_logits(images)
    attacked = attacker.logits(forms, images, labels, unfinished, progress)
    result = summarise(
        labels,
        clean,
        attacked,
        get_policy(config.policy.name),
        net.thresholds,
        exit_costs(net),
        name=config.name,
        dataset=Path(config.data.name).name,
        attack=dataclasses.asdict(attack) if forms else {},
        provenance={**provenance(command, seed), "seconds": round(time.monotonic() - started, 1)},
    )
    _write(run, _file_name(forms, attack, dataset, images), result, labels, clean, attacked)
    shutil.rmtree(unfinished, ignore_errors=True)
    return result


def attack_forms(attacks, exit_names):
    """The forms that a word or a comma-separated list names; an unknown form raises `ConfigError`."""
    known = form_names(exit_names)
    words = {"paper": known[:-1], "all": known, "none": ()}
    forms = words.get(attacks) if attacks in words else tuple(name.strip() for name in attacks.split(","))
    for form in forms:
        if form not in known:
            raise ConfigError(f"attacks: expected {', '.join(words)} or a list of {', '.join(known)}, got {form!r}")
    return forms


def _key(net, attack, dataset_name, images, seed, batch_size):
    """Names the work that unfinished batches belong to: anything that changes them changes it."""
    digest = hashlib.sha256(repr((attack, dataset_name, images, seed, batch_size)).encode())
    for weight in net.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:12]


def _file_name(forms, attack, dataset, images):
    name = f"{attack.algorithm}-{attack.steps}" if forms else "clean"
    return name if len(images) == dataset.size else f"{name}-first-{len(images)}"


def _write(run, name, result, labels, clean, attacked):
    result.save(run.evaluation / f"{name}.json")
    write_atomic(run.evaluation / f"{name}.csv", to_csv(result))
    write_atomic(run.evaluation / f"{name}.md", to_markdown(result))
    with atomic_path(run.evaluation / f"{name}.npz") as temporary:
        np.savez_compressed(temporary, labels=labels, clean=clean, **attacked)
