"""Logits of a network on clean and adversarial images: compiled once for each form, resumable batch by batch."""

import dataclasses

import numpy as np
import tensorflow as tf

from rdi_tf.attacks import SLOWDOWN, craft, form_names, loss_function, policy_form_names
from rdi_tf.data.checks import check_images, check_labels
from rdi_tf.distribution import Cluster, in_replicas
from rdi_tf.errors import DataError
from rdi_tf.evaluation.batches import BatchFolder
from rdi_tf.evaluation.policy_outputs import combines, policy_losses
from rdi_tf.policies import get_policy, log_softmax
from rdi_tf.seeds import fold


class ExitAttacker:
    """Attacks one network in batches of one fixed shape, so that each form is traced and compiled once.

    `max_average` of cross-entropies costs nothing beyond the single attacks: its candidates are theirs, and which one
    it takes follows from their logits.

    Attributes:
      net: the network, batch norm folded into its convolutions; it follows the weights of the one that it came from.
      losses: the `rdi_tf.attacks.ExitLosses` that the paper's forms attack.
    """

    def __init__(
        self, net, attack, seed=0, batch_size=250, rule=None, outputs="exits", cluster=None, judged_by_rule=False
    ):
        """Prepare.

        Args:
          net: `rdi_tf.network.RDINet`; attacked in inference mode.
          attack: `rdi_tf.config.AttackConfig`.
          seed: from which random starts derive, folded with the number of the batch.
          batch_size: images at a time; the last batch is padded to it.
          rule: `rdi_tf.attacks.ExitRule` that attacks on the exit rule aim at; None for the network's own.
          outputs: "exits" where the forms of the paper attack each exit's own logits, "policy" where they attack what
            the rule calls classes from (they differ for rules that average over exits).
          cluster: `rdi_tf.distribution.Cluster` in whose scope the network was made, whose replicas share each batch;
            None for one device. With several replicas random starts are other ones than with one.
          judged_by_rule: whether forms of the paper, too, keep of each search the candidate that the rule's decision is
            most wrong about, instead of the one with which the search ends.

        Raises:
          ConfigError: other `outputs`, or "policy" without a rule.
        """
        # The same network, cheaper: what is attacked here runs in inference mode only.
        self.net = net = net.folded()
        self.attack = attack
        self.seed = tf.constant([seed, 0], tf.int32)
        self._cluster = cluster or Cluster(None)
        self.batch_size = batch_size + -batch_size % self._cluster.replicas
        rule = rule or net.exit_rule
        loss = loss_function(attack.loss)
        self._combines = combines(outputs, rule)
        on_rule = dataclasses.replace(net.exit_losses(loss=loss), rule=rule)
        self.losses = policy_losses(net, rule, loss) if self._combines else on_rule
        # Forms that attack the rule do its combining themselves.
        self._losses_of = {form: self.losses for form in form_names(net.exit_names)}
        self._decided = (lambda images: rule.route(on_rule.logits(images)).taken()) if judged_by_rule else None
        self._losses_of |= dict.fromkeys((*policy_form_names(net.exit_names), SLOWDOWN), on_rule)
        self._compiled = {}
        self._forward_share = in_replicas(self._cluster.strategy, lambda seed, images: net(images))

    def clean_logits(self, images):
        """Logits of all exits on images as they are.

        Args:
          images: float32 array (n, height, width, channels) in [0, 1].

        Returns:
          float32 array (n, exits, classes).

        Raises:
          DataError: images that the network cannot take.
        """
        images, _ = self._checked(images)
        batches = [self._forward(self._pad(images[s]))[: s.stop - s.start].numpy() for s in self._slices(len(images))]
        return np.concatenate(batches)

    def logits(self, forms, images, labels, folder=None, progress=None):
        """Logits of all exits on adversarial images of several forms.

        Args:
          forms: names that `rdi_tf.attacks.craft` knows.
          images: float32 array (n, height, width, channels) in [0, 1].
          labels: int32 array (n,).
          folder: where finished batches are kept, so that a killed evaluation goes on where it was; None to keep none.
          progress: callable (form, images done, images) called after each batch, or None.

        Returns:
          Dictionary form -> float32 array (n, exits, classes), in the order of `forms`.

        Raises:
          ConfigError: an unknown form.
          DataError: images or labels that the network cannot take.
        """
        images, labels = self._checked(images, labels)
        exit_names = self.net.exit_names
        if len(exit_names) == 1 and (same := [form for form in forms if form in form_names(exit_names)]):
            others = [form for form in forms if form not in same]
            found = {form: self._form_logits(form, images, labels, folder, progress) for form in ("main", *others)}
            return {form: found["main" if form in same else form] for form in forms}
        # `strongest_logits` compares cross-entropies; by another loss, the form crafts and compares for itself.
        derived = "max_average" in forms and self.attack.loss == "cross_entropy"
        run = [form for form in forms if form != "max_average" or not derived]
        if derived:
            run = [*exit_names, *(form for form in run if form not in exit_names)]
        found = {form: self._form_logits(form, images, labels, folder, progress) for form in run}
        if derived:
            combine = get_policy(self.losses.rule.name).log_probabilities if self._combines else None
            found["max_average"] = strongest_logits(np.stack([found[name] for name in exit_names]), labels, combine)
        return {form: found[form] for form in forms}

    def surviving_logits(self, form, images, labels, survives, logits, folder=None, progress=None):
        """Attack only the images that still stand, in full batches, and put the findings back in their places.

        For attacks that take turns: what one of them has broken leaves the batch.

        Args:
          form: a name that `rdi_tf.attacks.craft` knows.
          images: float32 array (n, height, width, channels) in [0, 1].
          labels: int32 array (n,).
          survives: bool array (n,), which images to attack.
          logits: float32 array (n, exits, classes), what is known of all images; those not attacked keep theirs.
          folder: as `logits`'; a folder for this turn alone, since its batches hold other images than a full run's.
          progress: as `logits`'.

        Returns:
          float32 array (n, exits, classes).
        """
        found = np.array(logits)
        if survives.any():
            found[survives] = self._form_logits(form, images[survives], labels[survives], folder, progress)
        return found

    def adversarial_images(self, form, images, labels):
        """Adversarial images themselves; the same as those behind `logits`.

        Args:
          form: a name that `rdi_tf.attacks.craft` knows.
          images: float32 array (n, height, width, channels) in [0, 1].
          labels: int32 array (n,).

        Returns:
          float32 array like `images`.

        Raises:
          ConfigError: an unknown form.
          DataError: images or labels that the network cannot take.
        """
        images, labels = self._checked(images, labels)
        batches = []
        for number, part in enumerate(self._slices(len(images))):
            found = self._craft(form)(self._batch_seed(number), self._pad(images[part]), self._pad(labels[part]))
            batches.append(found[: part.stop - part.start].numpy())
        return np.concatenate(batches)

    def _checked(self, images, labels=None):
        check_images(images, self.net.network.input_shape[1:])
        if len(images) == 0:
            raise DataError("images: expected one at least, got none")
        if labels is not None:
            check_labels(labels, self.net.num_classes)
            if len(labels) != len(images):
                raise DataError(f"labels: expected {len(images)}, one for each image, got {len(labels)}")
            labels = np.asarray(labels, np.int32)
        return np.asarray(images, np.float32), labels

    def _form_logits(self, form, images, labels, folder, progress):
        kept, batches = BatchFolder(folder, self._cluster), []
        for number, part in enumerate(self._slices(len(images))):

            def compute(number=number, part=part):
                padded, padded_labels = self._pad(images[part]), self._pad(labels[part])
                adversarial = self._craft(form)(self._batch_seed(number), padded, padded_labels)
                return self._forward(adversarial)[: part.stop - part.start].numpy()

            shape = (part.stop - part.start, self.net.num_exits, self.net.num_classes)
            batches.append(kept.get(f"{form}-{number:05d}", shape, compute))
            if progress is not None:
                progress(form, part.stop, len(images))
        return np.concatenate(batches)

    def _forward(self, images):
        return self._forward_share(self.seed, images)

    def _craft(self, form):
        if form not in self._compiled:

            def run(seed, images, labels):
                losses = self._losses_of.get(form, self.losses)
                return craft(form, losses, images, labels, self.attack, seed, decided=self._decided)

            self._compiled[form] = in_replicas(self._cluster.strategy, run)
        return self._compiled[form]

    def _batch_seed(self, number):
        return fold(self.seed, number)

    def _slices(self, count):
        return [slice(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size)]

    def _pad(self, rows):
        missing = self.batch_size - len(rows)
        return tf.constant(np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows)


def strongest_logits(candidates, labels, combine=None):
    """What max-average takes: for each image the single attack whose mean cross-entropy over the exits is largest.

    Args:
      candidates: float32 array (attacks, n, exits, classes).
      labels: int32 array (n,).
      combine: callable, exit logits (n, exits, classes) -> log-probabilities whose cross-entropies are meant; None for
        each exit's own.

    Returns:
      float32 array (n, exits, classes).
    """
    combine = combine or log_softmax
    true_class = np.broadcast_to(labels[:, None, None], (*candidates.shape[1:-1], 1))

    def mean_loss(exit_logits):
        return -np.take_along_axis(combine(exit_logits), true_class, axis=-1)[..., 0].mean(axis=-1)

    mean_losses = [mean_loss(exit_logits) for exit_logits in candidates]
    return candidates[np.argmax(mean_losses, axis=0), np.arange(candidates.shape[1])]
