"""The one place that chooses which Keras the package runs on.

Everything that needs Keras does `from rdi_tf._keras import keras`. keras-cv decides between tf_keras and Keras 3 when
it is first imported, from TF_USE_LEGACY_KERAS, so the variable is set here, before anything else can import keras-cv.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tf_keras as keras  # noqa: E402

__all__ = ["keras"]
