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
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from replay.errors import RulesError
from replay.folders import sha256_text
from replay.rules.absorbers import Absorber, Overlay
from replay.rules.margin import Margin
from replay.rules.numbers import (
    Cap,
    Name,
    Part,
    PositiveDuration,
    Section,
    Sentence,
    all_or_none,
    goes_with,
    not_empty,
    problem,
)
from replay.rules.waterfall import Adl, Bankruptcy, Depth, Rung, Socialise
from replay.units import NS_PER_MS


class Step(Section):
    """``[step]``: when pools are judged."""

    kind: Literal["per_timestamp", "periodic"]
    period: PositiveDuration | None = Field(
        default=None, description='how far apart the rounds are in which pools are judged, such as "1s"'
    )
    max_liquidations: Cap | None = Field(
        default=None, description="how many pools in breach go through the ladder in a step, such as 50"
    )
    max_deleveragings: Cap | None = Field(
        default=None,
        description="how many positions of pools in breach are tried at auto-deleveraging in a step, such as 10",
    )

    @model_validator(mode="after")
    def _period_fits(self) -> Self:
        goes_with(
            f"kind = {json.dumps(self.kind)}",
            "period",
            self.period,
            is_needed=self.kind == "periodic",
            mend='write period = "1s" with periodic, and only with it',
        )
        return self


class StaleGuard(Section):
    """``[price.stale_guard]``: nothing is liquidated in a market while its price is far from its average.

    Source: venue-rules.md section 8.1, and the source of Drift: ``is_oracle_too_divergent_with_twap_5min``,
    ``calculate_new_oracle_price_twap``, ``sanitize_new_price``.
    """

    divergence: Part = Field(
        description='how far from its average the price is at least, as a share of that, such as "0.5"'
    )
    window: PositiveDuration = Field(description='over what time it is an average, such as "5m"')
    clamp: Part | None = Field(
        default=None,
        description="how far from a slower average a price counts at most, as a share of that, such as "
        '"0.1"; left out: as it is',
    )
    clamp_window: PositiveDuration | None = Field(
        default=None, description='over what time the slower one is an average, such as "1h"'
    )

    @field_validator("window", "clamp_window")
    @classmethod
    def _in_ms(cls, length: int | None) -> int | None:
        if length is not None and length % NS_PER_MS:
            raise problem("time counts in whole milliseconds here", 'write a time such as "5m" or "500ms"')
        return length

    @model_validator(mode="after")
    def _clamp_whole(self) -> Self:
        all_or_none({"clamp": self.clamp, "clamp_window": self.clamp_window}, "every price counts as it is")
        return self


class Price(Section):
    """``[price]``: at which price risk is measured."""

    risk_price: Literal["mark", "oracle", "index"]
    mark_source: Literal["tape"]
    stale_guard: StaleGuard | None = Field(
        default=None,
        description="a table [price.stale_guard]: when nothing is liquidated; left out: no price is too far off",
    )


class Trigger(Section):
    """``[trigger]``: when a pool is in breach."""

    when: Literal["equity < maintenance", "equity <= maintenance"]


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
    margin: Margin = Field(description="a table [margin]")
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
    overlays: Annotated[tuple[Overlay, ...], Field(strict=False), AfterValidator(not_empty)] | None = Field(
        default=None, description="an [[overlays]] table for what holds only for some markets or some time"
    )

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

    def refusal(self, key: str, text: str, mend: str, *others: str) -> RulesError:
        """Return the error of a key that does not fit others; if an override set one of them, it is to blame."""
        places = [self.place(known) for known in (key, *others)]
        place = next((place for place in places if place != self.file), self.file)
        return RulesError(text, file=place, key=key, mend=mend)

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
