"""From a configuration to a multi-exit network: the backbones by name, and `build_network`."""

from rdi_tf.errors import ConfigError
from rdi_tf.models import mobilenet, resnet, smallcnn
from rdi_tf.models.attach import attach_branches

# each module has build(model_config) -> plain functional backbone, and default_exits(model_config) -> layer names
BACKBONES = {"smallcnn": smallcnn, "resnet": resnet, "mobilenetv2": mobilenet}


def build_backbone(model_config):
    """Build the plain single-exit backbone that a configuration names.

    Args:
      model_config: a `ModelConfig`.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> logits (batch, classes).

    Raises:
      ConfigError: an unknown backbone, or settings that it cannot be built with.
    """
    module = _module(model_config)
    try:
        return module.build(model_config)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        shape = model_config.input_shape
        raise ConfigError(f"model.input_shape: {model_config.backbone} cannot take {shape}: {error}") from error


def build_network(model_config):
    """Build the multi-exit network that a configuration describes.

    Args:
      model_config: a `ModelConfig`.

    Returns:
      Functional model: images (batch, height, width, channels), float32 in [0, 1] -> list of logits, each
      (batch, classes) float32, in exit order, from the layers "branch_1", …, "main". With `exits=()` Keras returns
      the one tensor of "main" without the list.

    Raises:
      ConfigError: an unknown backbone or branch design, or exits that the backbone cannot have.
    """
    backbone = build_backbone(model_config)
    exits = model_config.exits
    if exits is None:
        exits = default_exits(model_config)
    return attach_branches(
        backbone,
        exits,
        model_config.branch,
        backbone_name=model_config.backbone,
        dropout=model_config.dropout,
    )


def default_exits(model_config):
    """Names of the layers after which the backbone's own branches leave (the paper's), a tuple in order.

    Args:
      model_config: a `ModelConfig`; its `exits` are not looked at.

    Raises:
      ConfigError: an unknown backbone, or settings that it cannot be built with.
    """
    return _module(model_config).default_exits(model_config)


def _module(model_config):
    if model_config.backbone not in BACKBONES:
        raise ConfigError(f"model.backbone: expected one of {', '.join(BACKBONES)}, got {model_config.backbone!r}")
    return BACKBONES[model_config.backbone]
