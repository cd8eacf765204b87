"""The group: help, laziness, exit codes, completion."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from replay import __version__
from replay.cli import LazyGroup, cli
from replay.errors import TapeError

HEAVY = ("numpy", "duckdb", "pyarrow", "pydantic", "rich", "numba", "orjson")
COMMANDS = cli.list_commands(click.Context(cli))


def invoke(*args):
    return CliRunner().invoke(cli, args, prog_name="replay")


def walk(command, path):
    """Yield a command and all below it, with their names."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


def everything():
    return list(walk(cli, ()))


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_the_commands_are_those_of_the_design():
    assert COMMANDS == [
        "datasets", "import", "check", "populate", "rules", "run", "band", "compare", "sql", "state", "explain",
        "report", "completion",
    ]  # fmt: skip


def test_every_command_has_help_with_an_example_that_names_it():
    for path, command in everything():
        result = invoke(*path, "-h")
        assert result.exit_code == 0, path
        assert result.output == invoke(*path, "--help").output
        if not isinstance(command, LazyGroup):
            assert "Example" in result.output, path
            assert f"replay {' '.join(path)}" in result.output.partition("Example")[2], path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


def test_names_on_the_command_line_are_those_of_the_table():
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name


def test_version():
    assert invoke("--version").output == f"replay {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["completion", "bash"], ["sql", "--help"], ["run", "-h"], ["report", "-h"]],
)
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import sys
from replay.cli import cli
try:
    cli({arguments!r}, prog_name="replay")
except SystemExit as end:
    assert end.code == 0, end.code
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert python(code).stderr == "[]\n"


def test_completing_a_command_imports_nothing_heavy():
    code = f"""
import sys
from replay.cli import main
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    found = python(code, _REPLAY_COMPLETE="bash_complete", COMP_WORDS="replay r", COMP_CWORD="1")
    assert found.stdout.split() == ["plain,rules", "plain,run", "plain,report"]
    assert found.stderr == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_replay(shell):
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_REPLAY_COMPLETE" in result.output


def test_misuse_ends_with_2_and_names_a_similar_command():
    result = invoke("chekc")
    assert result.exit_code == 2
    assert "did you mean check?" in result.output
    assert invoke("run").exit_code == 2
    assert invoke("--colour").exit_code == 2


def test_without_a_command_it_shows_the_help():
    assert "Usage: replay" in invoke().output


def failing(failure, monkeypatch, **environment):
    def fail():
        raise failure

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: click.Command("check", callback=fail))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(cli, ["check"], prog_name="replay")


def test_an_error_of_the_data_is_one_message_and_1(monkeypatch):
    failure = TapeError("is missing", file="tape/fills.parquet", row=3, key="qty", mend="import it again")
    result = failing(failure, monkeypatch)
    assert result.exit_code == 1
    assert result.stderr == "error: tape/fills.parquet:3: qty: is missing\n  import it again\n"
    assert result.stdout == ""


def test_an_error_of_the_system_is_one_message_and_1(monkeypatch):
    result = failing(PermissionError(13, "Permission denied", "/somewhere"), monkeypatch)
    assert (result.exit_code, result.stderr) == (1, "error: /somewhere: Permission denied\n")


def test_a_defect_says_that_it_is_one(monkeypatch):
    result = failing(KeyError("mark"), monkeypatch)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: internal error: KeyError: 'mark'\n  this is a defect of replay")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("failure", [KeyError("mark"), TapeError("is missing")])
def test_the_traceback_is_shown_on_request(monkeypatch, failure):
    result = failing(failure, monkeypatch, REPLAY_DEBUG="1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):")


def test_interruption_is_130(monkeypatch):
    result = failing(KeyboardInterrupt(), monkeypatch)
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


def test_a_closed_pipe_is_quiet(tmp_path):
    code = """
import sys, click
from replay.cli import LazyGroup, main
def flood():
    for _ in range(100_000):
        print("x" * 80)
LazyGroup.get_command = lambda *_: click.Command("check", callback=flood)
sys.argv = ["replay", "check"]
main()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 141


def test_python_m_replay_is_the_same_program():
    found = subprocess.run(
        [sys.executable, "-m", "replay", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"replay {__version__}\n"


def test_a_closed_pipe_is_quiet_where_rich_draws():
    child = subprocess.Popen(
        [sys.executable, "-m", "replay", "rules", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 141
