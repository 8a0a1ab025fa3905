"""The unsplit network of a bundle, for comparison with the cascade."""

from pathlib import Path

import numpy as np

from rdi_tf.export.bundle import Bundle
from rdi_tf.export.runner import ModelRunner, check_batch


class Unsplit:
    """Runs the unsplit network of a bundle, all exits at once, for comparison with the cascade.

    Attributes:
      bundle: the `Bundle`.
      runner: its `ModelRunner`.
    """

    def __init__(self, bundle, num_threads=1):
        """Load it; arguments and errors as for `Cascade`."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        piece = self.bundle.manifest.unsplit
        self.runner = ModelRunner(self.bundle.path, piece, num_threads)

    def exit_logits(self, images):
        """Logits of every exit.

        Args:
          images: float array (batch, height, width, channels) in [0, 1], batch >= 1.

        Returns:
          float32 array (batch, exits, classes).

        Raises:
          DataError: images that the network cannot take.
        """
        manifest = self.bundle.manifest
        outputs = self.runner.run(self.runner.image_input(check_batch(images, manifest)))
        return np.stack([self.runner.numbers(name, outputs[name]) for name in manifest.exit_names], axis=1)
