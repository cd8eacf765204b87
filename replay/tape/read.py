"""Reading a tape: its dimensions, and its events as windows of whole steps in bounded memory.

Every table is one DuckDB stream in file order, which is ``(ts, seq)``. A window holds, of every table,
the rows before a moment that all streams have passed, so a step is never cut. Within a window the tables
stay apart: the loop takes the rows of one moment table by table in the order of ``schema.RANK``, which is
the k-way merge on ``(ts, rank, seq)`` without moving a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from replay.errors import TapeError
from replay.folders import read_manifest, sha256_file
from replay.tape.schema import FORMAT, MANIFEST, TABLES, Payoff

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

NONE = -(1 << 63)
"""Stands for null in the int64 columns of a window."""

_FOREVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Market:
    """A market of a tape; scales are digits, ``tick`` and ``lot`` in units of the scales."""

    id: int
    name: str
    dex: str
    payoff: Payoff
    ledger: int
    multiplier: Fraction
    price_scale: int
    mark_scale: int
    qty_scale: int
    tick: int
    lot: int


def market_of(row: Mapping[str, Any]) -> Market:
    """Return a market from its row of ``markets``, as a tape and a run keep it."""
    return Market(
        row["market"],
        row["name"],
        row["dex"],
        Payoff(row["payoff"]),
        row["ledger"],
        Fraction(row["multiplier_num"], row["multiplier_den"]),
        row["price_scale"],
        row["mark_scale"],
        row["qty_scale"],
        row["tick"],
        row["lot"],
    )


class Transfers(NamedTuple):
    """Rows of ``transfers``; ``market`` is -1 for the cross pool."""

    ts: Ints
    account: Array
    ledger: Array
    market: Array
    amount: Ints


class Funding(NamedTuple):
    """Rows of ``funding``."""

    ts: Ints
    market: Array
    rate: Ints


class Prices(NamedTuple):
    """Rows of ``prices``."""

    ts: Ints
    market: Array
    kind: Array
    price: Ints


class Liquidations(NamedTuple):
    """Rows of ``liquidations``; nulls are :data:`NONE`, of ``market`` -1; ``cross`` 1 if recorded so.

    ``mode`` and ``method`` are positions in :attr:`Tape.words`, from 0, or -1.
    """

    ts: Ints
    liquidation: Ints
    account: Array
    market: Array
    cross: Array
    notional: Ints
    equity: Ints
    mark: Ints
    mode: Array
    method: Array


class Fills(NamedTuple):
    """Rows of ``fills``; ``victim`` -1 and ``start_position`` :data:`NONE` where null."""

    ts: Ints
    seq: Ints
    market: Array
    account: Array
    qty: Ints
    price: Ints
    fee: Ints
    fee_ledger: Array
    kind: Array
    paired: Array
    victim: Array
    start_position: Ints
    mode: Array


class DepthRows(NamedTuple):
    """Rows of ``depth``."""

    ts: Ints
    market: Array
    side: Array
    price: Ints
    qty: Ints


class Window(NamedTuple):
    """Rows of all event tables between two moments: whole steps, each table in order of ``(ts, seq)``."""

    transfers: Transfers
    funding: Funding
    prices: Prices
    liquidations: Liquidations
    fills: Fills
    depth: DepthRows

    @property
    def rows(self) -> int:
        """Rows of the window over all tables."""
        return sum(len(table[0]) for table in self)


_WORD = "coalesce(list_position($words, {0}), 0)::INTEGER - 1"
_EVENTS: dict[str, type[Any]] = {
    "transfers": Transfers,
    "funding": Funding,
    "prices": Prices,
    "liquidations": Liquidations,
    "fills": Fills,
    "depth": DepthRows,
}
_NULLS = {
    ("transfers", "market"): -1,
    ("liquidations", "market"): -1,
    ("liquidations", "notional"): NONE,
    ("liquidations", "equity"): NONE,
    ("liquidations", "mark"): NONE,
    ("fills", "victim"): -1,
    ("fills", "start_position"): NONE,
}
"""What stands for null in a window."""

_DERIVED = {
    ("liquidations", "cross"): "(coalesce(lower(mode), '') = 'cross')::TINYINT",
    ("liquidations", "mode"): _WORD.format("mode"),
    ("liquidations", "method"): _WORD.format("method"),
}


def _expression(table: str, column: str, words: list[str]) -> str:
    """Return what is selected for a column of a window."""
    if (table, column) in _DERIVED:
        literal = "[" + ", ".join("'" + word.replace("'", "''") + "'" for word in words) + "]::VARCHAR[]"
        return f"{_DERIVED[table, column].replace('$words', literal)} AS {column}"
    null = _NULLS.get((table, column))
    if null is None:
        return column
    return f"coalesce({column}, {null})::{_duck_type(table, column)} AS {column}"


def _duck_type(table: str, column: str) -> str:
    return next(_DUCK_TYPES[c.type] for c in TABLES[table].columns if c.name == column)


def _constants(files: list[str], table: str) -> dict[str, int]:
    """Return the columns of a table that hold one value throughout, by the statistics of its files.

    What every row says need not be read: in an ordinary day most columns of `fills` are of this kind.
    """
    found: dict[str, set[int | None]] = {}
    for file in files:
        metadata = pq.read_metadata(file)
        names = [metadata.schema.column(i).name for i in range(metadata.num_columns)]
        for group in range(metadata.num_row_groups):
            chunks = metadata.row_group(group)
            for index, name in enumerate(names):
                found.setdefault(name, set()).update(_values(chunks.column(index)))
    result: dict[str, int] = {}
    for column in _EVENTS[table]._fields:
        values = found.get(column, {"?", "??"})
        if len(values) == 1 and (table, column) not in _DERIVED:
            (value,) = values
            value = _NULLS.get((table, column)) if value is None else value
            if isinstance(value, int):
                result[column] = value
    return result


def _values(chunk: Any) -> tuple[Any, ...]:
    """Return the one value of a column chunk, None for null, or two things that differ."""
    statistics = chunk.statistics
    if statistics is None or statistics.null_count is None:
        return "?", "??"
    if statistics.null_count == chunk.num_values:
        return (None,)
    if statistics.null_count or not statistics.has_min_max:
        return "?", "??"
    return statistics.min, statistics.max


class _Stream:
    """One table of a tape, read ahead by batches and handed out by time."""

    def __init__(self, tape: Tape, table: str, *, batch_rows: int, threads: int, until: int | None) -> None:
        self._rows_type = _EVENTS[table]
        self._table = table
        self._tape = tape
        self._held: list[tuple[Array, ...]] = []
        self.exhausted = False
        files, dtypes = tape.files(table), _dtypes()[table]
        if not files:
            self.exhausted = True
            self._empty = self._rows_type(*(_frozen(np.empty(0, dtype)) for dtype in dtypes.values()))
            return
        try:
            self._constants = {
                column: _frozen(np.full(batch_rows, value, dtypes[column]))
                for column, value in _constants(files, table).items()
                if column != "ts"
            }
        except (OSError, pa.ArrowException) as failure:
            raise _damaged(tape, f"table `{table}`", failure) from failure
        self._read = [column for column in self._rows_type._fields if column not in self._constants]
        expressions = ", ".join(_expression(table, column, tape.words) for column in self._read)
        self._connection = _connect(threads)
        where = "" if until is None else f" WHERE ts <= {until}"
        relation = self._connection.sql(
            f"SELECT {expressions} FROM read_parquet({_sql_list(files)}, hive_partitioning=false){where}"
        )
        try:
            self._reader = relation.to_arrow_reader(batch_rows)
        except duckdb.Error as failure:
            raise _damaged(tape, f"table `{table}`", failure) from failure
        self._empty = self._rows_type(*(_frozen(np.empty(0, dtype)) for dtype in dtypes.values()))

    @property
    def last_ts(self) -> int:
        """Moment of the last row read ahead."""
        return int(self._held[-1][0][-1])

    @property
    def first_ts(self) -> int:
        """Moment of the first row not yet handed out, or the end of time."""
        return int(self._held[0][0][0]) if self._held else _FOREVER

    @property
    def seam(self) -> int:
        """Moment before which the rows are of one batch: cut there, they need not be copied."""
        if len(self._held) < 2:
            return _FOREVER
        first, last = int(self._held[0][0][0]), int(self._held[0][0][-1])
        return last if first < last else last + 1

    @property
    def is_empty(self) -> bool:
        """Whether no row is read ahead."""
        return not self._held

    def pull(self) -> None:
        """Read one more batch, or note the end."""
        while not self.exhausted:
            try:
                batch = self._reader.read_next_batch()
            except StopIteration:
                self.exhausted = True
                self._connection.close()
                return
            except (duckdb.Error, pa.ArrowException, OSError) as failure:
                raise _damaged(self._tape, f"table `{self._table}`", failure) from failure
            if batch.num_rows:
                if batch.num_columns != len(self._read) or any(c.null_count for c in batch.columns):
                    raise TapeError(
                        f"table `{self._table}` has nulls where the format allows none",
                        file=self._tape.path,
                        mend="import the tape again; `replay check` lists what is wrong",
                    )
                read = dict(zip(self._read, batch.columns, strict=True))
                self._held.append(
                    tuple(
                        read[name].to_numpy() if name in read else self._constants[name][: batch.num_rows]
                        for name in self._rows_type._fields
                    )
                )
                return

    def take(self, before: int) -> Any:
        """Hand out the rows with ``ts < before``."""
        pieces: list[tuple[Array, ...]] = []
        while self._held:
            head = self._held[0]
            end = int(np.searchsorted(head[0], before, side="left"))
            if end == 0:
                break
            pieces.append(tuple(column[:end] for column in head))
            if end < len(head[0]):
                self._held[0] = tuple(column[end:] for column in head)
                break
            self._held.pop(0)
        if not pieces:
            return self._empty
        if len(pieces) == 1:
            return self._rows_type(*(_frozen(column) for column in pieces[0]))
        return self._rows_type(
            *(_frozen(np.concatenate([piece[i] for piece in pieces])) for i in range(len(pieces[0])))
        )


class Tape:
    """A tape on disk: manifest, dimensions, opening snapshot, and its events by windows."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.venue: str = manifest["venue"]
        self.first_ts: int | None = manifest["from"]
        self.last_ts: int | None = manifest["until"]
        self.markets = [market_of(row) for row in self._small("markets").to_pylist()]
        self.account_names: list[str] = self._small("account_names").column("name").to_pylist()
        ledgers = self._small("ledgers")
        self.ledgers: list[tuple[str, str]] = list(
            zip(ledgers.column("dex").to_pylist(), ledgers.column("currency").to_pylist(), strict=True)
        )
        self.accounts = self._small("accounts")
        self.positions = self._small("positions")
        self.words = self._words()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a tape folder.

        Raises:
            TapeError: No tape, half-written, of another format, a file missing or of another size.
        """
        manifest = read_manifest(path, MANIFEST, kind="tape", version=FORMAT, error=TapeError)
        mend = "the tape is damaged or was copied in part; import it again"
        try:
            entries = {name: entry["files"] for name, entry in manifest["tables"].items()}
            for files in entries.values():
                for file in files:
                    whole = path / file["path"]
                    if not whole.is_file():
                        raise TapeError("is missing", file=whole, mend=mend)
                    if whole.stat().st_size != file["bytes"]:
                        raise TapeError(
                            f"has {whole.stat().st_size} bytes, {MANIFEST} says {file['bytes']}",
                            file=whole,
                            mend=mend,
                        )
            return cls(path, manifest)
        except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as failure:
            raise TapeError(f"is damaged: {failure!r}", file=path, mend=mend) from failure

    def rows(self, table: str) -> int:
        """Return the count of rows of a table."""
        entry = self.manifest["tables"].get(table)
        return 0 if entry is None else int(entry["rows"])

    def files(self, table: str) -> list[str]:
        """Return the Parquet files of a table in order of time."""
        entry = self.manifest["tables"].get(table)
        return [] if entry is None else [str(self.path / file["path"]) for file in entry["files"]]

    def _small(self, table: str) -> pa.Table:
        schema = TABLES[table].arrow()
        pieces = [pq.read_table(file, schema=schema, partitioning=None) for file in self.files(table)]
        return pa.concat_tables(pieces) if pieces else schema.empty_table()

    def _words(self) -> list[str]:
        """Return the distinct words of margin modes and methods of recorded liquidations."""
        found = self.select(
            "SELECT mode FROM liquidations WHERE mode IS NOT NULL UNION "
            "SELECT method FROM liquidations WHERE method IS NOT NULL ORDER BY 1"
        )
        return [word for (word,) in found]

    def verify(self) -> None:
        """Recompute the hashes of all files: a damaged tape may still be readable, and would be wrong.

        Raises:
            TapeError: A file is not the one the import wrote.
        """
        for entry in self.manifest["tables"].values():
            for file in entry["files"]:
                if sha256_file(self.path / file["path"]) != file["sha256"]:
                    raise TapeError(
                        f"was changed: its SHA-256 is not that of {MANIFEST}",
                        file=self.path / file["path"],
                        mend="the tape is damaged; import it again",
                    )

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the views of :meth:`connection`.

        Raises:
            TapeError: The tape is damaged.
        """
        try:
            with self.connection() as connection:
                return connection.sql(sql).fetchall()
        except duckdb.Error as failure:
            raise _damaged(self, "a table", failure) from failure

    def connection(self, *, threads: int = 2) -> duckdb.DuckDBPyConnection:
        """Return a fresh in-memory connection with a view per table, integers as stored."""
        connection = _connect(threads)
        for name in TABLES:
            files = self.files(name)
            source = (
                f"SELECT * FROM read_parquet({_sql_list(files)}, hive_partitioning=false)"
                if files
                else _empty_select(name)
            )
            connection.execute(f"CREATE VIEW {name} AS {source}")
        return connection

    def windows(self, *, batch_rows: int, threads: int, until: int | None = None) -> Iterator[Window]:
        """Yield the events up to and including ``until`` in windows of whole steps.

        Args:
            batch_rows: Rows read ahead per table; a step larger than this is still one piece.
            threads: Threads of each DuckDB stream; they do not change the order of rows.
            until: Last moment of interest in ns, or None for all.
        """
        streams = [
            _Stream(self, table, batch_rows=batch_rows, threads=threads, until=until) for table in _EVENTS
        ]
        while True:
            for stream in streams:
                if stream.is_empty:
                    stream.pull()
            open_streams = [stream for stream in streams if not stream.exhausted]
            cut = min((stream.last_ts for stream in open_streams), default=_FOREVER)
            if min(stream.first_ts for stream in streams) < cut:
                cut = min(cut, *(stream.seam for stream in streams))
                yield Window(*(stream.take(cut) for stream in streams))
            elif not open_streams:
                return
            else:
                for stream in open_streams:
                    if stream.last_ts == cut:
                        stream.pull()


