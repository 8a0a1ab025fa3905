"""`rdi-tf calibrate`: choose the exit thresholds of a trained network."""

from rdi_tf.cli import common
from rdi_tf.cli.library import library
from rdi_tf.config_rules import policy_doubts
from rdi_tf.text_tables import aligned


@common.command("calibrate", example="rdi-tf calibrate runs/mnist-smallcnn --set policy.calibration=least_macs")
@common.run_argument
@common.settings_option
@common.data_dir_option
@common.quiet_option
def command(run, settings, data_dir, quiet):
    """Choose the thresholds of RUN's network on its validation images and keep them in RUN/model.keras.

    The policy is the one that the run was configured with; --set policy.KEY=VALUE changes it for this calibration.

    Evaluations in RUN/evaluation keep what they found under the thresholds before, until the same command replaces
    them: thresholds are not in their names. Copy RUN first to keep both. Export again, too.
    """
    policy = common.section_of_run(run, "policy", settings)
    for doubt in policy_doubts(policy):
        common.warn(doubt)
    progress = None if quiet else common.attack_progress
    found = library("rdi_tf.calibration").calibrate_run(run, policy, data_dir=data_dir, progress=progress)
    return common.Report({"run": str(run), **found.to_dict()}, calibration_text(found))


def calibration_text(found):
    """A `Calibration` for people: what it gives on the images that it saw, and a line for each exit."""
    names = [*(f"branch_{k + 1}" for k in range(len(found.thresholds))), "main"]
    thresholds = [*(f"{threshold:.4g}" for threshold in found.thresholds), ""]
    rows = [
        (name, threshold, f"{share:.1%}")
        for name, threshold, share in zip(names, thresholds, found.exit_shares, strict=True)
    ]
    return (
        f"{found.policy.name}, {found.policy.calibration}, on {found.images} validation images: accuracy "
        f"{found.accuracy:.2%}, {found.average_executed_macs:,.0f} executed multiply-adds per image\n"
        + aligned(("EXIT", "THRESHOLD", "LEAVE THERE"), rows)
    )
