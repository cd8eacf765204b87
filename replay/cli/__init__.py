"""The command line: one group, its commands imported when they are asked for, errors as one message.

Exit codes: 0 done, 1 the data, the rules or the files are wrong (or the program is, which it then says),
2 the command was misused, 130 interrupted, 141 the reader of a pipe went away. Results go to stdout, all
else to stderr.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
import traceback
from importlib import import_module
from typing import IO, Any

import click
from click.shell_completion import CompletionItem

from replay import __version__
from replay.errors import ReplayError

BROKEN_PIPE = 141

_COMMANDS = {
    "datasets": (
        "replay.cli.datasets:datasets",
        "List days, build their tapes, compare with what was published.",
    ),
    "import": ("replay.cli.importing:import_", "Turn public files into a tape."),
    "check": ("replay.cli.check:check", "Look for gaps, breaks and damage in a tape."),
    "populate": ("replay.cli.populate:populate_", "Give a tape of anonymous trades modelled accounts."),
    "rules": ("replay.cli.rules:rules", "List, show and check the rules of exchanges."),
    "run": ("replay.cli.running:run", "Replay a tape under the rules of an exchange."),
    "band": ("replay.cli.band:band", "Replay an anonymous day under many seeds."),
    "compare": ("replay.cli.comparing:compare", "Show runs of one day side by side: who pays what."),
    "sql": ("replay.cli.sql:sql", "Question a run in SQL, or by a named query."),
    "state": ("replay.cli.state:state", "Show where a replay stood at a moment."),
    "explain": ("replay.cli.explain:explain", "Tell why an account was hit or spared, step by step."),
    "report": ("replay.cli.report:report", "Show a run on one HTML page."),
    "completion": ("replay.cli.completion:completion", "Print the completion script of a shell."),
}
"""Command -> where it is, and its line in the help; no command is imported to print that."""


class Failure(click.ClickException):
    """An end with a message on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to stderr."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class Interrupted(Failure):
    """The user stopped the program."""

    exit_code = 130


class LazyGroup(click.Group):
    """The group of all commands; see :data:`_COMMANDS`. It turns every error into a message and a code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of a user's work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was asked for, and a similar one where there is none of that name."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, _COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_COMMANDS)}"
            ctx.fail(f"no command is named {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines of the help without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        return [
            CompletionItem(name, help=summary)
            for name, (_, summary) in _COMMANDS.items()
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever goes wrong ends in one message and the exit code that is due."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except BrokenPipeError:
            _leave_pipe()
            ctx.exit(BROKEN_PIPE)
        except ReplayError as failure:
            _trace_if_wanted()
            raise Failure(failure.message()) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as failure:
            _trace_if_wanted()
            raise Failure(_os_message(failure)) from None
        except Exception as failure:
            _trace_if_wanted()
            raise Failure(_defect_message(failure)) from None
        return result


def _leave_pipe() -> None:
    """Point stdout at nothing, so that the interpreter does not fail once more when it flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _trace_if_wanted() -> None:
    if os.environ.get("REPLAY_DEBUG") == "1":
        traceback.print_exc()


def _os_message(failure: OSError) -> str:
    reason = failure.strerror or str(failure)
    return f"{failure.filename}: {reason}" if failure.filename else reason


def _defect_message(failure: Exception) -> str:
    return (
        f"internal error: {type(failure).__name__}: {failure}\n"
        "  this is a defect of replay, not of your data; set REPLAY_DEBUG=1 to see where it happened"
    )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="REPLAY_DEBUG=1 shows where an error arose.",
)
@click.version_option(__version__, prog_name="replay", message="%(prog)s %(version)s")
def cli() -> None:
    """Replay recorded days of crypto perpetual futures under the rules of any exchange.

    Files of a venue become a tape, a tape and rules become a run, and a run answers questions in SQL.

    \b
    Example:
      replay import scenario datasets/demo-squeeze/scenario.toml --out out/tape
      replay check out/tape
      replay run out/tape --rules hyperliquid@2023-02 --out out/run
      replay sql out/run --query liquidation-audit
    """  # noqa: D301 - click reads the escape


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding still gets every name
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="replay")
