"""RDINet: its exits, its file, and one step of training worked out in NumPy."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.network import RDINet, attach_exits, build, load

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01
EXIT_WEIGHTS = (0.5, 2.0)
STILL = DefenceConfig(name="main_branch", attack=AttackConfig(epsilon=0.0, step_size=0.0, steps=1))


def linear_net(seed=0):
    """Two exits, 3 classes, both linear in the four pixels: gradients can be written down."""
    images = keras.Input((2, 2, 1))
    pixels = keras.layers.Flatten()(images)
    outputs = []
    for name in ("branch_1", "main"):
        initializer = keras.initializers.RandomNormal(stddev=1.0, seed=seed + len(outputs))
        logits = keras.layers.Dense(3, kernel_initializer=initializer, name=f"{name}_logits")(pixels)
        outputs.append(keras.layers.Activation("linear", dtype="float32", name=name)(logits))
    return RDINet(keras.Model(images, outputs))


def compiled(**settings):
    net = linear_net()
    net.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), **settings)
    return net


@pytest.fixture
def batch():
    random = np.random.default_rng(5)
    return random.uniform(size=(6, 2, 2, 1)).astype(np.float32), np.array([0, 1, 2, 2, 1, 0], np.int32)


def train(net, images, labels, steps=1):
    for _ in range(steps):
        logs = net.train_step((tf.constant(images), tf.constant(labels)))
    return [weight.numpy() for weight in net.weights], {name: float(value) for name, value in logs.items()}


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def pytorch_sgd(net, images, targets, steps):
    """Weights after steps of PyTorch's SGD on `sum_k w_k CE_k`, in NumPy; and the loss of the last step."""
    pixels = images.reshape(len(images), -1).astype(np.float64)
    weights = [weight.numpy().astype(np.float64) for weight in net.weights]
    velocities = [np.zeros_like(weight) for weight in weights]
    for _ in range(steps):
        gradients, loss = [], 0.0
        for k, factor in enumerate(EXIT_WEIGHTS):
            probabilities = softmax(pixels @ weights[2 * k] + weights[2 * k + 1])
            loss -= factor * (targets * np.log(probabilities)).sum(axis=1).mean()
            error = factor * (probabilities - targets) / len(pixels)
            gradients += [pixels.T @ error, error.sum(axis=0)]
        for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
            velocity *= MOMENTUM
            velocity += gradient + DECAY * weight
            weight -= RATE * velocity
    return weights, loss


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_those_of_pytorchs_sgd(batch, steps):
    images, labels = batch
    net = compiled(exit_weights=EXIT_WEIGHTS, weight_decay=DECAY)
    expected, _ = pytorch_sgd(net, images, np.eye(3)[labels], steps)
    found, _ = train(net, images, labels, steps)
    for weight, by_hand in zip(found, expected, strict=True):
        np.testing.assert_allclose(weight, by_hand, atol=1e-6)


def test_loss_and_accuracies_that_are_reported(batch):
    images, labels = batch
    net = compiled(exit_weights=EXIT_WEIGHTS, weight_decay=DECAY)
    right = (net(images).numpy().argmax(axis=-1) == labels[:, None]).mean(axis=0)
    _, loss = pytorch_sgd(net, images, np.eye(3)[labels], 1)
    _, logs = train(net, images, labels)
    assert list(logs) == ["loss", "clean_branch_1", "clean_main"]
    assert logs["loss"] == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose([logs["clean_branch_1"], logs["clean_main"]], right, atol=1e-6)


def test_soft_labels_and_label_smoothing(batch):
    images, labels = batch
    soft = np.random.default_rng(1).dirichlet(np.ones(3), size=6).astype(np.float32)
    net = compiled(exit_weights=EXIT_WEIGHTS, weight_decay=DECAY, label_smoothing=0.3)
    expected, _ = pytorch_sgd(net, images, 0.7 * soft + 0.1, 1)
    found, _ = train(net, images, soft)
    for weight, by_hand in zip(found, expected, strict=True):
        np.testing.assert_allclose(weight, by_hand, atol=1e-6)


