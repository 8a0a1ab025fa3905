"""Who may import whom (cli -> export -> rdi_tf, never back), and what a device can import without TensorFlow."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rdi_tf.errors import TRAIN_MODULES

REPOSITORY = Path(__file__).parents[1]

# What runs on a device, or before TensorFlow is wanted. A name may be missing only while it is not written yet.
DEVICE_MODULES = (
    "rdi_tf",
    "rdi_tf.config",
    "rdi_tf.errors",
    "rdi_tf.policies",
    "rdi_tf.evaluation.results",
    "rdi_tf.thresholds",
    "rdi_tf.runs",
    "rdi_tf.export",
    "rdi_tf.cli.main",
)


def imported(path):
    """Absolute names of everything that a file imports, at any depth of it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                pytest.fail(f"{path}:{node.lineno}: relative import; this test can only follow absolute ones")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def offenders(folder, forbidden):
    """`file imports name` for each import below `folder` of a forbidden package."""
    return [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for name in sorted(imported(path))
        if any(f"{name}.".startswith(f"{package}.") for package in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("rdi_tf", ("rdi_tf.cli", "rdi_tf.export", "cli", "export")), ("export", ("rdi_tf.cli", "cli", "export"))],
)
def test_imports_point_one_way(folder, forbidden):
    assert list((REPOSITORY / folder).rglob("*.py"))
    assert offenders(folder, forbidden) == []


def test_imported_sees_every_kind_of_import(tmp_path):
    source = "import a.b as c\nfrom d import e\ndef f():\n    from rdi_tf.export import g\n"
    (tmp_path / "x.py").write_text(source)
    assert imported(tmp_path / "x.py") == {"a.b", "d.e", "rdi_tf.export.g"}


@pytest.mark.parametrize("folder", ["rdi_tf", "export", "cli", "tests", "benchmarks"])
def test_keras_is_chosen_in_one_place(folder):
    """Only `rdi_tf/_keras.py` imports tf_keras; nothing imports Keras 3 or uses tf.keras."""
    wrong = []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for name in imported(path):
            top = name.partition(".")[0]
            if (top == "tf_keras" and path.name != "_keras.py") or top == "keras" or "tensorflow.keras" in name:
                wrong.append(f"{path.relative_to(REPOSITORY)} imports {name}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.keras":
                wrong.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} uses tf.keras")
    assert wrong == []


def python(code):
    """Run code in a Python where nothing of the train extra can be imported."""
    blocked = f"import sys\nfor name in {sorted(TRAIN_MODULES)!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, timeout=60)


def exists(module):
    parts = module.split(".")
    folder = REPOSITORY.joinpath(*(parts[1:] if parts[1:2] in (["cli"], ["export"]) else parts))
    return folder.is_dir() or folder.with_suffix(".py").is_file()


@pytest.mark.parametrize("module", [name for name in DEVICE_MODULES if exists(name)])
def test_device_module_imports_without_the_train_extra(module):
    result = python(f"import {module}")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_block_blocks():
    assert "ModuleNotFoundError" in python("import tensorflow").stderr


def test_public_name_without_the_train_extra_says_what_to_install():
    result = python("import rdi_tf\nrdi_tf.Config\nrdi_tf.RDINet")
    assert result.returncode != 0
    assert re.match("rdi_tf.errors.MissingExtraError: (tensorflow|tf_keras) is not", result.stderr.splitlines()[-1])
    assert "pip install '.[train]'" in result.stderr


def test_other_missing_modules_are_not_explained_away():
    result = python("import rdi_tf.errors\nwith rdi_tf.errors.explain_missing_extra(): import no_such_module")
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
