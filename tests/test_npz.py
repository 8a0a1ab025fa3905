"""NPZ files that are damaged in any way end in a `DataError` that names the file."""

import zipfile

import numpy as np
import pytest

from rdi_tf.errors import DataError
from rdi_tf.npz import readable_npz


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "images.npz"
    np.savez_compressed(path, images=np.arange(3000).reshape(3, 1000), labels=np.arange(3))
    return path


def read(path):
    with readable_npz(path, "kept images") as arrays:
        return {name: arrays[name] for name in ("images", "labels")}


def test_what_is_whole_is_read(file):
    np.testing.assert_array_equal(read(file)["labels"], [0, 1, 2])


@pytest.mark.parametrize("content", [b"", b"PK", b"text", b"\x93NUMPY\x01\x00"], ids=["empty", "zip", "text", "npy"])
def test_other_files_are_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(DataError, match="images.npz: cannot be read as kept images: "):
        read(file)


def test_wherever_it_is_damaged_it_is_refused_or_read_right(file):
    whole, right = file.read_bytes(), read(file)
    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read(file)
    for place in range(0, len(whole), 5):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read(file)
        except DataError:
            continue
        assert all(np.array_equal(found[name], right[name]) for name in right), place


def npy(header, version=(1, 0)):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        npy("-" * 9000),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 28, 28, 1), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1180591620717411303424), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"x" * 8,
        npy("{'descr': "),
        npy("{}", (9, 0)),
    ],
    ids=["deep", "huge", "no numbers", "objects", "unfinished", "version"],
)
def test_headers_that_lead_astray(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images.npy", content)
        archive.writestr("labels.npy", content)
    with pytest.raises(DataError, match="images.npz: cannot be read as kept images: "):
        read(tmp_path / "images.npz")


def test_members_that_cannot_be_unpacked(file):
    with zipfile.ZipFile(file) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist()}
    for kind in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, content in arrays.items():
                archive.writestr(name, content)
        content = bytearray(file.read_bytes())
        content[60:90] = bytes(30)
        file.write_bytes(content)
        with pytest.raises(DataError):
            read(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", arrays["images.npy"])
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # encrypted, it says
    file.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        read(file)


def test_arrays_that_are_missing_and_lone_arrays(file, tmp_path):
    with pytest.raises(DataError, match="cannot be read as NPZ: .*scores"), readable_npz(file) as arrays:
        arrays["scores"]
    np.save(tmp_path / "lone.npy", np.arange(3))
    with pytest.raises(DataError, match="lone.npy"):
        read(tmp_path / "lone.npy")
    with pytest.raises(DataError, match="none.npz"):
        read(tmp_path / "none.npz")


def test_words_of_the_block_are_kept(file):
    with pytest.raises(DataError, match="^no such set$"), readable_npz(file):
        raise DataError("no such set")
