"""The group and what every command must do; commands run for real in the tests of what they call, and below."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rdi_tf.cli import common
from rdi_tf.cli import main as cli
from rdi_tf.cli.library import LEVEL, library
from rdi_tf.config import Config, preset_names
from rdi_tf.config_rules import doubts
from rdi_tf.errors import ConfigError

EVERY_COMMAND = pytest.mark.parametrize("name", list(cli.COMMANDS))


def run(*arguments):
    """Result of `rdi-tf ARGUMENTS`, as a shell would see it: exit_code, stdout, stderr."""
    return CliRunner().invoke(cli.main, arguments, prog_name="rdi-tf")


@pytest.fixture
def probe(monkeypatch):
    """Replace a command's function: `probe(function)` makes `rdi-tf probe` call it."""

    def install(function):
        module = type("module", (), {"command": common.command("probe", example="rdi-tf probe")(function)})
        monkeypatch.setitem(cli.COMMANDS, "probe", "probe")
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    return install


def assert_one_line_error(result, pattern):
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(f"rdi-tf: error: {pattern}", line)


def test_version():
    import rdi_tf

    assert run("--version").stdout == f"rdi-tf, version {rdi_tf.__version__}\n"


def test_help_lists_every_command():
    result = run("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  ([a-z-]+)  ", result.stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(cli.COMMANDS)


def test_no_command_shows_help_on_stderr():
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


@EVERY_COMMAND
def test_help_has_json_and_an_example_that_parses(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    example = result.stdout.partition("Example:\n")[2].strip()
    program, command, *arguments = shlex.split(example)
    assert (program, command) == ("rdi-tf", name)
    cli.main.get_command(None, name).make_context(name, arguments)  # raises on arguments that do not parse


@EVERY_COMMAND
def test_unknown_option_is_one_line(name):
    assert_one_line_error(run(name, "--no-such-option"), rf"No such option.* \(see 'rdi-tf {name} --help'\)")


def test_unknown_command_is_one_line():
    assert_one_line_error(run("no-such-command"), "No such command 'no-such-command'.*")


def test_json_is_one_document_and_prints_go_to_stderr(probe):
    def command():
        print("a progress bar")
        return common.Report({"images": 3}, "three images")

    probe(command)
    result = run("probe", "--json")
    assert json.loads(result.stdout) == {"images": 3}
    assert result.stderr == "a progress bar\n"
    assert run("probe").stdout == "three images\n"


@pytest.mark.parametrize(
    ("error", "pattern"),
    [
        (ConfigError("steps: expected at least 1,\n  got 0"), "steps: expected at least 1, got 0"),
        (PermissionError(13, "Permission denied", "out/x.json"), "Permission denied: out/x.json"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            ModuleNotFoundError("No module named 'tf_keras'", name="tf_keras"),
            "tf_keras is not installed.*extra train.*",
        ),
    ],
)
def test_expected_errors_are_one_line_and_exit_2(probe, error, pattern):
    def command():
        raise error

    probe(command)
    assert_one_line_error(run("probe", "--json"), pattern)


def test_interrupt_exits_130(probe):
    def command():
        raise KeyboardInterrupt

    probe(command)
    result = run("probe")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.strip() == "rdi-tf: interrupted"


def test_bugs_keep_their_traceback(probe):
    def command():
        raise ZeroDivisionError

    probe(command)
    assert isinstance(run("probe").exception, ZeroDivisionError)


def test_read_config_takes_run_folders_and_settings(tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    with pytest.raises(ConfigError, match=r"without config\.toml"):
        common.read_config(str(run_folder))
    (run_folder / "config.toml").write_text(Config(name="mine").to_toml())
    config = common.read_config(str(run_folder), ["training.iterations=7"])
    assert (config.name, config.training.iterations) == ("mine", 7)


@pytest.mark.parametrize("arguments", [("compare", "run"), ("report", "run", "--bundle", "bundle")])
@pytest.mark.parametrize("place", ["taken", "taken/report"])
def test_a_file_in_the_place_of_a_folder_is_refused_first(tmp_path, monkeypatch, arguments, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    result = run(*arguments, "--output", place)
    assert_one_line_error(result, f"--output '{place}': expected a folder, but taken is a file")


def test_outputs_that_can_be_written(tmp_path):
    for check in (common.check_output_file, common.check_output_folder):
        check(None)
        check(Path("x.json"))
        check(tmp_path / "new")
    (tmp_path / "old.json").write_text("")
    common.check_output_file(tmp_path / "old.json")
    common.check_output_folder(tmp_path)
    common.check_output_folder(tmp_path / "several" / "new" / "ones")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder in which nobody can write")
def test_outputs_that_cannot_be_written_are_refused_first():
    for check in (common.check_output_file, common.check_output_folder):
        with pytest.raises(ConfigError, match="--output '/proc/new': cannot be written: "):
            check(Path("/proc/new"))


def test_presets():
    listed = json.loads(run("presets", "--json").stdout)["presets"]
    assert [entry["name"] for entry in listed] == preset_names()
    assert [Config.from_dict(entry) for entry in listed] == [Config.load(name) for name in preset_names()]
    lines = run("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == preset_names()


def test_costs_as_a_shell_runs_it(tmp_path):
    """The paper's SmallCNN; nothing on stderr, where TensorFlow would write its notes."""
    (tmp_path / "mine.toml").write_text('[model]\nbackbone = "smallcnn"\nbranch = "paper"\n')
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "rdi_tf.cli", "costs", "mine.toml", "--json"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert [entry["executed_macs"] for entry in document["exits"]] == [1_015_440, 8_529_056, 11_135_152]
    assert document["config"]["name"] == "mine"


TINY = {
    "data.name": "digits",
    "model.branch": "paper",
    "model.input_shape": [28, 28, 1],
    "defence.attack.steps": 1,
    "defence.warmup_iterations": 0,
    "evaluation.steps": 1,
    "training.iterations": 2,
    "training.batch_size": 8,
    "training.decay_at": [1],
    "training.validate_every": 1,
    "training.validation_images": 16,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, result of `rdi-tf train`) of a network that was trained for two iterations on the digits."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "mine.toml").write_text(Config().with_settings(f"{key}={TINY[key]}" for key in TINY).to_toml())
    result = run("train", str(folder / "mine.toml"), "--run-dir", str(folder / "run"), "--json")
    assert result.exit_code == 0, result.output
    return folder / "run", result


def test_train_makes_a_run_and_resumes_it(trained):
    folder, result = trained
    document = json.loads(result.stdout)
    assert (document["run"], document["model"]) == (str(folder), str(folder / "model.keras"))
    assert document["best_validation"]["iteration"] in (1, 2)
    assert "iteration 2: validation" in result.stderr
    (start,) = json.loads((folder / "training.json").read_text())
    assert start["command"] == "rdi-tf train mine.toml --run-dir run --json"
    assert json.loads(run("train", str(folder), "--json", "--quiet").stdout) == document  # nothing left to do
    other = run("train", str(folder), "--set", "training.seed=5")
    assert_one_line_error(other, ".* holds a run with another configuration.*")


def test_train_starts_from_another_run(trained, tmp_path):
    folder, _ = trained
    second = ["train", str(folder.parent / "mine.toml"), "--quiet", "--set", "training.seed=5", "--run-dir"]
    result = run(*second, str(tmp_path / "run"), "--from", str(folder))
    assert result.exit_code == 0, result.output
    config = Config.load(tmp_path / "run" / "config.toml")
    assert len(config.training.initial_weights) == 64 and config.training.seed == 5
    assert run("train", str(tmp_path / "run"), "--quiet").exit_code == 0  # nothing left to do, and no need of the other
    missing = run(*second, str(tmp_path / "other"), "--from", str(tmp_path / "nothing"))
    assert missing.exit_code == 2 and "does not exist" in missing.stderr


def test_train_names_the_run_after_the_configuration(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def train(config, run_dir, data_dir, progress, strategy, command, start):
        raise Stop(run_dir)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rdi_tf.training.run.train", train)
    result = run("train", "mnist-smallcnn")
    assert (result.exception.args, result.stderr) == ((Path("runs/mnist-smallcnn"),), "")
    shorter = run("train", "mnist-smallcnn", "--set", "training.iterations=2000")
    (line,) = shorter.stderr.splitlines()
    assert line.startswith("rdi-tf: warning: training.decay_at: [11700, 12900] is not reached")


def test_who_trains_says_which_settings_are_not_used(trained, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(*arguments, **settings):
        raise Stop

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rdi_tf.training.run.train", stop)
    monkeypatch.setattr("rdi_tf.compression.runs.train", stop)
    folder, _ = trained
    for command in (["quickstart"], ["compress", str(folder), "--prune-channels", "0.5"]):
        result = run(*command, "--set", "policy.budget=1e6")
        assert isinstance(result.exception, Stop)
        assert "rdi-tf: warning: policy.budget=1000000.0 is not used" in result.stderr


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "..", ""])
def test_a_configurations_name_leads_nowhere_else(tmp_path, name):
    (tmp_path / "theirs.toml").write_text(f'name = "{name}"\n')
    result = run("train", str(tmp_path / "theirs.toml"))
    assert_one_line_error(result, f"name: expected one that a folder can have, got '{name}'; or say --run-dir")


def test_the_example_of_train_follows_its_iterations():
    *_, preset, option, setting = run("train", "--help").stdout.partition("Example:\n")[2].split()
    assert option == "--set" and not doubts(Config.load(preset).with_settings([setting]))


def test_calibrate_then_evaluate(trained):
    folder, _ = trained
    settings = ["--set", "policy.calibration=shares", "--set", "policy.shares=[1, 0, 0]"]
    found = json.loads(run("calibrate", str(folder), *settings, "--json").stdout)
    assert found["exit_shares"] == [1, 0, 0]
    unused = run("calibrate", str(folder), *settings, "--set", "policy.budget=1e6").stderr
    assert "rdi-tf: warning: policy.budget=1000000.0 is not used: policy.calibration is shares, not budget" in unused
    arguments = ["evaluate", str(folder), "--attacks", "main,average", "--limit", "8", "--no-checks"]
    arguments += ["--set", "evaluation.epsilon=0"]
    result = run(*arguments, "--json")
    document = json.loads(result.stdout)
    assert {attack["name"] for attack in document["attacks"]} == {"main", "average"}
    assert document["attack"]["epsilon"] == 0
    assert document["per_image_worst_case"] == document["clean"]["accuracy"]  # without a ball, attacks change nothing
    assert document["provenance"]["command"].startswith("rdi-tf evaluate run --attacks main,average")
    assert list((folder / "evaluation").glob("*.json"))
    assert result.stderr.splitlines()[-2:] == ["main: 8 images", "average: 8 images"]
    assert "ATA (Main Branch)" in run(*arguments, "--quiet").stdout


def test_evaluate_sweeps_compares_and_keeps_images(trained):
    folder, _ = trained
    options = ["--attacks", "main", "--limit", "8", "--quiet", "--json", "--set", "evaluation.steps=1"]
    sweep = json.loads(run("evaluate", str(folder), *options, "--epsilons", "0,1/4").stdout)
    assert (sweep["epsilons"], list(sweep["accuracies"])) == ([0, 0.25], ["main"])
    more = ["--no-checks", "--policies", "entropy,margin", "--save-images", "3"]
    compared = run("evaluate", str(folder), *options, *more)
    document = json.loads(compared.stdout)
    assert [result["policy"] for result in document["policies"]] == ["entropy", "margin"]
    assert Path(document["images_file"]).is_file()
    both = run("evaluate", str(folder), "--policies", "all", "--policy", "margin")
    assert_one_line_error(both, "--policies goes with neither --epsilons nor --policy")
    for option in ("--reuse", "--checks", "--no-checks"):
        ignored = run("evaluate", str(folder), "--epsilons", "0,1/4", option)
        assert_one_line_error(ignored, f"{option}: expected no --epsilons with it")


def test_evaluate_reads_fractions():
    from rdi_tf.cli.evaluate import parse_fractions

    assert parse_fractions("0, 2/255,0.1") == (0.0, 2 / 255, 0.1)
    for text in ("", "1/0", "1/2/3", "a", "0.1;0.2"):
        with pytest.raises(ConfigError, match="--epsilons .* expected numbers or fractions"):
            parse_fractions(text)


@pytest.mark.parametrize("name", ["calibrate", "evaluate"])
def test_settings_of_other_sections_are_refused(trained, name):
    folder, _ = trained
    result = run(name, str(folder), "--set", "training.seed=1")
    assert_one_line_error(result, "--set 'training.seed=1': expected (policy|evaluation).KEY=VALUE, .*")
    assert_one_line_error(run(name, str(folder.parent)), ".* is not a run folder: it has no config.toml")


@pytest.mark.slow
def test_quickstart(tmp_path):
    settings = [f"--set={key}={TINY[key]}" for key in TINY]
    result = run("quickstart", "--run-dir", str(tmp_path / "run"), *settings, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert len(document["calibration"]["thresholds"]) == 2
    assert len(document["evaluation"]["attacks"]) == 5
    assert (tmp_path / "run" / "model.keras").is_file()
    assert Path(document["bundle"]) == tmp_path / "run" / "export" / "float32"
    assert document["latency"]["images"]["source"] == "set 'clean' of images.npz"
    assert (tmp_path / "run" / "report" / "report.md").is_file() and Path(document["report"]).is_file()


@pytest.mark.parametrize(
    ("latency_saving", "invoke_saving", "said"), [(-0.8, 0.2, True), (0.1, 0.2, False), (-0.8, -0.1, False)]
)
def test_quickstart_says_why_an_answer_took_longer(latency_saving, invoke_saving, said):
    from rdi_tf.cli.quickstart import slower_notes

    found = {"latency_saving": latency_saving, "invoke_saving": invoke_saving, "mix_rest_ms": 0.0877}
    notes = slower_notes(found)
    assert len(notes) == said
    assert not said or ("20.0%" in notes[0] and "0.0877 ms" in notes[0])


def test_notes_are_shown_when_an_import_fails(monkeypatch, capfd, tmp_path):
    (tmp_path / "noisy_module.py").write_text("import os\nos.write(2, b'a note\\n')\nraise ImportError('broken')\n")
    (tmp_path / "fine_module.py").write_text("import os\nos.write(2, b'another note\\n')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(LEVEL, "")  # so that it is put back afterwards
    monkeypatch.delenv(LEVEL)
    library("fine_module")
    assert capfd.readouterr().err == ""
    monkeypatch.delenv(LEVEL)
    with pytest.raises(ImportError, match="broken"):
        library("noisy_module")
    assert capfd.readouterr().err == "a note\n"


def test_a_process_without_stderr_imports_all_the_same(monkeypatch):
    monkeypatch.setenv(LEVEL, "")  # so that it is put back afterwards
    monkeypatch.delenv(LEVEL)
    monkeypatch.setattr(sys, "stderr", None)
    assert library("json") is json


def test_readme_commands_exist(repository):
    """Each `rdi-tf …` line of the README parses: command, options and number of arguments."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("rdi-tf ")]
    assert lines
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)[1:]
        if name.startswith("--"):
            assert run(name).exit_code == 0
            continue
        command = cli.main.get_command(None, name)
        assert command is not None, line
        try:
            command.make_context(name, arguments)
        except click.exceptions.Exit as stop:  # --help
            assert stop.exit_code == 0, line
