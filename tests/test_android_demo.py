"""The demo app's files that need no Android tools: its bundles, its samples, and two builds that must agree."""

import re

import numpy as np
import pytest

from rdi_tf.errors import DataError
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.cascade import Cascade
from rdi_tf.export.verify import check_golden
from rdi_tf.latency import MeasuredImages
from rdi_tf.plain_values import build_dataclass


@pytest.fixture
def demo(repository):
    return repository / "android_demo"


@pytest.fixture
def assets(demo):
    return demo / "app" / "src" / "main" / "assets"


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_bundles_hold_and_call_the_samples_right(assets, dtype):
    cascade = Cascade(Bundle.open(assets / "bundles" / dtype))
    assert check_golden(cascade).passed
    with np.load(assets / "samples" / "samples.npz") as samples:
        right, left_early = {}, {}
        for version in ("clean", "adversarial", "slowdown"):
            images = samples[version][:100].astype(np.float32) / np.float32(255)
            answer = cascade.predict_batch(images)
            right[version] = (answer.predictions == samples["labels"][:100]).mean()
            left_early[version] = (answer.exits == 0).mean()
    assert min(right.values()) >= 0.94
    assert left_early["clean"] > left_early["slowdown"]  # the attack on the savings shows


def test_gradle_and_maven_use_the_same_libraries(demo):
    pom = (demo / "pom.xml").read_text(encoding="utf-8")
    gradle = "".join((demo / name / "build.gradle").read_text(encoding="utf-8") for name in ("app", "core"))
    for name, library in {
        "robolectric": "org.robolectric:robolectric",
        "json": "org.json:json",
        "jna": "net.java.dev.jna:jna",
        "junit": "junit:junit",
    }.items():
        (wanted,) = re.findall(rf"<{name}.version>(.+)</{name}.version>", pom)
        assert set(re.findall(rf"'{re.escape(library)}:([^']+)'", gradle)) == {wanted}


def test_target_sdk_is_the_one_that_is_tested(demo):
    gradle = (demo / "app" / "build.gradle").read_text(encoding="utf-8")
    (target,) = re.findall(r"targetSdk (\d+)", gradle)
    tests = [path.read_text(encoding="utf-8") for path in (demo / "app" / "src" / "test").rglob("*Test.java")]
    assert tests and all(f"@Config(sdk = {target}," in text for text in tests)
    (android,) = re.findall(r"<android-all.version>(\d+)-", (demo / "pom.xml").read_text(encoding="utf-8"))
    assert (android, target) == ("13", "33")  # Android 13 is API 33


def test_whole_numbers_of_the_apps_json_are_read():
    table = {"source": "", "count": 16, "sha256": "", "accuracy": 1}  # org.json writes 1.0 so
    assert build_dataclass(MeasuredImages, table, "images").accuracy == 1
    with pytest.raises(DataError, match="images: accuracy: expected float"):
        build_dataclass(MeasuredImages, {**table, "accuracy": "1"}, "images")
