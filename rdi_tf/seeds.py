"""The seed of whatever draws random numbers inside a network, handed down from a training step to its layers.

A layer is called by the functional model that it is part of, so it cannot be given a seed as an argument. A scope holds
it instead; what happens inside folds its own number in: the pass of the training step, the exit that is attacked, the
step of the attack. `rdi_tf.models.random_layers` makes dropout read it.
"""

import contextlib
import contextvars

import tensorflow as tf

# One per thread: MirroredStrategy traces each replica in a thread of its own.
_current = contextvars.ContextVar("seed", default=None)


def fold(seed, number):
    """A seed that depends on another and on a number: int32 tensor of shape (2,).

    Args:
      seed: int32 tensor of shape (2,).
      number: int or integer scalar tensor.
    """
    return tf.random.experimental.stateless_fold_in(seed, number)


def current_seed():
    """The seed of the innermost scope, an int32 tensor of shape (2,); None outside of all scopes."""
    return _current.get()


@contextlib.contextmanager
def seed_scope(seed):
    """Context manager: networks that are called inside draw from this seed.

    Args:
      seed: int32 tensor of shape (2,).
    """
    token = _current.set(seed)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def folded(number):
    """Context manager: a number folded into the seed of the scope around it; nothing outside of all scopes.

    Args:
      number: int or integer scalar tensor.
    """
    seed = current_seed()
    if seed is None:
        yield
    else:
        with seed_scope(fold(seed, number)):
            yield
