"""training.json of a run: the command, versions and machine of each time that its training was started."""

import json

from rdi_tf.errors import CheckpointError
from rdi_tf.runs import write_atomic


def read_records(run):
    """The starts of a run, in order.

    Args:
      run: a `rdi_tf.runs.RunFolder`.

    Returns:
      List of dictionaries: what `rdi_tf.provenance.provenance` says, strategy, replicas, and from_iteration (finished
      iterations by then). Empty for runs that were trained before there was such a record, or elsewhere.

    Raises:
      CheckpointError: the file holds something else.
    """
    if not run.training_file.exists():
        return []
    try:
        records = json.loads(run.training_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{run.training_file}: not JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise CheckpointError(f"{run.training_file}: expected a list of objects")
    return records


def add_record(run, record):
    """Append a start, a dictionary of plain values, to a run's training.json."""
    write_atomic(run.training_file, json.dumps([*read_records(run), record], indent=2) + "\n")
