"""The cascade: the decisions of the exit rule on the logits of all exits, and stages that really do not run."""

import dataclasses
import shutil

import numpy as np
import pytest

from rdi_tf.errors import ConfigError, DataError
from rdi_tf.export import Bundle, BundleError, Cascade, Unsplit
from rdi_tf.export.cascade import SKIPS_UNTIL_RETRY
from rdi_tf.export.manifest import ExitPolicy, Quantisation
from rdi_tf.export.runner import ModelRunner, StageChain, dequantise, quantise
from rdi_tf.policies import decide, get_policy
from rdi_tf.thresholds import equal_share


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][1400:1500]


@pytest.fixture(scope="module")
def cascade(tiny_bundle):
    return Cascade(tiny_bundle())


class Clock:
    """Stands still but for `stages[k]` seconds that stage k takes, and `loading` seconds that loading any takes."""

    def __init__(self):
        self.now = 0.0
        self.stages = [0.010, 0.020, 0.040]
        self.loading = 0.050

    def __call__(self):
        return self.now


@pytest.fixture
def make_timed(tiny_bundle, monkeypatch):
    """Function: options of a `Cascade` -> (cascade, its `Clock`)."""

    def make(**options):
        clock = Clock()
        cascade = Cascade(tiny_bundle(), clock=clock, **options)
        run, load = cascade.chain.run, ModelRunner.__init__

        def timed_run(index, carried):
            clock.now += clock.stages[index]
            return run(index, carried)

        def timed_load(*arguments):
            clock.now += clock.loading
            load(*arguments)

        monkeypatch.setattr(cascade.chain, "run", timed_run)
        monkeypatch.setattr(ModelRunner, "__init__", timed_load)
        return cascade, clock

    return make


@pytest.fixture
def timed(make_timed):
    """(cascade, clock) with all stages loaded."""
    return make_timed()


def never_leave(cascade):
    cascade.thresholds = (cascade.policy.closed,) * 2


def test_single_images_and_batches_are_decided_as_by_all_logits(cascade, images):
    decision = decide(cascade.policy, cascade.exit_logits(images), cascade.thresholds)
    assert set(decision.exits) == {0, 1, 2}
    batch = cascade.predict_batch(images)
    np.testing.assert_array_equal(batch.exits, decision.exits)
    np.testing.assert_array_equal(batch.predictions, decision.predictions)
    rows = np.arange(len(images))
    np.testing.assert_allclose(batch.scores, decision.scores[rows, decision.exits], rtol=1e-12)
    for row, image in enumerate(images):
        one = cascade.predict(image)
        assert (one.exit_index, one.prediction) == (decision.exits[row], decision.predictions[row])
        assert one.exit_name == cascade.exit_names[one.exit_index]
        assert one.label == str(one.prediction)
        np.testing.assert_allclose(one.score, batch.scores[row], rtol=1e-12)
        np.testing.assert_allclose(one.confidence, batch.confidences[row], rtol=1e-12)
        assert len(one.stage_latency_ms) == len(one.exit_logits) == one.exit_index + 1


def test_only_survivors_go_on(cascade, images):
    batch = cascade.predict_batch(images)
    counts = np.bincount(batch.exits, minlength=3)
    assert batch.stage_images == (100, 100 - counts[0], counts[2])


@pytest.mark.parametrize("policy", ["patience", "running_average", "margin"])
def test_other_rules_and_those_that_remember_earlier_exits(tiny_bundle, images, policy):
    bundle = Bundle.open(tiny_bundle())
    thresholds = equal_share(get_policy(policy), Cascade(bundle).exit_logits(images))
    manifest = dataclasses.replace(bundle.manifest, policy=ExitPolicy(policy, thresholds))
    cascade = Cascade(dataclasses.replace(bundle, manifest=manifest))
    decision = decide(cascade.policy, cascade.exit_logits(images), thresholds)
    assert len(set(decision.exits)) > 1
    batch = cascade.predict_batch(images)
    np.testing.assert_array_equal(batch.exits, decision.exits)
    np.testing.assert_array_equal(batch.predictions, decision.predictions)
    assert [cascade.predict(image).prediction for image in images[:20]] == decision.predictions[:20].tolist()


