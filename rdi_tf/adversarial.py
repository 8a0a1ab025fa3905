"""The adversarial train_step of a network with many exits. Source: paper, section 3.3."""

import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.alignment import misalignment
from rdi_tf.attacks import craft, cross_entropy, defence_form, loss_function
from rdi_tf.attacks.balls import ball_around
from rdi_tf.config import DefenceConfig
from rdi_tf.distribution import for_fit, replica_seed, replicas_in_sync
from rdi_tf.errors import ConfigError
from rdi_tf.precision import FLOAT16_SCALE, computes_in_float16, unscaled
from rdi_tf.seeds import seed_scope

# Streams of the random layers' numbers in one iteration, folded into its seed. Below zero: the attacks fold in exits.
_CRAFTING = -1
_PASSES = {"clean": -2, "adversarial": -3}
_ALIGNMENT = -4


class AdversarialModel(keras.Model):
    """A model that `fit` trains on clean and adversarial images, at every exit.

    What inherits from it is called on images, returns exit logits (batch, exits, classes), and has `exit_names`,
    `num_exits`, `num_classes` and `exit_losses`, as `rdi_tf.network.RDINet` does.
    """

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
        self._in_float16 = computes_in_float16(self)
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
        seed, scale = self._iteration_seed(iteration), self._attack_scale(iteration)
        loss = loss_function(self.defence.attack.loss)
        losses = self.exit_losses(training=self.defence.training_mode, loss=loss)
        with seed_scope(_fold(seed, _CRAFTING)):
            found = craft(self._training_form, losses, images, labels, self.defence.attack, seed, scale)
        return tf.stop_gradient(found)

    def _attack_scale(self, iteration):
        if not self.defence.warmup_iterations:
            return 1.0
        return tf.minimum(tf.cast(iteration + 1, tf.float32) / self.defence.warmup_iterations, 1.0)

    def _iteration_seed(self, iteration):
        return replica_seed(_fold(self._seed, iteration))

    def train_step(self, data):
        """One step on `sum_k w_k * (CE_k(clean) + CE_k(adversarial)) / 2` (paper, section 3.3), L2 decay added.

        With `defence.alignment`, that times `misalignment` is added.
        """
        images, labels = data
        if labels.dtype.is_integer:
            labels = tf.one_hot(labels, self.num_classes)
        iteration = self.optimizer.iterations
        batches = {"clean": images}
        if self._training_form is not None:
            batches["adversarial"] = self.adversarial_images(images, labels, iteration)
        targets = (1.0 - self._label_smoothing) * labels + self._label_smoothing / self.num_classes
        seed = self._iteration_seed(iteration)
        with tf.GradientTape() as tape:
            logits = {kind: self._training_logits(batch, _fold(seed, _PASSES[kind])) for kind, batch in batches.items()}
            losses = [tf.linalg.matvec(cross_entropy(out, targets), self._exit_weights) for out in logits.values()]
            loss = tf.reduce_mean(tf.add_n(losses)) / len(losses)
            if self.defence.alignment:
                loss += self.defence.alignment * self.misalignment(images, labels, iteration)
            scaled = FLOAT16_SCALE * loss if self._in_float16 else loss
        gradients = tape.gradient(scaled, self.trainable_variables)
        self._update_weights(unscaled(gradients) if self._in_float16 else gradients)
        return for_fit(self._measured.update(loss, labels, logits))

    def misalignment(self, images, labels, iteration):
        """How far the training loss is from linear within the ball that the defence attacks; see `alignment.py`.

        Args:
          images, labels, iteration: as `adversarial_images`'; labels float32 (batch, classes).

        Returns:
          float32 scalar tensor in [0, 2].
        """
        seed = _fold(self._iteration_seed(iteration), _ALIGNMENT)
        epsilon = self._attack_scale(iteration) * self.defence.attack.epsilon
        moved = ball_around(images, "linf", epsilon).random_point(seed)
        every = self.exit_losses(training=self.defence.training_mode).every

        def loss(candidates):
            with seed_scope(seed):
                return tf.linalg.matvec(every(candidates, labels), self._exit_weights)

        return misalignment(loss, images, moved)

    def _update_weights(self, gradients):
        """Apply the gradients of this replica's mean loss; the optimiser adds up those of all replicas."""
        replicas = replicas_in_sync()
        variables = self.trainable_variables
        if self._weight_decay:
            gradients = [g + self._weight_decay * v for g, v in zip(gradients, variables, strict=True)]
        if replicas > 1:
            gradients = [g / replicas for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def _training_logits(self, images, seed):
        with seed_scope(seed):
            return self(images, training=True)


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


def _fold(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)
