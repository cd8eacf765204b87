"""Parquet files in columns of text, in order of the file and in bounded memory, as comma-separated ones are read.

Text keeps what is exact: whole numbers and decimals are written out; moments become ISO text in UTC (a moment without
a zone is UTC). Floating point is taken to 15 significant digits, which bring back the number that was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replay.errors import SourceError
from replay.folders import sha256_file
from replay.sources._csv import Texts
from replay.units import MAX_SCALE

_ROWS = 65_536
_FINEST = Decimal(1).scaleb(-MAX_SCALE)


def parquet_columns(file: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet file.

    Raises:
        SourceError: It is damaged.
    """
    try:
        return tuple(pq.read_schema(file).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as failure:
        raise _damaged(file, failure) from failure


class ParquetRows:
    """The rows of one Parquet file; a context manager, read once.

    Args:
        path: The file, as the user named it.
        name: Its name for provenance.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.bytes_read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open outside of :meth:`texts`."""

    def texts(self, wanted: Sequence[str]) -> Iterator[Texts]:
        """Yield the wanted columns as text; a missing value is an empty string, a line is a row from 1.

        Raises:
            SourceError: The file is damaged, or a column holds lists, maps or bytes.
        """
        row, size = 1, self.path.stat().st_size
        try:
            with pq.ParquetFile(self.path) as opened:
                total = max(1, opened.metadata.num_rows)
                for batch in opened.iter_batches(batch_size=_ROWS, columns=list(wanted)):
                    columns = {name: self._text(batch.column(name), name) for name in wanted}
                    yield Texts(self.path, row, columns, batch.num_rows)
                    row += batch.num_rows
                    self.bytes_read = size * (row - 1) // total
        except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as failure:
            raise _damaged(self.path, failure) from failure

    def _text(self, column: pa.Array, name: str) -> pa.StringArray:
        column.validate(full=True)  # text of a damaged file need not be UTF-8
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if pa.types.is_floating(kind):
            column = _plain(column)
        elif pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64()).cast(pa.timestamp("ns"))
        elif not (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        ):
            raise SourceError(
                f"is a column of {kind}",
                file=self.path,
                key=name,
                mend="text, numbers, decimals, moments and true or false are read",
            )
        return pc.fill_null(column.cast(pa.string()), "")

    def provenance(self) -> dict[str, Any]:
        """Return the file's name, size in bytes and SHA-256."""
        return {"name": self.name, "bytes": self.path.stat().st_size, "sha256": sha256_file(self.path)}


def _plain(column: pa.Array) -> pa.Array:
    """Write floating point out as plain decimals; what is no number is a missing value."""
    encoded = column.dictionary_encode()
    words = [_decimal(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def _decimal(value: float) -> str | None:
    number = Decimal(f"{value:.15g}")
    if number.is_nan():
        return None
    if not number.is_finite():
        return str(number)
    fine = number.as_tuple().exponent
    return f"{number.quantize(_FINEST) if isinstance(fine, int) and fine < -MAX_SCALE else number:f}"


def _damaged(file: Path, failure: Exception) -> SourceError:
    reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
    return SourceError(f"is damaged Parquet: {reason}", file=file, mend="fetch the file again")
