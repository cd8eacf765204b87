"""The three CSV files of Hyperliquid's closed alpha (February to May 2023), published by the venue.

``non_mm_trades.csv`` lists fills of everybody but the market makers, ``non_mm_ledger_updates.csv``
deposits and withdrawals, ``liquidations.csv`` one row per liquidated account. They are told apart by
their headers and read side by side in order of time, each line once.

A liquidation names no market. Its legs are found by a running position of each (user, coin): in the
second of the liquidation, the resting fills that reduced a position of the user which stands at zero
after that second. They are takeovers off the book, at the bankruptcy price. The account that took them
over was no market maker: its row of the same second, coin, price and size is the other row of the match.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from replay.sources._read import Lines, Progress, name_inputs
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid import Outcome
from replay.sources.hyperliquid_alpha_rows import (
    LIQUIDATIONS,
    TRADES,
    TRANSFERS,
    AlphaRows,
    Liquidation,
    Trade,
    Transfer,
    identify,
)
from replay.tape.schema import MAIN_DEX, FillKind, Grade, Mode, PriceKind, Role, TransferKind
from replay.tape.write import TapeWriter
from replay.units import MAX_SCALE, MONEY_SCALE, divide_half_even

_DOLLAR = "USDC"
_FINEST = 10**MAX_SCALE
_BATCH_ROWS = 16_384
_MARK_DIGITS = 8


class _Leg(NamedTuple):
    """A position that a liquidation took over: its coin, signed size in 1e-18, and price if there is one."""

    coin: str
    size: int
    price: tuple[int, int] | None


def _seconds(rows: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Group rows in order of time by their moment."""
    group: list[Any] = []
    for row in rows:
        if group and row.ts != group[0].ts:
            yield group[0].ts, group
            group = []
        group.append(row)
    if group:
        yield group[0].ts, group


def read_alpha(inputs: Sequence[Path], writer: TapeWriter, rejects: Rejects, progress: Progress) -> Outcome:
    """Read the three files onto a tape.

    Raises:
        SourceError: A file that is missing or cannot be read, or a row that cannot be understood while
            rows are not set aside.
    """
    tables = identify(inputs)
    names = name_inputs(inputs)
    tape = _Tape(writer)
    with ExitStack() as stack:
        rows = {
            table: AlphaRows(table, stack.enter_context(Lines(tables[table], names[tables[table]])), rejects)
            for table in (TRANSFERS, TRADES, LIQUIDATIONS)
        }
        for transfer in rows[TRANSFERS]:
            tape.add_transfer(transfer)
        progress.read(rows[TRANSFERS].lines)
        reports = _seconds(iter(rows[LIQUIDATIONS]))
        due = next(reports, None)
        for ts, trades in _seconds(iter(rows[TRADES])):
            while due is not None and due[0] < ts:
                tape.add_second(due[0], [], due[1])
                due = next(reports, None)
            now: list[Any] = []
            if due is not None and due[0] == ts:
                now = due[1]
                due = next(reports, None)
            tape.add_second(ts, trades, now)
            progress.reading(rows[TRADES].lines)
        while due is not None:
            tape.add_second(due[0], [], due[1])
            due = next(reports, None)
        for table in (TRADES, LIQUIDATIONS):
            progress.read(rows[table].lines)
        tape.finish()
        sources = [part.lines.provenance() for part in rows.values()]
    return Outcome(sources, tape.counts, sum(part.count for part in rows.values()))


@dataclass(slots=True)
class _Columns:
    """Rows of one table waiting to be appended."""

    table: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, writer: TapeWriter, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) >= _BATCH_ROWS:
            self.flush(writer)

    def flush(self, writer: TapeWriter) -> None:
        if self.rows:
            writer.append(self.table, {key: [row[key] for row in self.rows] for key in self.rows[0]})
            self.rows.clear()


