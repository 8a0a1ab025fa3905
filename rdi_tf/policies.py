"""Exit rules: at which exit an image leaves, decided from exit logits alone. NumPy only, so that a device can run them.

A rule is two interchangeable parts: how the exits' log-probabilities are combined before the class is called, and how
uncertain the combined ones are. An image leaves at the first exit whose score is below that exit's threshold; the last
exit takes what is left. Every rule is causal: what exit k says depends on exits up to k only, so a cascade may compute
exit by exit. All arithmetic is float64 whatever the logits' dtype, so that Keras, LiteRT and other runtimes, whose
float32 logits differ in the last digits only, fall on the same side of a threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rdi_tf.errors import ConfigError, DataError


@dataclass(frozen=True)
class Policy:
    """An exit rule.

    Attributes:
      name: the rule's name in `POLICIES`.
      combine: log-probabilities of each exit, (batch, exits, classes), to those the class is called from, same shape.
      uncertainty: combined log-probabilities to scores, (batch, exits); low means sure.
      closed: a threshold that no score is below: nothing ever leaves there.
      open: a threshold that every score is below: everything that arrives leaves there.
    """

    name: str
    combine: Callable
    uncertainty: Callable
    closed: float
    open: float

    @property
    def averages(self):
        """Whether classes are called from something else than each exit by itself, so that attacks must follow it."""
        return self.combine is not _own

    def log_probabilities(self, exit_logits):
        """Log-probabilities from which the class is called at each exit.

        Args:
          exit_logits: floating array (batch, exits, classes), finite.

        Returns:
          float64 array (batch, exits, classes); each row's exponentials sum to one.

        Raises:
          DataError: `exit_logits` is not such an array.
        """
        return self.combine(log_softmax(check_exit_logits(exit_logits)))

    def scores(self, exit_logits):
        """Uncertainty at each exit: float64 array (batch, exits); arguments and errors as `log_probabilities`."""
        return self.uncertainty(self.log_probabilities(exit_logits))


@dataclass(frozen=True)
class Decision:
    """Where each image of a batch leaves, and what it is called there.

    Attributes:
      exits: int32 array (batch,), 0 for the first exit.
      predictions: int32 array (batch,), the class called at that exit.
      scores: float64 array (batch, exits), the uncertainty at every exit, those not reached included.
    """

    exits: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray


def decide(policy, exit_logits, thresholds):
    """Apply an exit rule.

    Args:
      policy: a `Policy`.
      exit_logits: floating array (batch, exits, classes), finite.
      thresholds: one finite number for each exit but the last, in exit order.

    Returns:
      The `Decision`.

    Raises:
      DataError: logits of another shape or type, or not finite.
      ConfigError: another number of thresholds, or thresholds that are not finite.

    Source: Hu et al., "Triple Wins" (ICLR 2020), section 3.
    """
    log_probabilities = policy.log_probabilities(exit_logits)
    thresholds = check_thresholds(thresholds, log_probabilities.shape[1])
    scores = policy.uncertainty(log_probabilities)
    exits = first_exit(scores[:, :-1] < thresholds)
    classes = log_probabilities.argmax(axis=-1)
    predictions = np.take_along_axis(classes, exits[:, None], axis=1)[:, 0]
    return Decision(exits.astype(np.int32), predictions.astype(np.int32), scores)


def first_exit(leaves):
    """Index of the exit taken, (batch,), given which early exits would let an image go, bool (batch, exits - 1)."""
    last = np.ones((len(leaves), 1), bool)
    return np.concatenate([leaves, last], axis=1).argmax(axis=1)


def get_policy(name):
    """The exit rule of that name; an unknown name raises `ConfigError`."""
    if name not in POLICIES:
        raise ConfigError(f"policy: expected one of {', '.join(POLICIES)}, got {name!r}")
    return POLICIES[name]


def check_exit_logits(exit_logits):
    """`exit_logits` as a C-ordered float64 array (batch, exits, classes); anything else raises `DataError`."""
    logits = np.asarray(exit_logits)
    if logits.ndim != 3 or logits.shape[1] < 1 or logits.shape[2] < 2:
        raise DataError(f"exit_logits: expected shape (batch, exits, classes), two classes or more, got {logits.shape}")
    if logits.dtype.kind != "f":
        raise DataError(f"exit_logits: expected a floating dtype, got {logits.dtype}")
    broken = np.count_nonzero(~np.isfinite(logits))
    if broken:
        raise DataError(f"exit_logits: expected finite numbers, got {broken} of {logits.size} that are not")
    return np.array(logits, dtype=np.float64, order="C")


def check_thresholds(thresholds, num_exits):
    """`thresholds` as float64 array (num_exits - 1,); another number or non-finite ones raise `ConfigError`."""
    if thresholds is None:
        raise ConfigError(f"thresholds: expected {num_exits - 1} numbers, got none; calibrate the model first")
    values = np.asarray(thresholds)
    if values.shape != (num_exits - 1,) or (values.size and values.dtype.kind not in "fiu"):
        raise ConfigError(
            f"thresholds: expected {num_exits - 1} numbers, one for each exit but the last, got {thresholds!r}"
        )
    if not np.isfinite(values.astype(np.float64)).all():
        raise ConfigError(f"thresholds: expected finite numbers, got {thresholds!r}")
    return values.astype(np.float64)


def check_exit_thresholds(policy_name, thresholds, num_exits):
    """Thresholds as a tuple of floats, if the exit rule can use them.

    Args:
      policy_name: name of the exit rule.
      thresholds: one number for each exit but the last.
      num_exits: number of exits.

    Returns:
      Tuple of floats.

    Raises:
      ConfigError: another number of them, or one that is not finite or outside what the rule's scores can reach.
    """
    policy = get_policy(policy_name)
    values = tuple(check_thresholds(thresholds, num_exits).tolist())
    for value in values:
        if not policy.closed <= value <= policy.open:
            raise ConfigError(
                f"thresholds: expected {policy.closed:g} (nothing leaves) to {policy.open:g} (everything leaves) for "
                f"{policy_name!r}, got {value!r}"
            )
    return values


def log_softmax(logits):
    """Log-softmax over the last axis; stable for logits of any finite size."""
    # The reductions are called by themselves: the methods cost more than the arithmetic on one image, on a device.
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.add.reduce(np.exp(shifted), axis=-1, keepdims=True))


def _own(log_probabilities):
    return log_probabilities


def _running_mean(log_probabilities):
    """Geometric mean of the exits' probabilities so far; dividing by the count before renormalising keeps it a mean."""
    counts = np.arange(1, log_probabilities.shape[1] + 1)[:, None]
    return log_softmax(np.cumsum(log_probabilities, axis=1) / counts)


