"""Every algorithm, norm and loss: closed forms on linear models, and the properties that none may lack."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.attacks import ALGORITHMS, ExitLosses, craft, form_names, loss_function, search, search_best
from rdi_tf.attacks.apgd import checkpoint_steps
from rdi_tf.attacks.balls import BALLS, ball_around
from rdi_tf.attacks.losses import LOSSES, dlr, dlr_targeted, margin
from rdi_tf.attacks.square import side_lengths
from rdi_tf.attacks.targets import ranked_wrong_classes
from rdi_tf.config import ALGORITHMS as CONFIG_ALGORITHMS
from rdi_tf.config import LOSSES as CONFIG_LOSSES
from rdi_tf.config import NORMS, TRAINING_LOSSES, AttackConfig, Config
from rdi_tf.errors import ConfigError

SEED = tf.constant([3, 5], tf.int32)
SHAPE = (4, 6, 6, 1)
# Every algorithm with each norm that it has.
SEARCHES = [("pgd", "linf"), ("fgsm", "linf"), ("apgd", "linf"), ("square", "linf")]
SEARCHES += [("pgd", "l2"), ("fgsm", "l2"), ("apgd", "l2")]
EPSILON = {"linf": 0.1, "l2": 0.8}
STEP = {"linf": 0.03, "l2": 0.2}


def attack_config(algorithm, norm, **changes):
    return AttackConfig(algorithm, **{"epsilon": EPSILON[norm], "step_size": STEP[norm], "norm": norm, **changes})


def compiled_search(loss, images, attack):
    return tf.function(lambda x: search(loss, x, attack, SEED), autograph=False)(images)


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(0).uniform(size=SHAPE), tf.float32)


@pytest.fixture(scope="module")
def labels():
    return tf.constant([0, 1, 2, 1])


@pytest.fixture(scope="module")
def kernels():
    """Weights of three linear exits of five classes."""
    return [tf.constant(np.random.default_rng(k).normal(size=(36, 5)), tf.float32) for k in range(3)]


def exit_losses(kernels, loss):
    single = [lambda images, kernel=kernel: tf.reshape(images, (-1, 36)) @ kernel for kernel in kernels]
    names = ("branch_1", "branch_2", "main")
    return ExitLosses.of_logits(
        names, single, lambda images: tf.stack([logits(images) for logits in single], axis=1), loss_function(loss)
    )


def bumpy(candidates):
    """A loss with many maxima."""
    return tf.reduce_sum(tf.sin(40.0 * candidates), axis=(1, 2, 3))


def distances(found, images, norm):
    moved = np.reshape(found - images, (len(images), -1))
    return np.abs(moved).max(axis=1) if norm == "linf" else np.linalg.norm(moved, axis=1)


def linear_maximiser(images, weights, norm):
    """The maximum of w.x in ball and box: clip(x + epsilon * sign(w)), or clip(x + t * w), t by bisection."""
    if norm == "linf":
        return np.clip(images + EPSILON[norm] * np.sign(weights), 0, 1)
    found = []
    for image, along in zip(np.asarray(images, np.float64), np.broadcast_to(weights, images.shape), strict=True):
        low, high = 0.0, 1e4
        for _ in range(100):
            middle = (low + high) / 2
            fits = np.linalg.norm(np.clip(image + middle * along, 0, 1) - image) <= EPSILON[norm]
            low, high = (middle, high) if fits else (low, middle)
        found.append(np.clip(image + low * along, 0, 1))
    return np.stack(found)


def test_configuration_and_algorithms_name_the_same():
    assert (
        tuple(ALGORITHMS) == CONFIG_ALGORITHMS
        and tuple(BALLS) == NORMS
        and (*LOSSES, *TRAINING_LOSSES) == CONFIG_LOSSES
    )
    assert {algorithm for algorithm, _ in SEARCHES} | {"wrm", "n_fgsm"} == set(ALGORITHMS)


@pytest.mark.parametrize(("algorithm", "norm"), SEARCHES)
def test_linear_loss_has_a_closed_form(algorithm, norm, images):
    """Its maximum over ball and box; one step (FGM in L2) only reaches it where no pixel is clipped."""
    weights = np.random.default_rng(1).normal(size=SHAPE[1:]).astype("float32")
    inner = 0.4 + 0.2 * images if algorithm == "fgsm" else images
    attack = attack_config(algorithm, norm, steps={"square": 1500, "fgsm": 1}.get(algorithm, 60))
    found = compiled_search(lambda x: tf.reduce_sum(x * weights, axis=(1, 2, 3)), inner, attack)
    expected = linear_maximiser(np.asarray(inner), weights, norm)
    if norm == "l2" and algorithm == "fgsm":
        np.testing.assert_allclose(
            expected - inner, np.broadcast_to(0.8 * weights / np.linalg.norm(weights), SHAPE), atol=1e-5
        )
    np.testing.assert_allclose(found, expected, atol=2e-3 if norm == "l2" else 1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr_targeted"])
@pytest.mark.parametrize(("algorithm", "norm"), [("pgd", "linf"), ("apgd", "linf"), ("pgd", "l2"), ("apgd", "l2")])
def test_two_sided_linear_model_has_a_closed_form(algorithm, norm, loss, images):
    """One direction of logits: every loss rises along it, so all find the same corner (or point of the L2 sphere).

    Classes 2 to 4 stay behind by constants, as DLR needs other classes to compare with.
    """
    weights = np.random.default_rng(7).normal(size=36).astype("float32")
    kernel = np.zeros((36, 5), "float32")
    kernel[:, 1] = weights
    offset = tf.constant([0.0, 0.0, -50.0, -51.0, -52.0])

    def logits(x):
        return tf.reshape(x, (-1, 36)) @ kernel + offset

    losses = ExitLosses.of_logits(("main",), [logits], lambda x: logits(x)[:, None], loss_function(loss))
    attack = attack_config(algorithm, norm, steps=60, loss=loss, target_classes=1)
    run = tf.function(lambda x: craft("main", losses, x, tf.zeros(4, tf.int32), attack, SEED), autograph=False)
    found = run(images)
    expected = linear_maximiser(np.asarray(images), weights.reshape(6, 6, 1), norm)
    np.testing.assert_allclose(found, expected, atol=2e-3 if norm == "l2" else 1e-6)


@pytest.mark.parametrize(("algorithm", "norm"), SEARCHES)
@pytest.mark.parametrize("loss", LOSSES)
def test_properties(algorithm, norm, loss, images, labels, kernels):
    """In ball and box, moved, and the same again for the same seed."""
    attack = attack_config(algorithm, norm, loss=loss, steps=4, target_classes=2)
    losses = exit_losses(kernels, loss)
    for form in ("branch_2", "average"):
        found = craft(form, losses, images, labels, attack, SEED)
        assert distances(found, images, norm).max() <= EPSILON[norm] * (1 + 1e-5)
        assert np.min(found) >= 0 and np.max(found) <= 1
        assert np.median(distances(found, images, norm)) > 0.5 * EPSILON[norm]
        np.testing.assert_array_equal(found, craft(form, losses, images, labels, attack, SEED))


@pytest.mark.parametrize(("algorithm", "norm"), SEARCHES)
def test_epsilon_zero_is_identity(algorithm, norm, images):
    attack = attack_config(algorithm, norm, steps=5)
    found = search(bumpy, images, dataclasses.replace(attack, epsilon=0.0), SEED)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(search(bumpy, images, attack, SEED, scale=0.0), images)


@pytest.mark.parametrize(("algorithm", "norm"), SEARCHES)
def test_restarts_never_lose(algorithm, norm, images):
    attack = attack_config(algorithm, norm, steps=5)
    once = bumpy(search(bumpy, images, attack, SEED))
    often = bumpy(search(bumpy, images, dataclasses.replace(attack, restarts=5), SEED))
    assert np.all(often >= once)
    assert algorithm == "fgsm" or np.any(often > once)


@pytest.mark.parametrize(("algorithm", "norm"), [*SEARCHES, ("wrm", "linf")])
@pytest.mark.parametrize("restarts", [1, 3])
def test_best_candidate_is_at_least_as_good_as_the_last_and_as_doing_nothing(algorithm, norm, restarts, images):
    """Merit that loss leads away from: what is kept is what was best by merit."""

    def merit(candidates):
        return -tf.abs(tf.reduce_sum(candidates - images, axis=(1, 2, 3)) - 0.5)

    def objective(candidates):
        return tf.reduce_sum(candidates, axis=(1, 2, 3)), merit(candidates)

    attack = attack_config(algorithm, norm, steps=8, restarts=restarts)
    found, value = search_best(objective, images, attack, SEED)
    np.testing.assert_allclose(value, merit(found), atol=1e-6)
    last = search(lambda candidates: objective(candidates)[0], images, attack, SEED)
    assert np.all(value >= merit(last)) and np.all(value >= merit(images))
    assert np.any(value > merit(last))


@pytest.mark.parametrize(("algorithm", "norm"), SEARCHES)
def test_compiled_equals_eager(algorithm, norm, images):
    attack = attack_config(algorithm, norm, steps=6, restarts=2)

    def smooth(candidates):
        return tf.reduce_sum(candidates * candidates, axis=(1, 2, 3))

    eager = search(smooth, images, attack, SEED)
    np.testing.assert_allclose(compiled_search(smooth, images, attack), eager, atol=1e-5)


def test_apgd_checkpoints_by_hand():
    """p: 0, .22, .41, .57, .70, .80, .87, .93, .99 (Croce and Hein, section 3)."""
    assert checkpoint_steps(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoint_steps(10) == [0, 3, 5, 6, 7, 8, 9, 10]
    assert checkpoint_steps(1) == [0, 1]


def test_apgd_finds_an_inner_peak_that_fixed_steps_miss(images):
    """Where PGD's steps are too long it swings around the peak, where too short it does not get there."""
    target = images + 0.02

    def peak(candidates):
        return -tf.reduce_sum((candidates - target) ** 2, axis=(1, 2, 3))

    losses = [peak(compiled_search(peak, images, attack_config("apgd", "linf", steps=n))) for n in (5, 20, 80)]
    assert np.all(losses[1] >= losses[0]) and np.all(losses[2] > losses[1])
    for step_size in (0.03, 0.0002):
        attack = attack_config("pgd", "linf", steps=80, step_size=step_size)
        assert np.all(losses[2] > peak(compiled_search(peak, images, attack)))


