"""``node_fills_by_block``: one JSON object per block of Hyperliquid, with the fills of both accounts.

Files are read in the order of their first blocks, since names such as ``10.lz4`` and ``2.lz4`` sort
wrongly and an hourly file is cut by the clock of the node, not by the time of blocks.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.errors import SourceError
from replay.sources._read import Lines, Progress, name_inputs
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid import Outcome
from replay.sources.hyperliquid_blocks import Block, in_order
from replay.sources.hyperliquid_books import Books
from replay.sources.hyperliquid_contexts import Contexts
from replay.sources.hyperliquid_events import Events
from replay.sources.hyperliquid_rows import understand
from replay.sources.hyperliquid_tape import FillsTape
from replay.tape.write import TapeWriter

_BATCH_ROWS = 8_192


def read_blocks(
    inputs: Sequence[Path],
    writer: TapeWriter,
    rejects: Rejects,
    progress: Progress,
    contexts: Sequence[Path] = (),
    events: Sequence[Path] = (),
    books: Sequence[Path] = (),
) -> Outcome:
    """Read files of blocks onto a tape, with asset contexts, other events and books beside them.

    Raises:
        SourceError: A file that cannot be read, files that overlap, or a row that cannot be understood
            while rows are not set aside.
    """
    names = name_inputs([*inputs, *contexts, *events, *books])
    minutes = Contexts(writer)
    beside = Events(writer, rejects)
    sources = minutes.read(contexts, names, rejects, progress)
    reader = _Reader(writer, rejects, minutes)
    with _without_collector():
        for file in in_order(inputs):
            with Lines(file, names[file]) as lines:
                reader.read(lines, progress)
                sources.append(lines.provenance())
                progress.read(lines)
        reader.flush()
        minutes.finish()
        sources += beside.read(events, names, progress)
        depth = Books(writer, rejects)
        sources += depth.read(books, names, progress)
    counts = reader.counts() | dict(sorted(beside.counts.items()))
    if contexts:
        counts["asset contexts"] = minutes.rows
    if books:
        counts |= {"book snapshots": depth.rows, "book snapshots kept": depth.kept}
    return Outcome(sources, counts, reader.rows + minutes.rows + beside.rows + depth.rows)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch the cycle collector off: JSON has no cycles, and walking it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Place(NamedTuple):
    """Where the rows of a block stand."""

    file: Path
    line: int
    first_row: int


class _Reader:
    """Gathers the rows of blocks, and moves them to the tape a batch at a time."""

    def __init__(self, writer: TapeWriter, rejects: Rejects, contexts: Contexts) -> None:
        self.rows = 0
        self._tape = FillsTape(writer, contexts)
        self._rejects = rejects
        self._unknown: Counter[str] = Counter()
        self._blocks = 0
        self._last: Block | None = None
        self._begin()

    def _begin(self) -> None:
        self._users: list[Any] = []
        self._fills: list[Any] = []
        self._pending: list[Block] = []
        self._places: list[_Place] = []

    def read(self, lines: Lines, progress: Progress) -> None:
        """Read the blocks of one file."""
        previous, first = self._last, True
        for number, line in lines:
            try:
                block = Block.parse(line)
                if first and previous is not None and block.number <= previous.number:
                    raise SourceError(
                        f"overlaps another file: block {block.number} comes after block {previous.number}",
                        file=lines.path,
                        row=number,
                        mend="pass each block once",
                    )
                first = False
                self._check_order(block)
            except ValueError as failure:
                self._refuse(str(failure), lines.path, number, line)
                continue
            self._add(block, _Place(lines.path, number, len(self._fills)))
            if len(self._fills) >= _BATCH_ROWS:
                self.flush()
                progress.reading(lines)

    def _check_order(self, block: Block) -> None:
        if self._last is not None:
            if block.number <= self._last.number:
                raise ValueError(f"block {block.number} comes after block {self._last.number}")
            if block.ts < self._last.ts:
                raise ValueError(f"block {block.number} is older than the block before it")

    def _refuse(self, reason: str, file: Path, line: int, text: bytes) -> None:
        """Set a line aside, after the rows before it, so that the first fault is the one reported."""
        self.flush()
        self.rows += 1
        self._rejects.add(reason, file=file, line=line, text=text.decode("utf-8", "backslashreplace"))

    def _add(self, block: Block, place: _Place) -> None:
        self._last = block
        self._blocks += 1
        self._unknown.update(f"of the block: {key}" for key in block.unknown)
        if not block.events:
            return
        try:
            users = [user for user, _fill in block.events]
            fills = [fill for _user, fill in block.events]
        except (TypeError, ValueError):
            pairs = [
                event if type(event) is list and len(event) == 2 else (None, None) for event in block.events
            ]
            users = [user for user, _fill in pairs]
            fills = [fill for _user, fill in pairs]
        self._users += users
        self._fills += fills
        self._pending.append(block)
        self._places.append(place)

    def flush(self) -> None:
        """Move the rows gathered so far to the tape, and those that are not understood to the rejects."""
        if not self._fills:
            return
        first_rows = np.array([place.first_row for place in self._places], dtype=np.int64)
        lengths = np.diff(np.append(first_rows, len(self._fills)))
        block = np.repeat(np.arange(lengths.size), lengths)
        rows, faults = understand(self._users, self._fills, block, self._unknown)
        for fault in faults:
            place = self._places[block[fault.row]]
            item = fault.row - place.first_row
            event = self._pending[block[fault.row]].events[item]
            self._rejects.add(
                fault.reason,
                file=place.file,
                line=place.line,
                text=json.dumps(event),
                key=fault.key,
                item=item,
            )
        ts = np.array([found.ts for found in self._pending], dtype=np.int64)[block]
        numbers = np.array([found.number for found in self._pending], dtype=np.int64)[block]
        self.rows += len(self._fills)
        self._tape.append(rows, ts[rows.row], numbers[rows.row])
        self._begin()

    def counts(self) -> dict[str, int]:
        """Return what was counted."""
        unknown = {f"unknown field {key}": count for key, count in sorted(self._unknown.items())}
        return {"blocks": self._blocks, "rows": self.rows, **self._tape.counts, **unknown}
