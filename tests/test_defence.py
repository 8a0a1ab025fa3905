"""Ingredients of robust training, each against values worked out by hand or a property that it must have."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks import ExitLosses, craft
from rdi_tf.attacks.exit_rules import BatchRule
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.defence.losses import TrainingLoss, distillation
from rdi_tf.defence.weight_perturbation import moved
from rdi_tf.errors import ConfigError
from rdi_tf.network import RDINet
from rdi_tf.policies import POLICIES, decide
from rdi_tf.thresholds import equal_share

SEED = tf.constant([1, 2])
PGD = AttackConfig(epsilon=0.1, step_size=0.05, steps=3)


def with_probabilities(*exits):
    """Logits of one image whose exits have these probabilities, (1, exits, classes)."""
    return tf.math.log(tf.constant([exits], tf.float32))


CLEAN, ADVERSARIAL = with_probabilities([0.8, 0.2], [0.5, 0.5]), with_probabilities([0.5, 0.5], [0.25, 0.75])
FIRST = tf.constant([[1.0, 0.0]])


def loss_of(outputs, smoothing=0.0, **settings):
    loss = TrainingLoss(DefenceConfig("average", **settings), tf.constant([0.5, 2.0]), smoothing)
    return float(loss(outputs, FIRST))


def test_the_papers_loss():
    found = loss_of({"clean": CLEAN, "adversarial": ADVERSARIAL})
    assert found == pytest.approx(-(0.5 * np.log(0.8) + 2 * np.log(0.5) + 0.5 * np.log(0.5) + 2 * np.log(0.25)) / 2)


def test_a_share_for_the_clean_images():
    found = loss_of({"clean": CLEAN, "adversarial": ADVERSARIAL}, clean_share=0.25)
    clean, adversarial = (loss_of({kind: out}) for kind, out in (("clean", CLEAN), ("adversarial", ADVERSARIAL)))
    assert found == pytest.approx(0.25 * clean + 0.75 * adversarial)


def test_trades_weighs_the_divergence_of_each_exit():
    divergences = 0.8 * np.log(0.8 / 0.5) + 0.2 * np.log(0.2 / 0.5), 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    clean = -(0.5 * np.log(0.8) + 2 * np.log(0.5))
    found = loss_of({"clean": CLEAN, "adversarial": ADVERSARIAL}, trades=6.0)
    assert found == pytest.approx(clean + 6 * (0.5 * divergences[0] + 2 * divergences[1]), rel=1e-5)


def test_trades_of_what_stays_is_the_clean_loss():
    assert loss_of({"clean": CLEAN, "adversarial": CLEAN}, trades=6.0) == pytest.approx(loss_of({"clean": CLEAN}))


@pytest.mark.parametrize(
    ("teacher", "probabilities"),
    [
        ("main", [0.25, 0.75]),
        # Geometric means of the exits' probabilities, normalised: weights 1, 1 and 1/3, 2/3.
        ("running_average", [0.125**0.5, 0.375**0.5]),
        ("weighted_running_average", [0.5 ** (1 / 3) * 0.25 ** (2 / 3), 0.5 ** (1 / 3) * 0.75 ** (2 / 3)]),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distillation_by_hand(teacher, probabilities, temperature):
    def softened(values):
        powers = np.array(values) ** (1 / temperature)
        return powers / powers.sum()

    wise = softened(np.array(probabilities) / sum(probabilities))
    expected = [
        temperature**2 * (wise * np.log(wise / softened(exit_probabilities))).sum()
        for exit_probabilities in ([0.5, 0.5], [0.25, 0.75])
    ]
    np.testing.assert_allclose(distillation(ADVERSARIAL, teacher, temperature)[0], expected, atol=1e-6)
    plain = loss_of({"clean": CLEAN, "adversarial": ADVERSARIAL})
    settings = {"distillation": 3.0, "teacher": teacher, "temperature": temperature}
    found = loss_of({"clean": CLEAN, "adversarial": ADVERSARIAL}, **settings)
    assert found - plain == pytest.approx(3 * (0.5 * expected[0] + 2 * expected[1]), rel=1e-4)


@pytest.mark.parametrize("teacher", ["main", "running_average"])
def test_the_teacher_learns_nothing(teacher):
    """The gradient of `T^2 KL(t || s)` at the student's logits is `T (softmax(s / T) - t)`, and no other."""
    with tf.GradientTape() as tape:
        tape.watch(ADVERSARIAL)
        apart = distillation(ADVERSARIAL, teacher, 2.0)
    wise = np.array([0.25, 0.75]) if teacher == "main" else np.array([0.125**0.5, 0.375**0.5])
    wise = wise**0.5 / (wise**0.5).sum()
    students = np.sqrt([[0.5, 0.5], [0.25, 0.75]])
    expected = 2 * (students / students.sum(axis=1, keepdims=True) - wise)
    np.testing.assert_allclose(tape.gradient(apart, ADVERSARIAL)[0], expected, atol=1e-6)