def test_exit_weight_zero_leaves_that_exit_alone(batch):
    net = compiled(exit_weights=(0.0, 1.0))
    before = [weight.numpy() for weight in net.weights]
    after, _ = train(net, *batch)
    moved = [bool(np.any(a != b)) for a, b in zip(after, before, strict=True)]
    assert moved == [False, False, True, True]


def test_defence_without_room_trains_as_on_clean_images(batch):
    clean, _ = train(compiled(), *batch)
    defended, logs = train(compiled(defence=STILL), *batch)
    for weight, expected in zip(defended, clean, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
    assert logs["adversarial_main"] == logs["clean_main"]


def test_defence_trains_on_the_mean_of_clean_and_adversarial_losses(batch):
    images, labels = batch
    attack = AttackConfig(algorithm="fgsm", epsilon=0.1, steps=1)
    net = compiled(defence=DefenceConfig(name="main_branch", attack=attack))
    kernel, bias = (weight.numpy() for weight in net.network.get_layer("main_logits").weights)
    pixels, targets = images.reshape(6, 4), np.eye(3)[labels]
    adversarial = np.clip(pixels + 0.1 * np.sign((softmax(pixels @ kernel + bias) - targets) @ kernel.T), 0, 1)
    expected = []
    for inputs in (pixels, adversarial):
        logits = net(inputs.reshape(images.shape).astype(np.float32)).numpy()
        expected.append(sum(-(targets * np.log(softmax(logits[:, k]))).sum(axis=1).mean() for k in range(2)))
    assert expected[1] > expected[0]
    _, logs = train(net, images, labels)
    assert logs["loss"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_warmup_grows_the_ball(batch):
    images, labels = batch
    attack = AttackConfig(algorithm="fgsm", epsilon=0.1, steps=1)
    net = compiled(defence=DefenceConfig(name="main_branch", attack=attack, warmup_iterations=4))
    inside = np.full_like(images, 0.5)  # no pixel reaches 0 or 1
    for iteration, radius in [(0, 0.025), (2, 0.075), (3, 0.1), (9, 0.1)]:
        found = net.adversarial_images(tf.constant(inside), tf.constant(labels), tf.constant(iteration, tf.int64))
        np.testing.assert_allclose(np.abs(found - inside).max(), radius, atol=1e-6)


def test_training_lowers_the_loss(batch):
    net = compiled(defence=DefenceConfig(name="max_average", attack=AttackConfig(epsilon=0.05, steps=2)))
    losses = []
    for _ in range(20):
        net.reset_metrics()
        losses.append(train(net, *batch)[1]["loss"])
    assert losses[-1] < 0.8 * losses[0]


def test_wrong_number_of_exit_weights():
    with pytest.raises(ConfigError, match="exit_weights: expected 2, one for each exit, got 3"):
        compiled(exit_weights=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_images_that_an_epsilon_is_no_share_of_are_refused(batch, dtype):
    images, labels = batch
    with pytest.raises(Exception, match="divide levels of 0 to 255 by 255"):  # TensorFlow's, around ours
        compiled().fit((255 * images).astype(dtype), labels, verbose=0)


def test_keras_own_evaluation_is_refused(batch):
    net = compiled()
    with pytest.raises(ConfigError, match="rdi_tf.evaluate for a run"):
        net.evaluate(*batch)
    with pytest.raises(ConfigError, match="validation_data"):
        net.fit(*batch, validation_data=batch, verbose=0)


def test_outputs_must_be_named_as_exits():
    images = keras.Input((4,))
    outputs = [keras.layers.Dense(3, name=name)(images) for name in ("branch_2", "main")]
    with pytest.raises(ConfigError, match="network outputs: expected layers .*'branch_1', 'main'.* got .*'branch_2'"):
        RDINet(keras.Model(images, outputs))


@pytest.fixture(scope="module")
def digits_net(tiny_config):
    keras.utils.set_random_seed(3)
    net = build(tiny_config)
    net.thresholds = (0.25, 1.5)
    return net


@pytest.fixture(scope="module")
def digit_images():
    return np.random.default_rng(0).uniform(size=(5, 16, 16, 1)).astype(np.float32)


def test_exits_of_a_built_network(digits_net, digit_images):
    assert digits_net.exit_names == ("branch_1", "branch_2", "main")
    assert (digits_net.num_exits, digits_net.num_classes) == (3, 10)
    assert digits_net(digit_images).shape == (5, 3, 10)
    # Metrics and sub-networks must not add weights: averages and files hold the network's own.
    digits_net.compile(keras.optimizers.SGD(0.1), defence=STILL)
    assert [id(weight) for weight in digits_net.weights] == [id(weight) for weight in digits_net.network.weights]


def test_subnetworks_are_the_exits_and_run_nothing_else(digits_net, digit_images):
    logits = digits_net(digit_images).numpy()
    for k, name in enumerate(digits_net.exit_names):
        subnetwork = digits_net.subnetwork(k)
        np.testing.assert_allclose(subnetwork(digit_images), logits[:, k], atol=1e-6)
        others = [f"{other}_" for other in digits_net.exit_names if other not in (name, "main")]
        assert not [layer.name for layer in subnetwork.layers if layer.name.startswith(tuple(others))]
    assert len(digits_net.subnetwork(0).layers) < len(digits_net.subnetwork(1).layers)


@pytest.fixture(scope="module")
def saved(digits_net, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    digits_net.save(path)
    return path


def test_file_holds_weights_config_and_thresholds(digits_net, digit_images, saved):
    again = load(saved)
    assert again.config == digits_net.config
    assert again.thresholds == (0.25, 1.5)
    assert again.exit_names == digits_net.exit_names
    np.testing.assert_array_equal(again(digit_images), digits_net(digit_images))


def test_network_without_config_and_thresholds_is_kept_too(batch, tmp_path):
    net = linear_net()
    net.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert again.config is None and again.thresholds is None
    np.testing.assert_array_equal(again(batch[0]), net(batch[0]))


@pytest.mark.filterwarnings("error:You are saving a model that has not yet been built")
def test_saving_before_the_first_call_warns_of_nothing(tmp_path):
    linear_net().save(tmp_path / "model.keras")


def test_unreadable_files_are_refused(saved, tmp_path):
    content = saved.read_bytes()
    middle = len(content) // 2
    broken = {
        "empty.keras": b"",
        "text.keras": b"no model",
        "short.keras": content[:middle],
        "altered.keras": content[:middle] + bytes([255 - content[middle]]) + content[middle + 1 :],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=f"{name}: not a readable .keras file of rdi-tf"):
            load(tmp_path / name)
    with pytest.raises(CheckpointError, match="nothing.keras: not a readable"):
        load(tmp_path / "nothing.keras")


def test_zip_without_a_model_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(CheckpointError, match="other.keras: not a readable"):
        load(tmp_path / "other.keras")


def test_another_kind_of_model_is_refused(tmp_path):
    linear_net().network.save(tmp_path / "plain.keras")
    with pytest.raises(CheckpointError, match="plain.keras: expected an RDINet, got a Functional"):
        load(tmp_path / "plain.keras")


def test_python_code_in_a_model_file_is_refused(tmp_path):
    images = keras.Input((4,))
    hidden = keras.layers.Lambda(lambda x: x + 1.0)(images)
    RDINet(keras.Model(images, keras.layers.Dense(3, name="main")(hidden))).save(tmp_path / "code.keras")
    with pytest.raises(CheckpointError, match="code.keras: not a readable"):
        load(tmp_path / "code.keras")


def test_attach_exits_keeps_the_models_weights():
    images = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(images)
    model = keras.Model(images, keras.layers.Dense(3)(hidden))
    net = attach_exits(model, ["hidden"])
    assert net.exit_names == ("branch_1", "main")
    inputs = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_allclose(net(inputs)[:, 1], model(inputs), atol=1e-6)
