"""``[margin]``: how much a position has to keep: flat, by tiers of its value, or growing with its size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, field_validator

from replay.rules.numbers import (
    Count,
    Fee,
    Money,
    Multiple,
    Part,
    PositiveMoney,
    Rate,
    Section,
    Sentence,
    not_empty,
    problem,
)
from replay.units import MONEY_SCALE, RATE_ONE, RATE_SCALE, format_units


class Tier(Section):
    """``[[margin.tiers]]``: the rate from a notional upwards, until the next tier begins."""

    start: Money = Field(alias="from", description='the notional it begins at, such as "50000"')
    rate: Rate = Field(description='maintenance as a share of notional, such as "0.01"')
    deduction: Money | None = Field(default=None, description="money taken off maintenance in this tier")


class _Margin(Section):
    shape: str
    size_basis: Literal["notional_mark"]
    hedge_basis: Literal["net"]
    scope: Literal["cross_account"]
    exit_fee: Fee | None = Field(
        default=None,
        description='the fee of closing that maintenance holds, as a share of notional, such as "0.0005"',
    )
    least: PositiveMoney | None = Field(
        default=None, description='the least maintenance of a position in its currency, such as "10"'
    )


class FlatMargin(_Margin):
    """``[margin]`` of shape ``flat``: maintenance is ``rate * notional``."""

    shape: Literal["flat"]
    rate: Rate = Field(description='maintenance as a share of notional, such as "0.01"')


ANY_CURRENCY = "*"
"""Stands in a table for every settle currency that no other table names."""


class _Table(Section):
    markets: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] | None = Field(
        default=None, description='the markets it is for, such as ["BTC"]; left out: all others'
    )
    currencies: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description='the settle currencies its notional may be in, such as ["USDC"]; ["*"]: all others'
    )

    def fits(self, market: str | None, currency: str) -> bool:
        """Tell whether it is written for a market (None: for those no table names) settled in a currency."""
        names = (None,) if self.markets is None else self.markets
        return market in names and currency in self.currencies


class MarginTable(_Table):
    """``[[margin.tables]]``: the tiers of some markets, or of all that no other table names."""

    tiers: Annotated[tuple[Tier, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description="a [[margin.tables.tiers]] table for each tier, the first from 0"
    )

    @field_validator("tiers")
    @classmethod
    def _fit(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        """Check that tiers neither leave a gap nor overlap nor fall."""
        if tiers[0].start != 0:
            raise problem(
                f"the first tier begins at {format_units(tiers[0].start, MONEY_SCALE)}: below it is a gap",
                "the first tier begins at 0",
                "0.from",
            )
        for index in range(1, len(tiers)):
            lower, tier = tiers[index - 1], tiers[index]
            if tier.start <= lower.start:
                raise problem(
                    f"tier {index} begins at {format_units(tier.start, MONEY_SCALE)}, inside or below tier "
                    f"{index - 1} (from {format_units(lower.start, MONEY_SCALE)}): they overlap",
                    "write the tiers in rising order, each from a larger notional",
                    f"{index}.from",
                )
            if tier.rate < lower.rate:
                raise problem(
                    f"the rate falls from {format_units(lower.rate, RATE_SCALE)} to "
                    f"{format_units(tier.rate, RATE_SCALE)} in tier {index}",
                    "a tier's rate is at least that of the tier below",
                    f"{index}.rate",
                )
        return tiers


class StepsTable(_Table):
    """``[[margin.steps]]``: risk limits of some markets, a rate that rises with each step of value.

    Source: venue-rules.md section 5; :func:`replay.rules.formulas.maintenance.risk_steps`.
    """

    base_limit: PositiveMoney = Field(
        description='the notional up to which the base rate holds, such as "200"'
    )
    base_rate: Rate = Field(description='the rate up to the base limit, such as "0.004"')
    step: PositiveMoney = Field(description='the notional of a step, such as "100"')
    step_rate: Rate = Field(description='what a full or begun step adds to the rate, such as "0.004"')
    steps: Count = Field(description='how many steps there are, such as "10"')


class SizesTable(_Table):
    """``[[margin.sizes]]``: some markets, whose rate grows with the size in units of the underlying.

    Source: venue-rules.md section 6; :func:`replay.rules.formulas.maintenance.linear_size`.
    """

    base_rate: Rate = Field(description='the rate of the smallest position, such as "0.01"')
    rate_per_unit: Rate = Field(description='what a whole unit adds to the rate, such as "0.00005"')


class RootsTable(_Table):
    """``[[margin.roots]]``: some markets, whose rate grows with the root of the size.

    Source: venue-rules.md section 8.1; :func:`replay.rules.formulas.maintenance.sqrt_size`.
    """

    base_rate: Rate = Field(description='the least rate, such as "0.05"')
    factor: Rate = Field(description='what the root of ten times the size adds, such as "0.0001"')


_SomeTable = TypeVar("_SomeTable", bound=_Table)


class WeightsTable(_Table):
    """``[[margin.weights]]``: some markets, of whose value a long counts less and a short more.

    Health is the sum of amount x price x weight, so a long lacks ``1 - long`` of its value and a short
    ``short - 1``. Source: venue-rules.md section 10.1.
    """

    long: Part = Field(description='the weight of a long, below 1, such as "0.95"')
    short: Multiple = Field(description='the weight of a short, above 1 and at most 2, such as "1.05"')

    @field_validator("long")
    @classmethod
    def _below_one(cls, long: int) -> int:
        if long == RATE_ONE:
            raise problem("a long of weight 1 has no maintenance", "write a weight below 1")
        return long

    @field_validator("short")
    @classmethod
    def _above_one(cls, short: int) -> int:
        if not RATE_ONE < short <= 2 * RATE_ONE:
            raise problem(
                f"a short of weight {format_units(short, RATE_SCALE)}", "write a weight above 1, at most 2"
            )
        return short


def _one_each(tables: tuple[_SomeTable, ...]) -> tuple[_SomeTable, ...]:
    """Check that no market and currency has two tables."""
    seen: dict[tuple[str | None, str], int] = {}
    for index, table in enumerate(tables):
        for market in (None,) if table.markets is None else table.markets:
            for currency in table.currencies:
                other = seen.setdefault((market, currency), index)
                if other != index:
                    whose = "all other markets" if market is None else market
                    raise problem(
                        f"tables {other} and {index} are both for {whose} settled in {currency}",
                        "name each market and currency once; one table without markets is for all others",
                        f"{index}.{'currencies' if market is None else 'markets'}",
                    )
    return tables


def table_of(tables: Sequence[_Table], market: str, currency: str) -> int | None:
    """Return the index of a market's table: the one that names it, else the one for all others.

    Of each kind one that names the currency goes before one for all others (:data:`ANY_CURRENCY`).
    """
    for name in (market, None):
        for settle in (currency, ANY_CURRENCY):
            for index, table in enumerate(tables):
                if table.fits(name, settle):
                    return index
    return None


_OneEach = Annotated[
    tuple[_SomeTable, ...], Field(strict=False), AfterValidator(not_empty), AfterValidator(_one_each)
]
_TABLES = "a [[margin.tables]] table for some markets, or for all others"


def _no_deductions(shape: str) -> AfterValidator:
    """Return a check that the tiers of a shape have no deductions."""

    def check(tables: tuple[MarginTable, ...]) -> tuple[MarginTable, ...]:
        for number, table in enumerate(tables):
            for index, tier in enumerate(table.tiers):
                if tier.deduction is not None:
                    raise problem(
                        f"tier {index} has a deduction, and the shape is {json.dumps(shape)}",
                        'take it out, or write shape = "bracket_deduction"',
                        f"{number}.tiers.{index}.deduction",
                    )
        return tables

    return AfterValidator(check)


class BracketMargin(_Margin):
    """``[margin]`` of shape ``bracket_deduction``: maintenance is ``rate * notional - deduction`` by tier."""

    shape: Literal["bracket_deduction"]
    tables: _OneEach[MarginTable] = Field(description=_TABLES)

    @field_validator("tables")
    @classmethod
    def _deducted(cls, tables: tuple[MarginTable, ...]) -> tuple[MarginTable, ...]:
        """Fill in the deductions that are left out, and check the others."""
        return tuple(
            table.model_copy(update={"tiers": _with_deductions(number, table.tiers)})
            for number, table in enumerate(tables)
        )


class WholeMargin(_Margin):
    """``[margin]`` of shape ``bracket_whole``: the rate of the tier on the whole notional; it jumps."""

    shape: Literal["bracket_whole"]
    size_basis: Literal["notional_mark", "notional_entry", "base_size", "contracts"]  # type: ignore[assignment]
    tables: Annotated[_OneEach[MarginTable], _no_deductions("bracket_whole")] = Field(description=_TABLES)


class ShareMargin(_Margin):
    """``[margin]`` of shape ``im_fraction``: a share of the initial margin, whose rates the tiers are."""

    shape: Literal["im_fraction"]
    share: Part = Field(description='maintenance as a share of the initial margin, such as "0.5"')
    tables: Annotated[_OneEach[MarginTable], _no_deductions("im_fraction")] = Field(description=_TABLES)


class FactorMargin(_Margin):
    """``[margin]`` of shape ``adjustment_factor``: a factor by tier of the margin that a position occupies.

    A position occupies its value over the leverage; a pool is in breach when its equity is no more than the sum
    of occupied margins times their factors. Source: venue-rules.md section 16.
    """

    shape: Literal["adjustment_factor"]
    leverage: Count = Field(description="the leverage that accounts set, such as 20: no tape tells it")
    tables: Annotated[_OneEach[MarginTable], _no_deductions("adjustment_factor")] = Field(
        description="a [[margin.tables]] table for some markets, or for all others; its rates are factors"
    )


class WeightsMargin(_Margin):
    """``[margin]`` of shape ``weights``: what a position's value counts for, by side."""

    shape: Literal["weights"]
    weights: _OneEach[WeightsTable] = Field(
        description="a [[margin.weights]] table for some markets, or for all others"
    )


