"""The sections of the waterfall: ladder, bankruptcy price, auto-deleveraging, depth, socialisation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from replay.rules.numbers import (
    BasisPoints,
    Boolean,
    Count,
    Duration,
    Factor,
    Fee,
    Level,
    Name,
    Part,
    PositiveDuration,
    PositiveMoney,
    Section,
    Sentence,
    Share,
    all_or_none,
    goes_with,
    level_text,
    not_empty,
    problem,
)
from replay.rules.plan import Allocation, OrderLimit, OrderSize, PositionOrder
from replay.units import (
    NS_PER_DAY,
    RATE_ONE,
)

Enter = Literal["previous_unfilled"]

_LEVEL = Field(description='the share of maintenance below which it acts, such as "1", "2/3" or "0"')


_ENTER = Field(default=None, description="on what the rung acts; left out: on every position of the pool")

_MOST_SHARES = 1_000


def _check_exit(multiple: tuple[int, int] | None) -> None:
    """Refuse an exit below maintenance."""
    if multiple is not None and multiple[0] < multiple[1]:
        raise problem(
            f"an exit at {level_text(multiple)} of maintenance is a breach still",
            "write a multiple of at least 1",
            "exit",
        )


def _goes_with_sizes(size: str, key: str, value: object, sizes: Sequence[str], *, is_needed: bool) -> None:
    """Refuse a key beside a size that it does not go with, or one that is missing beside a size that needs it."""
    if value is None and is_needed and size in sizes:
        raise problem(f"size = {json.dumps(size)} stands without `{key}`", f"write {key}", key)
    if value is not None and size not in sizes:
        raise problem(
            f"size = {json.dumps(size)} stands beside `{key}`",
            f"{key} goes with {', '.join(sizes)}; take it out",
            key,
        )


class StepLimit(Section):
    """``rate_limit`` of kind ``notional_per_step``: so much of a pool in a step."""

    kind: Literal["notional_per_step"]
    notional: PositiveMoney = Field(
        description='what the rung asks for of a pool in a step at most, such as "100000"'
    )


class TimeRamp(Section):
    """``rate_limit`` of kind ``time_ramp``: the more of a position, the longer the liquidation lasts."""

    kind: Literal["time_ramp"]
    initial: Share = Field(description='the share that may be closed at once, such as "0.1"')
    full_after: PositiveDuration = Field(
        description='in what time the share would grow from nothing to all, such as "60s"'
    )
    whole_below: PositiveMoney | None = Field(
        default=None,
        description="what a position may be worth, and a pool has to lack for its maintenance, not to be held up, "
        'such as "50"; left out: all are',
    )


RateLimit = Annotated[StepLimit | TimeRamp, Field(discriminator="kind")]
"""``rate_limit`` of a rung, by its kind."""

_RATE_LIMIT = Field(
    default=None, description="a table: how much of what it asks for may go in a step; left out: all of it"
)


class BookOrderRung(Section):
    """``[[ladder]]`` with action ``book_order``: an order into the book for each position of the pool."""

    action: Literal["book_order"]
    level: Level = _LEVEL
    enter: Enter | None = _ENTER
    size: OrderSize
    tiers: Count | None = Field(
        default=None, description="how many tiers step_down goes, 100 is to the lowest; left out: 1"
    )
    share: Part | None = Field(default=None, description='the share of a fraction, such as "0.2"')
    cap: PositiveMoney | None = Field(
        default=None, description='the notional that notional_cap asks for at most, such as "100000"'
    )
    exit: Factor | None = Field(
        default=None,
        description='the multiple of maintenance that minimal_to_exit and smallest_fix aim at, such as "3/2"; '
        "left out: 1",
    )
    position_order: PositionOrder | None = Field(
        default=None, description="which position is sent first, one at each step; left out: all at once"
    )
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
    limit: OrderLimit
    limit_bp: BasisPoints | None = Field(
        default=None,
        description="how far beyond the bankruptcy price, the mark or the oracle a band reaches, in basis points",
    )
    spread: Factor | None = Field(
        default=None,
        description='how much of the position\'s maintenance a fillable price is from the mark at most, such as "1.5"',
    )
    tif: Literal["ioc", "fok"]
    surplus_to: Literal["trader", "absorber"]
    fee: Fee = Field(description='the fee as a share of what is traded, such as "0.00045"')
    fee_from: Literal["value", "improvement"] | None = Field(
        default=None,
        description='"improvement": at most what a fill is better than the bankruptcy price; left out: "value"',
    )
    fee_to: Literal["exchange", "absorber"] | None = Field(
        default=None, description='who has the fee; left out: "exchange", booked as @fees'
    )
    rate_limit: RateLimit | None = _RATE_LIMIT

    @model_validator(mode="after")
    def _band_whole(self) -> Self:
        goes_with(
            f"limit = {json.dumps(self.limit)}",
            "limit_bp",
            self.limit_bp,
            is_needed=self.limit.endswith("_band"),
            mend="write limit_bp with a band, and only with it",
        )
        return self

    @model_validator(mode="after")
    def _sizes_whole(self) -> Self:
        fractions = ("fraction_of_remaining", "fraction_of_original")
        belongs = (
            ("tiers", self.tiers, ("step_down",), False),
            ("share", self.share, fractions, True),
            ("cap", self.cap, ("notional_cap",), True),
            ("exit", self.exit, ("minimal_to_exit", "smallest_fix"), False),
            ("slice_above", self.slice_above, ("full",), False),
        )
        for key, value, sizes, is_needed in belongs:
            _goes_with_sizes(self.size, key, value, sizes, is_needed=is_needed)
        _check_exit(self.exit)
        goes_with(
            f"limit = {json.dumps(self.limit)}",
            "spread",
            self.spread,
            is_needed=self.limit == "fillable",
            mend="write spread with a fillable price, and only with it",
        )
        return self

    @model_validator(mode="after")
    def _slices_whole(self) -> Self:
        given = {"slice_above": self.slice_above, "slice_share": self.slice_share, "cooldown": self.cooldown}
        all_or_none(given, "orders are never sliced")
        return self


class TakeoverRung(Section):
    """``[[ladder]]`` with action ``takeover``: an absorber takes the pool's positions over."""

    action: Literal["takeover"]
    level: Level = _LEVEL
    enter: Enter | None = _ENTER
    size: Literal["full", "fraction_of_all_positions"]
    share: Part | None = Field(
        default=None, description='the step from one share of all positions to the next, such as "0.2"'
    )
    exit: Factor | None = Field(
        default=None,
        description='the multiple of maintenance that a share aims at, such as "10/9"; left out: 1',
    )
    absorber: Name = Field(description="the name of one of the [[absorbers]]")
    price: Literal["bankruptcy", "mark"]
    margin_forfeited: Literal["all_collateral", "none", "remaining_maintenance"]
    penalty: Part | None = Field(
        default=None, description='the share of maintenance that is forfeited at most, such as "0.7"'
    )

    owed: Literal["goes_along", "stays"] | None = Field(
        default=None, description='what becomes of what the pool owes; left out: "goes_along"'
    )
    rate_limit: RateLimit | None = _RATE_LIMIT

    @model_validator(mode="after")
    def _share_fits(self) -> Self:
        shares = ("fraction_of_all_positions",)
        _goes_with_sizes(self.size, "share", self.share, shares, is_needed=True)
        _goes_with_sizes(self.size, "exit", self.exit, shares, is_needed=False)
        if self.size in shares and self.price != "mark":
            raise problem(
                f"size = {json.dumps(self.size)} does not go with price = {json.dumps(self.price)}",
                'write price = "mark": at the bankruptcy price no share makes a pool safer',
                "size",
            )
        if self.share is not None and self.share < RATE_ONE // _MOST_SHARES:
            raise problem(
                f"the grid has more than {_MOST_SHARES:,} shares",
                f"write a share of at least {1 / _MOST_SHARES}",
                "share",
            )
        _check_exit(self.exit)
        return self

    @model_validator(mode="after")
    def _price_and_margin_fit(self) -> Self:
        if self.owed == "stays" and self.price == "bankruptcy":
            raise problem(
                'owed = "stays" does not go with price = "bankruptcy"',
                "at the bankruptcy price a pool ends with exactly nothing: it owes nothing",
                "owed",
            )
        if (self.price == "bankruptcy") != (self.margin_forfeited == "all_collateral"):
            raise problem(
                f"margin_forfeited = {json.dumps(self.margin_forfeited)} does not go with price = "
                f"{json.dumps(self.price)}",
                "at the bankruptcy price all collateral goes along; at the mark none, or remaining_maintenance",
                "margin_forfeited",
            )
        goes_with(
            f"margin_forfeited = {json.dumps(self.margin_forfeited)}",
            "penalty",
            self.penalty,
            is_needed=self.margin_forfeited == "remaining_maintenance",
            mend="write penalty with remaining_maintenance, and only with it",
        )
        return self


