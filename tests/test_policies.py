"""Exit rules: hand-computed scores, causality, stability, refusals."""

import math

import numpy as np
import pytest

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.policies import POLICIES, Policy, decide, get_policy, log_softmax

RULES = list(POLICIES.values())
each_rule = pytest.mark.parametrize("policy", RULES, ids=list(POLICIES))


def logits_of(*probabilities):
    """Exit logits of one image, given the probabilities at each exit."""
    return np.log(np.array([probabilities], np.float32))


@pytest.fixture
def exit_logits():
    return np.random.default_rng(5).normal(0, 3, (40, 4, 6)).astype(np.float32)


def test_entropy_by_hand():
    scores = POLICIES["entropy"].scores(logits_of([0.5, 0.5], [0.9, 0.1]))
    expected = [-math.log(0.5 + 1e-5), -0.9 * math.log(0.9 + 1e-5) - 0.1 * math.log(0.1 + 1e-5)]
    np.testing.assert_allclose(scores, [expected], rtol=1e-6)


def test_max_probability_and_margin_by_hand():
    logits = logits_of([0.2, 0.7, 0.1], [0.45, 0.15, 0.4])
    np.testing.assert_allclose(POLICIES["max_probability"].scores(logits), [[0.3, 0.55]], rtol=1e-6)
    np.testing.assert_allclose(POLICIES["margin"].scores(logits), [[0.5, 0.95]], rtol=1e-6)


def test_scaled_logits_are_weights_of_the_running_average(exit_logits):
    """Logits times w weigh w, which is how weights are learnt; only the temperature of each mean is another."""
    weights, counts = np.arange(1, 5)[:, None], np.arange(1, 5)[:, None]
    scaled = POLICIES["running_average"].log_probabilities(weights * exit_logits)
    temperatures = np.cumsum(weights, axis=0) / counts
    expected = log_softmax(temperatures * POLICIES["weighted_running_average"].log_probabilities(exit_logits))
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-9)


def test_running_averages_by_hand():
    logits = logits_of([0.8, 0.2], [0.2, 0.8])
    plain = np.exp(POLICIES["running_average"].log_probabilities(logits))
    np.testing.assert_allclose(plain, [[[0.8, 0.2], [0.5, 0.5]]], rtol=1e-6)
    weighted = np.exp(POLICIES["weighted_running_average"].log_probabilities(logits))
    # Weights 1 and 2: proportional to (0.8 * 0.2^2)^(1/3) and (0.2 * 0.8^2)^(1/3), that is 1 to 4^(1/3).
    second = 4 ** (1 / 3) / (1 + 4 ** (1 / 3))
    np.testing.assert_allclose(weighted, [[[0.8, 0.2], [1 - second, second]]], rtol=1e-6)


def test_running_average_calls_the_class_of_the_average():
    """Exit 2 alone says class 1, narrowly; together with a sure exit 1 it says class 0."""
    logits = logits_of([0.95, 0.05], [0.45, 0.55])
    assert decide(POLICIES["entropy"], logits, (-1.0,)).predictions.tolist() == [1]
    assert decide(POLICIES["running_average"], logits, (-1.0,)).predictions.tolist() == [0]


def test_patience_counts_agreeing_exits():
    one_hot = 5 * np.eye(3, dtype=np.float32)
    calls = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 0, 1]])
    np.testing.assert_array_equal(
        POLICIES["patience"].scores(one_hot[calls]), [[-1, -2, -3, -4], [-1, -1, -2, -3], [-1, -1, -1, -2], [-1] * 4]
    )
    # One integer for all exits: patience 0 leaves at once, patience 1 wants one confirmation, and so on.
    for patience, exits in ((0, [0, 0, 0, 0]), (1, [1, 2, 3, 3]), (2, [2, 3, 3, 3])):
        assert decide(POLICIES["patience"], one_hot[calls], (-patience,) * 3).exits.tolist() == exits


def test_decide_on_three_rows():
    """Leaves at 1, leaves at 2 with another class than exit 1 said, reaches main."""
    sure, unsure = [0.98, 0.01, 0.01], [0.3, 0.4, 0.3]
    logits = np.concatenate(
        [
            logits_of(sure, unsure, unsure),
            logits_of(unsure, sure, unsure),
            logits_of(unsure, unsure, [0.1, 0.2, 0.7]),
        ]
    )
    decision = decide(POLICIES["entropy"], logits, (0.5, 0.5))
    assert decision.exits.tolist() == [0, 1, 2]
    assert decision.predictions.tolist() == [0, 0, 2]
    assert decision.scores.shape == (3, 3)
    assert decision.exits.dtype == decision.predictions.dtype == np.int32


