"""The typed model of a scenario file: what may be written, and in which form each number must be.

Numbers become exact ``(mantissa, digits)`` pairs and moments become nanoseconds; nothing passes through
binary floating point. What one entry says of another (names, ledgers, times) is checked by
:mod:`replay.sources.scenario`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from replay.units import BOUND, MAX_SCALE, parse_decimal, parse_time

_OFFSET_CLOCK = re.compile(r"(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?", re.ASCII)
_OFFSET_PARTS = re.compile(r"(\d+)(?:\.(\d+))?(d|h|ms|us|ns|m|s)", re.ASCII)
_NANOSECONDS = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_NUMBER_FORMS = 'write a plain decimal such as 100, 99.5 or "0.000125"'
_MOMENT_FORMS = 'write "+90s", "+1h30m", "+00:01:30.5" (from the start) or "2024-03-05T12:01:30Z", in quotes'


class Number(NamedTuple):
    """An exact decimal, ``mantissa / 10**digits``."""

    mantissa: int
    digits: int


class Moment(NamedTuple):
    """A moment in ns UTC, or an offset in ns from the scenario's start."""

    ns: int
    is_offset: bool


def fault(problem: str, mend: str | None = None) -> NoReturn:
    """Refuse a value while a model is being validated.

    Raises:
        PydanticCustomError: Always; carries the problem and how to mend it.
    """
    raise PydanticCustomError("scenario", "{problem}", {"problem": problem, "mend": mend})


def parse_offset(text: str) -> int:
    """Read an offset such as ``90s``, ``1h30m``, ``250ms`` or ``00:01:30.5`` as nanoseconds.

    Raises:
        ValueError: Another form, or finer than a nanosecond.
    """
    clock = _OFFSET_CLOCK.fullmatch(text)
    if clock is not None:
        hours, minutes, seconds, fraction = clock.groups()
        if int(minutes) > 59 or int(seconds or 0) > 59:
            raise ValueError(f"{text!r} has more than 59 minutes or seconds")
        whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
        return whole * _NANOSECONDS["s"] + int((fraction or "").ljust(9, "0"))
    total = end = 0
    for part in _OFFSET_PARTS.finditer(text):
        if part.start() != end:
            break
        end = part.end()
        whole_text, fraction, unit = part.groups()
        fraction = fraction or ""
        scaled, rest = divmod(int(whole_text + fraction) * _NANOSECONDS[unit], 10 ** len(fraction))
        if rest:
            raise ValueError(f"{text!r} is finer than a nanosecond")
        total += scaled
    if not text or end != len(text):
        raise ValueError(f"{text!r} is not an offset")
    return total


def _number(value: Any) -> Number:
    if isinstance(value, Number):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        fault(f"{value!r} is not a number", _NUMBER_FORMS)
    try:
        mantissa, digits = parse_decimal(str(value))
    except ValueError as failure:
        fault(str(failure), _NUMBER_FORMS)
    if digits > MAX_SCALE:
        fault(f"{value} has {digits} decimals", f"at most {MAX_SCALE} are supported")
    if abs(mantissa) >= BOUND:
        fault(f"{value} is too large", f"its digits, read as one integer, must stay below {BOUND}")
    return Number(mantissa, digits)


def _positive(number: Number) -> Number:
    if number.mantissa <= 0:
        fault("must be more than zero")
    return number


def _not_negative(number: Number) -> Number:
    if number.mantissa < 0:
        fault("must not be negative")
    return number


def _not_zero(number: Number) -> Number:
    if number.mantissa == 0:
        fault("must not be zero")
    return number


def _moment(value: Any) -> Moment:
    if isinstance(value, Moment):
        return value
    if not isinstance(value, str):
        fault(f"{value} is not a moment in quotes", _MOMENT_FORMS)
    try:
        if value.startswith("+"):
            moment = Moment(parse_offset(value[1:]), is_offset=True)
        else:
            moment = Moment(parse_time(value), is_offset=False)
    except ValueError as failure:
        fault(str(failure), _MOMENT_FORMS)
    if not 0 <= moment.ns < BOUND:
        fault(f"{value} is out of range", "times from 1970 to 2116 are supported")
    return moment


