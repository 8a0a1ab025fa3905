"""Compressed runs: another run's network, made smaller and fine-tuned by the same adversarial train_step."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.compression.channels import prune_channels
from rdi_tf.compression.clustering import ClusteredRDINet
from rdi_tf.compression.pruning import PrunedRDINet
from rdi_tf.compression.quantization import QuantizedRDINet, is_quantized, start_ranges
from rdi_tf.compression.settings import REPORT
from rdi_tf.compression.sparsity import count_zeros
from rdi_tf.costs import network_costs
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import ConfigError
from rdi_tf.network import RDINet
from rdi_tf.runs import RunFolder, write_atomic
from rdi_tf.training.optimisation import sgd
from rdi_tf.training.run import train

FINE_TUNING = 0.1  # share of the iterations, and of the learning rate, of the run that it starts from
VALIDATIONS = 4
MIXED = "mixed_float16"
RANGE_IMAGES = 256  # training images that the ranges of int8 start from, and as many attacked ones


def compress_run(run_dir, compression, output=None, settings=(), data_dir=None, progress=True, command=""):
    """Make a new run of another: its network compressed and fine-tuned, or carry on where that was stopped.

    Args:
      run_dir: the other run's folder; nothing in it is changed. Its model.keras counts, even if training goes on.
      compression: `rdi_tf.compression.settings.CompressionConfig`; its source is filled in here.
      output: the new run's folder; None for the old one's path with "-qat" and the like behind it (see `label`).
      settings: overrides `section.key=value` of the new run's configuration, see `fine_tuning_config`.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: show a progress bar on standard error.
      command: the command line, for the record.

    Returns:
      The new `RunFolder`, trained and calibrated, and what `describe` says of it; its compression.json holds the same.

    Raises:
      CheckpointError: no run with a model, or something else in the new run's folder.
      ConfigError: a network that cannot be compressed so, or settings that cannot be used.
      DataError: the data set cannot be had.
      TrainingError: the loss is no longer a number.
    """
    run = RunFolder.open(run_dir)
    source = load_run(run)
    if is_quantized(source.network):
        raise ConfigError(f"{run.path}: its network is trained for int8 already; compress the run it was made from")
    compression = dataclasses.replace(compression, source=run.config.name, source_weights=source.weights_digest())
    config = fine_tuning_config(_with_scaled_budget(source, compression), compression).with_settings(settings)
    if config.model != source.config.model or config.compression != compression:
        raise ConfigError("--set: the network and its compression cannot be set; expected training, defence, …")
    if config.training.precision == MIXED:
        raise ConfigError(f"training.precision: compressed networks are trained in float32 or bfloat16, not {MIXED}")

    def make_network(config):
        return _compressed(source, config, data_dir)

    folder = output or folder_beside(run, compression)
    made = train(config, folder, data_dir, progress, make_network, command=command)
    report = describe(source, load_run(made))
    write_atomic(made.path / REPORT, json.dumps(report, indent=2) + "\n")
    return made, report


def _with_scaled_budget(source, compression):
    """A network's configuration; where the backbone gets fewer channels, a budget of multiply-adds shrinks with it."""
    config = source.config
    if compression.method != "prune_channels" or config.policy.calibration != "budget":
        return config
    before, after = (
        network_costs(network).backbone.executed_macs
        for network in (source.network, prune_channels(source.network, compression.sparsity))
    )
    policy = dataclasses.replace(config.policy, budget=float(round(config.policy.budget * after / before)))
    return dataclasses.replace(config, policy=policy)


def folder_beside(run, compression):
    """Where the compressed run of a `RunFolder` goes unless told otherwise: RUN-LABEL, beside RUN, also for RUN "."."""
    return Path(f"{os.path.abspath(run.path)}-{label(compression)}")


def fine_tuning_config(config, compression):
    """The configuration of a run that fine-tunes a compressed network.

    That of the run that it starts from, with a tenth of its iterations at a tenth of its learning rate, half a cosine
    long, no warm-up of the attack, no average of weights, and no mixed float16.

    Args:
      config: `Config` of the run that it starts from.
      compression: its `CompressionConfig`.

    Returns:
      A `Config`.
    """
    iterations = max(1, round(FINE_TUNING * config.training.iterations))
    training = dataclasses.replace(
        config.training,
        iterations=iterations,
        learning_rate=FINE_TUNING * config.training.learning_rate,
        schedule="cosine",
        decay_at=(),
        warmup_fraction=0.0,
        ema_decay=0.0,
        precision="float32" if config.training.precision == MIXED else config.training.precision,
        validate_every=max(1, iterations // VALIDATIONS),
        initial_weights="",
    )
    return dataclasses.replace(
        config,
        training=training,
        defence=dataclasses.replace(config.defence, warmup_iterations=0),
        compression=compression,
        name=f"{config.name}-{label(compression)}",
        source=f"{config.name}, compressed ({compression.method}) and fine-tuned",
    )


def label(compression):
    """A short name for a `CompressionConfig`, as it stands behind a run's: "qat", "pruned50", "channels50", …"""
    percent = f"{100 * compression.sparsity:g}"
    pattern = {"unstructured": "", "2:4": "-2of4", "block": "-block"}[compression.pattern]
    return {
        "quantize_aware": "qat",
        "prune": f"pruned{percent}{pattern}",
        "prune_channels": f"channels{percent}",
        "cluster": f"clusters{compression.clusters}",
    }[compression.method]


def describe(source, net):
    """What a compression came to.

    Args:
      source: the `RDINet` before.
      net: the one after.

    Returns:
      Plain values: `method`; `costs_before` and `costs` of the exits, those of the networks as they are; `sparsity`,
      see `rdi_tf.compression.sparsity.count_zeros`.
    """
    return {
        "method": net.config.compression.method,
        "costs_before": dataclasses.asdict(exit_costs(source)),
        "costs": dataclasses.asdict(exit_costs(net)),
        "sparsity": count_zeros(net.network),
    }


def _compressed(source, config, data_dir):
    """The network to be fine-tuned."""
    compression = config.compression
    if compression.method == "prune":
        return PrunedRDINet(source.network, config)
    if compression.method == "cluster":
        return ClusteredRDINet(source.network, config)
    if compression.method == "prune_channels":
        return RDINet(prune_channels(source.network, compression.sparsity), config)
    return _quantized(source, config, data_dir)


def _quantized(source, config, data_dir):
    net = QuantizedRDINet(source.network, config)
    start_ranges(net.network, source.network, _range_images(source, config, data_dir))
    return net


def _range_images(source, config, data_dir):
    """Training images as they are, and attacked as the defence will attack them."""
    dataset = load_dataset(config.data, "train", config.model.input_shape, data_dir)
    images, labels = as_arrays(dataset, RANGE_IMAGES)
    if config.defence.name == "standard":
        return images
    defence = dataclasses.replace(config.defence, training_mode=False)
    source.compile(sgd(config.training), defence=defence, seed=config.training.seed, policy=config.policy.name)
    attack = tf.function(source.adversarial_images, autograph=False)
    batch = min(RANGE_IMAGES, config.training.batch_size)
    parts = [slice(start, start + batch) for start in range(0, len(images), batch)]
    attacked = [attack(images[part], labels[part], tf.constant(0, tf.int64)) for part in parts]
    return np.concatenate([images, *attacked])