def test_stages_agree_with_the_unsplit_network(tiny_bundle, cascade, images):
    np.testing.assert_allclose(Unsplit(tiny_bundle()).exit_logits(images), cascade.exit_logits(images), atol=1e-5)


def test_lazy_stages_are_loaded_when_an_image_gets_there(tiny_bundle, images):
    cascade = Cascade(tiny_bundle(), lazy=True)
    assert cascade.loaded_stages == (False, False, False)
    cascade.thresholds = (cascade.policy.open, 0.0)
    assert cascade.predict(images[0]).exit_name == "branch_1"
    assert cascade.predict_batch(images).stage_images == (100,)
    assert cascade.loaded_stages == (True, False, False)
    never_leave(cascade)
    assert cascade.predict(images[0]).exit_name == "main"
    assert cascade.loaded_stages == Cascade(tiny_bundle()).loaded_stages == (True, True, True)


def test_thresholds_can_be_changed_and_are_checked(tiny_bundle, images):
    cascade = Cascade(tiny_bundle(), thresholds=(1000.0, 1000.0))
    assert set(cascade.predict_batch(images).exits) == {0}
    never_leave(cascade)
    assert set(cascade.predict_batch(images).exits) == {2}
    for wrong in ((1.0,), (1.0, 1001.0), (-1.5, 0.0), (float("nan"), 0.0), None):
        with pytest.raises(ConfigError, match="thresholds"):
            cascade.thresholds = wrong
    assert cascade.thresholds == (-1.0, -1.0)


def test_streams_answer_before_they_ask_for_more(cascade, images):
    asked = []

    def camera():
        for number, image in enumerate(images[:3]):
            asked.append(number)
            yield image

    stream = cascade.stream(camera())
    first = next(stream)
    assert asked == [0]
    assert first.prediction == cascade.predict(images[0]).prediction
    assert len(list(stream)) == 2


def test_times_are_those_of_the_stages(timed, images):
    cascade, _ = timed
    never_leave(cascade)
    one = cascade.predict(images[0])
    np.testing.assert_allclose(one.stage_latency_ms, [10, 20, 40])
    np.testing.assert_allclose(one.latency_ms, 70)
    np.testing.assert_allclose(cascade.predict_batch(images[:5]).latency_ms, 70)


def test_warm_up_tells_how_long_stages_take(timed, images):
    cascade, _ = timed
    thresholds = cascade.thresholds
    cascade.warm_up(images[0])
    assert cascade.thresholds == thresholds
    never_leave(cascade)
    one = cascade.predict(images[0], deadline_ms=29)
    # stage 2 would end at 30 ms
    assert (one.exit_name, one.by_deadline, one.latency_ms) == ("branch_1", True, pytest.approx(10))


def test_a_warm_up_that_is_refused_leaves_the_thresholds(timed, images):
    cascade, _ = timed
    thresholds = cascade.thresholds
    with pytest.raises(DataError):
        cascade.warm_up(images[0] + 7)
    assert cascade.thresholds == thresholds


def test_a_deadline_that_passes_stops_the_next_stage(timed, images):
    cascade, _ = timed
    never_leave(cascade)
    one = cascade.predict(images[0], deadline_ms=25)
    # nothing is known of the stages yet, so stage 2 is started at 10 ms and ends at 30
    assert (one.exit_name, one.by_deadline, one.stage_latency_ms) == ("branch_2", True, pytest.approx((10, 20)))
    assert one.prediction == cascade.exit_logits(images[:1])[0, 1].argmax()


def test_a_stage_that_would_end_too_late_is_not_started(timed, images):
    cascade, _ = timed
    never_leave(cascade)
    assert not cascade.predict(images[0]).by_deadline
    assert cascade.predict(images[0], deadline_ms=71).exit_name == "main"
    assert cascade.predict(images[0], deadline_ms=69).exit_name == "branch_2"
    assert cascade.predict(images[0], deadline_ms=29).exit_name == "branch_1"
    late = cascade.predict(images[0], deadline_ms=1)
    assert (late.exit_name, late.by_deadline) == ("branch_1", True)


def test_a_stage_that_was_slow_is_tried_again(timed, images):
    cascade, clock = timed
    never_leave(cascade)
    clock.stages = [0.010, 0.400, 0.040]
    for _ in range(40):
        cascade.predict(images[0])
    clock.stages = [0.010, 0.020, 0.040]
    answers = [cascade.predict(images[0], deadline_ms=71) for _ in range(SKIPS_UNTIL_RETRY + 5)]
    assert [one.by_deadline for one in answers] == [True] * SKIPS_UNTIL_RETRY + [False] * 5
    assert answers[-1].exit_name == "main"