def _start(value: Any) -> int:
    moment = _moment(value)
    if moment.is_offset:
        fault(
            f"{value!r} is an offset, and there is nothing before the start", 'write "2024-03-05T12:00:00Z"'
        )
    return moment.ns


def _duration(value: Any) -> int:
    moment = _moment(value)
    if not moment.is_offset or moment.ns == 0:
        fault(f"{value!r} is not a length of time", 'write "+10s"')
    return moment.ns


def _name(text: str) -> str:
    if not text.strip() or text != text.strip():
        fault(f"{text!r} is not a name", "a name has no blanks at its ends and is not empty")
    return text


Exact = Annotated[Number, BeforeValidator(_number)]
Positive = Annotated[Exact, AfterValidator(_positive)]
NotNegative = Annotated[Exact, AfterValidator(_not_negative)]
NotZero = Annotated[Exact, AfterValidator(_not_zero)]
At = Annotated[Moment, BeforeValidator(_moment)]
Start = Annotated[int, BeforeValidator(_start)]
Duration = Annotated[int, BeforeValidator(_duration)]
Name = Annotated[str, AfterValidator(_name)]
ModeWord = Literal["cross", "isolated"]
Level = tuple[Positive, Positive]

ZERO = Number(0, 0)


class Entry(BaseModel):
    """Base of all entries: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Market(Entry):
    """``[[markets]]``: a contract. ``settle`` defaults to the scenario's currency."""

    name: Name
    payoff: Literal["linear", "inverse", "spot"] = "linear"
    settle: Name | None = None
    dex: str | None = None
    multiplier: Positive = Number(1, 0)
    tick: Positive | None = None
    lot: Positive | None = None


class Position(Entry):
    """A position of the opening snapshot; with ``margin`` it is isolated and has that cash of its own."""

    market: Name
    size: NotZero
    entry: Positive
    margin: Exact | None = None


class Account(Entry):
    """``[[accounts]]``: an account and its opening pool in one ledger; one entry per ledger."""

    name: Name
    cash: Exact | None = None
    currency: Name | None = None
    dex: str | None = None
    grade: Literal["known", "bounded", "assumed", "unknown"] | None = None
    positions: tuple[Position, ...] = ()


class Fund(Entry):
    """``[[funds]]``: an insurance fund or vault, named ``@fund:<scope>`` or ``@vault:<name>``."""

    name: Name
    cash: Exact
    currency: Name | None = None
    dex: str | None = None

    @model_validator(mode="after")
    def _is_a_fund(self) -> Fund:
        prefix, _, rest = self.name.partition(":")
        if prefix not in ("@fund", "@vault") or not rest:
            fault(f"{self.name!r} is not the name of a fund", 'write "@fund:main" or "@vault:liquidator"')
        return self


class Mark(Entry):
    """``[[marks]]``: one price, a ``path`` of (moment, price), or ``prices`` at even steps of time."""

    market: Name
    kind: Literal["mark", "index", "oracle", "last", "event", "implied"] = "mark"
    at: At | None = None
    price: Positive | None = None
    path: Annotated[tuple[tuple[At, Positive], ...], Field(min_length=1)] | None = None
    every: Duration | None = None
    prices: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one_form(self) -> Mark:
        forms = ("at", "price", "path", "every", "prices")
        given = {name for name in forms if getattr(self, name) is not None}
        if given not in ({"at", "price"}, {"path"}, {"at", "every", "prices"}):
            fault(
                f"has {', '.join(sorted(given)) or 'no price'}",
                "give `at` and `price`, or `path`, or `at`, `every` and `prices`",
            )
        return self


class Trade(Entry):
    """``[[trades]]``: a match; each named side becomes one row of ``fills``."""

    at: At
    market: Name
    buyer: Name | None = None
    seller: Name | None = None
    qty: Positive
    price: Positive
    taker: Literal["buyer", "seller"] | None = None
    buyer_fee: Exact = ZERO
    seller_fee: Exact = ZERO
    fee_currency: Name | None = None
    buyer_mode: ModeWord = "cross"
    seller_mode: ModeWord = "cross"
    kind: Literal["trade", "liquidation", "backstop", "adl", "settlement"] = "trade"
    victim: Name | None = None


