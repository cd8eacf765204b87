"""The margin of a pool at a moment of a run, as arithmetic: equity, maintenance, prices, rank.

The moments are those a run keeps of an account: each breach (``liquidations``), and the samples of
``account_series``. All figures are integers of the run; what is worked out from them is checked against what
the run recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

from replay.analysis.bench import Bench, Need, money
from replay.analysis.liquidation_mark import first_breach
from replay.loop.policies.allocate import largest_remainder
from replay.rules.formulas import liquidation_price
from replay.rules.formulas.contract import Payoff, price_at, value_at
from replay.tape.read import Market
from replay.tape.schema import Mode
from replay.tape.schema import Payoff as Kind
from replay.units import RATE_ONE

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Liquidation:
    """The liquidation price of a position, all other marks held still.

    Attributes:
        mark: First mark in breach in units of its scale; None where no mark above zero changes the judgement.
        collateral: Equity less the maintenance of the other positions, in atoms.
        rate: Rate that applies there, in 1e-12.
        deduction: Deduction there, in atoms; negative where the least maintenance binds.
        exact: The price at which equity equals maintenance at that rate; None where there is none.
        jump: Whether equity and maintenance never are equal: maintenance jumps over it between two tiers.
    """

    mark: int | None
    collateral: int
    rate: int
    deduction: int
    exact: Fraction | None
    jump: bool


@dataclass(frozen=True, slots=True)
class Leg:
    """A position of a pool at a moment.

    Attributes:
        market: Its market.
        size: Signed size in units of quantity.
        mark: The mark in units of its scale.
        cost: Signed entry value in atoms; None where the run does not keep it.
        value: Signed value at the mark in atoms.
        need: Its maintenance.
        liquidation: Where the pool comes into breach through it.
        share: What of the equity it may lose, in atoms.
        exit_fee: What the bankruptcy value holds for the fee to close, in atoms.
        bankruptcy_value: Its value less the share, and that fee: what it is closed for at bankruptcy, in atoms.
        bankruptcy_price: That over the size; None where no price is worth it.
        rank: In the queue of deleveraging, from 1; None if no candidate, or at a breach.
        candidates: Of how many.
        lights: Lights lit.
    """

    market: Market
    size: int
    mark: int
    cost: int | None
    value: int
    need: Need
    liquidation: Liquidation
    share: int
    exit_fee: int
    bankruptcy_value: int
    bankruptcy_price: Fraction | None
    rank: int | None
    candidates: int | None
    lights: int | None


@dataclass(frozen=True, slots=True)
class Worksheet:
    """A pool at a moment.

    Attributes:
        ts: The moment, in ns.
        what: ``breach`` or ``sample``.
        isolated: Whether the pool is that of one isolated position.
        currency: Of its cash.
        cash: Its cash in atoms; where entry values are unknown, its cash less all of them.
        equity: Equity in atoms, as the run recorded it.
        maintenance: Maintenance in atoms, as the run recorded it.
        breached: Whether it is in breach under the rules.
        allocation: How its equity is shared over its positions, see ``bankruptcy.allocation``.
        legs: Its positions.
    """

    ts: int
    what: str
    isolated: bool
    currency: str
    cash: int
    equity: int
    maintenance: int
    breached: bool
    allocation: str
    legs: tuple[Leg, ...]

    @property
    def entries_known(self) -> bool:
        """Return whether the entry values are known, so that cash and profit are told apart."""
        return all(leg.cost is not None for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Untold:
    """A pool at a moment whose arithmetic the run does not hold: its markets, and why."""

    ts: int
    markets: tuple[str, ...]
    reason: str


def worksheets(
    bench: Bench, ledgers: Sequence[tuple[str, str]], rows: Sequence[Row]
) -> list[Worksheet | Untold]:
    """Return one worksheet per pool and moment.

    Args:
        bench: Rules and markets of the run.
        ledgers: (dex, currency) of the run by id.
        rows: Integer rows of ``account_series``, or of ``liquidations`` (which have no ``cost``), of one
            account; those of one moment and pool together.
    """
    return [_worksheet(bench, ledgers, list(group)) for _, group in groupby(rows, _pool_of)]


def _pool_of(row: Row) -> tuple[Any, ...]:
    alone = row["market"] if row["mode"] == Mode.ISOLATED else None
    return row["ts"], row["ledger"], alone, row.get("liquidation")


def _worksheet(bench: Bench, ledgers: Sequence[tuple[str, str]], rows: list[Row]) -> Worksheet | Untold:
    ts, equity, maintenance = rows[0]["ts"], rows[0]["equity"], rows[0]["maintenance"]
    names = tuple(bench.markets[row["market"]].name for row in rows)
    is_breach = "bankruptcy_value" in rows[0]
    if equity is None or maintenance is None:
        return Untold(ts, names, "the equity of the pool is not known, so it is not judged")
    if is_breach and any(bench.by_entry(row["market"]) for row in rows):
        reason = "maintenance goes by the entry value, which the run does not keep of a breach"
        return Untold(ts, names, reason)
    costs = [0 if is_breach else row["cost"] for row in rows]
    values = [bench.value(row["market"], row["size"], row["mark"]) for row in rows]
    needs = [
        bench.need(row["market"], row["size"], cost, row["mark"])
        for row, cost in zip(rows, costs, strict=True)
    ]
    rate = bench.rules.bankruptcy.fee_rate or 0
    if is_breach:
        bankrupt = [row["bankruptcy_value"] for row in rows]
        worths = [value - _exit_fee(value, rate) for value in bankrupt]
    else:
        worths = _worths(bench.rules.bankruptcy.allocation, equity, values, costs, needs)
        bankrupt = [_with_exit_fee(worth, rate) for worth in worths]
    shares = [value - worth for value, worth in zip(values, worths, strict=True)]
    unknown = len(rows) if rate and is_breach else 0  # an atom of each fee may be lost to rounding
    if sum(need.result for need in needs) != maintenance or abs(sum(shares) - equity) > unknown:
        return Untold(ts, names, "the positions the run keeps do not add up to the pool it judged")
    legs = tuple(
        _leg(bench, row, cost, need, share, value, equity - maintenance)
        for row, cost, need, share, value in zip(rows, costs, needs, shares, bankrupt, strict=True)
    )
    return Worksheet(
        ts,
        "breach" if is_breach else "sample",
        rows[0]["mode"] == Mode.ISOLATED,
        ledgers[rows[0]["ledger"]][1],
        equity - sum(values) + sum(costs),
        equity,
        maintenance,
        equity - maintenance < bench.least_slack,
        bench.rules.bankruptcy.allocation,
        legs,
    )


def _worths(
    allocation: str, equity: int, values: list[int], costs: list[int], needs: list[Need]
) -> list[int]:
    """Return what each position is closed for without a fee, as :mod:`replay.loop.bankruptcy` does."""
    if allocation == "all":
        profits = [value - cost for value, cost in zip(values, costs, strict=True)]
        bearer = profits.index(min(profits))
        return [value - equity * (place == bearer) for place, value in enumerate(values)]
    if allocation == "isolated":
        cash = equity - sum(values) + sum(costs)
        margins = _split(cash, [abs(cost) for cost in costs])
        return [cost - margin for cost, margin in zip(costs, margins, strict=True)]
    shares = _split(equity, [need.result for need in needs])
    return [value - share for value, share in zip(values, shares, strict=True)]


def _split(amount: int, weights: list[int]) -> list[int]:
    weights = weights if any(weights) else [1] * len(weights)
    parts = largest_remainder(abs(amount), weights, [abs(amount)] * len(weights)).tolist()
    return [int(part) if amount >= 0 else -int(part) for part in parts]


def _exit_fee(value: int, rate: int) -> int:
    """Return the fee of closing for a value, rounded up."""
    return math.ceil(Fraction(abs(value) * rate, RATE_ONE))


def _with_exit_fee(worth: int, rate: int) -> int:
    """Return the value whose amount after the fee on it is ``worth``."""
    return math.ceil(Fraction(worth * RATE_ONE, RATE_ONE - rate if worth > 0 else RATE_ONE + rate))


def _leg(bench: Bench, row: Row, cost: int, need: Need, share: int, worth: int, slack: int) -> Leg:
    number, size, mark = row["market"], row["size"], row["mark"]
    market = bench.markets[number]
    value = bench.value(number, size, mark)
    rest = slack - (value - cost - need.result)
    return Leg(
        market,
        size,
        mark,
        row.get("cost"),
        value,
        need,
        _liquidation(bench, number, size, cost, mark, rest),
        share,
        worth - (value - share),
        worth,
        price_at(payoff_of(market), size_of(market, size), money(worth), market.multiplier),
        row.get("rank"),
        row.get("candidates"),
        row.get("lights"),
    )


def _liquidation(bench: Bench, number: int, size: int, cost: int, mark: int, rest: int) -> Liquidation:
    market = bench.markets[number]
    collateral = rest + bench.value(number, size, mark) - cost
    at = first_breach(bench, number, size, cost, mark, rest)
    rate, deduction = bench.need(number, size, cost, mark if at is None else at).line
    exact = None
    if rate < RATE_ONE or (size > 0) == (market.payoff == Kind.INVERSE):  # else no value is enough
        exact = liquidation_price.at_mark(
            payoff_of(market),
            size_of(market, size),
            mark_of(market, mark),
            money(collateral),
            Fraction(rate, RATE_ONE),
            deduction=money(deduction),
            multiplier=market.multiplier,
        )
    jump = False
    if at is not None:
        healthy = at + (1 if size > 0 else -1)
        changes = bench.tier(number, size, cost, at) != bench.tier(number, size, cost, healthy)
        off = exact is None or abs(exact - mark_of(market, at)) > Fraction(1, 10**market.mark_scale)
        jump = changes and off
    reached = exact if at is not None and exact is not None and exact > 0 else None
    return Liquidation(at, collateral, rate, deduction, reached, jump)


def payoff_of(market: Market) -> Payoff:
    """Return the payoff as the formulas call it."""
    return "inverse" if market.payoff == Kind.INVERSE else "linear"


def size_of(market: Market, size: int) -> Fraction:
    """Return a size in contracts or units of the underlying."""
    return Fraction(size, 10**market.qty_scale)


def mark_of(market: Market, mark: int) -> Fraction:
    """Return a mark as a price."""
    return Fraction(mark, 10**market.mark_scale)


def sought_value(leg: Leg) -> Fraction | None:
    """Return the value of a position at its exact liquidation price."""
    exact = leg.liquidation.exact
    if exact is None:
        return None
    return value_at(payoff_of(leg.market), size_of(leg.market, leg.size), exact, leg.market.multiplier)
