"""Progress of long work: a bar on stderr, drawn only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from replay.progress import OnProgress


def _silent(_share: float, _text: str) -> None:
    """Draw nothing: stderr is a file or a pipe."""


@contextmanager
def progress(label: str = "") -> Iterator[OnProgress]:
    """Yield a function to call with the share done and a short text; it draws a bar that vanishes at the end.

    Args:
        label: What the work is, shown before the bar.
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0, text="")

        def draw(share: float, text: str) -> None:
            bar.update(task, completed=share, text=text)

        yield draw
