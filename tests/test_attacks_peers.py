"""PGD and APGD against other people's, on one exit of a network trained on MNIST.

The peers are development dependencies that nothing else needs (`pip install foolbox adversarial-robustness-toolbox`);
without them these tests are skipped.
"""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.attacks import ExitLosses, craft, loss_function
from rdi_tf.config import AttackConfig

pytestmark = pytest.mark.slow

EPSILON, STEPS, IMAGES = 0.06, 20, 200


@pytest.fixture(scope="module")
def mnist(tfds_dir):
    import tensorflow_datasets as tfds

    def read(split, count):
        images, labels = tfds.as_numpy(
            tfds.load("mnist", split=f"{split}[:{count}]", as_supervised=True, batch_size=-1, data_dir=tfds_dir)
        )
        return images.astype("float32") / 255, labels.astype("int32")

    return read("train", 12_000), read("test", IMAGES)


@pytest.fixture(scope="module")
def model(mnist):
    """A small network, undefended: PGD must find something, but not everything, at this epsilon."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(8, 5, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss)
    model.fit(*mnist[0], batch_size=128, epochs=3, verbose=0)
    return model


def our_accuracy(model, images, labels, **attack):
    attack = AttackConfig(**{"epsilon": EPSILON, "steps": STEPS, **attack})
    losses = ExitLosses.of_logits(
        ("main",), [model], lambda x: model(x)[:, tf.newaxis], loss=loss_function(attack.loss)
    )
    run = tf.function(lambda x, y: craft("main", losses, x, y, attack, tf.constant([0, 0])), autograph=False)
    return accuracy(model, run(tf.constant(images), tf.constant(labels)), labels)


def accuracy(model, images, labels):
    return float(np.mean(np.argmax(model.predict(np.asarray(images), verbose=0), axis=1) == labels))


def agree(ours, theirs):
    """Both attack the same images: what differs is the random start, a few images in two hundred."""
    assert 0.1 < theirs < 0.9
    assert abs(ours - theirs) <= 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_agrees_with_foolbox(norm, model, mnist, record_property):
    foolbox = pytest.importorskip("foolbox", reason="needs foolbox, a development dependency for this test")
    images, labels = mnist[1]
    epsilon, step_size = (EPSILON, EPSILON / 8) if norm == "linf" else (1.0, 0.15)
    ours = our_accuracy(model, images, labels, norm=norm, epsilon=epsilon, step_size=step_size)
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    attack = attack(abs_stepsize=step_size, steps=STEPS, random_start=True)
    tf.random.set_seed(0)
    found = attack.run(
        foolbox.TensorFlowModel(model, bounds=(0, 1)),
        tf.constant(images),
        foolbox.criteria.Misclassification(tf.constant(labels)),
        epsilon=epsilon,
    )
    theirs = accuracy(model, found, labels)
    record_property("accuracy", {"ours": ours, "foolbox": theirs})
    print(f"PGD {norm}: ours {ours:.3f}, foolbox {theirs:.3f}")
    agree(ours, theirs)


@pytest.mark.parametrize(("loss", "art_loss"), [("cross_entropy", "cross_entropy"), ("dlr", "difference_logits_ratio")])
def test_apgd_agrees_with_art(loss, art_loss, model, mnist, record_property):
    art = pytest.importorskip(
        "art.attacks.evasion", reason="needs adversarial-robustness-toolbox, a development dependency for this test"
    )
    from art.estimators.classification import TensorFlowV2Classifier

    images, labels = mnist[1]
    ours = our_accuracy(model, images, labels, algorithm="apgd", loss=loss)
    estimator = TensorFlowV2Classifier(
        model=model,
        nb_classes=10,
        input_shape=(28, 28, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    np.random.seed(0)
    attack = art.AutoProjectedGradientDescent(
        estimator,
        norm=np.inf,
        eps=EPSILON,
        eps_step=2 * EPSILON,
        max_iter=STEPS,
        nb_random_init=1,
        batch_size=IMAGES,
        loss_type=art_loss,
        verbose=False,
    )
    theirs = accuracy(model, attack.generate(images, labels), labels)
    record_property("accuracy", {"ours": ours, "art": theirs})
    print(f"APGD {loss}: ours {ours:.3f}, ART {theirs:.3f}")
    agree(ours, theirs)
