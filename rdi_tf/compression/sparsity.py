"""Zeros and repeated values in a network's weights, and what they are worth.

Costs count every multiply-add of the layers as they are, zeros included: no runtime that rdi-tf exports to skips them.
LiteRT multiplies by a zero as by any other number (its kernels for sparse weights need a file that says where the
zeros lie, which `rdi-tf export` does not write). What zeros and repeated values save is bytes, where a file is
compressed.
"""

import numpy as np

from rdi_tf.models.layers import own_name

RUNTIMES = ()  # that skip zero weights of a bundle


def count_zeros(network):
    """Count the zeros among the kernels of a network.

    Args:
      network: functional tf_keras model, wrapped by tfmot or not.

    Returns:
      Plain values: `layers`, a list of `name`, `weights`, `zeros` and `values` (how many different ones); `weights`
      and `zeros` of all of them; `share`, the latter divided by the former; `skipped_by`, the runtimes that save the
      multiply-adds of zeros.
    """
    layers = []
    for layer in network.layers:
        kernels = [w.numpy() for w in layer.weights if own_name(w) in _KERNELS]
        if kernels:
            zeros = sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels)
            values = len(np.unique(np.concatenate([kernel.ravel() for kernel in kernels])))
            weights = sum(kernel.size for kernel in kernels)
            layers.append({"name": layer.name, "weights": weights, "zeros": zeros, "values": values})
    weights, zeros = (sum(layer[key] for layer in layers) for key in ("weights", "zeros"))
    share = zeros / weights if weights else 0.0
    return {"layers": layers, "weights": weights, "zeros": zeros, "share": share, "skipped_by": list(RUNTIMES)}


_KERNELS = ("kernel", "depthwise_kernel")
