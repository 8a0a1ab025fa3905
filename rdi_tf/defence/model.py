"""The adversarial train_step of a network with many exits. Source: paper, section 3.3."""

import dataclasses
import functools

import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks import craft, defence_form, loss_function
from rdi_tf.attacks.balls import ball_around
from rdi_tf.attacks.exit_rules import BatchRule, outputs_of
from rdi_tf.config import DefenceConfig
from rdi_tf.defence.alignment import misalignment
from rdi_tf.defence.losses import TrainingLoss
from rdi_tf.defence.metrics import TrainingMetrics
from rdi_tf.defence.weight_perturbation import moved
from rdi_tf.distribution import for_fit, in_any_replica, replica_seed, replicas_in_sync
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.precision import FLOAT16_SCALE, computes_in_float16, overflowed, unscaled
from rdi_tf.seeds import fold, seed_scope

# Streams of the random layers' numbers in one iteration, folded into its seed. Below zero: the attacks fold in exits.
_CRAFTING = -1
_PASSES = {"clean": -2, "adversarial": -3}
_ALIGNMENT = -4
_REPLAYS = -5
# By how much augmentation may leave the range of pixels.
_ROUNDING = 1e-3


class AdversarialModel(keras.Model):
    """A model that `fit` trains on clean and adversarial images, at every exit.

    What inherits from it is called on images, returns exit logits (batch, exits, classes), and has `exit_names`,
    `num_exits`, `num_classes`, `exit_losses` and `folded`, as `rdi_tf.network.RDINet` does.
    """

    def compile(
        self,
        optimizer,
        defence=None,
        exit_weights=(),
        weight_decay=0.0,
        label_smoothing=0.0,
        seed=0,
        policy="entropy",
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
          policy: name of the exit rule that the defence "rerouted" attacks.
          **kwargs: passed to `keras.Model.compile`.

        Raises:
          ConfigError: a number of weights that is not the number of exits.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.defence = defence or DefenceConfig(name="standard")
        weights = exit_weights or (1.0,) * self.num_exits
        if len(weights) != self.num_exits:
            raise ConfigError(f"exit_weights: expected {self.num_exits}, one for each exit, got {len(weights)}")
        self._loss = TrainingLoss(self.defence, tf.constant(weights, tf.float32), label_smoothing)
        self._weight_decay = weight_decay
        self._policy = policy
        self._seed = tf.constant([seed, 0], tf.int32)
        self._in_float16 = computes_in_float16(self)
        # Not by setattr, which would track it: its weights are this model's own.
        object.__setattr__(self, "_crafting_model", self if self.defence.training_mode else self.folded())
        self._kinds = kinds_of_images(self.defence)
        self._measured = TrainingMetrics(self._kinds, self.exit_names, self._in_float16)

    def evaluate(self, *args, **kwargs):
        """Refused, by `ConfigError`: Keras would measure nothing. Validation data of `fit` comes here, too."""
        raise ConfigError(
            "evaluate, validation_data: Keras cannot measure a network of exits; use rdi_tf.evaluate for a run, "
            "rdi_tf.evaluation.ExitAttacker for a network"
        )

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
        form, attack = self._training_form, self.defence.attack
        with seed_scope(fold(seed, _CRAFTING)):
            found = craft(form, self._attacked(form, images), images, labels, attack, seed, scale)
        return tf.stop_gradient(found)

    def _attacked(self, form, images):
        """What the defence's attack maximises around these images, as `ExitLosses`."""
        in_training, name = self.defence.training_mode, self.defence.attack.loss
        model, outputs = self._crafting_model, self.defence.outputs
        if form == "rerouted":  # which combines the exits as its rule does
            losses = model.exit_losses(in_training, loss_function(name))
            return dataclasses.replace(losses, rule=BatchRule.of_equal_shares(self._policy, losses.logits(images)))
        if name == "divergence":
            return model.exit_losses(in_training, outputs=outputs).diverging_from(images)
        return model.exit_losses(in_training, loss_function(name), outputs)

    def _attack_scale(self, iteration):
        if not self.defence.warmup_iterations:
            return 1.0
        return tf.minimum(tf.cast(iteration + 1, tf.float32) / self.defence.warmup_iterations, 1.0)

    def _iteration_seed(self, iteration):
        return replica_seed(fold(self._seed, iteration))

    def train_step(self, data):
        """One step on the loss that `rdi_tf.defence.losses.TrainingLoss` describes, L2 decay added.

        With `defence.alignment`, that times `misalignment` is added. With `defence.weight_perturbation` the gradient is
        taken at other weights. The defence "free" makes several steps, which count as one iteration; see `_replay`.
        """
        images, labels = data
        _check_range(images)
        if labels.dtype.is_integer:
            labels = tf.one_hot(labels, self.num_classes)
        iteration = tf.identity(self.optimizer.iterations)
        if self.defence.name == "free":
            self._replay(images, labels, iteration)
        else:
            batches = {"clean": images}
            if self._training_form is not None:
                batches["adversarial"] = self.adversarial_images(images, labels, iteration)
            self.update_weights(self._training_gradients(batches, labels, iteration))
        return for_fit(self._measured.results())

    def _training_gradients(self, batches, labels, iteration):
        differentiate = functools.partial(
            self._differentiate, batches, labels, iteration, self._iteration_seed(iteration)
        )
        gradients = differentiate()
        if not self.defence.weight_perturbation:
            return gradients
        with moved(self, gradients, self._attack_scale(iteration) * self.defence.weight_perturbation):
            return differentiate(measured=False)

    def _replay(self, images, labels, iteration):
        """Free adversarial training: `attack.steps` updates on one batch, whose passes move the images, too.

        The perturbation starts anew in each iteration, where the authors carry it over to the next batch: an iteration
        then depends on nothing but weights and optimiser. All its updates are made at one learning rate.

        Source: Shafahi et al., "Adversarial Training for Free!" (NeurIPS 2019), algorithm 1.
        """
        attack, scale = self.defence.attack, self._attack_scale(iteration)
        seed = fold(self._iteration_seed(iteration), _REPLAYS)
        ball = ball_around(images, attack.norm, scale * attack.epsilon)
        candidates = ball.project(ball.random_point(seed) if attack.random_start else images)
        for replay in range(attack.steps):
            passes = fold(seed, replay), [candidates]
            *gradients, ascent = self._differentiate({"adversarial": candidates}, labels, iteration, *passes)
            self.optimizer.iterations.assign(iteration)  # which the update before has counted
            self.update_weights(gradients)
            candidates = ball.project(candidates + scale * attack.step_size * ball.direction(ascent))

    def _differentiate(self, batches, labels, iteration, seed, watched=(), measured=True):
        """Gradients of the training loss: of all trainable variables, then of the tensors that are watched."""
        with tf.GradientTape() as tape:
            tape.watch(watched)
            passes = {kind: (batches[kind], fold(seed, _PASSES[kind])) for kind in self._kinds}
            outputs = {kind: self._training_outputs(*of_kind) for kind, of_kind in passes.items()}
            loss = self._loss(outputs, labels)
            if self.defence.alignment:
                loss += self.defence.alignment * self.misalignment(batches["clean"], labels, iteration)
            scaled = FLOAT16_SCALE * loss if self._in_float16 else loss
        gradients = tape.gradient(scaled, [*self.trainable_variables, *watched])
        if measured:
            self._measured.update(loss, labels, outputs)
        return unscaled(gradients) if self._in_float16 else gradients

    def misalignment(self, images, labels, iteration):
        """How far the training loss is from linear within the ball that the defence attacks; see `alignment.py`.

        Args:
          images, labels, iteration: as `adversarial_images`'; labels float32 (batch, classes).

        Returns:
          float32 scalar tensor in [0, 2].
        """
        seed = fold(self._iteration_seed(iteration), _ALIGNMENT)
        epsilon = self._attack_scale(iteration) * self.defence.attack.epsilon
        moved = ball_around(images, "linf", epsilon).random_point(seed)
        every = self.exit_losses(self.defence.training_mode, outputs=self.defence.outputs).every

        def loss(candidates):
            with seed_scope(seed):
                return self._loss.weighted(every(candidates, labels))

        return misalignment(loss, images, moved)

    def update_weights(self, gradients):
        """Apply the gradients of this replica's mean loss; the optimiser adds up those of all replicas.

        In mixed float16, gradients that overflowed on one replica add nothing on any, nor does weight decay; momentum
        goes on.

        Args:
          gradients: of each trainable variable, in order; all zero where they overflowed.
        """
        replicas = replicas_in_sync()
        variables = self.trainable_variables
        lost = in_any_replica(overflowed(gradients)) if self._in_float16 else None
        if self._weight_decay:
            gradients = [g + self._weight_decay * v for g, v in zip(gradients, variables, strict=True)]
        if lost is not None:
            self._measured.overflowed(lost)
            gradients = [tf.where(lost, 0.0, gradient) for gradient in gradients]
        if replicas > 1:
            gradients = [g / replicas for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.constrain_weights()

    def constrain_weights(self):
        """Restore what must hold of the weights, after an update or once averages took their place; here nothing."""

    def _training_outputs(self, images, seed):
        with seed_scope(seed):
            logits = self(images, training=True)
        return logits if self.defence.outputs == "exits" else outputs_of(self.defence.outputs, logits)


def _check_range(images):
    """Refuse images that an epsilon is no share of: of levels from 0 to 255 it is next to nothing."""
    wanted = "images: expected floating point values in [0, 1]; divide levels of 0 to 255 by 255"
    if not images.dtype.is_floating:
        raise DataError(f"{wanted}, got {images.dtype.name}")
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    tf.debugging.Assert((low >= -_ROUNDING) & (high <= 1 + _ROUNDING), [wanted, low, high])


def kinds_of_images(defence):
    """Which images a `DefenceConfig` trains on: a list of "clean" and "adversarial", or one of them."""
    if defence.name == "standard":
        return ["clean"]
    return ["adversarial"] if defence.name == "free" or not defence.clean_share else ["clean", "adversarial"]
