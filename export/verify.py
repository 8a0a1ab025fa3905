"""Verification of a bundle: what it holds against what it says, on this machine. NumPy and LiteRT only.

`rdi_tf.export.compare` adds the comparison with the float model, which needs TensorFlow and the run.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from rdi_tf.export.bundle import Bundle
from rdi_tf.export.cascade import Cascade
from rdi_tf.export.manifest import BundleError
from rdi_tf.export.unsplit import Unsplit

SCORES = 1e-6  # largest difference of scores that come from the same logits, both in float64
UNSPLIT = 2  # times the tolerance: the same network in one file rounds in other places


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
      name: what.
      passed: whether it holds.
      detail: what was found, one line.
      values: the figures behind it, plain values.
    """

    name: str
    passed: bool
    detail: str
    values: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
      name: the network.
      dtype: the bundle's dtype.
      checks: the `Check`s.
    """

    name: str
    dtype: str
    checks: tuple[Check, ...]

    @property
    def passed(self):
        """Whether all checks hold."""
        return all(check.passed for check in self.checks)

    def to_dict(self):
        """Plain values for JSON."""
        return {**asdict(self), "passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def check_files(bundle):
    """The `Check` of a bundle's files; `Bundle.open` has refused it already if one is not as it was written."""
    manifest = bundle.manifest
    bundle.check_files()
    values = {"files": len(manifest.files), "stage_bytes": manifest.stage_bytes}
    detail = f"{len(manifest.files)} files as written; stages {manifest.stage_bytes:,} bytes"
    return Check("files", True, detail, values)


def check_golden(cascade):
    """Run a bundle's golden vectors through its cascade.

    Args:
      cascade: a `Cascade` with the manifest's thresholds.

    Returns:
      The `Check`: logits within the manifest's tolerance; exits and classes equal; scores those of the logits.

    Raises:
      BundleError: golden vectors or stages that cannot be read.
    """
    golden, tolerance = cascade.bundle.golden(), cascade.bundle.manifest.golden.tolerance
    exit_logits = cascade.exit_logits(golden.images)
    if not np.isfinite(exit_logits).all():
        return _not_finite("golden vectors", exit_logits)
    largest = float(np.abs(exit_logits - golden.exit_logits).max())
    answers = cascade.predict_batch(golden.images)
    exits = int(np.count_nonzero(answers.exits != golden.exits))
    predictions = int(np.count_nonzero(answers.predictions != golden.predictions))
    scores = int(np.count_nonzero(~np.isclose(cascade.policy.scores(golden.exit_logits), golden.scores, atol=SCORES)))
    values = {
        "images": len(golden.images),
        "largest_difference": largest,
        "tolerance": tolerance,
        "wrong_exits": exits,
        "wrong_predictions": predictions,
        "wrong_scores": scores,
    }
    detail = (
        f"{len(golden.images)} images: logits differ by at most {largest:.2g} ({tolerance:.2g} allowed), "
        f"{exits} other exits, {predictions} other classes, {scores} other scores of the same logits"
    )
    return Check("golden vectors", largest <= tolerance and exits == predictions == scores == 0, detail, values)


def check_unsplit(unsplit, bundle):
    """Run a bundle's golden vectors through its unsplit network, against which savings are measured.

    Args:
      unsplit: `rdi_tf.export.unsplit.Unsplit`.
      bundle: its `Bundle`.

    Returns:
      The `Check`: logits within twice the manifest's tolerance of the stages'.

    Raises:
      BundleError: golden vectors that cannot be read.
    """
    golden, allowed = bundle.golden(), UNSPLIT * bundle.manifest.golden.tolerance
    exit_logits = unsplit.exit_logits(golden.images)
    if not np.isfinite(exit_logits).all():
        return _not_finite("unsplit network", exit_logits)
    largest = float(np.abs(exit_logits - golden.exit_logits).max())
    images = len(golden.images)
    detail = f"{images} images: logits differ from the stages' by at most {largest:.2g} ({allowed:.2g} allowed)"
    values = {"images": images, "largest_difference": largest, "tolerance": allowed}
    return Check("unsplit network", largest <= allowed, detail, values)


def _not_finite(name, exit_logits):
    """The failed `Check` of a network that gives NaN or infinity, which no exit rule can judge."""
    images, count = len(exit_logits), int(np.count_nonzero(~np.isfinite(exit_logits)))
    detail = f"{images} images: {count} of {exit_logits.size} logits are not finite"
    return Check(name, False, detail, {"images": images, "not_finite": count})


def open_sound(path, num_threads=1):
    """Load a bundle that does on this machine what it says.

    Args:
      path: the folder.
      num_threads: threads of each stage.

    Returns:
      The `Cascade`, every stage loaded, warm and timed.

    Raises:
      BundleError: a file is altered, or the golden vectors do not come out.
    """
    cascade = Cascade(path, num_threads)
    require(check_golden(cascade), path)
    cascade.warm_up(cascade.bundle.golden().images[0])
    return cascade


def require(check, path):
    """Refuse the bundle at a path if a check of it does not hold: raises `BundleError`."""
    if not check.passed:
        raise BundleError(f"{path}: does not hold on this machine: {check.name}: {check.detail}")


def verify(path, num_threads=1):
    """Verify a bundle by itself.

    Args:
      path: the folder.
      num_threads: threads of each stage.

    Returns:
      The `Verification`.

    Raises:
      BundleError: a bundle that cannot be read, or a file that is not as it was written.
    """
    bundle = Bundle.open(path)
    golden, unsplit = check_golden(Cascade(bundle, num_threads)), check_unsplit(Unsplit(bundle, num_threads), bundle)
    checks = (check_files(bundle), golden, unsplit)
    return Verification(bundle.manifest.name, bundle.manifest.dtype, checks)
