"""Calibration: shares met, budgets kept, searches held against brute force."""

import itertools

import numpy as np
import pytest

from rdi_tf.config import PolicyConfig
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.policies import POLICIES, Policy, decide
from rdi_tf.thresholds import calibrate, check_policy, equal_share, for_budget, given_shares, least_macs

MACS = (100, 250, 400, 700)
SMOOTH = [policy for name, policy in POLICIES.items() if name != "patience"]
each_rule = pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
each_smooth_rule = pytest.mark.parametrize("policy", SMOOTH, ids=[policy.name for policy in SMOOTH])


def images(n, exits=4, classes=5, seed=0, skill=(1.0, 1.6, 2.2, 2.8)):
    """Random logits whose exits are right the more often the later they come."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(size=(n, exits, classes))
    logits += np.eye(classes)[labels][:, None] * np.resize(skill, exits)[:, None]
    return logits.astype(np.float32), labels.astype(np.int32)


def measure(policy, logits, labels, thresholds, macs=MACS):
    """Accuracy and average multiply-adds, counted the way an evaluation counts them."""
    decision = decide(policy, logits, thresholds)
    return np.mean(decision.predictions == labels), np.mean(np.array(macs, float)[decision.exits])


def shares(policy, logits, thresholds):
    return np.bincount(decide(policy, logits, thresholds).exits, minlength=logits.shape[1]) / len(logits)


def best_by_brute_force(policy, logits, labels, macs, score):
    """Best score(accuracy, macs) over all thresholds that treat these images differently."""
    scores = policy.scores(logits)[:, :-1]
    cuts = [[policy.closed, *np.unique(column)[1:], policy.open] for column in scores.T]
    return max(score(*measure(policy, logits, labels, choice, macs)) for choice in itertools.product(*cuts))


@each_smooth_rule
@pytest.mark.parametrize("n", [1, 3, 10, 101, 1000])
def test_equal_share_within_one_image(policy, n):
    logits, _ = images(n)
    taken = shares(policy, logits, equal_share(policy, logits))
    assert np.abs(taken - 1 / 4).max() <= 1 / n + 1e-12


@each_smooth_rule
@pytest.mark.parametrize("wanted", [(0.5, 0.3, 0.15, 0.05), (0, 0.5, 0, 0.5), (1, 0, 0, 0), (0, 0, 0, 1)])
def test_given_shares_within_one_image(policy, wanted):
    logits, _ = images(333)
    taken = shares(policy, logits, given_shares(policy, logits, wanted))
    assert np.abs(taken - wanted).max() <= 1 / 333 + 1e-12


def test_equal_share_by_hand():
    """Six images, two exits: the cut lies halfway between the third and the fourth score of exit 1."""
    scores = np.array([0.3, 0.1, 0.45, 0.2, 0.4, 0.35])  # one minus the higher probability
    logits = np.log(np.stack([1 - scores, scores], axis=1))[:, None].repeat(2, axis=1)
    (threshold,) = equal_share(POLICIES["max_probability"], logits)
    assert threshold == pytest.approx((0.3 + 0.35) / 2)


def test_tied_scores_fall_on_the_nearer_side():
    """At exit 1 seven images of ten are alike; a third cannot leave, so none does; at exit 2 they can be told apart."""
    alike, other = [0.9, 0.1], [0.6, 0.4]
    first = np.array([alike] * 7 + [other] * 3)
    second = np.stack([np.linspace(0.95, 0.6, 10), 1 - np.linspace(0.95, 0.6, 10)], axis=1)
    logits = np.log(np.stack([first, second, second], axis=1))
    policy = POLICIES["max_probability"]
    assert shares(policy, logits, given_shares(policy, logits, (1 / 3, 1 / 3, 1 / 3))).tolist() == [0, 0.7, 0.3]
    assert shares(policy, logits, given_shares(policy, logits, (0.4, 0.3, 0.3))).tolist() == [0.7, 0, 0.3]


def test_patience_gets_the_nearest_share_it_can():
    """Run lengths are 1 everywhere at exit 1: it is closed or open, and the other exits make up for it."""
    logits, _ = images(400)
    policy = POLICIES["patience"]
    thresholds = equal_share(policy, logits)
    assert thresholds[0] == policy.closed
    taken = shares(policy, logits, thresholds)
    assert taken[0] == 0 and (taken[1:] > 0.05).all()


def test_all_scores_equal():
    logits, labels = np.zeros((8, 3, 4), np.float32), np.zeros(8, int)
    for policy in POLICIES.values():
        assert shares(policy, logits, equal_share(policy, logits)).max() == 1
        assert shares(policy, logits, for_budget(policy, logits, labels, (1, 2, 3), 3)).tolist() == [1, 0, 0]


@each_rule
@pytest.mark.parametrize("budget", [100, 180, 399.5, 650, 700, 1e9])
def test_budget_is_kept(policy, budget):
    logits, labels = images(600)
    accuracy, macs = measure(policy, logits, labels, for_budget(policy, logits, labels, MACS, budget))
    assert macs <= budget
    if budget > 100:
        assert accuracy >= measure(policy, logits, labels, (policy.open, 0.0, 0.0))[0]


def test_budget_of_exactly_the_first_exit_survives_rounding():
    logits, labels = images(3)
    macs = (0.1, 0.2, 0.3, 0.4)  # three times 0.1, divided by three, is more than 0.1
    assert np.full(3, 0.1).mean() > 0.1
    thresholds = for_budget(POLICIES["entropy"], logits, labels, macs, 0.1)
    assert shares(POLICIES["entropy"], logits, thresholds).tolist() == [1, 0, 0, 0]


def test_more_budget_is_never_worse():
    logits, labels = images(500)
    policy = POLICIES["entropy"]
    reached = [
        measure(policy, logits, labels, for_budget(policy, logits, labels, MACS, budget))[0]
        for budget in (100, 200, 300, 400, 500, 600, 700)
    ]
    assert reached == sorted(reached)
    assert reached[-1] > reached[0] + 0.2


def test_search_skips_a_bad_exit():
    """Exit 2 is at chance; geometric shares would feed it, the search leaves it nothing to decide."""
    logits, labels = images(800, skill=(2.5, 0.0, 3.0, 3.5))
    policy = POLICIES["entropy"]
    thresholds = for_budget(policy, logits, labels, MACS, 350)
    assert shares(policy, logits, thresholds)[1] < 0.02


@pytest.mark.parametrize("seed", range(10))
def test_one_threshold_is_found_exactly(seed):
    """With two exits the search is one exact line search: nothing can beat it."""
    policy = SMOOTH[seed % len(SMOOTH)]
    logits, labels = images(60, exits=2, seed=seed, skill=(1.0, 1.5))
    budget = 100 + 15 * seed

    def value(accuracy, macs):
        return accuracy if macs <= budget else -1

    found = measure(policy, logits, labels, for_budget(policy, logits, labels, (100, 250), budget), (100, 250))
    assert value(*found) == best_by_brute_force(policy, logits, labels, (100, 250), value)


@pytest.mark.parametrize("seed", range(6))
def test_searches_come_near_brute_force(seed):
    """Three exits, 14 images: never more than one image from the optimum, and mostly on it (next test)."""
    missed_images, extra_macs = gaps_to_brute_force(seed)
    assert 0 <= missed_images <= 1
    assert 0 <= extra_macs <= 40


def test_searches_mostly_find_the_optimum():
    gaps = [gaps_to_brute_force(seed) for seed in range(6)]
    assert sum(missed == 0 for missed, _ in gaps) >= 5
    assert sum(extra < 1e-9 for _, extra in gaps) >= 5


def gaps_to_brute_force(seed, n=14, macs=(100, 250, 400)):
    """Images that `for_budget` calls wrong in excess, and multiply-adds that `least_macs` spends in excess."""
    policy = SMOOTH[seed % len(SMOOTH)]
    logits, labels = images(n, exits=3, seed=seed, skill=(0.8, 1.2, 1.6))
    budget = 150 + 30 * seed
    found, _ = measure(policy, logits, labels, for_budget(policy, logits, labels, macs, budget), macs)
    best = best_by_brute_force(policy, logits, labels, macs, lambda accuracy, cost: accuracy if cost <= budget else -1)
    top = best_by_brute_force(policy, logits, labels, macs, lambda accuracy, cost: accuracy)
    loss = 1.5 / n
    accuracy, spent = measure(policy, logits, labels, least_macs(policy, logits, labels, macs, loss), macs)
    assert accuracy >= top - loss - 1 / n
    least = -best_by_brute_force(
        policy, logits, labels, macs, lambda accuracy, cost: -cost if accuracy >= top - loss else -np.inf
    )
    return round((best - found) * n), spent - least


@each_rule
def test_least_macs_keeps_the_accuracy_and_falls_with_the_loss(policy):
    logits, labels = images(600)
    spent = []
    for loss in (0.0, 0.02, 0.1, 1.0):
        accuracy, macs = measure(policy, logits, labels, least_macs(policy, logits, labels, MACS, loss))
        assert accuracy >= measure(policy, logits, labels, (policy.closed,) * 3)[0] - loss
        spent.append(macs)
    assert spent == sorted(spent, reverse=True)
    assert spent[-1] == MACS[0]  # anything may be lost: every image leaves at once


def test_least_macs_with_few_images_always_finds_thresholds_that_keep_the_accuracy():
    """A start that keeps the constraint has to be among the search's own; seeds 41 and 46 have no other."""
    for seed in (0, 1, 2, 3, 4, 41, 46):
        policy = SMOOTH[seed % len(SMOOTH)]
        logits, labels = images(15, seed=seed, skill=(1.0,))
        most = measure(policy, logits, labels, for_budget(policy, logits, labels, MACS, 1e9))[0]
        accuracy, _ = measure(policy, logits, labels, least_macs(policy, logits, labels, MACS, 0.03))
        assert accuracy >= most - 0.03


