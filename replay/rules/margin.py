"""``[margin]``: how much a position has to keep, flat or by tiers."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from replay.rules.numbers import RATE_ONE, Money, Rate, Section, Sentence, not_empty, problem
from replay.units import MONEY_SCALE, RATE_SCALE, format_units


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


class FlatMargin(_Margin):
    """``[margin]`` of shape ``flat``: maintenance is ``rate * notional``."""

    shape: Literal["flat"]
    rate: Rate = Field(description='maintenance as a share of notional, such as "0.01"')


ANY_CURRENCY = "*"
"""Stands in a table for every settle currency that no other table names."""


class MarginTable(Section):
    """``[[margin.tables]]``: the tiers of some markets, or of all that no other table names."""

    markets: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] | None = Field(
        default=None, description='the markets it is for, such as ["BTC"]; left out: all others'
    )
    currencies: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description='the settle currencies its notional may be in, such as ["USDC"]; ["*"]: all others'
    )
    tiers: Annotated[tuple[Tier, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description="a [[margin.tables.tiers]] table for each tier, the first from 0"
    )

    @field_validator("tiers")
    @classmethod
    def _fit(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        """Check that tiers neither leave a gap nor overlap nor fall, and fill in the deductions."""
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
        return tuple(
            _with_deduction(index, tier, exact)
            for index, (tier, exact) in enumerate(zip(tiers, exact_deductions(tiers), strict=True))
        )

    def fits(self, market: str | None, currency: str) -> bool:
        """Tell whether it is written for a market (None: for those no table names) settled in a currency."""
        names = (None,) if self.markets is None else self.markets
        return market in names and currency in self.currencies


class BracketMargin(_Margin):
    """``[margin]`` of shape ``bracket_deduction``: maintenance is ``rate * notional - deduction`` by tier."""

    shape: Literal["bracket_deduction"]
    tables: Annotated[tuple[MarginTable, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description="a [[margin.tables]] table for some markets, or for all others"
    )

    @field_validator("tables")
    @classmethod
    def _one_each(cls, tables: tuple[MarginTable, ...]) -> tuple[MarginTable, ...]:
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

    def table_of(self, market: str, currency: str) -> int | None:
        """Return the index of a market's table: the one that names it, else the one for all others.

        Of each kind one that names the currency goes before one for all others (:data:`ANY_CURRENCY`).
        """
        for name in (market, None):
            for settle in (currency, ANY_CURRENCY):
                for index, table in enumerate(self.tables):
                    if table.fits(name, settle):
                        return index
        return None


def exact_deductions(tiers: tuple[Tier, ...]) -> list[int]:
    """Return the deductions that make maintenance continuous, in units of 1e-20 (atoms times 1e-12).

    The deduction grows at each tier by ``from * (rate - rate of the tier below)``; it starts at 0.
    """
    deductions = [0]
    for lower, tier in pairwise(tiers):
        deductions.append(deductions[-1] + tier.start * (tier.rate - lower.rate))
    return deductions


def _with_deduction(index: int, tier: Tier, exact: int) -> Tier:
    """Fill in the deduction, rounded down to the atom; a given one must be the continuous one."""
    computed = exact // RATE_ONE
    if tier.deduction is not None and abs(tier.deduction * RATE_ONE - exact) >= RATE_ONE:
        raise problem(
            f"a deduction of {format_units(tier.deduction, MONEY_SCALE)} makes maintenance jump at "
            f"{format_units(tier.start, MONEY_SCALE)}",
            f"the continuous one is {format_units(computed, MONEY_SCALE)}; leave it out to have it computed",
            f"{index}.deduction",
        )
    return tier.model_copy(update={"deduction": computed})


Margin = Annotated[FlatMargin | BracketMargin, Field(discriminator="shape")]
"""``[margin]``, by its shape."""
