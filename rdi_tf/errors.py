"""Errors that a user can cause and mend. The command line prints their one line and exits with code 2."""

import contextlib


class RDIError(ValueError):
    """Base of all expected errors: says which argument, what was expected and what came."""


class ConfigError(RDIError):
    """A configuration, preset or option that cannot be used."""


class DataError(RDIError):
    """Images, labels or data sets that cannot be used."""


class CheckpointError(RDIError):
    """A model file, run folder or bundle that cannot be read or is not ours."""


class TrainingError(RDIError):
    """A training run that cannot go on: a loss that is no longer a number, a full disk."""


class MissingExtraError(RDIError, ImportError):
    """Something that needs TensorFlow, or another part of the `train` extra, which is not installed."""


TRAIN_MODULES = frozenset(
    {
        "importlib_resources",
        "keras_cv",
        "matplotlib",
        "sklearn",
        "tensorflow",
        "tensorflow_datasets",
        "tensorflow_model_optimization",
        "tf_keras",
    }
)


@contextlib.contextmanager
def explain_missing_extra():
    """Turn the failed import of a module of the `train` extra into a `MissingExtraError`; others pass as they are."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in TRAIN_MODULES:
            raise
        extra = "it comes with the extra train: pip install '.[train]' in a checkout"
        raise MissingExtraError(f"{module} is not installed; {extra}") from error
