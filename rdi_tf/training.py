"""Training runs: everything in one folder, resumable, the most robust validation checkpoint kept."""

import contextlib
import csv
import io
import sys
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rdi_tf._keras import keras
from rdi_tf.calibration import calibrate_run, load_run
from rdi_tf.data import as_arrays, check_num_classes, load_dataset, training_batches
from rdi_tf.errors import CheckpointError, ConfigError, RDIError
from rdi_tf.network import build
from rdi_tf.optimisation import WeightAverage, sgd
from rdi_tf.policies import POLICIES, decide
from rdi_tf.precision import precision
from rdi_tf.robustness import ExitAttacker
from rdi_tf.runs import RunFolder, atomic_path, write_atomic
from rdi_tf.thresholds import equal_share


class TrainingError(RDIError):
    """A training run that cannot go on."""


def train(config, run_dir, data_dir=None, progress=True, make_network=None):
    """Train a network, or carry on a run that was stopped.

    Args:
      config: `rdi_tf.config.Config`.
      run_dir: the run's folder; made if it is not there, resumed if it holds a run of the same configuration.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: show a progress bar on standard error.
      make_network: callable `Config` -> `RDINet` to be trained; None for the configuration's with fresh weights.

    Returns:
      The `RunFolder`; its model.keras holds the most robust validated weights, calibrated by the run's own policy.

    Raises:
      CheckpointError: the folder holds another run, or a checkpoint that does not fit.
      DataError: the data set cannot be had.
      TrainingError: the loss is no longer a number.
    """
    keras.utils.set_random_seed(config.training.seed)
    net = (make_network or _fresh_network)(config)
    net.compile(
        sgd(config.training),
        defence=config.defence,
        exit_weights=config.training.exit_weights,
        weight_decay=config.training.weight_decay,
        label_smoothing=config.training.label_smoothing,
        seed=config.training.seed,
    )
    dataset = load_dataset(config.data, "validation", config.model.input_shape, data_dir)
    check_num_classes(dataset.class_names, config.model.num_classes)
    validation = as_arrays(dataset, limit=config.training.validation_images)
    run = RunFolder.create(run_dir, config)
    keeper = RunKeeper(net, run, config, validation, progress)
    start = keeper.restore()
    if start < config.training.iterations:
        batches = training_batches(
            config.data, config.training, config.model.input_shape, config.model.num_classes, start, data_dir
        )
        with keeper, precision(config.training.precision):
            steps = config.training.iterations - start
            net.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[keeper])
    if load_run(run).thresholds is None:
        calibrate_run(run.path, data_dir=data_dir)
    return run


def _fresh_network(config):
    if config.compression.method != "none":
        raise ConfigError(
            f"compression.method: {config.compression.method!r} starts from the network of another run "
            f"({config.compression.source or 'unknown'}); make or resume it with `rdi-tf compress`"
        )
    return build(config)