def test_square_improves_monotonically_and_only_looks_at_losses(images):
    """The same draws serve every number of queries of one schedule, so more of them can only help."""
    weights = np.random.default_rng(2).normal(size=SHAPE[1:]).astype("float32")
    seen = []

    def black_box(candidates):
        # No gradient can pass here.
        value = tf.numpy_function(lambda x: (x * weights).sum(axis=(1, 2, 3)), [candidates], tf.float32)
        seen.append(tf.ensure_shape(value, (4,)).numpy())
        return tf.ensure_shape(value, (4,))

    found = search(black_box, images, attack_config("square", "linf", steps=150), SEED)
    best = np.maximum.accumulate(np.stack(seen), axis=0)
    assert len(seen) == 150
    np.testing.assert_allclose((found.numpy() * weights).sum(axis=(1, 2, 3)), best[-1], rtol=1e-5)
    assert np.all(best[-1] > best[0])


def test_square_schedule_by_hand():
    """10,000 queries on 28 x 28 pixels with p = 0.8: side sqrt(0.8 * 784) = 25.04, after query 10 sqrt(0.4 * 784)."""
    sides = side_lengths(10_000, 0.8, 28, 28)
    assert list(sides[[0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]]) == [
        25, 25, 18, 18, 13, 9, 6, 4, 3, 2, 2, 1,
    ]  # fmt: skip
    np.testing.assert_array_equal(side_lengths(1000, 0.8, 28, 28), sides[::10])
    assert side_lengths(5, 1.0, 3, 8).max() == 3


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_nearest_point(norm, images):
    """No point of ball and box is nearer: the variational inequality (z - p).(y - p) <= 0, at random points y."""
    random = np.random.default_rng(5)
    ball = ball_around(images, norm, EPSILON[norm])
    outside = images + tf.constant(random.normal(size=SHAPE), tf.float32)
    projected = ball.project(outside).numpy()
    np.testing.assert_allclose(ball.project(projected), projected, atol=1e-6)
    assert distances(projected, images, norm).max() <= EPSILON[norm] * (1 + 1e-5)
    for _ in range(50):
        other = ball.project(images + tf.constant(random.normal(size=SHAPE), tf.float32)).numpy()
        assert ((outside - projected) * (other - projected)).numpy().sum(axis=(1, 2, 3)).max() <= 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_fill_the_ball(norm):
    """In d dimensions the share of points within half the radius is 2^-d: here d = 2."""
    centre = tf.fill([4000, 1, 2, 1], 0.5)
    points = ball_around(centre, norm, 0.2).random_point(SEED)
    sizes = distances(points, centre, norm)
    assert 0.19 < sizes.max() <= 0.2 + 1e-6
    assert np.mean(sizes < 0.1) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))


