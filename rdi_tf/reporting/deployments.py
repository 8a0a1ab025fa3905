"""Networks as they are deployed: kilobytes of files, milliseconds on one machine or another. No TensorFlow."""

from dataclasses import asdict, dataclass

from rdi_tf.latency import LatencyResult
from rdi_tf.reporting.pages import Notes, TableBlock


@dataclass(frozen=True)
class Deployment:
    """The stage files of one bundle of a run.

    Attributes:
      dtype: of the bundle.
      executed_macs: multiply-adds of each exit, by which a bundle of another network than the evaluated one is known.
      file_bytes: size of the stage files together.
      compressed_bytes: the same compressed by gzip, as an archive or an app's package holds them.
      latencies: the `LatencyResult`s that were kept of it, the newest last.
    """

    dtype: str
    executed_macs: tuple[float, ...]
    file_bytes: int
    compressed_bytes: int
    latencies: tuple[LatencyResult, ...] = ()

    def under(self, conditions):
        """The newest of its latencies that was measured under `Conditions`; None without one."""
        return next((one for one in reversed(self.latencies) if Conditions.of(one) == conditions), None)


def attacked_dtype(compression_method):
    """The dtype in whose arithmetic a network was attacked: int8 after training for it, float32 otherwise."""
    return "int8" if compression_method == "quantize_aware" else "float32"


@dataclass(frozen=True)
class Deployments:
    """What a run folder holds of them.

    Attributes:
      bundles: a `Deployment` for each bundle.
      strays: names of kept latencies that are of none of these bundles.
    """

    bundles: tuple[Deployment, ...] = ()
    strays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conditions:
    """Under which a latency was measured; milliseconds are held against others of the same conditions only.

    Attributes:
      machine: processor, cores and system.
      runtime: what computes, with how many threads.
      images: which ones, and how many: they decide which exits are taken.
    """

    machine: str
    runtime: str
    images: str

    @classmethod
    def of(cls, latency):
        """Those of a `LatencyResult`."""
        source = latency.provenance
        cores = f"{source['cores']} cores" if "cores" in source else None
        machine = ", ".join(filter(None, (source.get("processor"), cores, source.get("platform"))))
        threads = f"{latency.threads} thread{'' if latency.threads == 1 else 's'}"
        images = f"{latency.images.count} images ({latency.images.source}; SHA-256 {latency.images.sha256[:8]}…)"
        runtime = ", ".join((*_runtime_versions(source), latency.delegate, threads))
        return cls(machine or "unknown machine", runtime, images)

    @property
    def text(self):
        """In words."""
        return f"{self.machine}; {self.runtime}; {self.images}"


def _runtime_versions(provenance):
    """LiteRT and its version, as Python or the demo app notes it; nothing where neither does."""
    versions = provenance.get("versions", {})
    return [f"LiteRT {versions[name]}" for name in ("ai-edge-litert", "litert") if name in versions]


@dataclass(frozen=True)
class DeployedRun:
    """A run and its deployments.

    Attributes:
      name: of the run.
      evaluated_dtype: in which arithmetic the network was attacked: int8 after training for it, float32 otherwise.
      held: its `Deployments`.
    """

    name: str
    evaluated_dtype: str
    held: Deployments

    @property
    def evaluated(self):
        """The `Deployment` whose arithmetic is the one that was attacked, or None."""
        return next((one for one in self.held.bundles if one.dtype == self.evaluated_dtype), None)

    def to_dict(self):
        """Plain values: sizes and typical milliseconds."""
        return [
            {
                "dtype": one.dtype,
                "evaluated": one is self.evaluated,
                "file_bytes": one.file_bytes,
                "compressed_bytes": one.compressed_bytes,
                "latencies": [
                    {
                        **asdict(Conditions.of(latency)),
                        "mix_ms": latency.mix.latency.typical,
                        "mix_invoke_ms": latency.invoke_ms,
                        "load_average": latency.load_average,
                    }
                    for latency in one.latencies
                ],
            }
            for one in self.held.bundles
        ]


def all_conditions(runs):
    """The `Conditions` under which any of `DeployedRun`s was measured, in order, each once."""
    latencies = (latency for run in runs for one in run.held.bundles for latency in one.latencies)
    return list(dict.fromkeys(map(Conditions.of, latencies)))


def deployment_blocks(runs):
    """A table of files and times, and how to read it.

    Args:
      runs: `DeployedRun`s.

    Returns:
      Blocks of a page.
    """
    conditions = all_conditions(runs)
    letters = [chr(ord("A") + number) for number in range(len(conditions))]
    header = ("", "files", "attacked as these", "kB", "kB, gzip")
    for letter in letters:
        header += (f"{letter}: ms", f"{letter}: computation, ms")
    rows = [
        (run.name, one.dtype, "yes" if one is run.evaluated else "no", *_sizes(one), *_times(one, conditions))
        for run in runs
        for one in run.held.bundles
    ]
    return [TableBlock("", header, tuple(rows)), Notes(tuple(_notes(runs, conditions, letters)))]


def _sizes(deployment):
    return f"{deployment.file_bytes / 1000:,.1f}", f"{deployment.compressed_bytes / 1000:,.1f}"


def _times(deployment, conditions):
    cells = ()
    for latency in map(deployment.under, conditions):
        cells += ("", "") if latency is None else (f"{latency.mix.latency.typical:.3f}", f"{latency.invoke_ms:.3f}")
    return cells


def _notes(runs, conditions, letters):
    lines = [
        "kB: 1,000 bytes of stage files; gzip finds zeros and repeated weights, which the files themselves do not.",
        "Accuracies are those of the network in the arithmetic that was attacked; other files were not attacked.",
    ]
    for letter, one in zip(letters, conditions, strict=True):
        found = [latency for run in runs for held in run.held.bundles if (latency := held.under(one)) is not None]
        loads = [latency.load_average for latency in found if latency.load_average is not None]
        busy = f"; load average up to {max(loads):.1f}" if loads else ""
        lines.append(f"{letter}: {one.text}{busy}. Typical milliseconds of an image, from the call to the answer.")
    if len(conditions) > 1:
        lines.append("Times of different letters were measured under different conditions: do not compare them.")
    for run in runs:
        if run.held.strays:
            lines.append(f"{run.name}: {', '.join(run.held.strays)} is of none of its bundles, so not shown.")
        if not run.held.bundles:
            lines.append(f"{run.name}: not exported.")
        elif not any(one.latencies for one in run.held.bundles):
            lines.append(f"{run.name}: not benchmarked.")
    return lines
