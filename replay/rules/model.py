"""The typed model of a rule file: what an exchange does in one period, with nothing left unsaid.

Every key is required, except ``valid_to`` and a tier's ``deduction``, so that a file says all it decides.
Numbers are decimal text, or TOML floats kept as text, and become integers: rates in 1e-12, money in atoms
of 1e-8. The values a key may have are in :mod:`replay.rules.axes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from replay.folders import sha256_text
from replay.units import BOUND, MONEY_SCALE, RATE_SCALE, format_units, to_units

RATE_ONE = 10**RATE_SCALE
"""A rate of 1 in units of 1e-12."""

_LONGEST_NUMBER = 64
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class FloatText:
    """A TOML float as it stands in the file; given to ``tomllib`` in place of ``float``."""

    text: str


def problem(text: str, mend: str, key: str = "") -> PydanticCustomError:
    """Return a validation error that carries our own sentence, remedy and (relative) key."""
    return PydanticCustomError(
        "rules",
        "{problem}",
        {"problem": text, "mend": mend, "key": key},
    )


def _read_number(value: object, scale: int, example: str) -> int:
    """Read an exact non-negative number as an integer in ``10**-scale``."""
    wanted = f'write a decimal number such as "{example}"'
    if isinstance(value, FloatText):
        text = value.text.replace("_", "")
    elif isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= BOUND:
            raise problem("the number is too large", f"the limit is {BOUND // 10**scale}")
        text = str(value)
    else:
        raise problem("must be a number", wanted)
    if len(text) > _LONGEST_NUMBER:
        raise problem("the number is too long", wanted)
    try:
        units, rounded = to_units(text, scale)
    except ValueError as failure:
        raise problem(str(failure), wanted) from None
    if rounded:
        raise problem(f"{text} has more than {scale} decimals", f"at most {scale} decimals are kept")
    if units < 0:
        raise problem(f"{text} is negative", wanted)
    return units


def _read_rate(value: object) -> int:
    rate = _read_number(value, RATE_SCALE, "0.01")
    if rate == 0:
        raise problem("a rate of 0 asks for no margin at all", 'write a rate above 0 such as "0.01"')
    return rate


def _read_money(value: object) -> int:
    return _read_number(value, MONEY_SCALE, "50000")


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem("must be one line of printable text", "write a sentence in quotes, without line breaks")
    return value


def _name(value: str) -> str:
    if not value or not all(c.isascii() and (c.islower() or c.isdigit() or c in "-_") for c in value):
        raise problem(
            f"{json.dumps(value)} is not a name", "use lower-case letters, digits, - and _ such as liquidator"
        )
    return value


def _not_empty(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    if not items:
        raise problem("must not be empty", "write at least one")
    return items


def _boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise problem("must be true or false", "write true or false without quotes")
    return value


Rate = Annotated[
    int,
    BeforeValidator(_read_rate),
    PlainSerializer(lambda rate: format_units(rate, RATE_SCALE), return_type=str),
]
"""A rate above 0, an integer in 1e-12."""

Money = Annotated[
    int,
    BeforeValidator(_read_money),
    PlainSerializer(lambda amount: format_units(amount, MONEY_SCALE), return_type=str),
]
"""An amount of money of at least 0, an integer in atoms of 1e-8."""

Sentence = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[str, AfterValidator(_name)]


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


class BracketMargin(_Margin):
    """``[margin]`` of shape ``bracket_deduction``: maintenance is ``rate * notional - deduction`` by tier."""

    shape: Literal["bracket_deduction"]
    currency: Sentence = Field(description='the settle currency of the tiers\' notional, such as "USDC"')
    tiers: Annotated[tuple[Tier, ...], Field(strict=False), AfterValidator(_not_empty)] = Field(
        description="a [[margin.tiers]] table for each tier, the first from 0"
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


class TakeoverStage(Section):
    """``[[ladder]]`` with action ``takeover``: an absorber takes the pool's positions over."""

    action: Literal["takeover"]
    size: Literal["full"]
    absorber: Name = Field(description="the name of one of the [[absorbers]]")
    price: Literal["bankruptcy"]
    margin_forfeited: Literal["all_collateral"]


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
    outflow_cap: Literal["none"]

    @property
    def account(self) -> str:
        """The pseudo account it is booked as."""
        return f"@vault:{self.name}" if self.kind == "vault" else f"@fund:{self.name}"


class Adl(Section):
    """``[adl]``: auto-deleveraging."""

    enabled: Annotated[Literal[False], BeforeValidator(_boolean)]


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
    ladder: Annotated[tuple[TakeoverStage, ...], Field(strict=False), AfterValidator(_not_empty)] = Field(
        description="a [[ladder]] table for each stage"
    )
    bankruptcy: Bankruptcy = Field(description="a table [bankruptcy]")
    absorbers: Annotated[tuple[Absorber, ...], Field(strict=False), AfterValidator(_not_empty)] = Field(
        description="an [[absorbers]] table for each fund or vault"
    )
    adl: Adl = Field(description="a table [adl]")
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
