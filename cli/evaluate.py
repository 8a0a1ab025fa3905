"""`rdi-tf evaluate`: accuracy, robust accuracy and computation of a trained network, through its exit policy."""

import json

import click

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.config_rules import LARGEST_SEED
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.reported import reported_beside
from rdi_tf.evaluation.tables import to_text
from rdi_tf.runs import RunFolder

ATTACKS = """paper (every exit, average, max_average), all (random too), quick, strict, strong, slowdown, none, or
attacks separated by commas, as main,rerouted,apgd-ce/average."""


@common.command("evaluate", example="rdi-tf evaluate runs/mnist-smallcnn --attacks main,max_average --limit 1000")
@common.run_argument
@click.option("--attacks", default="paper", show_default=True, help=ATTACKS)
@common.settings_option
@click.option("--epsilons", metavar="A,B,…", help="Sweep epsilon instead: radii such as 0,2/255,8/255.")
@click.option("--policy", help="Evaluate this exit rule instead of the run's, calibrated on validation images.")
@click.option("--policies", metavar="A,B,…|all", help="Compare exit rules instead.")
@click.option(
    "--attack-outputs",
    type=click.Choice(["exits", "policy"]),
    default="policy",
    show_default=True,
    help="Attack what the exit rule calls classes from, or each exit's own logits: weaker where the rule averages.",
)
@common.strategy_option
@click.option("--checks/--no-checks", default=True, help="Check that the figures can be trusted.  [default: checks]")
@click.option("--reuse", is_flag=True, help="Take what earlier evaluations kept in RUN/evaluation where it fits.")
@click.option("--save-images", type=click.IntRange(1), metavar="N", help="Keep N clean and attacked images, too.")
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Whose images: those of the validation split to choose between recipes.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images of it.  [default: all]")
@click.option("--batch-size", type=click.IntRange(1), default=250, show_default=True, help="Images at a time.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True, help="Seed of the attacks.")
@common.data_dir_option
@common.quiet_option
def command(run, attacks, settings, epsilons, policy, policies, strategy, checks, reuse, save_images, quiet, **options):
    """Evaluate RUN's network on its test images, clean and attacked, and print the paper's table.

    The attack is the run's evaluation attack; --set evaluation.KEY=VALUE (algorithm, epsilon, step_size, steps,
    restarts) changes it. The table is kept in RUN/evaluation; an evaluation that was stopped goes on where it was.
    """
    if sum(option is not None for option in (epsilons, policies)) == 2 or (policy and policies):
        raise ConfigError("--policies goes with neither --epsilons nor --policy")
    if epsilons is not None:
        common.refuse_given("no --epsilons with it", "reuse", "checks")
    options["attack"] = common.section_of_run(run, "evaluation", settings)
    options["progress"] = None if quiet else common.attack_progress
    options["cluster"] = library("rdi_tf.distribution").open_cluster(strategy)
    recorded = {"command": common.command_line(), **options}
    if epsilons is not None:
        sweep = library("rdi_tf.evaluation.sweeps").sweep_epsilons
        result = sweep(run, parse_fractions(epsilons), attacks, policy=policy, **recorded)
        report = common.Report(result.to_dict(), result.to_text().rstrip())
    elif policies is not None:
        compare = library("rdi_tf.evaluation.policy_comparison").compare_policies
        result = compare(run, policies, attacks, checks=checks, reuse=reuse, **recorded)
        report = common.Report(result.to_dict(), result.to_text().rstrip())
    else:
        evaluate = library("rdi_tf.evaluation.run").evaluate
        result = evaluate(run, attacks, checks=checks, reuse=reuse, policy=policy, **recorded)
        _, reported = reported_beside(result, RunFolder.open(run).config)
        report = common.Report(json.loads(result.to_json()), to_text(result, reported).rstrip())
    if save_images is None:
        return report
    path = library("rdi_tf.evaluation.sample_images").save_images(run, save_images, policy=policy, **options)
    return common.Report({**report.data, "images_file": str(path)}, f"{report.text}\n\nImages in {path}")


def parse_fractions(text):
    """Numbers or fractions separated by commas, as "0,2/255,0.1", as a tuple of floats; others: `ConfigError`."""
    try:
        return tuple(_fraction(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"--epsilons {text!r}: expected numbers or fractions separated by commas") from error


def _fraction(text):
    numerator, slash, denominator = text.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)
