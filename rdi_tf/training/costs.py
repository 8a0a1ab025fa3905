"""What an iteration of adversarial training costs in multiply-adds, counted from the layer graph; nothing is run."""

from dataclasses import dataclass

from rdi_tf.costs import network_costs
from rdi_tf.defence.model import kinds_of_images
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
      ConfigError: an attack, or a loss, whose steps are not counted here.
    """
    exits = [cost.executed_macs for cost in network_costs(net.network).exits]
    whole = exits[-1]
    attack = defence.attack
    passes = 2 if defence.weight_perturbation else 1
    if defence.name == "standard":
        return IterationCosts(0, 0, passes * WEIGHT_GRADIENT * whole)
    if defence.name == "free":
        # The way back to the weights passes by all images but for the first layer, which is not worth a line.
        return IterationCosts(0, 0, attack.steps * WEIGHT_GRADIENT * whole)
    if attack.algorithm not in ("pgd", "wrm", *_ONE_STEP):
        raise ConfigError(f"defence.attack.algorithm: the steps of {attack.algorithm!r} are not counted")
    if attack.loss == "dlr_targeted":
        raise ConfigError("defence.attack.loss: the searches of 'dlr_targeted', one for each target, are not counted")
    alignment = passes * ALIGNMENT * whole if defence.alignment else 0
    update = passes * len(kinds_of_images(defence)) * WEIGHT_GRADIENT * whole
    return IterationCosts(_crafting(net, defence, exits), alignment, update)


def _crafting(net, defence, exits):
    """Multiply-adds of making one adversarial image; `exits`: of a forward pass up to each exit, branches included."""
    whole, attack = exits[-1], defence.attack
    steps = (1 if attack.algorithm in _ONE_STEP else attack.steps) * attack.restarts
    if defence.outputs == "exits":
        single = [network_costs(net.subnetwork(index)).exits[-1].executed_macs for index in range(net.num_exits)]
    else:
        single = exits  # averages need the exits before
    gradients = {"main_branch": single[-1], "max_average": sum(single)}.get(defence.name, whole)
    looks = {
        # One pass for each candidate to see which is the worst.
        "max_average": net.num_exits if net.num_exits > 1 else 0,
        # Thresholds from the clean images, which are the first candidates, and a look at the last ones of each restart.
        "rerouted": 2 + attack.restarts,
    }.get(defence.name, 0)
    if attack.loss == "divergence":
        looks += 1  # what the network says of the clean images
    # Which restart did best, its own loss says; "rerouted" has looked already.
    compared = attack.restarts * gradients if attack.restarts > 1 and defence.name != "rerouted" else 0
    return steps * IMAGE_GRADIENT * gradients + compared + looks * whole
