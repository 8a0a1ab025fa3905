"""What a training step measures."""

import tensorflow as tf

from rdi_tf._keras import keras


class TrainingMetrics:
    """Loss, and accuracy of each exit on each kind of images.

    A plain object: metrics that are attributes of a model count among its weights, in its files and its averages.
    """

    def __init__(self, kinds, exit_names, in_float16=False):
        """Prepare.

        Args:
          kinds: which images are trained on, of "clean" and "adversarial".
          exit_names: names of the exits, in order.
          in_float16: whether to count the updates whose gradients overflowed, too.
        """
        self._loss = keras.metrics.Mean("loss")
        self._accuracies = {
            kind: [keras.metrics.CategoricalAccuracy(f"{kind}_{name}") for name in exit_names] for kind in kinds
        }

        self._overflowed = [keras.metrics.Mean("overflowed")] if in_float16 else []

    def all(self):
        """The tf_keras metrics, loss first."""
        return [self._loss, *(metric for group in self._accuracies.values() for metric in group), *self._overflowed]

    def overflowed(self, whether):
        """Take an update in: bool scalar tensor, whether its gradients overflowed."""
        self._overflowed[0].update_state(tf.cast(whether, tf.float32))

    def update(self, loss, labels, outputs):
        """Take a pass in: scalar loss, labels (batch, classes), and for each kind outputs (batch, exits, classes)."""
        self._loss.update_state(loss)
        for kind, metrics in self._accuracies.items():
            for exit_index, metric in enumerate(metrics):
                metric.update_state(labels, outputs[kind][:, exit_index])

    def results(self):
        """Means since the last reset, a dictionary from names to scalar tensors."""
        return {metric.name: metric.result() for metric in self.all()}
