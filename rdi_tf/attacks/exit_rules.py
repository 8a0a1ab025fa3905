"""The exit rules of `rdi_tf.policies` as TensorFlow functions, so that attacks can follow their gradients.

Scores and log-probabilities are those of the NumPy rules, in float64 as there, and a test holds them together. What
attacks push is not the score, whose gradient vanishes where an exit is sure (there of all places), but its `gap`: a
smooth, unsaturated measure of the distance to the threshold. For scores that are numbers it is the difference of the
logarithms of score and threshold, both above the score's floor, and so has the sign of the decision. What is above the
floor is summed from terms that do not cancel, so that even an exit that is as sure as can be is pushed. Patience
counts agreeing calls, which has no gradient: its gap is the log-odds that the exits whose agreement is needed would
disagree somewhere, were each call drawn from its exit's probabilities.
"""

import math
import typing
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from rdi_tf.policies import check_thresholds, get_policy

# Keeps logarithms finite: of what an exit is unsure by, and of the odds that calls differ (rounded from near one).
_TINY = 1e-300
_TINY_ODDS = 1e-15
# The gap where nothing that the exits say can change the decision (patience).
_DECIDED = 50.0


class Routing(typing.NamedTuple):
    """What an exit rule makes of a batch.

    Attributes:
      log_probabilities: float64 (batch, exits, classes), from which classes are called.
      scores: float64 (batch, exits).
      gaps: float64 (batch, exits - 1): above zero where an image would stay in the network, below where it would leave.
      exits: int64 (batch,), the exit taken.
    """

    log_probabilities: tf.Tensor
    scores: tf.Tensor
    gaps: tf.Tensor
    exits: tf.Tensor

    def taken(self):
        """Log-probabilities at the exit taken, float32 (batch, classes)."""
        return tf.cast(tf.gather(self.log_probabilities, self.exits, batch_dims=1), tf.float32)


@dataclass(frozen=True)
class ExitRule:
    """An exit rule with its thresholds, as attacks see it.

    Attributes:
      name: the rule's name in `rdi_tf.policies.POLICIES`.
      thresholds: one finite number for each exit but the last.
    """

    name: str
    thresholds: tuple[float, ...]

    def __post_init__(self):
        get_policy(self.name)
        check_thresholds(self.thresholds, len(self.thresholds) + 1)

    def passable(self, num_classes):
        """How many of the first exits an image can pass at all, before one whose threshold lets everything leave."""
        highest = TF_POLICIES[self.name].highest(num_classes)
        return next((k for k, threshold in enumerate(self.thresholds) if threshold > highest), len(self.thresholds))

    def route(self, exit_logits):
        """Follow the rule, differentiably.

        Args:
          exit_logits: float tensor (batch, exits, classes).

        Returns:
          The `Routing`.

        Raises:
          ConfigError: another number of thresholds than of early exits.
        """
        check_thresholds(self.thresholds, exit_logits.shape[1])
        log_probabilities, scores = _outputs_and_scores(self.name, exit_logits)
        exits = _first_below(scores, tf.constant(self.thresholds, tf.float64))
        gaps = TF_POLICIES[self.name].gap(log_probabilities, scores, self.thresholds)
        return Routing(log_probabilities, scores, gaps, exits)


