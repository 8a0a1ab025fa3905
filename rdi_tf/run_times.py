"""Statistics of many runs on the same images. NumPy only.

A *typical* time of a set of images is the mean over the images of each image's median over the rounds: unlike a plain
mean it does not follow what else the machine was doing, and unlike plain medians typical times add up, so that a mix of
exits can be predicted from them.
"""

from dataclasses import dataclass

import numpy as np

from rdi_tf.errors import DataError


@dataclass(frozen=True)
class Statistics:
    """Times of many runs, in milliseconds.

    Attributes:
      count: number of runs.
      mean, std, min, p5, median, p90, p95, max: over all runs; std is that of the runs themselves (divided by count).
      typical: mean over the images of each image's median.
    """

    count: int
    mean: float
    std: float
    min: float
    p5: float
    median: float
    p90: float
    p95: float
    max: float
    typical: float

    @classmethod
    def of(cls, times):
        """Statistics of times.

        Args:
          times: array (rounds, images) in milliseconds, not empty.

        Returns:
          The `Statistics`.

        Raises:
          DataError: another shape, no times, or times that are negative or not finite.
        """
        times = np.asarray(times, np.float64)
        if times.ndim != 2 or times.size == 0 or not np.isfinite(times).all() or times.min() < 0:
            raise DataError(f"times: expected numbers >= 0 of shape (rounds, images), got shape {times.shape}")
        p5, median, p90, p95 = np.percentile(times, (5, 50, 90, 95))
        return cls(
            count=times.size,
            mean=float(times.mean()),
            std=float(times.std()),
            min=float(times.min()),
            p5=float(p5),
            median=float(median),
            p90=float(p90),
            p95=float(p95),
            max=float(times.max()),
            typical=float(np.median(times, axis=0).mean()),
        )
