"""Optimiser, learning-rate schedules and weight averaging."""

import contextlib

import tensorflow as tf

from rdi_tf._keras import keras


@keras.saving.register_keras_serializable("rdi_tf")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then down to zero: linearly ("one_cycle") or along half a cosine ("cosine")."""

    def __init__(self, peak, iterations, warmup_fraction, shape):
        """Prepare.

        Args:
          peak: learning rate at the end of the warm-up.
          iterations: length of the whole schedule.
          warmup_fraction: share of it that is warm-up.
          shape: "one_cycle" or "cosine".
        """
        super().__init__()
        self.peak, self.iterations, self.warmup_fraction, self.shape = peak, iterations, warmup_fraction, shape

    def __call__(self, step):
        """Learning rate at an iteration (from 0), a float32 scalar tensor."""
        step = tf.cast(step, tf.float32)
        warmup = max(1.0, self.warmup_fraction * self.iterations)
        left = tf.clip_by_value((self.iterations - step) / max(1.0, self.iterations - warmup), 0.0, 1.0)
        if self.shape == "cosine":
            left = 0.5 * (1.0 - tf.cos(3.14159265 * left))
        return self.peak * tf.where(step < warmup, tf.minimum((step + 1.0) / warmup, 1.0), left)

    def get_config(self):
        """Arguments of the constructor."""
        return {
            "peak": self.peak,
            "iterations": self.iterations,
            "warmup_fraction": self.warmup_fraction,
            "shape": self.shape,
        }


def learning_rate_schedule(training):
    """The learning rate of a `TrainingConfig`: a tf_keras LearningRateSchedule, or a number if it never changes."""
    if training.schedule == "step" and not training.decay_at:
        return training.learning_rate
    if training.schedule == "step":
        rates = [training.learning_rate * training.decay_factor**k for k in range(len(training.decay_at) + 1)]
        # Keras keeps the old rate at the boundary itself; the paper's schedule changes there.
        boundaries = [iteration - 1 for iteration in training.decay_at]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    return WarmupThenDecay(training.learning_rate, training.iterations, training.warmup_fraction, training.schedule)


def sgd(training):
    """SGD with momentum under the schedule of a `TrainingConfig`; weight decay is the train_step's.

    A departure from the authors' PyTorch: tf_keras' velocity has the learning rate in it, so that where the rate falls
    by ten, the steps of the old one die away over some ten iterations; PyTorch multiplies by the rate of the moment.
    """
    return keras.optimizers.SGD(learning_rate_schedule(training), momentum=training.momentum)


class WeightAverage(tf.Module):
    """Exponential moving average of all weights of a model, batch-norm statistics included.

    The decay is shortened early on, min(decay, (1 + n) / (10 + n)), so that the first weights are forgotten.
    """

    def __init__(self, model, decay, constrain=None):
        """Start from the model's present weights.

        Args:
          model: a built tf_keras model.
          decay: decay per iteration, 0 <= decay < 1.
          constrain: callable without arguments that restores what must hold of the model's weights, of which averages
            know nothing (zeros of weights that were pruned on the way); None where nothing must.
        """
        super().__init__()
        self._constrain = constrain
        self._weights = [weight for weight in model.weights if weight.dtype.is_floating]
        self._averages = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._decay = decay

    @tf.function(autograph=False)
    def update(self, iteration):
        """Take the present weights in; `iteration` is an int64 scalar tensor, the number of updates before."""
        number = tf.cast(iteration, tf.float32)
        kept = tf.minimum(self._decay, (1.0 + number) / (10.0 + number))
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign_add((1.0 - kept) * (weight - average))

    @contextlib.contextmanager
    def applied(self):
        """Context manager: the model holds the averages inside, its own weights again afterwards."""
        own = [weight.numpy() for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.assign(average)
        try:
            if self._constrain is not None:
                self._constrain()
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)
