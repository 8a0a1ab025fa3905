"""What every evaluation works with: a network, its exit rule, images, an attack; and how plans of attacks run.

Finished batches are kept in a folder, under names that tell apart all that changes them, so that work that was killed
goes on where it was.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdi_tf.attacks import ExitRule
from rdi_tf.calibration import CalibrationImages, exit_costs, load_run
from rdi_tf.calibration_source import CalibrationSource
from rdi_tf.config import AttackConfig, Config
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.data.sources import short_name
from rdi_tf.distribution import Cluster
from rdi_tf.errors import CheckpointError
from rdi_tf.evaluation.options import BenchOptions
from rdi_tf.evaluation.policy_outputs import combines
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.evaluation.run_results import RESULT_DIGEST, text_digest
from rdi_tf.evaluation.suites import Attacked, depends_on_rule
from rdi_tf.network import RDINet
from rdi_tf.policies import POLICIES, decide, get_policy
from rdi_tf.provenance import provenance
from rdi_tf.runs import RunFolder, atomic_path, write_atomic


@dataclass(frozen=True, eq=False)
class Workbench:
    """A network on the table, with all that an evaluation of it needs.

    Attributes:
      net: the `RDINet`.
      rule: the `ExitRule` that is evaluated.
      attack: `AttackConfig`, the evaluation attack that suites refer to.
      images: float32 array (n, height, width, channels) in [0, 1].
      labels: int32 array (n,).
      seed: seed of the attacks.
      batch_size: images at a time.
      outputs: "exits" or "policy", as `ExitAttacker`'s.
      folder: where finished batches are kept; None to keep none.
      progress: callable (attack, images done, images), or None.
      calibrated_on: the `CalibrationSource` of the rule's thresholds, or None where it is not known.
      config: the run's `Config`, with the rule that is evaluated.
      run: the `RunFolder`; None without one.
      class_names: names of the classes, in label order.
      dataset: name of the data set.
      split: "test", "validation" or "train": where the images come from.
      whole: whether the images are the whole split.
      cluster: the `Cluster` that attacks.
      computed: what was computed when it was first asked for, and benches that differ in rule or attack share.
    """

    net: RDINet
    rule: ExitRule
    attack: AttackConfig
    images: np.ndarray
    labels: np.ndarray
    seed: int = 0
    batch_size: int = 250
    outputs: str = "policy"
    folder: Path | None = None
    progress: object = None
    calibrated_on: CalibrationSource | None = None
    config: Config | None = None
    run: RunFolder | None = None
    class_names: tuple[str, ...] = ()
    dataset: str = ""
    split: str = "test"
    whole: bool = True
    cluster: Cluster = dataclasses.field(default_factory=lambda: Cluster(None))
    computed: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, run_dir, **options):
        """Open a run with the images of one split.

        Args:
          run_dir: a run folder with a calibrated model.
          **options: fields of `rdi_tf.evaluation.options.BenchOptions`.

        Returns:
          The `Workbench`.

        Raises:
          CheckpointError: no run, no model, or a model without thresholds where they are asked for.
          ConfigError: an unknown exit rule, or an attack that no evaluation makes.
          DataError: the data set cannot be had.
        """
        options = BenchOptions(**options)
        run = RunFolder.open(run_dir)
        with options.cluster.scope():
            net = load_run(run)
        dataset = load_dataset(net.config.data, options.split, net.config.model.input_shape, options.data_dir)
        bench = cls._of(run, net, dataset, options)
        if options.policy not in (None, net.config.policy.name):
            return bench.with_policies([options.policy], options.data_dir)[0]
        if net.thresholds is None:
            raise CheckpointError(f"{run.model_file}: has no thresholds yet; run `rdi-tf calibrate {run.path}` first")
        return bench

    @classmethod
    def _of(cls, run, net, dataset, options):
        # As part of a configuration, so that what a configuration refuses is refused here, too.
        attack = dataclasses.replace(net.config, evaluation=options.attack or net.config.evaluation).evaluation
        images, labels = as_arrays(dataset, options.limit)
        key = options.key(net, attack, images)
        return cls(
            net=net,
            rule=net.exit_rule,
            attack=attack,
            images=images,
            labels=labels,
            seed=options.seed,
            batch_size=options.batch_size,
            outputs=options.attack_outputs,
            folder=run.evaluation / f"unfinished-{key}",
            progress=options.progress if options.cluster.is_chief else None,
            calibrated_on=net.calibrated_on,
            config=net.config,
            run=run,
            class_names=tuple(dataset.class_names),
            dataset=short_name(net.config.data.name),
            split=options.split,
            whole=len(images) == dataset.size,
            cluster=options.cluster,
        )

    def with_policies(self, names, data_dir=None):
        """The same bench once for each of several exit rules, all calibrated on one pass over the validation images.

        Args:
          names: names of exit rules; the run's own keeps its thresholds, where it has them.
          data_dir: TFDS directory, as `open`'s.

        Returns:
          List of `Workbench`.

        Raises:
          ConfigError: an unknown rule, or a calibration that it cannot follow.
          DataError: the data set cannot be had.
        """
        names = [get_policy(name).name for name in names]
        stored = {self.config.policy.name} if self.net.thresholds is not None else set()
        return [self if name in stored else self._with_policy(name, data_dir) for name in names]

    def _with_policy(self, name, data_dir):
        policy = dataclasses.replace(self.config.policy, name=name)
        config = dataclasses.replace(self.config, policy=policy)
        found = self._calibration_images(config, data_dir).calibrate(policy)
        return dataclasses.replace(
            self, rule=ExitRule(name, found.thresholds), calibrated_on=found.source, config=config
        )

    def _calibration_images(self, config, data_dir):
        def compute():
            with self.cluster.scope():
                return CalibrationImages.of(self.net, config, data_dir, progress=self.progress, cluster=self.cluster)

        # Attacked ones aim at what the rule calls classes from; clean ones do for every rule.
        policy = config.policy
        return self.once(("calibration", policy.adversarial and POLICIES[policy.name].combine), compute)

    def first(self, count):
        """The same with the first `count` images only; its batches are kept apart."""
        folder = None if self.folder is None else self.folder / f"first-{count}"
        return dataclasses.replace(
            self,
            images=self.images[:count],
            labels=self.labels[:count],
            computed=self.once(f"first-{count}", lambda: {"clean": self.clean[:count]}),
            batch_size=min(self.batch_size, count, len(self.labels)),
            folder=folder,
            whole=False,
        )

    def apart(self, work):
        """The same with its unfinished batches in a folder of their own, as evaluations that run side by side need."""
        return dataclasses.replace(self, folder=self.folder.with_name(f"{self.folder.name}-{work}")) if work else self

    def agree(self, *work):
        """Refuse, by `ConfigError`, processes of the cluster that are about to do different `work`, plain values."""
        self.cluster.check_same_work(repr((self.folder.name, self.rule, self.outputs, work)))

    def provenance(self, command):
        """Where figures of this bench come from, and the number of replicas where there are several."""
        replicas = self.cluster.replicas
        return {**provenance(command, self.seed), **({"replicas": replicas} if replicas > 1 else {})}

    @property
    def results(self):
        """Where what is found is kept: RUN/evaluation, or a folder in it for another split than the test split."""
        return self.run.evaluation if self.split == "test" else self.run.evaluation / self.split

    def keep(self, name, texts, arrays=None):
        """Write what was found to `results`, by one process for all, and throw the unfinished batches away.

        Args:
          name: of the files, without suffix.
          texts: dict from suffix to text.
          arrays: dict from name to array, for an NPZ; None for none.
        """
        if self.cluster.is_chief:
            self.results.mkdir(exist_ok=True)
            for suffix, text in texts.items():
                write_atomic(self.results / f"{name}{suffix}", text)
            if arrays is not None:
                if ".json" in texts:
                    arrays = {**arrays, RESULT_DIGEST: np.array(text_digest(texts[".json"]))}
                with atomic_path(self.results / f"{name}.npz") as temporary:
                    np.savez_compressed(temporary, **arrays)
            shutil.rmtree(self.folder, ignore_errors=True)
        self.cluster.wait()

    @property
    def clean(self):
        """Exit logits of the images as they are, float32 (n, exits, classes)."""
        return self.once("clean", lambda: self.attacker(self.attack).clean_logits(self.images))

    @property
    def aim(self):
        """What attacks on exits aim at, as a key: the same for exit rules that such attacks cannot tell apart."""
        return POLICIES[self.rule.name].combine if self.follows_rule else None

    @property
    def follows_rule(self):
        """Whether attacks on exits have to follow the averages that the rule calls classes from."""
        return combines(self.outputs, self.rule)

    def once(self, key, compute):
        """What `compute()` gives, computed when it is first asked for under a key that says all it depends on."""
        if key not in self.computed:
            self.computed[key] = compute()
        return self.computed[key]

    @functools.cached_property
    def costs(self):
        """The `ExitCosts` of the network."""
        return exit_costs(self.net)

    def attacker(self, attack, batch_size=None, judged_by_rule=False):
        """An `ExitAttacker` of this network, rule, seed and outputs that searches by an `AttackConfig`."""
        size = batch_size or self.batch_size
        with self.cluster.scope():
            return ExitAttacker(
                self.net, attack, self.seed, size, self.rule, self.outputs, self.cluster, judged_by_rule
            )

    def right(self, exit_logits):
        """Which images the rule calls right, given their exit logits: bool (n,)."""
        decision = decide(get_policy(self.rule.name), exit_logits, self.rule.thresholds)
        return decision.predictions == self.labels

    def run_attacks(self, attacks, known=None):
        """Run attacks, those on survivors in turns.

        Args:
          attacks: sequence of `rdi_tf.evaluation.suites.NamedAttack`.
          known: dict from attack name to exit logits that need not be computed again, or None.

        Returns:
          `Attacked`, in the order of `attacks`.
        """
        found, met = dict(known or {}), {}
        together = [attack for attack in attacks if not attack.on_survivors and attack.name not in found]
        for (search, knows_rule), group in itertools.groupby(together, self._kind):
            found |= self._run_together(search, knows_rule, list(group))
        worst, survives = self.clean, self.right(self.clean)
        for attack in attacks:
            met[attack.name] = int(survives.sum()) if attack.on_survivors else len(self.labels)
            if attack.on_survivors and attack.name not in found:
                found[attack.name] = self._run_on_survivors(attack, survives, worst)
            right = self.right(found[attack.name])
            worst = np.where((survives & ~right)[:, None, None], found[attack.name], worst)
            survives &= right
        return Attacked({attack.name: found[attack.name] for attack in attacks}, met)

    def _kind(self, attack):
        return attack.search, depends_on_rule(attack.form, self.net.exit_names)

    def _run_together(self, search, knows_rule, attacks):
        folder = self._folder_of(search, self.rule if knows_rule else None)
        forms = list(dict.fromkeys(attack.form for attack in attacks))  # two names may mean the same
        progress = self._progress_with(attacks[0].name.removesuffix(attacks[0].form))
        logits = self.attacker(search).logits(forms, self.images, self.labels, folder, progress)
        return {attack.name: logits[attack.form] for attack in attacks}

    def _run_on_survivors(self, attack, survives, worst):
        # Batches of equal size waste less than full ones and a rest that is padded to a full one.
        count = max(int(survives.sum()), 1)
        size = math.ceil(count / math.ceil(count / self.batch_size))
        folder = self._folder_of(attack.search, self.rule, survives.tobytes())
        progress = self._progress_with(attack.name.removesuffix(attack.form))
        return self.attacker(attack.search, size, judged_by_rule=True).surviving_logits(
            attack.form, self.images, self.labels, survives, worst, folder, progress
        )

    def _progress_with(self, prefix):
        if self.progress is None:
            return None
        return lambda form, done, images: self.progress(f"{prefix}{form}", done, images)

    def _folder_of(self, search, rule, survivors=b""):
        """Where batches of such attacks are kept: those of the evaluation attack itself in the folder's top."""
        policy = self.rule.name if self.follows_rule else None
        if self.folder is None or (search, rule, policy) == (self.attack, None, None):
            return self.folder
        return self.folder / hashlib.sha256(repr((search, rule, policy)).encode() + survivors).hexdigest()[:12]
