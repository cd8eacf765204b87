"""The typed model of a rule file: what an exchange does in one period, with nothing left unsaid.

Every key is required, so that a file says all it decides; the few that may be left out say what that means.
Numbers are decimal text, or TOML floats kept as text, and become integers: rates in 1e-12, money in atoms
of 1e-8, durations in nanoseconds. The values a key may have are in :mod:`replay.rules.axes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from replay.folders import sha256_text
from replay.rules.numbers import (
    RATE_ONE,
    BasisPoints,
    Boolean,
    Count,
    Duration,
    Fee,
    Level,
    Money,
    Name,
    Part,
    PositiveDuration,
    PositiveMoney,
    Rate,
    Sentence,
    Share,
    not_empty,
    problem,
)
from replay.units import MONEY_SCALE, RATE_SCALE, format_units


class Section(BaseModel):
    """Base of every table of a rule file: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Step(Section):
    """``[step]``: when pools are judged."""

    kind: Literal["per_timestamp"]


class Price(Section):
    """``[price]``: at which price risk is measured."""

    risk_price: Literal["mark"]
    mark_source: Literal["tape"]


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


class MarginTable(Section):
    """``[[margin.tables]]``: the tiers of some markets, or of all that no other table names."""

    markets: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] | None = Field(
        default=None, description='the markets it is for, such as ["BTC"]; left out: all others'
    )
    currencies: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description='the settle currencies its notional may be in, such as ["USDC"]'
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
        """Return the index of a market's table: the one that names it, else the one for all others."""
        for name in (market, None):
            for index, table in enumerate(self.tables):
                if table.fits(name, currency):
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


class Trigger(Section):
    """``[trigger]``: when a pool is in breach."""

    when: Literal["equity < maintenance", "equity <= maintenance"]


_LEVEL = Field(description='the share of maintenance below which it acts, such as "1", "2/3" or "0"')


