"""Early exits on a server: the network's stages as TensorFlow functions, the batch compacted at each exit.

The device's counterpart is `rdi_tf.export.Cascade`.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from rdi_tf.data.checks import check_images
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.models import split_stages
from rdi_tf.policies import check_exit_thresholds, get_policy


@dataclass(frozen=True)
class EarlyExits:
    """What `EarlyExitPredictor` says of a batch.

    Attributes:
      predictions: int32 (batch,), the classes.
      exits: int32 (batch,), the exits taken, from 0.
      scores: float64 (batch,), the exit rule's score there.
      stage_images: how many images each stage that ran was run on.
    """

    predictions: np.ndarray
    exits: np.ndarray
    scores: np.ndarray
    stage_images: tuple[int, ...]


class EarlyExitPredictor:
    """Classifies batches with an `RDINet`; only the images that have not left go on to the next stage.

    The decisions are those of `rdi_tf.policies.decide` on the logits of all exits. Each stage is traced once, whatever
    the number of images.

    Attributes:
      policy: the exit rule.
    """

    def __init__(self, net, policy=None, thresholds=None):
        """Prepare.

        Args:
          net: `rdi_tf.network.RDINet`.
          policy: name of the exit rule; None for that of the network's configuration.
          thresholds: one for each exit but the last; None for the network's own, which belong to its own exit rule.

        Raises:
          ConfigError: an unknown rule, thresholds that do not fit or that neither side has, or a network that cannot
            be split into stages.
        """
        own = "entropy" if net.config is None else net.config.policy.name
        self.policy = get_policy(own if policy is None else policy)
        if thresholds is None and self.policy.name != own:
            raise ConfigError(f"thresholds: the network's are for {own!r}; expected some for {policy!r}, got none")
        self._num_exits = net.num_exits
        self._input_shape = tuple(net.network.input_shape[1:])
        self.thresholds = net.thresholds if thresholds is None else thresholds
        self._stages = [_compile(stage) for stage in split_stages(net.network)]

    @property
    def thresholds(self):
        """float64 array (exits - 1,); may be set at any time; unfit ones raise `ConfigError`."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, values):
        self._thresholds = np.array(check_exit_thresholds(self.policy.name, values, self._num_exits))

    def predict(self, images):
        """Classify a batch.

        Args:
          images: float array (batch, height, width, channels) in [0, 1], batch >= 1.

        Returns:
          The `EarlyExits`.

        Raises:
          DataError: images that the network cannot take.
        """
        check_images(images, self._input_shape)
        if len(images) == 0:
            raise DataError("images: expected one at least, got none")
        staying, logits, ran = np.arange(len(images)), [], []
        predictions, exits = np.zeros(len(images), np.int32), np.zeros(len(images), np.int32)
        scores = np.zeros(len(images), np.float64)
        carried = tf.constant(np.asarray(images, np.float32))
        for index, stage in enumerate(self._stages):
            stage_logits, carried = stage(carried)
            ran.append(len(staying))
            logits.append(stage_logits.numpy())
            log_probabilities = self.policy.log_probabilities(np.stack(logits, axis=1))
            score = self.policy.uncertainty(log_probabilities)[:, -1]
            last = index == self._num_exits - 1
            leaves = np.ones(len(staying), bool) if last else score < self._thresholds[index]
            rows = staying[leaves]
            predictions[rows], exits[rows] = log_probabilities[leaves, -1].argmax(axis=-1), index
            scores[rows] = score[leaves]
            if leaves.all():
                break
            staying, logits = staying[~leaves], [one[~leaves] for one in logits]
            carried = tf.gather(carried, np.flatnonzero(~leaves))
        return EarlyExits(predictions, exits, scores, tuple(ran))


def _compile(stage):
    """A stage as one traced function: inputs -> (logits, features; the last stage's features are its logits)."""

    @tf.function(input_signature=[tf.TensorSpec((None, *stage.input_shape[1:]), stage.input.dtype)], autograph=False)
    def run(inputs):
        outputs = tf.nest.flatten(stage(inputs, training=False))
        return outputs[0], outputs[-1]

    return run