def open_tape(path: str | Path) -> Tape:
    """Open a tape folder; see :meth:`Tape.open`."""
    return Tape.open(Path(path))


@cache
def _dtypes() -> dict[str, dict[str, Any]]:
    """Return the types of the columns of windows, by table and column: what DuckDB makes of an empty one."""
    connection, found = _connect(1), {}
    for table, rows_type in _EVENTS.items():
        selected = ", ".join(_expression(table, column, []) for column in rows_type._fields)
        empty = connection.sql(f"SELECT {selected} FROM ({_empty_select(table)})").to_arrow_table()
        types = [item.type.to_pandas_dtype() for item in empty.schema]
        found[table] = dict(zip(rows_type._fields, types, strict=True))
    return found


def _connect(threads: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute(
        f"SET threads = {int(threads)}; SET preserve_insertion_order = true; SET enable_progress_bar = false;"
    )
    return connection


def _sql_list(files: list[str]) -> str:
    """Write paths as a list of SQL literals, with the wildcards of DuckDB's globs taken literally."""
    literal = (re.sub(r"([*?\[])", r"[\1]", file).replace("'", "''") for file in files)
    return "[" + ", ".join(f"'{file}'" for file in literal) + "]"


_DUCK_TYPES = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.string(): "VARCHAR",
}


def _empty_select(table: str) -> str:
    columns = ", ".join(f"NULL::{_DUCK_TYPES[c.type]} AS {c.name}" for c in TABLES[table].columns)
    return f"SELECT {columns} WHERE false"


def _frozen(array: Array) -> Array:
    """Make an array read-only, so that compiled code sees one type whether it is a copy or Arrow's memory."""
    array.flags.writeable = False
    return array


def _damaged(tape: Tape, what: str, failure: Exception) -> TapeError:
    return TapeError(
        f"{what} cannot be read: {str(failure).splitlines()[0]}",
        file=tape.path,
        mend="the tape is damaged; `replay check` names the file, importing again mends it",
    )