def small_net(batch_norm=False):
    """Two exits over a hidden layer each, curved enough for attacks to differ."""
    keras.utils.set_random_seed(3)
    images = keras.Input((3, 3, 1))
    hidden = keras.layers.Dense(8, activation="tanh")(keras.layers.Flatten()(images))
    if batch_norm:
        hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
    later = keras.layers.Dense(8, activation="tanh")(hidden)
    outputs = []
    for name, features in (("branch_1", hidden), ("main", later)):
        logits = keras.layers.Dense(4, kernel_initializer="he_normal")(features)
        outputs.append(keras.layers.Activation("linear", dtype="float32", name=name)(3 * logits))
    return RDINet(keras.Model(images, outputs))


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(size=(12, 3, 3, 1)), tf.float32)
    return images, tf.one_hot(random.integers(4, size=12), 4)


@pytest.fixture
def net():
    return small_net()


def linear_losses():
    """Two exits whose losses are known: ten times and minus three times the mean pixel, for images of either kind."""

    def every(images, labels):
        mean = tf.reduce_mean(images, axis=(1, 2, 3))
        return tf.stack([10.0 * (mean - 0.5), -3.0 * (mean - 0.5)], axis=1)

    single = tuple(lambda images, labels, k=k: every(images, labels)[:, k] for k in range(2))
    return ExitLosses(("branch_1", "main"), single, every)


def test_worst_exit_climbs_the_larger_loss():
    """Bright images have the larger loss at the first exit, which grows with brightness; dark ones at the second."""
    images = tf.fill([2, 2, 2, 1], 0.5) + tf.constant([0.2, -0.2])[:, None, None, None]
    still = AttackConfig(epsilon=0.1, step_size=0.1, steps=1, random_start=False)
    found = craft("worst_exit", linear_losses(), images, tf.constant([0, 0]), still, SEED)
    np.testing.assert_allclose(found[:, 0, 0, 0], [0.8, 0.2], atol=1e-6)
    average = craft("average", linear_losses(), images, tf.constant([0, 0]), still, SEED)
    np.testing.assert_allclose(average[:, 0, 0, 0], [0.8, 0.4], atol=1e-6)


