"""Backbones, branches and the multi-exit networks made of them."""

from rdi_tf.models.branches import BRANCHES
from rdi_tf.models.registry import BACKBONES, build_network

__all__ = ["BACKBONES", "BRANCHES", "build_network"]
