"""Rows of dYdX v4's indexer: trades, fills, transfers, funding, candles, oracle prices, subaccounts, markets.

Numbers are texts, as the indexer prints them (JSON numbers arrive as texts, too); see tape-formats.md section 7.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from replay.sources._numbers import is_supported_moment, number_of
from replay.units import MAX_SCALE, NS_PER_MINUTE, parse_decimal, parse_time, rescale

Number = tuple[int, int]
"""Mantissa and digits after the point."""

LIQUIDATED, LIQUIDATION = "LIQUIDATED", "LIQUIDATION"
DELEVERAGED, OFFSETTING = "DELEVERAGED", "OFFSETTING"
VICTIMS = (LIQUIDATED, DELEVERAGED)
FORCED = {LIQUIDATED: LIQUIDATION, DELEVERAGED: OFFSETTING}
"""The type of the row of who was forced, and that of the other row of the match."""

_FILL_TYPES = ("LIMIT", "MARKET", "TWAP_SUBORDER", *FORCED, *FORCED.values())
_TRADE_TYPES = ("LIMIT", "MARKET", "TWAP_SUBORDER", *FORCED)
_SIDES = {"BUY": 1, "SELL": -1}
_ROLES = ("MAKER", "TAKER")
_TRANSFERS = ("DEPOSIT", "WITHDRAWAL", "TRANSFER_IN", "TRANSFER_OUT")
_MINUTES = {"1MIN": 1, "5MINS": 5, "15MINS": 15, "30MINS": 30, "1HOUR": 60, "4HOURS": 240, "1DAY": 1440}
_ADDRESS = re.compile(r"dydx1[0-9a-z]{6,58}")
_EVENT = re.compile(r"[0-9a-f]{24}")


class Trade(NamedTuple):
    """A match without names; ``side`` is the taker's, ``event`` its place on the chain where its id is one."""

    uid: str
    ts: int
    event: str
    ticker: str
    price: Number
    size: Number
    side: int
    kind: str


class Fill(NamedTuple):
    """A row of one account; ``fee`` in atoms, with that of a builder."""

    uid: str
    ts: int
    height: int
    account: str
    ticker: str
    price: Number
    size: Number
    side: int
    is_taker: bool
    kind: str
    fee: int


class Transfer(NamedTuple):
    """A move of USDC in atoms; a side is None outside the subaccounts."""

    uid: str
    ts: int
    height: int
    sender: str | None
    recipient: str | None
    amount: int


class Funding(NamedTuple):
    """An hourly rate in 1e-12, and the oracle price it was paid at."""

    ts: int
    ticker: str
    rate: int
    price: Number


class Price(NamedTuple):
    """A price; ``is_oracle`` else the last trade."""

    ts: int
    ticker: str
    price: Number
    is_oracle: bool


class Position(NamedTuple):
    """An open position; ``size`` is signed."""

    ticker: str
    size: Number
    entry: Number


class Subaccount(NamedTuple):
    """The state of an account after a block; ``quote`` is its USDC in atoms, what positions cost taken off."""

    account: str
    height: int
    quote: int
    positions: tuple[Position, ...]


class Market(NamedTuple):
    """Steps of a market."""

    ticker: str
    tick: Number
    lot: Number


Row = Mapping[str, Any]


def text(row: Row, key: str) -> str:
    """Return a field that is text or a number.

    Raises:
        ValueError: It is missing or something else.
    """
    found = row.get(key)
    if type(found) is not str:
        raise ValueError(f"lacks {key}" if found is None else f"{key} is no text or number")
    return found


def word(row: Row, key: str, words: tuple[str, ...] | Mapping[str, Any]) -> str:
    """Return a field that is one of some words."""
    found = text(row, key)
    if found not in words:
        raise ValueError(f"{key} {found!r} is none of {', '.join(words)}")
    return found


def number(row: Row, key: str, *, positive: bool = True) -> Number:
    """Return a decimal number as mantissa and digits."""
    return number_of(key, text(row, key), positive=positive)


def atoms(row: Row, key: str) -> int:
    """Return an amount of USDC, of which the chain has six decimals, in atoms of 1e-8."""
    mantissa, digits = number(row, key, positive=False)
    amount, is_rounded = rescale(mantissa, digits, 8)
    if is_rounded or abs(amount) >= 1 << 62:
        raise ValueError(f"{key} {row[key]} is no amount of USDC of at most eight decimals")
    return amount


def moment(row: Row, key: str) -> int:
    """Return a moment such as 2025-12-08T16:11:30.590Z in nanoseconds."""
    found = text(row, key)
    try:
        ts = parse_time(found)
    except ValueError as failure:
        raise ValueError(f"{key} {failure}") from None
    if not is_supported_moment(ts):
        raise ValueError(f"{key} {found} is not between 2015 and 2035")
    return ts


def height(row: Row, key: str) -> int:
    """Return the height of a block."""
    found = text(row, key)
    if not (found.isascii() and found.isdecimal()) or len(found) > 18:
        raise ValueError(f"{key} {found!r} is no height of a block")
    return int(found)


def account_of(row: Row) -> str:
    """Return ``address/number`` of a subaccount that is named by two fields, or by one as ``subaccountId``."""
    if type(row.get("subaccountId")) is str:
        address, _, subaccount = str(row["subaccountId"]).partition("/")
    else:
        address, subaccount = text(row, "address"), text(row, "subaccountNumber")
    if _ADDRESS.fullmatch(address) is None or not (subaccount.isascii() and subaccount.isdecimal()):
        raise ValueError(f"{address}/{subaccount} is no subaccount of an address that begins with dydx1")
    return f"{address}/{subaccount}"


