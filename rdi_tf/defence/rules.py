"""Which settings of a defence go together. Part of `rdi_tf.config`, as `rdi_tf.config_rules` is."""

import operator

from rdi_tf.errors import ConfigError

# Settings of a defence that attacks nothing.
_STANDARD = {"alignment": 0, "trades": 0, "distillation": 0, "clean_share": 0.5}
# Free training moves images by the gradient of its own updates, on attacked images alone: what asks for another
# gradient or for clean images is refused.
_FREE = {
    "attack.algorithm": "pgd",
    "attack.restarts": 1,
    "attack.loss": "cross_entropy",
    "clean_share": 0.5,
    "alignment": 0,
    "trades": 0,
    "weight_perturbation": 0,
}


def check_defence(config):
    """Refuse a defence that would ignore some of its settings, or could not follow them.

    Args:
      config: a `rdi_tf.config.Config`.

    Raises:
      ConfigError: names the first such key, what was expected and what came.
    """
    defence = config.defence
    if defence.name == "standard":
        _expect(defence, _STANDARD, "(the standard defence attacks nothing)")
    if defence.name == "free":
        _expect(defence, _FREE, "with the defence free")
    if defence.trades:
        _expect(defence, {"clean_share": 0.5}, "with defence.trades, which weighs the two by itself")
    if defence.alignment:
        _expect(defence, {"attack.norm": "linf"}, "with defence.alignment")
        if defence.attack.algorithm == "wrm":
            raise ConfigError("defence.alignment: expected 0 with 'wrm', whose epsilon is no radius to align within")
    if defence.name in ("worst_exit", "random_exit") and defence.attack.loss == "dlr_targeted":
        raise ConfigError(f"defence.attack.loss: expected another than 'dlr_targeted' with the defence {defence.name}")
    if defence.attack.loss == "divergence":
        _check_divergence(defence)
    if not defence.distillation:
        _expect(defence, {"teacher": "main", "temperature": 1.0}, "without defence.distillation")
    if defence.distillation and config.model.exits == ():
        raise ConfigError(f"defence.distillation: expected 0 in a network with one exit, got {defence.distillation}")
    if defence.distillation and defence.outputs != "exits":
        _expect(defence, {"teacher": "main"}, f"with defence.outputs {defence.outputs}, whose last is the average")


def _check_divergence(defence):
    """There is no divergence from an image at the image itself, and no gradient of it."""
    if defence.name == "rerouted":
        raise ConfigError("defence.attack.loss: expected another than 'divergence' with the defence rerouted")
    attack = defence.attack
    starts_there = attack.algorithm in ("fgsm", "wrm") or (attack.algorithm == "n_fgsm" and not attack.noise)
    if starts_there or (attack.algorithm in ("pgd", "apgd") and not attack.random_start):
        raise ConfigError(
            f"defence.attack.loss: 'divergence' has no gradient where {attack.algorithm!r} starts: expected pgd or "
            "apgd with random_start, n_fgsm with noise, or square as defence.attack.algorithm"
        )


def _expect(defence, expected, reason):
    for key, value in expected.items():
        found = operator.attrgetter(key)(defence)
        if found != value:
            raise ConfigError(f"defence.{key}: expected {value!r} {reason}, got {found!r}")
