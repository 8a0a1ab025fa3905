"""Robust dynamic inference networks: classifiers with several exits, adversarially trained at every one of them.

Importing this package imports no TensorFlow; a public name that needs it imports it when it is first used.
"""

import importlib

from rdi_tf.errors import explain_missing_extra

__version__ = "0.1.0.dev0"

_MODULE_OF = {
    "Config": "rdi_tf.config",
    "RDIError": "rdi_tf.errors",
    "RDINet": "rdi_tf.network",
    "attach_exits": "rdi_tf.network",
    "calibrate_run": "rdi_tf.calibration",
    "evaluate": "rdi_tf.evaluation.run",
    "load": "rdi_tf.network",
    "preset_names": "rdi_tf.config",
    "train": "rdi_tf.training.run",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with explain_missing_extra():
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_MODULE_OF})
