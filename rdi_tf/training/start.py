"""Training that starts from what another network has learnt, instead of from weights drawn at random."""

import dataclasses
from pathlib import Path

from rdi_tf.calibration import load_run
from rdi_tf.errors import ConfigError
from rdi_tf.models.graph import ordered_nodes
from rdi_tf.network import load
from rdi_tf.runs import RunFolder


def read_start(path):
    """The network to start from.

    Args:
      path: a run folder, whose model.keras counts, or a `.keras` file.

    Returns:
      The `RDINet`.

    Raises:
      CheckpointError: there is none that can be read.
    """
    return load_run(RunFolder.open(path)) if Path(path).is_dir() else load(path)


def with_start(config, start):
    """The `Config` of a run that starts from the `RDINet` `start`: it names its weights.

    Raises:
      ConfigError: it names others.
    """
    found, named = start.weights_digest(), config.training.initial_weights
    if named not in ("", found):
        raise ConfigError(f"training.initial_weights: this run starts from weights with SHA-256 {named}, got {found}")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, initial_weights=found))


def copy_weights(start, net):
    """Give one `RDINet` all weights of another, batch norm's statistics included.

    Raises:
      ConfigError: networks of different weights, of which the first that differs is named, or with exits elsewhere.
    """
    weights, ours = start.network.get_weights(), net.network.weights
    if len(weights) != len(ours):
        raise ConfigError(
            f"--from: expected a network of the same layers, with {len(ours)} arrays of weights, got {len(weights)}"
        )
    for value, weight in zip(weights, ours, strict=True):
        if value.shape != tuple(weight.shape):
            raise ConfigError(
                f"--from: expected a network of the same layers, with {weight.name} of shape {tuple(weight.shape)}, "
                f"got {value.shape}"
            )
    theirs, wanted = _layers_before_exits(start), _layers_before_exits(net)
    if theirs != wanted:  # branches on maps of one shape have the same weights, wherever they leave
        raise ConfigError(
            f"--from: expected exits where the configuration has them, behind {wanted} layers each, got {theirs}"
        )
    net.network.set_weights(weights)


def _layers_before_exits(net):
    """How many layers each exit depends on, a list."""
    return [len(ordered_nodes([logits])) for logits in net.network.outputs]


def check_start(net, config):
    """Refuse to begin a run from other weights than those that its `Config` names.

    Raises:
      ConfigError: it names weights that `net`, an `RDINet` about to be trained, does not have.
    """
    named = config.training.initial_weights
    if named and net.weights_digest() != named:
        raise ConfigError(
            f"training.initial_weights: this run starts from weights with SHA-256 {named}; say --from with the run, or "
            "the model file, that has them"
        )