def _weighted_running_mean(log_probabilities):
    """As `_running_mean` with weights 1, 2, 3, … in exit order: later exits have seen more of the network."""
    weights = np.arange(1, log_probabilities.shape[1] + 1)[:, None]
    return log_softmax(np.cumsum(weights * log_probabilities, axis=1) / np.cumsum(weights, axis=0))


def _entropy(log_probabilities):
    """Entropy in nats with the authors' 1e-5 inside the logarithm (hence at least -1e-5, not 0)."""
    probabilities = np.exp(log_probabilities)
    return -np.add.reduce(probabilities * np.log(probabilities + 1e-5), axis=-1)


def _one_minus_max(log_probabilities):
    return 1 - np.exp(log_probabilities.max(axis=-1))


def _one_minus_margin(log_probabilities):
    top = np.exp(np.partition(log_probabilities, -2, axis=-1)[..., -2:])
    return 1 - (top[..., 1] - top[..., 0])


def _minus_run_length(log_probabilities):
    """Minus the number of exits in a row, this one included, that call the same class.

    Threshold -p at every exit is a patience of p: leave once the call has been confirmed p times (run length > p).
    """
    calls = log_probabilities.argmax(axis=-1)
    runs = np.ones(calls.shape)
    for k in range(1, calls.shape[1]):
        runs[:, k] += np.where(calls[:, k] == calls[:, k - 1], runs[:, k - 1], 0)
    return -runs


# Entropy is at most log(classes); a thousand nats are out of anyone's reach. A network has fewer than a million exits.
POLICIES = {
    policy.name: policy
    for policy in (
        # The paper's rule.
        Policy("entropy", _own, _entropy, closed=-1.0, open=1000.0),
        Policy("max_probability", _own, _one_minus_max, closed=-1.0, open=2.0),
        Policy("margin", _own, _one_minus_margin, closed=-1.0, open=2.0),
        # Zhou et al., "BERT Loses Patience" (NeurIPS 2020), section 3.
        Policy("patience", _own, _minus_run_length, closed=-1e6, open=0.0),
        Policy("running_average", _running_mean, _entropy, closed=-1.0, open=1000.0),
        Policy("weighted_running_average", _weighted_running_mean, _entropy, closed=-1.0, open=1000.0),
    )
}
