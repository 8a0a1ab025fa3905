"""Training runs: everything in one folder, resumable, the most robust validation checkpoint kept."""

from rdi_tf._keras import keras
from rdi_tf.calibration import calibrate_run, load_run
from rdi_tf.checkpoints import full_disk_explained
from rdi_tf.data import as_arrays, check_num_classes, load_dataset, training_batches
from rdi_tf.errors import ConfigError, TrainingError
from rdi_tf.network import build
from rdi_tf.optimisation import sgd
from rdi_tf.precision import precision
from rdi_tf.run_keeper import RunKeeper
from rdi_tf.runs import RunFolder
from rdi_tf.validation import Validator

__all__ = ["RunKeeper", "TrainingError", "Validator", "train"]


def train(config, run_dir, data_dir=None, progress=True, make_network=None):
    """Train a network, or carry on a run that was stopped.

    Args:
      config: `rdi_tf.config.Config`.
      run_dir: the run's folder; made if it is not there, resumed if it holds a run of the same configuration.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: show a progress bar on standard error.
      make_network: callable `Config` -> `RDINet` to be trained; None for the configuration's with fresh weights.

    Returns:
      The `RunFolder`; its model.keras holds the most robust validated weights, calibrated by the run's own policy.

    Raises:
      CheckpointError: the folder holds another run, or no checkpoint in it can be read and fits.
      DataError: the data set cannot be had.
      TrainingError: the loss or the weights are no longer numbers, or the disk is full.
    """
    keras.utils.set_random_seed(config.training.seed)
    net = (make_network or _fresh_network)(config)
    net.compile(
        sgd(config.training),
        defence=config.defence,
        exit_weights=config.training.exit_weights,
        weight_decay=config.training.weight_decay,
        label_smoothing=config.training.label_smoothing,
        seed=config.training.seed,
    )
    dataset = load_dataset(config.data, "validation", config.model.input_shape, data_dir)
    check_num_classes(dataset.class_names, config.model.num_classes)
    validation = as_arrays(dataset, limit=config.training.validation_images)
    run = RunFolder.create(run_dir, config)
    with full_disk_explained(run.path):
        with precision(config.training.precision):
            _fit(net, RunKeeper(net, run, config, validation, progress), data_dir)
        if load_run(run).thresholds is None:
            calibrate_run(run.path, data_dir=data_dir)
    return run


def _fit(net, keeper, data_dir):
    config = keeper.config
    start = keeper.restore()
    steps = config.training.iterations - start
    if steps:
        shape, classes = config.model.input_shape, config.model.num_classes
        batches = training_batches(config.data, config.training, shape, classes, start, data_dir)
        with keeper:
            net.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[keeper])


def _fresh_network(config):
    if config.compression.method != "none":
        raise ConfigError(
            f"compression.method: {config.compression.method!r} starts from the network of another run "
            f"({config.compression.source or 'unknown'}); make or resume it with `rdi-tf compress`"
        )
    return build(config)