class StepsMargin(_Margin):
    """``[margin]`` of shape ``risk_steps``: a base rate, and more for each step of value above a limit."""

    shape: Literal["risk_steps"]
    steps: _OneEach[StepsTable] = Field(
        description="a [[margin.steps]] table for some markets, or for all others"
    )


class SizesMargin(_Margin):
    """``[margin]`` of shape ``linear_size``: a rate that grows evenly with the size."""

    shape: Literal["linear_size"]
    size_basis: Literal["base_size", "contracts"]  # type: ignore[assignment]
    sizes: _OneEach[SizesTable] = Field(
        description="a [[margin.sizes]] table for some markets, or for all others"
    )


class RootsMargin(_Margin):
    """``[margin]`` of shape ``sqrt_size``: a rate that grows with the root of the size."""

    shape: Literal["sqrt_size"]
    size_basis: Literal["base_size", "contracts"]  # type: ignore[assignment]
    roots: _OneEach[RootsTable] = Field(
        description="a [[margin.roots]] table for some markets, or for all others"
    )


def exact_deductions(tiers: tuple[Tier, ...]) -> list[int]:
    """Return the deductions that make maintenance continuous, in units of 1e-20 (atoms times 1e-12).

    The deduction grows at each tier by ``from * (rate - rate of the tier below)``; it starts at 0.
    """
    deductions = [0]
    for lower, tier in pairwise(tiers):
        deductions.append(deductions[-1] + tier.start * (tier.rate - lower.rate))
    return deductions


