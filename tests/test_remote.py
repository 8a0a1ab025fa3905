"""Benchmarks on other machines, with stand-ins for ssh and adb on the PATH that do what those do, and record it."""

import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rdi_tf.cli import main as cli
from rdi_tf.errors import ConfigError
from rdi_tf.export import Bundle
from rdi_tf.export.benchmark import BenchmarkOptions, benchmark
from rdi_tf.export.remote import Job, RemoteError, over_adb, over_ssh

# Runs what ssh would have the remote shell run, on this machine.
SSH = """#!{python}
import json, os, subprocess, sys
json.dump(sys.argv[1:], open("{log}", "w"))
if "far" in sys.argv:
    print("ssh: connect to host far port 22: No route to host", file=sys.stderr)
    sys.exit(255)
there = {{**os.environ, "TMPDIR": "{tmp}", "HOME": "{home}"}}
sys.exit(subprocess.run(["sh", "-c", sys.argv[-1]], cwd="{home}", env=there).returncode)
"""

# A device with the demo app, whose answer is the file `answer` ("$ID" stands for the run's id).
ADB = """#!{python}
import json, pathlib, shlex, sys
log, answer = pathlib.Path("{log}"), pathlib.Path("{answer}")
arguments = sys.argv[1:]
with log.open("a") as file:
    print(json.dumps(arguments), file=file)
if arguments[0] == "-s":
    if arguments[1] != "emulator-5554":
        sys.exit("error: device '%s' not found" % arguments[1])
    arguments = arguments[2:]
if arguments[0] == "get-state":
    print("device")
elif arguments[0] == "shell" and arguments[1].startswith("am start"):
    words = shlex.split(arguments[1])
    log.with_suffix(".args").write_text(words[words.index("args") + 1])
    print("Starting: Intent {{ cmp=org.rditf.demo/.BenchmarkActivity }}")
    if not answer.exists():
        print("Error type 3\\nError: Activity class {{org.rditf.demo/.BenchmarkActivity}} does not exist.")
elif arguments[0] == "logcat":
    run_id = json.loads(log.with_suffix(".args").read_text())["id"]
    print("--------- beginning of main")
    print("1" * 5000)
    print(answer.read_text().replace("$ID", run_id))
"""


@pytest.fixture
def result(tiny_bundle):
    return benchmark(tiny_bundle(), options=BenchmarkOptions(rounds=1, warmup_rounds=1))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Function: (name, text of a program) -> put it before all others on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(name, text):
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
        return program

    return install


@pytest.fixture
def ssh(stand_in, tmp_path):
    """Where ssh's arguments are recorded.

    The other machine's folder for temporary files is `tmp_path / "remote"`, its login folder `tmp_path / "home"`.
    """
    remote, home = tmp_path / "remote", tmp_path / "home"
    remote.mkdir()
    home.mkdir()
    log = tmp_path / "ssh.json"
    stand_in("ssh", SSH.format(python=sys.executable, log=log, tmp=remote, home=home))
    return log


@pytest.fixture
def adb(stand_in, tmp_path):
    """The device's answer and the commands so far: object with `answer(*lines)`, `commands()`, `request()`."""
    log, answer = tmp_path / "adb.log", tmp_path / "answer"
    stand_in("adb", ADB.format(python=sys.executable, log=log, answer=answer))

    class Device:
        def answer(self, *entries):
            answer.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))

        def commands(self):
            return [json.loads(line) for line in log.read_text().splitlines()]

        def request(self):
            return json.loads(log.with_suffix(".args").read_text())

    return Device()


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="rdi-tf")


def job(bundle, **fields):
    return Job(bundle, BenchmarkOptions(rounds=1, warmup_rounds=1), **fields)


def assert_one_line(found, message):
    assert found.exit_code == 2 and found.stdout == ""
    assert len(found.stderr.splitlines()) == 1 and message in found.stderr


