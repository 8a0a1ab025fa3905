"""Bundles on disk: what is written is read back, and nothing that was altered, cut off or misdescribed is used."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
import zipfile

import numpy as np
import pytest

from rdi_tf.errors import ConfigError
from rdi_tf.export import Bundle, BundleError, Cascade, Manifest
from rdi_tf.export.bundle import describe_file, new_bundle
from rdi_tf.export.golden import _extreme_scores, _withstands_search
from rdi_tf.export.manifest import ExitPolicy
from rdi_tf.policies import decide, get_policy


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A float32 bundle that may be damaged."""
    return shutil.copytree(tiny_bundle(), tmp_path / "bundle")


@pytest.fixture
def table(folder):
    return json.loads((folder / "manifest.json").read_text())


def edited(folder, change):
    """Write the manifest again after `change(table)`."""
    path = folder / "manifest.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def test_a_manifest_is_read_as_it_was_written(folder):
    manifest = Bundle.open(folder).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_manifest_describes_the_network(folder, tiny_net):
    manifest = Bundle.open(folder).manifest
    assert manifest.exit_names == ("branch_1", "branch_2", "main")
    assert manifest.policy.thresholds == tuple(tiny_net.thresholds)
    assert manifest.input_shape == (8, 8, 1)
    assert [stage.input.name for stage in manifest.stages] == ["image", "features", "features"]
    assert [stage.input.shape for stage in manifest.stages] == [(1, 8, 8, 1), (1, 8, 8, 8), (1, 4, 4, 12)]
    assert manifest.stages[0].output("logits").shape == (1, 10)
    assert manifest.stages[2].output("features") is None
    assert manifest.stage_bytes == sum((folder / f"stage_{k}.tflite").stat().st_size for k in (1, 2, 3))
    assert len(manifest.files) == 5


def test_golden_vectors_take_from_every_exit_in_turn(folder):
    golden = Bundle.open(folder).golden()
    assert len(golden.images) == 16
    assert np.bincount(golden.exits).tolist() == [6, 5, 5]


@pytest.mark.parametrize("name", ["stage_2.tflite", "unsplit.tflite", "golden.npz"])
def test_altered_files_are_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: its SHA-256 is not the one in manifest.json"):
        Bundle.open(folder)


def test_a_bundle_is_named_by_the_manifest_that_was_read(folder):
    """Another may take its place while it is measured."""
    bundle, manifest = Bundle.open(folder), folder / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text("another")
    assert bundle.sha256 == digest


def test_cut_off_files_are_refused(folder):
    content = (folder / "stage_1.tflite").read_bytes()
    (folder / "stage_1.tflite").write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"expected {len(content)} bytes, got {len(content) - 1}"):
        Bundle.open(folder)


def test_missing_files_are_named(folder):
    (folder / "stage_3.tflite").unlink()
    with pytest.raises(BundleError, match="stage_3.tflite is missing"):
        Bundle.open(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match="is not a bundle: it has no manifest.json"):
        Bundle.open(folder)
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(folder / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(format=2), r"format 2 is newer than this rdi-tf reads \(1\); update rdi-tf"),
        (lambda t: t.pop("format"), "it has no format number"),
        (lambda t: t.pop("labels"), "missing key labels"),
        (lambda t: t["policy"].update(extra=1), "unknown key policy.extra; expected one of name"),
        (lambda t: t["stages"].pop(), "stages: expected one for each of the 3 exits, got 2"),
        (lambda t: t["stages"][1].pop("file"), r"missing key stages\[1\].file"),
        (lambda t: t["stages"].reverse(), r"stages\[0\]: expected input 'image'"),
        (lambda t: t["stages"][0]["file"].update(name="../stage_1.tflite"), "expected a plain name"),
        (
            lambda t: t["stages"][0]["file"].update(name="stage_2.tflite"),
            "name 'stage_2.tflite': expected .* each once",
        ),
        (lambda t: t["stages"][0]["file"].update(bytes="many"), r"stages\[0\].file.bytes: expected int, got 'many'"),
        (lambda t: t["stages"][1].update(handover="image"), r"stages\[1\].handover: expected 'image' for the first"),
        (lambda t: t["stages"][0].update(outputs=[]), r"stages\[0\]: expected outputs .*, got \[\]"),
        (lambda t: t["policy"].update(thresholds=[0.5]), "thresholds: expected 2 numbers"),
        (lambda t: t["policy"].update(thresholds=[0.5, 2000.0]), "thresholds: expected -1 .* to 1000 .*got 2000.0"),
        (lambda t: t["policy"].update(thresholds=[0.5, float("nan")]), "expected finite numbers, got NaN"),
        (lambda t: t["policy"].update(name="psychic"), "policy: expected one of entropy"),
        (lambda t: t.update(labels=["a\nb", *"123456789"]), "name, labels: expected text without control characters"),
        (lambda t: t["labels"].pop(), r"stages\[0\]: expected logits of shape \(1, 9\), got \(1, 10\)"),
        (lambda t: t.update(batch_size=0), "batch_size: expected at least 1, or null"),
        (lambda t: t.update(dtype="int4"), "dtype: expected one of float32"),
        (lambda t: t["golden"].update(tolerance=0), "golden: expected one image or more and a tolerance above 0"),
        (lambda t: t["costs"].update(executed_macs=[1.0]), "costs: expected one cost for each exit"),
        (lambda t: t["preprocessing"].update(channels=2), "preprocessing: expected"),
        (
            lambda t: t["policy"].update(thresholds=[10**400, 0]),
            r"thresholds\[0\]: expected a number that fits a float",
        ),
        (lambda t: t["stages"][0]["input"].update(dtype="int8"), "image: expected float32, or int8 with its"),
    ],
)
def test_manifests_that_cannot_be_used_are_one_clear_line(folder, change, message):
    edited(folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"x"', "null", '{"format": true}', "[" * 100_000, "1" * 5000])
def test_text_that_is_no_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="manifest.json"):
        Bundle.open(folder)


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(folder)


