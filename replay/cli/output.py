"""How results leave the program: the options that choose a form, and the forms."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from replay.errors import ReplayError

if TYPE_CHECKING:
    import pyarrow as pa

    from replay.run.sql import Result

FORMATS = ("table", "csv", "json", "parquet")
SHOWN_ROWS = 1_000
"""Rows of a table printed to stdout; a table needs all of its rows before it knows its widths."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def output_options(command: _Command) -> _Command:
    """Add ``--format``, ``--out`` and ``--force`` to a command that writes rows."""
    for option in (
        click.option("--force", is_flag=True, help="Replace FILE if it exists."),
        click.option(
            "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE instead of stdout."
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(FORMATS),
            help="Form of the rows; by default the one FILE ends in, else table. Parquet needs --out.",
        ),
    ):
        command = option(command)
    return command


def chosen_format(form: str | None, out: Path | None) -> str:
    """Return the form that was asked for, or that the name of the file asks for.

    Raises:
        click.UsageError: Parquet without a file to write it to.
    """
    if form is None:
        suffix = "" if out is None else out.suffix.removeprefix(".").lower()
        form = suffix if suffix in FORMATS else "table"
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")
    return form


def write_result(result: Result, *, form: str | None, out: Path | None, force: bool = False) -> None:
    """Write the rows of a result in the form that was asked for.

    Args:
        result: Columns and rows.
        form: One of :data:`FORMATS`; None chooses by the suffix of ``out``.
        out: File to write, which appears when it is complete; None is stdout.
        force: Replace an existing file.

    Raises:
        ReplayError: The file exists, or a row cannot be computed.
    """
    form = chosen_format(form, out)
    if out is None:
        _WRITERS[form](result, sys.stdout, _width())
        return
    with new_file(out, force=force) as partial:
        if form == "parquet":
            _write_parquet(result, partial)
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                _WRITERS[form](result, stream, None)


@contextmanager
def new_file(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a file beside ``out`` that takes its place on success and vanishes on failure."""
    if out.exists() and not force:
        raise ReplayError(
            "already exists", file=out, mend="choose another --out, or pass --force to replace it"
        )
    if out.is_dir():
        raise ReplayError("is a folder", file=out, mend="give --out a file")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(out)
    except OSError as failure:
        raise ReplayError(f"cannot be written: {failure.strerror or failure}", file=out) from failure
    finally:
        partial.unlink(missing_ok=True)


def _width() -> int | None:
    """Return the width of the terminal, None where stdout is none: then nothing is left out."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write_table(result: Result, stream: IO[str], width: int | None) -> None:
    from replay.cli.tables import format_table

    columns: list[list[Any]] = [[] for _ in result.schema.names]
    whole = stream is not sys.stdout
    for batch in result.batches:
        for values, column in zip(columns, _columns(batch), strict=True):
            values += column
        if not whole and len(columns[0]) > SHOWN_ROWS:
            columns = [values[:SHOWN_ROWS] for values in columns]
            note = f"only the first {SHOWN_ROWS:,} rows are shown; --format csv, or --out FILE, gives all"
            click.echo(note, err=True)
            break
    layout = format_table(result.schema.names, columns, width)
    stream.write(layout.text)
    if layout.left_out:
        stream.flush()
        click.echo(_left_out_note(layout.left_out), err=True)


def _left_out_note(names: Sequence[str]) -> str:
    """Say which columns are missing, and how to see them."""
    count = f"+{len(names)} column{'s do' if len(names) > 1 else ' does'} not fit"
    return f"{count}: {', '.join(names)}; widen the terminal, name columns in SQL, or use --format json"


def _write_csv(result: Result, stream: IO[str], _width: int | None) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.schema.names)
    for batch in result.batches:
        writer.writerows([_csv_cell(value) for value in row] for row in zip(*_columns(batch), strict=True))


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json(value) if isinstance(value, (list, dict)) else value


def _write_json(result: Result, stream: IO[str], _width: int | None) -> None:
    names = result.schema.names
    before = "[\n"
    for batch in result.batches:
        for row in zip(*_columns(batch), strict=True):
            stream.write(before + _json(dict(zip(names, row, strict=True))))
            before = ",\n"
    stream.write("[]\n" if before == "[\n" else "\n]\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _write_parquet(result: Result, path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, result.schema, compression="zstd") as writer:
        for batch in result.batches:
            writer.write_batch(batch)


def _columns(batch: pa.RecordBatch) -> list[list[Any]]:
    from replay.cli.values import plain_values

    return [plain_values(column) for column in batch.columns]


_WRITERS: dict[str, Callable[[Result, IO[str], int | None], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
}
