"""The arithmetic that compiled functions run in: float32, or oneDNN's bfloat16 rewrite of convolutions and products."""

import contextlib

import tensorflow as tf

_OPTION = "auto_mixed_precision_onednn_bfloat16"


@contextlib.contextmanager
def precision(name):
    """Context manager: compiled functions that are called inside run in this arithmetic.

    The same `tf.function` may be called in both; TensorFlow keeps one compiled form of it for each. Weights, sums and
    losses stay float32 in either. bfloat16 is fast only on processors that have instructions for it.

    Args:
      name: "float32" or "bfloat16".
    """
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: name == "bfloat16"})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
