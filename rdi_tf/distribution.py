"""Training and evaluation on several devices or machines, by TensorFlow's own distribution strategies.

Every global batch is the one that a single device would have seen; each replica takes its share of the rows. Gradients
are summed over the replicas, each of which divides by their number, so that the step is that of the whole batch.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.runs import RunFolder
from rdi_tf.seeds import fold

STRATEGIES = ("single", "mirrored", "multi-worker")


def open_cluster(name):
    """The `Cluster` of a strategy. "multi-worker" must be opened before TensorFlow does anything else.

    Args:
      name: "single" (one device), "mirrored" (all GPUs of this machine, or all its logical CPUs) or "multi-worker" (all
        machines that the environment variable TF_CONFIG names).

    Raises:
      ConfigError: another name, or a TF_CONFIG that does not describe a cluster.
    """
    if name == "single":
        return Cluster(None)
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Cluster(tf.distribute.MirroredStrategy([device.name for device in devices]))
    if name == "multi-worker":
        _check_tf_config(os.environ.get("TF_CONFIG"))
        return Cluster(tf.distribute.MultiWorkerMirroredStrategy())
    raise ConfigError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")


class Cluster:
    """The replicas that train a run, or attack it, together, and what this process does among them.

    Attributes:
      strategy: a `tf.distribute.Strategy`, or None for one device.
    """

    def __init__(self, strategy):
        self.strategy = strategy
        self._resolver = getattr(strategy, "cluster_resolver", None)  # MultiWorkerMirroredStrategy has one
        self._sum = tf.function(self._sum_in_replicas, autograph=False)
        self._first = tf.function(self._of_first_replica, autograph=False)

    @property
    def replicas(self):
        """Number of devices, on all machines."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def workers(self):
        """Number of processes."""
        spec = self._resolver.cluster_spec() if self._resolver else None
        return sum(spec.num_tasks(job) for job in ("chief", "worker") if job in spec.jobs) if spec else 1

    @property
    def is_chief(self):
        """Whether this process is the one that writes the run's folder."""
        if self.workers == 1:
            return True
        if "chief" in self._resolver.cluster_spec().jobs:
            return self._resolver.task_type == "chief"
        return self._resolver.task_id == 0

    def scope(self):
        """Context manager: variables that are made inside are every replica's."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def check_batch(self, batch_size):
        """Refuse, by `ConfigError`, a global batch that the replicas cannot share equally."""
        if batch_size % self.replicas:
            raise ConfigError(
                f"training.batch_size: expected a multiple of the {self.replicas} replicas, got {batch_size}"
            )

    def batches(self, stream, batch_size):
        """The share of this process in a stream of global batches.

        Args:
          stream: `tf.data.Dataset` of (images, labels), the same in every process.
          batch_size: rows of each batch, a multiple of `replicas`.

        Returns:
          What `fit` takes: the stream itself, or a distributed data set.
        """
        if self.strategy is None:
            return stream

        def share(context):
            local = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * local

            def rows(values):
                shape = (self.replicas, batch_size // self.replicas, *values.shape[1:])
                return tf.reshape(values, shape)[first : first + local]

            def parts(images, labels):
                return tf.data.Dataset.from_tensor_slices((rows(images), rows(labels)))

            return stream.flat_map(parts).prefetch(2 * local)

        return self.strategy.distribute_datasets_from_function(share)

    def any(self, *flags):
        """For each flag, whether it is true in any process; all must ask at the same time."""
        if self.workers == 1:
            return flags
        return tuple(bool(total > 0) for total in self._sum(tf.constant(flags, tf.float32)).numpy())

    def wait(self):
        """Wait until all processes have come here."""
        self.any(True)

    def check_same(self, iteration):
        """Refuse, by `CheckpointError`, processes that would go on from different iterations."""
        if not self._all_have(iteration):
            raise CheckpointError(
                f"this worker stands at iteration {iteration}, others elsewhere: the run's folder must lie on a file "
                "system that all workers share"
            )

    def check_same_work(self, description):
        """Refuse, by `ConfigError`, processes that are about to do different work, described by a string."""
        if not self._all_have(int.from_bytes(hashlib.sha256(description.encode()).digest()[:4], "big")):
            raise ConfigError(
                "this worker was given other work than others: expected the same command in every process, and the "
                "same run folder and data in its reach"
            )

    def from_chief(self, values):
        """What the chief has, in every process; all must ask at the same time.

        Args:
          values: float32 array, of one shape in all processes; only the chief's counts.

        Returns:
          float32 array.
        """
        return values if self.workers == 1 else self._first(tf.constant(values)).numpy()

    def agree(self, weights):
        """Give every replica the mean of what is each one's own: the running averages of batch norm."""
        if self.strategy is not None:
            for weight in weights:
                weight.assign(weight.read_value())

    @contextlib.contextmanager
    def run_folder(self, path, config):
        """Context manager: the run's folder, where the chief alone writes; others work on a copy that is thrown away.

        TensorFlow wants every process to save, since values that are spread over replicas are gathered for it.

        Args:
          path: the run's folder, which all processes see.
          config: the run's `Config`.

        Yields:
          A `RunFolder`.

        Raises:
          CheckpointError: the folder holds something else, or another process trains in it.
        """
        if self.is_chief:
            run = RunFolder.create(path, config)
            with run.locked():
                self.wait()  # the folder is there
                self.wait()  # the others have read it
                yield run
            return
        self.wait()
        with tempfile.TemporaryDirectory() as folder:
            mine = RunFolder.create(Path(folder) / "run", config)
            shared = RunFolder.open(path)
            shutil.copytree(shared.checkpoints, mine.checkpoints, dirs_exist_ok=True)
            if shared.history_file.exists():
                shutil.copy(shared.history_file, mine.history_file)
            self.wait()
            yield mine

    def _all_have(self, number):
        """Whether a whole number is the same in all processes; all must ask at the same time."""
        if self.workers == 1:
            return True
        return int(self._sum(tf.constant([number], tf.int64)).numpy()[0]) == number * self.replicas

    def _of_first_replica(self, values):
        def replica():
            context = tf.distribute.get_replica_context()
            first = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), values.dtype)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, first * values)

        return self.strategy.experimental_local_results(self.strategy.run(replica))[0]

    def _sum_in_replicas(self, values):
        def replica():
            # Copied to the replica's device: TensorFlow sums where the values lie.
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self.strategy.experimental_local_results(self.strategy.run(replica))[0]


