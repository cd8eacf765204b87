"""Whether the files of a tape are those its manifest names, in the schema, and in order of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from replay.folders import sha256_file
from replay.tape.findings import Finding, Severity
from replay.tape.read import Tape
from replay.tape.schema import EVENT_TABLES, MANIFEST, TABLES
from replay.units import (
    NS_PER_DAY,
    NS_PER_SECOND,
    format_time,
    parse_time,
)

GAP_FACTOR = 100
"""A silence is noted from this many times the table's usual time between moments."""

LEAST_INTERVALS = 20
"""Fewer intervals have no usual length."""

_UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"), (0.001, "ms"))
_FLOWING = ("prices", "fills", "trades", "depth")
_BATCH_ROWS = 1 << 17
_FINE = 8  # buckets per doubling in the histogram of intervals

Ints = npt.NDArray[np.int64]


def check_files(tape: Tape, on_done: Callable[[float], None]) -> Iterator[Finding]:
    """Compare every file with its entry in the manifest and with the schema.

    Args:
        tape: The tape.
        on_done: Called with the share of bytes read so far.
    """
    entries = tape.manifest["tables"]
    if not all(_is_entry(entry) for entry in entries.values()):
        yield Finding(Severity.ERROR, MANIFEST, "does not give rows, bytes and sha256 of every file")
        return
    total = sum(file["bytes"] for entry in entries.values() for file in entry["files"]) or 1
    done = 0
    listed = {MANIFEST}
    for table, entry in entries.items():
        if table not in TABLES:
            yield Finding(Severity.ERROR, MANIFEST, f"names the table `{table}`, which the format has not")
            continue
        for file in entry["files"]:
            listed.add(file["path"])
            if TABLES[table].event and _day(file["path"], table) is None:
                yield Finding(Severity.ERROR, table, f"{file['path']} is not in a folder date=YYYY-MM-DD")
            yield from _check_file(tape.path / file["path"], table, file)
            done += file["bytes"]
            on_done(done / total)
        rows = sum(file["rows"] for file in entry["files"])
        if rows != entry["rows"]:
            yield Finding(
                Severity.ERROR,
                MANIFEST,
                f"says {entry['rows']} rows of `{table}`, its files sum to {rows}",
            )
    stray = sorted(
        path.relative_to(tape.path).as_posix() for path in tape.path.rglob("*.parquet") if path.is_file()
    )
    for path in stray:
        if path not in listed:
            yield Finding(Severity.WARNING, MANIFEST, f"does not name the file {path}, so nothing reads it")


def _is_entry(entry: Any) -> bool:
    kinds = {"path": str, "rows": int, "bytes": int, "sha256": str}
    return isinstance(entry.get("rows"), int) and all(
        isinstance(file.get(name), kind) for file in entry["files"] for name, kind in kinds.items()
    )


def _day(path: str, table: str) -> int | None:
    """Return the day, counted from 1970, of a file's folder such as ``fills/date=2025-10-10``."""
    folder, _, text = str(Path(path).parent).partition("/date=")
    try:
        return parse_time(text) // NS_PER_DAY if folder == table else None
    except ValueError:
        return None


def _check_file(path: Path, table: str, file: dict[str, Any]) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(Severity.ERROR, table, f"{file['path']} is missing")
        return
    if path.stat().st_size != file["bytes"] or sha256_file(path) != file["sha256"]:
        yield Finding(Severity.ERROR, table, f"{file['path']} was changed after it was written")
        return
    try:
        with pq.ParquetFile(path) as content:
            schema, rows = content.schema_arrow, content.metadata.num_rows
    except (pa.ArrowException, OSError) as failure:
        yield Finding(Severity.ERROR, table, f"{file['path']} cannot be read: {failure}")
        return
    if rows != file["rows"]:
        yield Finding(
            Severity.ERROR, table, f"{file['path']} has {rows} rows, {MANIFEST} says {file['rows']}"
        )
    expected = TABLES[table].arrow()
    if not schema.equals(expected):
        difference = next(
            (f"`{name}`" for name in [*expected.names, *schema.names] if not _same(schema, expected, name)),
            "the order of columns",
        )
        yield Finding(Severity.ERROR, table, f"{file['path']} differs from the schema in {difference}")


def _same(schema: pa.Schema, expected: pa.Schema, name: str) -> bool:
    return all(item.get_field_index(name) >= 0 for item in (schema, expected)) and bool(
        schema.field(name).equals(expected.field(name))
    )