@dataclass(frozen=True)
class BatchRule:
    """An exit rule whose thresholds come from a batch, for training, where nothing has been calibrated yet.

    Attributes:
      name: the rule's name in `rdi_tf.policies.POLICIES`.
      thresholds: float64 tensor (exits - 1,).
    """

    name: str
    thresholds: tf.Tensor

    @classmethod
    def of_equal_shares(cls, name, exit_logits):
        """Thresholds by which every exit takes an equal share of a batch, as `rdi_tf.thresholds.equal_share` cuts.

        Args:
          name: the rule's name.
          exit_logits: float tensor (batch, exits, classes).

        Returns:
          The `BatchRule`. Images with equal scores at the cut stay together, in the network, and the next exits make up
          for it.
        """
        _, scores = _outputs_and_scores(name, exit_logits)
        size, num_exits = tf.shape(scores)[0], scores.shape[1]
        there = tf.ones_like(scores[:, 0], tf.bool)
        thresholds = []
        for k in range(num_exits - 1):
            staying = tf.where(there, scores[:, k], tf.constant(float("inf"), tf.float64))
            gone = size - tf.math.count_nonzero(there, dtype=tf.int32)
            thresholds.append(tf.sort(staying)[size * (k + 1) // num_exits - gone])
            there &= staying >= thresholds[-1]
        return cls(name, tf.reshape(tf.stack(thresholds), [-1]) if thresholds else tf.zeros([0], tf.float64))

    def route(self, exit_logits):
        """As `ExitRule.route`, without gaps (None)."""
        log_probabilities, scores = _outputs_and_scores(self.name, exit_logits)
        return Routing(log_probabilities, scores, None, _first_below(scores, self.thresholds))


def outputs_of(name, exit_logits):
    """What an exit rule calls classes from.

    Args:
      name: the rule's name in `rdi_tf.policies.POLICIES`.
      exit_logits: float tensor (batch, exits, classes).

    Returns:
      float32 tensor of the same shape: log-probabilities, combined with those of the exits before where the rule does.
    """
    return tf.cast(_combined(name, exit_logits), tf.float32)


def _combined(name, exit_logits):
    return TF_POLICIES[name].combine(tf.nn.log_softmax(tf.cast(exit_logits, tf.float64)))


def _outputs_and_scores(name, exit_logits):
    log_probabilities = _combined(name, exit_logits)
    return log_probabilities, TF_POLICIES[name].score(log_probabilities)


def _first_below(scores, thresholds):
    """The first exit whose score is below its threshold, or the last: int64 (batch,)."""
    leaves = scores[:, :-1] < thresholds
    last = tf.ones_like(scores[:, :1], tf.bool)
    return tf.argmax(tf.cast(tf.concat([leaves, last], axis=1), tf.int8), axis=1)


@dataclass(frozen=True)
class TFPolicy:
    """A rule of `rdi_tf.policies`, part by part.

    Attributes:
      combine: log-probabilities (batch, exits, classes) to those the class is called from.
      score: combined log-probabilities to scores (batch, exits).
      gap: (combined log-probabilities, scores, thresholds) to gaps (batch, exits - 1).
      highest: number of classes to a score that none exceeds.
    """

    combine: Callable
    score: Callable
    gap: Callable
    highest: Callable


def _own(log_probabilities):
    return log_probabilities


def _running_mean(log_probabilities):
    counts = tf.range(1, log_probabilities.shape[1] + 1, dtype=tf.float64)[:, tf.newaxis]
    return tf.nn.log_softmax(tf.cumsum(log_probabilities, axis=1) / counts)


def _weighted_running_mean(log_probabilities):
    weights = tf.range(1, log_probabilities.shape[1] + 1, dtype=tf.float64)[:, tf.newaxis]
    return tf.nn.log_softmax(tf.cumsum(weights * log_probabilities, axis=1) / tf.cumsum(weights))


def _entropy(log_probabilities):
    probabilities = tf.exp(log_probabilities)
    return -tf.reduce_sum(probabilities * tf.math.log(probabilities + 1e-5), axis=-1)


def _one_minus_max(log_probabilities):
    return 1 - tf.exp(tf.reduce_max(log_probabilities, axis=-1))


def _one_minus_margin(log_probabilities):
    top = tf.exp(tf.math.top_k(log_probabilities, 2).values)
    return 1 - (top[..., 0] - top[..., 1])


def _minus_run_length(log_probabilities):
    calls = tf.argmax(log_probabilities, axis=-1)
    runs = [tf.ones_like(calls[:, 0])]
    for k in range(1, log_probabilities.shape[1]):
        runs.append(tf.where(calls[:, k] == calls[:, k - 1], runs[-1] + 1, 1))
    return -tf.cast(tf.stack(runs, axis=1), tf.float64)


def _log_gap(above, floor=0.0):
    """Gaps from `above`: log-probabilities (batch, exits, classes) to what scores are above their floor, exactly."""

    def gap(log_probabilities, scores, thresholds):
        del scores
        targets = [math.log(max(threshold - floor, 0.0) + _TINY) for threshold in thresholds]
        return tf.math.log(above(log_probabilities[:, :-1]) + _TINY) - tf.constant(targets, tf.float64)

    return gap


def _others(log_probabilities):
    """Probabilities of all classes but the likeliest, the largest first, and their sum: nothing is rounded away."""
    others = tf.exp(tf.math.top_k(log_probabilities, log_probabilities.shape[-1]).values[..., 1:])
    return others, tf.reduce_sum(others, axis=-1)


def _entropy_above_floor(log_probabilities):
    # The sum of -p log((p + 1e-5) / (1 + 1e-5)), each term of which is zero or more; the likeliest class has 1 - rest.
    others, rest = _others(log_probabilities)
    of_others = tf.reduce_sum(others * tf.math.log((others + 1e-5) / (1 + 1e-5)), axis=-1)
    return -of_others - (1 - rest) * tf.math.log1p(-rest / (1 + 1e-5))


def _others_sum(log_probabilities):
    return _others(log_probabilities)[1]


def _others_sum_and_second(log_probabilities):
    others, rest = _others(log_probabilities)
    return rest + others[..., 0]


def _patience_gap(log_probabilities, scores, thresholds):
    agreement = tf.reduce_logsumexp(log_probabilities[:, 1:] + log_probabilities[:, :-1], axis=-1)
    gaps = tf.zeros_like(scores[:, :-1]) + _DECIDED
    columns = tf.unstack(gaps, axis=1)
    for k, threshold in enumerate(thresholds):
        # A run must be longer than -threshold: so many pairs of neighbours, the last one (k - 1, k), must agree.
        pairs = math.floor(-threshold)
        if pairs <= 0:
            columns[k] = -columns[k]
        elif pairs <= k:
            agree = tf.minimum(tf.reduce_sum(agreement[:, k - pairs : k], axis=1), 0.0)
            columns[k] = tf.math.log(_TINY_ODDS - tf.math.expm1(agree)) - agree
    return tf.stack(columns, axis=1) if columns else gaps


# The entropy of a certain exit is not 0: see `rdi_tf.policies`.
_OF_ENTROPY = _entropy, _log_gap(_entropy_above_floor, floor=-math.log1p(1e-5)), math.log

TF_POLICIES = {
    "entropy": TFPolicy(_own, *_OF_ENTROPY),
    "max_probability": TFPolicy(_own, _one_minus_max, _log_gap(_others_sum), lambda classes: 1 - 1 / classes),
    "margin": TFPolicy(_own, _one_minus_margin, _log_gap(_others_sum_and_second), lambda classes: 1.0),
    "patience": TFPolicy(_own, _minus_run_length, _patience_gap, lambda classes: -1.0),
    "running_average": TFPolicy(_running_mean, *_OF_ENTROPY),
    "weighted_running_average": TFPolicy(_weighted_running_mean, *_OF_ENTROPY),
}
