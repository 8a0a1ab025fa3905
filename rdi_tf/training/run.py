"""Training runs: everything in one folder, resumable, the most robust validation checkpoint kept."""

import tempfile
from pathlib import Path

from rdi_tf._keras import keras
from rdi_tf.calibration import calibrate_held, exit_costs, load_run
from rdi_tf.data.batches import as_arrays, check_num_classes, explain_unreadable, load_dataset, training_batches
from rdi_tf.distribution import open_cluster
from rdi_tf.errors import CheckpointError, ConfigError, TrainingError
from rdi_tf.model_files import refuse_code
from rdi_tf.network import build
from rdi_tf.precision import as_float32, precision
from rdi_tf.provenance import provenance
from rdi_tf.runs import RunFolder
from rdi_tf.thresholds import check_policy
from rdi_tf.training.checkpoints import full_disk_explained
from rdi_tf.training.keeper import RunKeeper
from rdi_tf.training.optimisation import sgd
from rdi_tf.training.record import add_record
from rdi_tf.training.start import check_start, copy_weights, read_start, with_start
from rdi_tf.training.validation import Validator

__all__ = ["RunKeeper", "TrainingError", "Validator", "train"]


def train(config, run_dir, data_dir=None, progress=True, make_network=None, strategy="single", command="", start=None):
    """Train a network, or carry on a run that was stopped.

    Args:
      config: `rdi_tf.config.Config`.
      run_dir: the run's folder; made if it is not there, resumed if it holds a run of the same configuration.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: show a progress bar on standard error.
      make_network: callable `Config` -> `RDINet` to be trained, which is given `config` and loses its thresholds; None
        for the configuration's with fresh weights. Its layers have to be Keras' own or registered ones, so that what
        was trained can be read again.
      strategy: one of `rdi_tf.distribution.STRATEGIES`. It is no part of the run: one that was begun on one device may
        be carried on by many. With "multi-worker", every machine calls this with the same arguments.
      command: the command line, for the record (training.json).
      start: run folder or `.keras` file whose weights training starts from, of a network of the same layers; None for
        fresh ones. The run's configuration names these weights (training.initial_weights), and a run that goes on from
        a checkpoint does not need them again.

    Returns:
      The `RunFolder`; its model.keras holds the most robust validated weights, calibrated by the run's own policy.

    Raises:
      CheckpointError: the folder holds another run, or a model without a checkpoint to go on from, or no checkpoint in
        it can be read and fits, or another process trains in it, or there is no network to start from.
      ConfigError: a strategy that cannot be had here, replicas that cannot share a batch equally, a policy that the
        network's exits cannot follow, or a network of other images or classes than the configuration's, or that could
        not be read again, or other weights to start from than the configuration's, or of other layers.
      DataError: the data set cannot be had.
      TrainingError: the loss or the weights are no longer numbers, or the disk is full.
    """
    cluster = open_cluster(strategy)
    cluster.check_batch(config.training.batch_size)
    start = None if start is None else read_start(start)
    if start is not None:
        config = with_start(config, start)
    keras.utils.set_random_seed(config.training.seed)
    with cluster.scope(), precision(config.training.precision):
        net = _compiled((make_network or _fresh_network)(config), config)
        if start is not None:
            copy_weights(start, net)
    if make_network is not None:
        _check_network(net, config.model)
    check_policy(config.policy, exit_costs(net).executed_macs)
    dataset = load_dataset(config.data, "validation", config.model.input_shape, data_dir)
    check_num_classes(dataset.class_names, config.model.num_classes)
    validation = as_arrays(dataset, limit=config.training.validation_images)
    record = {**provenance(command, config.training.seed), "strategy": strategy, "replicas": cluster.replicas}
    with cluster.run_folder(run_dir, config) as run, full_disk_explained(run.path):
        with cluster.scope(), precision(config.training.precision):
            trained = _fit(net, RunKeeper(net, run, config, validation, progress, cluster), cluster, record, data_dir)
        # A finished run keeps the thresholds that somebody calibrated since.
        if cluster.is_chief and (trained or load_run(run).thresholds is None):
            calibrate_held(run, config.policy, data_dir)
        cluster.wait()
    return RunFolder.open(run_dir)


def _check_network(net, model_config):
    """Refuse a network from outside that would fail, or learn something else, only after hours."""
    found = (tuple(net.network.input_shape[1:]), net.num_classes)
    wanted = (tuple(model_config.input_shape), model_config.num_classes)
    if found != wanted:
        raise ConfigError(
            f"make_network: expected images {wanted[0]} and {wanted[1]} classes, got {found[0]} and {found[1]}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.keras"
        as_float32(net).save(file)
        try:
            refuse_code(file)
        except CheckpointError as error:
            raise ConfigError(f"make_network: a network that could not be read again: {error}") from error


def _compiled(net, config):
    # One of `make_network` may know no configuration, as `attach_exits` makes it, or that of another run.
    net.config, net.thresholds, net.calibrated_on = config, None, None
    net.compile(
        sgd(config.training),
        defence=config.defence,
        exit_weights=config.training.exit_weights,
        weight_decay=config.training.weight_decay,
        label_smoothing=config.training.label_smoothing,
        seed=config.training.seed,
        policy=config.policy.name,
    )
    return net


def _fit(net, keeper, cluster, record, data_dir):
    """Train from the last checkpoint to the end; whether there was anything left to do."""
    training, model = keeper.config.training, keeper.config.model
    done = keeper.restore()
    if not done:
        check_start(net, keeper.config)
    steps = training.iterations - done
    if steps:
        if cluster.is_chief:
            add_record(keeper.run, {**record, "from_iteration": done})
        stream = training_batches(keeper.config.data, training, model.input_shape, model.num_classes, done, data_dir)
        batches = cluster.batches(stream, training.batch_size)
        with keeper, explain_unreadable():
            net.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[keeper])
    return steps > 0


def _fresh_network(config):
    if config.compression.method != "none":
        raise ConfigError(
            f"compression.method: {config.compression.method!r} starts from the network of another run "
            f"({config.compression.source or 'unknown'}); make or resume it with `rdi-tf compress`"
        )
    return build(config)
