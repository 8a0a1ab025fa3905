"""Where a figure comes from: seed, command, versions, machine, date. No host name, and no folder of the machine."""

import datetime
import os
import platform
import re
import shlex
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "rdi-tf",
    "tensorflow",
    "tf_keras",
    "numpy",
    "keras-cv",
    "tensorflow-datasets",
    "tensorflow-model-optimization",
    "ai-edge-litert",
)


def provenance(command, seed):
    """Describe this run for a result.

    Args:
      command: the command line, a list of arguments (as `sys.argv`) or a string; folders in it are left out.
      seed: the run's seed.

    Returns:
      Dict of plain values: command, seed, versions (of the packages that are installed), processor, cores (that this
      process may use), platform, date (UTC, ISO 8601).
    """
    return {
        "command": strip_folders(command),
        "seed": int(seed),
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def strip_folders(command):
    """The command line as one string, each path in it cut down to its last name; fractions such as 8/255 stay."""
    arguments = shlex.split(command) if isinstance(command, str) else map(str, command)
    return shlex.join(_strip(argument) for argument in arguments)


def _strip(argument):
    option, equals, value = argument.rpartition("=")
    if re.fullmatch(r"[\d.]+/[\d.]+", value):
        return argument
    return option + equals + re.split(r"[/\\]", value.rstrip("/\\"))[-1]


def _versions():
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # a device has no TensorFlow; what is not installed has no version to state
    return versions


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware"))]
    return models[0] if models else platform.processor() or platform.machine()
