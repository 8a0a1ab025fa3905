"""Branch designs: the layers between a feature map of the trunk and the logits of an early exit.

A design is a function `(features, num_classes, exit_index, backbone, prefix, dropout) -> logits`: the feature map
(batch, height, width, channels), the number of classes, the exit's position counted from 0, the backbone's name in
`BACKBONES` (or the name of a foreign model), the prefix of all layer names, and the dropout rate where the design
has dropout. It returns logits (batch, classes). A new design is one function and one line in `BRANCHES`.
"""

from rdi_tf._keras import keras
from rdi_tf.errors import ConfigError
from rdi_tf.models.layers import convolution, dense


def paper_branch(features, num_classes, exit_index, backbone, prefix, dropout):
    """The branch as published, which depends on the backbone and on where it leaves.

    Raises:
      ConfigError: a backbone for which the paper has no branches.

    Source: Hu et al., "Triple Wins" (ICLR 2020), section 4.1 and appendix A.
    """
    if backbone not in _PAPER:
        raise ConfigError(f"branch 'paper': the paper has none for {backbone!r}, only for {', '.join(_PAPER)}")
    return _PAPER[backbone](features, num_classes, prefix, dropout)


def _paper_smallcnn(features, num_classes, prefix, dropout):
    x = features
    if x.shape[-1] == 32:  # the wide maps of the first two convolutions; the 64-channel ones go straight to the pool
        x = convolution(x, 16, 3, f"{prefix}_conv", strides=2, use_bias=True)
    x = keras.layers.MaxPooling2D(2, name=f"{prefix}_pool")(x)
    x = keras.layers.Flatten(name=f"{prefix}_flatten")(x)
    x = dense(x, 200, f"{prefix}_dense1")
    x = keras.layers.Dropout(dropout, name=f"{prefix}_dropout")(x)
    x = dense(x, 200, f"{prefix}_dense2")
    return dense(x, num_classes, f"{prefix}_logits")


_PAPER = {"smallcnn": _paper_smallcnn}

BRANCHES = {"paper": paper_branch}