class _Tape:
    """Follows positions second by second and appends rows to the tape's tables."""

    def __init__(self, writer: TapeWriter) -> None:
        self._writer = writer
        self._ledger = writer.ledger(MAIN_DEX, _DOLLAR)
        self._positions: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._funded_at: dict[str, int] = {}
        self._unfunded: set[str] = set()
        self._traded: set[str] = set()
        self._liquidations = 0
        self._buffers = {name: _Columns(name) for name in ("transfers", "prices", "fills", "liquidations")}
        self.counts = dict.fromkeys(
            (
                "fills",
                "forced fills",
                "forced fills with both rows",
                "transfers",
                "liquidations",
                "liquidations of isolated positions",
                "liquidations without forced fills",
                "liquidations of several markets",
                "implied marks",
                "implied marks rounded",
                "implied marks left out beside other positions",
                "accounts that traded before any deposit",
                "amounts rounded",
            ),
            0,
        )

    def _add(self, table: str, row: dict[str, Any]) -> None:
        self._buffers[table].add(self._writer, row)

    def add_transfer(self, transfer: Transfer) -> None:
        """Append a deposit or withdrawal."""
        self.counts["transfers"] += 1
        self.counts["amounts rounded"] += transfer.rounded
        if transfer.amount > 0:
            self._funded_at.setdefault(transfer.user, transfer.ts)
        self._add(
            "transfers",
            {
                "ts": transfer.ts,
                "account": self._writer.account(transfer.user),
                "ledger": self._ledger,
                "amount": transfer.amount,
                "kind": int(TransferKind.DEPOSIT if transfer.amount >= 0 else TransferKind.WITHDRAWAL),
            },
        )

    def add_second(self, ts: int, trades: list[Trade], liquidations: list[Liquidation]) -> None:
        """Append the fills of one second, and the liquidations reported in it with the legs found."""
        victims = {row.user for row in liquidations}
        before = {user: dict(self._positions[user]) for user in victims}
        for trade in trades:
            held = self._positions[trade.user]
            held[trade.coin] = held.get(trade.coin, 0) + trade.size
            if held[trade.coin] == 0:
                del held[trade.coin]
        forced = {place for user in victims for place in self._forced(user, before[user], trades)}
        takers = _takers(trades, sorted(forced))
        victim_of = {place: trades[place].user for place in forced}
        victim_of |= {taker: trades[place].user for place, taker in takers.items()}
        match_of = {place: self.counts["fills"] + place for place in takers}
        match_of |= {taker: self.counts["fills"] + place for place, taker in takers.items()}
        self.counts["forced fills"] += len(forced)
        self.counts["forced fills with both rows"] += len(takers)
        for place, trade in enumerate(trades):
            self._add_fill(trade, victim=victim_of.get(place), match=match_of.get(place))
        seen: set[str] = set()
        for row in liquidations:
            legs = (
                []
                if row.user in seen
                else _legs([trades[p] for p in sorted(forced) if trades[p].user == row.user])
            )
            seen.add(row.user)
            coins = before[row.user].keys() | self._positions[row.user].keys()
            self._add_liquidation(row, legs, others=not coins <= {leg.coin for leg in legs})

    def _forced(self, user: str, before: dict[str, int], trades: list[Trade]) -> list[int]:
        """Find the places of resting fills that took a position of a user to zero by the end of a second."""
        found = []
        held = dict(before)
        now = self._positions[user]
        for place, trade in enumerate(trades):
            if trade.user == user:
                position = held.get(trade.coin, 0)
                held[trade.coin] = position + trade.size
                if not trade.crossed and position * trade.sign < 0 and trade.coin not in now:
                    found.append(place)
        return found

    def _add_fill(self, trade: Trade, *, victim: str | None, match: int | None) -> None:
        user = trade.user
        account = self._writer.account(user)
        if user not in self._traded:
            self._traded.add(user)
            if self._funded_at.get(user, trade.ts + 1) > trade.ts:
                self._unfunded.add(user)
        self.counts["fills"] += 1
        self._add(
            "fills",
            {
                "ts": trade.ts,
                "market": self._writer.market(trade.coin, settle=_DOLLAR),
                "account": account,
                "qty": trade.sign * trade.quantity[0],
                "qty_digits": trade.quantity[1],
                "price": trade.price[0],
                "price_digits": trade.price[1],
                "fee": 0,
                "fee_ledger": self._ledger,
                "role": int(Role.TAKER if trade.crossed else Role.MAKER),
                "kind": int(FillKind.TRADE if victim is None else FillKind.BACKSTOP),
                "match": match,
                "paired": int(match is not None),
                "victim": None if victim is None else self._writer.account(victim),
                "mode": int(Mode.CROSS),
            },
        )

    def _add_liquidation(self, row: Liquidation, legs: list[_Leg], *, others: bool) -> None:
        """Append the legs of a liquidation; ``others`` tells that the account held more than these."""
        self.counts["liquidations"] += 1
        self.counts["liquidations of isolated positions"] += row.mode == "Isolated"
        self.counts["liquidations without forced fills"] += not legs
        self.counts["liquidations of several markets"] += len(legs) > 1
        self.counts["amounts rounded"] += row.rounded
        mark: tuple[int, int] | None = None
        if len(legs) == 1:
            if others:
                self.counts["implied marks left out beside other positions"] += 1
            else:
                mark = self._implied(row, legs[0])
        for leg in legs or (None,):
            quantity = None if leg is None else _least(leg.size, MAX_SCALE)
            price = None if leg is None else leg.price
            self._add(
                "liquidations",
                {
                    "ts": row.ts,
                    "liquidation": self._liquidations,
                    "account": self._writer.account(row.user),
                    "market": None if leg is None else self._writer.market(leg.coin, settle=_DOLLAR),
                    **_pair("qty", quantity),
                    **_pair("price", price),
                    "price_kind": None if price is None else "fill",
                    "mode": row.mode,
                    "notional": row.notional,
                    "equity": row.equity,
                    **_pair("mark", mark),
                },
            )
        self._liquidations += 1

    def _implied(self, row: Liquidation, leg: _Leg) -> tuple[int, int]:
        """Append the mark that recorded notional and the size taken over imply, and return it."""
        exact = Fraction(row.notional, 10**MONEY_SCALE) / Fraction(abs(leg.size), _FINEST) * 10**_MARK_DIGITS
        self.counts["implied marks"] += 1
        self.counts["implied marks rounded"] += exact.denominator != 1
        mark = _least(divide_half_even(exact.numerator, exact.denominator), _MARK_DIGITS)
        market = self._writer.market(leg.coin, settle=_DOLLAR)
        self._add(
            "prices", {"ts": row.ts, "market": market, **_pair("price", mark), "kind": int(PriceKind.IMPLIED)}
        )
        return mark

    def finish(self) -> None:
        """Append what waits, and the accounts whose cash is not on the tape from its beginning."""
        for buffer in self._buffers.values():
            buffer.flush(self._writer)
        accounts = sorted(self._writer.account(user) for user in self._unfunded)
        self.counts["accounts that traded before any deposit"] = len(accounts)
        if accounts:
            rows = len(accounts)
            self._writer.append(
                "accounts",
                {
                    "account": accounts,
                    "ledger": [self._ledger] * rows,
                    "cash": [0] * rows,
                    "grade": [int(Grade.UNKNOWN)] * rows,
                },
            )


