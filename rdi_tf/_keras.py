"""The one place that chooses which Keras the package runs on.

Everything that needs Keras does `from rdi_tf._keras import keras`. keras-cv decides between tf_keras and Keras 3 when
it is first imported, from TF_USE_LEGACY_KERAS, so the variable is set here, before anything else can import keras-cv.
keras-cv takes its Keras from `tensorflow.keras`, and TensorFlow chose what that is when it was imported itself, maybe
before this module: so the choice is mended here too.
"""

import os
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow  # noqa: E402
import tf_keras as keras  # noqa: E402

_LEGACY_API = str(Path(keras.__file__).parent / "api" / "_v2")
if _LEGACY_API not in tensorflow.__path__:
    tensorflow.__path__.insert(0, _LEGACY_API)

__all__ = ["keras"]