def in_replicas(strategy, function):
    """Compile a function of a batch so that every replica computes its share of the rows.

    Args:
      strategy: a `tf.distribute.Strategy`, or None for one device.
      function: callable (seed, *rows) -> tensor with as many rows; seed an int32 tensor of shape (2,).

    Returns:
      A compiled callable of the same arguments and result. With a strategy the number of rows must be a multiple of the
      replicas, and each folds its number into the seed; every process must call it, and gets all rows.
    """
    if strategy is None:
        return tf.function(function, autograph=False)
    replicas = strategy.num_replicas_in_sync

    def whole(seed, *batch):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            size = tf.shape(batch[0])[0] // replicas
            share = [rows[number * size : (number + 1) * size] for rows in batch]
            return function(replica_seed(seed), *share)

        return strategy.gather(strategy.run(replica), axis=0)

    return tf.function(whole, autograph=False)


def replica_seed(seed):
    """Inside a replica: its number folded into a seed, so that replicas draw different numbers; one alone keeps it."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    return fold(seed, context.replica_id_in_sync_group)


def replicas_in_sync():
    """Number of replicas that share a training step, asked inside of one."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def in_any_replica(flag):
    """Whether a bool scalar tensor is true in any of the replicas that share a training step, asked inside of one."""
    if replicas_in_sync() == 1:
        return flag
    counted = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(flag, tf.float32))
    return counted > 0


def for_fit(results):
    """What a train_step returns, so that `fit` reports it as it is.

    Args:
      results: dictionary name -> scalar tensor, the same in every replica, as metrics are.

    Returns:
      The same; under MultiWorkerMirroredStrategy a share of it, since `fit` adds up what the replicas return there.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return results
    return {name: value / strategy.num_replicas_in_sync for name, value in results.items()}


def _check_tf_config(text):
    """Refuse what MultiWorkerMirroredStrategy would silently take for a single machine, or fail on unclearly."""
    example = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
    if not text:
        raise ConfigError(f"TF_CONFIG: expected the cluster, as {example}, got nothing")
    try:
        table = json.loads(text)
        workers = table["cluster"][table["task"]["type"]]
        index = int(table["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"TF_CONFIG: expected something as {example}, got {text!r}") from error
    if not isinstance(workers, list) or not 0 <= index < len(workers):
        raise ConfigError(f"TF_CONFIG: task index {index} is not one of the cluster's {table['task']['type']}s")
