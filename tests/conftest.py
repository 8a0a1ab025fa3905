"""Fixtures that several test files use. Importing this imports no TensorFlow."""

import os
import socket
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


@pytest.fixture
def free_ports():
    """Function: a count -> ports of this machine that nobody listened on a moment ago."""

    def find(count):
        sockets = [socket.socket() for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        return ports

    return find


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
            "policy.name=entropy",
        ]
    )


@pytest.fixture(scope="session")
def trained_run(tiny_config, tmp_path_factory):
    """Folder of a finished, calibrated run of `tiny_config`. Copy it before changing anything in it."""
    from rdi_tf.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_config, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def digits():
    """(images, labels) of scikit-learn's digits: float32 (1797, 8, 8, 1) in [0, 1], int32 (1797,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8, 1).astype("float32") / 16, labels.astype("int32")


@pytest.fixture(scope="session")
def tiny_net(digits):
    """`RDINet` with three exits, batch norm, a shortcut and a padded strided convolution, trained for a few seconds."""
    from rdi_tf._keras import keras
    from rdi_tf.models.resnet import basic_block
    from rdi_tf.network import attach_exits
    from rdi_tf.policies import get_policy
    from rdi_tf.thresholds import equal_share

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="picture")
    x = basic_block(image, 8, "block1")
    x = basic_block(x, 12, "block2", strides=2)
    x = basic_block(x, 12, "block3")
    x = keras.layers.Dense(10, name="logits")(keras.layers.Flatten(name="flatten")(x))
    net = attach_exits(keras.Model(image, x), ["block1_out", "block2_out"])
    images, labels = digits
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.network.compile(keras.optimizers.legacy.Adam(0.01), loss=[loss] * 3)
    net.network.fit(images[:1000], [labels[:1000]] * 3, batch_size=100, epochs=4, verbose=0)
    net.thresholds = equal_share(get_policy("entropy"), net(images[1000:1400]).numpy())
    return net


@pytest.fixture(scope="session")
def tiny_bundle(tiny_net, digits, tmp_path_factory):
    """Function: `ExportOptions` fields -> folder of a bundle of `tiny_net`, made once. Copy it before changing it."""
    made = {}

    def export(**fields):
        from rdi_tf.export.convert import ExportOptions
        from rdi_tf.export.write import export_network

        key = tuple(sorted(fields.items()))
        if key not in made:
            options = ExportOptions(**{"calibration_images": 200, **fields})
            examples = tuple(array[1000:1400] for array in digits)
            folder = tmp_path_factory.mktemp("bundles") / "bundle"
            names = [str(digit) for digit in range(10)]
            made[key] = export_network(tiny_net, folder, options, examples, names, name="tiny").path
        return made[key]

    return export
