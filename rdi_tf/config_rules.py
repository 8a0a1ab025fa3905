"""Which numbers a configuration may hold. Part of `rdi_tf.config`, which calls it for every `Config` that is made."""

import dataclasses
import math

from rdi_tf.defence.rules import check_defence
from rdi_tf.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # that NumPy takes


def check_numbers(config):
    """Refuse numbers that no run could use.

    Args:
      config: a `rdi_tf.config.Config`.

    Raises:
      ConfigError: names the first such key, what was expected and what came.
    """
    _check_finite(config, "")
    for key, (value, least) in _at_least(config).items():
        if not value >= least:
            raise ConfigError(f"{key}: expected at least {least}, got {value!r}")
    for key, value in _positive(config).items():
        if not value > 0:
            raise ConfigError(f"{key}: expected more than 0, got {value!r}")
    for key, value in _at_most_one(config).items():
        if not value <= 1:
            raise ConfigError(f"{key}: expected at most 1, got {value!r}")
    for key, value in _below_one(config).items():
        if not 0 <= value < 1:
            raise ConfigError(f"{key}: expected 0 <= value < 1, got {value!r}")
    if not config.training.seed <= LARGEST_SEED:
        raise ConfigError(f"training.seed: expected at most {LARGEST_SEED}, got {config.training.seed!r}")
    _check_lists(config)
    for path, attack in _attacks(config).items():
        _check_restarts(path, attack)
        _check_step(path, attack)
        _check_loss(path, attack, config.model.num_classes)
    check_defence(config)


def doubts(config):
    """What is doubtful: schedules that go on after the last iteration, and settings that nothing will use.

    No errors: whoever wants the beginning of a schedule may have it, and runs that were trained so have to be read.

    Args:
      config: a `rdi_tf.config.Config`.

    Returns:
      List of sentences, each with the key, what will not happen, and the way out.
    """
    training, found = config.training, []
    beyond = [iteration for iteration in training.decay_at if iteration >= training.iterations]
    if training.schedule == "step" and beyond:
        found.append(
            f"training.decay_at: {beyond} is not reached within training.iterations={training.iterations}, so that the "
            "learning rate does not fall there; set training.decay_at, too, or training.schedule to one_cycle or "
            "cosine, which follow the iterations"
        )
    warmup = config.defence.warmup_iterations
    if config.defence.name != "standard" and warmup >= training.iterations:
        found.append(
            f"defence.warmup_iterations={warmup} is not over within training.iterations={training.iterations}, so that "
            "no attack reaches its whole epsilon; set defence.warmup_iterations, too"
        )
    return [*found, *policy_doubts(config.policy)]


def policy_doubts(policy):
    """What a `rdi_tf.config.PolicyConfig` sets that its calibration does not use; as `doubts`."""
    used_by = {"budget": "budget", "shares": "shares", "max_accuracy_loss": "least_macs"}
    default, found = type(policy)(), []
    for key, calibration in used_by.items():
        value = getattr(policy, key)
        if value != getattr(default, key) and policy.calibration != calibration:
            shown = list(value) if isinstance(value, tuple) else value
            found.append(
                f"policy.{key}={shown} is not used: policy.calibration is {policy.calibration}, not {calibration}"
            )
    return found


