"""Compressed runs: another run's network, made smaller and fine-tuned by the same adversarial train_step."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from rdi_tf.calibration import load_run
from rdi_tf.compression.quantization import QuantizedRDINet, is_quantized, start_ranges
from rdi_tf.data import as_arrays, load_dataset
from rdi_tf.errors import ConfigError
from rdi_tf.optimisation import sgd
from rdi_tf.runs import RunFolder
from rdi_tf.training import train

FINE_TUNING = 0.1  # share of the iterations, and of the learning rate, of the run that it starts from
VALIDATIONS = 4
RANGE_IMAGES = 256  # training images that the ranges of int8 start from, and as many attacked ones
LABELS = {"quantize_aware": "qat"}


def compress_run(run_dir, compression, output=None, settings=(), data_dir=None, progress=True):
    """Make a new run of a finished one: its network compressed and fine-tuned, or carry on where that was stopped.

    Args:
      run_dir: the finished run's folder; nothing in it is changed.
      compression: `rdi_tf.compression.settings.CompressionConfig`; its source is filled in here.
      output: the new run's folder; None for the old one's path with "-qat" and the like behind it.
      settings: overrides `section.key=value` of the new run's configuration, see `fine_tuning_config`.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: show a progress bar on standard error.

    Returns:
      The new `RunFolder`, trained and calibrated.

    Raises:
      CheckpointError: no finished run, or something else in the new run's folder.
      ConfigError: a network that cannot be compressed so, or settings that cannot be used.
      DataError: the data set cannot be had.
      TrainingError: the loss is no longer a number.
    """
    run = RunFolder.open(run_dir)
    source = load_run(run)
    if is_quantized(source.network):
        raise ConfigError(f"{run.path}: its network is trained for int8 already; compress the run it was made from")
    compression = dataclasses.replace(compression, source=run.config.name, source_weights=weights_digest(source))
    config = fine_tuning_config(source.config, compression).with_settings(settings)
    if config.model != source.config.model or config.compression != compression:
        raise ConfigError("--set: the network and its compression cannot be set; expected training, defence, …")

    def make_network(config):
        return _quantized(source, config, data_dir)

    output = output or f"{run.path}-{LABELS[compression.method]}"
    return train(config, output, data_dir, progress, make_network)


def fine_tuning_config(config, compression):
    """The configuration of a run that fine-tunes a compressed network.

    That of the run that it starts from, with a tenth of its iterations at a tenth of its learning rate, half a cosine
    long, no warm-up of the attack and no average of weights.

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
        validate_every=max(1, iterations // VALIDATIONS),
    )
    return dataclasses.replace(
        config,
        training=training,
        defence=dataclasses.replace(config.defence, warmup_iterations=0),
        compression=compression,
        name=f"{config.name}-{LABELS[compression.method]}",
        source=f"{config.name}, compressed ({compression.method}) and fine-tuned",
    )


def weights_digest(net):
    """SHA-256, in hexadecimal, of a network's weights."""
    digest = hashlib.sha256()
    for weight in net.network.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


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
    source.compile(sgd(config.training), defence=defence, seed=config.training.seed)
    attack = tf.function(source.adversarial_images, autograph=False)
    batch = min(RANGE_IMAGES, config.training.batch_size)
    parts = [slice(start, start + batch) for start in range(0, len(images), batch)]
    attacked = [attack(images[part], labels[part], tf.constant(0, tf.int64)) for part in parts]
    return np.concatenate([images, *attacked])
