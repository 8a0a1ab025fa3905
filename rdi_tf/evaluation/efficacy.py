"""How much an exit rule saves, as one number that slowdown attacks push down. NumPy only.

Source: Hong et al., "A Panda? No, It's a Sloth: Slowdown Attacks on Adaptive Multi-Exit Neural Network Inference" (ICLR
2021), section 3.
"""

import numpy as np

from rdi_tf.errors import DataError


def efficacy(exit_shares, costs):
    """Area under the curve of the share of images that have left over the share of the whole cost.

    The curve runs from (0, 0) in straight lines through (cost of exit k / cost of the last, share that has left by
    exit k) to (1, 1), as in the authors' code. 1 is out of reach: it would take a first exit that costs nothing and
    takes everything. 0 is, too: what leaves at the last exit is drawn as a ramp from the exit before it. So
    compare figures of one network only.

    Args:
      exit_shares: share of the images that leave at each exit, in exit order, sum 1.
      costs: cost of leaving at each exit, growing, in any unit.

    Returns:
      float in (0, 1); larger is faster.

    Raises:
      DataError: shares or costs that are not such numbers.
    """
    shares, costs = np.asarray(exit_shares, np.float64), np.asarray(costs, np.float64)
    if shares.ndim != 1 or shares.size == 0 or (shares < 0).any() or not np.isclose(shares.sum(), 1, atol=1e-6):
        raise DataError(f"exit_shares: expected shares of the images with a sum of 1, got {exit_shares!r}")
    grow = costs.shape == shares.shape and (np.diff(costs, prepend=0.0) > 0).all() and np.isfinite(costs).all()
    if not grow:
        raise DataError(f"costs: expected {shares.size} growing numbers above 0, got {costs.tolist()!r}")
    spent = np.concatenate([[0.0], costs / costs[-1]])
    left = np.concatenate([[0.0], np.cumsum(shares)])
    # The last sum may miss 1 by rounding.
    left[-1] = 1.0
    return float(np.trapezoid(left, spent))
