"""A benchmark as tables of strings: rendered by the command line as text, by the report as HTML and Markdown."""

from dataclasses import dataclass

NOT_TOLD = "not told by this system"
STATISTICS = ("median", "mean", "std", "p90", "p95", "typical")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      title: what it shows.
      header: names of the columns.
      rows: tuples of strings, as long as the header.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(result):
    """The `Table`s of a `rdi_tf.latency.LatencyResult`: savings, exits and mix, stages, start and memory."""
    return (savings_table(result), exits_table(result), stages_table(result), start_table(result))


def savings_table(result):
    """Savings in multiply-adds and in milliseconds side by side, against the unsplit network."""
    found = result.summary()
    ratio = "latency_saving_over_macs_saving", "invoke_saving_over_macs_saving"
    return Table(
        "What leaving early saves, against the unsplit network",
        ("", "unsplit", "cascade", "saved", "per MACs saved"),
        (
            (
                "multiply-adds executed",
                f"{found['unsplit_executed_macs']:,.0f}",
                f"{found['executed_macs']:,.0f}",
                f"{found['macs_saving']:.1%}",
                "1",
            ),
            (
                "milliseconds, call to answer",
                f"{found['unsplit_ms']:.4f}",
                f"{found['mix_ms']:.4f}",
                f"{found['latency_saving']:.1%}",
                _ratio(found[ratio[0]]),
            ),
            (
                "milliseconds, computation alone",
                f"{found['unsplit_invoke_ms']:.4f}",
                f"{found['mix_invoke_ms']:.4f}",
                f"{found['invoke_saving']:.1%}",
                _ratio(found[ratio[1]]),
            ),
        ),
    )


def exits_table(result):
    """Latency per exit, of the real mix (measured and predicted), and of the unsplit network."""
    rows = [
        (exit.name, f"{exit.share:.1%}", f"{exit.executed_macs:,.0f}", *_statistics(exit.latency))
        for exit in result.exits
    ]
    found = result.summary()
    return Table(
        "Milliseconds from the call to the answer",
        ("leaving at", "share", "MACs", *STATISTICS),
        (
            *rows,
            ("real mix", "", f"{found['executed_macs']:,.0f}", *_statistics(result.mix.latency)),
            ("mix, predicted", "", "", "", "", "", "", "", f"{found['predicted_mix_ms']:.4f}"),
            ("unsplit", "", f"{found['unsplit_executed_macs']:,.0f}", *_statistics(result.unsplit.latency)),
        ),
    )


def stages_table(result):
    """What each stage's time goes into: hand-over in, computation, hand-over out; typical times."""
    rows = []
    for stage in result.stages:
        steps = stage.feed, stage.invoke, stage.fetch
        rows.append(
            (
                stage.name,
                f"{stage.file_bytes:,}",
                *(f"{step.typical:.4f}" for step in steps),
                *(f"{getattr(stage.invoke, name):.4f}" for name in ("median", "mean", "std", "p90", "p95")),
            )
        )
    unsplit = result.unsplit_invoke
    spread = (f"{getattr(unsplit, name):.4f}" for name in ("median", "mean", "std", "p90", "p95"))
    rows.append(("unsplit", f"{result.unsplit.file_bytes:,}", "", f"{unsplit.typical:.4f}", "", *spread))
    header = ("stage", "bytes", "in", "compute", "out", "median", "mean", "std", "p90", "p95")
    return Table(
        "Milliseconds of each stage: typical of its steps, and how the computation varies", header, tuple(rows)
    )


def start_table(result):
    """Loading, first inference, warm-up and memory."""
    wholes = result.mix, result.unsplit
    loads = " + ".join(f"{stage.load_ms:.1f}" for stage in result.stages)
    return Table(
        "Start and memory",
        ("", "cascade", "unsplit"),
        (
            ("load and initialise, ms", f"{result.mix.load_ms:.1f} ({loads})", f"{result.unsplit.load_ms:.1f}"),
            ("first inference, all stages, ms", *(f"{whole.first_ms:.3f}" for whole in wholes)),
            ("warm-up, mean, ms", *(f"{whole.warmup.mean:.3f}" for whole in wholes)),
            ("files, bytes", *(f"{whole.file_bytes:,}" for whole in wholes)),
            ("memory after loading, kB more", *(_number(whole.init_footprint_kb, ",.0f") for whole in wholes)),
            ("… and after the first inference", *(_number(whole.overall_footprint_kb, ",.0f") for whole in wholes)),
        ),
    )


def headline(result):
    """One line: what was measured, on what, how often."""
    images = result.images
    accuracy = "" if images.accuracy is None else f", {images.accuracy:.1%} called right"
    return (
        f"{result.name or 'bundle'} ({result.dtype}): {images.count} images ({images.source}){accuracy}; "
        f"{result.rounds} rounds, threads: {result.threads}, {result.delegate}"
    )


def notes(result):
    """Lines on how to read the tables, on the prediction, the machine and its load."""
    found = result.summary()
    source = result.provenance
    machine = ", ".join(str(source[key]) for key in ("processor", "platform", "date") if key in source)
    return (
        f"The mix was predicted {abs(found['prediction_error']):.1%} too "
        f"{'high' if found['prediction_error'] > 0 else 'low'} from the exits' shares and typical times.",
        f"Of the mix's {found['mix_ms']:.4f} ms {found['mix_invoke_ms']:.4f} are computation, "
        f"{found['mix_handover_ms']:.4f} hand-overs, {found['mix_rest_ms']:.4f} checks, exit rule and answer (Python). "
        f"Of the unsplit network's {found['unsplit_ms']:.4f} ms {found['unsplit_rest_ms']:.4f} are not computation.",
        f"Against the plain backbone without branches {found['macs_saving_against_backbone']:.1%} of its multiply-adds "
        "are saved.",
        "Typical: the mean over the images of each image's median over the rounds.",
        f"Reading and checking the bundle took {result.open_ms:.1f} ms. Peak memory of the process: "
        f"{_number(result.peak_mem_mb, '.1f')} MB.",
        f"{machine}; load average at the end {_number(result.load_average, '.1f')}.",
    )


def _statistics(statistics):
    return tuple(f"{getattr(statistics, name):.4f}" for name in STATISTICS)


def _ratio(value):
    return "nothing saved" if value is None else f"{value:.2f}"


def _number(value, form):
    return NOT_TOLD if value is None else format(value, form)
