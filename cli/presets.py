"""`rdi-tf presets`: the experiments that can be named on the command line."""

from rdi_tf.cli import common
from rdi_tf.config import Config, preset_names
from rdi_tf.text_tables import aligned


@common.command("presets", example="rdi-tf presets --json")
def command():
    """List the presets: experiments that come with the package and can be trained by name."""
    presets = [Config.load(name) for name in preset_names()]
    rows = [
        (config.name, config.data.name, config.model.backbone, config.defence.name, f"{config.training.iterations}")
        for config in presets
    ]
    text = aligned(("PRESET", "DATA", "BACKBONE", "DEFENCE", "ITERATIONS"), rows)
    return common.Report({"presets": [config.to_dict() for config in presets]}, text)
