"""What scripts share that compare ways to train by short runs: settings in few words, shrunk schedules, kept rows."""

import dataclasses
import json

from rdi_tf.models.registry import default_exits
from rdi_tf.runs import write_atomic


def configuration(preset, settings):
    """A preset with settings.

    Args:
      preset: `rdi_tf.config.Config`.
      settings: as `Config.with_settings`'; and "step:x", attack steps of x times epsilon, and "branches:a,b", these of
        the backbone's own branches alone, counted from 1.

    Returns:
      The `Config`.
    """
    words = {setting.partition(":")[0]: setting.partition(":")[2] for setting in settings if _in_words(setting)}
    config = preset.with_settings([setting for setting in settings if not _in_words(setting)])
    if "step" in words:
        step_size = min(1.0, float(words["step"]) * config.defence.attack.epsilon)
        config = config.with_settings([f"defence.attack.step_size={step_size}"])
    return _with_branches(config, words["branches"]) if "branches" in words else config


def _in_words(setting):
    return setting.startswith(("step:", "branches:"))


def _with_branches(config, numbers):
    """Some of the backbone's own branches alone, with their losses' weights; without branches main's is 1."""
    kept = [int(number) - 1 for number in numbers.split(",") if number]
    exits = tuple(default_exits(config.model)[index] for index in kept)
    weights = config.training.exit_weights
    weights = (*(weights[index] for index in kept), weights[-1]) if kept and weights else ()
    training = dataclasses.replace(config.training, exit_weights=weights)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, exits=exits), training=training)


def shortened(config, iterations):
    """The same configuration for so many iterations: one short validation, at the end; the warm-up in proportion."""
    share = config.defence.warmup_iterations / config.training.iterations
    length = {"iterations": iterations, "validate_every": iterations, "validation_images": 64}
    training = dataclasses.replace(config.training, decay_at=(), schedule="one_cycle", **length)
    defence = dataclasses.replace(config.defence, warmup_iterations=round(share * iterations))
    return dataclasses.replace(config, training=training, defence=defence)


def kept_row(path, options):
    """The row of a run that was made before.

    Args:
      path: the row's file.
      options: what the row depends on beside its name, a dict of plain values.

    Returns:
      What `keep_row` was given; None without the file.

    Raises:
      SystemExit: a row of other options, or of unknown ones.
    """
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    before = kept.get("options", {})
    other = [key for key in options if key not in before or before[key] != options[key]]
    if other:
        found = ", ".join(f"{key} {before.get(key, 'unknown')}" for key in other)
        wanted = ", ".join(f"{key} {options[key]}" for key in other)
        raise SystemExit(f"{path} was made with {found}, expected {wanted}: give another --output, or the same options")
    return kept["row"]


def keep_row(path, options, row):
    """Write down a row, a dict of plain values, and the options it was made with."""
    write_atomic(path, json.dumps({"options": options, "row": row}))