@pytest.mark.parametrize("content", [b"", b"no zip", "other shapes", "missing"])
def test_golden_vectors_must_be_what_the_manifest_says(folder, content):
    path = folder / "golden.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        golden = Bundle.open(folder).golden()
        arrays = {field.name: getattr(golden, field.name) for field in dataclasses.fields(golden)}
        arrays["exits"] = arrays["exits"][:3]
        if content == "missing":
            del arrays["exits"]
        np.savez(path, **arrays)
    described = dataclasses.asdict(describe_file(path))
    edited(folder, lambda table: table["golden"]["file"].update(described))
    with pytest.raises(BundleError, match="golden.npz: "):
        Bundle.open(folder).golden()


def with_golden(folder, write):
    """Write the golden vectors anew, and the manifest so that the checksums hold all the same."""
    golden, path = Bundle.open(folder).golden(), folder / "golden.npz"
    arrays = {field.name: getattr(golden, field.name).copy() for field in dataclasses.fields(golden)}
    write(path, arrays)
    edited(folder, lambda table: table["golden"]["file"].update(dataclasses.asdict(describe_file(path))))


def compressed(path, arrays):
    np.savez_compressed(path, **arrays)


def not_finite(path, arrays):
    arrays["exit_logits"][0, 0, 0] = np.nan
    np.savez(path, **arrays)


def far_too_large(path, arrays):
    """The header of the images claims more than there is."""
    np.savez(path, **arrays)
    content, (count, *_) = path.read_bytes(), arrays["images"].shape
    path.write_bytes(content.replace(f"({count}, 8".encode(), f"({9:<{len(str(count))}}, 8".encode()))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (compressed, "neither compressed nor encrypted"),
        (not_finite, "expected finite numbers"),
        (far_too_large, "expected float32"),
    ],
)
def test_golden_vectors_of_strangers(folder, write, said):
    with_golden(folder, write)
    with pytest.raises(BundleError, match=said):
        Bundle.open(folder).golden()


def test_no_memory_for_more_than_a_file_holds(folder):
    """Manifest and header agree on a trillion images; the file has a few."""
    trillion = 10**12

    def write(path, arrays):
        header = np.lib.format.header_data_from_array_1_0(arrays["images"])
        with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (trillion, *arrays["images"].shape[1:])})

    with_golden(folder, write)
    edited(folder, lambda table: table["golden"].update(images=trillion))
    with pytest.raises(BundleError, match="which is more than the file holds"):
        Bundle.open(folder).golden()


@pytest.mark.parametrize("name", ["manifest.json", "unsplit.tflite"])
def test_endless_files_are_refused(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="expected a file, got something else"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("old", "new"), [('"images": 16', f'"images": {"9" * 5000}'), ('"0",', '"\\ud800",'), ('"0",', '"\\u001b[2J",')]
)
def test_manifests_of_strangers(folder, old, new):
    text = (folder / "manifest.json").read_text()
    assert old in text
    (folder / "manifest.json").write_text(text.replace(old, new, 1))
    with pytest.raises(BundleError, match="manifest.json: "):
        Bundle.open(folder)


def test_no_disturbance_of_the_tolerance_moves_a_golden_vector(folder):
    """Random signs, and the signs by which single exits' scores move most."""
    bundle = Bundle.open(folder)
    golden, manifest = bundle.golden(), bundle.manifest
    policy, random = get_policy(manifest.policy.name), np.random.default_rng(0)
    one_class = 2 * np.eye(golden.exit_logits.shape[-1])[:, None, None, :] - 1
    for signs in (*random.choice((-1.0, 1.0), (50, *golden.exit_logits.shape)), *one_class, *-one_class):
        moved = decide(policy, golden.exit_logits + manifest.golden.tolerance * signs, manifest.policy.thresholds)
        assert (moved.exits == golden.exits).all() and (moved.predictions == golden.predictions).all()


