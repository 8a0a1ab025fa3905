"""Errors that a user can cause and mend. The command line prints their one line and exits with code 2."""


class RDIError(ValueError):
    """Base of all expected errors: says which argument, what was expected and what came."""


class ConfigError(RDIError):
    """A configuration, preset or option that cannot be used."""


class DataError(RDIError):
    """Images, labels or data sets that cannot be used."""


class CheckpointError(RDIError):
    """A model file, run folder or bundle that cannot be read or is not ours."""
