"""Checkpoints on a few numbers: which one is taken, what is left lying, what a damaged one does."""

import errno
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf.errors import CheckpointError, DataError, TrainingError
from rdi_tf.training.checkpoints import Checkpoints, full_disk_explained
from rdi_tf.training.history import History
from rdi_tf.training.interrupts import Interrupts


@pytest.fixture
def number():
    return tf.Variable(np.zeros(100, np.float32))


@pytest.fixture
def checkpoints(tmp_path, number):
    return Checkpoints(tmp_path, number=number)


def save(checkpoints, number, *iterations):
    for iteration in iterations:
        number.assign(tf.fill([100], float(iteration)))
        checkpoints.save(iteration)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_are_kept_and_the_newest_is_taken(tmp_path, checkpoints, number):
    assert not checkpoints.restore()
    save(checkpoints, number, 8, 9, 10)
    assert names(tmp_path) == ["ckpt-10", "ckpt-9"]
    number.assign(tf.zeros(100))
    assert Checkpoints(tmp_path, number=number).restore()
    assert set(number.numpy()) == {10.0}


def test_older_runs_keep_all_files_of_the_one_that_was_gone_on_from(tmp_path, checkpoints, number):
    tf.train.Checkpoint(number=number).write(str(tmp_path / "ckpt-5"))  # as files in one folder
    tf.train.Checkpoint(number=number).write(str(tmp_path / "ckpt-10"))
    assert checkpoints.restore()
    save(checkpoints, number, 20)
    assert names(tmp_path) == ["ckpt-10.data-00000-of-00001", "ckpt-10.index", "ckpt-20"]
    save(checkpoints, number, 30)
    assert names(tmp_path) == ["ckpt-20", "ckpt-30"]


DAMAGES = {
    "index": lambda place: (place / "state.index").write_bytes(b"no index"),
    "cut": lambda place: data_of(place).write_bytes(data_of(place).read_bytes()[:-5]),
    "flipped": lambda place: flip_a_byte(data_of(place)),
    "gone": lambda place: (place / "state.index").unlink(),
    "no data": lambda place: data_of(place).unlink(),
    "empty": lambda place: [path.unlink() for path in list(place.iterdir())],
}


def data_of(place):
    return next(place.glob("*.data*"))


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_does_not_push_out_a_good_one(tmp_path, checkpoints, number, capsys, damage):
    save(checkpoints, number, 3, 6)
    DAMAGES[damage](tmp_path / "ckpt-6")
    later = Checkpoints(tmp_path, number=number)
    assert later.restore()
    assert set(number.numpy()) == {3.0}
    words = capsys.readouterr().err
    assert "ckpt-6: a checkpoint that does not fit: " in words and "going on from the one before, ckpt-3" in words
    save(later, number, 5)
    assert names(tmp_path) == ["ckpt-3", "ckpt-5"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_where_none_can_be_read_nothing_is_touched(tmp_path, checkpoints, number, damage):
    save(checkpoints, number, 3, 6)
    for place in tmp_path.iterdir():
        DAMAGES[damage](place)
    with pytest.raises(
        CheckpointError, match="ckpt-6: a checkpoint that does not fit: .*ckpt-3: .*; no checkpoint can"
    ):
        checkpoints.restore()
    assert names(tmp_path) == ["ckpt-3", "ckpt-6"]


def test_another_shape_does_not_fit(tmp_path, checkpoints, number):
    save(checkpoints, number, 3)
    with pytest.raises(CheckpointError, match="ckpt-3: a checkpoint that does not fit"):
        Checkpoints(tmp_path, number=tf.Variable(tf.zeros(7))).restore()


def test_one_that_lacks_a_part_does_not_fit(tmp_path, checkpoints, number):
    save(checkpoints, number, 3)
    parts = {"number": tf.Variable(tf.zeros(100)), "average": tf.Module()}
    parts["average"].value = tf.Variable(1.0)
    with pytest.raises(CheckpointError, match="ckpt-3: a checkpoint that does not fit"):
        Checkpoints(tmp_path, **parts).restore()


def test_a_folder_without_checkpoints_but_with_something_is_refused(tmp_path, checkpoints):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something, but no checkpoint"):
        checkpoints.restore()


def test_one_that_was_being_written_when_the_process_died_is_ignored(tmp_path, checkpoints, number):
    (tmp_path / ".ckpt-4.0123abcd").mkdir()
    (tmp_path / ".ckpt-4.0123abcd" / "state.index").write_bytes(b"half")
    assert not checkpoints.restore()
    save(checkpoints, number, 4)
    assert names(tmp_path) == ["ckpt-4"]


def test_one_that_cannot_be_written_leaves_those_before(tmp_path, checkpoints, number, monkeypatch):
    save(checkpoints, number, 3, 6)

    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/x; {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(TrainingError, match="cannot be written: no space left on device. The last checkpoint is whole"):
        with full_disk_explained(tmp_path):
            checkpoints.save(7)
    assert names(tmp_path) == ["ckpt-3", "ckpt-6"]


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), RuntimeError("something else"), KeyError("full")])
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, full_disk_explained(tmp_path):
        raise error
    assert caught.value is error