def test_l2_direction_of_tiny_and_missing_gradients():
    """Squares of 1e-30 underflow in float32; a direction must come out all the same, and none from zero."""
    ball = ball_around(tf.zeros([2, 1, 2, 1]), "l2", 1.0)
    gradient = tf.constant([[[[3e-30], [-4e-30]]], [[[0.0], [0.0]]]])
    np.testing.assert_allclose(tf.reshape(ball.direction(gradient), (2, 2)), [[0.6, -0.8], [0, 0]], rtol=1e-5)


def test_losses_by_hand():
    logits = tf.constant([[5.0, 3.0, 1.0, -1.0], [0.0, 2.0, 4.0, 8.0]])
    labels = tf.constant([0, 0])
    np.testing.assert_allclose(margin(logits, labels), [3 - 5, 8 - 0])
    np.testing.assert_allclose(dlr(logits, labels), [-2 / (5 - 1), 8 / (8 - 2)])
    targeted = dlr_targeted(logits, labels, tf.constant([2, 1]))
    np.testing.assert_allclose(targeted, [(1 - 5) / (5 - (1 - 1) / 2), (2 - 0) / (8 - (2 + 0) / 2)])
    soft = tf.constant([[0.6, 0.4, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]])
    np.testing.assert_allclose(margin(logits, soft), margin(logits, labels))