def _takers(trades: list[Trade], forced: list[int]) -> dict[int, int]:
    """Find the other row of forced fills: another user's crossing fill of the same match, each used once."""
    found: dict[int, int] = {}
    free = {place for place, trade in enumerate(trades) if trade.crossed}
    for place in forced:
        mine = trades[place]
        for other in sorted(free):
            trade = trades[other]
            same = (trade.coin, trade.price, trade.size) == (mine.coin, mine.price, -mine.size)
            if same and trade.user != mine.user:
                found[place] = other
                free.remove(other)
                break
    return found


def _legs(fills: list[Trade]) -> list[_Leg]:
    """Add up the forced fills of one user, a leg per coin in order of appearance."""
    legs = []
    for coin in dict.fromkeys(fill.coin for fill in fills):
        parts = [fill for fill in fills if fill.coin == coin]
        prices = {fill.price for fill in parts}
        legs.append(_Leg(coin, sum(fill.size for fill in parts), prices.pop() if len(prices) == 1 else None))
    return legs


def _least(mantissa: int, digits: int) -> tuple[int, int]:
    """Drop trailing zeros of the fraction."""
    while digits and mantissa % 10 == 0:
        mantissa //= 10
        digits -= 1
    return mantissa, digits


def _pair(name: str, number: tuple[int, int] | None) -> dict[str, int | None]:
    mantissa, digits = (None, None) if number is None else number
    return {name: mantissa, f"{name}_digits": digits}
