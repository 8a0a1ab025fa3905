"""The arithmetic that training runs in: float32, oneDNN's bfloat16 rewrite, or Keras' mixed float16.

bfloat16 is fast only on processors that have instructions for it, mixed float16 on GPUs that do. Weights, sums and
losses stay float32 in all of them, and so do the files that are saved.
"""

import contextlib

import tensorflow as tf

from rdi_tf._keras import keras

# Float16 ends at 6e-8: what is differentiated is multiplied by so much, and the gradient divided by it.
FLOAT16_SCALE = 1024.0

_OPTION = "auto_mixed_precision_onednn_bfloat16"
_MIXED = "mixed_float16"


@contextlib.contextmanager
def precision(name):
    """Context manager: compiled functions that are called inside, and layers that are made inside, use this arithmetic.

    The same `tf.function` may be called in float32 and in bfloat16; TensorFlow keeps one compiled form of it for each.
    Mixed float16 is a property of layers: a network has it if it was built inside, and keeps it.

    Args:
      name: one of `rdi_tf.config.PRECISIONS`.
    """
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    policy = keras.mixed_precision.global_policy()
    tf.config.optimizer.set_experimental_options({_OPTION: name == "bfloat16"})
    keras.mixed_precision.set_global_policy(_MIXED if name == _MIXED else policy)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
        keras.mixed_precision.set_global_policy(policy)


def computes_in_float16(network):
    """Whether some layer of a tf_keras model computes in float16."""
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in network.submodules)


def gradient_scaled(function):
    """A function whose derivatives are computed on a scale that float16 can hold; its values are unchanged.

    Args:
      function: callable, float32 images -> float32 logits, float16 inside.

    Returns:
      A callable of the same arguments and result; where a derivative overflows float16, it is zero.
    """

    @tf.custom_gradient
    def enter(images):
        return tf.identity(images), lambda gradient: _finite(gradient / FLOAT16_SCALE)

    @tf.custom_gradient
    def leave(logits):
        return tf.identity(logits), lambda gradient: gradient * FLOAT16_SCALE

    return lambda images: leave(function(enter(images)))


def unscaled(gradients):
    """Gradients of a loss times `FLOAT16_SCALE`, without the scale; all zero where one of them overflowed.

    What float16 cannot hold is left out of the update, as loss scaling usually does; the iteration counts.
    """
    sound = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    return [tf.where(sound, gradient / FLOAT16_SCALE, 0.0) for gradient in gradients]


def overflowed(gradients):
    """Whether what `unscaled` gave had overflowed: a bool scalar tensor."""
    return tf.reduce_all([tf.reduce_all(gradient == 0) for gradient in gradients])


def as_float32(model):
    """The same model with float32 layers, for saving: itself, if it computes in no other type.

    Args:
      model: `rdi_tf.network.RDINet`.

    Returns:
      An `RDINet` with the same weights and the same record of how it was trained.
    """
    if not computes_in_float16(model):
        return model
    config = model.get_config()
    twin = type(model).from_config({**config, "network": _with_float32(config["network"])})
    twin.set_weights(model.get_weights())
    return twin


def _with_float32(value):
    if isinstance(value, dict):
        return {key: _with_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_float32(item) for item in value)
    return "float32" if value == _MIXED else value


def _finite(gradient):
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)