@pytest.fixture
def small_disk(tmp_path):
    """Folder on a file system of 256 kilobytes, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=256k none '{folder}' 2>/dev/null"):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    os.system(f"umount '{folder}'")


def test_on_a_disk_that_is_really_full(small_disk, capfd):
    number = tf.Variable(np.zeros(20_000, np.float32))  # 80 kB: two fit, a third does not
    checkpoints = Checkpoints(small_disk, number=number)
    checkpoints.save(1)
    checkpoints.save(2)
    (small_disk / "others").write_bytes(bytes(60_000))
    with pytest.raises(TrainingError, match="cannot be written: no space left on device"):
        with full_disk_explained(small_disk):
            checkpoints.save(3)
    assert names(small_disk) == ["ckpt-1", "ckpt-2", "others"]
    (small_disk / "others").unlink()
    Checkpoints(small_disk, number=number).restore()


def test_history_is_written_and_read_back(tmp_path):
    history = History(tmp_path / "history.csv")
    assert history.is_best(0.0) and not history.has(3)
    assert (history.rows, history.best) == ((), None)
    history.add(3, {"clean_accuracy": 0.5, "robust_accuracy": 1 / 3})
    history.add(6, {"clean_accuracy": 0.75, "robust_accuracy": 0.25})
    history.add(9, {"clean_accuracy": 1, "robust_accuracy": 1 / 3})
    assert history.best == {"iteration": 3, "clean_accuracy": 0.5, "robust_accuracy": 0.333333}  # the first of equals
    history.trim(8)
    text = "iteration,clean_accuracy,robust_accuracy\n3,0.5,0.333333\n6,0.75,0.25\n"
    assert (tmp_path / "history.csv").read_bytes().replace(b"\r", b"") == text.encode()
    again = History(tmp_path / "history.csv")
    assert again.has(6) and not again.is_best(1 / 3) and again.is_best(0.3334)
    again.trim(5)
    assert History(tmp_path / "history.csv").has(3) and not History(tmp_path / "history.csv").has(6)
    again.trim(2)
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"iteration,clean_accuracy,robust_accuracy\n3,abc,0.5\n",
        b"iteration,clean_accuracy,robust_accuracy\n3,0.5\n",
        b"iteration,clean_accuracy,robust_accuracy\n3,0.5,0.5,1\n",
        b"iteration,clean_accuracy,robust_accuracy\n3.5,0.5,0.5\n",
        b"\xff\xfe",
    ],
)
def test_another_file_is_no_history(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(DataError, match="history.csv: expected a training's history, got "):
        History(tmp_path / "history.csv")


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_held_back_until_it_is_asked_for(number, raised):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        interrupts.check()
        os.kill(os.getpid(), number)
        with pytest.raises(raised) as caught:
            interrupts.check()
    assert raised is KeyboardInterrupt or caught.value.code == 143
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one was held back, too")