def test_a_stage_that_stays_slow_breaks_few_deadlines(timed, images):
    cascade, _ = timed
    cascade.warm_up(images[0])
    never_leave(cascade)
    answers = [cascade.predict(images[0], deadline_ms=29) for _ in range(3 * (SKIPS_UNTIL_RETRY + 1))]
    # stage 2 ends at 30 ms
    assert [one.latency_ms > 29 for one in answers] == ([False] * SKIPS_UNTIL_RETRY + [True]) * 3


def test_a_deadline_that_no_later_stage_could_meet_says_nothing_of_their_speed(timed, images):
    cascade, _ = timed
    cascade.warm_up(images[0])
    never_leave(cascade)
    for _ in range(2 * SKIPS_UNTIL_RETRY):
        assert cascade.predict(images[0], deadline_ms=10).exit_name == "branch_1"
    assert cascade.predict(images[0], deadline_ms=29).exit_name == "branch_1"


def test_loading_counts_against_the_deadline_but_is_no_part_of_a_stages_time(make_timed, images):
    cascade, _ = make_timed(lazy=True)
    never_leave(cascade)
    # 50 ms for each file, 10 + 20 + 40 ms for the stages
    first, second, third, fourth = (cascade.predict(images[0], deadline_ms=75) for _ in range(4))
    assert (first.exit_name, first.by_deadline, first.latency_ms) == ("branch_1", True, pytest.approx(50 + 10 + 50))
    assert (second.exit_name, second.by_deadline, second.latency_ms) == ("branch_2", True, pytest.approx(30 + 50))
    assert first.stage_latency_ms == pytest.approx((10,))
    assert second.stage_latency_ms == pytest.approx((10, 20))
    for later in (third, fourth):
        assert (later.exit_name, later.by_deadline, later.latency_ms) == ("main", False, pytest.approx(70))


def test_no_stage_is_loaded_after_the_deadline(make_timed, images):
    cascade, _ = make_timed(lazy=True)
    never_leave(cascade)
    for answer in (cascade.predict, cascade.predict_batch):
        late = answer(images[0] if answer == cascade.predict else images[:3], deadline_ms=10)
        assert np.all(late.by_deadline)
        assert cascade.loaded_stages == (True, False, False)


def test_loading_counts_against_a_batchs_deadline(make_timed, images):
    cascade, _ = make_timed(lazy=True)
    never_leave(cascade)
    batches = [cascade.predict_batch(images[:5], deadline_ms=75) for _ in range(3)]
    assert [batch.stage_images for batch in batches] == [(5,), (5, 5), (5, 5, 5)]
    assert [batch.by_deadline.all() for batch in batches] == [True, True, False]
    assert batches[1].stage_latency_ms == pytest.approx((10, 20))


def test_who_is_sure_leaves_before_the_deadline_matters(timed, images):
    cascade, _ = timed
    cascade.thresholds = (1000.0, 1000.0)
    one = cascade.predict(images[0], deadline_ms=1)
    assert (one.exit_name, one.by_deadline) == ("branch_1", False)


def test_a_batchs_deadline_ends_those_that_are_left(timed, images):
    cascade, _ = timed
    decision = decide(cascade.policy, cascade.exit_logits(images), cascade.thresholds)
    batch = cascade.predict_batch(images, deadline_ms=15)
    assert len(batch.stage_images) == 2  # the second stage begins at 10 ms and ends at 30
    np.testing.assert_array_equal(batch.exits, np.minimum(decision.exits, 1))
    np.testing.assert_array_equal(batch.by_deadline, decision.exits == 2)


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf")])
def test_unusable_deadlines_are_refused(cascade, images, deadline):
    with pytest.raises(ConfigError, match="deadline_ms: expected a finite number above 0"):
        cascade.predict(images[0], deadline_ms=deadline)
    with pytest.raises(ConfigError, match="deadline_ms: expected a finite number above 0"):
        cascade.predict_batch(images, deadline_ms=deadline)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((28, 28, 1), np.float32), r"expected \(8, 8, 1\) per image, got \(28, 28, 1\)"),
        (np.zeros((8, 8), np.float32), r"expected shape \(batch, height, width, channels\)"),
        (np.zeros((8, 8, 1), np.uint8), "divide by 255"),
        (np.full((8, 8, 1), 2, np.float32), r"expected values in \[0, 1\]"),
        (np.full((8, 8, 1), np.nan, np.float32), "expected finite values"),
    ],
)
def test_unusable_images_are_refused(cascade, image, message):
    with pytest.raises(DataError, match=message):
        cascade.predict(image)
    with pytest.raises(DataError, match=message):
        cascade.predict_batch(image[None])


