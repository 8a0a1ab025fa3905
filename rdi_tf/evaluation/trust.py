"""Checks whether the figures of an evaluation can be trusted: each says nothing, or why not.

They look for what makes attacks fail without making a network robust, after Athalye et al., "Obfuscated Gradients Give
a False Sense of Security" (ICML 2018), section 3.1, and Carlini et al., "On Evaluating Adversarial Robustness" (2019);
and for what is particular to early exits. They look at the first `SUBSET` images, so that they cost little; for several
exit rules, what does not depend on the rule is looked at once.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from rdi_tf.attacks.loops import with_gradient
from rdi_tf.calibration_source import image_digest
from rdi_tf.evaluation.results import TrustWarning
from rdi_tf.evaluation.suites import NamedAttack
from rdi_tf.policies import decide, get_policy

SUBSET = 100
VANISHED = 0.05  # share of the images without a gradient
MORE_STEPS = 4  # times the steps of the evaluation
STEPS_FIND = 0.02  # accuracy that more steps may cost
BLACK_BOX_FINDS = 0.005  # share of the images that only the black-box attack breaks
ABOVE_CHANCE = 0.05  # accuracy above chance in a ball that holds every image
SAME_LOGITS = 1e-3  # by which logits of two passes may differ


def run_checks(bench, plan, attacked):
    """Make all checks that apply.

    Args:
      bench: the `rdi_tf.evaluation.workbench.Workbench` of the evaluation.
      plan: the `rdi_tf.evaluation.suites.Plan` that was run.
      attacked: the `rdi_tf.evaluation.suites.Attacked` that came of it.

    Returns:
      Names of the checks that were made, and a tuple of `TrustWarning`, one for each that found something.
    """
    few = bench.first(SUBSET)
    free = ("thresholds",) if bench.split == "test" else ("split", "thresholds")
    checks = {"determinism": lambda: determinism(few)}
    algorithms = {attack.search.algorithm for attack in plan.attacks}
    if algorithms - {"square"}:
        checks["gradients"] = lambda: gradients(few)
        checks["huge epsilon"] = lambda: huge_epsilon(few)
        stepping = [attack.search for attack in plan.attacks if attack.search.algorithm in ("pgd", "apgd", "wrm")]
        if stepping:
            checks["more steps"] = lambda: more_steps(few, min(stepping, key=lambda search: search.steps))
    if "square" in algorithms and algorithms - {"square"}:
        checks["black box"] = lambda: black_box(bench, plan.attacks, attacked.logits)
    found = [check() for check in checks.values()]
    return (*free, *checks), (*free_checks(bench, plan), *(warning for warning in found if warning is not None))


def free_checks(bench, plan):
    """What can be said without running anything: attacks that were left out, `split` and `thresholds`.

    Args:
      bench, plan: as `run_checks`'.

    Returns:
      Tuple of `TrustWarning`.
    """
    left_out = [TrustWarning("suite", sentence) for sentence in plan.left_out]
    return (*left_out, *(warning for warning in (split(bench), thresholds(bench)) if warning is not None))


def thresholds(bench):
    """Thresholds chosen on the images that are evaluated know them: accuracy and savings come out too good."""
    source = bench.calibrated_on
    if bench.net.num_exits == 1:
        return None
    if source is None:
        message = (
            "nobody recorded on which images the thresholds were chosen; if on these, the figures are too good "
            "(`rdi-tf calibrate` chooses them on validation images and records it)"
        )
    elif source.digest == image_digest(bench.images) or (source.split, source.dataset) == ("test", bench.dataset):
        message = f"the thresholds were chosen on the {source.split} images that are evaluated here"
    else:
        return None
    return TrustWarning("thresholds", message)


def split(bench):
    """Figures of other images than the test split's are for choosing, not for reporting."""
    if bench.split == "test":
        return None
    chosen = {"validation": "the thresholds and the checkpoint that was kept were", "train": "the weights were"}
    return TrustWarning(
        "split",
        f"{chosen[bench.split]} chosen by {bench.split} images: such figures compare recipes, none is to be reported",
    )