def test_ssh_measures_there_and_leaves_nothing(tiny_bundle, ssh, tmp_path, digits):
    images = tmp_path / "from evaluation.npz"
    np.savez(images, clean=digits[0][:9], labels=digits[1][:9])
    command = ["benchmark", tiny_bundle(), "--rounds", 1, "--warmup-rounds", 1, "--limit", 3, "--images", images]
    there = tmp_path / "home" / "bin of mine" / "rdi-tf"
    there.parent.mkdir()
    there.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rdi_tf.cli "$@"\n')
    there.chmod(0o755)
    for command_there in (f"'{there}'", "'~/bin of mine/rdi-tf'", "nice 'bin of mine/rdi-tf'"):
        found = run(*command, "--ssh", "pi@raspberry", "--remote-command", command_there, "--json")
        assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["images"] == {**document["images"], "count": 3, "source": "set 'clean' of from evaluation.npz"}
    assert document["name"] == "tiny" and document["rounds"] == 1
    assert json.loads(ssh.read_text())[-2] == "pi@raspberry"
    assert list((tmp_path / "remote").iterdir()) == []


def test_ssh_sends_the_bundle_whole(tiny_bundle, ssh, stand_in, result, tmp_path):
    (tmp_path / "answer.json").write_text(json.dumps(result.to_dict()))
    stand_in(
        "rdi-tf",
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/args\ncp -r "$2" {tmp_path}/sent\ncat {tmp_path}/answer.json\n',
    )
    assert over_ssh(job(tiny_bundle(), set_name="it's"), "host") == result
    assert Bundle.open(tmp_path / "sent").manifest == Bundle.open(tiny_bundle()).manifest
    arguments = (tmp_path / "args").read_text().splitlines()
    assert arguments[0] == "benchmark" and arguments[1].endswith("/bundle")
    assert arguments[2:5] == ["--json", "--limit", "100"]
    assert arguments[-2:] == ["--set", "it's"]  # quoted through two shells


def test_ssh_that_fails(tiny_bundle, ssh, stand_in, tmp_path):
    assert_one_line(
        run("benchmark", tiny_bundle(), "--ssh", "far"), "ssh far: ssh: connect to host far port 22: No route"
    )
    missing = run("benchmark", tiny_bundle(), "--ssh", "near", "--remote-command", "no-rdi-tf")
    assert_one_line(missing, "near: no-rdi-tf was not found there; install this project on it")
    stand_in("bad", "#!/bin/sh\necho 'rdi-tf: error: the disk is full' >&2\nexit 2\n")
    with pytest.raises(RemoteError, match="near: the benchmark failed there: the disk is full"):
        over_ssh(job(tiny_bundle()), "near", "bad")
    stand_in("talks", "#!/bin/sh\necho hello\n")
    with pytest.raises(RemoteError, match="near: sent something else than a benchmark's result"):
        over_ssh(job(tiny_bundle()), "near", "talks")
    with pytest.raises(RemoteError, match="no-ssh: there is no such program here; install OpenSSH"):
        over_ssh(job(tiny_bundle()), "near", ssh="no-ssh")
    with pytest.raises(ConfigError, match="expected a host's name, got '-oProxyCommand=x'"):
        over_ssh(job(tiny_bundle()), "-oProxyCommand=x")
    for words, message in (("'rdi-tf", "No closing quotation"), (" ", "expected a command")):
        with pytest.raises(ConfigError, match=message):
            over_ssh(job(tiny_bundle()), "near", words)
    with pytest.raises(ConfigError, match="--images: expected a file"):
        over_ssh(job(tiny_bundle(), images=Path("none.npz")), "near")
    assert list((tmp_path / "remote").iterdir()) == []


def test_ssh_without_an_answer(tiny_bundle, stand_in):
    stand_in("ssh", "#!/bin/sh\nexec tail -f /dev/null\n")
    with pytest.raises(RemoteError, match="ssh: no answer after 0.2 seconds"):
        over_ssh(job(tiny_bundle(), timeout=0.2), "near")


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e10])
def test_timeouts_that_nobody_can_wait_for(tiny_bundle, seconds):
    with pytest.raises(ConfigError, match="--timeout: expected 0 < seconds <= 8,640,000, got "):
        job(tiny_bundle(), timeout=seconds)


