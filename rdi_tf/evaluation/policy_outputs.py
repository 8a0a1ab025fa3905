"""What an exit rule calls classes from, as the outputs that attacks maximise the loss of.

Under rules that average over the exits so far, an image's class at exit k is not that exit's own: who attacks exit k
must attack the average there.
"""

import dataclasses

from rdi_tf.attacks import ExitRule
from rdi_tf.errors import ConfigError
from rdi_tf.policies import POLICIES

OUTPUTS = ("exits", "policy")


def combines(outputs, rule):
    """Whether attacks have to follow the rule's averages.

    Args:
      outputs: "exits" to attack each exit's own logits, "policy" to attack what the rule calls classes from.
      rule: `rdi_tf.attacks.ExitRule`, or None.

    Returns:
      bool; False for "policy", too, where the rule looks at each exit alone: both are the same then.

    Raises:
      ConfigError: other `outputs`, or "policy" without a rule.
    """
    if outputs not in OUTPUTS:
        raise ConfigError(f"attack outputs: expected one of {', '.join(OUTPUTS)}, got {outputs!r}")
    if outputs == "policy" and rule is None:
        raise ConfigError("attack outputs 'policy': expected a network with an exit rule, got one without thresholds")
    return outputs == "policy" and POLICIES[rule.name].averages


def rule_to_aim_at(name, num_exits):
    """An `rdi_tf.attacks.ExitRule` by name for attacks on exits, in which thresholds play no part."""
    return ExitRule(name, (0.0,) * (num_exits - 1))


def policy_losses(net, rule, loss):
    """Losses of a rule's combined log-probabilities.

    Args:
      net: `rdi_tf.network.RDINet`, attacked in inference mode.
      rule: `rdi_tf.attacks.ExitRule`; its thresholds play no part.
      loss: callable (logits, labels) -> loss per image (and exit).

    Returns:
      `rdi_tf.attacks.ExitLosses` of the combined outputs, float32, in the place of logits. Not for attacks on the rule,
      which combine the exits' own logits themselves.
    """
    return dataclasses.replace(net.exit_losses(loss=loss, outputs=rule.name), rule=rule)