def test_two_alike_of_which_one_should_leave_stay():
    """Both sides are as near to the wanted share: the image that could be wrong is not let go."""
    policy = POLICIES["entropy"]
    logits = np.repeat(images(1, exits=2)[0], 2, axis=0)
    assert given_shares(policy, logits, (0.5, 0.5)) == (policy.closed,)


def test_searched_thresholds_lie_halfway_between_scores():
    logits, labels = images(300)
    policy = POLICIES["entropy"]
    thresholds = for_budget(policy, logits, labels, MACS, 400)
    assert len({policy.closed, policy.open, *thresholds}) == 5
    for threshold, scores in zip(thresholds, policy.scores(logits).T, strict=False):
        below, above = scores[scores < threshold].max(), scores[scores > threshold].min()
        assert threshold == pytest.approx((below + above) / 2, abs=1e-12)


@pytest.mark.parametrize("low", [0.1, 0.3, 1.0])
def test_scores_that_are_neighbours_in_floating_point_are_told_apart(low):
    """No number lies between the two; the first image may leave, the second is called wrong at exit 1 only."""
    scores = np.array([low, np.nextafter(low, 2)])

    def look_up(log_probabilities):
        apart = np.abs(log_probabilities[..., 0] - log_probabilities[..., 1])
        return scores[np.rint(apart).astype(int) - 1]

    policy = Policy("neighbours", lambda log_probabilities: log_probabilities, look_up, closed=-1.0, open=9.0)
    logits = np.array([[[1, 0], [1, 0]], [[2, 0], [0, 1]]], np.float32)
    for thresholds in (
        equal_share(policy, logits),
        for_budget(policy, logits, np.array([0, 1]), (100, 300), 300),
    ):
        assert decide(policy, logits, thresholds).exits.tolist() == [0, 1]


