"""From a configuration to a multi-exit network: the backbones by name, and `build_network`."""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models import smallcnn
from rdi_tf.models.branches import BRANCHES

BACKBONES = {"smallcnn": smallcnn}


def build_network(model_config):
    """Build the multi-exit network that a configuration describes.

    Args:
      model_config: a `ModelConfig`.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> list of logits, each
      (batch, classes) float32, in exit order, from the layers "branch_1", …, "main".

    Raises:
      ConfigError: an unknown backbone or branch design, or exits that the backbone cannot have.
    """
    if model_config.backbone not in BACKBONES:
        raise ConfigError(f"model.backbone: expected one of {', '.join(BACKBONES)}, got {model_config.backbone!r}")
    module = BACKBONES[model_config.backbone]
    backbone = module.build(model_config)
    exits = module.default_exits(model_config) if model_config.exits is None else model_config.exits
    logits = []
    for index, name in enumerate(exits):
        prefix = f"branch_{index + 1}"
        features = backbone.get_layer(name).output
        design = BRANCHES[model_config.branch]
        branch = design(
            features, model_config.num_classes, index, model_config.backbone, f"{prefix}", model_config.dropout
        )
        logits.append(keras.layers.Activation("linear", dtype="float32", name=prefix)(branch))
    logits.append(keras.layers.Activation("linear", dtype="float32", name="main")(backbone.output))
    return keras.Model(backbone.input, logits, name=f"rdi_{backbone.name}")
