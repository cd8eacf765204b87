"""Rows of the history files of Drift v1, told apart by their headers.

Money is in 1e-6 USDC, prices in 1e-10, funding in 1e-14 USDC a base unit, all as whole numbers. Moments are printed
in the recorder's own zone, with its offset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from replay.errors import SourceError
from replay.sources._numbers import is_supported_moment
from replay.sources._read import Lines, first_line
from replay.sources._rejects import Rejects
from replay.units import NS_PER_SECOND

DEPOSITS, LIQUIDATIONS, FUNDING, CURVES = "deposits", "liquidations", "funding rates", "curve changes"
NOBODY = "1" * 32
"""The null address: of the record 0 that stands before the first."""

_MONEY = 10**2  # 1e-6 to atoms
_PEG_RATIO = 10**7  # reserves and pegs of 1e-3 to prices of 1e-10
PRICE_DIGITS = 10
_WIDE = 127  # bits of reserves and sums of the protocol


class Deposit(NamedTuple):
    """A deposit (+) or withdrawal (-) in atoms, and the collateral that was there before it."""

    record: int
    ts: int
    user: str
    amount: int
    collateral: int


class Liquidation(NamedTuple):
    """A liquidated account; money in atoms. ``value`` is of all it held; ``equity`` is below zero where it owed."""

    record: int
    ts: int
    user: str
    liquidator: str
    method: str
    value: int
    to_liquidator: int
    to_fund: int
    collateral: int
    equity: int


class Funding(NamedTuple):
    """A funding rate in 1e-14 USDC a base unit, the averages it is made of, and the sums that each side has paid."""

    record: int
    ts: int
    market: int
    rate: int
    long_sum: int
    short_sum: int
    oracle: int
    mark: int


class Curve(NamedTuple):
    """A change of a market's curve, and the mark after it."""

    record: int
    ts: int
    market: int
    mark: int


Row = Deposit | Liquidation | Funding | Curve
Cells = dict[str, str]

_WHOLE = re.compile(r"-?\d{1,39}", re.ASCII)
_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
_DIRECTIONS = {"DepositDirection.DEPOSIT()": 1, "DepositDirection.WITHDRAW()": -1}
_METHODS = {"True": "partial", "False": "full"}


def _whole(cells: Cells, key: str, *, least: int | None = None, bits: int = 62) -> int:
    text = cells[key]
    value = int(text) if _WHOLE.fullmatch(text) else 1 << bits
    if not -1 << bits < value < 1 << bits:
        raise ValueError(f"{key} {text!r} is no whole number below 2**{bits}")
    if least is not None and value < least:
        raise ValueError(f"{key} {text} is below {least}")
    return value


def _money(cells: Cells, key: str, *, least: int | None = 0) -> int:
    amount = _whole(cells, key, least=least) * _MONEY
    if abs(amount) >= 1 << 62:
        raise ValueError(f"{key} {cells[key]} is more than a cell holds")
    return amount


def _address(cells: Cells, key: str) -> str:
    if _ADDRESS.fullmatch(cells[key]) is None:
        raise ValueError(f"{key} {cells[key]!r} is not an address of 32 to 44 base-58 characters")
    return cells[key]


def _word(cells: Cells, key: str, words: dict[str, object]) -> None:
    if cells[key] not in words:
        raise ValueError(f"{key} {cells[key]!r} is none of {', '.join(words)}")


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"ts {text!r} is not a moment such as 2021-11-02 23:44:44-04:00") from None
    if moment.tzinfo is None:
        raise ValueError(f"ts {text!r} does not tell its zone")
    ts = int(moment.replace(microsecond=0).timestamp()) * NS_PER_SECOND + moment.microsecond * 1000
    if not is_supported_moment(ts):
        raise ValueError(f"ts {text} is not between 2015 and 2035")
    return ts


def _deposit(cells: Cells, record: int, ts: int) -> Deposit:
    _word(cells, "direction", dict[str, object](_DIRECTIONS))
    amount = _money(cells, "amount") * _DIRECTIONS[cells["direction"]]
    return Deposit(record, ts, _address(cells, "user"), amount, _money(cells, "collateral_before"))


