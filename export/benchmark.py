"""Latency of a bundle on this machine: its cascade beside its unsplit network. NumPy and LiteRT only.

Everything is measured in passes over the images, one image at a time. A round is one pass of each kind (the real mix of
exits, the unsplit network, every image made to leave at each exit in turn, and each step of each file by itself), so
that a machine that grows slower or faster does so for all of them alike. The order within a round turns from round to
round.
"""

import gc
import os
import time
from dataclasses import dataclass

import numpy as np

from rdi_tf.calibration_source import image_digest
from rdi_tf.data.checks import check_labels
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.export.benchmark_memory import peak_mb, resident_kb
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.cascade import Cascade
from rdi_tf.export.runner import MOST_THREADS, check_batch
from rdi_tf.export.unsplit import Unsplit
from rdi_tf.export.verify import check_golden, check_unsplit, require
from rdi_tf.latency import ExitLatency, LatencyResult, MeasuredImages, StageLatency, WholeLatency
from rdi_tf.provenance import provenance
from rdi_tf.run_times import Statistics

DELEGATE = "XNNPACK (LiteRT's default; operators that it lacks run on LiteRT's own kernels)"
GOLDEN = "the bundle's golden inputs: validation images, equally many from each exit as far as there are"
MIX, UNSPLIT, PIECES, UNSPLIT_INVOKE = "mix", "unsplit", "pieces", "unsplit_invoke"


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
      threads: threads of each stage, at most MOST_THREADS.
      rounds: passes of each kind over the images.
      warmup_rounds: rounds before the measurement.
      max_seconds: start no further round after so many seconds of measurement; one round is always made.
    """

    threads: int = 1
    rounds: int = 30
    warmup_rounds: int = 3
    max_seconds: float = 150.0

    def __post_init__(self):
        for name in ("threads", "rounds", "warmup_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.threads > MOST_THREADS:
            raise ConfigError(f"threads: expected at most {MOST_THREADS}, got {self.threads}")
        if not self.max_seconds > 0:
            raise ConfigError(f"max_seconds: expected a number above 0, got {self.max_seconds}")


def benchmark(path, images=None, labels=None, options=None, source="", command="", limit=None, clock=time.perf_counter):
    """Measure a bundle.

    Args:
      path: the bundle's folder.
      images: float array (n, height, width, channels) in [0, 1], n >= 1; None for the bundle's golden inputs.
      labels: int array (n,), their classes, or None.
      options: `BenchmarkOptions`; None for the defaults.
      source: where the images come from, for the record.
      command: the command line, for the record.
      limit: measure the first so many images; None for all.
      clock: callable giving seconds.

    Returns:
      `rdi_tf.latency.LatencyResult`.

    Raises:
      BundleError: a bundle that cannot be read, or does not reproduce its golden vectors.
      ConfigError: a bundle that takes several images at a time, or unusable options.
      DataError: images or labels that do not fit.
    """
    options = options or BenchmarkOptions()
    bundle, open_ms = _timed(clock, lambda: Bundle.open(path))
    manifest = bundle.manifest
    if manifest.batch_size not in (None, 1):
        raise ConfigError(
            f"{path}: takes {manifest.batch_size} images at a time; export with --batch-size 1 or dynamic"
        )
    images, labels, source = _checked_images(bundle, images, labels, source, limit)
    cascade, loads, mix_start = _start_cascade(bundle, options, images[0], clock)
    require(check_golden(cascade), path)
    unsplit, unsplit_start = _start_unsplit(bundle, options, images[0], clock)
    require(check_unsplit(unsplit, bundle), path)
    measurement = _Measurement(cascade, unsplit, images, clock)
    warmup = measurement.rounds(options.warmup_rounds, options.max_seconds)
    times = measurement.rounds(options.rounds, options.max_seconds)
    return LatencyResult(
        name=manifest.name,
        dtype=manifest.dtype,
        bundle_sha256=bundle.sha256,
        images=MeasuredImages(source, len(images), image_digest(images), measurement.accuracy(labels)),
        rounds=len(times[MIX]),
        threads=options.threads,
        delegate=DELEGATE,
        open_ms=open_ms,
        stages=_stages(manifest, loads, times),
        exits=_exits(manifest, measurement.exits, times),
        mix=_whole(manifest.stage_bytes, mix_start, warmup[MIX], times[MIX]),
        unsplit=_whole(manifest.unsplit.file.bytes, unsplit_start, warmup[UNSPLIT], times[UNSPLIT]),
        unsplit_invoke=Statistics.of(times[UNSPLIT_INVOKE]),
        backbone_executed_macs=manifest.costs.backbone_executed_macs,
        peak_mem_mb=peak_mb(),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        provenance=provenance(command, 0),
    )


def _checked_images(bundle, images, labels, source, limit):
    """Images, labels and source: those given, or the bundle's golden inputs; the first `limit` of them."""
    if images is None:
        golden = bundle.golden()
        images, labels, source = golden.images, golden.labels, GOLDEN
    images = check_batch(images, bundle.manifest)
    if labels is not None:
        check_labels(labels, len(bundle.manifest.labels))
        if len(labels) != len(images):
            raise DataError(f"labels: expected {len(images)}, one for each image, got {len(labels)}")
        labels = labels[:limit]
    return images[:limit], labels, source


def _stages(manifest, loads, times):
    return tuple(
        StageLatency(name, stage.file.bytes, load, *(Statistics.of(times[name, step]) for step in _STEPS))
        for name, stage, load in zip(manifest.exit_names, manifest.stages, loads, strict=True)
    )


