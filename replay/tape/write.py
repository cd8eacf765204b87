"""Writing a tape: rows are staged as mantissa and digits, scaled per market at the end, appear at once.

A source does not know how fine the prices of a market get before its last row is read, and reading JSON
twice is the slow part of an import. So the first pass stages exact ``(mantissa, digits)`` pairs on disk,
and the second scales them by array arithmetic while it writes Parquet. Memory stays that of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replay import __version__
from replay.errors import SourceError, TapeError
from replay.folders import atomic_folder, sha256_file, sha256_text, write_json
from replay.tape.schema import (
    EVENT_TABLES,
    FORMAT,
    MANIFEST,
    RANK,
    ROW_GROUP_ROWS,
    SCALE_OF,
    TABLES,
    Column,
    Payoff,
    Table,
)
from replay.units import (
    BOUND,
    MAX_SCALE,
    NS_PER_DAY,
    day_of,
    format_time,
    format_units,
)

Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any] | pa.Array]

_DELTA = {"ts", "seq", "block", "match", "liquidation"}
_POWERS = np.array([10**k for k in range(MAX_SCALE + 1)], dtype=np.int64)


@dataclass(slots=True)
class _Market:
    name: str
    dex: str
    payoff: Payoff
    ledger: int
    multiplier: Fraction
    tick: tuple[int, int] | None
    lot: tuple[int, int] | None
    scales: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCALE_OF.values(), 0))


class _Stage:
    """The staged rows of one table: an Arrow stream file with a ``<column>_digits`` beside scaled columns."""

    def __init__(self, table: Table, path: Path) -> None:
        self.table = table
        self.path = path
        self.rows = 0
        self.last_ts = -(1 << 63)
        self.first_ts: int | None = None
        fields = []
        for column in table.columns:
            fields.append(pa.field(column.name, column.type))
            if column.unit in SCALE_OF:
                fields.append(pa.field(f"{column.name}_digits", pa.int8()))
        self.schema = pa.schema(fields)
        self._writer = pa.ipc.new_stream(path, self.schema)

    def append(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        self._writer.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        # Not mapped into memory: the pages of a file that is read once would stay with the process.
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader


class TapeWriter:
    """Write one tape; use as a context manager and call :meth:`finish` before leaving it.

    Ids of accounts, markets and ledgers are given by first appearance. Columns with a unit of price,
    mark or quantity are passed as two columns, ``name`` (mantissa) and ``name_digits``. ``seq`` is the
    order of appending. Leaving the context without :meth:`finish` leaves nothing behind.

    Args:
        path: Folder that is to appear.
        venue: Name of the venue, as in rule files.
        importer: Name of the importer, for provenance.
        force: Replace an existing tape.

    Raises:
        TapeError: The folder exists, or cannot be written.
    """

    def __init__(self, path: Path, *, venue: str, importer: str, force: bool = False) -> None:
        self.venue = venue
        self.importer = importer
        self._path = path
        self._accounts: dict[str, int] = {}
        self._markets: dict[str, int] = {}
        self._ledgers: dict[tuple[str, str], int] = {}
        self._specs: list[_Market] = []
        self._stages: dict[str, _Stage] = {}
        self._finished = False
        self._exit = ExitStack()
        self._folder = self._exit.enter_context(
            atomic_folder(
                path, force=force, error=TapeError, replaceable=lambda old: (old / MANIFEST).is_file()
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._stages.values():
            stage.close()
        if kind is None and not self._finished:
            kind, error = RuntimeError, RuntimeError("TapeWriter left without finish()")
            self._exit.__exit__(kind, error, None)
            raise error
        self._exit.__exit__(kind, error, trace)

    def account(self, name: str) -> int:
        """Return the id of an account, giving the next one to a new name."""
        return self._accounts.setdefault(name, len(self._accounts))

    def ledger(self, dex: str, currency: str) -> int:
        """Return the id of a ledger: the cash of one currency on one dex."""
        return self._ledgers.setdefault((dex, currency), len(self._ledgers))

    def market(
        self,
        name: str,
        *,
        settle: str,
        dex: str = "",
        payoff: Payoff = Payoff.LINEAR,
        multiplier: Fraction = Fraction(1),
        tick: tuple[int, int] | None = None,
        lot: tuple[int, int] | None = None,
    ) -> int:
        """Return the id of a market, declaring it on first sight; steps as (mantissa, digits)."""
        known = self._markets.get(name)
        if known is not None:
            return known
        market = self._markets[name] = len(self._specs)
        spec = _Market(name, dex, payoff, self.ledger(dex, settle), multiplier, tick, lot)
        if tick is not None:
            spec.scales["price_scale"] = tick[1]
        if lot is not None:
            spec.scales["qty_scale"] = lot[1]
        self._specs.append(spec)
        return market

    def append_rows(self, table: str, names: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows that are given one by one; see :meth:`append`.

        Args:
            table: The table.
            names: The names of their columns, with spaces between.
            rows: A value for each name.
        """
        columns = list(zip(*rows, strict=True))
        if columns:
            self.append(table, dict(zip(names.split(), columns, strict=True)))

    def append(self, table: str, columns: Columns) -> None:
        """Append rows to a table; event rows must come in order of time.

        Raises:
            SourceError: A row is older than the one before it, or a number does not fit a cell.
        """
        definition = TABLES[table]
        stage = self._stages.get(table)
        if stage is None:
            stage = self._stages[table] = _Stage(definition, self._folder / f".{table}.stage")
        rows = len(next(iter(columns.values())))
        if rows == 0:
            return
        full = dict(columns)
        if definition.event:
            ts = np.asarray(full["ts"], dtype=np.int64)
            previous = np.concatenate(([stage.last_ts], ts[:-1]))
            late = np.flatnonzero(ts < previous)
            if late.size:
                raise SourceError(
                    f"the rows of `{table}` are not in order of time",
                    row=stage.rows + int(late[0]) + 1,
                    mend="pass the files of a source in order, each sorted by time",
                )
            if stage.first_ts is None:
                stage.first_ts = int(ts[0])
            stage.last_ts = int(ts[-1])
            full["seq"] = np.arange(stage.rows, stage.rows + rows, dtype=np.int64)
        batch = self._batch(stage, full, rows)
        for column in definition.columns:
            if column.unit in SCALE_OF:
                self._note_digits(batch, column.name, SCALE_OF[column.unit])
        stage.append(batch)

    @staticmethod
    def _batch(stage: _Stage, columns: dict[str, Any], rows: int) -> pa.RecordBatch:
        arrays = []
        for item in stage.schema:
            values = columns.get(item.name)
            try:
                array = pa.nulls(rows, item.type) if values is None else pa.array(values, type=item.type)
            except (pa.ArrowInvalid, OverflowError) as failure:
                raise SourceError(
                    f"a number of `{stage.table.name}` does not fit a cell: {failure}", key=item.name
                ) from failure
            arrays.append(array)
        return pa.record_batch(arrays, schema=stage.schema)

    def _note_digits(self, batch: pa.RecordBatch, column: str, scale: str) -> None:
        """Raise the scale of each market to the digits seen in a batch."""
        digits = batch.column(f"{column}_digits").drop_null()
        if len(digits) == 0:
            return
        known = pc.and_(pc.is_valid(batch.column(f"{column}_digits")), pc.is_valid(batch.column("market")))
        markets = batch.column("market").filter(known).to_numpy(zero_copy_only=False)
        found = batch.column(f"{column}_digits").filter(known).to_numpy(zero_copy_only=False)
        finest = np.zeros(len(self._specs), dtype=np.int8)
        np.maximum.at(finest, markets, found)
        for market in np.flatnonzero(finest):
            scales = self._specs[market].scales
            scales[scale] = max(scales[scale], int(finest[market]))

    def finish(
        self,
        *,
        sources: Sequence[Mapping[str, Any]],
        lacks: Sequence[str],
        assumptions: Sequence[str],
        counts: Mapping[str, int],
        accounts_start: str,
    ) -> dict[str, Any]:
        """Scale, write and rename; return the manifest.

        Args:
            sources: Name, bytes and SHA-256 of each input; ``first_moved`` where a row was given a later moment (ns).
            lacks: What the source does not tell, in sentences.
            assumptions: What the importer had to assume, in sentences.
            counts: What the importer counted (rows in, rounded, rejected, ...).
            accounts_start: ``"known"`` if every account's cash is on the tape from its beginning
                (deposits or snapshot), ``"unknown"`` if accounts come with a past the tape lacks.
        """
        for stage in self._stages.values():
            stage.close()
        for spec in self._specs:
            spec.scales["mark_scale"] = max(spec.scales["mark_scale"], spec.scales["price_scale"])
            worst = max(spec.scales.values())
            if worst > MAX_SCALE:
                raise SourceError(
                    f"market {spec.name} has numbers of {worst} decimals, {MAX_SCALE} are supported"
                )
        tables: dict[str, Any] = {}
        self._write_dimensions(tables)
        for name, table in TABLES.items():
            stage_or_none = self._stages.get(name)
            if stage_or_none is None:
                continue
            if table.event:
                tables[name] = self._write_events(stage_or_none)
            else:
                whole = pa.Table.from_batches(
                    map(self._scaler(stage_or_none), stage_or_none.batches()), table.arrow()
                )
                tables[name] = self._entry([self._write_file(name, f"{name}.parquet", whole)])
            stage_or_none.path.unlink()
        event_stages = [s for n, s in self._stages.items() if n in EVENT_TABLES and s.first_ts is not None]
        manifest = {
            "kind": "tape",
            "format": FORMAT,
            "venue": self.venue,
            "from": min((s.first_ts for s in event_stages if s.first_ts is not None), default=None),
            "until": max((s.last_ts for s in event_stages), default=None),
            "accounts_start": accounts_start,
            "importer": {"name": self.importer, "version": __version__},
            "sources": [dict(source) for source in sources],
            "lacks": list(lacks),
            "assumptions": list(assumptions),
            "counts": dict(counts),
            "rank": RANK,
            "tables": tables,
        }
        manifest["sha256"] = sha256_text(
            "".join(f["sha256"] for entry in tables.values() for f in entry["files"])
        )
        write_json(self._folder / MANIFEST, manifest)
        self._finished = True
        return manifest

    def _write_dimensions(self, tables: dict[str, Any]) -> None:
        rows = []
        for market, spec in enumerate(self._specs):
            scales = spec.scales
            row = {
                "market": market,
                "name": spec.name,
                "dex": spec.dex,
                "payoff": int(spec.payoff),
                "ledger": spec.ledger,
                "multiplier_num": spec.multiplier.numerator,
                "multiplier_den": spec.multiplier.denominator,
                **scales,
                "tick": _step(spec.tick, scales["price_scale"]),
                "lot": _step(spec.lot, scales["qty_scale"]),
            }
            rows.append(row)
        dimensions = {
            "markets": rows,
            "account_names": [{"account": i, "name": name} for name, i in self._accounts.items()],
            "ledgers": [{"ledger": i, "dex": dex, "currency": c} for (dex, c), i in self._ledgers.items()],
        }
        for name, content in dimensions.items():
            table = pa.Table.from_pylist(content, schema=TABLES[name].arrow())
            tables[name] = self._entry([self._write_file(name, f"{name}.parquet", table)])

    def _scaler(self, stage: _Stage) -> Any:
        """Return the function that turns a staged batch into a batch of the table's schema.

        Rows of no market are read as of market 0, which a tape without markets has not: hence one scale more.
        """
        factors = {
            scale: np.array([*(spec.scales[scale] for spec in self._specs), 0], dtype=np.int64)
            for scale in SCALE_OF.values()
        }
        schema = stage.table.arrow()

        def scale_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
            arrays = []
            for column in stage.table.columns:
                array = batch.column(column.name)
                if column.unit in SCALE_OF:
                    digits = batch.column(f"{column.name}_digits")
                    scales = factors[SCALE_OF[column.unit]]
                    array, misfit = _scaled(array, digits, batch.column("market"), scales)
                    if misfit is not None:
                        raise self._misfit(stage.table, column, batch.slice(misfit, 1).to_pylist()[0])
                arrays.append(array)
            return pa.record_batch(arrays, schema=schema)

        return scale_batch

    def _misfit(self, table: Table, column: Column, row: Mapping[str, Any]) -> SourceError:
        """Return the error for a number too large for the scale that its market has."""
        spec = self._specs[row["market"]]
        scale = spec.scales[SCALE_OF[column.unit]]
        number = format_units(row[column.name], row[f"{column.name}_digits"])
        moment = f" of {format_time(row['ts'])}" if table.event else ""
        return SourceError(
            f"{number}{moment} does not fit: {spec.name} has such numbers of {scale} decimals, which leaves "
            f"room up to {(BOUND - 1) // 10**scale}",
            key=f"{table.name}.{column.name} of market {spec.name}",
            mend="the largest number of this market, or the one of the most decimals, is wrong in the source",
        )

    def _write_events(self, stage: _Stage) -> dict[str, Any]:
        """Write one event table partitioned by UTC day, in row groups of a fixed count of rows."""
        files: list[dict[str, Any]] = []
        scale_batch = self._scaler(stage)
        pending: list[pa.RecordBatch] = []
        held = 0
        day: int | None = None
        writer: pq.ParquetWriter | None = None
        relative = ""

        def flush(*, everything: bool) -> None:
            nonlocal pending, held
            if writer is None or not pending:
                return
            table = pa.Table.from_batches(pending).combine_chunks()
            end = table.num_rows if everything else table.num_rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS
            if end:
                writer.write_table(table.slice(0, end), row_group_size=ROW_GROUP_ROWS)
            rest = table.slice(end)
            pending, held = ([*rest.to_batches()], rest.num_rows) if rest.num_rows else ([], 0)

        def close() -> None:
            nonlocal writer
            if writer is not None:
                flush(everything=True)
                writer.close()
                files.append(self._file(relative, self._folder / relative))
                writer = None

        for staged in stage.batches():
            batch = scale_batch(staged)
            days = batch.column("ts").to_numpy() // NS_PER_DAY
            cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), batch.num_rows]
            for start, end in pairwise(cuts):
                if days[start] != day:
                    close()
                    day = int(days[start])
                    relative = f"{stage.table.name}/date={day_of(day * NS_PER_DAY)}/part-0.parquet"
                    (self._folder / relative).parent.mkdir(parents=True)
                    writer = _parquet_writer(self._folder / relative, stage.table)
                pending.append(batch.slice(start, end - start))
                held += end - start
                if held >= ROW_GROUP_ROWS:
                    flush(everything=False)
        close()
        return self._entry(files)

    def _write_file(self, table: str, relative: str, content: pa.Table) -> dict[str, Any]:
        with _parquet_writer(self._folder / relative, TABLES[table]) as writer:
            writer.write_table(content, row_group_size=ROW_GROUP_ROWS)
        return self._file(relative, self._folder / relative)

    @staticmethod
    def _file(relative: str, path: Path) -> dict[str, Any]:
        return {
            "path": relative,
            "rows": pq.read_metadata(path).num_rows,
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }

    @staticmethod
    def _entry(files: list[dict[str, Any]]) -> dict[str, Any]:
        return {"rows": sum(file["rows"] for file in files), "files": files}


