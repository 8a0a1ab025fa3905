"""Fixtures that several test files use. Importing this imports no TensorFlow."""

import os
from pathlib import Path

import pytest

# Hardware notes of TensorFlow's C++ side would bury the reasons of failures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def repository():
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared():
    """Folder beside the checkout with the paper's tables, the reference weights and the TFDS data sets."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder 'shared' beside the checkout ({folder})")
    return folder


@pytest.fixture(scope="session")
def tfds_dir():
    """Folder of the TFDS data sets (MNIST, CIFAR-10): TFDS_DATA_DIR, or the one beside the checkout."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or REPOSITORY.parent / "shared" / "tfds")
    if not folder.is_dir():
        pytest.skip(f"needs TFDS data sets (TFDS_DATA_DIR, or {folder})")
    return folder
