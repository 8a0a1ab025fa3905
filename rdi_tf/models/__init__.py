"""Backbones, branches and the multi-exit networks made of them."""

from rdi_tf.models.attach import attach_branches, suggest_exits
from rdi_tf.models.branches import BRANCHES
from rdi_tf.models.folding import fold_batch_norm
from rdi_tf.models.graph import CutPoint, attach_points, cut_points, flatten, split_stages
from rdi_tf.models.registry import BACKBONES, build_backbone, build_network

__all__ = [
    "BACKBONES",
    "BRANCHES",
    "CutPoint",
    "attach_branches",
    "attach_points",
    "build_backbone",
    "build_network",
    "cut_points",
    "flatten",
    "fold_batch_norm",
    "split_stages",
    "suggest_exits",
]
