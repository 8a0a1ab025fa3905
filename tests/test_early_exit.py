"""The server's early exits: the decisions of the exit rule on the logits of all exits, with shrinking batches."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.early_exit import EarlyExitPredictor
from rdi_tf.errors import ConfigError, DataError
from rdi_tf.network import build
from rdi_tf.policies import POLICIES, decide, get_policy
from rdi_tf.precision import precision
from rdi_tf.thresholds import equal_share


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][1400:1600]


@pytest.fixture(scope="module")
def predictor(tiny_net):
    return EarlyExitPredictor(tiny_net)


@pytest.mark.parametrize("name", list(POLICIES))
def test_decisions_are_those_of_all_logits(tiny_net, images, name):
    exit_logits = tiny_net(images).numpy()
    thresholds = equal_share(get_policy(name), exit_logits)
    decision = decide(get_policy(name), exit_logits, thresholds)
    found = EarlyExitPredictor(tiny_net, name, thresholds).predict(images)
    np.testing.assert_array_equal(found.exits, decision.exits)
    np.testing.assert_array_equal(found.predictions, decision.predictions)
    taken = decision.scores[np.arange(len(images)), decision.exits]
    np.testing.assert_allclose(found.scores, taken, atol=1e-5)


def test_a_network_in_mixed_float16_answers(tiny_config):
    with precision("mixed_float16"):
        net = build(tiny_config)
    images = np.random.default_rng(0).random((8, *tiny_config.model.input_shape), np.float32)
    found = EarlyExitPredictor(net, "entropy", (0.0, 0.0)).predict(images)
    np.testing.assert_array_equal(found.predictions, net(images).numpy()[:, -1].argmax(axis=-1))


def test_the_batch_shrinks(tiny_net, predictor, images):
    predictor.thresholds = tiny_net.thresholds
    found = predictor.predict(images)
    counts = np.bincount(found.exits, minlength=3)
    assert min(counts) > 0
    assert found.stage_images == (200, 200 - counts[0], counts[2])
    predictor.thresholds = (1000.0, 1000.0)
    assert predictor.predict(images).stage_images == (200,)


def test_stages_are_traced_once_whatever_the_batch(tiny_net, predictor, images):
    predictor.thresholds = tiny_net.thresholds
    for count in (1, 7, 200):
        predictor.predict(images[:count])
    assert [stage.experimental_get_tracing_count() for stage in predictor._stages] == [1, 1, 1]


def test_images_of_other_types_are_the_same_images(predictor, images):
    expected = predictor.predict(images).scores
    for same in (images.astype("float64"), tf.constant(images.astype("float64")), images.tolist()):
        np.testing.assert_array_equal(predictor.predict(same).scores, expected)


def test_what_cannot_be_used_is_refused(tiny_net, predictor, images):
    with pytest.raises(DataError, match=r"expected \(8, 8, 1\) per image"):
        predictor.predict(images[:, :4])
    with pytest.raises(DataError, match="expected one at least"):
        predictor.predict(images[:0])
    with pytest.raises(ConfigError, match="thresholds: expected 2 numbers"):
        EarlyExitPredictor(tiny_net, thresholds=(1.0,))
    with pytest.raises(ConfigError, match="policy: expected one of"):
        EarlyExitPredictor(tiny_net, "psychic")
    with pytest.raises(ConfigError, match="thresholds: the network's are for 'entropy'; expected some for 'patience'"):
        EarlyExitPredictor(tiny_net, "patience")
    with pytest.raises(ConfigError, match="thresholds: expected -1 "):
        EarlyExitPredictor(tiny_net, thresholds=(5000.0, -7.0))
