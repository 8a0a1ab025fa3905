"""How a run is put on a workbench to be evaluated."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from rdi_tf.calibration_source import image_digest
from rdi_tf.config import AttackConfig
from rdi_tf.distribution import Cluster
from rdi_tf.errors import ConfigError


@dataclass(frozen=True)
class BenchOptions:
    """How a run is put on a workbench.

    Attributes:
      attack: `AttackConfig`; None for the run's own evaluation attack.
      policy: name of another exit rule than the run's, calibrated on the validation images the way that the run's
        configuration says; None for the run's own with its thresholds.
      attack_outputs: "exits" or "policy", as `ExitAttacker`'s `outputs`.
      split: whose images are evaluated: "test"; or "validation", to choose between recipes; or "train".
      limit: use the first so many images of it; None for all.
      seed: seed of the attacks.
      batch_size: images at a time.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      progress: callable (attack, images done, images), or None.
      cluster: the `rdi_tf.distribution.Cluster` whose replicas share every batch; one device without it. With several
        processes, all must do the same with their benches; the chief alone writes and reports progress.
    """

    attack: AttackConfig | None = None
    policy: str | None = None
    attack_outputs: str = "policy"
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    batch_size: int = 250
    data_dir: Path | None = None
    progress: object = None
    cluster: Cluster = dataclasses.field(default_factory=lambda: Cluster(None))

    def __post_init__(self):
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {self.batch_size}")

    def key(self, net, attack, images):
        """Name of the work that unfinished batches belong to: whatever changes them changes it.

        Args:
          net: the `RDINet`.
          attack: the `AttackConfig` that suites refer to.
          images: float32 array (n, height, width, channels).

        Returns:
          str of twelve hexadecimal digits.
        """
        work = (attack, image_digest(images), self.seed, self.batch_size, net.weights_digest())
        # Replicas round batches up to a multiple of their number, and draw random starts of their own.
        replicas = () if self.cluster.replicas == 1 else (self.cluster.replicas,)
        return hashlib.sha256(repr((*work, *replicas)).encode()).hexdigest()[:12]
