"""What kind of network a run holds, and how pictures mark it: never by colour alone. No TensorFlow."""

from dataclasses import dataclass

# By compression: a shape and a colour (Okabe and Ito's).
_MARKS = {
    "none": ("o", "#0072B2"),
    "prune_channels": ("s", "#D55E00"),
    "prune": ("D", "#009E73"),
    "cluster": ("^", "#CC79A7"),
    "quantize_aware": ("P", "#E69F00"),
}
_UNDEFENDED = "X"
# Of the paper's own networks, by how their names there begin; others have one exit.
_REPORTED = {"ATMC": ("*", "#000000"), "RDI-": ("o", "#555555")}
_REPORTED_SINGLE = ("p", "#555555")
MARKS_EXPLAINED = (
    "In the pictures, filled marks have several exits, half filled ones one. Circles are as trained, squares have "
    "fewer channels, diamonds weights that are zero, triangles few different weights, plus signs int8 weights and "
    "activations; crosses were not defended. Hollow ones are reported by the paper: circles RDI, pentagons one exit, "
    "the star ATMC. Areas grow with cost."
)


@dataclass(frozen=True)
class Mark:
    """How a network is drawn.

    Attributes:
      shape: matplotlib's name of the marker.
      fill: "full", "left" (half of it) or "none".
      colour: of its edge and fill.
    """

    shape: str
    fill: str
    colour: str


@dataclass(frozen=True)
class Kind:
    """What kind of network it is.

    Attributes:
      exits: number of exits.
      defended: whether it was trained against attacks.
      method: how it was compressed, one of `rdi_tf.compression.settings.METHODS`.
      amount: the share that was taken away, or the number of clusters; 0 where neither applies.
    """

    exits: int
    defended: bool
    method: str
    amount: float

    @classmethod
    def of(cls, config, exits):
        """The kind of a run with a `Config`, whose network has so many exits."""
        compression = config.compression
        amount = compression.clusters if compression.method == "cluster" else compression.sparsity
        return cls(exits, config.defence.name != "standard", compression.method, amount)

    @property
    def text(self):
        """In words."""
        network = "one exit" if self.exits == 1 else ("RDI" if self.defended else f"{self.exits} exits")
        compressed = {
            "none": "",
            "prune_channels": f", {self.amount:.0%} of the channels out",
            "prune": f", {self.amount:.0%} of the weights zero",
            "cluster": f", {self.amount:g} weights per layer",
            "quantize_aware": ", trained for int8",
        }[self.method]
        return f"{network}{'' if self.defended else ', not defended'}{compressed}"

    @property
    def mark(self):
        """Its `Mark`."""
        shape, colour = _MARKS[self.method]
        return Mark(shape if self.defended else _UNDEFENDED, "left" if self.exits == 1 else "full", colour)


def reported_mark(network):
    """The `Mark` of a network of the paper's, by its name there."""
    found = (mark for start, mark in _REPORTED.items() if network.startswith(start))
    shape, colour = next(found, _REPORTED_SINGLE)
    return Mark(shape, "none", colour)
