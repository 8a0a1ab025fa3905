"""One process of an evaluation: python evaluating.py RUN STRATEGY [DIES_AFTER]. `test_sharded_evaluation` starts it.

After DIES_AFTER batches the process sends itself SIGKILL. "mirrored" gets two logical CPUs to attack on.
"""

import os
import signal
import sys


def main(run_dir, strategy, dies_after=0):
    import tensorflow as tf

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from rdi_tf.distribution import open_cluster

    cluster = open_cluster(strategy)
    from rdi_tf.config import AttackConfig
    from rdi_tf.evaluation import suites
    from rdi_tf.evaluation.run import evaluate

    suites.SEARCHES["cw"] = suites.Search({"loss": "margin"})
    suites.SUITES["small"] = suites.Suite(("average", "max_average", "cw/rerouted", "cw/main"), in_turns=True)
    done = []

    def progress(*step):
        done.append(step)
        if len(done) == int(dies_after):
            os.kill(os.getpid(), signal.SIGKILL)

    # No random starts: then what replicas find is what one device finds. 37 images: the last batch is padded.
    attack = AttackConfig(epsilon=0.06, step_size=0.02, steps=3, random_start=False)
    evaluate(run_dir, "small", attack=attack, limit=37, batch_size=11, cluster=cluster, progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
