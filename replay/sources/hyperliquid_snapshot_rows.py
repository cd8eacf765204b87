"""Rows of snapshots of Hyperliquid's state: positions and account values, as JSON or Parquet.

Format from tape-formats.md section 1.7: JSON lists of objects, positions grouped by market, or the Parquet files of
a public archive. Both print numbers through binary floating point, of which 15 significant digits are meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from replay.errors import SourceError
from replay.sources._json import read_values
from replay.sources._read import Lines
from replay.sources.hyperliquid_words import COIN, is_address, is_spot
from replay.tape.schema import MAIN_DEX
from replay.units import MAX_SCALE, divide_half_even, parse_decimal

_NAME = re.compile(r"(?<!\d)(\d+)_(\d{13})(?!\d)", re.ASCII)
_MAIN = "hyperliquid"
_FLOAT_DIGITS = 15
_DECIMALS = 8
_ROWS = 16_384

POSITION_COLUMNS = ("user", "market", "size", "notional", "entry_price", "leverage_type", "account_value")
VALUE_COLUMNS = ("user", "dex", "collateral_token", "account_value")

Number = tuple[int, int]
"""Mantissa and digits after the point."""


class Position(NamedTuple):
    """A position of a snapshot; ``value`` is the equity of its account."""

    user: str
    coin: str
    size: Number
    notional: Number
    entry: Number
    is_isolated: bool
    value: Number

    @property
    def dex(self) -> str:
        """Builder dex of the coin."""
        return self.coin.rpartition(":")[0]


class Value(NamedTuple):
    """Equity of an account on a dex."""

    user: str
    dex: str
    token: str
    value: Number


class Row(NamedTuple):
    """A row as it stands in a file: line (Parquet: row), place in a market's list, fields."""

    line: int
    item: int | None
    fields: dict[str, Any]

    @property
    def text(self) -> str:
        """The row for a file of rejects."""
        return json.dumps(self.fields)


def moment_of(file: Path) -> tuple[int, int]:
    """Return block and milliseconds of a snapshot, which its name tells.

    Raises:
        SourceError: It does not.
    """
    match = _NAME.search(file.name)
    if match is None:
        raise SourceError(
            "its name does not tell the block and the milliseconds of the snapshot",
            file=file,
            mend="name it as it was published: ..._BLOCK_MILLISECONDS.json or BLOCK_MILLISECONDS.parquet",
        )
    return int(match[1]), int(match[2])


def json_rows(lines: Lines) -> Iterator[Row]:
    """Yield the rows of an open JSON file; a position gets the name of its market."""
    for line, content in read_values(lines):
        if not isinstance(content, dict):
            yield Row(line, None, {"": content})
        elif "positions" in content and isinstance(content["positions"], list):
            for item, row in enumerate(content["positions"]):
                fields = row if isinstance(row, dict) else {"": row}
                yield Row(line, item, {"market": content.get("market_name"), **fields})
        else:
            yield Row(line, None, content)


def parquet_columns(file: Path) -> list[str]:
    """Return the names of the columns of a Parquet file.

    Raises:
        SourceError: It is damaged.
    """
    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as failure:
        raise _damaged(file, failure) from failure


def parquet_rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a Parquet file, numbers as texts.

    Raises:
        SourceError: It is damaged or lacks a column.
    """
    missing = [name for name in columns if name not in parquet_columns(file)]
    if missing:
        raise SourceError(f"lacks the column {missing[0]}", file=file, mend=f"read are {', '.join(columns)}")
    number = 0
    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=_ROWS, columns=list(columns)):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(number, None, {key: _as_text(value) for key, value in fields.items()})
    except (pa.ArrowException, OSError) as failure:
        raise _damaged(file, failure) from failure


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str | bool) else str(value)


def _damaged(file: Path, failure: Exception) -> SourceError:
    reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
    return SourceError(f"is damaged Parquet: {reason}", file=file, mend="fetch the file again")


def parse_position(fields: dict[str, Any]) -> Position:
    """Understand a row of positions.

    Raises:
        ValueError: It cannot be understood; the text says why.
    """
    coin = _text(fields, "market").removeprefix(f"{_MAIN}:")
    if COIN.fullmatch(coin) is None or is_spot(coin):
        raise ValueError(f"market {coin!r} is not the name of a perpetual")
    size = _number(fields, "size")
    if size[0] == 0 or size[1] > _DECIMALS:
        raise ValueError(f"size {fields['size']} is not a size of at most {_DECIMALS} decimals")
    notional = _number(fields, "notional_size" if "notional_size" in fields else "notional")
    if notional[0] == 0:
        raise ValueError("a position of no notional has no mark")
    entry = _rounded(_number(fields, "entry_price"))
    if entry[0] <= 0:
        raise ValueError(f"entry_price {fields['entry_price']} is not a positive price")
    value = _number(fields, "account_value")
    return Position(
        _user(fields), coin, size, (abs(notional[0]), notional[1]), entry, _isolated(fields), value
    )


def _isolated(fields: dict[str, Any]) -> bool:
    if "leverage_type" in fields:
        if fields["leverage_type"] not in ("cross", "isolated"):
            raise ValueError(f"leverage_type {fields['leverage_type']!r} is neither cross nor isolated")
        return bool(fields["leverage_type"] == "isolated")
    if type(fields.get("is_cross")) is not bool:
        raise ValueError("is_cross is neither true nor false")
    return not fields["is_cross"]


def parse_value(fields: dict[str, Any]) -> Value:
    """Understand a row of account values.

    Raises:
        ValueError: It cannot be understood; the text says why.
    """
    dex = _text(fields, "dex") if "dex" in fields else MAIN_DEX
    token = _text(fields, "collateral_token") if "collateral_token" in fields else "USDC"
    return Value(_user(fields), MAIN_DEX if dex == _MAIN else dex, token, _number(fields, "account_value"))


def _text(fields: dict[str, Any], key: str) -> str:
    if type(fields.get(key)) is not str:
        raise ValueError(f"lacks {key}")
    return str(fields[key])


def _user(fields: dict[str, Any]) -> str:
    user = _text(fields, "user").lower()
    if not is_address(user):
        raise ValueError(f"user {user!r} is not an address of 0x and 40 hexadecimal digits")
    return user


def _number(fields: dict[str, Any], key: str) -> Number:
    """Read a number that was printed through binary floating point."""
    mantissa, digits = parse_decimal(_text(fields, key))
    excess = len(str(abs(mantissa))) - _FLOAT_DIGITS
    if 0 < excess <= digits:
        mantissa, digits = divide_half_even(mantissa, 10**excess), digits - excess
    mantissa, digits = _least(mantissa, digits)
    if digits > MAX_SCALE or abs(mantissa) >= 10**MAX_SCALE:
        raise ValueError(f"{key} {fields[key]} has more than {MAX_SCALE} digits")
    return mantissa, digits


def _rounded(number: Number) -> Number:
    mantissa, digits = number
    if digits <= _DECIMALS:
        return number
    return _least(divide_half_even(mantissa, 10 ** (digits - _DECIMALS)), _DECIMALS)


def _least(mantissa: int, digits: int) -> Number:
    while digits > 0 and mantissa % 10 == 0:
        mantissa, digits = mantissa // 10, digits - 1
    return mantissa, digits
