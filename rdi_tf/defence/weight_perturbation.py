"""Adversarial weight perturbation: the gradient is taken where nearby weights have the greatest loss.

Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization" (NeurIPS 2020), algorithm 1, with one
step. As in the authors' code, only weights of two dimensions or more are moved: kernels, not biases or batch norm.
"""

import contextlib

import tensorflow as tf

from rdi_tf.distribution import replicas_in_sync


@contextlib.contextmanager
def moved(model, gradients, relative_norm):
    """Context manager: inside, the model's kernels have gone uphill; afterwards all its weights are what they were.

    A network that is being compressed keeps its zeros or shared values inside, too, so that its kernels move less far.
    What passes in training mode do to the running statistics of batch norm inside is undone, too.

    Args:
      model: `RDINet`, in a training step.
      gradients: of the loss with respect to each trainable variable, in order; this replica's.
      relative_norm: length of each kernel's move, in multiples of the kernel's own; float or scalar tensor.
    """
    kernels = [(v, g) for v, g in zip(model.trainable_variables, gradients, strict=True) if len(v.shape) > 1]
    variables, ascents = zip(*kernels, strict=True)
    if replicas_in_sync() > 1:  # all replicas move alike, uphill for the whole batch
        ascents = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(ascents))
    shared, own = _by_sharing(model.non_trainable_variables)
    kept, kept_shared, kept_own = ([tf.identity(v) for v in part] for part in (variables, shared, own))
    _assign(variables, [v + relative_norm * _towards(g, v) for v, g in zip(kept, ascents, strict=True)])
    model.constrain_weights()
    try:
        yield
    finally:
        _assign([*variables, *shared], [*kept, *kept_shared])
        for variable, value in zip(own, kept_own, strict=True):
            variable.assign(value)


def _by_sharing(variables):
    """Variables that all replicas share, and those that are each one's own: running statistics of batch norm."""
    own = [variable for variable in variables if variable.synchronization == tf.VariableSynchronization.ON_READ]
    return [variable for variable in variables if all(variable is not one for one in own)], own


def _towards(gradient, kernel):
    """The direction of a gradient with the length of a kernel; zero where there is no gradient."""
    # Gradients of images that are well learnt are so small that their squares underflow.
    scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient)))
    return tf.math.divide_no_nan(tf.norm(kernel), tf.norm(scaled)) * scaled


def _assign(variables, values):
    """Set variables that all replicas share, to values that are the same in all of them."""

    def everywhere(strategy, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda own, new: own.assign(new), args=(value,), group=False)

    tf.distribute.get_replica_context().merge_call(everywhere, args=(list(values),))
