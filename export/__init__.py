"""Exported models: one LiteRT model per stage in a bundle, and the runtime that runs them one after another.

Running bundles needs NumPy and ai-edge-litert; making them (`rdi_tf.export.write`) and comparing them with the float
model (`rdi_tf.export.compare`) need TensorFlow, and are imported by themselves.
"""

from rdi_tf.export.bundle import Bundle, GoldenVectors
from rdi_tf.export.cascade import BatchPrediction, Cascade, Prediction
from rdi_tf.export.manifest import BundleError, Manifest
from rdi_tf.export.unsplit import Unsplit

__all__ = [
    "BatchPrediction",
    "Bundle",
    "BundleError",
    "Cascade",
    "GoldenVectors",
    "Manifest",
    "Prediction",
    "Unsplit",
]
