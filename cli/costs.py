"""`rdi-tf costs`: what each exit of a network costs."""

from rdi_tf.cli import common
from rdi_tf.cli.library import library


@common.command("costs", example="rdi-tf costs mnist-smallcnn --set model.branch=paper")
@common.config_argument
@common.settings_option
def command(config, settings):
    """Count the multiply-adds of each exit of CONFIG's network: a preset, a run folder or a TOML file.

    "Executed" is all that runs until an image leaves there, the branches before it included; "paper MFlops" is the
    paper's own accounting. Neither needs a trained network or data.
    """
    chosen = common.read_config(config, settings)
    models, costs = library("rdi_tf.models"), library("rdi_tf.costs")
    counted = costs.network_costs(models.build_network(chosen.model))
    return common.Report({"config": chosen.to_dict(), **counted.to_dict()}, costs.costs_table(counted))
