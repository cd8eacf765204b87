"""Comma-separated files in columns of text, in order of the file and in bounded memory."""

from __future__ import annotations

import codecs
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from replay.errors import SourceError
from replay.sources._read import Lines
from replay.sources._rejects import Rejects

_BLOCK_BYTES = 4 << 20
_QUOTED = '^"(.*)"$'


class _Utf8(io.RawIOBase):
    """A stream that is UTF-8 as far as it was read; the parser would tell other bytes by a traceback."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ends = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._lines.stream.read(size)
        try:
            self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as failure:
            raise SourceError(
                "is not UTF-8 text",
                file=self._lines.path,
                row=self._ends + failure.object[: failure.start].count(b"\n") + 1,
                mend="fetch the file again",
            ) from None
        self._ends += data.count(b"\n")
        return data


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of one file, in its order.

    Attributes:
        file: The file.
        line: Line of the first row, from 1.
        columns: Strings by name of the column.
        rows: How many rows there are.
    """

    file: Path
    line: int
    columns: dict[str, pa.StringArray]
    rows: int

    def text(self, row: int) -> str:
        """Return a row as it would stand in the file."""
        return ",".join(str(column[row].as_py() or "") for column in self.columns.values())


def read_texts(
    lines: Lines, rejects: Rejects, *, names: Sequence[str], has_header: bool, wanted: Sequence[str]
) -> Iterator[Texts]:
    """Read the wanted columns of a file as text; a missing value is an empty string.

    A row ends with its line: a quote does not hold several lines or columns together, so that a stray one harms
    its own row only. Cells that stand between quotes are given without them.

    Args:
        lines: The open file.
        rejects: Where rows go that have too few or too many columns.
        names: Names of all its columns, in its order.
        has_header: Whether its first line names them.
        wanted: Columns to read.

    Raises:
        SourceError: The file is damaged, is not UTF-8, or a row has other columns than the header.
    """
    odd: list[Any] = []  # an exception would not find its way through the parser

    def handle(row: Any) -> str:
        odd.append(row)
        return "skip" if rejects.sets_aside else "error"

    parse = csv.ParseOptions(invalid_row_handler=handle, quote_char=False)
    line = 2 if has_header else 1
    try:
        reader = csv.open_csv(
            _Utf8(lines),
            read_options=csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=list(names),
                skip_rows=int(has_header),
            ),
            parse_options=parse,
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(wanted),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            _set_aside(odd, lines.path, rejects)
            columns = dict(zip(wanted, map(_unquoted, batch.columns), strict=True))
            yield Texts(lines.path, line, columns, batch.num_rows)
            line += batch.num_rows
        _set_aside(odd, lines.path, rejects)
    except (pa.ArrowException, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, OSError) as failure:
        if isinstance(failure, SourceError):
            raise
        _set_aside(odd, lines.path, rejects)
        raise SourceError(
            f"cannot be read as comma-separated text: {str(failure).splitlines()[0]}",
            file=lines.path,
            row=line,
            mend="fetch the file again",
        ) from failure


def _unquoted(column: pa.StringArray) -> pa.StringArray:
    if not pc.any(pc.starts_with(column, '"')).as_py():
        return column
    return pc.replace_substring_regex(column, _QUOTED, r"\1")


def _set_aside(odd: list[Any], file: Path, rejects: Rejects) -> None:
    """Set rows aside that have other columns than the header."""
    for row in odd:
        rejects.add(
            f"has {row.actual_columns} columns, {row.expected_columns} are named",
            file=file,
            line=int(row.number or 0),
            text=row.text,
        )
    odd.clear()
