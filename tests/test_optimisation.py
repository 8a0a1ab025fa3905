"""Learning rates at every iteration, and weight averages, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import Config, TrainingConfig
from rdi_tf.training.optimisation import WarmupThenDecay, WeightAverage, learning_rate_schedule, sgd


def rates(training, iterations):
    schedule = learning_rate_schedule(training)
    return [float(schedule(tf.constant(step, tf.int64))) for step in iterations]


def test_steps_change_the_rate_at_the_iteration_that_is_named():
    training = TrainingConfig(learning_rate=0.1, schedule="step", decay_at=(3, 5), decay_factor=0.1)
    np.testing.assert_allclose(rates(training, range(7)), [0.1] * 3 + [0.01] * 2 + [0.001] * 2, rtol=1e-5)


def test_paper_schedule_of_resnet38():
    training = Config.load("cifar10-resnet38").training
    found = rates(training, [0, 31_999, 32_000, 47_999, 48_000, 63_999])
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)


def test_one_cycle_rises_and_falls_linearly():
    training = TrainingConfig(iterations=10, learning_rate=2.0, schedule="one_cycle", warmup_fraction=0.4)
    # Up by 2/4 until iteration 3, then from 2 at iteration 4 down by 2/6 to 0 at the end, iteration 10.
    expected = [0.5, 1.0, 1.5, 2.0, *(2 * (10 - step) / 6 for step in range(4, 11))]
    np.testing.assert_allclose(rates(training, range(11)), expected, rtol=1e-5, atol=1e-7)


def test_a_warm_up_that_ends_between_iterations_does_not_pass_the_peak():
    training = TrainingConfig(iterations=10, learning_rate=2.0, schedule="one_cycle", warmup_fraction=0.15)
    assert rates(training, range(3)) == pytest.approx([2 / 1.5, 2.0, 2 * 8 / 8.5])


def test_cosine_falls_along_half_a_wave():
    training = TrainingConfig(iterations=8, learning_rate=1.0, schedule="cosine", warmup_fraction=0.25)
    expected = [0.5, 1.0, *(0.5 * (1 + np.cos(np.pi * (step - 2) / 6)) for step in range(2, 9))]
    np.testing.assert_allclose(rates(training, range(9)), expected, atol=1e-6)


@pytest.mark.parametrize("shape", ["one_cycle", "cosine"])
def test_schedule_survives_its_config(shape):
    schedule = WarmupThenDecay(0.3, 20, 0.25, shape)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(again(step)) for step in range(20)] == [float(schedule(step)) for step in range(20)]


def test_optimiser_has_momentum_and_no_decay_of_its_own():
    optimizer = sgd(TrainingConfig(momentum=0.8, weight_decay=0.5))
    assert optimizer.momentum == 0.8
    assert not optimizer.weight_decay


@pytest.fixture
def model():
    """One weight, which starts at 4."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    model.weights[0].assign([[4.0]])
    return model


def test_average_by_hand(model):
    average = WeightAverage(model, decay=0.5)
    (weight,) = model.weights
    expected = 4.0
    # Kept share: min(0.5, (1 + n) / (10 + n)) = 1/10, 2/11, 3/12, ..., 8/17, 9/18 and 1/2 from then on.
    for number in range(12):
        weight.assign([[float(number)]])
        average.update(tf.constant(number, tf.int64))
        kept = min(0.5, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * number
    with average.applied():
        assert weight.numpy().item() == pytest.approx(expected, rel=1e-5)
    assert weight.numpy() == 11.0


def test_own_weights_come_back_after_an_error(model):
    average = WeightAverage(model, decay=0.5)
    (weight,) = model.weights
    weight.assign([[1.0]])
    with pytest.raises(KeyboardInterrupt), average.applied():
        assert weight.numpy() == 4.0
        raise KeyboardInterrupt
    assert weight.numpy() == 1.0


def test_averages_obey_what_must_hold_of_the_weights(model):
    (weight,) = model.weights
    average = WeightAverage(model, decay=0.5, constrain=lambda: weight.assign(0 * weight))
    with average.applied():
        assert weight.numpy() == 0.0
    assert weight.numpy() == 4.0


def test_averages_hold_batch_norm_statistics():
    model = keras.Sequential([keras.layers.BatchNormalization(input_shape=(2,))])
    average = WeightAverage(model, decay=0.0)
    model.layers[0].moving_mean.assign([3.0, 5.0])
    average.update(tf.constant(0, tf.int64))
    model.layers[0].moving_mean.assign([0.0, 0.0])
    with average.applied():
        np.testing.assert_array_equal(model.layers[0].moving_mean, [3.0, 5.0])