def _length(nanoseconds: float) -> str:
    """Return a length of time to two digits in the unit that suits it."""
    seconds = nanoseconds / NS_PER_SECOND
    unit, name = next(((u, n) for u, n in _UNITS if seconds >= u), _UNITS[-1])
    value = seconds / unit
    return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"


class _Silences:
    """The usual time between moments and what is far above it, from a histogram of fixed size."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 * _FINE, dtype=np.int64)
        self._longest = 0
        self._start = 0

    def add(self, intervals: Ints, starts: Ints) -> None:
        """Count intervals (ns, all positive), each with the moment it starts at."""
        if not len(intervals):
            return
        buckets = np.floor(np.log2(intervals) * _FINE).astype(np.int64)
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        longest = int(np.argmax(intervals))
        if intervals[longest] > self._longest:
            self._longest, self._start = int(intervals[longest]), int(starts[longest])

    def finding(self, table: str) -> list[Finding]:
        """Return the note on silences, if there are any."""
        total = int(self._counts.sum())
        if total < LEAST_INTERVALS:
            return []
        median = int(np.searchsorted(np.cumsum(self._counts), (total + 1) // 2))
        first_long = median + 1 + math.ceil(math.log2(GAP_FACTOR) * _FINE)
        count = int(self._counts[first_long:].sum())
        if count == 0:
            return []
        message = (
            f"is silent for more than {GAP_FACTOR} times its usual {_length(2 ** (median / _FINE))} "
            f"between moments, at most for {_length(self._longest)}"
        )
        return [Finding(Severity.NOTE, table, message, count, self._start)]


def check_order(tape: Tape) -> Iterator[Finding]:
    """Check that every event table is in order, in its days, and within the span of the manifest."""
    spans = []
    for table in EVENT_TABLES:
        walk = _Walk(tape, table)
        yield from walk.findings
        if walk.span is not None:
            spans.append(walk.span)
    first = min((span[0] for span in spans), default=None)
    last = max((span[1] for span in spans), default=None)
    if (first, last) != (tape.first_ts, tape.last_ts):
        shown = " to ".join("nothing" if ts is None else format_time(ts) for ts in (first, last))
        yield Finding(Severity.ERROR, MANIFEST, f"states another span than that of the events, {shown}")


class _Walk:
    """One pass over the moments of an event table in the order of its files, a batch in memory."""

    def __init__(self, tape: Tape, table: str) -> None:
        self.span: tuple[int, int] | None = None
        self._late = _Cases()
        self._foreign = _Cases()
        silences = _Silences()
        before: tuple[Ints, Ints] | None = None
        for file in tape.manifest["tables"].get(table, {"files": []})["files"]:
            day = _day(file["path"], table)
            with pq.ParquetFile(tape.path / file["path"]) as content:
                for batch in content.iter_batches(_BATCH_ROWS, columns=["ts", "seq"]):
                    ts, seq = (column.to_numpy() for column in batch.columns)
                    if not len(ts):
                        continue
                    self._foreign.add(ts // NS_PER_DAY != day, ts, seq)
                    low, high = int(ts.min()), int(ts.max())
                    self.span = (min(low, (self.span or (low, 0))[0]), max(high, (self.span or (0, high))[1]))
                    if before is not None:
                        ts, seq = np.append(before[0], ts), np.append(before[1], seq)
                    before = (ts[-1:], seq[-1:])
                    steps = np.diff(ts)
                    self._late.add((steps < 0) | (np.diff(seq) <= 0), ts[1:], seq[1:])
                    silences.add(steps[steps > 0], ts[:-1][steps > 0])
        self.findings = [
            *self._late.finding(table, "is not in order of (ts, seq)"),
            *self._foreign.finding(table, "has moments in the file of another day"),
            *(silences.finding(table) if table in _FLOWING else ()),
        ]


class _Cases:
    """How often something is wrong in a table, and where first."""

    def __init__(self) -> None:
        self._count = 0
        self._first: tuple[int, int] | None = None

    def add(self, wrong: npt.NDArray[np.bool_], ts: Ints, seq: Ints) -> None:
        """Count the rows where ``wrong`` holds."""
        where = np.flatnonzero(wrong)
        if where.size:
            self._count += where.size
            self._first = self._first or (int(ts[where[0]]), int(seq[where[0]]))

    def finding(self, table: str, message: str) -> list[Finding]:
        """Return the error, if there was a case."""
        if self._first is None:
            return []
        return [Finding(Severity.ERROR, table, message, self._count, *self._first)]
