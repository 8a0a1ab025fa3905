"""The wheel: what it holds, what it asks for, and that its version stands in one place."""

import email
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import rdi_tf


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the checkout, opened."""
    from conftest import REPOSITORY

    source = tmp_path_factory.mktemp("source")
    for name in ("rdi_tf", "cli", "export"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = "import setuptools.build_meta as backend; backend.build_wheel('.')"
    result = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (path,) = source.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_nothing_lands_outside_the_package(wheel):
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"rdi_tf"}


def test_wheel_holds_every_module_and_preset(wheel, repository):
    expected = set()
    for folder, target in (("rdi_tf", "rdi_tf"), ("cli", "rdi_tf/cli"), ("export", "rdi_tf/export")):
        for path in (repository / folder).rglob("*"):
            if path.suffix in (".py", ".toml"):
                expected.add(f"{target}/{path.relative_to(repository / folder).as_posix()}")
    assert {"rdi_tf/cli/main.py", "rdi_tf/export/__init__.py"} <= expected
    held = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert held == expected


def test_version_and_licence(metadata):
    assert metadata["Version"] == rdi_tf.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"


def test_base_install_asks_for_no_tensorflow(metadata):
    base = {re.match(r"[\w-]+", line)[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert base == {"ai-edge-litert", "click", "numpy", "pillow", "tomli_w"}


def test_train_extra_names_every_module_that_is_explained(metadata):
    """An error that says that the extra `train` brings a module must be right about it."""
    from rdi_tf.errors import TRAIN_MODULES

    distributions = {"sklearn": "scikit-learn"}
    train = {
        re.match(r"[\w-]+", line)[0].replace("-", "_") for line in metadata.get_all("Requires-Dist") if "train" in line
    }
    assert {distributions.get(name, name).replace("-", "_") for name in TRAIN_MODULES} <= train


def test_entry_point(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "rdi-tf = rdi_tf.cli.main:main" in wheel.read(name).decode()


def test_every_public_name_resolves():
    assert rdi_tf.__all__
    for name in rdi_tf.__all__:
        assert getattr(rdi_tf, name) is not None
        assert name in dir(rdi_tf)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rdi_tf.no_such_name
