"""Keeps a training run: what is written down when, so that it can be killed at any moment and carried on."""

import contextlib
import shutil
import sys
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rdi_tf._keras import keras
from rdi_tf.distribution import Cluster
from rdi_tf.errors import CheckpointError, TrainingError
from rdi_tf.precision import as_float32
from rdi_tf.runs import atomic_path
from rdi_tf.training.checkpoints import Checkpoints
from rdi_tf.training.history import History, accuracies_in_words
from rdi_tf.training.interrupts import Interrupts
from rdi_tf.training.optimisation import WeightAverage
from rdi_tf.training.validation import Validator


class RunKeeper(keras.callbacks.Callback):
    """Keeps a run: progress bar, weight averaging, validation, history, TensorBoard, resumable checkpoints.

    The state of a run is its newest checkpoint and history.csv. A checkpoint is saved before each validation, so that
    one that was cut short is made up from the same weights; its row in history.csv says that it was finished.
    """

    def __init__(self, net, run, config, validation, progress, cluster=None):
        """Prepare.

        Args:
          net: the compiled `RDINet`.
          run: its `RunFolder`.
          config: its `Config`.
          validation: (images, labels) arrays that are attacked at each validation.
          progress: show a progress bar on standard error.
          cluster: `rdi_tf.distribution.Cluster` that trains; None for one device.
        """
        super().__init__()
        self._cluster = cluster or Cluster(None)
        self.run, self.config, self.progress = run, config, progress and self._cluster.is_chief
        self._net = net
        decay = config.training.ema_decay  # of the network alone: masks of what is pruned stand beside it
        self._average = WeightAverage(net.network, decay, net.constrain_weights) if decay else None
        self._validator = Validator(net, config, *validation, self._cluster)
        net.optimizer.build(net.trainable_variables)
        parts = {"net": net, "optimizer": net.optimizer, "metrics": net.metrics}
        if self._average is not None:
            parts["average"] = self._average
        self._checkpoints = Checkpoints(run.checkpoints, **parts)
        self._history = History(run.history_file)
        self._writer = tf.summary.create_file_writer(str(run.logs))
        self._stack = contextlib.ExitStack()
        self._interrupts = Interrupts()
        self._bar = None
        self._in_step = False
        self._metric_values = None

    @property
    def iteration(self):
        """Finished iterations."""
        return int(self._net.optimizer.iterations.numpy())

    def restore(self):
        """Go back to the newest checkpoint, if there is one, and make up a validation that was due there.

        Returns:
          The number of finished iterations.

        Raises:
          CheckpointError: there are checkpoints, but none that can be read and fits; or there is none, but a model or a
            history that a run from the beginning would overwrite.
        """
        found = self._checkpoints.restore()
        if not found:
            self._refuse_overwriting()
        self._cluster.check_same(self.iteration)
        self._history.trim(self.iteration)
        self._clear_away()
        if found and self._validation_due:
            if not self._history.has(self.iteration):
                self._validate({metric.name: metric.result() for metric in self._net.metrics})
            self._net.reset_metrics()
        self._metric_values = [variable.numpy() for variable in self._metric_variables]
        return self.iteration

    def _refuse_overwriting(self):
        """Without a checkpoint: refuse to begin where weights lie that were imported, or copied without theirs."""
        kept = [file.name for file in (self.run.model_file, self.run.history_file) if file.exists()]
        if kept:
            raise CheckpointError(
                f"{self.run.path} holds {' and '.join(kept)}, but no checkpoint to go on from: a run from the "
                "beginning would overwrite that; choose another folder, or put the run's checkpoints/ back"
            )

    def _clear_away(self):
        """Remove what a killed process left half done."""
        for path in self.run.checkpoints.glob("validation-*"):
            if path != self._validation_folder:
                shutil.rmtree(path)
        for file in (self.run.model_file, self.run.history_file, self.run.training_file):
            for path in self.run.path.glob(f".{file.stem}.*"):
                path.unlink()

    def __enter__(self):
        total = self.config.training.iterations
        self._stack.enter_context(self._interrupts)
        self._bar = self._stack.enter_context(
            tqdm(
                total=total,
                initial=self.iteration,
                disable=not self.progress,
                unit="it",
                dynamic_ncols=True,
                # A terminal's bar is one line that changes; in a log each change stays.
                mininterval=0.1 if sys.stderr.isatty() else 30.0,
            )
        )
        self._saved_at = time.monotonic()
        return self

    def __exit__(self, kind, error, trace):
        # Ctrl-C and every other stop but a broken loss keep the work done so far, unless an iteration is half done: a
        # run that goes on from there would end elsewhere, so it goes on from the last checkpoint. Of several workers,
        # one that was disturbed cannot save without the others.
        sound = kind is None or (self._cluster.workers == 1 and not issubclass(kind, TrainingError))
        try:
            if sound and not self._in_step:
                self._save()
        finally:
            self._stack.close()

    def on_epoch_begin(self, epoch, logs=None):
        """Keras has just reset the metrics: put back what the checkpoint says of this interval."""
        if self._metric_values is not None:
            for variable, value in zip(self._metric_variables, self._metric_values, strict=True):
                variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None):
        """From here on the state belongs to no iteration."""
        self._in_step = True

    def on_train_batch_end(self, batch, logs=None):
        """After each iteration: average, look at the loss, validate and save when due."""
        if self._average is not None:
            self._average.update(self._net.optimizer.iterations - 1)
        if not np.isfinite(logs["loss"]):
            raise TrainingError(f"the loss became {logs['loss']} at iteration {self.iteration}; {_ADVICE}")
        self._in_step = False
        self._bar.set_postfix_str(_summary(logs, self._net.exit_names), refresh=False)
        self._bar.update()
        late = time.monotonic() - self._saved_at > self.config.training.checkpoint_seconds
        late, stop = self._cluster.any(late, self._interrupts.noted)
        if late or stop or self._validation_due:
            self._save()
        if self._validation_due:
            self._validate(logs)
            self._net.reset_metrics()
        self._interrupts.check()
        if stop:
            raise KeyboardInterrupt  # another worker was asked to

    @property
    def _validation_due(self):
        training = self.config.training
        at = self.iteration
        return at > 0 and (at % training.validate_every == 0 or at == training.iterations)

    @property
    def _validation_folder(self):
        # Several replicas attack other batches, from other random starts: what they kept, another number cannot use.
        return self.run.checkpoints / f"validation-{self.iteration}-replicas-{self._cluster.replicas}"

    @property
    def _metric_variables(self):
        return [variable for metric in self._net.metrics for variable in metric.variables]

    def _save(self):
        """Save a checkpoint, but never one of broken weights: the update may have broken what the loss did not show."""
        variables = [*self._net.weights, *self._net.optimizer.variables]
        if not all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in variables if v.dtype.is_floating):
            raise TrainingError(f"the weights are no longer numbers after iteration {self.iteration}; {_ADVICE}")
        self._checkpoints.save(self.iteration)
        self._saved_at = time.monotonic()

    def _validate(self, logs):
        if float(logs.get("overflowed", 0)) == 1:
            raise TrainingError(f"every gradient since the last validation overflowed float16; {_ADVICE}")
        # Batches that are kept would be skipped by the worker that finds them, while the others wait for it.
        alone = self._cluster.workers == 1
        folder = self._validation_folder if alone else None
        self._cluster.agree(self._net.non_trainable_weights)
        with self._average.applied() if self._average is not None else contextlib.nullcontext():
            figures = self._validator.figures(folder, lambda *_: self._interrupts.check() if alone else None)
            if self._history.is_best(figures["robust_accuracy"]):
                with atomic_path(self.run.model_file) as temporary:
                    as_float32(self._net).save(temporary)
        row = {**{name: float(value) for name, value in logs.items()}, **figures}
        with self._writer.as_default(step=self.iteration):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        self._history.add(self.iteration, row)
        shutil.rmtree(self._validation_folder, ignore_errors=True)
        if self.progress:
            shown = accuracies_in_words(figures, self.config.defence.name != "standard")
            tqdm.write(f"iteration {self.iteration}: validation {shown}", file=sys.stderr)


_ADVICE = "the last checkpoint is kept. Try a lower training.learning_rate, or defence.warmup_iterations"


def _summary(logs, exit_names):
    """One line for the progress bar: the loss, and the accuracy of each exit in percent."""
    parts = [f"loss {logs['loss']:.3f}"]
    for kind in ("clean", "adversarial"):
        accuracies = [logs[f"{kind}_{name}"] for name in exit_names if f"{kind}_{name}" in logs]
        if accuracies:
            parts.append(f"{kind} " + " ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies))
    return " | ".join(parts)
