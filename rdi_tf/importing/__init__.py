"""Weights trained elsewhere: reading PyTorch checkpoints safely, and giving their arrays to our networks."""

from rdi_tf.importing.torch_file import read_arrays
from rdi_tf.importing.weights import import_weights

__all__ = ["import_weights", "read_arrays"]
