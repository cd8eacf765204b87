"""The console on stdout of commands that draw."""

from __future__ import annotations

from rich.console import Console


class _PipedConsole(Console):
    """A console that leaves it to the program to end when the reader of its pipe has gone."""

    def on_broken_pipe(self) -> None:
        """Raise what is being handled, instead of leaving with an exit code of its own."""
        raise


def stdout_console() -> Console:
    """Return a console on stdout that prints texts of files as they are."""
    return _PipedConsole(markup=False, highlight=False, emoji=False)
