"""``l2Book``: Hyperliquid's books of twenty levels a side, beside node fills.

One JSON object a snapshot, a file for each coin and hour; format from tape-formats.md section 1.6. The last state of
each second is kept, with the exchange's own moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from replay.errors import SourceError
from replay.sources._numbers import parse_number
from replay.sources._read import Lines, Progress
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid_blocks import EARLIEST_MS, LATEST_MS
from replay.tape.schema import Payoff, Side
from replay.tape.write import TapeWriter
from replay.units import NS_PER_MS, NS_PER_SECOND

_BATCH = 65_536

Level = tuple[int, int, int, int, int]
"""Side, mantissa and digits of price, mantissa and digits of quantity."""


class Snapshot(NamedTuple):
    """A book at a moment in ns."""

    ts: int
    coin: str
    levels: list[Level]


class Books:
    """Reads books onto `depth`, all files merged in order of time.

    Args:
        writer: The tape.
        rejects: Where snapshots go that cannot be understood.
        after: Moment in ns up to which books are left out.
    """

    def __init__(self, writer: TapeWriter, rejects: Rejects, after: int = -1) -> None:
        self._after = after
        self._writer = writer
        self._rejects = rejects
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        self.rows = 0
        self.kept = 0

    def read(
        self, inputs: Sequence[Path], names: dict[Path, str], progress: Progress
    ) -> list[dict[str, Any]]:
        """Read files; return their provenance.

        Raises:
            SourceError: A file that cannot be read, or a snapshot that cannot be understood while none is set aside.
        """
        coins: dict[str, list[tuple[int, Path]]] = {}
        for file in inputs:
            first = _first(file)
            coins.setdefault(first.coin, []).append((first.ts, file))
        sources: list[dict[str, Any]] = []

        def of_coin(files: list[tuple[int, Path]]) -> Iterator[Snapshot]:
            """Yield a coin's snapshots; its files are opened one after the other."""
            for _ts, file in sorted(files):
                with Lines(file, names[file]) as lines:
                    yield from self._last_of_seconds(lines)
                    sources.append(lines.provenance())
                    progress.read(lines)

        for snapshot in merge(*map(of_coin, coins.values()), key=lambda book: book.ts):
            self._add(snapshot)
            if len(self._rows) >= _BATCH:
                self._flush()
        self._flush()
        return sources

    def _last_of_seconds(self, lines: Lines) -> Iterator[Snapshot]:
        """Yield the last snapshot of each second of a file of one coin."""
        held: Snapshot | None = None
        for number, line in lines:
            self.rows += 1
            try:
                found = _snapshot(line)
                if held is not None and (found.ts < held.ts or found.coin != held.coin):
                    raise ValueError("is older than the one before it, or of another coin")
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as failure:
                text = line.decode("utf-8", "backslashreplace")
                self._rejects.add(
                    f"is no book that is understood: {failure}", file=lines.path, line=number, text=text
                )
                continue
            if held is not None and found.ts // NS_PER_SECOND != held.ts // NS_PER_SECOND:
                yield held
            held = found
        if held is not None:
            yield held

    def _add(self, snapshot: Snapshot) -> None:
        if snapshot.ts <= self._after:
            return
        if ":" in snapshot.coin:
            return  # a builder dex settles in a token that this file does not tell
        self.kept += 1
        market = self._writer.market(snapshot.coin, settle="USDC", payoff=Payoff.LINEAR)
        self._rows += [(snapshot.ts, market, *level) for level in snapshot.levels]

    def _flush(self) -> None:
        if not self._rows:
            return
        names = ("ts", "market", "side", "price", "price_digits", "qty", "qty_digits")
        self._writer.append("depth", dict(zip(names, zip(*self._rows, strict=True), strict=True)))
        self._rows.clear()


def _snapshot(line: bytes) -> Snapshot:
    """Read a line.

    Raises:
        ValueError: It is not a book; the text says why (as do the errors of what it lacks).
    """
    data = orjson.loads(line)["raw"]["data"]
    coin, moment = data["coin"], data["time"]
    if type(coin) is not str or type(moment) is not int or not EARLIEST_MS <= moment < LATEST_MS:
        raise ValueError("its coin or its time is none")
    bids, asks = data["levels"]
    levels = []
    for side, entries in ((Side.BID, bids), (Side.ASK, asks)):
        for entry in entries:
            price, qty = parse_number(entry["px"]), parse_number(entry["sz"])
            if price[0] <= 0 or qty[0] <= 0:
                raise ValueError(f"a level of {entry['sz']} at {entry['px']} is none")
            levels.append((int(side), *price, *qty))
    return Snapshot(moment * NS_PER_MS, coin, levels)


def _first(file: Path) -> Snapshot:
    with Lines(file) as lines:
        for _number, line in lines:
            try:
                return _snapshot(line)
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError):
                continue
    raise SourceError(
        "no line of it is a book", file=file, mend="a book has raw.data with coin, time and levels"
    )
