"""What a prediction costs in multiplications, in both accountings: executed, and the paper's.

"Executed" counts every multiply-add of convolutions and dense layers that runs until an exit is taken: the trunk up to
it and all branches up to and including its own. The paper counts multiplications of convolutions only, and for exit k
the trunk and branch k without the branches before it; its "MFlops" are those divided by 2**20. Savings are against the
plain backbone, which has no branches. Costs come from the layer graph; nothing is run.

Source: Hu et al., "Triple Wins" (ICLR 2020), section 4.1; the unit was checked against all of its figures.
"""

import dataclasses
import math
from dataclasses import dataclass

from rdi_tf.models.graph import flatten, node_tensors, ordered_nodes
from rdi_tf.models.macs import layer_macs
from rdi_tf.text_tables import aligned

PAPER_MFLOP = 2**20


@dataclass(frozen=True)
class LayerCosts:
    """Costs of one call of a layer, for one image.

    Attributes:
      name: the layer's name.
      type: its class name.
      output_shape: shape of its (first) output without the batch axis.
      macs: multiply-adds.
      paper_multiplications: multiplications that the paper counts (convolutions only).
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    macs: int
    paper_multiplications: int


@dataclass(frozen=True)
class ExitCost:
    """Cost of one image that leaves at an exit, or of the plain backbone.

    Attributes:
      name: the exit's name, or "backbone".
      executed_macs: multiply-adds that run until then.
      paper_multiplications: multiplications that the paper counts for it.
    """

    name: str
    executed_macs: int
    paper_multiplications: int

    @property
    def paper_mflops(self):
        """The paper's "MFlops", uncut."""
        return self.paper_multiplications / PAPER_MFLOP


@dataclass(frozen=True)
class NetworkCosts:
    """Costs of a multi-exit network.

    Attributes:
      layers: every layer, in an order in which they can run.
      exits: cost of leaving at each exit, in order.
      backbone: the same network without its branches.
    """

    layers: tuple[LayerCosts, ...]
    exits: tuple[ExitCost, ...]
    backbone: ExitCost

    def to_dict(self):
        """All of it as dictionaries and lists of plain values, for JSON; exits carry paper_mflops as well."""
        table = dataclasses.asdict(self)
        for entry, costs in zip((*table["exits"], table["backbone"]), (*self.exits, self.backbone), strict=True):
            entry["paper_mflops"] = costs.paper_mflops
        table["layers"] = [{**layer, "output_shape": list(layer["output_shape"])} for layer in table["layers"]]
        table["exits"] = list(table["exits"])
        return table


def network_costs(network):
    """Count what each exit of a network costs, for one image.

    Args:
      network: functional tf_keras model with fixed image size; its outputs are the exits in order, main last. A plain
        classifier is a network with one exit.

    Returns:
      `NetworkCosts`.

    Raises:
      ConfigError: not a functional model, an unknown image size, or a layer with weights of a type that is not in
        `rdi_tf.models.macs.LAYER_MACS` (add a function for it there).
    """
    network = flatten(network)
    per_node = {id(node): _layer_costs(node) for node in ordered_nodes(network.outputs)}
    exits = []
    for index, name in enumerate(network.output_names):
        executed = [per_node[id(node)] for node in ordered_nodes(network.outputs[: index + 1])]
        alone = [per_node[id(node)] for node in ordered_nodes([network.outputs[index]])]
        exits.append(_exit_costs(name, executed, alone))
    trunk = [per_node[id(node)] for node in ordered_nodes([network.outputs[-1]])]
    return NetworkCosts(tuple(per_node.values()), tuple(exits), _exit_costs("backbone", trunk, trunk))


def _exit_costs(name, executed, alone):
    return ExitCost(name, sum(layer.macs for layer in executed), sum(layer.paper_multiplications for layer in alone))


def _layer_costs(node):
    output_shape = tuple(node_tensors(node)[0].shape[1:])
    macs, is_convolution = layer_macs(node)
    return LayerCosts(node.layer.name, type(node.layer).__name__, output_shape, macs, macs if is_convolution else 0)


def cut_decimals(value, decimals=2):
    """A number as text with decimals cut off, not rounded, as the paper prints its figures (79.429… is "79.42")."""
    return f"{math.floor(value * 10**decimals) / 10**decimals:.{decimals}f}"


def costs_table(costs):
    """Exits and their costs as a plain text table.

    Args:
      costs: a `NetworkCosts`.

    Returns:
      Text: one line per exit and one for the plain backbone, with executed multiply-adds, their share of the
      backbone's, and the paper's MFlops cut to two decimals.
    """
    rows = []
    for entry in (*costs.exits, costs.backbone):
        share = entry.executed_macs / costs.backbone.executed_macs
        rows.append((entry.name, f"{entry.executed_macs:,}", f"{share:.1%}", cut_decimals(entry.paper_mflops)))
    return aligned(("exit", "executed MACs", "of backbone", "paper MFlops"), rows)
