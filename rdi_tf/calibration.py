"""Calibration of a run: thresholds from its validation split, kept in its model file."""

import dataclasses

import numpy as np

from rdi_tf.calibration_source import CalibrationSource, image_digest
from rdi_tf.costs import network_costs
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.data.sources import short_name
from rdi_tf.errors import CheckpointError
from rdi_tf.evaluation.policy_outputs import rule_to_aim_at
from rdi_tf.evaluation.results import ExitCosts
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.network import load
from rdi_tf.policies import decide, get_policy
from rdi_tf.runs import RunFolder, atomic_path
from rdi_tf.thresholds import calibrate, check_policy


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a calibration found, on the images that it saw.

    Attributes:
      policy: the `PolicyConfig` that was followed.
      thresholds: one for each exit but the last.
      images: number of images, adversarial ones included.
      accuracy: accuracy through the policy, a fraction.
      exit_shares: share of the images that leave at each exit.
      average_executed_macs: executed multiply-adds per image.
      source: `CalibrationSource`, which images those were.
    """

    policy: object
    thresholds: tuple[float, ...]
    images: int
    accuracy: float
    exit_shares: tuple[float, ...]
    average_executed_macs: float
    source: CalibrationSource

    def to_dict(self):
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def exit_costs(net):
    """Costs of each exit of an `RDINet`, as results keep them."""
    costs = network_costs(net.network)
    return ExitCosts(
        exit_names=tuple(net.exit_names),
        executed_macs=tuple(float(cost.executed_macs) for cost in costs.exits),
        paper_mflops=tuple(cost.paper_mflops for cost in costs.exits),
        backbone_executed_macs=float(costs.backbone.executed_macs),
        backbone_paper_mflops=costs.backbone.paper_mflops,
    )


def calibrate_run(run_dir, policy=None, data_dir=None, limit=None, progress=None):
    """Choose the thresholds of a run's network on its validation split and store them in its model file.

    Args:
      run_dir: a run folder with a model.
      policy: `PolicyConfig`; None for the run's own. With `adversarial`, the images are joined by their max-average
        adversarial versions under the run's evaluation attack.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      limit: use the first so many validation images; None for all.
      progress: callable (form, images done, images), or None.

    Returns:
      The `Calibration`.

    Raises:
      CheckpointError: no run, no model in it, or one that another process trains.
      ConfigError: a policy that cannot be followed.
      DataError: the data set cannot be had.
    """
    run = RunFolder.open(run_dir)
    with run.locked():  # a training that ends meanwhile would write its own model
        return calibrate_held(run, policy, data_dir, limit, progress)


def calibrate_held(run, policy=None, data_dir=None, limit=None, progress=None):
    """As `calibrate_run`, for a `RunFolder` that this process holds locked already."""
    net = load_run(run)
    config = net.config if policy is None else dataclasses.replace(net.config, policy=policy)
    check_policy(config.policy, exit_costs(net).executed_macs)
    found = CalibrationImages.of(net, config, data_dir, limit, progress).calibrate(config.policy)
    net.config, net.thresholds, net.calibrated_on = config, found.thresholds, found.source
    with atomic_path(run.model_file) as temporary:
        net.save(temporary)
    return found


@dataclasses.dataclass(frozen=True)
class CalibrationImages:
    """What a network says of its validation images; any number of exit rules can be calibrated on clean ones.

    Attributes:
      logits: exit logits (n, exits, classes), of adversarial versions too where the configuration asks for them: these
        aim at what its exit rule calls classes from.
      labels: int32 (n,).
      executed_macs: executed multiply-adds of each exit.
      source: `CalibrationSource` of the images.
    """

    logits: np.ndarray
    labels: np.ndarray
    executed_macs: tuple[float, ...]
    source: CalibrationSource

    @classmethod
    def of(cls, net, config, data_dir=None, limit=None, progress=None, cluster=None):
        """Run `net` on the validation images of `config`, a `Config`.

        Args:
          net, config: the `RDINet` and its `Config`.
          data_dir, limit, progress: as `calibrate_run`'s.
          cluster: `rdi_tf.distribution.Cluster` in whose scope the network was made; None for one device.
        """
        images, labels = as_arrays(load_dataset(config.data, "validation", config.model.input_shape, data_dir), limit)
        source = CalibrationSource(short_name(config.data.name), "validation", len(images), image_digest(images))
        rule = rule_to_aim_at(config.policy.name, net.num_exits)
        seed = config.training.seed
        attacker = ExitAttacker(net, config.evaluation, seed, rule=rule, outputs="policy", cluster=cluster)
        logits = attacker.clean_logits(images)
        if config.policy.adversarial:
            attacked = attacker.logits(["max_average"], images, labels, progress=progress)["max_average"]
            logits, labels = np.concatenate([logits, attacked]), np.concatenate([labels, labels])
        return cls(logits, labels, exit_costs(net).executed_macs, source)

    def calibrate(self, policy_config):
        """The `Calibration` that a `PolicyConfig` asks for; one that cannot be followed raises `ConfigError`."""
        thresholds = calibrate(policy_config, self.logits, self.labels, self.executed_macs)
        decision = decide(get_policy(policy_config.name), self.logits, thresholds)
        shares = np.bincount(decision.exits, minlength=self.logits.shape[1]) / len(self.labels)
        return Calibration(
            policy=policy_config,
            thresholds=thresholds,
            images=len(self.labels),
            accuracy=float((decision.predictions == self.labels).mean()),
            exit_shares=tuple(shares.tolist()),
            average_executed_macs=float(shares @ np.array(self.executed_macs)),
            source=self.source,
        )


def load_run(run):
    """The network of a `RunFolder`; without one raises `CheckpointError`."""
    if not run.model_file.is_file():
        raise CheckpointError(f"{run.path} has no model.keras yet: train until the first validation")
    net = load(run.model_file)
    if net.config is None:
        raise CheckpointError(f"{run.model_file}: holds no configuration")
    return net
