"""Fills of both accounts of every match of Hyperliquid: ``node_fills_by_block``, ``node_fills``, ``node_trades``.

The first has a JSON object a block, the others are read as blocks without a number (``hyperliquid_lines``). Files
are read in the order of their first blocks, since names such as ``10.lz4`` and ``2.lz4`` sort wrongly and an hourly
file is cut by the clock of the node, not by the time of blocks.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.errors import SourceError
from replay.sources._read import Lines, Progress, name_inputs
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid import BOOKS, CONTEXTS, EVENTS, Outcome
from replay.sources.hyperliquid_blocks import Block, in_order
from replay.sources.hyperliquid_books import Books
from replay.sources.hyperliquid_contexts import Contexts
from replay.sources.hyperliquid_events import Events
from replay.sources.hyperliquid_lines import NAMES_OF_TRADES, TradeLines, parse_pair
from replay.sources.hyperliquid_rows import understand
from replay.sources.hyperliquid_snapshot import Opening
from replay.sources.hyperliquid_tape import FillsTape
from replay.tape.write import TapeWriter
from replay.units import format_time

_BATCH_ROWS = 8_192


class _LineForm(NamedTuple):
    """How lines of one form are read, and what its fields are called."""

    parse: Callable[[], Callable[[bytes], Block]]
    names: Mapping[str, str] = {}


_FORMS = {
    "fills": _LineForm(lambda: Block.parse),
    "node_fills": _LineForm(lambda: parse_pair),
    "node_trades": _LineForm(TradeLines, NAMES_OF_TRADES),
}


def read_blocks(
    kinds: Mapping[str, Sequence[Path]], writer: TapeWriter, rejects: Rejects, progress: Progress
) -> Outcome:
    """Read files of fills onto a tape, with a snapshot, asset contexts, other events and books beside them.

    Args:
        kinds: Files by kind: one of the three forms of fills, and what stands beside it.
        writer: The tape.
        rejects: Where rows go that cannot be understood.
        progress: Who is told.

    Raises:
        SourceError: A file that cannot be read, files that overlap, or a row that cannot be understood
            while rows are not set aside.
    """
    names = name_inputs([file for files in kinds.values() for file in files])
    contexts, events, books = (kinds.get(kind, ()) for kind in (CONTEXTS, EVENTS, BOOKS))
    kind = next(kind for kind in _FORMS if kind in kinds)
    opening = Opening(writer, rejects)
    sources = opening.read(kinds, names, progress)
    minutes = Contexts(writer, opening.ts)
    beside = Events(writer, rejects, opening.block)
    sources += minutes.read(contexts, names, rejects, progress)
    reader = _Reader(writer, rejects, minutes, _FORMS[kind], opening)
    with _without_collector():
        for file in in_order(kinds[kind], _FORMS[kind].parse()):
            with Lines(file, names[file]) as lines:
                reader.read(lines, progress)
                sources.append(lines.provenance())
                progress.read(lines)
        reader.flush()
        minutes.finish()
        sources += beside.read(events, names, progress)
        depth = Books(writer, rejects, opening.ts)
        sources += depth.read(books, names, progress)
    counts = opening.counts | reader.counts() | dict(sorted(beside.counts.items()))
    if contexts:
        counts["asset contexts"] = minutes.rows
    if books:
        counts |= {"book snapshots": depth.rows, "book snapshots kept": depth.kept}
    return Outcome(sources, counts, opening.rows + reader.rows + minutes.rows + beside.rows + depth.rows)


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

    def __init__(
        self, writer: TapeWriter, rejects: Rejects, contexts: Contexts, form: _LineForm, opening: Opening
    ) -> None:
        self.rows = 0
        self._parse = form.parse()
        self._names = form.names
        self._opening = opening
        self._left_out = 0
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
                block = self._parse(line)
                if first and previous is not None and _is_late(block, previous):
                    raise SourceError(
                        f"overlaps another file: {_told(block)} comes after {_told(previous)}",
                        file=lines.path,
                        row=number,
                        mend="pass each block once",
                    )
                first = False
                self._check_order(block)
            except ValueError as failure:
                self._refuse(str(failure), lines.path, number, line)
                continue
            if self._last is not None and block.place != self._last.place and len(self._fills) >= _BATCH_ROWS:
                self.flush()
                progress.reading(lines)
            self._add(block, _Place(lines.path, number, len(self._fills)))

    def _check_order(self, block: Block) -> None:
        if self._last is not None:
            if _is_late(block, self._last):
                raise ValueError(f"{_told(block)} comes after {_told(self._last)}")
            if block.ts < self._last.ts:
                raise ValueError(f"block {block.number} is older than the block before it")

    def _refuse(self, reason: str, file: Path, line: int, text: bytes) -> None:
        """Set a line aside, after the rows before it, so that the first fault is the one reported.

        Where it is set aside and its form has no blocks, the rows of its moment stay together.
        """
        if not self._rejects.sets_aside or (self._last is not None and self._last.number >= 0):
            self.flush()
        self.rows += 1
        self._rejects.add(reason, file=file, line=line, text=text.decode("utf-8", "backslashreplace"))

    def _add(self, block: Block, place: _Place) -> None:
        self._last = block
        self._blocks += 1
        self._unknown.update(f"of the block: {key}" for key in block.unknown)
        if not block.events:
            return
        if self._opening.covers(block.number, block.ts):
            self._left_out += len(block.events)
            self.rows += len(block.events)
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
        places = np.array([found.place for found in self._pending], dtype=np.int64)
        together = np.cumsum(np.append(False, places[1:] != places[:-1]))
        rows, faults = understand(self._users, self._fills, together[block], self._unknown)
        for fault in faults:
            place = self._places[block[fault.row]]
            item = fault.row - place.first_row
            origin = self._pending[block[fault.row]]
            text = json.dumps(origin.events[item]) if origin.line is None else origin.line.decode()
            self._rejects.add(
                fault.reason,
                file=place.file,
                line=place.line,
                text=text,
                key=self._names.get(fault.key, fault.key),
                item=item if len(origin.events) > 1 or origin.number >= 0 else None,
            )
        ts = np.array([found.ts for found in self._pending], dtype=np.int64)[block]
        numbers = np.array([found.number for found in self._pending], dtype=np.int64)[block]
        self.rows += len(self._fills)
        self._tape.append(rows, ts[rows.row], numbers[rows.row])
        self._begin()

    def counts(self) -> dict[str, int]:
        """Return what was counted."""
        unknown = {f"unknown field {key}": count for key, count in sorted(self._unknown.items())}
        blocks = {"blocks": self._blocks} if self._last is None or self._last.number >= 0 else {}
        left_out = {"rows up to the snapshot left out": self._left_out} if self._opening.is_given else {}
        return {**blocks, "rows": self.rows, **left_out, **self._tape.counts, **unknown}


def _is_late(block: Block, last: Block) -> bool:
    """Tell whether a block must not follow another; those without a number may share a moment."""
    return block.place < last.place or (block.number >= 0 and block.place == last.place)


def _told(block: Block) -> str:
    return format_time(block.ts) if block.number < 0 else f"block {block.number}"
