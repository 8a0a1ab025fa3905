"""Losses per image that attacks maximise and training minimises."""

import tensorflow as tf

from rdi_tf.errors import ConfigError


def cross_entropy(logits, labels):
    """Cross-entropy of logits with hard or soft labels.

    Args:
      logits: float32 tensor (batch, classes), or (batch, exits, classes) for all exits at once.
      labels: int tensor (batch,) of classes, or float32 (batch, classes) of probabilities (MixUp, CutMix, smoothing).

    Returns:
      float32 tensor (batch,), or (batch, exits).
    """
    if labels.dtype.is_integer:
        labels = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if logits.shape.rank == 3:
        labels = labels[:, tf.newaxis, :]
    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)


def divergence(reference, logits):
    """Kullback-Leibler divergence of one output from another, which knows no labels.

    Args:
      reference: float tensor (batch, classes), or (batch, exits, classes): logits of the probabilities to be kept.
      logits: of the same shape, or one that broadcasts with it.

    Returns:
      Tensor (batch,), or (batch, exits): `KL(reference || logits)` in nats.
    """
    kept = tf.nn.log_softmax(reference)
    return tf.reduce_sum(tf.exp(kept) * (kept - tf.nn.log_softmax(logits)), axis=-1)


def margin(logits, labels):
    """By how much the best wrong class beats the true one: above zero where the exit is wrong.

    Args:
      logits: float tensor (batch, classes), or (batch, exits, classes); log-probabilities will do.
      labels: int tensor (batch,), or float (batch, classes), which counts as its most probable class.

    Returns:
      Tensor (batch,), or (batch, exits), of the logits' dtype.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks" (S&P 2017), section V-A, f_6
    without its cut at zero.
    """
    true = _is_class(labels, logits)
    minus_infinity = tf.constant(-float("inf"), logits.dtype)
    best_wrong = tf.reduce_max(tf.where(true, minus_infinity, logits), axis=-1)
    return best_wrong - tf.reduce_sum(tf.where(true, logits, tf.zeros_like(logits)), axis=-1)


def dlr(logits, labels):
    """Difference of logits ratio: `margin` over the distance of the largest to the third largest logit.

    Neither shifting nor scaling the logits changes it, so that a network cannot hide its gradients behind its scale.

    Args:
      logits: as `margin`'s, three classes or more.
      labels: as `margin`'s.

    Returns:
      As `margin`'s.

    Raises:
      ConfigError: fewer than three classes.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness" (ICML 2020), equation 6.
    """
    top = _top(logits, 3, "dlr")
    return margin(logits, labels) / (top[..., 0] - top[..., 2] + _TINY)


def dlr_targeted(logits, labels, targets):
    """DLR toward one class: `(z_target - z_true) / (z_1st - (z_3rd + z_4th) / 2)`.

    Args:
      logits: as `margin`'s, four classes or more.
      labels: as `margin`'s.
      targets: int tensor (batch,) of the classes aimed at.

    Returns:
      As `margin`'s.

    Raises:
      ConfigError: fewer than four classes.

    Source: Croce and Hein (ICML 2020), equation 7.
    """
    top = _top(logits, 4, "dlr_targeted")
    zeros = tf.zeros_like(logits)
    true = tf.reduce_sum(tf.where(_is_class(labels, logits), logits, zeros), axis=-1)
    target = tf.reduce_sum(tf.where(_is_class(targets, logits), logits, zeros), axis=-1)
    return (target - true) / (top[..., 0] - (top[..., 2] + top[..., 3]) / 2 + _TINY)


# Targeted DLR needs targets, which `craft` chooses; candidates of several targets are compared by the untargeted one.
LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr, "dlr_targeted": dlr}

# Equal logits have no ratio; the authors add the same.
_TINY = 1e-12


def loss_function(name):
    """The loss `(logits, labels) -> loss per image (and exit)` of `AttackConfig.loss`; others raise `ConfigError`."""
    if name not in LOSSES:
        raise ConfigError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name]


def _is_class(labels, logits):
    """Whether each logit is the label's, bool, broadcasting over exits."""
    if not labels.dtype.is_integer:
        labels = tf.argmax(labels, axis=-1)
    true = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return true[:, tf.newaxis, :] if logits.shape.rank == 3 else true


def _top(logits, count, name):
    if logits.shape[-1] < count:
        raise ConfigError(f"loss {name}: expected {count} classes or more, got {logits.shape[-1]}")
    return tf.math.top_k(logits, count).values