def _step(step: tuple[int, int] | None, scale: int) -> int:
    return 1 if step is None else int(step[0] * 10 ** (scale - step[1]))


def _scaled(
    mantissa: pa.Array, digits: pa.Array, market: pa.Array, scales: npt.NDArray[np.int64]
) -> tuple[pa.Array, int | None]:
    """Multiply mantissas up to their market's scale, keeping nulls; tell which row leaves its cell."""
    valid = pc.and_(mantissa.is_valid(), market.is_valid())
    values = pc.fill_null(mantissa, 0).to_numpy(zero_copy_only=False)
    exponent = scales[pc.fill_null(market, 0).to_numpy(zero_copy_only=False)]
    exponent = exponent - pc.fill_null(digits, 0).to_numpy(zero_copy_only=False)
    factor = _POWERS[np.clip(exponent, 0, MAX_SCALE)]
    beyond = np.flatnonzero(np.abs(values) > (BOUND - 1) // factor)
    scaled = pc.if_else(valid, pa.array(values * factor), pa.scalar(None, pa.int64()))
    return scaled, int(beyond[0]) if beyond.size else None


def _parquet_writer(path: Path, table: Table) -> pq.ParquetWriter:
    names = [column.name for column in table.columns]
    return pq.ParquetWriter(
        path,
        table.arrow(),
        compression="zstd",
        compression_level=3,
        use_dictionary=[
            c.name for c in table.columns if c.type in (pa.int8(), pa.int16(), pa.int32(), pa.string())
        ],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in names if name in _DELTA},
        sorting_columns=pq.SortingColumn.from_ordering(
            table.arrow(), [("ts", "ascending"), ("seq", "ascending")]
        )
        if table.event
        else None,
        store_schema=False,
    )