def _check_finite(value, path):
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check_finite(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{path}: expected a finite number, got {number!r}")


def _at_least(config):
    attacks = _attacks(config)
    return {
        **{f"{path}.epsilon": (attack.epsilon, 0) for path, attack in attacks.items()},
        **{f"{path}.step_size": (attack.step_size, 0) for path, attack in attacks.items()},
        **{f"{path}.steps": (attack.steps, 1) for path, attack in attacks.items()},
        **{f"{path}.restarts": (attack.restarts, 1) for path, attack in attacks.items()},
        **{f"{path}.target_classes": (attack.target_classes, 1) for path, attack in attacks.items()},
        **{f"{path}.noise": (attack.noise, 0) for path, attack in attacks.items()},
        "defence.alignment": (config.defence.alignment, 0),
        "defence.trades": (config.defence.trades, 0),
        "defence.distillation": (config.defence.distillation, 0),
        "defence.weight_perturbation": (config.defence.weight_perturbation, 0),
        "defence.warmup_iterations": (config.defence.warmup_iterations, 0),
        "data.validation_every": (config.data.validation_every, 2),
        "data.crop_padding": (config.data.crop_padding, 0),
        "model.num_classes": (config.model.num_classes, 2),
        "model.input_shape": (min(config.model.input_shape), 1),
        "training.iterations": (config.training.iterations, 1),
        "training.batch_size": (config.training.batch_size, 1),
        "training.decay_at": (min(config.training.decay_at, default=0), 0),
        "training.warmup_fraction": (config.training.warmup_fraction, 0),
        "training.weight_decay": (config.training.weight_decay, 0),
        "training.exit_weights": (min(config.training.exit_weights, default=0), 0),
        "training.validate_every": (config.training.validate_every, 1),
        "training.validation_images": (config.training.validation_images, 1),
        "training.checkpoint_seconds": (config.training.checkpoint_seconds, 0),
        "training.seed": (config.training.seed, 0),
        "policy.shares": (min(config.policy.shares, default=0), 0),
        "policy.budget": (config.policy.budget, 0),
        "policy.max_accuracy_loss": (config.policy.max_accuracy_loss, 0),
        "compression.clusters": (config.compression.clusters, 2 if config.compression.method == "cluster" else 0),
    }


def _check_step(path, attack):
    """Steps of no length search nothing, and look as if a network were robust."""
    if attack.algorithm == "pgd" and attack.epsilon > 0 and not attack.step_size > 0:
        raise ConfigError(f"{path}.step_size: expected more than 0 for pgd, got {attack.step_size!r}")


def _check_loss(path, attack, num_classes):
    """The difference of logits ratio divides by a difference between the best and the third or fourth class."""
    least = {"dlr": 3, "dlr_targeted": 4}.get(attack.loss, 2)
    if num_classes < least:
        raise ConfigError(f"{path}.loss: {attack.loss!r} needs {least} classes or more, got {num_classes}")


def _check_restarts(path, attack):
    """Without chance, a restart is the same run once more."""
    random = attack.algorithm == "square" or (attack.algorithm in ("pgd", "apgd") and attack.random_start)
    random = random or attack.algorithm == "n_fgsm"
    if attack.restarts > 1 and not random:
        raise ConfigError(
            f"{path}.restarts: expected 1 where nothing is random ({attack.algorithm}, random_start "
            f"{str(attack.random_start).lower()}), got {attack.restarts}"
        )


def _attacks(config):
    return {"defence.attack": config.defence.attack, "evaluation": config.evaluation}


def _positive(config):
    positive = {
        **{f"{path}.square_fraction": attack.square_fraction for path, attack in _attacks(config).items()},
        "defence.temperature": config.defence.temperature,
        "model.width_multiplier": config.model.width_multiplier,
        "training.learning_rate": config.training.learning_rate,
        "training.decay_factor": config.training.decay_factor,
    }
    if config.compression.method in ("prune", "prune_channels"):
        positive["compression.sparsity"] = config.compression.sparsity
    if config.policy.calibration == "budget":
        positive["policy.budget"] = config.policy.budget
    return positive


def _at_most_one(config):
    """Pixels lie in [0, 1], so that an L-infinity epsilon of 8 can only be 8/255 forgotten; WRM's weighs its loss."""
    linf = {path: attack for path, attack in _attacks(config).items() if attack.norm == "linf"}
    return {
        **{f"{path}.epsilon": attack.epsilon for path, attack in linf.items() if attack.algorithm != "wrm"},
        **{f"{path}.step_size": attack.step_size for path, attack in linf.items()},
        **{f"{path}.square_fraction": attack.square_fraction for path, attack in _attacks(config).items()},
        "training.decay_factor": config.training.decay_factor,
        "training.warmup_fraction": config.training.warmup_fraction,
        "policy.max_accuracy_loss": config.policy.max_accuracy_loss,
    }


def _below_one(config):
    return {
        "defence.clean_share": config.defence.clean_share,
        "model.dropout": config.model.dropout,
        "training.momentum": config.training.momentum,
        "training.label_smoothing": config.training.label_smoothing,
        "training.ema_decay": config.training.ema_decay,
        "compression.sparsity": config.compression.sparsity,
    }


def _check_lists(config):
    weights, shares = config.training.exit_weights, config.policy.shares
    if weights and not any(weights):
        raise ConfigError(f"training.exit_weights: expected one above 0 at least, got {list(weights)!r}")
    if any(left >= right for left, right in zip(config.training.decay_at, config.training.decay_at[1:], strict=False)):
        raise ConfigError(f"training.decay_at: expected growing numbers, got {list(config.training.decay_at)!r}")
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"policy.shares: expected a sum of 1, got {list(shares)!r} with a sum of {sum(shares):g}")
    if config.policy.calibration == "shares" and not shares:
        raise ConfigError('policy.shares: expected one share for each exit (calibration "shares"), got none')
