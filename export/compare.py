"""Comparison of a bundle with the float model that it was made from, on the run's test images. Needs TensorFlow."""

import dataclasses

import numpy as np

from rdi_tf.attacks import form_names
from rdi_tf.calibration import load_run
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.cascade import Cascade
from rdi_tf.export.manifest import BundleError
from rdi_tf.export.tolerances import KERAS
from rdi_tf.export.verify import Check, Verification, verify
from rdi_tf.policies import decide, get_policy
from rdi_tf.runs import RunFolder

PART = 250  # images at a time, so that feature maps of a large test set are not all kept


def verify_against_run(
    path, run_dir, limit=None, attack_form=None, attacked_images=500, data_dir=None, num_threads=1, seed=0
):
    """Verify a bundle, and hold it against its run on test images.

    Args:
      path: the bundle.
      run_dir: the run that it was exported from.
      limit: use the first so many test images; None for all.
      attack_form: form of the adversarial images, made against the float model with the run's evaluation attack; None
        to leave them out.
      attacked_images: how many of the first test images are attacked.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      num_threads: threads of each stage.
      seed: seed of the attack.

    Returns:
      `rdi_tf.export.verify.Verification`.

    Raises:
      BundleError: a bundle that cannot be read, or one of another network.
      CheckpointError: no run, or no model in it.
      ConfigError: an unknown attack form.
      DataError: the data set cannot be had.
    """
    found = verify(path, num_threads)
    bundle, net = Bundle.open(path), load_run(RunFolder.open(run_dir))
    _refuse_other_network(bundle.manifest, net)
    if attack_form is not None and attack_form not in form_names(net.exit_names):
        raise ConfigError(f"attack: expected one of {', '.join(form_names(net.exit_names))}, got {attack_form!r}")
    config = net.config
    dataset = load_dataset(config.data, "test", config.model.input_shape, data_dir)
    images, labels = as_arrays(dataset, limit)
    attacker = ExitAttacker(net, config.evaluation, seed, outputs="policy")
    cascade = Cascade(bundle, num_threads)
    checks = [*found.checks, _check_thresholds(bundle.manifest, net)]
    clean = _Outputs.of(cascade, attacker, images)
    whole = len(images) == dataset.size
    checks += [_check_logits(cascade, clean), _check_exits(cascade, clean)]
    checks.append(_check_accuracy("clean accuracy", cascade, clean, labels, whole))
    if attack_form is not None:
        images, labels = images[:attacked_images], labels[:attacked_images]
        outputs = _Outputs.of(cascade, attacker, attacker.adversarial_images(attack_form, images, labels))
        check = _check_accuracy("robust accuracy", cascade, outputs, labels, len(labels) == dataset.size)
        detail = f"{attack_form}, made against the float model: {check.detail}"
        checks.append(dataclasses.replace(check, detail=detail, values={"attack": attack_form, **check.values}))
    return Verification(found.name, found.dtype, tuple(checks))


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """What both say of the same images.

    Attributes:
      keras: the float model's exit logits, (n, exits, classes).
      deployed: the stage files' exit logits, all stages run.
      exits, predictions: the cascade's own answers, (n,), later stages not run.
    """

    keras: np.ndarray
    deployed: np.ndarray
    exits: np.ndarray
    predictions: np.ndarray

    @classmethod
    def of(cls, cascade, attacker, images):
        parts = [images[start : start + PART] for start in range(0, len(images), PART)]
        answers = [cascade.predict_batch(part) for part in parts]
        return cls(
            keras=attacker.clean_logits(images),
            deployed=np.concatenate([cascade.exit_logits(part) for part in parts]),
            exits=np.concatenate([answer.exits for answer in answers]),
            predictions=np.concatenate([answer.predictions for answer in answers]),
        )


