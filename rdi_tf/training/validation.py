"""Accuracy through the exit policy on validation images, while a network is in training."""

from rdi_tf.evaluation.policy_outputs import rule_to_aim_at
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.policies import POLICIES, decide
from rdi_tf.thresholds import equal_share


class Validator:
    """Accuracy through the exit policy on validation images, clean and under an attack on each exit.

    The attacks maximise the loss of what the policy calls classes from.
    """

    def __init__(self, net, config, images, labels, cluster=None):
        """Prepare.

        Args:
          net: the `RDINet` in training.
          config: its `Config`; `config.evaluation` is the attack.
          images: float32 array (n, height, width, channels).
          labels: int32 array (n,).
          cluster: `rdi_tf.distribution.Cluster` whose replicas share the work; None for one device.
        """
        batch_size = min(len(images), 256)
        self._policy = POLICIES[config.policy.name]
        rule = rule_to_aim_at(config.policy.name, net.num_exits)
        seed = config.training.seed
        self._attacker = ExitAttacker(net, config.evaluation, seed, batch_size, rule, "policy", cluster)
        self._images, self._labels = images, labels
        self._attacked = config.defence.name != "standard"

    def figures(self, folder=None, progress=None):
        """Accuracies as fractions: `clean_accuracy`; `robust_accuracy`, the share right clean and under every attack.

        Thresholds give every exit an equal share of the clean images. A network without defence is validated on
        clean images alone; its robust_accuracy is its clean accuracy.

        Args:
          folder: where finished batches are kept, so that a killed validation goes on where it was; None to keep none.
          progress: callable (form, images done, images) called after each batch, or None.
        """
        clean = self._attacker.clean_logits(self._images)
        thresholds = equal_share(self._policy, clean)
        right = decide(self._policy, clean, thresholds).predictions == self._labels
        figures = {"clean_accuracy": float(right.mean())}
        if self._attacked:
            forms = self._attacker.net.exit_names
            for logits in self._attacker.logits(forms, self._images, self._labels, folder, progress).values():
                right &= decide(self._policy, logits, thresholds).predictions == self._labels
        return {**figures, "robust_accuracy": float(right.mean())}