def parse_trade(row: Row) -> Trade:
    """Understand a trade; like all below with a ValueError that says what is wrong."""
    uid = text(row, "id")
    return Trade(
        uid,
        moment(row, "createdAt"),
        uid if _EVENT.fullmatch(uid) else "",
        text(row, "ticker"),
        number(row, "price"),
        number(row, "size"),
        _SIDES[word(row, "side", _SIDES)],
        word(row, "type", _TRADE_TYPES),
    )


def parse_fill(row: Row) -> Fill:
    """Understand a fill of a subaccount."""
    builder = atoms(row, "builderFee") if row.get("builderFee") is not None else 0
    return Fill(
        text(row, "id"),
        moment(row, "createdAt"),
        height(row, "createdAtHeight"),
        account_of(row),
        text(row, "market"),
        number(row, "price"),
        number(row, "size"),
        _SIDES[word(row, "side", _SIDES)],
        word(row, "liquidity", _ROLES) == "TAKER",
        word(row, "type", _FILL_TYPES),
        atoms(row, "fee") + builder,
    )


def parse_transfer(row: Row) -> Transfer:
    """Understand a deposit, a withdrawal or a transfer between subaccounts."""
    kind = word(row, "type", _TRANSFERS)
    word(row, "symbol" if "symbol" in row else "asset", ("USDC",))
    ends = {name: row.get(name) for name in ("sender", "recipient")}
    if not all(isinstance(end, Mapping) for end in ends.values()):
        raise ValueError("lacks sender or recipient")
    amount = atoms(row, "size" if "size" in row else "amount")
    if amount <= 0:
        raise ValueError("moves nothing")
    return Transfer(
        text(row, "id"),
        moment(row, "createdAt"),
        height(row, "createdAtHeight"),
        None if kind == "DEPOSIT" else account_of(ends["sender"] or {}),
        None if kind == "WITHDRAWAL" else account_of(ends["recipient"] or {}),
        amount,
    )


def parse_funding(row: Row) -> Funding:
    """Understand an hourly funding rate."""
    mantissa, digits = number(row, "rate", positive=False)
    rate, _ = rescale(mantissa, digits, 12)
    return Funding(moment(row, "effectiveAt"), text(row, "ticker"), rate, number(row, "price"))


def parse_candle(row: Row) -> Price:
    """Understand a candle: its close is the last price, known when it is over."""
    minutes = _MINUTES[word(row, "resolution", _MINUTES)]
    ts = moment(row, "startedAt") + minutes * NS_PER_MINUTE
    return Price(ts, text(row, "ticker"), number(row, "close"), is_oracle=False)


def parse_oracle(row: Row) -> Price:
    """Understand an oracle price."""
    return Price(moment(row, "effectiveAt"), text(row, "ticker"), number(row, "oraclePrice"), is_oracle=True)


def parse_market(row: Row) -> Market:
    """Understand the steps of a market."""
    return Market(text(row, "ticker"), number(row, "tickSize"), number(row, "stepSize"))


def parse_subaccount(row: Row) -> Subaccount:
    """Understand the state of a subaccount; only USDC and perpetuals."""
    assets, open_ones = row.get("assetPositions", {}), row.get("openPerpetualPositions", {})
    if not isinstance(assets, Mapping) or not isinstance(open_ones, Mapping):
        raise ValueError("its assetPositions or openPerpetualPositions are no object")
    strange = [name for name in assets if name != "USDC"]
    if strange:
        raise ValueError(f"holds {', '.join(strange)}, where USDC alone is expected")
    quote = _signed(assets["USDC"], "size") if "USDC" in assets else (0, 0)
    cash, is_rounded = rescale(*quote, 8)
    if is_rounded or abs(cash) >= 1 << 62:
        raise ValueError("its USDC is no amount of at most eight decimals")
    known = "latestProcessedBlockHeight" if "latestProcessedBlockHeight" in row else "updatedAtHeight"
    return Subaccount(
        account_of(row),
        height(row, known),
        cash,
        tuple(
            Position(text(position, "market"), _signed(position, "size"), _entry(position))
            for position in open_ones.values()
        ),
    )


def _signed(position: Any, key: str) -> Number:
    """Return a size with the sign of its side, whether it was printed with one or not."""
    if not isinstance(position, Mapping):
        raise ValueError("a position is no object")
    mantissa, digits = number(position, key, positive=False)
    side = word(position, "side", ("LONG", "SHORT"))
    if mantissa < 0 and side == "LONG":
        raise ValueError(f"{key} {position[key]} is below zero, and its side is LONG")
    return (abs(mantissa) if side == "LONG" else -abs(mantissa)), digits


_ENTRY_DIGITS = 8


def _entry(position: Row) -> Number:
    """Return an entry price, an average with many decimals, to eight of them."""
    found = text(position, "entryPrice")
    try:
        mantissa, digits = parse_decimal(found)
    except ValueError as failure:
        raise ValueError(f"entryPrice {failure}") from None
    if digits > _ENTRY_DIGITS:
        mantissa, digits = rescale(mantissa, digits, _ENTRY_DIGITS)[0], _ENTRY_DIGITS
    if not 0 < mantissa < 10**MAX_SCALE:
        raise ValueError(f"entryPrice {found} is not above zero, or has more than {MAX_SCALE} digits")
    return mantissa, digits
