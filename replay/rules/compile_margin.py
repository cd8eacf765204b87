"""From the margin section of a rule book to columns per market: tiers, what picks them, and what grows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from replay.errors import RulesError
from replay.rules.margin import (
    FactorMargin,
    FlatMargin,
    Margin,
    MarginTable,
    RootsMargin,
    ShareMargin,
    SizesMargin,
    StepsMargin,
    StepsTable,
    WeightsMargin,
    WeightsTable,
    exact_deductions,
    table_of,
    tables_of,
)
from replay.rules.model import RuleBook
from replay.rules.plan import BY_ENTRY, BY_NOTIONAL, BY_SIZE
from replay.tape.schema import Payoff
from replay.units import ATOM, RATE_ONE, RATE_SCALE, format_units

if TYPE_CHECKING:
    from replay.tape.read import Market

Tier = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class MarketMargin:
    """The margin of one market; see :class:`replay.rules.plan.Plan` for the meaning of each.

    Attributes:
        tiers: ``(from, rate, deduction)``, rising; none for a spot market.
        basis: ``BY_NOTIONAL``, ``BY_ENTRY`` or ``BY_SIZE``.
        growth: What a whole unit of size adds to the rate, in 1e-12.
        root: Factor of the root of the size, in 1e-12; 0: none.
        unit: Quantity units in a unit of the underlying or a contract, as (num, den).
        least: Least maintenance of a position in atoms.
        short_rate: The rate of shorts, in 1e-12; 0: that of the tiers.
    """

    tiers: tuple[Tier, ...]
    basis: int = BY_NOTIONAL
    growth: int = 0
    root: int = 0
    unit: tuple[int, int] = (1, 1)
    least: int = 0
    short_rate: int = 0


def margin_of(book: RuleBook, market: Market, ledgers: Sequence[tuple[str, str]]) -> MarketMargin:
    """Compile the margin of a market; :func:`check_rates` was called before.

    Raises:
        RulesError: No table is for it.
    """
    margin = book.rules.margin
    if market.payoff == Payoff.SPOT:
        return MarketMargin(())
    fee, least = margin.exit_fee or 0, margin.least or 0
    if isinstance(margin, FlatMargin):
        return MarketMargin(((0, margin.rate + fee, 0),), least=least)
    key, tables = tables_of(margin)
    index = table_of(tables, market.name, ledgers[market.ledger][1])
    if index is None:
        raise _no_table(book, key, market, ledgers[market.ledger][1])
    basis, unit = _basis(margin.size_basis, market)
    if isinstance(margin, StepsMargin):
        return MarketMargin(_steps(margin.steps[index], fee), least=least)
    if isinstance(margin, SizesMargin):
        sizes = margin.sizes[index]
        return MarketMargin(((0, sizes.base_rate + fee, 0),), basis, sizes.rate_per_unit, 0, unit, least)
    if isinstance(margin, RootsMargin):
        roots = margin.roots[index]
        return MarketMargin(((0, roots.base_rate, 0),), basis, 0, roots.factor, unit, least)
    if isinstance(margin, WeightsMargin):
        weights = margin.weights[index]
        long, short = RATE_ONE - weights.long + fee, weights.short - RATE_ONE + fee
        return MarketMargin(((0, long, 0),), least=least, short_rate=short)
    tiers = margin.tables[index].tiers
    rates = [tier.rate + fee for tier in tiers]
    starts = [tier.start for tier in tiers]
    deductions = [tier.deduction or 0 for tier in tiers]
    if isinstance(margin, ShareMargin):
        rates = [tier.rate * margin.share // RATE_ONE + fee for tier in tiers]
        shared = tuple(
            tier.model_copy(update={"rate": rate}) for tier, rate in zip(tiers, rates, strict=True)
        )
        deductions = [exact // RATE_ONE for exact in exact_deductions(shared)]
    if isinstance(margin, FactorMargin):
        rates = [-(-tier.rate // margin.leverage) + fee for tier in tiers]
    if basis == BY_SIZE:
        starts = [-(-start * unit[0] // (ATOM * unit[1])) for start in starts]
    return MarketMargin(tuple(zip(starts, rates, deductions, strict=True)), basis, unit=unit, least=least)


def check_rates(book: RuleBook) -> None:
    """Refuse a rate above 1: the search for breaches needs maintenance to rise no faster than value."""
    margin = book.rules.margin
    fee = margin.exit_fee or 0
    if fee and isinstance(margin, RootsMargin):
        raise book.refusal(
            "margin.exit_fee",
            "the shape sqrt_size takes a part of the base rate, which is not to hold a fee",
            "take exit_fee out",
        )
    for key, rate in _rates(margin):
        if rate + fee > RATE_ONE:
            raise book.refusal(
                key,
                f"a maintenance rate of {format_units(rate + fee, RATE_SCALE)} is above 1",
                "rates are shares of notional: 1 % is 0.01; the sum of all rates on a position is at most 1",
            )


def _rates(margin: Margin) -> Iterator[tuple[str, int]]:
    """Yield each key with the highest rate it stands for; those that grow with the size are cut at 1."""
    if isinstance(margin, FlatMargin):
        yield "margin.rate", margin.rate
        return
    key, tables = tables_of(margin)
    for index, table in enumerate(tables):
        if isinstance(table, StepsTable):
            yield f"{key}.{index}.steps", table.base_rate + table.steps * table.step_rate
        elif isinstance(table, MarginTable):
            for number, tier in enumerate(table.tiers):
                yield f"{key}.{index}.tiers.{number}.rate", tier.rate
        elif isinstance(table, WeightsTable):
            yield f"{key}.{index}.long", RATE_ONE - table.long
            yield f"{key}.{index}.short", table.short - RATE_ONE
        else:
            yield f"{key}.{index}.base_rate", table.base_rate


def _steps(table: StepsTable, fee: int) -> tuple[Tier, ...]:
    """Return risk steps as tiers: a step begins with the first atom above the limit of the one before."""
    above = [
        (
            table.base_limit + (number - 1) * table.step + 1,
            table.base_rate + number * table.step_rate + fee,
            0,
        )
        for number in range(1, table.steps + 1)
    ]
    return ((0, table.base_rate + fee, 0), *above)


def _basis(size_basis: str, market: Market) -> tuple[int, tuple[int, int]]:
    """Return what a size basis measures in a market, and how many of its whole numbers are one unit.

    The quantity of the underlying in an inverse contract is its value in the coin; that at entry counts.
    """
    if size_basis == "contracts":
        return BY_SIZE, (10**market.qty_scale, 1)
    if size_basis == "base_size" and market.payoff != Payoff.INVERSE:
        unit = Fraction(10**market.qty_scale) / market.multiplier
        return BY_SIZE, (unit.numerator, unit.denominator)
    return (BY_NOTIONAL if size_basis == "notional_mark" else BY_ENTRY), (ATOM, 1)


def _no_table(book: RuleBook, key: str, market: Market, currency: str) -> RulesError:
    listed = "; ".join(
        f"{', '.join(table.markets or ('all others',))} in {', '.join(table.currencies)}"
        for table in tables_of(book.rules.margin)[1]
    )
    return book.refusal(
        key,
        f"no table is for market {market.name} of the tape, which settles in {currency}",
        f"write a [[{key}]] with currencies = [{json.dumps(currency)}], with or without markets; "
        f"the tables there are: {listed}",
    )