@pytest.mark.parametrize("loss", [margin, dlr])
def test_losses_of_all_exits_are_those_of_each(loss):
    logits, labels = tf.random.stateless_normal((5, 3, 4), SEED), tf.constant([0, 3, 1, 2, 2])
    each = tf.stack([loss(logits[:, k], labels) for k in range(3)], axis=1)
    np.testing.assert_allclose(loss(logits, labels), each, rtol=1e-6)


def test_dlr_knows_no_scale_and_no_shift():
    logits, labels = tf.random.stateless_normal((5, 4), SEED), tf.constant([0, 3, 1, 2, 2])
    np.testing.assert_allclose(dlr(1000 * logits + 3, labels), dlr(logits, labels), rtol=1e-3)


def test_targets_are_the_wrong_classes_most_probable_first():
    logits = tf.constant([[0.1, 0.9, 0.5, 0.3], [0.7, 0.2, 0.1, 0.6]])
    np.testing.assert_array_equal(ranked_wrong_classes(logits, tf.constant([1, 2])), [[2, 3, 0], [0, 3, 1]])


def test_targeted_dlr_keeps_the_target_that_hurts_most(images, labels, kernels):
    losses = exit_losses(kernels, "dlr_targeted")

    def hurt(target_classes):
        attack = attack_config("apgd", "linf", loss="dlr_targeted", steps=5, target_classes=target_classes)
        return dlr(losses.single_logits[2](craft("main", losses, images, labels, attack, SEED)), labels)

    assert np.all(hurt(4) >= hurt(1)) and np.any(hurt(4) > hurt(1))
    np.testing.assert_array_equal(hurt(9), hurt(4))


