"""A benchmark on another machine: over ssh where rdi-tf is installed, over adb in the Android demo app.

Programs are started with argument lists, never through a local shell; what a remote shell reads is quoted.
"""

import io
import json
import secrets
import shlex
import subprocess
import tarfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rdi_tf.errors import ConfigError, RDIError
from rdi_tf.export.benchmark import BenchmarkOptions
from rdi_tf.export.bundle import Bundle
from rdi_tf.export.manifest_rules import MANIFEST
from rdi_tf.latency import LatencyResult

PACKAGE = "org.rditf.demo"
ACTIVITY = ".BenchmarkActivity"
TAG = "RDITF_BENCHMARK"
DEVICE_FOLDER = "/data/local/tmp/rdi-tf"  # any app can read it; where TFLite's own benchmark app takes its models, too
IMAGES = "images.npz"
LONGEST_TIMEOUT = 100 * 24 * 3600  # far below where the operating system stops counting
POLL_SECONDS = 1.0
SHORT_SECONDS = 60.0  # for adb's commands but the transfer and the measurement
CONNECT_SECONDS = 15
# Exit codes of a shell that does not find a program, and of ssh when it is ssh that fails.
NOT_FOUND, SSH_FAILED = 127, 255


class RemoteError(RDIError):
    """Another machine that cannot be reached, or on which the benchmark fails."""


@dataclass(frozen=True)
class Job:
    """What is to be measured elsewhere.

    Attributes:
      bundle: the bundle's folder, here.
      options: the `BenchmarkOptions`.
      images: NPZ file of images, here; None for the bundle's golden inputs.
      set_name: which images of that file, or None.
      limit: the first so many images.
      timeout: seconds after which to give up, at most a hundred days.

    Raises:
      ConfigError: another timeout.
    """

    bundle: Path
    options: BenchmarkOptions
    images: Path | None = None
    set_name: str | None = None
    limit: int = 100
    timeout: float = 900.0

    def __post_init__(self):
        if not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise ConfigError(f"--timeout: expected 0 < seconds <= {LONGEST_TIMEOUT:,}, got {self.timeout}")

    @property
    def files(self):
        """The files that the other machine needs: dict from name to path; a bundle that does not hold is refused."""
        bundle = Bundle.open(self.bundle)
        files = {MANIFEST: bundle.path / MANIFEST, **{file.name: bundle.file(file) for file in bundle.manifest.files}}
        if self.images is not None and not Path(self.images).is_file():
            raise ConfigError(f"--images: expected a file, got {self.images}")
        return files


def over_ssh(job, host, remote_command="rdi-tf", ssh="ssh"):
    """Copy the bundle to a host, measure there, bring the result back; nothing stays there.

    Args:
      job: the `Job`.
      host: as ssh knows it: a name of its configuration, an address, user@address.
      remote_command: how rdi-tf is called there, from the login folder: words for a shell, "~/" for that folder.
      ssh: the program.

    Returns:
      `rdi_tf.latency.LatencyResult`.

    Raises:
      RemoteError: no ssh here, no connection, no rdi-tf there, a benchmark that fails, or no result in time.
      BundleError: a bundle that cannot be read.
    """
    if not host or host.startswith("-"):
        raise ConfigError(f"--ssh: expected a host's name, got {host!r}")
    script = _remote_script(job, remote_command)
    arguments = [ssh, "-o", f"ConnectTimeout={CONNECT_SECONDS}", host, script]
    done = _run(arguments, job.timeout, stdin=_archive(job), missing="install OpenSSH's client")
    if done.returncode == SSH_FAILED:
        raise RemoteError(f"ssh {host}: {_last_line(done.stderr) or 'no connection'}")
    if done.returncode == NOT_FOUND:
        raise RemoteError(
            f"{host}: {remote_command} was not found there; install this project on it, or say where it is with "
            f"--remote-command ({_last_line(done.stderr)})"
        )
    if done.returncode != 0:
        said = _last_line(done.stderr).removeprefix("rdi-tf: error: ")
        raise RemoteError(f"{host}: the benchmark failed there: {said}")
    return _under_own_name(_result(done.stdout.decode("utf-8", "replace"), host), job)


def over_adb(job, serial=None, adb="adb", clock=time.monotonic, sleep=time.sleep):
    """Push the bundle to an Android device, measure in the demo app, read the result from the device's log.

    Args:
      job: the `Job`; its images are not pushed: the app measures on the bundle's golden inputs.
      serial: which device; None if there is but one.
      adb: the program.
      clock, sleep: callables, seconds.

    Returns:
      `rdi_tf.latency.LatencyResult`.

    Raises:
      RemoteError: no adb here, no device, no demo app on it, a benchmark that fails, or no result in time.
      BundleError: a bundle that cannot be read.
    """
    if job.images is not None:
        raise ConfigError("--adb: expected no --images, the app measures on the bundle's golden inputs")
    files = job.files
    device = _Device(adb, serial)
    device.check()
    run_id = secrets.token_hex(8)
    folder = f"{DEVICE_FOLDER}/{run_id}"
    device.shell("mkdir", "-p", folder)
    try:
        device.run("push", *(str(path) for path in files.values()), folder, seconds=job.timeout)
        device.shell("chmod", "-R", "a+rX", DEVICE_FOLDER)
        request = json.dumps({"id": run_id, "bundle": folder, "limit": job.limit, **asdict(job.options)})
        device.start_activity(request)
        return _result(_wait_for_log(device, run_id, job.timeout, clock, sleep), "the device")
    finally:
        device.shell("rm", "-rf", folder, check=False)