def test_options_of_another_machine_need_one(tiny_bundle):
    assert_one_line(run("benchmark", tiny_bundle(), "--timeout", 5), "--timeout '5.0': expected --ssh or --adb with it")
    for where in ([], ["--adb"]):
        found = run("benchmark", tiny_bundle(), *where, "--remote-command", "x")
        assert_one_line(found, "--remote-command 'x': expected --ssh with it, got none")


def test_adb_reads_one_line(tiny_bundle, adb, result):
    adb.answer("not JSON", {"id": "another", "result": {}}, {"id": "$ID", "result": result.to_dict()})
    found = run("benchmark", tiny_bundle(), "--adb", "--rounds", 7, "--threads", 2, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout) == json.loads(json.dumps(result.to_dict()))
    request = adb.request()
    assert (request["rounds"], request["threads"], request["limit"]) == (7, 2, 100)
    commands = adb.commands()
    assert [command[0] for command in commands] == ["get-state", "shell", "push", "shell", "shell", "logcat", "shell"]
    push = commands[2]
    assert push[-1] == request["bundle"]
    assert {Path(name).name for name in push[1:-1]} == {path.name for path in job(tiny_bundle()).files.values()}
    assert shlex.split(commands[4][1])[:6] == ["am", "start", "-S", "-n", "org.rditf.demo/.BenchmarkActivity", "--es"]
    assert shlex.split(commands[-1][1]) == ["rm", "-rf", request["bundle"]]


def test_adb_joins_parts_in_any_order(tiny_bundle, adb, result):
    text = json.dumps(result.to_dict())
    third = len(text) // 3
    parts = [text[:third], text[third : 2 * third], text[2 * third :]]
    entries = [{"id": "$ID", "part": n + 1, "parts": 3, "text": part} for n, part in enumerate(parts)]
    adb.answer(entries[2], entries[0], entries[1])
    assert over_adb(job(tiny_bundle()), "emulator-5554") == result
    assert all(command[:2] == ["-s", "emulator-5554"] for command in adb.commands())


def test_adb_that_fails(tiny_bundle, adb, stand_in):
    bundle = tiny_bundle()
    assert_one_line(run("benchmark", bundle, "--adb", "none"), "adb get-state: error: device 'none' not found")
    assert_one_line(run("benchmark", bundle, "--adb"), "the demo app cannot be started (Error: Activity class")
    adb.answer({"id": "$ID", "error": "no such bundle"})
    assert_one_line(run("benchmark", bundle, "--adb"), "the demo app: no such bundle")
    with pytest.raises(ConfigError, match="expected no --images"):
        over_adb(job(bundle, images=Path("x.npz")))
    with pytest.raises(ConfigError, match="serial number, got '-x'"):
        over_adb(job(bundle), "-x")
    with pytest.raises(RemoteError, match="no-adb: there is no such program here"):
        over_adb(job(bundle), adb="no-adb")
    # What the real one says without a device.
    stand_in("adb", "#!/bin/sh\necho 'error: no devices/emulators found' >&2\nexit 1\n")
    assert_one_line(run("benchmark", bundle, "--adb"), "adb get-state: error: no devices/emulators found")
    stand_in("adb", "#!/bin/sh\necho offline\n")
    with pytest.raises(RemoteError, match="in state 'offline'"):
        over_adb(job(bundle))


def test_adb_gives_up(tiny_bundle, adb):
    adb.answer({"id": "$ID", "part": 1, "parts": 2, "text": "{"})
    times = iter((0.0, 0.5, 1.0))
    slept = []
    with pytest.raises(RemoteError, match=r"no result in the device's log \(RDITF_BENCHMARK\) after 0.8 seconds"):
        over_adb(job(tiny_bundle(), timeout=0.8), clock=lambda: next(times), sleep=slept.append)
    assert len(slept) == 1
    assert shlex.split(adb.commands()[-1][1])[:2] == ["rm", "-rf"]