def _refuse_other_network(manifest, net):
    there = (manifest.exit_names, manifest.input_shape, len(manifest.labels))
    here = (tuple(net.exit_names), tuple(net.network.input_shape[1:]), net.num_classes)
    if there != here:
        raise BundleError(f"the bundle holds another network than the run: {there}, the run {here}")


def _check_thresholds(manifest, net):
    there = (manifest.policy.name, manifest.policy.thresholds)
    here = (net.config.policy.name, None if net.thresholds is None else tuple(net.thresholds))
    detail = "the run's" if there == here else f"bundle {there}, run {here}: export again"
    return Check("exit rule and thresholds", there == here, detail)


def _check_logits(cascade, outputs):
    tolerance = KERAS[cascade.bundle.manifest.dtype]
    difference = np.abs(outputs.deployed.astype(np.float64) - outputs.keras)
    largest = float(difference.max())
    relative = float(np.sqrt((difference**2).mean() / (outputs.keras.astype(np.float64) ** 2).mean()))
    passed = relative <= tolerance.relative and (tolerance.largest is None or largest <= tolerance.largest)
    bound = "" if tolerance.largest is None else f" ({tolerance.largest:g} allowed)"
    detail = (
        f"{len(difference)} images: at most {largest:.2g}{bound}, root mean square {relative:.2%} of the logits' "
        f"({tolerance.relative:.2%} allowed)"
    )
    values = {"images": len(difference), "largest_difference": largest, "relative_difference": relative}
    return Check("logits against Keras", passed, detail, {**values, "tolerance": dataclasses.asdict(tolerance)})


def _check_exits(cascade, outputs):
    tolerance = KERAS[cascade.bundle.manifest.dtype]
    keras = _decide(cascade, outputs.keras)
    same_exit = float((outputs.exits == keras.exits).mean())
    same_class = float((outputs.predictions == keras.predictions).mean())
    detail = f"{same_exit:.2%} same exit ({tolerance.same_exit:.0%} wanted), {same_class:.2%} same class"
    values = {"same_exit": same_exit, "same_class": same_class}
    return Check("exit decisions against Keras", same_exit >= tolerance.same_exit, detail, values)


def _check_accuracy(name, cascade, outputs, labels, whole):
    """The accuracy lost, on the whole test split or on a sample of it; a sample is granted two standard errors."""
    values = _accuracies(cascade, outputs, labels)
    values["loss"] = values["keras_accuracy"] - values["accuracy"]
    values["allowed"] = KERAS[cascade.bundle.manifest.dtype].accuracy_loss
    if not whole:
        lost = (_decide(cascade, outputs.keras).predictions == labels).astype(int) - (outputs.predictions == labels)
        values["allowed"] += float(2 * lost.std() / np.sqrt(len(labels)))
    detail = f"{_pair(values)}; {values['allowed']:.2%} may be lost; {_per_exit(cascade, values)}"
    return Check(name, values["loss"] <= values["allowed"], detail, values)


def _accuracies(cascade, outputs, labels):
    keras = _decide(cascade, outputs.keras)
    classes = cascade.policy.log_probabilities(outputs.deployed).argmax(axis=-1)
    exits = len(cascade.exit_names)
    return {
        "images": len(labels),
        "accuracy": float((outputs.predictions == labels).mean()),
        "keras_accuracy": float((keras.predictions == labels).mean()),
        "per_exit_accuracy": (classes == labels[:, None]).mean(axis=0).tolist(),
        "exit_shares": (np.bincount(outputs.exits, minlength=exits) / len(labels)).tolist(),
    }


def _decide(cascade, exit_logits):
    return decide(get_policy(cascade.policy.name), exit_logits, cascade.thresholds)


def _pair(values):
    return f"{values['accuracy']:.2%} of {values['images']} images, Keras {values['keras_accuracy']:.2%}"


def _per_exit(cascade, values):
    named = zip(cascade.exit_names, values["per_exit_accuracy"], strict=True)
    return "exits alone " + ", ".join(f"{name} {accuracy:.2%}" for name, accuracy in named)