def determinism(bench):
    """A decision that changes from pass to pass cannot be attacked by following one pass, nor reproduced."""
    passes = bench.once("passes", lambda: _two_passes(bench))
    first, second = (decide(get_policy(bench.rule.name), logits, bench.rule.thresholds) for logits in passes)
    changed = np.mean((first.exits != second.exits) | (first.predictions != second.predictions))
    moved = np.abs(passes[0] - passes[1]).max()
    if changed == 0 and moved <= SAME_LOGITS:
        return None
    return TrustWarning(
        "determinism",
        f"two passes over the same {len(bench.images)} clean images decide differently on {changed:.1%} of them "
        f"(logits differ by up to {moved:.2g}): attacks on a random network must average over its passes, these do not",
    )


def gradients(bench):
    """Without a gradient at the start, an attack goes nowhere, however weak the network."""
    shares = bench.once(("gradients", bench.attack.loss, bench.aim), lambda: _vanished(bench))
    worst = max(shares, key=shares.get)
    if shares[worst] <= VANISHED:
        return None
    return TrustWarning(
        "gradients",
        f"the gradient of the loss of {worst} is zero or not finite on {shares[worst]:.1%} of {len(bench.images)} "
        "clean images: attacks that follow it cannot work there",
    )


def more_steps(bench, search):
    """An attack that finds much more with more steps had not finished; what it left is no robustness.

    Args:
      bench: the `Workbench`.
      search: the `AttackConfig` of the evaluation that takes the fewest steps.

    Returns:
      `TrustWarning`, or None.
    """
    longer = dataclasses.replace(search, steps=MORE_STEPS * search.steps)
    before, after = (_accuracy(bench, "more-steps", "average", attack) for attack in (search, longer))
    if before - after <= STEPS_FIND + 1e-9:
        return None
    return TrustWarning(
        "more steps",
        f"on {len(bench.images)} images, {longer.steps} steps of the average attack leave {after:.1%}, the "
        f"evaluation's {search.steps} steps {before:.1%}: take more steps or longer ones",
    )


def huge_epsilon(bench):
    """In a ball that holds every image, an attack that works leaves no more than chance."""
    size = math.prod(bench.images.shape[1:])
    epsilon = 1.0 if bench.attack.norm == "linf" else math.sqrt(size)
    search = dataclasses.replace(
        bench.attack,
        algorithm="pgd",
        loss="cross_entropy",
        epsilon=epsilon,
        step_size=epsilon / 20,
        steps=40,
        restarts=1,
        random_start=False,
    )
    accuracy, chance = _accuracy(bench, "huge-epsilon", "rerouted", search), 1 / bench.net.num_classes
    if accuracy <= chance + ABOVE_CHANCE:
        return None
    return TrustWarning(
        "huge epsilon",
        f"with an epsilon that allows every image, {accuracy:.1%} of {len(bench.images)} images are still called right "
        f"(chance: {chance:.1%}): the attacks do not work on this network",
    )


def black_box(bench, attacks, logits):
    """An attack that sees gradients should find all that one finds that does not see them.

    Args:
      bench: the `Workbench`.
      attacks: the `NamedAttack`s that were run.
      logits: dict from their names to what they found, (n, exits, classes).

    Returns:
      `TrustWarning`, or None.
    """
    white, black = bench.right(bench.clean), np.ones(len(bench.labels), bool)
    for attack in attacks:
        right = bench.right(logits[attack.name])
        if attack.search.algorithm == "square":
            black &= right
        else:
            white &= right
    only_black = float(np.mean(white & ~black))
    if only_black <= BLACK_BOX_FINDS:
        return None
    return TrustWarning(
        "black box",
        f"Square, which sees no gradients, breaks {only_black:.1%} of the images that no attack with gradients broke: "
        "gradients may be masked",
    )


def _two_passes(bench):
    attacker = bench.attacker(bench.attack)
    return [attacker.clean_logits(bench.images) for _ in range(2)]


def _vanished(bench):
    """For each exit the share of clean images at which its loss has no gradient."""
    losses = bench.attacker(bench.attack).losses
    images, labels = tf.constant(bench.images), tf.constant(bench.labels)
    shares = {}
    for name, loss in zip(losses.exit_names, losses.single, strict=True):
        _, _, gradient = with_gradient(lambda candidates, loss=loss: (loss(candidates, labels), None), images)
        flat = gradient.numpy().reshape(len(images), -1)
        shares[name] = float(np.mean(~np.isfinite(flat).all(axis=1) | ~flat.any(axis=1)))
    return shares


def _accuracy(bench, name, form, search):
    found = bench.run_attacks([NamedAttack(f"{name}/{form}", form, search)])
    return float(bench.right(found.logits[f"{name}/{form}"]).mean())
