"""`rdi-tf costs`: what each exit of a network costs."""

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.errors import ConfigError
from rdi_tf.runs import RunFolder


@common.command("costs", example="rdi-tf costs mnist-smallcnn --set model.branch=paper")
@common.config_argument
@common.settings_option
def command(config, settings):
    """Count the multiply-adds of each exit of CONFIG's network: a preset, a run folder or a TOML file.

    "Executed" is all that runs until an image leaves there, the branches before it included; "paper MFlops" is the
    paper's own accounting. Neither needs a trained network or data.
    """
    chosen = common.read_config(config, settings)
    network, costs = _network(chosen, common.run_folder_of(config), settings), library("rdi_tf.costs")
    counted = costs.network_costs(network)
    return common.Report({"config": chosen.to_dict(), **counted.to_dict()}, costs.costs_table(counted))


def _network(config, run, settings):
    """The network that a configuration describes; of a compressed run the one that it holds."""
    if config.compression.method == "none":
        return library("rdi_tf.models").build_network(config.model)
    if run is None or settings:
        raise ConfigError("costs: of a compressed network they are counted from its run; expected RUN, without --set")
    return library("rdi_tf.calibration").load_run(RunFolder.open(run)).network
