"""Importing the parts of the library that import TensorFlow, without its notes about the hardware."""

import contextlib
import importlib
import os
import sys
import tempfile

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def library(module):
    """Import a module that imports TensorFlow.

    TensorFlow writes several lines on stderr on every start, at each processor without CUDA even an "error", and 2.21
    writes the first before it reads TF_CPP_MIN_LOG_LEVEL. They are held back, and shown only if the import fails. Who
    sets that variable sees everything.

    Args:
      module: absolute name.

    Returns:
      The module.
    """
    if LEVEL in os.environ:
        return importlib.import_module(module)
    os.environ[LEVEL] = "3"  # for what is written after the import, when the devices are looked for
    with _held_back_stderr():
        return importlib.import_module(module)


@contextlib.contextmanager
def _held_back_stderr():
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