def test_a_score_equal_to_the_threshold_stays():
    logits = logits_of([0.7, 0.3], [0.4, 0.6])
    score = float(POLICIES["max_probability"].scores(logits)[0, 0])
    assert decide(POLICIES["max_probability"], logits, (score,)).exits.tolist() == [1]
    assert decide(POLICIES["max_probability"], logits, (np.nextafter(score, 1),)).exits.tolist() == [0]


@each_rule
def test_causal(policy, exit_logits):
    """What exit k says depends neither on the values of later exits nor on their being there."""
    scores, log_probabilities = policy.scores(exit_logits), policy.log_probabilities(exit_logits)
    for k in range(exit_logits.shape[1]):
        changed = exit_logits.copy()
        changed[:, k + 1 :] = np.random.default_rng(k).normal(0, 9, changed[:, k + 1 :].shape)
        for other in (changed, exit_logits[:, : k + 1]):
            np.testing.assert_array_equal(policy.scores(other)[:, : k + 1], scores[:, : k + 1])
            np.testing.assert_array_equal(policy.log_probabilities(other)[:, : k + 1], log_probabilities[:, : k + 1])


@each_rule
def test_each_image_is_decided_on_its_own(policy, exit_logits):
    whole = policy.scores(exit_logits)
    np.testing.assert_array_equal(np.concatenate([policy.scores(image[None]) for image in exit_logits]), whole)
    assert policy.scores(exit_logits[:0]).shape == (0, 4)


@each_rule
def test_log_probabilities_are_normalised_and_nothing_is_written_to(policy, exit_logits):
    before = exit_logits.copy()
    np.testing.assert_allclose(np.exp(policy.log_probabilities(exit_logits)).sum(-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(exit_logits, before)


@each_rule
@pytest.mark.filterwarnings("error")
def test_huge_logits(policy):
    logits = 1e4 * np.array([[[1, -1, 0], [0, 1, -1]], [[1, 1, -1], [-1, -1, -1]]], np.float32)
    assert np.isfinite(policy.scores(logits)).all()
    assert np.isfinite(policy.log_probabilities(logits)).all()
    shifted = policy.scores(logits + np.float32(4096))
    np.testing.assert_allclose(shifted, policy.scores(logits), atol=1e-12)


@each_rule
def test_float32_float64_and_layout_agree(policy, exit_logits):
    expected = policy.scores(exit_logits)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(policy.scores(exit_logits.astype(np.float64)), expected)
    np.testing.assert_array_equal(policy.scores(np.asfortranarray(exit_logits)), expected)


@each_rule
def test_open_and_closed_hold_for_every_score(policy):
    extremes = np.array([[[0, 0, 0]] * 3, [[1e4, 0, 0]] * 3, [[0, 1e-30, 0], [9, 0, 9], [0, 9, 0]]], np.float32)
    scores = policy.scores(extremes)
    assert (scores >= policy.closed).all()
    assert (scores < policy.open).all()


def test_one_exit_needs_no_threshold():
    decision = decide(POLICIES["entropy"], logits_of([0.1, 0.9]), ())
    assert (decision.exits.tolist(), decision.predictions.tolist()) == ([0], [1])


def test_a_new_rule_is_two_functions(exit_logits):
    rule = Policy("last_logit", lambda logp: logp, lambda logp: -logp[..., -1], closed=-1.0, open=1e9)
    exits = decide(rule, exit_logits, (0.5, 0.5, 0.5)).exits
    assert set(exits.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "thresholds", [(), (0.1,), (0.1, 0.2, 0.3), ((0.1, 0.2),), 0.5, (0.1, math.nan), (math.inf, 0.1), None, ("a", "b")]
)
def test_refuses_thresholds(thresholds):
    with pytest.raises(ConfigError, match="thresholds: expected"):
        decide(POLICIES["entropy"], np.zeros((2, 3, 4), np.float32), thresholds)


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((2, 3), np.float32),
        np.zeros((2, 0, 3), np.float32),
        np.zeros((2, 3, 1), np.float32),
        np.zeros((2, 3, 4), int),
        np.full((2, 3, 4), np.nan, np.float32),
        np.full((2, 3, 4), -np.inf, np.float32),
    ],
)
def test_refuses_logits(logits):
    with pytest.raises(DataError, match="exit_logits: expected"):
        decide(POLICIES["entropy"], logits, (0.1, 0.2))


def test_names():
    assert get_policy("margin") is POLICIES["margin"]
    assert all(name == policy.name for name, policy in POLICIES.items())
    with pytest.raises(ConfigError, match="expected one of entropy, .*got 'guess'"):
        get_policy("guess")