class AdlRung(Section):
    """``[[ladder]]`` with action ``adl``: the pool's positions are closed against winners at once."""

    action: Literal["adl"]
    level: Level = _LEVEL
    enter: Enter | None = _ENTER
    size: Literal["full"]


class CancelRung(Section):
    """``[[ladder]]`` with action ``cancel_orders``: the account's resting orders are cancelled.

    No tape has the orders of accounts, so it changes nothing; it says where the exchange does so.
    """

    action: Literal["cancel_orders"]
    level: Level = _LEVEL
    size: Literal["full"]


class NetRung(Section):
    """``[[ladder]]`` with action ``net_own_hedge``: a position closes against the account's own hedge.

    An account holds one net position per market and margin mode, so its hedge is a position of the other side
    in the same market and the other mode. Both close at the mark, without a fee.
    """

    action: Literal["net_own_hedge"]
    level: Level = _LEVEL
    size: Literal["full"]


Rung = Annotated[BookOrderRung | TakeoverRung | AdlRung | CancelRung | NetRung, Field(discriminator="action")]
"""A rung of the ladder, by its action."""


class Bankruptcy(Section):
    """``[bankruptcy]``: how the bankruptcy price of a position follows from its pool's equity."""

    allocation: Allocation
    fee_in_price: Literal["none", "taker"]
    fee_rate: Part | None = Field(
        default=None, description='the taker fee in the price as a share of value, such as "0.00055"'
    )

    @model_validator(mode="after")
    def _fee_whole(self) -> Self:
        goes_with(
            f"fee_in_price = {json.dumps(self.fee_in_price)}",
            "fee_rate",
            self.fee_rate,
            is_needed=self.fee_in_price == "taker",
            mend="write fee_rate with taker, and only with it",
        )
        if self.fee_rate == RATE_ONE:
            raise problem("a fee of the whole value leaves no price", "write a share below 1", "fee_rate")
        return self


