"""Any functional classifier becomes an RDINet: exits attached, trained a few steps adversarially, exits used."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.config import AttackConfig, DefenceConfig
from rdi_tf.models import suggest_exits
from rdi_tf.network import attach_exits
from rdi_tf.policies import decide, get_policy
from rdi_tf.thresholds import equal_share

DEFENCE = DefenceConfig(
    name="max_average",
    attack=AttackConfig(epsilon=2 / 255, step_size=1 / 255, steps=1),
    training_mode=False,
)


def mobilenet():
    """tf_keras.applications, with its softmax, which attach_exits takes off."""
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)


def keras_cv_resnet():
    """A keras-cv backbone with a head of one's own on top."""
    from keras_cv.models import ResNetV2Backbone

    backbone = ResNetV2Backbone(
        stackwise_filters=[16, 32],
        stackwise_blocks=[2, 2],
        stackwise_strides=[1, 2],
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )
    features = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(4)(features))


@pytest.mark.slow
@pytest.mark.parametrize("make", [mobilenet, keras_cv_resnet])
def test_foreign_model_trains_and_leaves_early(make):
    """Four classes told apart by one bright quadrant: a few steps lower the loss, and every exit takes images."""
    keras.utils.set_random_seed(0)
    model = make()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # 0.999 in MobileNetV2: its running averages would know nothing after a few steps
    net = attach_exits(model, at=suggest_exits(model, 2))
    assert net.exit_names == ("branch_1", "branch_2", "main")
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 96).astype("int32")
    images = random.uniform(0, 0.5, (96, 32, 32, 3)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        row, column = 16 * (label // 2), 16 * (label % 2)
        image[row : row + 16, column : column + 16] += 0.5
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9), defence=DEFENCE)
    history = net.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(32), epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert {"clean_branch_1", "adversarial_main"} <= set(history)
    policy = get_policy("entropy")
    logits = net.predict(images, verbose=0)
    decision = decide(policy, logits, equal_share(policy, logits))
    np.testing.assert_array_equal(np.bincount(decision.exits, minlength=3), [32, 32, 32])