def _liquidation(cells: Cells, record: int, ts: int) -> Liquidation:
    _word(cells, "partial", dict[str, object](_METHODS))
    fee, keeper, fund = (
        _money(cells, key) for key in ("liquidation_fee", "fee_to_liquidator", "fee_to_insurance_fund")
    )
    if fee != keeper + fund:
        raise ValueError("liquidation_fee is not fee_to_liquidator and fee_to_insurance_fund together")
    collateral = _money(cells, "collateral")
    equity = collateral + _money(cells, "unrealized_pnl", least=None)
    if _money(cells, "total_collateral") != max(0, equity):
        raise ValueError("total_collateral is not collateral and unrealized_pnl together, or zero")
    return Liquidation(
        record,
        ts,
        _address(cells, "user"),
        _address(cells, "liquidator"),
        _METHODS[cells["partial"]],
        _money(cells, "base_asset_value"),
        keeper,
        fund,
        collateral,
        equity,
    )


def _market(cells: Cells) -> int:
    market = _whole(cells, "market_index", least=0)
    if market > 63:
        raise ValueError(f"market_index {market} is beyond the 64 markets of the protocol")
    return market


def _funding(cells: Cells, record: int, ts: int) -> Funding:
    return Funding(
        record,
        ts,
        _market(cells),
        _whole(cells, "funding_rate"),
        _whole(cells, "cumulative_funding_rate_long", bits=_WIDE),
        _whole(cells, "cumulative_funding_rate_short", bits=_WIDE),
        _whole(cells, "oracle_price_twap", least=1),
        _whole(cells, "mark_price_twap", least=1),
    )


def _curve(cells: Cells, record: int, ts: int) -> Curve:
    base, quote, peg = (
        _whole(cells, key, least=1, bits=_WIDE)
        for key in ("base_asset_reserve_after", "quote_asset_reserve_after", "peg_multiplier_after")
    )
    mark = quote * peg * _PEG_RATIO // base
    if not 0 < mark < 1 << 62:
        raise ValueError(f"its reserves and peg make a price of {mark} in 1e-{PRICE_DIGITS}")
    return Curve(record, ts, _market(cells), mark)


_HEAD = ("ts", "record_id")
_KINDS: dict[str, tuple[tuple[str, ...], Callable[[Cells, int, int], Row]]] = {
    DEPOSITS: (("user", "direction", "collateral_before", "amount"), _deposit),
    LIQUIDATIONS: (
        (
            "user", "partial", "base_asset_value", "liquidation_fee", "fee_to_liquidator",
            "fee_to_insurance_fund", "liquidator", "total_collateral", "collateral", "unrealized_pnl",
        ),
        _liquidation,
    ),
    FUNDING: (
        (
            "market_index", "funding_rate", "cumulative_funding_rate_long", "cumulative_funding_rate_short",
            "oracle_price_twap", "mark_price_twap",
        ),
        _funding,
    ),
    CURVES: (
        ("market_index", "base_asset_reserve_after", "quote_asset_reserve_after", "peg_multiplier_after"),
        _curve,
    ),
}  # fmt: skip
TABLES = tuple(_KINDS)


def identify(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return which table a file holds, by its header, and the names of its columns.

    Raises:
        SourceError: It holds none that is known.
    """
    names = tuple(first_line(file).decode("utf-8", "backslashreplace").lstrip("\ufeff").split(","))
    for table, (columns, _parse) in _KINDS.items():
        if {*_HEAD, *columns} <= set(names):
            return table, names
    known = "; ".join(f"{table} ({','.join((*_HEAD, *columns))})" for table, (columns, _) in _KINDS.items())
    raise SourceError(
        f"has the columns {','.join(names)[:120]!r}, which are of no history of Drift v1",
        file=file,
        row=1,
        mend=f"known are {known}",
    )


def read_rows(
    lines: Lines, table: str, names: Sequence[str], rejects: Rejects, counts: dict[str, int]
) -> Iterator[Row]:
    """Yield the rows of a file as they stand; rows that are not understood go to the rejects.

    Args:
        lines: The open file, header first.
        table: What it holds.
        names: Names of its columns.
        rejects: Where rows go that are not understood.
        counts: ``rows read`` and ``null records`` are counted up.
    """
    _columns, parse = _KINDS[table]
    rows = iter(lines)
    next(rows)
    for number, line in rows:
        counts["rows read"] += 1
        try:
            found = line.decode().split(",")
            if len(found) != len(names):
                raise ValueError(f"has {len(found)} cells, not {len(names)}")
            cells = dict(zip(names, found, strict=True))
            record = _whole(cells, "record_id", least=0)
            if record == 0 and cells.get("user", NOBODY) == NOBODY:
                counts["null records"] += 1
                continue
            row = parse(cells, record, _moment(cells["ts"]))
        except ValueError as failure:
            reason = "is not UTF-8" if isinstance(failure, UnicodeDecodeError) else str(failure)
            rejects.add(reason, file=lines.path, line=number, text=line.decode("utf-8", "backslashreplace"))
            continue
        yield row
