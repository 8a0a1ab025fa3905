"""Importing the parts of the library that import TensorFlow, without its notes about the hardware."""

import contextlib
import importlib
import os
import sys
import tempfile

from rdi_tf.errors import RDIError

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def library(module):
    """Import a module that imports TensorFlow.

    TensorFlow writes several lines on stderr on every start, at each processor without CUDA even an "error", and 2.21
    writes the first before it reads TF_CPP_MIN_LOG_LEVEL. They are held back, and shown only if the import fails. Who
    sets that variable to less than 3 sees everything.

    Args:
      module: absolute name.

    Returns:
      The module.
    """
    with held_back_stderr():
        os.environ.setdefault(LEVEL, "3")  # for what is written after the import, when the devices are looked for
        found = importlib.import_module(module)
    if os.environ[LEVEL] == "3" and "tensorflow" in sys.modules:
        # It warns of retracing wherever two attackers compile the same code, each once, for two networks or attacks.
        sys.modules["tensorflow"].get_logger().setLevel("ERROR")
    return found


@contextlib.contextmanager
def held_back_stderr():
    """Context manager that holds back what is written on stderr, below Python too, unless the block fails unexpectedly.

    For the notes of TensorFlow, its converter and LiteRT, which no variable turns off. Who sets TF_CPP_MIN_LOG_LEVEL
    to less than 3 sees everything.
    """
    if os.environ.get(LEVEL, "3") != "3" or sys.stderr is None:  # which it is where the process has none
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except RDIError:
            raise  # one line of its own says it all
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