class BookOrderRung(Section):
    """``[[ladder]]`` with action ``book_order``: an order into the book for each position of the pool."""

    action: Literal["book_order"]
    level: Level = _LEVEL
    size: Literal["full", "step_down"]
    slice_above: PositiveMoney | None = Field(
        default=None,
        description='the notional above which a slice is sent, such as "100000"; left out: never',
    )
    slice_share: Part | None = Field(
        default=None, description='the share of the position in a slice, such as "0.2"'
    )
    cooldown: Duration | None = Field(
        default=None, description='how long after a filled slice orders are whole, such as "30s"'
    )
    limit: Literal["none", "bankruptcy"]
    tif: Literal["ioc", "fok"]
    surplus_to: Literal["trader", "absorber"]
    fee: Fee = Field(description='the fee as a share of what is traded, such as "0.00045"')

    @model_validator(mode="after")
    def _slices_whole(self) -> Self:
        given = {"slice_above": self.slice_above, "slice_share": self.slice_share, "cooldown": self.cooldown}
        missing = [key for key, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            there = next(key for key in given if key not in missing)
            raise problem(
                f"`{there}` stands without `{missing[0]}`",
                f"write {', '.join(given)} together, or none of them: orders are never sliced",
                missing[0],
            )
        return self


class TakeoverRung(Section):
    """``[[ladder]]`` with action ``takeover``: an absorber takes the pool's positions over."""

    action: Literal["takeover"]
    level: Level = _LEVEL
    size: Literal["full"]
    absorber: Name = Field(description="the name of one of the [[absorbers]]")
    price: Literal["bankruptcy"]
    margin_forfeited: Literal["all_collateral"]


class AdlRung(Section):
    """``[[ladder]]`` with action ``adl``: the pool's positions are closed against winners at once."""

    action: Literal["adl"]
    level: Level = _LEVEL
    size: Literal["full"]


Rung = Annotated[BookOrderRung | TakeoverRung | AdlRung, Field(discriminator="action")]
"""A rung of the ladder, by its action."""


class Bankruptcy(Section):
    """``[bankruptcy]``: how the bankruptcy price of a position follows from its pool's equity."""

    allocation: Literal["maintenance_proportional"]
    fee_in_price: Literal["none"]


class Absorber(Section):
    """``[[absorbers]]``: a fund or vault that takes losses before anybody else does."""

    name: Name = Field(description='what the ladder calls it, such as "liquidator"')
    kind: Literal["vault", "insurance"]
    scope: Literal["ledger"]
    balance: Literal["tape"]
    inventory: Literal["holds"]
    work_out: Literal["hold", "book"]
    outflow_cap: Literal["none"]
    insolvent_below_zero: Annotated[Literal[True, False], Boolean]
    drawdown_start: Part | None = Field(
        default=None,
        description='the drop of a market\'s profit, as a share of the highest balance, such as "0.3"; '
        "left out: no such rule",
    )
    drawdown_stop: Part | None = Field(default=None, description='the drop at which it ends, such as "0.25"')
    window: PositiveDuration | None = Field(
        default=None, description='the rolling window of both peaks, such as "8h"'
    )
    least_balance: Money | None = Field(
        default=None, description='the balance above which it may begin, such as "10000"'
    )
    stops_at_zero: Annotated[Literal[True, False], Boolean]

    @model_validator(mode="after")
    def _drawdown_whole(self) -> Self:
        given = {
            "drawdown_start": self.drawdown_start,
            "drawdown_stop": self.drawdown_stop,
            "window": self.window,
            "least_balance": self.least_balance,
        }
        missing = [key for key, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            there = next(key for key in given if key not in missing)
            raise problem(
                f"`{there}` stands without `{missing[0]}`",
                f"write {', '.join(given)} together, or none of them: no drawdown starts anything",
                missing[0],
            )
        start, stop = self.drawdown_start, self.drawdown_stop
        if start is not None and stop is not None and stop > start:
            raise problem(
                f"a drop of {format_units(stop, RATE_SCALE)} would end what begins at "
                f"{format_units(start, RATE_SCALE)}",
                "drawdown_stop is at most drawdown_start",
                "drawdown_stop",
            )
        return self

    @property
    def account(self) -> str:
        """The pseudo account it is booked as."""
        return f"@vault:{self.name}" if self.kind == "vault" else f"@fund:{self.name}"

    @property
    def triggers(self) -> list[str]:
        """The keys of the rules by which its state starts auto-deleveraging."""
        rules = {
            "insolvent_below_zero": self.insolvent_below_zero,
            "drawdown_start": self.drawdown_start is not None,
            "stops_at_zero": self.stops_at_zero,
        }
        return [key for key, on in rules.items() if on]


class AdlOff(Section):
    """``[adl]`` with ``enabled = false``: there is no auto-deleveraging."""

    enabled: Annotated[Literal[False], Boolean]


class AdlOn(Section):
    """``[adl]`` with ``enabled = true``: winners are closed to pay what nobody else can."""

    enabled: Annotated[Literal[True], Boolean]
    score: Literal["leveraged_price_ratio", "leveraged_return"]
    loss_rule: Literal["exclude"]
    price: Literal["previous_mark", "mark", "bankruptcy"]
    winner_fee: Fee = Field(description='the fee of a winner as a share of value, such as "0.0002"')
    loser_fee: Fee = Field(description='the fee of a loser as a share of value, such as "0.00055"')
    lights: Count = Field(description='the steps of the indicator of ranks, such as "5"')


def _adl_tag(value: object) -> str | None:
    enabled = value.get("enabled") if isinstance(value, dict) else getattr(value, "enabled", None)
    return str(enabled).lower() if isinstance(enabled, bool) else None


Adl = Annotated[Annotated[AdlOff, Tag("false")] | Annotated[AdlOn, Tag("true")], Discriminator(_adl_tag)]
"""``[adl]``, by whether it is enabled."""


class NoDepth(Section):
    """``[depth]`` of provider ``none``: nothing the rules force goes into the book."""

    provider: Literal["none"]


class _Depth(Section):
    provider: str
    haircut: Share = Field(description='the share of it that is not there in need, such as "0.3"')
    half_life: Duration = Field(
        description='in what time half of what was taken comes back, such as "10s"; "0s" is at once'
    )


class LevelsDepth(_Depth):
    """``[depth]`` of provider ``levels``: the levels on the tape."""

    provider: Literal["levels"]


class VolumeDepth(_Depth):
    """``[depth]`` of provider ``volume``: a share of what was traded lately."""

    provider: Literal["volume"]
    participation: Part = Field(description='the share of the traded volume that is offered, such as "0.1"')
    window: PositiveDuration = Field(description='how far back volume counts, such as "60s"')
    slippage_bp: BasisPoints = Field(description="how far behind the mark it is offered, in basis points")


class StaticLevel(Section):
    """``[[depth.static]]``: a level of the table."""

    bp: BasisPoints = Field(description="how far behind the mark it stands, in basis points")
    notional: PositiveMoney = Field(description='what it offers, such as "250000"')


class StaticDepth(_Depth):
    """``[depth]`` of provider ``static``: the same table at all times."""

    provider: Literal["static"]
    currencies: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description='the settle currencies its notional may be in, such as ["USDC"]'
    )
    static: Annotated[tuple[StaticLevel, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description="a [[depth.static]] table for each level, from the mark outwards"
    )

    @field_validator("static")
    @classmethod
    def _outwards(cls, levels: tuple[StaticLevel, ...]) -> tuple[StaticLevel, ...]:
        for index, (inner, level) in enumerate(pairwise(levels), start=1):
            if level.bp <= inner.bp:
                raise problem(
                    f"level {index} at {level.bp} basis points is not behind level {index - 1} at {inner.bp}",
                    "write the levels from the mark outwards",
                    f"{index}.bp",
                )
        return levels


Depth = Annotated[NoDepth | LevelsDepth | VolumeDepth | StaticDepth, Field(discriminator="provider")]
"""``[depth]``, by its provider."""


class Socialise(Section):
    """``[socialise]``: losses spread over accounts that did not cause them."""

    method: Literal["none"]


class Rules(Section):
    """A whole rule file."""

    venue: Name = Field(description='the exchange, such as "hyperliquid"')
    title: Sentence = Field(description="one line that says what the file describes")
    valid_from: date = Field(description="the first day (UTC) it holds, such as 2023-02-01")
    valid_to: date | None = Field(default=None, description="the last day (UTC) it holds, if it has ended")
    status: Literal["final", "draft"]
    assumptions: Annotated[tuple[Sentence, ...], Field(strict=False)] = Field(
        description="a list of sentences: what the venue does not publish and the file assumes"
    )
    step: Step = Field(description="a table [step]")
    price: Price = Field(description="a table [price]")
    margin: Annotated[FlatMargin | BracketMargin, Field(discriminator="shape")] = Field(
        description="a table [margin]"
    )
    trigger: Trigger = Field(description="a table [trigger]")
    ladder: Annotated[tuple[Rung, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description="a [[ladder]] table for each rung, the highest level first"
    )
    bankruptcy: Bankruptcy = Field(description="a table [bankruptcy]")
    absorbers: Annotated[tuple[Absorber, ...], Field(strict=False)] = Field(
        description="an [[absorbers]] table for each fund or vault; absorbers = [] if there is none"
    )
    adl: Adl = Field(description="a table [adl]")
    depth: Depth = Field(description="a table [depth]")
    socialise: Socialise = Field(description="a table [socialise]")

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        if self.valid_to is not None and self.valid_to < self.valid_from:
            raise problem(
                f"{self.valid_to} is before valid_from, {self.valid_from}",
                "valid_to is the last day the rules hold; leave it out while they still do",
                "valid_to",
            )
        return self


@dataclass(frozen=True)
class RuleBook:
    """A rule file that was read, changed by overrides and validated.

    Attributes:
        name: ``venue@version`` of a shipped file, or the stem of a file given by path.
        file: Where it was read.
        text: The file as it stands, comments included.
        rules: Its content after overrides.
        overrides: The ``key=value`` texts that were applied, in order.
    """

    name: str
    file: str
    text: str
    rules: Rules
    overrides: tuple[str, ...] = ()

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The whole content as JSON values; exact numbers are decimal text, deductions are filled in."""
        return self.rules.model_dump(mode="json", by_alias=True, exclude_none=True)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the resolved content as canonical JSON: equal rules have equal hashes."""
        return sha256_text(
            json.dumps(self.resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        )

    def holds_on(self, day: date) -> bool:
        """Tell whether the rules hold on a UTC day; both ends count."""
        return self.rules.valid_from <= day and (self.rules.valid_to is None or day <= self.rules.valid_to)

    def place(self, key: str) -> str:
        """Return where a dotted key was set last: an override, or the file."""
        return place_of(key, self.file, self.overrides)


def place_of(key: str, file: str, overrides: tuple[str, ...]) -> str:
    """Return the last override that set a dotted key, a part of it or what it is part of; else the file."""
    for override in reversed(overrides):
        path = override.partition("=")[0].strip()
        if key == path or key.startswith(f"{path}.") or (key and path.startswith(f"{key}.")):
            return f"--set {override}"
    return file
