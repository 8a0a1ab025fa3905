"""Export of a run: the bundle with everything in it, written whole or not at all. Needs TensorFlow."""

from pathlib import Path

from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.data.checks import check_num_classes
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.export.bundle import Bundle, new_bundle
from rdi_tf.export.convert import ExportOptions, convert_stages, convert_unsplit
from rdi_tf.export.golden import CANDIDATES, write_golden
from rdi_tf.export.manifest import FORMAT, ExitPolicy, Manifest, Preprocessing
from rdi_tf.export.manifest_rules import MANIFEST, check_text
from rdi_tf.provenance import provenance
from rdi_tf.runs import RunFolder


def export_run(run_dir, output=None, options=None, data_dir=None, overwrite=False, command=""):
    """Export the network of a run.

    Args:
      run_dir: a run folder with a calibrated model.
      output: the bundle's folder; None for RUN/export/<dtype>.
      options: `ExportOptions`; None for float32.
      data_dir: TFDS directory; None for TFDS_DATA_DIR or TFDS's default.
      overwrite: replace a bundle that is there.
      command: the command line, for the record.

    Returns:
      The `Bundle`.

    Raises:
      CheckpointError: no run, no model in it, or a model without thresholds.
      ConfigError: a network that cannot be split into stages.
      DataError: the data set cannot be had.
      BundleError: something is there already.
    """
    options = options or ExportOptions()
    run = RunFolder.open(run_dir)
    net = load_run(run)
    if net.thresholds is None:
        raise CheckpointError(f"{run.model_file}: has no thresholds yet; run `rdi-tf calibrate {run.path}` first")
    config = net.config
    dataset = load_dataset(config.data, "validation", config.model.input_shape, data_dir)
    examples = as_arrays(dataset, max(options.calibration_images, CANDIDATES))
    return export_network(
        net,
        output or run.path / "export" / options.dtype,
        options,
        examples,
        dataset.class_names,
        name=config.name,
        policy_name=config.policy.name,
        overwrite=overwrite,
        source=provenance(command, config.training.seed),
    )


def export_network(
    net, output, options, examples, labels, *, name="", policy_name="entropy", overwrite=False, source=None
):
    """Export a network.

    Args:
      net: `rdi_tf.network.RDINet` with thresholds.
      output: the bundle's folder.
      options: `ExportOptions`.
      examples: (images, labels), float32 (n, height, width, channels) in [0, 1] and int32 (n,), n >= 1, that neither
        training nor testing uses: the first of them calibrate int8, and golden vectors are chosen among them.
      labels: names of the classes.
      name: what the network is called.
      policy_name: name of the exit rule that the thresholds belong to.
      overwrite: replace a bundle that is there.
      source: provenance to be kept, dict of plain values.

    Returns:
      The `Bundle`.

    Raises:
      CheckpointError, ConfigError, BundleError: as for `export_run`.
      DataError: another number of labels than classes, or no examples where int8 needs them.
    """
    shape = net.network.input_shape[1:]
    if None in shape:
        raise ConfigError(f"network: expected a fixed image size, got {shape}")
    if net.thresholds is None:
        raise CheckpointError("network: has no thresholds yet; calibrate it first")
    check_num_classes(labels, net.num_classes)
    check_text(name, *labels)
    calibration = examples[0][: options.calibration_images]
    policy = ExitPolicy(policy_name, tuple(net.thresholds))
    with new_bundle(output, overwrite) as folder:
        stages = convert_stages(net.network, folder, options, calibration)
        manifest = Manifest(
            format=FORMAT,
            name=name,
            dtype=options.dtype,
            batch_size=options.batch_size,
            labels=tuple(labels),
            exit_names=tuple(net.exit_names),
            preprocessing=Preprocessing(*shape, divide_by=255.0, resize="bilinear"),
            stages=stages,
            unsplit=convert_unsplit(net.network, folder, options, calibration),
            policy=policy,
            costs=exit_costs(net),
            golden=write_golden(folder, stages, policy, examples, options),
            provenance=dict(source or {}),
        )
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(Path(output))
