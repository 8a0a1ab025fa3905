"""Networks as they are deployed: kilobytes of files, milliseconds on one machine or another. No TensorFlow."""

import string
from dataclasses import asdict, dataclass, field

from rdi_tf.latency import LatencyResult
from rdi_tf.reporting.pages import Notes, TableBlock


@dataclass(frozen=True)
class Deployment:
    """The stage files of one bundle of a run.

    Attributes:
      folder: name of the bundle's folder.
      dtype: of the bundle.
      policy: name of its exit rule.
      thresholds: of that rule, one for each exit but the last.
      sha256: of its manifest, by which its latencies are known.
      executed_macs: multiply-adds of each exit, by which a bundle of another network than the evaluated one is known.
      file_bytes: size of the stage files together.
      compressed_bytes: the same compressed by gzip, as an archive or an app's package holds them.
      latencies: the `LatencyResult`s that were kept of it, the newest last.
    """

    folder: str
    dtype: str
    policy: str
    thresholds: tuple[float, ...]
    sha256: str
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
      runtime: what computes, with how many threads; Python, too, whose part of the milliseconds is not small.
      images: which ones, and how many: they decide which exits are taken.
      source: where those images came from; the same ones may come from several files.
    """

    machine: str
    runtime: str
    images: str
    source: str = field(compare=False)

    @classmethod
    def of(cls, latency):
        """Those of a `LatencyResult`."""
        source = latency.provenance
        cores = f"{source['cores']} cores" if "cores" in source else None
        machine = ", ".join(filter(None, (source.get("processor"), cores, source.get("platform"))))
        threads = f"{latency.threads} thread{'' if latency.threads == 1 else 's'}"
        images = f"{latency.images.count} images (SHA-256 {latency.images.sha256[:8]}…)"
        runtime = ", ".join((*_runtime_versions(source), latency.delegate, threads))
        return cls(machine or "unknown machine", runtime, images, latency.images.source)

    @property
    def text(self):
        """In words."""
        return f"{self.machine}; {self.runtime}; {self.images}: {self.source}"


def _runtime_versions(provenance):
    """What runs there and its version, as Python or the demo app notes it; nothing where neither does."""
    versions = provenance.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    names = {"python": "Python", "numpy": "NumPy", "ai-edge-litert": "LiteRT", "litert": "LiteRT"}
    return [f"{name} {versions[key]}" for key, name in names.items() if key in versions]


@dataclass(frozen=True)
class DeployedRun:
    """A run and its deployments.

    Attributes:
      name: of the run.
      evaluated_dtype: in which arithmetic the network was attacked: int8 after training for it, float32 otherwise.
      policy, thresholds: exit rule under which it was attacked.
      held: its `Deployments`.
    """

    name: str
    evaluated_dtype: str
    policy: str
    thresholds: tuple[float, ...]
    held: Deployments

    @property
    def evaluated(self):
        """The `Deployment` of what was attacked, or None; of several the one whose folder is named after its dtype."""
        found = [one for one in self.held.bundles if self.was_attacked(one) == "yes"]
        return min(found, key=lambda one: (one.folder != one.dtype, one.folder), default=None)

    def was_attacked(self, deployment):
        """Whether what was attacked is in these files, in words: their arithmetic, exit rule and thresholds."""
        if deployment.dtype != self.evaluated_dtype:
            return "no"
        same_rule = (deployment.policy, deployment.thresholds) == (self.policy, self.thresholds)
        return "yes" if same_rule else "under other thresholds"

    def to_dict(self):
        """Plain values: sizes and typical milliseconds."""
        return [
            {
                "folder": one.folder,
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


def condition_letters(count):
    """A name for each of so many conditions: A … Z, AA, AB …, as spreadsheets name columns."""
    names = string.ascii_uppercase
    while len(names) < count:
        names = [*string.ascii_uppercase, *(name + letter for name in names for letter in string.ascii_uppercase)]
    return list(names[:count])


def deployment_blocks(runs):
    """A table of files and times, and how to read it.

    Args:
      runs: `DeployedRun`s.

    Returns:
      Blocks of a page.
    """
    conditions = all_conditions(runs)
    letters = condition_letters(len(conditions))
    header = ("", "files", "attacked as these", "kB", "kB, gzip")
    for letter in letters:
        header += (f"{letter}: ms", f"{letter}: computation, ms")
    rows = [
        (run.name, _files(one), run.was_attacked(one), *_sizes(one), *_times(one, conditions))
        for run in runs
        for one in run.held.bundles
    ]
    return [TableBlock("", header, tuple(rows)), Notes(tuple(_notes(runs, conditions, letters)))]


def _files(deployment):
    same = deployment.folder == deployment.dtype
    return deployment.dtype if same else f"{deployment.folder} ({deployment.dtype})"


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
        "Accuracies are those of the network in the arithmetic, and under the thresholds, that were attacked; other "
        "files were not.",
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
