"""The journal: rows of the run tables, buffered in memory and written as Parquet.

The bytes of a file depend on its rows alone: row groups are cut by count, whatever pieces the rows came in.
Memory holds at most one row group of each table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from replay.errors import RunError
from replay.folders import sha256_file
from replay.run.schema import RUN_TABLES
from replay.tape.schema import ROW_GROUP_ROWS, Table

Values: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pa.Array

_GATHERED_ROWS = 4_096
"""Rows of small appends that are gathered into one batch."""

_PIECES = 256
"""Appends kept apart before they are joined: many small batches would cost more than their rows."""


class _Sheet:
    """One table of the journal: its open file and the rows of the row group being filled."""

    def __init__(self, table: Table, path: Path) -> None:
        self.table = table
        self.path = path
        self.rows = 0
        self._schema = table.arrow()
        self._pieces: list[pa.RecordBatch] = []
        self._held = 0
        self._waiting: dict[str, list[Values]] = {}
        self._waiting_rows = 0
        self._writer = parquet_writer(path, self._schema)

    def append(self, columns: Mapping[str, Values]) -> None:
        """Take rows; those of many small appends become one batch."""
        rows = len(next(iter(columns.values()), ()))
        if self._waiting and columns.keys() != self._waiting.keys():
            self._gather()
        for name, values in columns.items():
            if len(values) != rows:
                raise ValueError(
                    f"`{self.table.name}.{name}` has {len(values)} rows, other columns have {rows}"
                )
            kept = values.copy() if isinstance(values, np.ndarray) else values
            self._waiting.setdefault(name, []).append(kept)
        self.rows += rows
        self._waiting_rows += rows
        if self._waiting_rows >= _GATHERED_ROWS:
            self._gather()

    def _gather(self) -> None:
        """Make one batch of the rows that wait."""
        if not self._waiting:
            return
        batch = self._batch({name: _joined_values(pieces) for name, pieces in self._waiting.items()})
        self._waiting, self._waiting_rows = {}, 0
        self._held += batch.num_rows
        self._pieces.append(batch)
        if self._held >= ROW_GROUP_ROWS:
            self._write(self._held // ROW_GROUP_ROWS * ROW_GROUP_ROWS)
        elif len(self._pieces) >= _PIECES:
            self._pieces = self._joined().to_batches()

    def _batch(self, columns: Mapping[str, Values]) -> pa.RecordBatch:
        name = self.table.name
        unknown = columns.keys() - set(self._schema.names) | columns.keys() & {"seq"}
        if unknown:
            raise ValueError(f"`{name}` takes no column {', '.join(sorted(unknown))}")
        rows = len(next(iter(columns.values()), ()))
        arrays = []
        for column in self.table.columns:
            values = columns.get(column.name)
            if column.name == "seq":
                values = np.arange(self.rows - rows, self.rows, dtype=np.int64)
            if values is None:
                array = pa.nulls(rows, column.type)
            else:
                array = _array(values, column.type, f"{name}.{column.name}")
            if array.null_count and not column.nullable:
                raise ValueError(f"`{name}.{column.name}` may not be unknown")
            arrays.append(array)
        return pa.record_batch(arrays, schema=self._schema)

    def _joined(self) -> pa.Table:
        return pa.Table.from_batches(self._pieces, self._schema).combine_chunks()

    def _write(self, end: int) -> None:
        """Write the first ``end`` rows held; the rest stays."""
        held = self._joined()
        self._writer.write_table(held.slice(0, end), row_group_size=ROW_GROUP_ROWS)
        rest = held.slice(end)
        self._pieces, self._held = rest.combine_chunks().to_batches(), rest.num_rows

    def finish(self) -> dict[str, Any]:
        """Write what is still held; return what the manifest says of the table."""
        self._gather()
        if self._held:
            self._write(self._held)
        self.close()
        return file_entry(self.path, self.rows)

    def close(self) -> None:
        self._writer.close()


def _joined_values(pieces: list[Values]) -> Values:
    """Return the values of several appends as one."""
    if len(pieces) == 1:
        return pieces[0]
    if all(isinstance(piece, list) for piece in pieces):
        return [value for piece in pieces for value in piece]
    if all(isinstance(piece, np.ndarray) for piece in pieces):
        return np.concatenate(pieces)
    return pa.concat_arrays(
        [pa.array(piece) if not isinstance(piece, pa.Array) else piece for piece in pieces]
    )


def _array(values: Values, kind: pa.DataType, name: str) -> pa.Array:
    """Return values as an Arrow array of exactly the column's type; a fraction is never cut off."""
    try:
        if isinstance(values, list) and not any(isinstance(value, float) for value in values):
            # Without its type Arrow looks for packages of dates, each time; with it, it would cut fractions.
            with suppress(pa.ArrowTypeError):
                return pa.array(values, type=kind)
        return (values if isinstance(values, pa.Array) else pa.array(values)).cast(kind)
    except (pa.ArrowInvalid, OverflowError) as failure:
        raise RunError(f"a number does not fit its cell: {failure}", key=name) from failure


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file of a run for writing."""
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=3, store_schema=False)


def file_entry(path: Path, rows: int) -> dict[str, Any]:
    """Return what the manifest says of a table: count of rows, SHA-256 and size of its file."""
    return {"rows": rows, "sha256": sha256_file(path), "bytes": path.stat().st_size}


class Journal:
    """Write the tables of one run; use as a context manager and call :meth:`close` before leaving it.

    Every table of the run schema becomes one Parquet file, empty ones too. Rows keep the order of appending.

    Args:
        folder: Existing folder the files are written to.
    """

    def __init__(self, folder: Path) -> None:
        self._sheets = {name: _Sheet(table, folder / f"{name}.parquet") for name, table in RUN_TABLES.items()}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._closed:
            self._closed = True
            for sheet in self._sheets.values():
                sheet.close()

    def append(self, table: str, columns: Mapping[str, Values]) -> None:
        """Append rows to a table.

        Args:
            table: Name of a table of the run schema.
            columns: Values by column, all of one length, in the units of the schema. A column left out is
                null. ``seq`` is the order of appending and is added where the table has that column.

        Rows of small appends are gathered, so what is wrong with one may be raised by a later append or by
        :meth:`close`.

        Raises:
            RunError: A number does not fit its cell.
            ValueError: Columns the table does not have, of unequal length, or null where it may not be.
        """
        self._sheets[table].append(columns)

    def rows(self, table: str) -> int:
        """Return how many rows a table has so far."""
        return self._sheets[table].rows

    def close(self, last: Mapping[str, Mapping[str, Values]] | None = None) -> dict[str, dict[str, Any]]:
        """Write what is still held, tables side by side.

        Args:
            last: Rows to append to some of the tables before, as :meth:`append` takes them.

        Returns:
            ``rows``, ``sha256`` and ``bytes`` of each table's file.
        """
        last = last or {}

        def finish(name: str) -> dict[str, Any]:
            if name in last:
                self.append(name, last[name])
            return self._sheets[name].finish()

        with ThreadPoolExecutor(max_workers=len(self._sheets)) as pool:  # most of it is Arrow's compression
            entries = dict(zip(self._sheets, pool.map(finish, self._sheets), strict=True))
        self._closed = True
        return entries
