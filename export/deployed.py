"""What a run folder holds of exported files: bundles in RUN/export, and benchmarks of them as RUN/latency*.json."""

import zlib
from pathlib import Path

from rdi_tf.export.bundle import Bundle
from rdi_tf.export.manifest import MANIFEST
from rdi_tf.latency import LatencyResult
from rdi_tf.reporting.deployments import Deployment, Deployments

GZIP = 31  # window bits by which zlib writes gzip's format


def deployments(run_dir):
    """The bundles of a run and their benchmarks.

    Args:
      run_dir: the run's folder.

    Returns:
      `Deployments`, by the folders' names. A benchmark belongs to the bundle whose manifest it was measured under.

    Raises:
      BundleError: a bundle that is not whole.
      DataError: a benchmark that cannot be read.
    """
    run_dir = Path(run_dir)
    kept = {path.name: LatencyResult.load(path) for path in sorted(run_dir.glob("latency*.json"))}
    kept = dict(sorted(kept.items(), key=lambda item: item[1].date))
    # Hidden folders are bundles in the making.
    folders = sorted(path.parent for path in (run_dir / "export").glob(f"[!.]*/{MANIFEST}"))
    bundles, taken = [], set()
    for bundle in map(Bundle.open, folders):
        digest = bundle.sha256
        names = [name for name, latency in kept.items() if latency.bundle_sha256 == digest]
        bundles.append(_deployment(bundle, digest, tuple(kept[name] for name in names)))
        taken.update(names)
    return Deployments(tuple(bundles), tuple(name for name in kept if name not in taken))


def _deployment(bundle, digest, latencies):
    files = [bundle.file(stage.file).read_bytes() for stage in bundle.manifest.stages]
    return Deployment(
        folder=bundle.path.name,
        dtype=bundle.manifest.dtype,
        policy=bundle.manifest.policy.name,
        thresholds=tuple(bundle.manifest.policy.thresholds),
        sha256=digest,
        executed_macs=tuple(bundle.manifest.costs.executed_macs),
        file_bytes=sum(map(len, files)),
        compressed_bytes=sum(len(zlib.compress(content, 9, GZIP)) for content in files),
        latencies=latencies,
    )
