"""What training minimises, from the outputs of all exits on clean and adversarial images."""

from dataclasses import dataclass

import tensorflow as tf

from rdi_tf.attacks import cross_entropy, divergence
from rdi_tf.attacks.exit_rules import outputs_of
from rdi_tf.config import DefenceConfig


@dataclass(frozen=True)
class TrainingLoss:
    """The training loss of a defence.

    Attributes:
      defence: its `DefenceConfig`.
      exit_weights: float32 tensor (exits,).
      label_smoothing: mass moved from the true class to the uniform distribution.
    """

    defence: DefenceConfig
    exit_weights: tf.Tensor
    label_smoothing: float = 0.0

    def __call__(self, outputs, labels):
        """The loss of a batch.

        Args:
          outputs: for each kind of images ("clean", "adversarial") float32 (batch, exits, classes), of which each exit
            calls classes: its own logits, or what `defence.outputs` makes of them.
          labels: float32 (batch, classes).

        Returns:
          float32 scalar tensor: `sum_k w_k * (c * CE_k(clean) + (1 - c) * CE_k(adversarial))`, where c is
          `defence.clean_share` (a half in the paper, section 3.3), or the cross-entropy of the only kind. With
          `defence.trades` beta, `sum_k w_k * (CE_k(clean) + beta * KL_k)` (Zhang et al., "Theoretically Principled
          Trade-off between Robustness and Accuracy", ICML 2019, equation 5). With `defence.distillation`, that times
          `distillation` on adversarial images is added.
        """
        targets = (1.0 - self.label_smoothing) * labels + self.label_smoothing / labels.shape[-1]
        if self.defence.trades:
            clean, adversarial = outputs["clean"], outputs["adversarial"]
            loss = self._mean(cross_entropy(clean, targets) + self.defence.trades * divergence(clean, adversarial))
        else:
            shares = self._shares if len(outputs) > 1 else dict.fromkeys(outputs, 1.0)
            losses = [shares[kind] * self.weighted(cross_entropy(out, targets)) for kind, out in outputs.items()]
            loss = tf.reduce_mean(tf.add_n(losses))
        if self.defence.distillation:
            apart = distillation(outputs["adversarial"], self.defence.teacher, self.defence.temperature)
            loss += self.defence.distillation * self._mean(apart)
        return loss

    @property
    def _shares(self):
        return {"clean": self.defence.clean_share, "adversarial": 1 - self.defence.clean_share}

    def weighted(self, losses):
        """Losses (batch, exits) to their weighted sum over the exits, (batch,)."""
        return tf.linalg.matvec(losses, self.exit_weights)

    def _mean(self, losses):
        return tf.reduce_mean(self.weighted(losses))


def distillation(outputs, teacher, temperature):
    """How far each exit is from a teacher among the exits, who learns nothing from it.

    Args:
      outputs: float32 tensor (batch, exits, classes).
      teacher: one of `rdi_tf.config.TEACHERS`: the last exit, or an average over all exits.
      temperature: by which logits are divided first.

    Returns:
      float32 tensor (batch, exits): `temperature^2 * KL(teacher || exit)`.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015); between the exits of one network,
    Phuong and Lampert, "Distillation-Based Training for Multi-Exit Architectures" (ICCV 2019).
    """
    taught = outputs if teacher == "main" else outputs_of(teacher, outputs)
    last = tf.stop_gradient(taught[:, -1:])
    return temperature**2 * divergence(last / temperature, outputs / temperature)
