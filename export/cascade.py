"""The cascade: stages of a bundle run one after another until the exit rule lets an image go. NumPy and LiteRT only.

Later stages are not run for an image that has left, and with `lazy` not even loaded before an image gets there.
"""

import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import ConfigError
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.runner import StageChain, check_batch
from rdi_tf.policies import check_exit_logits, check_exit_thresholds, get_policy, log_softmax

REMEMBERED_RUNS = 32  # runs of a stage from which its next duration is foretold
SKIPS_UNTIL_RETRY = 32  # of a stage in a row; trying a slow stage again after each would break every second deadline
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Prediction:
    """What the cascade says of one image.

    Attributes:
      prediction: the class, from 0.
      label: its name.
      exit_index: the exit taken, from 0.
      exit_name: "branch_1", …, "main".
      score: the exit rule's score there (entropy in nats for the paper's rule); low means sure.
      confidence: probability of the class, 0 to 1, as the exit rule combines the exits.
      exit_logits: float32 (exits reached, classes).
      stage_latency_ms: time of each stage that ran, hand-over included.
      latency_ms: time from the call to the answer, exit rule included.
      by_deadline: whether the deadline, not the exit rule, made it leave.
    """

    prediction: int
    label: str
    exit_index: int
    exit_name: str
    score: float
    confidence: float
    exit_logits: np.ndarray
    stage_latency_ms: tuple[float, ...]
    latency_ms: float
    by_deadline: bool


@dataclass(frozen=True)
class BatchPrediction:
    """What the cascade says of a batch of images.

    Attributes:
      predictions: int32 (batch,), the classes.
      exits: int32 (batch,), the exits taken, from 0.
      scores: float64 (batch,), the exit rule's score there.
      confidences: float64 (batch,), probability of the class.
      stage_images: how many images each stage that ran was run on; it shrinks as images leave.
      stage_latency_ms: time of each stage that ran, for all of its images.
      latency_ms: time from the call to the answer.
      by_deadline: bool (batch,), whether the deadline made it leave.
    """

    predictions: np.ndarray
    exits: np.ndarray
    scores: np.ndarray
    confidences: np.ndarray
    stage_images: tuple[int, ...]
    stage_latency_ms: tuple[float, ...]
    latency_ms: float
    by_deadline: np.ndarray


