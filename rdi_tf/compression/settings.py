"""What was done to a network that `rdi-tf compress` made: the [compression] section of its run. No TensorFlow."""

from dataclasses import dataclass

METHODS = ("none", "quantize_aware", "prune", "prune_channels", "cluster")
REPORT = "compression.json"  # in a compressed run's folder: what came of it
PATTERNS = ("unstructured", "2:4", "block")


@dataclass(frozen=True)
class CompressionConfig:
    """How a run's network came from that of another run.

    Attributes:
      method: one of METHODS; "none" for a network that was trained from fresh weights.
      sparsity: share of the weights ("prune") or of the channels ("prune_channels") that is taken away.
      pattern: where zeros may lie, one of PATTERNS ("prune").
      clusters: different values that each layer's weights may have ("cluster").
      source: name of the run that it was made from.
      source_weights: SHA-256 of that run's weights.
    """

    method: str = "none"
    sparsity: float = 0.0
    pattern: str = "unstructured"
    clusters: int = 0
    source: str = ""
    source_weights: str = ""
