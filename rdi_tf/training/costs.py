"""What an iteration of adversarial training costs in multiply-adds, counted from the layer graph; nothing is run."""

from dataclasses import dataclass

from rdi_tf.costs import network_costs
from rdi_tf.errors import ConfigError

# What one pass costs, in units of its forward pass. The gradient with respect to the images takes one more: every layer
# multiplies once on the way back. The gradient with respect to the weights takes another one.
IMAGE_GRADIENT = 2
WEIGHT_GRADIENT = 3
# GradAlign differentiates two image gradients (2 each) with respect to the weights, which about triples them.
ALIGNMENT = 2 * 3 * IMAGE_GRADIENT
_ONE_STEP = ("fgsm", "n_fgsm")


@dataclass(frozen=True)
class IterationCosts:
    """Multiply-adds of one iteration, for each image of its batch.

    Attributes:
      attack: making the adversarial image.
      alignment: GradAlign's penalty.
      update: the passes whose gradients change the weights.
    """

    attack: int
    alignment: int
    update: int

    @property
    def total(self):
        """All of it."""
        return self.attack + self.alignment + self.update


def iteration_costs(net, defence):
    """Count what an iteration costs.

    Args:
      net: `rdi_tf.network.RDINet`.
      defence: `rdi_tf.config.DefenceConfig`; its attack must be one of gradient steps (PGD, FGSM, N-FGSM, WRM).

    Returns:
      `IterationCosts`.

    Raises:
      ConfigError: an attack whose steps are not counted here.
    """
    whole = network_costs(net.network).exits[-1].executed_macs
    if defence.name == "standard":
        return IterationCosts(0, 0, WEIGHT_GRADIENT * whole)
    attack = defence.attack
    if attack.algorithm not in ("pgd", "wrm", *_ONE_STEP):
        raise ConfigError(f"defence.attack.algorithm: the steps of {attack.algorithm!r} are not counted")
    steps = (1 if attack.algorithm in _ONE_STEP else attack.steps) * attack.restarts
    single = [network_costs(net.subnetwork(index)).exits[-1].executed_macs for index in range(net.num_exits)]
    crafting = {
        "main_branch": steps * IMAGE_GRADIENT * single[-1],
        "average": steps * IMAGE_GRADIENT * whole,
        # Every exit's own attack, and one pass for each candidate to see which is the worst.
        "max_average": steps * IMAGE_GRADIENT * sum(single) + (net.num_exits * whole if net.num_exits > 1 else 0),
    }[defence.name]
    alignment = ALIGNMENT * whole if defence.alignment else 0
    return IterationCosts(crafting, alignment, 2 * WEIGHT_GRADIENT * whole)