def test_random_exit_draws_one_for_each_image():
    """Half of the images climb the first exit's loss and get brighter, half the second's; other seeds, other halves."""
    images = tf.fill([200, 2, 2, 1], 0.5)
    still = AttackConfig(epsilon=0.1, step_size=0.1, steps=1, random_start=False)
    first, again, other = (
        craft("random_exit", linear_losses(), images, tf.zeros(200, tf.int32), still, tf.constant(seed))[:, 0, 0, 0]
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_allclose(np.abs(first - 0.5), 0.1, atol=1e-6)
    assert 70 < np.sum(first > 0.5) < 130
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_random_exit_is_the_single_attack_on_the_exit_drawn(net, batch):
    """From the image itself each image of a batch is one of the exits' single attacks, and every exit is met."""
    losses, still = net.exit_losses(), AttackConfig(epsilon=0.2, step_size=0.05, steps=5, random_start=False)
    found = craft("random_exit", losses, *batch, still, SEED).numpy()
    single = [craft(name, losses, *batch, still, SEED).numpy() for name in losses.exit_names]
    distances = np.abs(np.stack(single) - found).max(axis=(2, 3, 4))
    np.testing.assert_allclose(distances.min(axis=0), 0, atol=1e-6)
    assert set(distances.argmin(axis=0)) == set(range(len(single)))


def test_worst_exit_raises_the_largest_loss_more_than_the_average_does(net, batch):
    losses = net.exit_losses()

    def largest(form):
        found = craft(form, losses, *batch, AttackConfig(epsilon=0.2, step_size=0.05, steps=10), SEED)
        return float(tf.reduce_mean(tf.reduce_max(losses.every(found, batch[1]), axis=1)))

    assert largest("worst_exit") > largest("average")


@pytest.mark.parametrize("form", ["worst_exit", "random_exit"])
def test_an_exit_for_each_image_has_no_targets(net, batch, form):
    with pytest.raises(ConfigError, match=f"{form}': expected another loss than 'dlr_targeted'"):
        craft(form, net.exit_losses(), *batch, AttackConfig(loss="dlr_targeted"), SEED)


@pytest.mark.parametrize("form", ["branch_1", "main", "average", "max_average", "worst_exit"])
def test_attacks_on_the_divergence_find_more_of_it(net, batch, form):
    images, labels = batch
    losses = net.exit_losses().diverging_from(images)
    np.testing.assert_allclose(losses.every(images, labels), np.zeros((12, 2)), atol=1e-6)
    attack = AttackConfig(epsilon=0.2, step_size=0.05, steps=10)
    by_labels = craft(form, net.exit_losses(), images, labels, attack, SEED)
    by_divergence = craft(form, losses, images, labels, attack, SEED)
    exits = {"branch_1": [0], "main": [1]}.get(form, [0, 1])

    def reached(found):
        return float(tf.reduce_mean(tf.gather(losses.every(found, labels), exits, axis=1)))

    assert reached(by_divergence) > reached(by_labels) > 0


@pytest.mark.parametrize("name", POLICIES)
def test_a_batchs_own_thresholds_share_it_out(name):
    logits = np.random.default_rng(1).normal(size=(60, 4, 5)).astype(np.float32)
    rule = BatchRule.of_equal_shares(name, tf.constant(logits))
    exits = rule.route(tf.constant(logits)).exits.numpy()
    if name == "patience":  # its scores are few: what cannot be told apart stays, and leaves as soon as it can
        gone = np.cumsum(np.bincount(exits, minlength=4))
        assert gone[0] == 0 and gone[1] < gone[2] and (gone <= [15, 30, 45, 60]).all()
    else:
        np.testing.assert_array_equal(np.bincount(exits), [15, 15, 15, 15])
        calibrated = decide(POLICIES[name], logits, equal_share(POLICIES[name], logits))
        np.testing.assert_array_equal(exits, calibrated.exits)


def test_one_exit_needs_no_thresholds():
    logits = tf.constant(np.random.default_rng(1).normal(size=(6, 1, 5)), tf.float32)
    assert not BatchRule.of_equal_shares("entropy", logits).route(logits).exits.numpy().any()


def step(net, batch, defence, rate=0.0, **settings):
    """One training step; what it reports."""
    net.compile(keras.optimizers.SGD(rate), defence=defence, exit_weights=(0.5, 2.0), **settings)
    return {name: float(value) for name, value in net.train_step(batch).items()}


@pytest.mark.parametrize(
    "defence",
    [
        DefenceConfig("rerouted", PGD, training_mode=False),
        DefenceConfig("worst_exit", PGD, training_mode=False),
        DefenceConfig("random_exit", PGD, outputs="weighted_running_average"),
        DefenceConfig("average", AttackConfig(epsilon=0.1, step_size=0.05, steps=3, loss="divergence")),
        DefenceConfig("max_average", PGD, outputs="weighted_running_average"),
    ],
    ids=lambda defence: f"{defence.name} {defence.outputs} {defence.attack.loss}",
)
def test_training_images_are_in_their_ball_and_raise_the_loss(net, batch, defence):
    loss = step(net, batch, defence, policy="running_average")["loss"]
    found = net.adversarial_images(*batch, tf.constant(0, tf.int64))
    assert 0.01 < np.abs(found - batch[0]).max() <= 0.1 + 1e-6
    assert loss > step(net, batch, DefenceConfig("standard", outputs=defence.outputs))["loss"]


def test_crafting_in_inference_mode_folds_batch_norm_and_follows_the_weights():
    keras.utils.set_random_seed(5)
    image = keras.Input((6, 6, 1))
    features = keras.layers.Conv2D(8, 3, use_bias=False)(image)
    features = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(features))
    logits = keras.layers.Dense(4)(keras.layers.Flatten()(features))
    net = RDINet(keras.Model(image, keras.layers.Activation("linear", name="main")(logits)))
    assert any(layer.name.endswith("_folded") for layer in net.folded().network.layers)
    random = np.random.default_rng(0)
    batch = tf.constant(random.uniform(size=(12, 6, 6, 1)), tf.float32), tf.one_hot(random.integers(4, size=12), 4)
    attack = AttackConfig(epsilon=0.1, step_size=0.05, steps=3, random_start=False)
    net.compile(keras.optimizers.SGD(0.5), defence=DefenceConfig("main_branch", attack, training_mode=False))
    crafted = tf.function(lambda: net.adversarial_images(*batch, tf.constant(0, tf.int64)), autograph=False)
    ends = []
    for _ in range(2):
        ends.append(crafted().numpy())
        as_it_is = craft("main", net.exit_losses(), *batch, attack, SEED).numpy()
        # Rounding may turn the sign of a gradient that is next to nothing.
        assert (np.abs(ends[-1] - as_it_is) > 1e-5).mean() < 0.02
        net.train_step(batch)
    assert (np.abs(ends[1] - ends[0]) > 1e-5).mean() > 0.05
    assert [id(weight) for weight in net.weights] == [id(weight) for weight in net.network.weights]


