"""A training run that kills itself: python killed_training.py CONFIG RUN MOMENT.

MOMENT counts the calls and returns of functions in those modules of the package that keep a run's state; at that one
the process sends itself SIGKILL. -1 never kills; the number of moments is printed. `test_survival` runs this.
"""

import os
import signal
import sys

MODULES = (
    "runs",
    "evaluation/batches",
    "evaluation/robustness",
    "training/checkpoints",
    "training/history",
    "training/keeper",
    "training/optimisation",
    "training/record",
    "training/validation",
)
# They compare configurations, in more calls than all the others together, and change nothing.
IDLE = ("_refuse_difference", "_flat")


def main(config_file, run_dir, moment):
    import rdi_tf
    from rdi_tf.config import Config
    from rdi_tf.training import run as training

    package = os.path.dirname(rdi_tf.__file__)
    files = {os.path.join(package, *f"{name}.py".split("/")) for name in MODULES}
    if missing := [file for file in files if not os.path.exists(file)]:
        raise FileNotFoundError(f"no such modules: {missing}")
    moments = 0

    def count(frame, event, argument):
        nonlocal moments
        # C calls, too: a file is written or renamed in one of them, or the weights are updated.
        if frame.f_code.co_filename in files and frame.f_code.co_name not in IDLE:
            if moments == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            moments += 1

    sys.setprofile(count)
    training.train(Config.load(config_file), run_dir, progress=False)
    sys.setprofile(None)
    print(moments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