def test_no_images_are_refused(cascade, tiny_bundle):
    nothing = np.zeros((0, 8, 8, 1), np.float32)
    for call in (cascade.predict_batch, cascade.exit_logits, Unsplit(tiny_bundle()).exit_logits):
        with pytest.raises(DataError, match="expected one at least"):
            call(nothing)


def test_threads(tiny_bundle, cascade, images):
    two = Cascade(tiny_bundle(), num_threads=2)
    np.testing.assert_allclose(two.exit_logits(images[:5]), cascade.exit_logits(images[:5]), atol=1e-5)
    for unusable in (0, 30_000):  # LiteRT crashed with so many
        with pytest.raises(ConfigError, match=f"num_threads: expected 1 to 256, got {unusable}"):
            Cascade(tiny_bundle(), num_threads=unusable)


def test_quantisation_by_hand():
    """scale 0.5, zero point -2: -63 (saturated) … 0 -> -2, 0.5 -> -1, 1.2 -> 0.4 steps up from 0 -> 0, 99 saturated."""
    quantisation = Quantisation(0.5, -2)
    integers = quantise(np.array([-99, 0, 0.5, 1.2, 99], np.float32), quantisation)
    assert integers.dtype == np.int8
    assert integers.tolist() == [-128, -2, -1, 0, 127]
    assert dequantise(integers, quantisation).tolist() == [-63.0, 0.0, 0.5, 1.0, 64.5]


def test_requantising_by_hand(tiny_bundle):
    """-128, -2, -1, 0, 127 stand for -63, 0, 0.5, 1, 64.5; in steps of 0.25 from 3: saturated, 3, 5, 7, saturated."""
    bundle = Bundle.open(tiny_bundle(dtype="int8"))
    before, stage, last = bundle.manifest.stages
    features = dataclasses.replace(before.output("features"), quantisation=Quantisation(0.5, -2))
    before = dataclasses.replace(before, outputs=(before.output("logits"), features))
    taken = dataclasses.replace(stage.input, quantisation=Quantisation(0.25, 3))
    stage = dataclasses.replace(stage, input=taken, handover="requantise")
    chain = StageChain(bundle.path, (before, stage, last), lazy=True)
    handed = chain.hand_over(1, np.array([-128, -2, -1, 0, 127], np.int8))
    assert handed.dtype == np.int8 and handed.tolist() == [-128, 3, 5, 7, 127]


def test_a_stage_that_was_replaced_since_is_not_loaded(tiny_bundle, images, tmp_path):
    folder = shutil.copytree(tiny_bundle(), tmp_path / "bundle")
    cascade = Cascade(folder, lazy=True)
    cascade.thresholds = (cascade.policy.closed, cascade.policy.closed)
    stage = folder / cascade.bundle.manifest.stages[1].file.name
    content = bytearray(stage.read_bytes())
    content[len(content) // 2] ^= 1
    stage.write_bytes(content)
    with pytest.raises(BundleError, match=f"{stage.name}: its SHA-256 is not the one in manifest.json: altered"):
        cascade.predict(images[0])


def test_requantising_between_equal_scales_changes_nothing(tiny_bundle, images):
    bundle = Bundle.open(tiny_bundle(dtype="int8"))
    stages = bundle.manifest.stages
    assert [stage.handover for stage in stages] == ["image", "direct", "direct"]
    through_numbers = [stages[0], *(dataclasses.replace(stage, handover="requantise") for stage in stages[1:])]
    np.testing.assert_array_equal(
        StageChain(bundle.path, through_numbers).exit_logits(images),
        StageChain(bundle.path, stages).exit_logits(images),
    )
