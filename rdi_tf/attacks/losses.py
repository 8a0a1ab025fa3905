"""Losses per image that attacks maximise and training minimises."""

import tensorflow as tf


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