class AdlOff(Section):
    """``[adl]`` with ``enabled = false``: there is no auto-deleveraging."""

    enabled: Annotated[Literal[False], Boolean]


_Names = Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(not_empty)]


TIES: Mapping[str, str] = {
    "larger_profit": "the larger profit",
    "larger_value": "the larger position at the mark",
    "smaller_wallet": "the smaller wallet",
    "newer": "the newer pool",
}
"""What may decide among equal scores (``adl.tie_break``), each as it is told."""


def _ties(words: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty list, words that say nothing of equal scores, and words that stand twice."""
    for number, word in enumerate(not_empty(words)):
        if word not in TIES or word in words[:number]:
            why = "stands twice" if word in TIES else "does not decide among equal scores"
            raise problem(f"{json.dumps(word)} {why}", f"write each once, of: {', '.join(TIES)}", str(number))
    return words


class Exempt(Section):
    """``[adl.exempt]``: markets without auto-deleveraging, and accounts whose positions are never closed by it."""

    markets: _Names | None = Field(
        default=None, description='the markets, by the names of the tape, such as ["BTC", "ETH"]'
    )
    accounts: _Names | None = Field(
        default=None, description='the accounts, by the names of the tape, such as ["maker-1"]'
    )

    @model_validator(mode="after")
    def _spares_something(self) -> Self:
        if self.markets is None and self.accounts is None:
            raise problem("nothing is spared", "write markets or accounts, or take [adl.exempt] out")
        return self


class AdlOn(Section):
    """``[adl]`` with ``enabled = true``: winners are closed to pay what nobody else can."""

    enabled: Annotated[Literal[True], Boolean]
    score: Literal[
        "leveraged_price_ratio",
        "leveraged_return",
        "entry_return",
        "return_at_risk",
        "wallet_return_at_risk",
        "terms",
    ]
    profit_term: (
        Literal[
            "profit_on_entry", "price_ratio", "profit_on_wallet", "profit_on_equity", "profit", "entry_value"
        ]
        | None
    ) = Field(default=None, description='the profit part of a score of "terms"')
    leverage_term: (
        Literal["one", "notional_on_equity", "maintenance_on_equity", "maintenance_on_equity_of_one"] | None
    ) = Field(default=None, description='the leverage part of a score of "terms"')
    equity_scope: Literal["account", "position", "position_on_account"] | None = Field(
        default=None, description='whose equity a score of "terms" takes'
    )
    method: Sentence | None = Field(
        default=None,
        description='how the closed are chosen, such as "contract_pro_rata" or "mine.py:smallest_first"; '
        "left out: a queue in the order of the score",
    )
    loss_rule: Literal["exclude", "divide", "product", "zero", "smaller_abs_first"]
    price: Literal["previous_mark", "mark", "bankruptcy", "oracle", "clamped_oracle"]
    winner_cap: Part | None = Field(
        default=None,
        description='the most of a position that a step closes, as a share of it, such as "0.5"; left out: all',
    )
    winner_fee: Fee = Field(description='the fee of a winner as a share of value, such as "0.0002"')
    loser_fee: Fee = Field(description='the fee of a loser as a share of value, such as "0.00055"')
    lights: Count = Field(description='the steps of the indicator of ranks, such as "5"')
    fallback_price: Literal["previous_mark", "mark", "bankruptcy", "oracle", "clamped_oracle"] | None = Field(
        default=None, description="the price while the absorber has little left; left out: the same"
    )
    fallback_below: Share | None = Field(
        default=None,
        description='the share of its opening balance at or below which that is so, such as "0.1"',
    )
    residual_to: Literal["loser", "absorber"] | None = Field(
        default=None,
        description="who has, or pays, what the price differs from the bankruptcy price; left out: the loser",
    )
    must_not_worsen_counterparty: Literal["below_maintenance", "always"] | None = Field(
        default=None, description="which winners are left out because it would harm them; left out: none"
    )
    tie_break: Annotated[tuple[Sentence, ...], Field(strict=False), AfterValidator(_ties)] | None = Field(
        default=None, description='what decides among equal scores, in order, such as ["larger_profit"]'
    )
    suspends_book_liquidation: Annotated[Literal[True, False], Boolean] | None = Field(
        default=None,
        description="true: nothing goes into the book of a market that is being deleveraged; left out: false",
    )
    exempt: Exempt | None = Field(
        default=None, description="a table [adl.exempt]: who is spared; left out: nobody"
    )

    @model_validator(mode="after")
    def _fallback_whole(self) -> Self:
        if (self.fallback_price is None) != (self.fallback_below is None):
            missing = "fallback_price" if self.fallback_price is None else "fallback_below"
            there = "fallback_below" if self.fallback_price is None else "fallback_price"
            raise problem(f"`{there}` stands without `{missing}`", "write both, or neither", missing)
        if self.fallback_price == self.price:
            raise problem(
                f"{json.dumps(self.price)} is the price at all times", "name another price", "fallback_price"
            )
        return self

    @model_validator(mode="after")
    def _terms_whole(self) -> Self:
        terms = {
            "profit_term": self.profit_term,
            "leverage_term": self.leverage_term,
            "equity_scope": self.equity_scope,
        }
        wrong = [key for key, value in terms.items() if (value is None) == (self.score == "terms")]
        if not wrong:
            return self
        if self.score == "terms":
            raise problem(
                f'score = "terms" stands without `{wrong[0]}`', f"write {', '.join(terms)} with it", wrong[0]
            )
        raise problem(
            f"`{wrong[0]}` stands beside score = {json.dumps(self.score)}, which has terms of its own",
            f'take it out, or write score = "terms" with {", ".join(terms)}',
            wrong[0],
        )


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
    cap_per_step: Part | None = Field(
        default=None,
        description='the most of it that a step takes, as a share, such as "0.25"; left out: all of it',
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

    method: Literal["none", "deposit_haircut", "session_profit_pro_rata", "oi_pro_rata_same_market"]
    session_start: Duration | None = Field(
        default=None, description='at what time of the day (UTC) a session begins, such as "8h"'
    )

    @model_validator(mode="after")
    def _session_fits(self) -> Self:
        goes_with(
            f"method = {json.dumps(self.method)}",
            "session_start",
            self.session_start,
            is_needed=self.method == "session_profit_pro_rata",
            mend="write session_start with session_profit_pro_rata, and only with it",
        )
        if self.session_start is not None and self.session_start >= NS_PER_DAY:
            raise problem(
                "the time is not within a day", 'write a time from "0s" to less than "24h"', "session_start"
            )
        return self