def test_rounding_of_another_runtime_moves_no_calibration_image():
    logits, labels = images(300)
    noise = np.random.default_rng(1).uniform(-1e-6, 1e-6, logits.shape)
    policy = POLICIES["entropy"]
    for thresholds in (equal_share(policy, logits), for_budget(policy, logits, labels, MACS, 400)):
        expected = decide(policy, logits, thresholds).exits
        np.testing.assert_array_equal(decide(policy, logits + noise, thresholds).exits, expected)


@each_rule
@pytest.mark.parametrize(
    "settings",
    [
        {"calibration": "equal_share"},
        {"calibration": "shares", "shares": (0.4, 0.3, 0.2, 0.1)},
        {"calibration": "budget", "budget": 300.0},
        {"calibration": "least_macs", "max_accuracy_loss": 0.01},
    ],
    ids=lambda settings: settings["calibration"],
)
def test_calibrate_by_name(policy, settings):
    logits, labels = images(200)
    config = PolicyConfig(name=policy.name, **settings)
    thresholds = calibrate(config, logits, labels, MACS)
    direct = {
        "equal_share": lambda: equal_share(policy, logits),
        "shares": lambda: given_shares(policy, logits, config.shares),
        "budget": lambda: for_budget(policy, logits, labels, MACS, 300.0),
        "least_macs": lambda: least_macs(policy, logits, labels, MACS, 0.01),
    }[config.calibration]()
    assert thresholds == direct == calibrate(config, logits, labels, MACS)
    assert len(thresholds) == 3 and all(type(value) is float for value in thresholds)