class Fill(Entry):
    """``[[fills]]``: one row as it is, for tapes with unusual content; ``qty`` is signed."""

    at: At
    market: Name
    account: Name
    qty: NotZero
    price: Positive
    fee: Exact = ZERO
    fee_currency: Name | None = None
    role: Literal["maker", "taker"] | None = None
    kind: Literal["trade", "liquidation", "backstop", "adl", "settlement"] = "trade"
    victim: Name | None = None
    match: Annotated[int, Field(strict=True, ge=0, lt=BOUND)] | None = None
    paired: Annotated[bool, Field(strict=True)] = False
    start_position: Exact | None = None
    mode: ModeWord = "cross"


class Pool(Entry):
    """One end of a move: the cross pool of an account, or its isolated pool in a market."""

    account: Name
    isolated: Name | None = None
    currency: Name | None = None
    dex: str | None = None


def _pool(value: Any) -> Any:
    return {"account": value} if isinstance(value, str) else value


class Transfer(Entry):
    """``[[transfers]]``: cash in or out of one pool, or moved ``from`` one pool ``to`` another."""

    at: At
    amount: NotZero
    kind: Literal["deposit", "withdrawal", "funding", "other"] | None = None
    account: Name | None = None
    isolated: Name | None = None
    currency: Name | None = None
    dex: str | None = None
    source: Annotated[Pool | None, BeforeValidator(_pool), Field(alias="from")] = None
    target: Annotated[Pool | None, BeforeValidator(_pool), Field(alias="to")] = None

    @model_validator(mode="after")
    def _has_one_form(self) -> Transfer:
        move = (self.source is not None, self.target is not None)
        flow = any(v is not None for v in (self.account, self.isolated, self.currency, self.dex, self.kind))
        if move == (True, True) and not flow:
            if self.amount.mantissa < 0:
                fault("moves a negative amount", "exchange `from` and `to`")
        elif any(move) or self.account is None:
            fault("is neither a flow nor a move", "give `account`, or `from` and `to`")
        elif self.kind == ("withdrawal" if self.amount.mantissa > 0 else "deposit"):
            fault(f"the amount of this {self.kind} has the wrong sign", "into a pool is +, out of it is -")
        return self


class Funding(Entry):
    """``[[funding]]``: longs pay ``rate`` of their notional at mark to shorts."""

    at: At
    market: Name
    rate: Exact


class Liquidation(Entry):
    """``[[liquidations]]``: a leg of a recorded liquidation report; legs of one report share ``id``."""

    at: At
    account: Name
    market: Name | None = None
    id: Name | None = None
    qty: NotZero | None = None
    price: Positive | None = None
    price_kind: Literal["fill", "order_limit", "bankruptcy", "mark"] | None = None
    mode: Name = "Cross"
    method: Name | None = None
    notional: NotNegative | None = None
    equity: Exact | None = None
    mark: Positive | None = None

    @model_validator(mode="after")
    def _has_market(self) -> Liquidation:
        if self.market is None and (self.qty or self.price or self.mark):
            fault("has a qty, price or mark without a `market`", "name the market of the leg")
        if (self.price is None) != (self.price_kind is None):
            fault("has only one of price and price_kind", 'price_kind says what the price is, e.g. "fill"')
        return self


class Depth(Entry):
    """``[[depth]]``: a snapshot of the book, levels as (price, quantity), best first."""

    at: At
    market: Name
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()

    @model_validator(mode="after")
    def _has_levels(self) -> Depth:
        if not (self.bids or self.asks):
            fault("has no level", "an empty book cannot be written on a tape; give bids or asks")
        return self


class Scenario(Entry):
    """A day written by hand."""

    venue: Name
    start: Start
    currency: Name = "USDC"
    accounts_start: Literal["known", "unknown"] = "known"
    markets: Annotated[tuple[Market, ...], Field(min_length=1)]
    accounts: tuple[Account, ...] = ()
    funds: tuple[Fund, ...] = ()
    marks: tuple[Mark, ...] = ()
    trades: tuple[Trade, ...] = ()
    fills: tuple[Fill, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    funding: tuple[Funding, ...] = ()
    liquidations: tuple[Liquidation, ...] = ()
    depth: tuple[Depth, ...] = ()
