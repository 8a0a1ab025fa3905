"""Run folders and files that appear whole or not at all."""

import errno
import os
import subprocess
import sys

import pytest

from rdi_tf import runs
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


def test_create_again_where_a_process_was_killed_while_it_made_the_folder(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rdi_tf.runs.write_atomic", killed)
        RunFolder.create(tmp_path / "run", CONFIG)
    (tmp_path / "run" / ".DS_Store").write_bytes(b"")
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert run.config == CONFIG and run.checkpoints.is_dir()


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
    with pytest.raises(CheckpointError, match="config.toml: unknown key model.flavour"):
        _ = RunFolder.open(tmp_path).config


HOLD = """
import sys
from rdi_tf.runs import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    input()
"""


def test_one_process_holds_a_folder_and_a_killed_one_frees_it(tmp_path):
    pytest.importorskip("fcntl")
    run = RunFolder.create(tmp_path / "run", CONFIG)
    command = [sys.executable, "-c", HOLD, str(run.path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointError, match="run is being trained by another process"), run.locked():
            pass
        holder.kill()
    for _ in range(2):
        with run.locked():
            assert run.lock_file.read_bytes() == b""


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, capsys):
    pytest.importorskip("fcntl")

    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(runs.fcntl, "flock", no_locks)
    with RunFolder.create(tmp_path / "run", CONFIG).locked():
        assert "run: its file system knows no locks" in capsys.readouterr().err


def test_without_fcntl_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "fcntl", None)
    run = RunFolder.create(tmp_path / "run", CONFIG)
    with run.locked(), run.locked():
        pass


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
