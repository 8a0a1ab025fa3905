"""RDINet: a functional network with named exits; `rdi_tf.defence` trains it. Source: paper, section 3."""

import dataclasses
import hashlib
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks import ExitLosses, ExitRule, cross_entropy
from rdi_tf.attacks.exit_rules import outputs_of
from rdi_tf.calibration_source import CalibrationSource
from rdi_tf.config import Config
from rdi_tf.defence.model import AdversarialModel
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.model_files import refuse_code
from rdi_tf.models import attach_branches, build_network, fold_batch_norm
from rdi_tf.models.random_layers import seed_random_layers
from rdi_tf.precision import computes_in_float16, gradient_scaled
from rdi_tf.seeds import folded

# What Keras, TensorFlow, zipfile and h5py raise on a file that is damaged or something else.
UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
    zipfile.BadZipFile,
    zlib.error,
)


@keras.saving.register_keras_serializable("rdi_tf")
class RDINet(AdversarialModel):
    """A classifier with early exits, trained against attacks that know of all exits.

    Attributes:
      network: the functional model; one output (batch, classes) of logits for each exit, in order.
      config: the `Config` that it was built from, or None.
      thresholds: floats, one for each early exit, or None before calibration. Saved with the model.
      calibrated_on: `CalibrationSource` of the thresholds; None where nobody recorded it. Saved with the model.
    """

    def __init__(self, network, config=None, thresholds=None, calibrated_on=None, **kwargs):
        """Wrap a functional multi-exit network.

        Args:
          network: functional tf_keras model whose outputs come from layers named as the exits, last "main".
          config: `Config`, or its dictionary (as stored in a .keras file), or None.
          thresholds: thresholds of the exit policy, one for each exit but the last, or None.
          calibrated_on: `CalibrationSource`, or its dictionary, or None.
          **kwargs: `keras.Model`'s own, e.g. name.
        """
        super().__init__(**kwargs)
        self.network = network
        self.config = Config.from_dict(config) if isinstance(config, dict) else config
        self.thresholds = None if thresholds is None else tuple(thresholds)
        self.calibrated_on = CalibrationSource(**calibrated_on) if isinstance(calibrated_on, dict) else calibrated_on
        seed_random_layers(network)
        self._outputs = list(network.outputs)
        self._subnetworks = [keras.Model(network.input, output) for output in self._outputs]
        self._check_outputs()
        self.built = True  # the network's weights are there; Keras would warn when it saves an uncalled model

    def _check_outputs(self):
        names = self.exit_names
        expected = (*(f"branch_{k + 1}" for k in range(len(names) - 1)), "main")
        if names != expected:
            raise ConfigError(f"network outputs: expected layers {expected}, got {names}")

    @property
    def exit_names(self):
        """Names of the exits in order, last "main"."""
        return tuple(self.network.output_names)

    @property
    def num_exits(self):
        """Number of exits, main included."""
        return len(self._outputs)

    @property
    def num_classes(self):
        """Number of classes."""
        return self._outputs[0].shape[-1]

    def weights_digest(self):
        """SHA-256 of the weights, in hexadecimal: what tells trained networks apart."""
        digest = hashlib.sha256()
        for weight in self.network.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        return digest.hexdigest()

    def subnetwork(self, exit_index):
        """The part of the network that exit `exit_index` (from 0) needs: images -> its logits (batch, classes)."""
        return self._subnetworks[exit_index]

    def call(self, images, training=False):
        """Logits of all exits.

        Args:
          images: float32 (batch, height, width, channels) in [0, 1].
          training: whether dropout and batch statistics are used.

        Returns:
          float32 tensor (batch, exits, classes).
        """
        outputs = self.network(images, training=training)
        return tf.stack(outputs if isinstance(outputs, (list, tuple)) else [outputs], axis=1)

    def exit_losses(self, training=False, loss=cross_entropy, outputs="exits"):
        """What attacks need to know of this network.

        Args:
          training: craft in training mode (the authors' way: dropout on, batch statistics, whose running averages
            these passes move, too) or in inference mode. Inside a seed scope (`rdi_tf.seeds`) each exit's attack has
            its own dropout masks, new ones in each step; candidates are compared under the same mask, where the
            authors draw one for each.
          loss: callable (logits, labels) -> loss per image (and exit).
          outputs: "exits" for each exit's own logits, or the name of an exit rule for what it calls classes from. Not
            for attacks on the rule, which combine the exits' logits themselves.

        Returns:
          `rdi_tf.attacks.ExitLosses`.
        """
        if outputs == "exits":
            single, every = self._subnetworks, self
        else:
            single, every = self._combined_outputs(outputs)

        def logits_of(network, number):
            def logits(images):
                with folded(number):
                    return network(images, training=training)

            return logits

        single_logits = [logits_of(network, number) for number, network in enumerate(single)]
        every_logits = logits_of(every, self.num_exits)
        if computes_in_float16(self.network):
            single_logits, every_logits = (
                [gradient_scaled(part) for part in single_logits],
                gradient_scaled(every_logits),
            )
        return ExitLosses.of_logits(self.exit_names, single_logits, every_logits, loss, self.exit_rule)

    def folded(self):
        """The same network for inference mode alone, over the same weights: batch norm folded into its convolutions.

        Returns:
          An `RDINet`, cheaper to run and to attack; see `rdi_tf.models.fold_batch_norm`.
        """
        return RDINet(fold_batch_norm(self.network), self.config, self.thresholds)

    def _combined_outputs(self, rule):
        """Callables (images, training) -> what a rule calls classes from: one for each exit in a list; all at once."""

        def every(images, training):
            return outputs_of(rule, self(images, training=training))

        def up_to(exit_index):
            part = keras.Model(self.network.input, self._outputs[: exit_index + 1])

            def last(images, training):
                found = part(images, training=training)
                return outputs_of(rule, tf.stack(found if isinstance(found, list) else [found], axis=1))[:, -1]

            return last

        return [up_to(exit_index) for exit_index in range(self.num_exits)], every

    @property
    def exit_rule(self):
        """The `rdi_tf.attacks.ExitRule` that this network leaves by; None before calibration."""
        if self.config is None or self.thresholds is None:
            return None
        return ExitRule(self.config.policy.name, self.thresholds)

    def get_config(self):
        """What `.keras` files hold besides the weights: network, configuration and thresholds."""
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "config": None if self.config is None else self.config.to_dict(),
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "calibrated_on": None if self.calibrated_on is None else dataclasses.asdict(self.calibrated_on),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild from `get_config`'s dictionary."""
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects=custom_objects)
        return cls(network, **config)


