"""Attacks on the exit rule: the rules in TensorFlow, re-routing, wrong and sure exits, slowdown, survivors."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.attacks import SLOWDOWN, ExitLosses, ExitRule, craft, loss_function, policy_form_names, search
from rdi_tf.attacks.exit_rules import TF_POLICIES
from rdi_tf.attacks.losses import margin
from rdi_tf.config import AttackConfig, ModelConfig
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.evaluation.efficacy import efficacy
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.models import build_network
from rdi_tf.network import RDINet
from rdi_tf.policies import POLICIES, decide

SEED = tf.constant([3, 5], tf.int32)
NAMES = ("branch_1", "branch_2", "main")
PIXELS = 36
ATTACK = AttackConfig(epsilon=0.15, step_size=0.02, steps=20)
THRESHOLDS = {
    "entropy": (0.6, 0.7),
    "max_probability": (0.3, 0.4),
    "margin": (0.5, 0.6),
    "patience": (-1.0, -1.0),
    "running_average": (0.6, 0.7),
    "weighted_running_average": (0.6, 0.7),
}
# Rules that differ in kind; the others differ from these in one part, and are run by continuous integration.
RULES = [
    pytest.param(name, marks=[] if name in ("entropy", "patience", "running_average") else pytest.mark.slow)
    for name in sorted(POLICIES)
]
FORMS = (*policy_form_names(NAMES), SLOWDOWN)


@pytest.fixture(scope="module")
def kernels():
    """Three linear exits of four classes that mostly agree."""
    shared = np.random.default_rng(0).normal(size=(PIXELS, 4))
    return [(shared + 0.5 * np.random.default_rng(k + 1).normal(size=(PIXELS, 4))).astype("float32") for k in range(3)]


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(9).uniform(size=(24, 6, 6, 1)), tf.float32)


@pytest.fixture(scope="module")
def labels(images, kernels):
    """What the exits call together: on clean images most are right."""
    return tf.argmax(tf.reduce_mean(exit_logits(kernels)(images), axis=1), axis=1, output_type=tf.int32)


def exit_logits(kernels):
    stacked = tf.constant(np.stack(kernels))
    return lambda images: tf.einsum("bp,epc->bec", tf.reshape(images, (-1, PIXELS)), stacked)


def exit_losses(kernels, name, loss="cross_entropy", thresholds=None):
    logits = exit_logits(kernels)
    single = [lambda images, k=k: logits(images)[:, k] for k in range(len(kernels))]
    rule = ExitRule(name, thresholds or THRESHOLDS[name])
    return ExitLosses.of_logits(NAMES[-len(kernels) :], single, logits, loss_function(loss), rule)


def decided(losses, images):
    return decide(POLICIES[losses.rule.name], np.asarray(losses.logits(images)), losses.rule.thresholds)


def crafted(form, losses, images, labels, attack):
    return tf.function(lambda x, y: craft(form, losses, x, y, attack, SEED), autograph=False)(images, labels)


def test_every_policy_is_restated():
    assert set(TF_POLICIES) == set(POLICIES)


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("size", [0.1, 3.0, 60.0])
def test_rules_agree_with_numpy(name, size):
    """Log-probabilities, scores and decisions, for unsure exits as for saturated ones."""
    logits = (size * np.random.default_rng(1).normal(size=(200, 5, 7))).astype("float32")
    scores = POLICIES[name].scores(logits)
    thresholds = tuple(np.quantile(scores[:, :-1], 0.3, axis=0) + 1e-9)
    routing = ExitRule(name, thresholds).route(tf.constant(logits))
    np.testing.assert_allclose(routing.log_probabilities, POLICIES[name].log_probabilities(logits), atol=1e-5)
    np.testing.assert_allclose(routing.scores, scores, atol=1e-5)
    decision = decide(POLICIES[name], logits, thresholds)
    np.testing.assert_array_equal(routing.exits, decision.exits)
    taken = np.take_along_axis(POLICIES[name].log_probabilities(logits), decision.exits[:, None, None], axis=1)[:, 0]
    np.testing.assert_allclose(routing.taken(), taken, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"patience"}))
def test_the_sign_of_a_gap_is_the_decision(name):
    logits = tf.random.stateless_normal((300, 4, 5), SEED) * 4
    routing = ExitRule(name, (0.2, 0.5, 0.05)).route(logits)
    np.testing.assert_array_equal(routing.gaps < 0, routing.scores[:, :-1] < [0.2, 0.5, 0.05])


def test_patience_gap_by_hand():
    """Exits that agree with probability 0.9 * 0.9 + 0.1 * 0.1 = 0.82: log-odds of staying log(0.18 / 0.82)."""
    logits = tf.constant(np.log([[[0.9, 0.1]] * 4]), tf.float32)
    gaps = ExitRule("patience", (0.0, -1.0, -2.0)).route(logits).gaps[0]
    # Nobody waits at the first; one agreement at the second; two, 0.82 ** 2, at the third.
    np.testing.assert_allclose(gaps, [-50, np.log(0.18 / 0.82), np.log(1 / 0.82**2 - 1)], rtol=1e-5)
    # The second of exits cannot have been confirmed twice.
    assert ExitRule("patience", (-2.0, -2.0, -2.0)).route(logits).gaps[0, 1] == 50


# At eight times the size two exits agree with a probability that is one even in float64: no gradient for patience.
@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, 1.0) for name in sorted(POLICIES)), *((name, 8.0) for name in sorted(set(POLICIES) - {"patience"}))],
)
def test_gaps_have_gradients_where_scores_have_none(name, size):
    """An exit that is sure beyond float32's reach, even float64's, can still be pushed toward doubt."""
    logits = size * tf.constant([[[20.0, -5.0, 0.0], [18.0, -4.0, 0.0], [22.0, 0.0, -3.0]]])
    thresholds = (-1.0, -1.0) if name == "patience" else (0.1, 0.1)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        gap = ExitRule(name, thresholds).route(logits).gaps[:, 1]
    gradient = tape.gradient(gap, logits).numpy()
    assert np.isfinite(gradient).all() and gap[0] < -5
    assert gradient[0, 1, 0] < -0.1


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("form", FORMS)
def test_properties(form, name, images, labels, kernels):
    """In the ball, repeatable, epsilon 0 is identity, and no worse by the deployed decision than doing nothing."""
    losses = exit_losses(kernels, name)
    attack = dataclasses.replace(ATTACK, steps=3)
    found = crafted(form, losses, images, labels, attack)
    assert np.abs(found - images).max() <= 0.15 + 1e-6 and np.min(found) >= 0 and np.max(found) <= 1
    np.testing.assert_array_equal(found, crafted(form, losses, images, labels, attack))
    np.testing.assert_array_equal(craft(form, losses, images, labels, attack, SEED, scale=0.0), images)
    before, after = decided(losses, images), decided(losses, found)
    if form == SLOWDOWN:
        assert np.all(after.exits >= before.exits)
    else:
        assert np.all((before.predictions == labels) | (after.predictions != labels))


@pytest.mark.parametrize("name", RULES)
def test_rerouted_breaks_what_the_paper_attacks_leave(name, images, labels, kernels):
    """Through the deployed decision it does better than every single attack of the same budget and random start."""
    losses = exit_losses(kernels, name)
    attack = dataclasses.replace(ATTACK, epsilon=0.05)

    def accuracy(form):
        return np.mean(decided(losses, crafted(form, losses, images, labels, attack)).predictions == labels)

    assert accuracy("rerouted") <= min(accuracy(form) for form in NAMES)
    assert accuracy("rerouted") < np.mean(decided(losses, images).predictions == labels)


@pytest.mark.parametrize("name", [rule for rule in RULES if rule.values != ("patience",)])
@pytest.mark.parametrize("exit_index", range(3))
def test_exit_attack_leaves_wrong_at_its_own_exit(name, exit_index, images, labels, kernels):
    """Not only wrong somewhere: with a large ball, many images leave wrong at the exit aimed at, as none does clean."""
    losses = exit_losses(kernels, name)
    attack = AttackConfig(epsilon=0.6, step_size=0.02, steps=60)
    after = decided(losses, crafted(f"policy_{NAMES[exit_index]}", losses, images, labels, attack))
    assert np.mean(after.predictions != labels) == 1.0

    def wrong_here(decision):
        return np.mean((decision.exits == exit_index) & (decision.predictions != labels))

    assert wrong_here(decided(losses, images)) < 0.2 and wrong_here(after) > 0.4


@pytest.mark.parametrize("name", RULES)
def test_slowdown_keeps_images_from_leaving(name, images, labels, kernels):
    losses = exit_losses(kernels, name)
    before = decided(losses, images).exits
    after = decided(losses, crafted(SLOWDOWN, losses, images, labels, ATTACK)).exits
    assert before.mean() < 1.9 and after.mean() > before.mean() + 0.2


def test_slowdown_looks_at_no_exit_that_cannot_be_reached(images, labels, kernels):
    """Behind an exit that lets everything leave, nothing is worth a step."""
    attack = dataclasses.replace(ATTACK, steps=6, random_start=False)
    losses = exit_losses(kernels, "entropy", thresholds=(0.3, 1000.0))
    assert losses.rule.passable(4) == 1 and ExitRule("margin", (0.3, 0.2)).passable(4) == 2
    first = dataclasses.replace(losses, rule=ExitRule("entropy", (0.3, -1.0)))  # the second exit takes nobody
    found, expected = (crafted(SLOWDOWN, one, images, labels, attack) for one in (losses, first))
    np.testing.assert_array_equal(found, expected)


def test_slowdown_of_a_linear_model_has_a_closed_form():
    """Two classes apart by w.x: the highest entropy is where w.x is smallest, clip(x - epsilon * sign(w)), until 0."""
    weights = np.random.default_rng(3).uniform(0.1, 1.0, size=(PIXELS, 1)).astype("float32")
    kernels = [np.concatenate([weights, -weights], axis=1)] * 2
    images = tf.constant(np.random.default_rng(4).uniform(0.5, 0.9, size=(3, 6, 6, 1)), tf.float32)
    losses = dataclasses.replace(exit_losses(kernels, "entropy", thresholds=(0.5,)), exit_names=("branch_1", "main"))
    attack = AttackConfig(epsilon=0.2, step_size=0.05, steps=10)
    labels = tf.zeros(3, tf.int32)

    def gap(candidates):
        return tf.cast(losses.rule.route(losses.logits(candidates)).gaps[:, 0], tf.float32)

    # Far from doubt all the way: the corner.
    np.testing.assert_allclose(search(gap, images, attack, SEED), images - 0.2, atol=1e-6)
    # With room enough, doubt is reached and kept.
    wide = craft(SLOWDOWN, losses, images, labels, dataclasses.replace(attack, epsilon=0.9, steps=40), SEED)
    assert decided(losses, images).exits.tolist() == [0, 0, 0] and decided(losses, wide).exits.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("algorithm", "loss"), [("square", "margin"), ("apgd", "dlr"), ("apgd", "dlr_targeted")])
def test_rerouted_goes_with_other_algorithms_and_losses(algorithm, loss, images, labels, kernels):
    losses = exit_losses(kernels, "running_average", loss)
    attack = AttackConfig(algorithm, 0.1, steps=200 if algorithm == "square" else 10, loss=loss, target_classes=3)
    found = crafted("rerouted", losses, images, labels, attack)
    assert np.abs(found - images).max() <= 0.1 + 1e-6
    clean = np.mean(decided(losses, images).predictions == labels)
    assert np.mean(decided(losses, found).predictions == labels) < clean - 0.3


def test_refusals(images, labels, kernels):
    losses = exit_losses(kernels, "entropy")
    with pytest.raises(ConfigError, match="'rerouted' attacks the exit rule: it needs a calibrated network, got none"):
        craft("rerouted", dataclasses.replace(losses, rule=None), images, labels, ATTACK, SEED)
    with pytest.raises(ConfigError, match="attack form: expected one of .*slowdown, got 'policy_branch_9'"):
        craft("policy_branch_9", losses, images, labels, ATTACK, SEED)
    with pytest.raises(ConfigError, match="thresholds: expected 2 numbers"):
        ExitRule("entropy", (0.1,)).route(tf.zeros([1, 3, 4]))
    with pytest.raises(ConfigError, match="policy: expected one of entropy"):
        ExitRule("guess", (0.1,))


@pytest.fixture(scope="module")
def attacker():
    tf.random.set_seed(0)
    net = RDINet(build_network(ModelConfig(input_shape=(16, 16, 1), branch="light")))
    attack = AttackConfig(epsilon=0.1, step_size=0.05, steps=2)
    return ExitAttacker(net, attack, seed=3, batch_size=4, rule=ExitRule("entropy", (2.29, 2.29)))


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    return random.uniform(size=(10, 16, 16, 1)).astype("float32"), random.integers(0, 10, 10).astype("int32")


def test_attacker_runs_attacks_on_a_rule(attacker, batch, tmp_path):
    found = attacker.logits(["rerouted", "policy_main", SLOWDOWN], *batch, folder=tmp_path)
    assert [logits.shape for logits in found.values()] == [(10, 3, 10)] * 3
    exits = {form: decide(POLICIES["entropy"], logits, (2.29, 2.29)).exits for form, logits in found.items()}
    clean = decide(POLICIES["entropy"], attacker.clean_logits(batch[0]), (2.29, 2.29)).exits
    assert np.all(exits[SLOWDOWN] >= clean)
    assert len(list(tmp_path.iterdir())) == 9


def test_a_network_without_thresholds_has_no_rule(attacker, batch):
    bare = ExitAttacker(attacker.net, attacker.attack, batch_size=4)
    with pytest.raises(ConfigError, match="needs a calibrated network"):
        bare.logits(["rerouted"], *batch)


def test_only_survivors_are_attacked(attacker, batch):
    """Packed into full batches, and put back where they came from."""
    images, labels = batch
    survives = np.array([1, 0, 0, 1, 1, 0, 1, 1, 0, 0], bool)
    known = np.full((10, 3, 10), 7.0, "float32")
    seen = []
    found = attacker.surviving_logits("main", images, labels, survives, known, progress=lambda *step: seen.append(step))
    assert seen == [("main", 4, 5), ("main", 5, 5)]
    np.testing.assert_array_equal(found[~survives], known[~survives])
    expected = attacker.logits(["main"], images[survives], labels[survives])["main"]
    np.testing.assert_array_equal(found[survives], expected)
    assert np.all(known == 7.0)
    nobody = attacker.surviving_logits("main", images, labels, np.zeros(10, bool), known)
    np.testing.assert_array_equal(nobody, known)


@pytest.mark.parametrize("form", ["main", "average"])
def test_what_the_decision_is_most_wrong_about_is_kept(attacker, batch, form):
    """Never less wrong than where the search ends, and sometimes more."""
    images, labels = batch
    rule = attacker.losses.rule
    attack = dataclasses.replace(attacker.attack, steps=6, restarts=2)

    def wrong_by(judged):
        logits = ExitAttacker(attacker.net, attack, 3, 10, rule, judged_by_rule=judged).logits([form], images, labels)
        return margin(rule.route(tf.constant(logits[form])).taken(), tf.constant(labels)).numpy()

    gained = wrong_by(True) - wrong_by(False)
    assert gained.min() > -1e-5 and gained.max() > 1e-4


def test_max_average_of_another_loss_compares_by_that_loss(attacker, batch):
    margin = ExitAttacker(attacker.net, dataclasses.replace(attacker.attack, loss="margin"), seed=3, batch_size=4)
    found = margin.logits(["max_average", *NAMES], *batch)
    singles = np.stack([found[name] for name in NAMES])
    true = np.take_along_axis(singles, np.broadcast_to(batch[1][None, :, None, None], (3, 10, 3, 1)), axis=-1)[..., 0]
    wrong = np.where(np.arange(10) == batch[1][None, :, None, None], -np.inf, singles).max(axis=-1)
    best = (wrong - true).mean(axis=-1).argmax(axis=0)
    np.testing.assert_allclose(found["max_average"], singles[best, np.arange(10)], atol=1e-5)


def test_efficacy_by_hand():
    """Costs 1, 2, 4: points (0, 0), (.25, .5), (.5, .75), (1, 1); trapezoids .0625 + .15625 + .4375."""
    assert efficacy((0.5, 0.25, 0.25), (1, 2, 4)) == pytest.approx(0.65625)
    assert efficacy((1.0,), (5.0,)) == pytest.approx(0.5)
    assert efficacy((1.0, 0.0, 0.0), (1, 2, 4)) == pytest.approx(1 - 0.125)
    assert efficacy((0.0, 0.0, 1.0), (1, 2, 4)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shares", "costs", "message"),
    [
        ((0.5, 0.4), (1, 2), "exit_shares: expected shares"),
        ((1.5, -0.5), (1, 2), "exit_shares: expected shares"),
        ((0.5, 0.5), (2, 1), "costs: expected 2 growing numbers"),
        ((0.5, 0.5), (1, 2, 3), "costs: expected 2 growing numbers"),
    ],
)
def test_efficacy_refuses(shares, costs, message):
    with pytest.raises(DataError, match=message):
        efficacy(shares, costs)
