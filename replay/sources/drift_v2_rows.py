"""Files of a snapshot of Drift v2: markets and sub-accounts, each a CSV of keys and values.

Markets have a column a market, in units; a sub-account has one column, in the protocol's whole numbers (sizes, balances
and funding in 1e-9, dollars in 1e-6). Format read off the snapshot of 2023-01-10.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import NamedTuple

from replay.sources._numbers import is_supported_moment, number_of
from replay.units import (
    MAX_SCALE,
    parse_time,
    rescale,
)

Number = tuple[int, int]
Cells = Mapping[str, str]

PERPS, SPOTS, USER, OTHER = "perp markets", "spot markets", "sub-account", "other"
NAMES = ("SOL-PERP", "BTC-PERP", "ETH-PERP")
"""Names by index, from the list of markets of the protocol's own client; two of them have none in the snapshot."""

_PLACES = 9
_MONEY = 6
_INTEREST = 10
_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
_SLOTS = 8


class Perp(NamedTuple):
    """A perpetual: its oracle price with its moment, steps, and funding per unit that each side has paid, in 1e-9."""

    name: str
    ts: int
    oracle: Number
    tick: Number
    lot: Number
    long_funding: int
    short_funding: int


class Spot(NamedTuple):
    """A token: its decimals, oracle price, interest by which balances have grown in 1e-10, its fund in its units."""

    decimals: int
    oracle: Number
    deposit_interest: int
    borrow_interest: int
    fund: int


class Position(NamedTuple):
    """A position of a sub-account; ``size`` in 1e-9, money in 1e-6, ``funding`` in 1e-9 a unit when it last paid."""

    market: int
    size: int
    quote: int
    entry: int
    funding: int
    is_provider: bool


class Balance(NamedTuple):
    """A balance of a token in 1e-9 before interest; below zero what is borrowed."""

    token: int
    scaled: int


class User(NamedTuple):
    """A sub-account with what it holds."""

    name: str
    positions: tuple[Position, ...]
    balances: tuple[Balance, ...]


def table_of(text: str) -> tuple[str, list[dict[str, str]]]:
    """Return which kind of file a text is, and its columns as cells by key.

    Raises:
        ValueError: It is no CSV of keys and values.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as failure:
        raise ValueError(f"is no CSV: {failure}") from None
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, start=1):
        if len(row) != width or width < 2:
            raise ValueError(f"row {number} has {len(row)} cells, not {max(width, 2)}")
    keys = {row[0] for row in rows}
    kind = next((kind for kind, mark in _TELLING.items() if mark <= keys), OTHER)
    return kind, [{row[0]: row[place] for row in rows} for place in range(1, width)]


_TELLING = {
    PERPS: {"market.pubkey", "market.amm.oracle"},
    SPOTS: {"spot_market.pubkey", "spot_market.decimals"},
    USER: {"authority", "sub_account_id", "0.perp.base_asset_amount"},
}


def _cell(cells: Cells, key: str) -> str:
    if key not in cells:
        raise ValueError(f"lacks {key}")
    return cells[key]


def _number(cells: Cells, key: str, *, positive: bool = False) -> Number:
    return number_of(f"{key}:", _cell(cells, key), positive=positive)


def _whole(cells: Cells, key: str, *, places: int = 0) -> int:
    """Return a number in units of ``10**-places``, which it must be a multiple of."""
    value, is_rounded = rescale(*_number(cells, key), places)
    if is_rounded:
        raise ValueError(f"{key}: {cells[key]} is no multiple of 1e-{places}")
    return value


def _index(cells: Cells, key: str) -> int:
    index = _whole(cells, key)
    if not 0 <= index < 1 << 16:
        raise ValueError(f"{key}: {cells[key]} is no index of a market")
    return index


def parse_perp(cells: Cells) -> tuple[int, Perp]:
    """Understand a perpetual; return its index and what it is.

    Raises:
        ValueError: A field is missing or wrong; the text says which.
    """
    index = _index(cells, "market.market_index")
    moment = _cell(cells, "market.amm.historical_oracle_data.last_oracle_price_twap_ts")
    ts = parse_time(moment)
    if not is_supported_moment(ts):
        raise ValueError(f"the moment {moment} of its oracle is not between 2015 and 2035")
    return index, Perp(
        NAMES[index] if index < len(NAMES) else f"market-{index}",
        ts,
        _number(cells, "market.amm.historical_oracle_data.last_oracle_price", positive=True),
        _number(cells, "market.amm.order_tick_size", positive=True),
        _number(cells, "market.amm.order_step_size", positive=True),
        _whole(cells, "market.amm.cumulative_funding_rate_long", places=_PLACES),
        _whole(cells, "market.amm.cumulative_funding_rate_short", places=_PLACES),
    )


def parse_spot(cells: Cells) -> tuple[int, Spot]:
    """Understand a token; return its index and what it is; a ValueError as above."""
    decimals = _whole(cells, "spot_market.decimals")
    if not 0 <= decimals <= MAX_SCALE:
        raise ValueError(f"spot_market.decimals: {decimals} is not between 0 and {MAX_SCALE}")
    return _index(cells, "spot_market.market_index"), Spot(
        decimals,
        _number(cells, "spot_market.historical_oracle_data.last_oracle_price", positive=True),
        _whole(cells, "spot_market.cumulative_deposit_interest", places=_INTEREST),
        _whole(cells, "spot_market.cumulative_borrow_interest", places=_INTEREST),
        _whole(cells, "insurance_fund_vault_amt") if "insurance_fund_vault_amt" in cells else 0,
    )


def parse_user(name: str, cells: Cells) -> User:
    """Understand a sub-account, of which the name of the file is the address; a ValueError as above."""
    if _ADDRESS.fullmatch(name) is None:
        raise ValueError(f"the name of the file, {name!r}, is no address of 32 to 44 base-58 characters")
    positions, balances = [], []
    for slot in range(_SLOTS):
        perp, spot = f"{slot}.perp", f"{slot}.spot"
        position = Position(
            _index(cells, f"{perp}.market_index"),
            _whole(cells, f"{perp}.base_asset_amount"),
            _whole(cells, f"{perp}.quote_asset_amount"),
            _whole(cells, f"{perp}.quote_entry_amount"),
            _whole(cells, f"{perp}.last_cumulative_funding_rate"),
            _whole(cells, f"{perp}.lp_shares") != 0,
        )
        if position.size or position.quote:
            positions.append(position)
        scaled = _whole(cells, f"{spot}.scaled_balance")
        if scaled < 0:
            raise ValueError(f"{spot}.scaled_balance: {scaled} is below zero")
        sign = _BALANCES.get(_cell(cells, f"{spot}.balance_type"))
        if sign is None:
            raise ValueError(f"{spot}.balance_type is none of {', '.join(_BALANCES)}")
        if scaled:
            balances.append(Balance(_index(cells, f"{spot}.market_index"), sign * scaled))
    return User(name, tuple(positions), tuple(balances))


_BALANCES = {"SpotBalanceType.Deposit()": 1, "SpotBalanceType.Borrow()": -1}


def tokens_of(balance: Balance, spot: Spot) -> int:
    """Return a balance in units of its token: deposits rounded down, borrows up, as the protocol does."""
    interest = spot.deposit_interest if balance.scaled >= 0 else spot.borrow_interest
    return balance.scaled * interest // int(10 ** (_PLACES + _INTEREST - spot.decimals))
