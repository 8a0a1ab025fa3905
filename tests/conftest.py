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


@pytest.fixture(scope="session")
def tiny_config():
    """Configuration of a training run that takes seconds: the digits preset, shorter and with weaker attacks."""
    from rdi_tf.config import Config

    return Config.load("digits-smallcnn").with_settings(
        [
            "training.iterations=60",
            "training.batch_size=32",
            "training.learning_rate=0.1",
            "training.ema_decay=0.0",
            "training.validate_every=60",
            "training.validation_images=64",
            "defence.attack.steps=1",
            "defence.attack.epsilon=0.02",
            "evaluation.steps=3",
            "evaluation.epsilon=0.02",
            "evaluation.step_size=0.01",
        ]
    )


@pytest.fixture(scope="session")
def trained_run(tiny_config, tmp_path_factory):
    """Folder of a finished, calibrated run of `tiny_config`. Copy it before changing anything in it."""
    from rdi_tf.training import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_config, folder, progress=False)
    return folder