def _exits(manifest, exits, times):
    shares = np.bincount(exits, minlength=len(manifest.exit_names)) / len(exits)
    return tuple(
        ExitLatency(name, float(share), macs, Statistics.of(times[name]))
        for name, share, macs in zip(manifest.exit_names, shares, manifest.costs.executed_macs, strict=True)
    )


_STEPS = ("feed", "invoke", "fetch")


@dataclass(frozen=True)
class _Start:
    """Times and memory of a network's start: milliseconds, and kilobytes or None."""

    load_ms: float
    first_ms: float
    init_footprint_kb: float | None
    overall_footprint_kb: float | None


def _start_cascade(bundle, options, image, clock):
    """The `Cascade`, each stage's load time in ms, its `_Start`."""
    before = resident_kb()
    cascade = Cascade(bundle, options.threads, lazy=True, clock=clock)
    stages = range(len(cascade.exit_names))
    loads = [_timed(clock, lambda index=index: cascade.chain.runner(index))[1] for index in stages]
    loaded = resident_kb()
    thresholds = cascade.thresholds
    cascade.thresholds = cascade.leaving_at(len(stages) - 1)
    _, first_ms = _timed(clock, lambda: cascade.predict(image))
    cascade.thresholds = thresholds
    return cascade, loads, _Start(sum(loads), first_ms, _added(before, loaded), _added(before, resident_kb()))


def _start_unsplit(bundle, options, image, clock):
    """The `Unsplit` and its `_Start`."""
    before = resident_kb()
    unsplit, load_ms = _timed(clock, lambda: Unsplit(bundle, options.threads))
    loaded = resident_kb()
    _, first_ms = _timed(clock, lambda: unsplit.exit_logits(image[None]))
    return unsplit, _Start(load_ms, first_ms, _added(before, loaded), _added(before, resident_kb()))


class _Measurement:
    """Passes over the images; knows afterwards where each image left (`exits`) and its class (`predictions`)."""

    def __init__(self, cascade, unsplit, images, clock):
        self._cascade = cascade
        self._unsplit = unsplit
        self._images = images
        self._clock = clock
        self._thresholds = cascade.thresholds
        self.exits = np.zeros(len(images), int)
        self.predictions = np.zeros(len(images), int)

    def accuracy(self, labels):
        """Share of the images that were called right, or None where nobody knows."""
        return None if labels is None else float((self.predictions == np.asarray(labels)).mean())

    def rounds(self, count, max_seconds):
        """Times in ms, dict from kind of pass to array (rounds, images); every kind in every round."""
        forced = range(len(self._cascade.exit_names))
        passes = [self._mix, self._unsplit_pass, self._pieces, *(lambda k=k: self._forced(k) for k in forced)]
        found, begun = {}, self._clock()
        with _no_garbage_collection():
            for number in range(count):
                if number and self._clock() - begun > max_seconds:
                    break
                turn = number % len(passes)
                for one_pass in (*passes[turn:], *passes[:turn]):
                    for kind, times in one_pass().items():
                        found.setdefault(kind, []).append(times)
        return {kind: 1000 * np.array(times) for kind, times in found.items()}

    def _mix(self):
        self._cascade.thresholds = self._thresholds
        times = []
        for row, image in enumerate(self._images):
            begun = self._clock()
            answer = self._cascade.predict(image)
            times.append(self._clock() - begun)
            self.exits[row], self.predictions[row] = answer.exit_index, answer.prediction
        return {MIX: times}

    def _forced(self, exit_index):
        self._cascade.thresholds = self._cascade.leaving_at(exit_index)
        times = []
        for image in self._images:
            begun = self._clock()
            self._cascade.predict(image)
            times.append(self._clock() - begun)
        return {self._cascade.exit_names[exit_index]: times}

    def _unsplit_pass(self):
        times = []
        for image in self._images:
            begun = self._clock()
            self._unsplit.exit_logits(image[None])[:, -1].argmax(axis=-1)
            times.append(self._clock() - begun)
        return {UNSPLIT: times}

    def _pieces(self):
        """Each step of each stage, all stages for every image; and the unsplit network's computation alone."""
        chain, names = self._cascade.chain, self._cascade.exit_names
        times = {(name, step): [] for name in names for step in _STEPS}
        for image in self._images:
            carried = image[None]
            for index, name in enumerate(names):
                runner = chain.runner(index)
                begun = self._clock()
                runner.feed(chain.hand_over(index, carried))
                fed = self._clock()
                runner.invoke()
                invoked = self._clock()
                outputs = runner.fetch()
                fetched = self._clock()
                for step, seconds in zip(_STEPS, (fed - begun, invoked - fed, fetched - invoked), strict=True):
                    times[name, step].append(seconds)
                carried = outputs.get("features")
        runner, times[UNSPLIT_INVOKE] = self._unsplit.runner, []
        for image in self._images:
            runner.feed(runner.image_input(image[None]))
            begun = self._clock()
            runner.invoke()
            times[UNSPLIT_INVOKE].append(self._clock() - begun)
        return times


def _whole(file_bytes, start, warmup, times):
    return WholeLatency(
        file_bytes,
        start.load_ms,
        start.first_ms,
        Statistics.of(warmup),
        Statistics.of(times),
        start.init_footprint_kb,
        start.overall_footprint_kb,
    )


def _timed(clock, function):
    """What a function returns, and the milliseconds that it took."""
    begun = clock()
    found = function()
    return found, 1000 * (clock() - begun)


def _added(before, after):
    return None if before is None or after is None else float(after - before)


class _no_garbage_collection:
    """Context manager: collects now and not inside, as `timeit` does, so that no run pays for another's rubbish."""

    def __enter__(self):
        self._was_enabled = gc.isenabled()
        gc.collect()
        gc.disable()

    def __exit__(self, *error):
        if self._was_enabled:
            gc.enable()