def test_refusals(images, labels, kernels):
    with pytest.raises(ConfigError, match="norm: expected one of linf, l2, got 'l1'"):
        search(bumpy, images, AttackConfig(norm="l1"), SEED)
    with pytest.raises(ConfigError, match="norm: square is implemented for 'linf' alone, got 'l2'"):
        search(bumpy, images, AttackConfig("square", norm="l2"), SEED)
    with pytest.raises(ConfigError, match="loss: expected one of cross_entropy, .*got 'hinge'"):
        loss_function("hinge")
    with pytest.raises(ConfigError, match="loss dlr: expected 3 classes or more, got 2"):
        dlr(tf.zeros([1, 2]), tf.constant([0]))
    whole = exit_losses(kernels, "dlr_targeted")
    blind = ExitLosses(whole.exit_names, whole.single, whole.every)
    with pytest.raises(ConfigError, match="'dlr_targeted' needs the network's logits"):
        craft("main", blind, images, labels, AttackConfig(loss="dlr_targeted"), SEED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluation.norm=l1"], "evaluation.norm: expected one of linf, l2, got 'l1'"),
        (["evaluation.norm=l2", "evaluation.algorithm=square"], "evaluation.norm: expected one of linf, got 'l2'"),
        (["defence.attack.norm=l2", "defence.attack.algorithm=wrm"], "defence.attack.norm: expected one of linf"),
        (["evaluation.loss=hinge"], "evaluation.loss: expected one of cross_entropy"),
        (["evaluation.target_classes=0"], "evaluation.target_classes: expected at least 1, got 0"),
        (["evaluation.square_fraction=0.0"], "evaluation.square_fraction: expected more than 0"),
        (["evaluation.square_fraction=1.1"], "evaluation.square_fraction: expected at most 1"),
        (["evaluation.epsilon=1.5"], "evaluation.epsilon: expected at most 1"),
    ],
)
def test_configuration_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config().with_settings(settings)


def test_an_l2_radius_may_exceed_one():
    config = Config().with_settings(["evaluation.norm=l2", "evaluation.epsilon=2.0", "evaluation.step_size=1.5"])
    assert config.evaluation.epsilon == 2.0


def test_the_papers_forms_are_what_they_were():
    assert form_names(("branch_1", "main")) == ("branch_1", "main", "average", "max_average", "random")


def test_n_fgsm_is_noise_and_one_step_of_epsilon():
    images = tf.constant(np.random.default_rng(0).uniform(0.35, 0.65, SHAPE), tf.float32)  # no pixel comes to be cut
    slopes = tf.constant(np.random.default_rng(1).choice([-1.0, 1.0], SHAPE), tf.float32)
    attack = AttackConfig("n_fgsm", epsilon=0.1, noise=2.0, steps=7, step_size=0.03)
    found = compiled_search(lambda x: tf.reduce_sum(slopes * x, axis=(1, 2, 3)), images, attack)
    noise = (found - images - 0.1 * slopes).numpy()
    assert np.abs(noise).max() <= 0.2 + 1e-6
    assert np.abs(noise).max() > 0.19 and abs(noise.mean()) < 0.03 and abs(noise.std() - 0.2 / 3**0.5) < 0.02
    quiet = dataclasses.replace(attack, noise=0.0)
    np.testing.assert_allclose(
        compiled_search(lambda x: tf.reduce_sum(slopes * x, axis=(1, 2, 3)), images, quiet),
        images + 0.1 * slopes,
        atol=1e-6,
    )


def test_n_fgsm_follows_the_gradient_where_the_noise_has_led():
    images = tf.fill(SHAPE, 0.5)
    attack = AttackConfig("n_fgsm", epsilon=0.1, noise=1.0)
    # The loss is a parabola around the image: the step leads away from it, to the side where the noise went.
    found = compiled_search(lambda x: tf.reduce_sum((x - 0.5) ** 2, axis=(1, 2, 3)), images, attack) - images
    assert np.all((np.abs(found) >= 0.1 - 1e-6) & (np.abs(found) <= 0.2 + 1e-6))


def test_n_fgsm_stays_in_the_pixel_range_and_takes_the_warm_up():
    images = tf.constant(np.random.default_rng(0).uniform(size=SHAPE), tf.float32)
    attack = AttackConfig("n_fgsm", epsilon=0.3)
    found = search(lambda x: tf.reduce_sum(x, axis=(1, 2, 3)), images, attack, SEED).numpy()
    assert found.min() >= 0.0 and found.max() <= 1.0
    still = search(lambda x: tf.reduce_sum(x, axis=(1, 2, 3)), images, attack, SEED, scale=0.0)
    np.testing.assert_array_equal(still, images)