class RunKeeper(keras.callbacks.Callback):
    """Keeps a run: progress bar, weight averaging, validation, history, TensorBoard, resumable checkpoints."""

    def __init__(self, net, run, config, validation, progress):
        """Prepare.

        Args:
          net: the compiled `RDINet`.
          run: its `RunFolder`.
          config: its `Config`.
          validation: (images, labels) arrays that are attacked at each validation.
          progress: show a progress bar on standard error.
        """
        super().__init__()
        self.run, self.config, self.progress = run, config, progress
        self._net = net
        self._average = WeightAverage(net, config.training.ema_decay) if config.training.ema_decay else None
        self._validator = Validator(net, config, *validation)
        self._best = tf.Variable(-1.0, trainable=False)
        net.optimizer.build(net.trainable_variables)
        parts = {"net": net, "optimizer": net.optimizer, "best": self._best}
        if self._average is not None:
            parts["average"] = self._average
        self._checkpoints = tf.train.CheckpointManager(tf.train.Checkpoint(**parts), run.checkpoints, max_to_keep=2)
        self._writer = tf.summary.create_file_writer(str(run.logs))
        self._stack = contextlib.ExitStack()
        self._validating = False

    @property
    def iteration(self):
        """Finished iterations."""
        return int(self._net.optimizer.iterations)

    def restore(self):
        """Go back to the newest checkpoint, if there is one; returns the number of finished iterations."""
        if (self.run.checkpoints / "checkpoint").exists() and self._checkpoints.latest_checkpoint is None:
            raise CheckpointError(f"{self.run.checkpoints}: names a checkpoint that is not there; mend or empty it")
        try:
            self._checkpoints.restore_or_initialize()
        except (tf.errors.OpError, IndexError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self.run.checkpoints}: a checkpoint that does not fit: {reason}") from error
        self._trim_history()
        return self.iteration

    def __enter__(self):
        total = self.config.training.iterations
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
        # Ctrl-C and every other stop but a broken loss keep the work done so far. Not in the middle of a validation: a
        # run that goes on from there would never make it up, so it goes on from the last checkpoint.
        if not self._validating and (kind is None or not issubclass(kind, TrainingError)):
            self._checkpoints.save(self.iteration)
        self._stack.close()

    def on_train_batch_end(self, batch, logs=None):
        """After each iteration: average, look at the loss, validate and save when due."""
        del batch
        training = self.config.training
        if self._average is not None:
            self._average.update(self._net.optimizer.iterations - 1)
        if not np.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss became {logs['loss']} at iteration {self.iteration}; the last checkpoint is kept. "
                "Try a lower training.learning_rate, or defence.warmup_iterations"
            )
        self._bar.set_postfix_str(_summary(logs, self._net.exit_names), refresh=False)
        self._bar.update()
        if self.iteration % training.validate_every == 0 or self.iteration == training.iterations:
            self._validating = True
            self._validate(logs)
            self._net.reset_metrics()
            self._validating = False
        if time.monotonic() - self._saved_at > training.checkpoint_seconds:
            self._checkpoints.save(self.iteration)
            self._saved_at = time.monotonic()

    def _validate(self, logs):
        with self._average.applied() if self._average is not None else contextlib.nullcontext():
            figures = self._validator.figures()
            if figures["robust_accuracy"] > float(self._best):
                self._best.assign(figures["robust_accuracy"])
                with atomic_path(self.run.model_file) as temporary:
                    self._net.save(temporary)
        row = {**{name: float(value) for name, value in logs.items()}, **figures}
        text = {name: f"{value:.6g}" for name, value in row.items()}
        self._write_history([*self._history(), {"iteration": str(self.iteration), **text}])
        with self._writer.as_default(step=self.iteration):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        shown = ", ".join(f"{name} {100 * figures[name]:.2f}" for name in ("clean_accuracy", "robust_accuracy"))
        if self.progress:
            tqdm.write(f"iteration {self.iteration}: validation {shown}", file=self._bar.fp)

    def _write_history(self, rows):
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.run.history_file, text.getvalue())

    def _history(self):
        if not self.run.history_file.is_file():
            return []
        return list(csv.DictReader(io.StringIO(self.run.history_file.read_text(encoding="utf-8"))))

    def _trim_history(self):
        # Validations after the checkpoint that is resumed from will happen again.
        rows = self._history()
        kept = [row for row in rows if int(row["iteration"]) <= self.iteration]
        if not kept:
            self.run.history_file.unlink(missing_ok=True)
        elif len(kept) < len(rows):
            self._write_history(kept)


class Validator:
    """Accuracy through the exit policy on validation images, clean and under every single attack."""

    def __init__(self, net, config, images, labels):
        """Prepare.

        Args:
          net: the `RDINet` in training.
          config: its `Config`; `config.evaluation` is the attack.
          images: float32 array (n, height, width, channels).
          labels: int32 array (n,).
        """
        self._attacker = ExitAttacker(net, config.evaluation, config.training.seed, min(len(images), 256))
        self._policy = POLICIES[config.policy.name]
        self._images, self._labels = images, labels
        self._attacked = config.defence.name != "standard"

    def figures(self):
        """Accuracies as fractions: `clean_accuracy`, and `robust_accuracy`, the share right under every single attack.

        Thresholds give every exit an equal share of the clean images. A network without defence is validated on
        clean images alone; its robust_accuracy is its clean accuracy.
        """
        clean = self._attacker.clean_logits(self._images)
        thresholds = equal_share(self._policy, clean)
        right = decide(self._policy, clean, thresholds).predictions == self._labels
        figures = {"clean_accuracy": float(right.mean())}
        if self._attacked:
            forms = self._attacker.net.exit_names
            for logits in self._attacker.logits(forms, self._images, self._labels).values():
                right &= decide(self._policy, logits, thresholds).predictions == self._labels
        return {**figures, "robust_accuracy": float(right.mean())}


def _summary(logs, exit_names):
    """One line for the progress bar: the loss, and the accuracy of each exit in percent."""
    parts = [f"loss {logs['loss']:.3f}"]
    for kind in ("clean", "adversarial"):
        accuracies = [logs[f"{kind}_{name}"] for name in exit_names if f"{kind}_{name}" in logs]
        if accuracies:
            parts.append(f"{kind} " + " ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies))
    return " | ".join(parts)
