"""RDINet: a functional network with named exits and the adversarial train_step. Source: paper, section 3."""

import dataclasses
import zipfile
import zlib

import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks import ExitLosses, ExitRule, craft, cross_entropy, defence_form, loss_function
from rdi_tf.calibration_source import CalibrationSource
from rdi_tf.config import Config, DefenceConfig
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.models import attach_branches, build_network

# What Keras, zipfile and h5py raise on a file that is damaged or something else.
UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@keras.saving.register_keras_serializable("rdi_tf")
class RDINet(keras.Model):
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

    def exit_losses(self, training=False, loss=cross_entropy):
        """What attacks need to know of this network.

        Args:
          training: craft in training mode (the authors' way: dropout on, batch statistics, whose running averages
            these passes move, too) or in inference mode.
          loss: callable (logits, labels) -> loss per image (and exit).

        Returns:
          `rdi_tf.attacks.ExitLosses`.
        """

        def logits_of(network):
            return lambda images: network(images, training=training)

        single_logits = [logits_of(subnetwork) for subnetwork in self._subnetworks]
        return ExitLosses.of_logits(self.exit_names, single_logits, logits_of(self), loss, self.exit_rule)

    @property
    def exit_rule(self):
        """The `rdi_tf.attacks.ExitRule` that this network leaves by; None before calibration."""
        if self.config is None or self.thresholds is None:
            return None
        return ExitRule(self.config.policy.name, self.thresholds)

    def compile(
        self,
        optimizer,
        defence=None,
        exit_weights=(),
        weight_decay=0.0,
        label_smoothing=0.0,
        seed=0,
        **kwargs,
    ):
        """Prepare for `fit`.

        Args:
          optimizer: a tf_keras optimizer.
          defence: `DefenceConfig`; None for the standard defence (clean images only).
          exit_weights: weight of each exit's loss, in order; empty for all ones.
          weight_decay: coefficient of the L2 term that is added to every weight's gradient (PyTorch's convention).
          label_smoothing: mass moved from the true class to the uniform distribution.
          seed: from which the attacks' random numbers derive, folded with the iteration.
          **kwargs: passed to `keras.Model.compile`.

        Raises:
          ConfigError: a number of weights that is not the number of exits.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.defence = defence or DefenceConfig(name="standard")
        weights = exit_weights or (1.0,) * self.num_exits
        if len(weights) != self.num_exits:
            raise ConfigError(f"exit_weights: expected {self.num_exits}, one for each exit, got {len(weights)}")
        self._exit_weights = tf.constant(weights, tf.float32)
        self._weight_decay = weight_decay
        self._label_smoothing = label_smoothing
        self._seed = tf.constant([seed, 0], tf.int32)
        kinds = ["clean"] if self._training_form is None else ["clean", "adversarial"]
        self._measured = _TrainingMetrics(kinds, self.exit_names)

    @property
    def metrics(self):
        """The training metrics: loss, and accuracy of each exit on clean and adversarial images."""
        return self._measured.all()

    @property
    def _training_form(self):
        return defence_form(self.defence.name, self.exit_names)

    def adversarial_images(self, images, labels, iteration):
        """The images that the defence trains on at an iteration.

        Args:
          images: float32 (batch, height, width, channels) in [0, 1].
          labels: int32 (batch,) or float32 (batch, classes).
          iteration: int64 scalar tensor; seeds the random numbers and drives the warm-up.

        Returns:
          float32 tensor like `images`.
        """
        seed = tf.random.experimental.stateless_fold_in(self._seed, iteration)
        scale = 1.0
        if self.defence.warmup_iterations:
            scale = tf.minimum(tf.cast(iteration + 1, tf.float32) / self.defence.warmup_iterations, 1.0)
        loss = loss_function(self.defence.attack.loss)
        losses = self.exit_losses(training=self.defence.training_mode, loss=loss)
        found = craft(self._training_form, losses, images, labels, self.defence.attack, seed, scale)
        return tf.stop_gradient(found)

    def train_step(self, data):
        """One step on `sum_k w_k * (CE_k(clean) + CE_k(adversarial)) / 2` (paper, section 3.3), L2 decay added."""
        images, labels = data
        if labels.dtype.is_integer:
            labels = tf.one_hot(labels, self.num_classes)
        batches = {"clean": images}
        if self._training_form is not None:
            batches["adversarial"] = self.adversarial_images(images, labels, self.optimizer.iterations)
        targets = (1.0 - self._label_smoothing) * labels + self._label_smoothing / self.num_classes
        with tf.GradientTape() as tape:
            logits = {kind: self(batch, training=True) for kind, batch in batches.items()}
            losses = [tf.linalg.matvec(cross_entropy(out, targets), self._exit_weights) for out in logits.values()]
            loss = tf.reduce_mean(tf.add_n(losses)) / len(losses)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        if self._weight_decay:
            gradients = [g + self._weight_decay * v for g, v in zip(gradients, variables, strict=True)]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._measured.update(loss, labels, logits)

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


class _TrainingMetrics:
    """Loss, and accuracy of each exit on each kind of images.

    A plain object: metrics that are attributes of a model count among its weights, in its files and its averages.
    """

    def __init__(self, kinds, exit_names):
        self._loss = keras.metrics.Mean("loss")
        self._accuracies = {
            kind: [keras.metrics.CategoricalAccuracy(f"{kind}_{name}") for name in exit_names] for kind in kinds
        }

    def all(self):
        return [self._loss, *(metric for group in self._accuracies.values() for metric in group)]

    def update(self, loss, labels, logits):
        self._loss.update_state(loss)
        for kind, metrics in self._accuracies.items():
            for exit_index, metric in enumerate(metrics):
                metric.update_state(labels, logits[kind][:, exit_index])
        return {metric.name: metric.result() for metric in self.all()}


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

    Args:
      path: file written by `RDINet.save`.

    Returns:
      The `RDINet`, not compiled.

    Raises:
      CheckpointError: no such file, unreadable, or not an RDINet.
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: not a readable .keras file of rdi-tf: {reason}") from error
    if not isinstance(model, RDINet):
        raise CheckpointError(f"{path}: expected an RDINet, got a {type(model).__name__}")
    return model
