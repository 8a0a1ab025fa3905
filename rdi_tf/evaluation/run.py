"""Evaluation of a run: the paper's table and stricter ones, kept in RUN/evaluation."""

import dataclasses
import time

from rdi_tf.evaluation.kept import kept_logits
from rdi_tf.evaluation.reported import reported_beside
from rdi_tf.evaluation.results import summarise
from rdi_tf.evaluation.suites import SUITES, plan_attacks
from rdi_tf.evaluation.tables import to_csv, to_markdown
from rdi_tf.evaluation.trust import run_checks
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.policies import get_policy

# Suites after which no file is named; an empty name is that of a list.
PLAIN = ("", "none", "all", "paper")


def evaluate(run_dir, attacks="paper", *, checks=True, reuse=False, command="", **options):
    """Evaluate a run's network, clean and attacked, through its exit policy.

    Finished batches are kept in the run folder until the evaluation is done: one that was killed goes on where it was.

    Args:
      run_dir: a run folder with a calibrated model.
      attacks: a suite ("paper": every exit, average, max-average; "all": random too; "quick", "strong", "slowdown",
        "none", "strict"), or attacks separated by commas (`rdi_tf.evaluation.suites`).
      checks: whether to check that the figures can be trusted (`rdi_tf.evaluation.trust`).
      reuse: take what an earlier evaluation of the same network kept, for attacks that it ran in the same way and that
        do not depend on the exit rule.
      command: the command line, for the record.
      **options: fields of `rdi_tf.evaluation.options.BenchOptions`.

    Returns:
      `rdi_tf.evaluation.results.EvaluationResult`; also written to RUN/evaluation (RUN/evaluation/SPLIT for other
      images than the test split's) as JSON, CSV and Markdown, with the exit logits behind it as NPZ.

    Raises:
      CheckpointError: no run, no model, or a model without thresholds.
      ConfigError: an unknown attack or exit rule.
      DataError: the data set cannot be had.
    """
    bench = Workbench.open(run_dir, **options)
    suite = attacks if attacks in SUITES and attacks not in PLAIN else None
    bench = bench.apart("-".join([*filter(None, [suite]), *_unusual(bench)]))
    bench.agree(attacks, checks, reuse)
    result, attacked = evaluate_bench(bench, attacks, checks, reuse, command)
    _, reported = reported_beside(result, bench.config)
    bench.keep(
        evaluation_name(bench, result.suite, bool(result.attacks)),
        {".json": result.to_json(), ".csv": to_csv(result, reported), ".md": to_markdown(result, reported)},
        {"labels": bench.labels, "clean": bench.clean, **attacked.logits},
    )
    return result


def evaluate_bench(bench, attacks="paper", checks=True, reuse=False, command="", known=None):
    """Evaluate what lies on a workbench; writes nothing but unfinished batches.

    Args:
      bench: the `Workbench` of a run.
      attacks, checks, reuse, command: as `evaluate`'s.
      known: dict from attack name to exit logits that need not be computed again, or None.

    Returns:
      The `EvaluationResult`, and the `rdi_tf.evaluation.suites.Attacked` behind it.

    Raises:
      ConfigError: an unknown attack.
    """
    started = time.monotonic()
    plan = plan_attacks(attacks, bench.attack, bench.net.exit_names, bench.net.num_classes)
    known = {attack.name: known[attack.name] for attack in plan.attacks if attack.name in (known or {})}
    reused = kept_logits(bench, [a for a in plan.attacks if a.name not in known]) if reuse else {}
    bench.agree(sorted(reused))
    attacked = bench.run_attacks(plan.attacks, {**known, **reused})
    made, warnings = run_checks(bench, plan, attacked) if checks else ((), ())
    record = {**bench.provenance(command), "seconds": round(time.monotonic() - started, 1)}
    result = summarise(
        bench.labels,
        bench.clean,
        attacked.logits,
        get_policy(bench.rule.name),
        bench.rule.thresholds,
        bench.costs,
        met={attack.name: attacked.met[attack.name] for attack in plan.attacks if attack.on_survivors},
        searches={attack.name: dataclasses.asdict(attack.search) for attack in plan.attacks},
        name=bench.config.name,
        dataset=bench.dataset,
        split=bench.split,
        suite=plan.name,
        attack=dataclasses.asdict(bench.attack) if plan.attacks else {},
        attack_outputs=bench.outputs,
        provenance={**record, "reused": sorted(reused)} if reused else record,
        checks=made,
        warnings=warnings,
    )
    return result, attacked


def evaluation_name(bench, suite, attacked=True):
    """Name of an evaluation's files, without suffix.

    Args:
      bench: the `Workbench`.
      suite: name of the suite; empty for a list of attacks.
      attacked: whether there were attacks.

    Returns:
      str: the algorithm and its steps, after the suite unless that is the paper's; then what else is not as usual.
    """
    searched = "clean"
    if attacked:  # FGSM has one step, whatever its configuration says
        searched = "fgsm" if bench.attack.algorithm == "fgsm" else f"{bench.attack.algorithm}-{bench.attack.steps}"
    first = [] if bench.whole else [f"first-{len(bench.labels)}"]
    suites = [] if suite in PLAIN else [suite]
    return "-".join([*suites, searched, *_unusual(bench), *first])


def _unusual(bench):
    """What is not as usual in an evaluation, besides its attacks."""
    rule = [] if bench.rule.name == bench.net.config.policy.name else [bench.rule.name]
    return [*rule, *(["policy-outputs"] if bench.outputs == "policy" else [])]