def build(config):
    """A new RDINet with fresh weights for a `Config`."""
    return RDINet(build_network(config.model), config=config)


def attach_exits(model, at, branch="light"):
    """Make a multi-exit network of any functional tf_keras classifier.

    Args:
      model: functional tf_keras model, image in, (batch, classes) out; its weights are kept.
      at: names of its layers after which branches leave, in order; each must be a cut point.
      branch: branch design, a name in `rdi_tf.models.BRANCHES`, or a function of the same form.

    Returns:
      An `RDINet` with `len(at) + 1` exits, the last one the model's own output.

    Raises:
      ConfigError: a layer that does not exist or is no cut point, with the reason.
    """
    return RDINet(attach_branches(model, at, branch))


def load(path):
    """Read an RDINet from a `.keras` file.

    Layers are Keras' own, or classes that were registered (`keras.saving.register_keras_serializable`) before. Files
    that ask for anything else are refused before anything in them is made, see `rdi_tf.model_files`.

    Args:
      path: file written by `RDINet.save`.

    Returns:
      The `RDINet`, not compiled.

    Raises:
      CheckpointError: no such file, unreadable, one that could run code of whoever made it, or not an RDINet.
    """
    try:
        refuse_code(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: not a readable .keras file of rdi-tf: {reason}") from error
    if not isinstance(model, RDINet):
        raise CheckpointError(f"{path}: expected an RDINet, got a {type(model).__name__}")
    return model
