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

# "/", "./", "../", "~" or "C:\" where a value starts: at the beginning, or behind "=", a comma, a blank or a quote.
_MARKED_PATH = re.compile(r"""(?:^|(?<=[=,\s"'\[{]))(?:~|\.{0,2}[/\\]|[A-Za-z]:[/\\])""")


def provenance(command, seed):
    """Describe this run for a result.

    Args:
      command: the command line, as `strip_folders` takes it, which takes folders of this machine out of it.
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
    """The command line without folders of this machine.

    A path of this machine is absolute, starts with ~, ./ or ../, or leads to something that exists; it may stand behind
    `KEY=`, too. Attacks such as apgd-ce/average, data sets such as imagenette/160px-v2 and fractions stay as they are.

    Args:
      command: a list of arguments, or a string as a shell reads it.

    Returns:
      The command line as one string, each such path cut down to its last name.
    """
    arguments = shlex.split(command) if isinstance(command, str) else map(str, command)
    return shlex.join(_strip(argument) for argument in arguments)


def _strip(argument):
    start = _start_of_path(argument)
    if start is None:
        return argument
    path = re.sub(r""".*[/\\](?=[^/\\"'])""", "", argument[start:], flags=re.DOTALL)
    return argument[:start] + path.rstrip("/\\")


def _start_of_path(argument):
    """Where in an argument a path of this machine starts; None if there is none."""
    marked = _MARKED_PATH.search(argument)
    if marked is not None:
        return marked.start()
    starts = [0, *(equals.end() for equals in re.finditer("=", argument))]
    return next((start for start in starts if os.path.exists(argument[start:])), None)


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