def test_rerouted_finds_more_mistakes_at_the_exits_taken(net, batch):
    """Of the images that leave where equal shares say, more are called wrong than under the attack on the average."""
    images, labels = batch
    logits = net(images)
    rule = BatchRule.of_equal_shares("entropy", logits)

    def loss_at_exits_taken(name):
        net.compile(keras.optimizers.SGD(0.0), defence=DefenceConfig(name, PGD, training_mode=False))
        taken = rule.route(net(net.adversarial_images(images, labels, tf.constant(0, tf.int64)))).taken()
        right = tf.reduce_sum(labels * taken, axis=-1)
        wrong = tf.reduce_max(taken - 1e9 * labels, axis=-1)
        return float(tf.reduce_mean(wrong - right))

    assert loss_at_exits_taken("rerouted") > loss_at_exits_taken("average")


@pytest.mark.parametrize("outputs", ["running_average", "weighted_running_average"])
def test_what_the_rule_calls_classes_from_is_trained(net, batch, outputs):
    images, labels = batch
    combined = POLICIES[outputs].log_probabilities(net(images).numpy())
    own = (labels.numpy()[:, None] * combined).sum(axis=-1)
    found = step(net, batch, DefenceConfig("standard", outputs=outputs))
    assert found["loss"] == pytest.approx(-(own @ [0.5, 2.0]).mean(), rel=1e-5)
    right = (combined.argmax(axis=-1) == labels.numpy().argmax(axis=-1)[:, None]).mean(axis=0)
    np.testing.assert_allclose([found["clean_branch_1"], found["clean_main"]], right, atol=1e-6)


def test_kernels_move_uphill_by_their_share_and_come_back(batch):
    net = small_net(batch_norm=True)
    before = [weight.numpy() for weight in net.weights]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(net(batch[0], training=False) ** 2)
    gradients = tape.gradient(loss, net.trainable_variables)
    with moved(net, gradients, 0.01):
        inside = {id(weight): weight.numpy() for weight in net.trainable_variables}
        assert float(tf.reduce_sum(net(batch[0], training=False) ** 2)) > float(loss)
        net(batch[0], training=True)  # moves the running statistics
        assert any(np.any(weight != old) for weight, old in zip(net.non_trainable_weights, before[-2:], strict=True))
    for weight, old in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    for weight, gradient in zip(net.trainable_variables, gradients, strict=True):
        move = inside[id(weight)] - weight.numpy()
        if len(weight.shape) == 1:
            assert not move.any()
        else:
            direction = gradient.numpy() / np.linalg.norm(gradient)
            np.testing.assert_allclose(move, 0.01 * np.linalg.norm(weight) * direction, atol=1e-6)


def test_kernels_without_gradient_stay(net, batch):
    with moved(net, [tf.zeros_like(weight) for weight in net.trainable_variables], 0.1):
        inside = [weight.numpy() for weight in net.weights]
    for weight, was in zip(net.weights, inside, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_the_gradient_is_that_of_the_moved_weights(batch):
    """A step with weight perturbation is w - rate * (gradient at the moved w); batch norm sees the batch once."""
    rate, images, labels = 0.3, *batch
    net, plain = small_net(batch_norm=True), small_net(batch_norm=True)
    defence = DefenceConfig("standard", weight_perturbation=0.02)
    found = step(net, batch, defence, rate)
    assert found == pytest.approx(step(plain, batch, DefenceConfig("standard")))
    # `plain` has taken one training pass at rate 0: its running statistics are those of one look at the batch.
    for weight, expected in zip(net.non_trainable_weights, plain.non_trainable_weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)

    def gradients():
        with tf.GradientTape() as tape:
            log_probabilities = tf.nn.log_softmax(plain(images, training=True))
            losses = -tf.einsum("bec,bc->be", log_probabilities, labels)
            loss = tf.reduce_mean(tf.linalg.matvec(losses, tf.constant([0.5, 2.0])))
        return tape.gradient(loss, plain.trainable_variables)

    start, uphill = [weight.numpy() for weight in plain.trainable_variables], gradients()
    for weight, gradient in zip(plain.trainable_variables, uphill, strict=True):
        if len(weight.shape) > 1:
            weight.assign_add(0.02 * tf.norm(weight) * gradient / tf.norm(gradient))
    for weight, old, gradient in zip(net.trainable_variables, start, gradients(), strict=True):
        np.testing.assert_allclose(weight, old - rate * gradient.numpy(), atol=1e-5)