@pytest.mark.parametrize(
    ("settings", "macs"),
    [
        ({"calibration": "shares", "shares": (0.5, 0.5)}, MACS),
        ({"calibration": "budget", "budget": 99.0}, MACS),
        ({"calibration": "budget", "budget": 300.0}, (100, 300, 200, 400)),
        ({"calibration": "least_macs"}, (100, 300, 200, 400)),
    ],
)
def test_what_no_images_make_possible_is_refused_without_them(settings, macs):
    logits, labels = images(30)
    config = PolicyConfig(**settings)
    with pytest.raises(ConfigError) as with_images:
        calibrate(config, logits, labels, macs)
    with pytest.raises(ConfigError) as without:
        check_policy(config, macs)
    assert str(without.value) == str(with_images.value)


def test_what_is_possible_is_not_refused():
    check_policy(PolicyConfig(calibration="shares", shares=(0.4, 0.3, 0.2, 0.1)), MACS)
    check_policy(PolicyConfig(calibration="budget", budget=100.0), MACS)
    check_policy(PolicyConfig(calibration="least_macs"), MACS)
    check_policy(PolicyConfig(calibration="equal_share", shares=(0.5, 0.5)), (100, 300, 200, 400))


def test_single_exit_needs_no_threshold():
    logits, labels = images(20, exits=1)
    for config in (
        PolicyConfig(),
        PolicyConfig(calibration="budget", budget=100.0),
        PolicyConfig("entropy", "least_macs"),
    ):
        assert calibrate(config, logits, labels, (100,)) == ()


def test_refusals():
    logits, labels = images(30)
    policy = POLICIES["entropy"]
    with pytest.raises(ConfigError, match="policy.budget: expected at least 100, .*got 99"):
        for_budget(policy, logits, labels, MACS, 99)
    with pytest.raises(ConfigError, match="policy.budget"):
        for_budget(policy, logits, labels, MACS, float("nan"))
    for macs in ((100, 200), (100, 300, 200, 400), (0, 1, 2, 3), (1, 2, 3, np.inf)):
        with pytest.raises(ConfigError, match="executed_macs: expected 4 growing"):
            least_macs(policy, logits, labels, macs, 0.1)
    for wanted in ((0.5, 0.5), (0.5, 0.6, 0, 0), (1.5, -0.5, 0, 0), (), (np.nan, 0, 0, 1)):
        with pytest.raises(ConfigError, match="policy.shares: expected 4"):
            given_shares(policy, logits, wanted)
    with pytest.raises(ConfigError, match="max_accuracy_loss"):
        least_macs(policy, logits, labels, MACS, -0.1)
    for wrong in (labels[:-1], labels.astype(float), labels - 3, labels + 3, labels[:, None]):
        with pytest.raises(DataError, match="labels: expected"):
            for_budget(policy, logits, wrong, MACS, 300)
    with pytest.raises(DataError, match="one calibration image at least"):
        equal_share(policy, logits[:0])
    with pytest.raises(ConfigError, match="policy: expected one of"):
        calibrate(PolicyConfig(name="guess"), logits, labels, MACS)
    with pytest.raises(ConfigError, match="policy.calibration: expected one of"):
        calibrate(PolicyConfig(calibration="guess"), logits, labels, MACS)