def test_search_finds_what_random_signs_do_not(monkeypatch):
    """One exit decision of two that hangs on every class moving the right way at once."""
    logits = np.array([[[6.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [6.0] + 9 * [0.0]]])
    policy = get_policy("entropy")
    moved = _extreme_scores(ExitPolicy("entropy", (1.0,)), logits, 0, 0.5, 1)
    by_hand = policy.scores(logits + 0.5 * np.array([-1.0] + 9 * [1.0]))[:, 0]
    assert moved == pytest.approx(by_hand)
    assert policy.scores(logits)[0, 0] < by_hand[0]
    between = (by_hand[0] + policy.scores(logits)[0, 0]) / 2
    exits = np.array([0])
    assert not _withstands_search(ExitPolicy("entropy", (between,)), logits, exits, 0.5)[0]
    assert _withstands_search(ExitPolicy("entropy", (by_hand[0] + 1e-6,)), logits, exits, 0.5)[0]


@pytest.mark.parametrize("entry", ["shape", "tensor quantisation", "position"])
def test_files_must_be_what_the_manifest_says(tiny_bundle, tmp_path, entry):
    folder = shutil.copytree(tiny_bundle(dtype="int8"), tmp_path / "bundle")

    def change(table):
        if entry == "shape":
            table["batch_size"] = 2
            for piece in (*table["stages"], table["unsplit"]):
                for tensor in (piece["input"], *piece["outputs"]):
                    tensor["shape"][0] = 2
        elif entry == "position":
            table["stages"][1]["input"]["position"] = 7
        else:
            table["stages"][1]["outputs"][0]["quantisation"]["zero_point"] += 1

    edited(folder, change)
    with pytest.raises(BundleError, match="the manifest says .* the file"):
        Cascade(folder)


def test_a_manifest_that_cannot_be_run_cannot_be_made(folder):
    manifest = Bundle.open(folder).manifest
    with pytest.raises(ConfigError, match="stages: expected one for each"):
        dataclasses.replace(manifest, stages=manifest.stages[:2])


def test_a_bundle_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), new_bundle(tmp_path / "new") as folder:
        (folder / "manifest.json").write_text("half")
        assert not (tmp_path / "new").exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with new_bundle(tmp_path / "new") as folder:
        (folder / "manifest.json").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_only_bundles_are_overwritten_and_only_when_asked(folder, tmp_path):
    place = tmp_path / "place"
    for name, file, text in (("other", "thesis.txt", "old"), ("web_app", "manifest.json", '{"name": "my web app"}')):
        (place / name).mkdir(parents=True)
        (place / name / file).write_text(text)
    shutil.copytree(folder, place / "bundle")
    with pytest.raises(BundleError, match="exists already"), new_bundle(place / "bundle"):
        pytest.fail("must not get here")
    for name in ("other", "web_app"):
        with pytest.raises(BundleError, match="is not a bundle; it is not overwritten"):
            with new_bundle(place / name, overwrite=True):
                pytest.fail("must not get here")
    with new_bundle(place / "bundle", overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert (place / "bundle" / "manifest.json").read_text() == "new"
    assert sorted(path.name for path in place.iterdir()) == ["bundle", "other", "web_app"]


def test_a_bundle_with_someones_own_files_is_not_overwritten(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="holds 'notes.txt', which is not the bundle's"):
        with new_bundle(folder, overwrite=True):
            pytest.fail("must not get here")


def test_a_bundle_that_could_not_be_replaced_stays(folder, monkeypatch):
    place, rename = folder.parent, os.rename

    def once(source, target):
        if target == folder and not source.name.endswith(".old"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", once)
    with pytest.raises(KeyboardInterrupt), new_bundle(folder, overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert Bundle.open(folder) and [path.name for path in place.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_whose_replacement_was_killed_comes_back(folder):
    """Between the two renames a killed process leaves it under a hidden name; the next one brings it back."""
    old = folder.with_name(f".{folder.name}.0a1b2c3d.old")
    folder.rename(old)
    with pytest.raises(BundleError, match="exists already"), new_bundle(folder):
        pytest.fail("must not get here")
    assert Bundle.open(folder) and not old.exists()
    shutil.copytree(folder, old)
    with new_bundle(folder, overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert (folder / "manifest.json").read_text() == "new" and not old.exists()


def test_what_killed_exports_left_is_cleared_up_and_nothing_else(folder):
    def hidden(name, age=0):
        path = shutil.copytree(folder, folder.with_name(name))
        os.utime(path, (time.time() - age,) * 2)
        return path

    day = 24 * 3600
    abandoned = hidden(f".{folder.name}.0a1b2c3d", 2 * day)
    others = [
        hidden(f".{folder.name}.0a1b2c3e"),  # may be in the making
        hidden(f".{folder.name}.1.0a1b2c3d.old", 2 * day),  # the only copy of the bundle NAME.1
        hidden(f".{folder.name}.notes", 2 * day),
    ]
    with new_bundle(folder, overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert not abandoned.exists() and all(map(os.path.exists, others))


def test_a_bundle_behind_a_link_is_overwritten_where_it_is(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    with new_bundle(link, overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert link.is_symlink() and (folder / "manifest.json").read_text() == "new"


def test_a_bundle_may_be_made_where_one_stands(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with new_bundle(".", overwrite=True) as temporary:
        (temporary / "manifest.json").write_text("new")
    assert (folder / "manifest.json").read_text() == "new"
