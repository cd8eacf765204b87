"""``[[absorbers]]``: the funds and vaults of a rule file, and ``[[overlays]]``, when they do not act."""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from replay.rules.numbers import (
    Boolean,
    Moment,
    Money,
    Multiple,
    Name,
    Part,
    PositiveDuration,
    PositiveMoney,
    Section,
    Sentence,
    all_or_none,
    goes_with,
    not_empty,
    problem,
)
from replay.units import RATE_SCALE, format_units

CAPS = ("per_trade", "per_account_and_step", "per_market_and_day", "per_day", "lifetime")
"""The keys that limit what an absorber pays."""


class Span(Section):
    """A span of time, from a moment until another, which is not in it any more."""

    start: Moment = Field(alias="from", description="its first moment, such as 2025-10-10T20:00:00Z")
    until: Moment = Field(description="the moment at which it has ended, such as 2025-10-10T21:00:00Z")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until <= self.start:
            raise problem("it ends before it begins", "until is a later moment than from", "until")
        return self


class Overlay(Section):
    """``[[overlays]]``: what holds otherwise for some markets, or for a limited time."""

    markets: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] | None = Field(
        default=None, description='the markets it is for, such as ["BTC"]; left out: all'
    )
    window: Span | None = Field(default=None, description="a table with from and until; left out: always")
    absorbers: Literal["off"]


class AbsorberGroup(Section):
    """``[[absorbers.groups]]``: markets that share a balance of an absorber."""

    name: Name = Field(description='what the balance is called, such as "majors"')
    markets: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] = Field(
        description='its markets, such as ["BTC", "ETH"]'
    )


class Absorber(Section):
    """``[[absorbers]]``: a fund or vault that takes losses before anybody else does."""

    name: Name = Field(description='what the ladder calls it, such as "liquidator"')
    kind: Literal["vault", "insurance"]
    scope: Literal["ledger", "contract", "group"]
    groups: Annotated[tuple[AbsorberGroup, ...], Field(strict=False), AfterValidator(not_empty)] | None = (
        Field(default=None, description="an [[absorbers.groups]] table for each group of the scope")
    )
    balance: Literal["tape", "constant"]
    amount: PositiveMoney | None = Field(
        default=None, description='what it opens with if its balance is constant, such as "10000000"'
    )
    currencies: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)] | None = (
        Field(default=None, description='the settle currencies the amount is in, such as ["USDT"]')
    )
    inventory: Literal["holds"]
    work_out: Literal["hold", "book"]
    outflow_cap: Literal["none", "limits"]
    per_trade: PositiveMoney | None = Field(
        default=None, description='the most it pays for one forced order, such as "100000"'
    )
    per_account_and_step: PositiveMoney | None = Field(
        default=None, description='the most it pays for an account at one step, such as "1000000"'
    )
    per_market_and_day: Part | None = Field(
        default=None, description='the share of its balance it pays for a market in a day, such as "0.025"'
    )
    per_day: Part | None = Field(
        default=None, description='the share of its balance it pays in a day, such as "0.05"'
    )
    lifetime: PositiveMoney | None = Field(
        default=None, description='the most it ever pays for a market, such as "1000000"'
    )
    inventory_cap: Multiple | None = Field(
        default=None,
        description='the multiple of its balance that its positions may be worth, such as "1"; left out: any',
    )
    pays_debts: Annotated[Literal[True, False], Boolean] | None = None
    active_windows: Annotated[tuple[Span, ...], Field(strict=False), AfterValidator(not_empty)] | None = (
        Field(
            default=None,
            description="an [[absorbers.active_windows]] table for each span in which it acts; left out: always",
        )
    )
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
    def _amount_fits(self) -> Self:
        for key, value in (("amount", self.amount), ("currencies", self.currencies)):
            goes_with(
                f"balance = {json.dumps(self.balance)}",
                key,
                value,
                is_needed=self.balance == "constant",
                mend="write amount and currencies with a constant balance, and only with it",
            )
        return self

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        goes_with(
            f"scope = {json.dumps(self.scope)}",
            "groups",
            self.groups,
            is_needed=self.scope == "group",
            mend="write groups with the scope of a group, and only with it",
        )
        names: set[str] = set()
        for index, group in enumerate(self.groups or ()):
            for key, found in [("name", group.name), *(("markets", market) for market in group.markets)]:
                word = f"{key}: {found}"
                if word in names:
                    raise problem(
                        f"{found} stands in two groups"
                        if key == "markets"
                        else f"two groups are called {found}",
                        "a market is in one group, and each group has a name of its own",
                        f"groups.{index}.{key}",
                    )
                names.add(word)
        return self

    @model_validator(mode="after")
    def _caps_fit(self) -> Self:
        caps = [key for key in CAPS if getattr(self, key) is not None]
        if bool(caps) == (self.outflow_cap == "limits"):
            return self
        named = f"`{caps[0]}`" if caps else "any"
        raise problem(
            f"outflow_cap = {json.dumps(self.outflow_cap)} stands {'beside' if caps else 'without'} {named}",
            f"write at least one of {', '.join(CAPS)} with limits, and only with it",
            caps[0] if caps else "outflow_cap",
        )

    @model_validator(mode="after")
    def _drawdown_whole(self) -> Self:
        given = {
            "drawdown_start": self.drawdown_start,
            "drawdown_stop": self.drawdown_stop,
            "window": self.window,
            "least_balance": self.least_balance,
        }
        all_or_none(given, "no drawdown starts anything")
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

    @property
    def is_limited(self) -> bool:
        """Whether it may leave something to auto-deleveraging though nothing of it has started that."""
        return self.outflow_cap != "none" or self.inventory_cap is not None or self.active_windows is not None
