"""Run folders and files that appear whole or not at all."""

import pytest

from rdi_tf.config import Config
from rdi_tf.errors import CheckpointError
from rdi_tf.runs import RunFolder, atomic_path, write_atomic

CONFIG = Config(name="tiny").with_settings(["training.seed=3", 'model.exits=["a", "b"]'])


def test_create_and_open(tmp_path):
    run = RunFolder.create(tmp_path / "deep" / "run", CONFIG)
    assert {path.name for path in run.path.iterdir()} == {"config.toml", "checkpoints", "logs", "evaluation"}
    assert run.checkpoints.is_dir() and run.logs.is_dir() and run.evaluation.is_dir()
    assert (run.model_file.name, run.history_file.name) == ("model.keras", "history.csv")
    assert RunFolder.open(run.path).config == run.config == CONFIG


def test_create_again_keeps_what_is_there(tmp_path):
    run = RunFolder.create(tmp_path, CONFIG)
    run.model_file.write_bytes(b"weights")
    before = run.config_file.stat().st_mtime_ns
    RunFolder.create(tmp_path, CONFIG)
    assert run.model_file.read_bytes() == b"weights"
    assert run.config_file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.seed=4", "training.seed is 3 there, 4 here"),
        ("defence.attack.epsilon=0.1", "defence.attack.epsilon is 0.3 there, 0.1 here"),
        ('model.exits=["a"]', "model.exits is"),
    ],
)
def test_create_refuses_another_configuration(tmp_path, setting, message):
    run = RunFolder.create(tmp_path, CONFIG)
    before = run.config_file.read_text()
    with pytest.raises(CheckpointError, match=message):
        RunFolder.create(tmp_path, CONFIG.with_settings([setting]))
    assert run.config_file.read_text() == before


def test_create_refuses_a_key_that_only_one_side_has(tmp_path):
    RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match=r"model.exits is \['a', 'b'\] there, None here"):
        RunFolder.create(tmp_path, Config(name="tiny").with_settings(["training.seed=3"]))


def test_create_refuses_other_places(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not empty and not a run folder"):
        RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match="cannot be made a run folder"):
        RunFolder.create(tmp_path / "holiday.jpg", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_open_refuses_what_is_not_a_run_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="is not a run folder: it has no config.toml"):
            RunFolder.open(path)
    (tmp_path / "config.toml").write_text("[model]\nflavour = 'sweet'\n")
    with pytest.raises(CheckpointError, match="config.toml: model: unknown key 'flavour'"):
        _ = RunFolder.open(tmp_path).config


@pytest.mark.parametrize("content", ["première\n", b"\x00\xff\r\n"])
def test_write_atomic(tmp_path, content):
    path = tmp_path / "file.txt"
    path.write_text("old and longer than what replaces it")
    write_atomic(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_shows_the_file_only_when_it_is_whole(tmp_path):
    path = tmp_path / "model.keras"
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".keras")
        temporary.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("disk")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_says_when_nothing_was_written(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_bytes() == b"old"
