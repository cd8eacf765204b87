"""Arrow columns as plain values: what JSON and CSV can hold, exactly, and never NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from replay.units import NS_PER_SECOND, format_time

_NS_PER = {"s": NS_PER_SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}


def plain_values(column: pa.Array) -> list[Any]:
    """Return the values of a column as text, int, float, bool, None, list or dict.

    Times are ISO-8601 with ``Z`` and no needless fraction. Numbers that are not finite become None. Whole
    decimals (sums of integers) become int.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind):
        factor = _NS_PER[kind.unit]
        return _each(column.cast(pa.int64()).to_pylist(), lambda value: _moment(value * factor))
    if pa.types.is_struct(kind):
        fields = [plain_values(column.field(i)) for i in range(kind.num_fields)]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        valid = column.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if valid[i] else None
            for i, row in enumerate(zip(*fields, strict=True))
        ]
    if pa.types.is_map(kind):
        pairs = plain_values(
            column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        )
        return _each(pairs, lambda items: {str(item["key"]): item["value"] for item in items})
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = plain_values(column.flatten())
        lengths = column.value_lengths().to_pylist()
        starts = iter(_starts(lengths))
        return [
            None if n is None else inner[start : start + n] for n, start in zip(lengths, starts, strict=True)
        ]
    return _each(column.to_pylist(), _plain)


def _starts(lengths: list[int | None]) -> list[int]:
    starts, end = [], 0
    for length in lengths:
        starts.append(end)
        end += length or 0
    return starts


def _each(values: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _moment(ns: int) -> str:
    try:
        return format_time(ns)
    except (ValueError, OverflowError):  # beyond the calendar: DuckDB's infinity
        return "infinity" if ns > 0 else "-infinity"


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
