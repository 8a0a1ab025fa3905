"""Evaluation of a run: the paper's table and stricter ones, kept in RUN/evaluation."""

import dataclasses
import hashlib
import re
import time

from rdi_tf.evaluation.kept import kept_logits
from rdi_tf.evaluation.reported import reported_beside
from rdi_tf.evaluation.results import summarise
from rdi_tf.evaluation.suites import plan_attacks
from rdi_tf.evaluation.tables import to_csv, to_markdown
from rdi_tf.evaluation.trust import run_checks
from rdi_tf.evaluation.workbench import Workbench
from rdi_tf.policies import get_policy

PLAIN = ("none", "paper")  # suites after which no file is named
LONGEST = 60  # characters of a list in a file's name


def evaluate(run_dir, attacks="paper", *, checks=True, reuse=False, command="", **options):
    """Evaluate a run's network, clean and attacked, through its exit policy.

    Finished batches are kept in the run folder until the evaluation is done: one that was killed goes on where it was.

    Args:
      run_dir: a run folder with a calibrated model.
      attacks: a suite ("paper": every exit, average, max-average; "all": random too; "quick", "strong", "slowdown",
        "none", "strict"), or attacks (`rdi_tf.evaluation.suites`): a list, or one text with commas between them.
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
    attacks = in_one_text(attacks)
    bench = Workbench.open(run_dir, **options)
    name = evaluation_name(bench, attacks)
    bench = bench.apart(name)
    bench.agree(attacks, checks, reuse)
    result, attacked = evaluate_bench(bench, attacks, checks, reuse, command)
    _, reported = reported_beside(result, bench.config)
    bench.keep(
        name,
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
    kept = kept_logits(bench, [a for a in plan.attacks if a.name not in known]) if reuse else {}
    reused = {name: source for name, (_, source) in kept.items()}
    bench.agree(sorted(reused.items()))
    attacked = bench.run_attacks(plan.attacks, {**known, **{name: logits for name, (logits, _) in kept.items()}})
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
        provenance={**record, "reused": reused} if reused else record,
        checks=made,
        warnings=warnings,
    )
    return result, attacked


def evaluation_name(bench, attacks):
    """Name of an evaluation's files, without suffix: what differs in anything that matters has another name.

    Args:
      bench: the `Workbench`.
      attacks: a suite, or attacks separated by commas.

    Returns:
      str: the evaluation attack's algorithm and steps, after suite or list unless that is the paper's; then what else
      is not as the run's configuration has it, and how many images if not all.
    """
    searched = bench.attack.algorithm if attacks != "none" else "clean"
    if searched not in ("fgsm", "clean"):  # FGSM has one step, whatever its configuration says
        searched += f"-{bench.attack.steps}"
    first = [] if bench.whole else [f"first-{len(bench.labels)}"]
    named = [] if attacks in PLAIN else [in_file_name(attacks)]
    unusual = _unusual(bench)
    return "-".join([*named, searched, *([in_file_name("-".join(unusual))] if unusual else []), *first])


def in_one_text(names):
    """Names with commas between them, as commands take them; a text is taken as it is."""
    return names if isinstance(names, str) else ",".join(names)


def in_file_name(items):
    """Words as a part of a file's name: as they are, commas as "+", or their digest where that would be too long."""
    words = re.sub(r"[^\w.+-]", "-", re.sub(r"\s*,\s*", "+", items.strip()))
    return words if len(words) <= LONGEST else hashlib.sha256(items.encode()).hexdigest()[:12]


def _unusual(bench):
    """What is not as usual in an evaluation, besides its attacks."""
    usual = bench.net.config
    fields = [field.name for field in dataclasses.fields(bench.attack) if field.name not in ("algorithm", "steps")]
    changed = {name: getattr(bench.attack, name) for name in fields}
    return [
        *([] if bench.rule.name == usual.policy.name else [bench.rule.name]),
        *(["exit-outputs"] if bench.outputs == "exits" else []),
        *(
            f"{name}-{value:g}" if isinstance(value, float) else f"{name}-{value}"
            for name, value in changed.items()
            if value != getattr(usual.evaluation, name)
        ),
        *([f"seed-{bench.seed}"] if bench.seed else []),
    ]
