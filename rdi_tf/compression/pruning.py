"""Magnitude pruning: weights of small magnitude become zero, and stay zero while the others are fine-tuned.

The masks are tfmot's; its wrappers hold them, but stand beside the network, not in it: weights are masked before and
after every training step, so that the network is a plain one at any time, with zeros in its weights.
"""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

from rdi_tf.errors import ConfigError
from rdi_tf.network import RDINet

BLOCK = (4, 1)  # inputs x outputs of a dense layer whose weights go or stay together
RAMP_STEPS = 10
_PRUNED = ("Conv2D", "Dense")


class PrunedRDINet(RDINet):
    """An RDINet in training whose weights of small magnitude are zero; its file is a plain RDINet's.

    The share of zeros grows until the first validation and stays, so that every network that is validated, and may be
    kept, has the share that was asked for.
    """

    def __init__(self, network, config):
        """Prepare.

        Args:
          network: functional multi-exit network; its weights are pruned in place.
          config: `Config`, whose `compression` says how much and in which pattern.

        Raises:
          ConfigError: no layer can be pruned in that pattern.
        """
        super().__init__(network, config)
        layers = _layers(network, config.compression.pattern)
        options = _options(config)
        self._pruners = [tfmot.sparsity.keras.prune_low_magnitude(layer, **options) for layer in layers]
        for pruner in self._pruners:
            pruner.build(None)  # makes its masks; the layer inside is built

    def train_step(self, data):
        """One adversarial step on the weights that are left."""
        for pruner in self._pruners:
            pruner.pruning_step.assign(tf.cast(self.optimizer.iterations + 1, tf.int64))
            pruner.pruning_obj.conditional_mask_update()
            pruner.pruning_obj.weight_mask_op()
        return super().train_step(data)

    def constrain_weights(self):
        """Set what is pruned to zero."""
        for pruner in self._pruners:
            pruner.pruning_obj.weight_mask_op()

    def save(self, filepath, *args, **kwargs):
        """Write the network as it is, without masks; arguments as for `keras.Model.save`."""
        RDINet(self.network, self.config, self.thresholds, self.calibrated_on).save(filepath, *args, **kwargs)


def _layers(network, pattern):
    found = [layer for layer in network.layers if type(layer).__name__ in _PRUNED]
    if pattern == "block":
        found = [layer for layer in found if len(layer.kernel.shape) == 2]
    if not found:
        raise ConfigError(f"compression.pattern: no layer of the network can be pruned in the pattern {pattern!r}")
    return found


def _options(config):
    pattern, sparsity = config.compression.pattern, config.compression.sparsity
    if pattern == "2:4":
        if sparsity != 0.5:
            raise ConfigError(f"compression.sparsity: expected 0.5 in the pattern '2:4', got {sparsity}")
        return {"pruning_schedule": _schedule(config), "sparsity_m_by_n": (2, 4)}
    return {"pruning_schedule": _schedule(config), "block_size": BLOCK if pattern == "block" else (1, 1)}


def _schedule(config):
    """From no zeros to all of them, in steps that end before the first validation."""
    training, sparsity = config.training, config.compression.sparsity
    span = min(training.validate_every, training.iterations) - 1
    frequency = max(1, span // RAMP_STEPS)
    end = 1 + frequency * (span // frequency)
    if end == 1:
        return tfmot.sparsity.keras.ConstantSparsity(sparsity, 1, 1, 1)
    return tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, 1, end, frequency=frequency)
