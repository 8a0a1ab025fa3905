"""The group and what every command must do; commands run for real in the tests of what they call, and below."""

import json
import re
import shlex

import click
import pytest
from click.testing import CliRunner

from rdi_tf.cli import common
from rdi_tf.cli import main as cli
from rdi_tf.config import Config, preset_names
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
            "tf_keras is not installed.*rdi-tf.train.*",
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


def test_table_aligns_words_left_and_numbers_right():
    text = common.table(("EXIT", "MACS"), [("branch_1", "12"), ("main", "345")])
    assert text == "EXIT      MACS\nbranch_1    12\nmain       345"


def test_read_config_takes_run_folders_and_settings(tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    with pytest.raises(ConfigError, match=r"without config\.toml"):
        common.read_config(str(run_folder))
    (run_folder / "config.toml").write_text(Config(name="mine").to_toml())
    config = common.read_config(str(run_folder), ["training.iterations=7"])
    assert (config.name, config.training.iterations) == ("mine", 7)


def test_presets():
    listed = json.loads(run("presets", "--json").stdout)["presets"]
    assert [entry["name"] for entry in listed] == preset_names()
    assert [Config.from_dict(entry) for entry in listed] == [Config.load(name) for name in preset_names()]
    lines = run("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == preset_names()


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
