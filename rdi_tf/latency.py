"""Measured latency of a bundle as data: what `rdi-tf benchmark` finds, kept as JSON. NumPy only.

All times are milliseconds. docs/latency.md says how everything is measured.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.errors import DataError
from rdi_tf.plain_values import build_dataclass, parse_json
from rdi_tf.run_times import Statistics
from rdi_tf.runs import write_atomic

FORMAT = 2


@dataclass(frozen=True)
class StageLatency:
    """One stage, measured on images that run through all stages.

    Attributes:
      name: the exit at its end.
      file_bytes: size of its file.
      load_ms: loading and initialisation.
      feed: handing its input over (quantising it anew where the bundle asks for that).
      invoke: computation alone.
      fetch: taking its outputs out.
    """

    name: str
    file_bytes: int
    load_ms: float
    feed: Statistics
    invoke: Statistics
    fetch: Statistics


@dataclass(frozen=True)
class ExitLatency:
    """One exit.

    Attributes:
      name: "branch_1", …, "main".
      share: share of the images that left there under the bundle's thresholds.
      executed_macs: multiply-adds up to it.
      latency: from the call to the answer, every image made to leave there.
    """

    name: str
    share: float
    executed_macs: float
    latency: Statistics


@dataclass(frozen=True)
class WholeLatency:
    """A whole network: the cascade on the real mix of exits, or the unsplit network.

    Attributes:
      file_bytes: size of its files.
      load_ms: loading and initialisation.
      first_ms: the first inference, through all stages.
      warmup: the runs before the measurement.
      latency: the measured runs, from the call to the answer.
      init_footprint_kb: memory that loading added; None where the system does not tell.
      overall_footprint_kb: memory that loading and the first inference added; None where the system does not tell.
    """

    file_bytes: int
    load_ms: float
    first_ms: float
    warmup: Statistics
    latency: Statistics
    init_footprint_kb: float | None
    overall_footprint_kb: float | None


@dataclass(frozen=True)
class MeasuredImages:
    """The images of a benchmark.

    Attributes:
      source: where they come from, in words.
      count: how many.
      sha256: `rdi_tf.calibration_source.image_digest` of them.
      accuracy: share of them that the cascade calls right; None without labels.
    """

    source: str
    count: int
    sha256: str
    accuracy: float | None


@dataclass(frozen=True)
class LatencyResult:
    """One benchmark of one bundle on one machine, one image at a time.

    Attributes:
      name: the network.
      dtype: the bundle's dtype.
      bundle_sha256: SHA-256 of its manifest, which names the digests of its files, exit rule and thresholds.
      images: what it was measured on.
      rounds: passes over the images that were measured.
      threads: threads of each stage.
      delegate: what computes.
      open_ms: reading the bundle's manifest and checking its files' checksums.
      stages: one for each exit.
      exits: one for each exit.
      mix: the cascade under the bundle's thresholds.
      unsplit: all exits at once in one file.
      unsplit_invoke: the computation of that file alone.
      backbone_executed_macs: multiply-adds of the plain backbone without branches, which the bundle does not hold.
      peak_mem_mb: largest memory of the process; None where the system does not tell.
      load_average: the machine's, of one minute, at the end: near zero or one on a machine with nothing else to do;
        None where the system does not tell.
      provenance: command, versions, machine, date.
    """

    name: str
    dtype: str
    bundle_sha256: str
    images: MeasuredImages
    rounds: int
    threads: int
    delegate: str
    open_ms: float
    stages: tuple[StageLatency, ...]
    exits: tuple[ExitLatency, ...]
    mix: WholeLatency
    unsplit: WholeLatency
    unsplit_invoke: Statistics
    backbone_executed_macs: float
    peak_mem_mb: float | None
    load_average: float | None
    provenance: dict

    def __post_init__(self):
        names = [exit.name for exit in self.exits]
        if not names or names != [stage.name for stage in self.stages]:
            raise DataError(f"latency: expected one stage for each exit, got exits {names}")
        if abs(sum(exit.share for exit in self.exits) - 1) > 1e-6:
            raise DataError("latency: expected shares of the exits with a sum of 1")
        divisors = [whole.latency.typical for whole in (self.mix, self.unsplit)] + [self.unsplit_invoke.typical]
        if not min(*divisors, self.backbone_executed_macs, *(exit.executed_macs for exit in self.exits)) > 0:
            raise DataError("latency: expected typical times and multiply-adds above 0")

    @property
    def date(self):
        """When it was measured, as text that sorts by time; empty where nobody noted it."""
        return str(self.provenance.get("date", ""))

    @property
    def predicted_ms(self):
        """What the mix should take: each exit's typical time, weighted by its share."""
        return sum(exit.share * exit.latency.typical for exit in self.exits)

    @property
    def handover_ms(self):
        """Typical cost of the hand-over into each stage but the first: out of the one before it and in, a tuple."""
        pairs = zip(self.stages, self.stages[1:], strict=False)
        return tuple(before.fetch.typical + after.feed.typical for before, after in pairs)

    @property
    def invoke_ms(self):
        """Typical time of computation alone for the mix: the stages that each image ran."""
        return self._of_mix(stage.invoke.typical for stage in self.stages)

    @property
    def steps_ms(self):
        """Typical time of all hand-overs of the mix: into and out of the stages that each image ran."""
        return self._of_mix(stage.feed.typical + stage.fetch.typical for stage in self.stages)

    def _of_mix(self, stages_ms):
        return float(np.dot([exit.share for exit in self.exits], np.cumsum(list(stages_ms))))

    @property
    def executed_macs(self):
        """Multiply-adds per image of the mix."""
        return sum(exit.share * exit.executed_macs for exit in self.exits)

    def summary(self):
        """Savings against the unsplit network, and how well the mix was predicted.

        Returns:
          Dict of floats. `latency_saving_over_macs_saving` is 1 where time follows computation; None where nothing is
          saved in multiply-adds. `mix_rest_ms` is what neither computation nor hand-overs take: checks, exit rule, and
          putting the answer together, in Python.
        """
        macs_saving = 1 - self.executed_macs / self.exits[-1].executed_macs
        latency_saving = 1 - self.mix.latency.typical / self.unsplit.latency.typical
        invoke_saving = 1 - self.invoke_ms / self.unsplit_invoke.typical
        some = macs_saving > 0
        return {
            "executed_macs": self.executed_macs,
            "unsplit_executed_macs": self.exits[-1].executed_macs,
            "macs_saving": macs_saving,
            "macs_saving_against_backbone": 1 - self.executed_macs / self.backbone_executed_macs,
            "mix_ms": self.mix.latency.typical,
            "unsplit_ms": self.unsplit.latency.typical,
            "latency_saving": latency_saving,
            "latency_saving_over_macs_saving": latency_saving / macs_saving if some else None,
            "mix_invoke_ms": self.invoke_ms,
            "unsplit_invoke_ms": self.unsplit_invoke.typical,
            "invoke_saving": invoke_saving,
            "invoke_saving_over_macs_saving": invoke_saving / macs_saving if some else None,
            "mix_handover_ms": self.steps_ms,
            "mix_rest_ms": self.mix.latency.typical - self.invoke_ms - self.steps_ms,
            "unsplit_rest_ms": self.unsplit.latency.typical - self.unsplit_invoke.typical,
            "predicted_mix_ms": self.predicted_ms,
            "prediction_error": self.predicted_ms / self.mix.latency.typical - 1,
            "handover_ms": list(self.handover_ms),
        }

    def benchmark_model(self):
        """The same under the names of TFLite's `benchmark_model` result, dict "cascade" and "unsplit"."""
        return {"cascade": self._benchmark_model(self.mix), "unsplit": self._benchmark_model(self.unsplit)}

    def _benchmark_model(self, whole):
        latency = whole.latency
        return {
            "latency_metrics": {
                "init_ms": whole.load_ms,
                "first_inference_ms": whole.first_ms,
                "average_warm_up_ms": whole.warmup.mean,
                "avg_ms": latency.mean,
                "min_ms": latency.min,
                "max_ms": latency.max,
                "stddev_ms": latency.std,
                "median_ms": latency.median,
                "p5_ms": latency.p5,
                "p95_ms": latency.p95,
            },
            "memory_metrics": {
                "init_footprint_kb": whole.init_footprint_kb,
                "overall_footprint_kb": whole.overall_footprint_kb,
                "peak_mem_mb": self.peak_mem_mb,
            },
            "misc_metrics": {
                "model_size_mb": whole.file_bytes / 1e6,
                "num_runs": latency.count,
                "num_warmup_runs": whole.warmup.count,
            },
        }

    def to_dict(self):
        """Plain values: all fields, and what follows from them under "summary" and "benchmark_model"."""
        derived = {"summary": self.summary(), "benchmark_model": self.benchmark_model()}
        return {"format": FORMAT, **dataclasses.asdict(self), **derived}

    def save(self, path):
        """Write this result to a JSON file, whole or not at all."""
        write_atomic(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, text):
        """The result whose `to_dict` stands in JSON text ("summary" and "benchmark_model" may be left out).

        Raises:
          DataError: other text.
        """
        table = parse_json(text, "latency")
        found = table.get("format") if isinstance(table, dict) else table
        if found != FORMAT or isinstance(found, bool):
            raise DataError(f"latency: expected a benchmark of format {FORMAT}, got {str(found)[:80]}; measure again")
        derived = ("format", "summary", "benchmark_model")
        return build_dataclass(cls, {key: value for key, value in table.items() if key not in derived}, "latency")

    @classmethod
    def load(cls, path):
        """The result in a JSON file; a file that is missing or holds something else raises `DataError`."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a benchmark: {error}") from error
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
