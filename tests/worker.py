"""One process of a training run: python worker.py CONFIG RUN STRATEGY [DIES_AFTER]. `test_distribution` starts it.

After iteration DIES_AFTER the process sends itself SIGKILL. "mirrored" gets two logical CPUs to train on.
"""

import os
import signal
import sys


def main(config_file, run_dir, strategy, dies_after=-1):
    import tensorflow as tf

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from rdi_tf.config import Config
    from rdi_tf.training import run as training

    original = training.RunKeeper.on_train_batch_end

    def mortal(keeper, batch, logs=None):
        original(keeper, batch, logs)
        if keeper.iteration == int(dies_after):
            os.kill(os.getpid(), signal.SIGKILL)

    training.RunKeeper.on_train_batch_end = mortal
    training.train(Config.load(config_file), run_dir, progress=False, strategy=strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