def _under_own_name(result, job):
    """A result whose images are those of the file here; there it had a name that every system takes."""
    if job.images is None:
        return result
    source = result.images.source.removesuffix(IMAGES) + Path(job.images).name
    return replace(result, images=replace(result.images, source=source))


def _remote_script(job, remote_command):
    """A line for any shell: unpack stdin in a new folder, measure, tidy up, end as the benchmark ended."""
    options = job.options
    flags = {
        "--limit": job.limit,
        "--threads": options.threads,
        "--rounds": options.rounds,
        "--warmup-rounds": options.warmup_rounds,
        "--max-seconds": options.max_seconds,
        "--set": job.set_name,
    }
    words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    measure = f'{_for_shell(remote_command)} benchmark "$d"/bundle --json {shlex.join(words)}'
    if job.images is not None:
        measure += f' --images "$d"/{IMAGES}'
    script = """d=$(mktemp -d) || exit 1; trap 'rm -rf "$d"' EXIT; trap 'exit 1' HUP INT TERM; """
    return shlex.join(["sh", "-c", f'{script}tar -xf - -C "$d" && {measure}'])


def _for_shell(command):
    """A command's words, quoted, with the home folder where they begin with "~/"."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--remote-command {command!r}: expected words for a shell: {error}") from error
    if not words:
        raise ConfigError(f"--remote-command {command!r}: expected a command")
    quoted = [shlex.quote(word) for word in words]
    if words[0].startswith("~/"):
        quoted[0] = f'"$HOME"/{shlex.quote(words[0][2:])}'
    return " ".join(quoted)


def _archive(job):
    """A tar archive, bytes, of the folder `bundle` and of the images."""
    files = {f"bundle/{name}": path for name, path in job.files.items()}
    if job.images is not None:
        files[IMAGES] = Path(job.images)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            content = path.read_bytes()
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


class _Device:
    """An Android device as adb sees it."""

    def __init__(self, adb, serial):
        if serial is not None and serial.startswith("-"):
            raise ConfigError(f"--adb: expected a device's serial number, got {serial!r}")
        self._prefix = [adb] if serial is None else [adb, "-s", serial]

    def run(self, *arguments, seconds=SHORT_SECONDS, check=True):
        """stdout of an adb command; one that fails raises `RemoteError` with adb's own words."""
        done = _run([*self._prefix, *arguments], seconds, missing="install Android's platform tools")
        if check and done.returncode != 0:
            said = _last_line(done.stderr) or _last_line(done.stdout) or f"exit code {done.returncode}"
            raise RemoteError(f"adb {arguments[0]}: {said}")
        return done.stdout.decode("utf-8", "replace")

    def shell(self, *arguments, check=True):
        """stdout of a command on the device, whose shell gets the arguments quoted."""
        return self.run("shell", shlex.join(arguments), check=check)

    def check(self):
        """Refuse to go on without a device that is ready: adb says what is missing."""
        state = self.run("get-state").strip()
        if state != "device":
            raise RemoteError(f"adb: expected a device that is ready, got one in state {state!r}")

    def start_activity(self, request):
        """Start the app's benchmark; `request` is JSON text."""
        said = self.shell("am", "start", "-S", "-n", f"{PACKAGE}/{ACTIVITY}", "--es", "args", request)
        # am says what is wrong on stdout and ends well.
        errors = [line.strip() for line in said.splitlines() if line.strip().startswith("Error")]
        if errors:
            raise RemoteError(
                f"the demo app cannot be started ({errors[-1]}); install android_demo's APK on the device"
            )

    def log(self):
        """The log's lines with our tag, without their heads."""
        return self.run("logcat", "-d", "-v", "raw", "-s", f"{TAG}:I").splitlines()


def _wait_for_log(device, run_id, timeout, clock, sleep):
    """The result's JSON text, put together from its parts."""
    deadline = clock() + timeout
    while True:
        text = _from_log(device.log(), run_id)
        if text is not None:
            return text
        if clock() >= deadline:
            raise RemoteError(f"no result in the device's log ({TAG}) after {timeout:g} seconds")
        sleep(POLL_SECONDS)


def _from_log(lines, run_id):
    """The result in log lines: one line of JSON, or several parts of it, as docs/latency.md describes; None if not yet.

    Raises:
      RemoteError: the app says that it failed.
    """
    parts = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # other things may carry the tag, such as logcat's own headings
        if not isinstance(entry, dict) or entry.get("id") != run_id:
            continue
        if "error" in entry:
            raise RemoteError(f"the demo app: {entry['error']}")
        if "result" in entry:
            return json.dumps(entry["result"])
        if {"part", "parts", "text"} <= set(entry):
            parts[entry["part"]] = str(entry["text"])
            if set(parts) == set(range(1, entry["parts"] + 1)):
                return "".join(parts[number] for number in sorted(parts))
    return None


def _result(text, where):
    try:
        return LatencyResult.from_json(text)
    except RDIError as error:
        raise RemoteError(f"{where}: sent something else than a benchmark's result: {error}") from error


def _run(arguments, seconds, stdin=b"", missing=""):
    """Run a program to its end: `subprocess.CompletedProcess` with bytes."""
    try:
        return subprocess.run(arguments, input=stdin, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise RemoteError(f"{arguments[0]}: there is no such program here; {missing}") from error
    except PermissionError as error:
        raise RemoteError(f"{arguments[0]}: cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RemoteError(f"{arguments[0]}: no answer after {seconds:g} seconds") from error


def _last_line(output):
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