def _with_deductions(number: int, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    return tuple(
        _with_deduction(f"{number}.tiers.{index}", tier, exact)
        for index, (tier, exact) in enumerate(zip(tiers, exact_deductions(tiers), strict=True))
    )


def _with_deduction(place: str, tier: Tier, exact: int) -> Tier:
    """Fill in the deduction, rounded down to the atom; a given one must be the continuous one."""
    computed = exact // RATE_ONE
    if tier.deduction is not None and abs(tier.deduction * RATE_ONE - exact) >= RATE_ONE:
        raise problem(
            f"a deduction of {format_units(tier.deduction, MONEY_SCALE)} makes maintenance jump at "
            f"{format_units(tier.start, MONEY_SCALE)}",
            f"the continuous one is {format_units(computed, MONEY_SCALE)}; leave it out to have it computed",
            f"{place}.deduction",
        )
    return tier.model_copy(update={"deduction": computed})


Margin = Annotated[
    FlatMargin
    | BracketMargin
    | WholeMargin
    | ShareMargin
    | FactorMargin
    | StepsMargin
    | SizesMargin
    | RootsMargin
    | WeightsMargin,
    Field(discriminator="shape"),
]
"""``[margin]``, by its shape."""


def tables_of(
    margin: Margin,
) -> tuple[str, Sequence[MarginTable | StepsTable | SizesTable | RootsTable | WeightsTable]]:
    """Return the key and the tables of a margin that is not flat."""
    if isinstance(margin, StepsMargin):
        return "margin.steps", margin.steps
    if isinstance(margin, SizesMargin):
        return "margin.sizes", margin.sizes
    if isinstance(margin, RootsMargin):
        return "margin.roots", margin.roots
    if isinstance(margin, WeightsMargin):
        return "margin.weights", margin.weights
    assert not isinstance(margin, FlatMargin), "a flat margin has no tables"
    return "margin.tables", margin.tables