class Cascade:
    """Runs a bundle.

    Attributes:
      bundle: the `Bundle`.
      policy: its exit rule, a `rdi_tf.policies.Policy`.
      exit_names: "branch_1", …, "main".
    """

    def __init__(self, bundle, num_threads=1, lazy=False, thresholds=None, clock=time.perf_counter):
        """Load a bundle.

        Args:
          bundle: a `Bundle`, or the path of one.
          num_threads: threads that each stage may use.
          lazy: load a stage only when an image first gets there, which that image's answer waits for.
          thresholds: one for each exit but the last; None for the manifest's.
          clock: callable giving seconds, for all times and deadlines.

        Raises:
          BundleError: a bundle that cannot be read or does not hold.
          ConfigError: thresholds or threads that cannot be used.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        manifest = self.bundle.manifest
        self.policy = get_policy(manifest.policy.name)
        self.exit_names = manifest.exit_names
        self.thresholds = manifest.policy.thresholds if thresholds is None else thresholds
        self._clock = clock
        self._durations = [deque(maxlen=REMEMBERED_RUNS) for _ in manifest.stages]
        self._skips = [0] * len(manifest.stages)  # in a row, for what the durations foretold
        self._chain = StageChain(self.bundle.path, manifest.stages, num_threads, lazy)

    @property
    def thresholds(self):
        """One float for each exit but the last; may be set at any time; unfit ones raise `ConfigError`."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, values):
        self._thresholds = check_exit_thresholds(self.policy.name, values, len(self.exit_names))

    @property
    def chain(self):
        """The `StageChain` that runs its stages, for measurements."""
        return self._chain

    @property
    def loaded_stages(self):
        """Whether each stage is in memory, tuple of bool."""
        return self._chain.loaded

    def leaving_at(self, exit_index):
        """Thresholds, a tuple, under which every image leaves at that exit, counted from 0."""
        early = len(self.exit_names) - 1
        return tuple(self.policy.closed if index < exit_index else self.policy.open for index in range(early))

    def warm_up(self, image):
        """Run all stages on an image a few times, so that the first deadline already knows how long each takes.

        Args:
          image: float array (height, width, channels) in [0, 1].
        """
        thresholds, self.thresholds = self.thresholds, self.leaving_at(len(self.exit_names) - 1)
        try:
            for _ in range(WARM_UP_RUNS):
                self.predict(image)
        finally:
            self.thresholds = thresholds

    def predict(self, image, deadline_ms=None):
        """Classify one image.

        Args:
          image: float array (height, width, channels) in [0, 1].
          deadline_ms: milliseconds within which to answer, or None. No stage is started after it, nor one that is
            likely to end after it (the median of that stage's latest runs on single images tells, so `warm_up` first);
            the answer is then that of the last exit that was reached. A stage that was skipped SKIPS_UNTIL_RETRY times
            in a row as too slow is tried once more, since only a run can show that it has become faster: that answer
            may come after the deadline. The first stage always runs, and a stage is never broken off; nor is the
            loading of one (`lazy`), which counts against the deadline but is no part of the stage's time.

        Returns:
          The `Prediction`.

        Raises:
          DataError: an image that the network cannot take.
          ConfigError: an unusable deadline.
        """
        started = self._clock()
        images = self._images(np.asarray(image)[None])
        _check_deadline(deadline_ms)
        self._chain.runner(0)
        carried, seconds = images, []
        logits = np.empty((1, len(self.exit_names), len(self.bundle.manifest.labels)))
        for index, threshold in enumerate((*self._thresholds, math.inf)):
            begun = self._clock()
            stage_logits, carried = self._chain.run(index, carried)
            ended = self._clock()
            seconds.append(ended - begun)
            self._durations[index].append(ended - begun)
            self._skips[index] = 0
            logits[:, index] = stage_logits
            log_probabilities, score = self._judge(logits[:, : index + 1])
            leaves = score[0] < threshold
            late = not (leaves or self._ends_in_time(index + 1, started, deadline_ms))
            if leaves or late:
                break
        prediction = int(log_probabilities[0].argmax())
        return Prediction(
            prediction=prediction,
            label=self.bundle.manifest.labels[prediction],
            exit_index=index,
            exit_name=self.exit_names[index],
            score=float(score[0]),
            confidence=float(np.exp(log_probabilities[0, prediction])),
            exit_logits=logits[0, : index + 1].astype(np.float32),
            stage_latency_ms=tuple(1000 * duration for duration in seconds),
            latency_ms=1000 * (self._clock() - started),
            by_deadline=bool(late),
        )

    def predict_batch(self, images, deadline_ms=None):
        """Classify a batch; only the images that have not left go on to the next stage.

        Args:
          images: float array (batch, height, width, channels) in [0, 1], batch >= 1. Where the bundle's files have a
            fixed batch size, each stage is run as often as its images need.
          deadline_ms: milliseconds within which to answer for all of them, or None: no stage is started after it, and
            the images that are left then are answered by the exit that they have reached. Loading is as for `predict`.

        Returns:
          The `BatchPrediction`.

        Raises:
          DataError: images that the network cannot take.
          ConfigError: an unusable deadline.
        """
        started = self._clock()
        images = self._images(images)
        _check_deadline(deadline_ms)
        self._chain.runner(0)
        answer = _empty_answer(len(images))
        staying, carried, logits, ran, seconds = np.arange(len(images)), images, [], [], []
        for index, threshold in enumerate((*self._thresholds, math.inf)):
            begun = self._clock()
            stage_logits, carried = self._chain.run(index, carried)
            seconds.append(self._clock() - begun)
            ran.append(len(staying))
            logits.append(stage_logits)
            log_probabilities, scores = self._judge(np.stack(logits, axis=1).astype(np.float64))
            leaves = scores < threshold
            late = not (leaves.all() or self._begins_in_time(index + 1, started, deadline_ms))
            taken = np.ones_like(leaves) if late else leaves
            _fill(answer, staying[taken], index, log_probabilities[taken], scores[taken], ~leaves[taken])
            if taken.all():
                break
            staying, carried, logits = staying[~taken], carried[~taken], [rows[~taken] for rows in logits]
        return BatchPrediction(
            **answer,
            stage_images=tuple(ran),
            stage_latency_ms=tuple(1000 * duration for duration in seconds),
            latency_ms=1000 * (self._clock() - started),
        )

    def stream(self, images, deadline_ms=None):
        """Classify images as they come.

        Args:
          images: iterable of images, as for `predict`.
          deadline_ms: of each image.

        Yields:
          A `Prediction` for each, before the next image is asked for.
        """
        for image in images:
            yield self.predict(image, deadline_ms)

    def exit_logits(self, images):
        """Logits of every exit: all stages run on all images.

        Args:
          images: float array (batch, height, width, channels) in [0, 1], batch >= 1.

        Returns:
          float32 array (batch, exits, classes).
        """
        return self._chain.exit_logits(self._images(images))

    def _images(self, images):
        return check_batch(images, self.bundle.manifest)

    def _judge(self, logits):
        """Log-probabilities (batch, classes) and scores (batch,) at the last of the exits so far.

        `logits` are float64 (batch, exits so far, classes). On small networks this takes as long as a stage, so it does
        without the policy's own checks as long as all is finite.
        """
        if not math.isfinite(np.add.reduce(logits, axis=None)):
            check_exit_logits(logits)
        log_probabilities = self.policy.combine(log_softmax(logits))
        return log_probabilities[:, -1], self.policy.uncertainty(log_probabilities)[:, -1]

    def _begins_in_time(self, stage, started, deadline_ms):
        """Whether a stage can begin before the deadline; it is loaded first, which may be what takes too long."""
        if self._is_past(started, deadline_ms):
            return False
        self._chain.runner(stage)
        return not self._is_past(started, deadline_ms)

    def _ends_in_time(self, stage, started, deadline_ms):
        """Whether a stage can begin before the deadline and, by what is known of it, end before it.

        What is known of a stage that is not run would never change: after enough skips it is forgotten.
        """
        if not self._begins_in_time(stage, started, deadline_ms):
            return False
        known = self._durations[stage]
        if deadline_ms is None or not known or not self._is_past(started, deadline_ms, float(np.median(known))):
            return True
        if self._skips[stage] < SKIPS_UNTIL_RETRY:
            self._skips[stage] += 1
            return False
        known.clear()
        return True

    def _is_past(self, started, deadline_ms, expected=0.0):
        """Whether the deadline has passed, or will have in `expected` seconds."""
        return deadline_ms is not None and 1000 * (self._clock() - started + expected) >= deadline_ms


def _check_deadline(deadline_ms):
    if deadline_ms is not None and not 0 < deadline_ms < math.inf:
        raise ConfigError(f"deadline_ms: expected a finite number above 0, got {deadline_ms!r}")


def _empty_answer(count):
    return {
        "predictions": np.zeros(count, np.int32),
        "exits": np.zeros(count, np.int32),
        "scores": np.zeros(count, np.float64),
        "confidences": np.zeros(count, np.float64),
        "by_deadline": np.zeros(count, bool),
    }


def _fill(answer, rows, index, log_probabilities, scores, by_deadline):
    answer["predictions"][rows] = log_probabilities.argmax(axis=-1)
    answer["exits"][rows] = index
    answer["scores"][rows] = scores
    answer["confidences"][rows] = np.exp(log_probabilities.max(axis=-1))
    answer["by_deadline"][rows] = by_deadline
