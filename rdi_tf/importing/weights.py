"""The authors' released RDI-ResNet weights as a run of ours.

The released model is RDI-ResNet38 of the max-average defence (Hu et al., ICLR 2020), saved by PyTorch. Its network is
the one that `branch = "paper"` builds: only names and layouts differ.
"""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np

from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.importing.torch_file import read_arrays
from rdi_tf.network import build
from rdi_tf.policies import check_exit_thresholds
from rdi_tf.runs import RunFolder, atomic_path

# PyTorch's counter of batches, which Keras' batch norm does not keep: the only array that may be left over.
COUNTER = "num_batches_tracked"

# Our variables' names, in PyTorch's words.
_VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

_BLOCK_PARTS = {name: name for name in ("conv1", "bn1", "conv2", "bn2")}
_BRANCH_PARTS = {
    "conv1": "1",
    "bn1": "2",
    "conv2": "5",
    "bn2": "6",
    **{f"block_{name}": f"1.{name}" for name in _BLOCK_PARTS},
}
_SHORTCUT_PARTS = {"shortcut": "downsample.0", "shortcut_bn": "downsample.1"}
# Where the dense layer stands in a branch, by the branch's first layer with weights.
_DENSE_AFTER = {"conv1": "9", "block_conv1": "4", "logits": "2"}


def import_weights(path, config, run_dir, thresholds=None):
    """Make a run folder of the authors' weights.

    Args:
      path: their PyTorch checkpoint, or its arrays as .npz under PyTorch's names.
      config: `Config` of the network that they belong to: backbone "resnet" with the paper's branches.
      run_dir: the run's folder; made if it is not there.
      thresholds: thresholds of the exit policy, one for each exit but the last; None to leave the network without,
        until it is calibrated.

    Returns:
      The `RunFolder`, with config.toml and model.keras.

    Raises:
      CheckpointError: a file that cannot be trusted or does not fit the network, or a run folder that holds a model.
      ConfigError: another kind of network, or thresholds that are not one number for each early exit, within what
        the rule's scores can reach.
    """
    if config.model.backbone != "resnet" or config.model.branch != "paper":
        raise ConfigError(
            "import-weights: expected a configuration with model.backbone 'resnet' and model.branch 'paper', got "
            f"{config.model.backbone!r} and {config.model.branch!r}"
        )
    arrays = read_arrays(path)
    config = dataclasses.replace(config, source=_source(path, config))
    net = build(config)
    if thresholds is not None:
        net.thresholds = check_exit_thresholds(config.policy.name, thresholds, net.num_exits)
    assign(net.network, arrays)
    run = RunFolder.create(run_dir, config)
    if run.model_file.exists():
        raise CheckpointError(f"{run.model_file} exists; choose another folder")
    with atomic_path(run.model_file) as temporary:
        net.save(temporary)
    return run


def assign(network, arrays):
    """Set every weight of a multi-exit ResNet from PyTorch's arrays; sets none unless all fit.

    Args:
      network: functional network as `build_network` makes it.
      arrays: dictionary PyTorch name -> array in PyTorch's layout.

    Raises:
      CheckpointError: names the first array that is missing, of another shape or not finite, or that is left over.
    """
    left, found = dict(arrays), []
    for layer in network.layers:
        for variable in layer.weights:
            kind = variable.name.rpartition("/")[2].partition(":")[0]
            name = f"{torch_name(layer.name, network)}.{_VARIABLES[kind]}"
            if name not in left:
                raise CheckpointError(f"the file has no array {name!r} for {layer.name}/{kind}")
            array = _from_torch_layout(left.pop(name))
            if array.shape != tuple(variable.shape) or array.dtype.kind != "f" or not np.isfinite(array).all():
                raise CheckpointError(
                    f"{name}: expected finite floats of shape {tuple(variable.shape)} (Keras' layout) for "
                    f"{layer.name}/{kind}, got {array.dtype} of shape {array.shape}"
                )
            found.append((variable, array))
    unused = [name for name in left if name.rpartition(".")[2] != COUNTER]
    if unused:
        raise CheckpointError(f"the file has an array {unused[0]!r} that this network does not ({len(unused)} such)")
    for variable, array in found:
        variable.assign(array.astype(np.float32))


def torch_name(layer_name, network):
    """PyTorch's name of one of our layers, as "group0_layer3.conv1".

    Args:
      layer_name: name of a layer with weights.
      network: the network that it belongs to; where a branch's dense layer stands depends on what precedes it.

    Raises:
      CheckpointError: a layer that the authors' network does not have.
    """
    if layer_name in ("conv1", "bn1", "logits"):
        return layer_name.replace("logits", "fc")
    if match := re.fullmatch(r"group(\d+)_block(\d+)_(\w+)", layer_name):
        group, block, part = match.groups()
        if part in _BLOCK_PARTS | _SHORTCUT_PARTS:
            return f"group{int(group) - 1}_layer{int(block) - 1}.{(_BLOCK_PARTS | _SHORTCUT_PARTS)[part]}"
    if match := re.fullmatch(r"branch_(\d+)_(\w+)", layer_name):
        branch, part = match.groups()
        if part in _BRANCH_PARTS:
            return f"branch_layer{branch}.{_BRANCH_PARTS[part]}"
        if part == "logits":
            names = {layer.name for layer in network.layers}
            first = next(first for first in _DENSE_AFTER if f"branch_{branch}_{first}" in names)
            return f"branch_layer{branch}.{_DENSE_AFTER[first]}"
    raise CheckpointError(f"{layer_name}: the authors' network has no such layer")


def _from_torch_layout(array):
    """Convolutions (out, in, height, width) -> (height, width, in, out); dense (out, in) -> (in, out)."""
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    return array if order is None else np.ascontiguousarray(array.transpose(order))


def _source(path, config):
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return f"Weights imported from {Path(path).name} (SHA-256 {digest}). {config.source}".rstrip()
