"""From a rule book to the plan of a run; what cannot go together is refused here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from replay.errors import RulesError
from replay.rules import plan
from replay.rules.compile_absorbers import absorbers_of
from replay.rules.compile_margin import check_rates, margin_of
from replay.rules.model import RuleBook
from replay.rules.numbers import level_text
from replay.rules.plan import Plan
from replay.rules.waterfall import (
    AdlOff,
    AdlOn,
    AdlRung,
    BookOrderRung,
    CancelRung,
    NetRung,
    NoDepth,
    RateLimit,
    StaticDepth,
    StepLimit,
    TakeoverRung,
    VolumeDepth,
)
from replay.tape.schema import Payoff
from replay.units import NS_PER_MS, RATE_ONE

if TYPE_CHECKING:
    from replay.tape.read import Market

TIERED = ("bracket_deduction", "bracket_whole", "im_fraction", "risk_steps")
"""Shapes of margin whose tiers a forced order can step down."""

OF_ALL = ("minimal_to_exit", "smallest_fix", "fraction_of_all_positions")
"""Sizes that are reckoned over all positions of a pool."""

PARTIAL = ("step_down", *OF_ALL)
"""Sizes of forced orders and takeovers that ask what a part of a position needs."""

NEEDS_PROFIT = ("profit_pro_rata", "wealth_pro_rata", "levered_pro_rata", "capped_pro_rata")
"""Methods of adl.method whose shares are shares of a profit."""

NAMED_SCORES: Mapping[str, tuple[str, str, str]] = {
    "leveraged_price_ratio": ("price_ratio", "notional_on_equity", "account"),
    "leveraged_return": ("profit_on_entry", "notional_on_equity", "position"),
    "entry_return": ("profit_on_entry", "one", "position"),
    "return_at_risk": ("profit_on_entry", "maintenance_on_equity_of_one", "position_on_account"),
    "wallet_return_at_risk": ("profit_on_wallet", "maintenance_on_equity", "account"),
}
"""Profit term, leverage term and equity scope of the scores that have a name.

Sources, in order: Hyperliquid's page on auto-deleveraging, for shorts in the natural reading; the leveraged
return of Bybit and BitMEX; KuCoin's older ranking of cross positions; Extended (Gate and Bitget multiply by
the rate of the account); Binance, which Aster and Aevo share.
"""


def compile_rules(
    book: RuleBook,
    markets: Sequence[Market],
    ledgers: Sequence[tuple[str, str]],
    *,
    accept_assumptions: bool = False,
) -> Plan:
    """Compile a rule book for the markets of a tape.

    Args:
        book: The rule book.
        markets: Markets of the tape, in the order of their ids.
        ledgers: ``(dex, currency)`` of each ledger id.
        accept_assumptions: Also compile a book whose status is ``draft``.

    Raises:
        RulesError: A draft without ``accept_assumptions``; a rate above 1; a market without margin tiers in
            its currency; a ladder, absorbers, depth and ADL that do not fit each other.
    """
    if book.rules.status == "draft" and not accept_assumptions:
        raise RulesError(
            f"{book.name} is a draft: it assumes what the venue does not publish",
            file=book.place("status"),
            key="status",
            mend=f"read `replay rules show {book.name}`, then run with --accept-assumptions",
        )
    check_rates(book)
    margins = [margin_of(book, market, ledgers) for market in markets]
    tiers = [own.tiers for own in margins]
    columns = np.array([tier for own in tiers for tier in own], dtype=np.int64).reshape(-1, 3).T
    _check_ladder(book)
    _check_bankruptcy(book)
    absorbers = absorbers_of(book)
    _check_adl(book)
    return Plan(
        name=book.name,
        sha256=book.sha256,
        tier_first=np.concatenate(([0], np.cumsum([len(own) for own in tiers], dtype=np.int64))).astype(
            np.int64
        ),
        tier_from=columns[0].copy(),
        tier_rate=columns[1].copy(),
        tier_deduction=columns[2].copy(),
        breach_at_equal=book.rules.trigger.when == "equity <= maintenance",
        ladder=_ladder(book),
        absorbers=absorbers,
        depth=_depth(book, markets, ledgers),
        adl=_adl(book, markets),
        allocation=book.rules.bankruptcy.allocation,
        exit_fee_rate=book.rules.bankruptcy.fee_rate or 0,
        period_ns=book.rules.step.period or 0,
        max_liquidations=book.rules.step.max_liquidations or 0,
        max_deleveragings=book.rules.step.max_deleveragings or 0,
        stale_guard=_stale_guard(book),
        assumptions=book.rules.assumptions,
        socialise=book.rules.socialise.method,
        session_start_ns=book.rules.socialise.session_start or 0,
        risk_price=book.rules.price.risk_price,
        oracle_key=_oracle_key(book),
        margin_basis=_column([own.basis for own in margins]),
        margin_growth=_column([own.growth for own in margins]),
        margin_root=_column([own.root for own in margins]),
        margin_unit=_column([own.unit for own in margins]).reshape(-1, 2),
        margin_least=_column([own.least for own in margins]),
        margin_short=_column([own.short_rate for own in margins]),
    )


def _column(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _check_ladder(book: RuleBook) -> None:
    """Refuse a ladder with a rung that is never reached, or none for a pool just below maintenance."""
    ladder = book.rules.ladder
    first = ladder[0].level
    if first != (1, 1):
        raise book.refusal(
            "ladder.0.level",
            f"nothing acts on a pool between {level_text(first)} of maintenance and maintenance",
            'the first of the [[ladder]] has level = "1"',
        )
    if all(isinstance(rung, CancelRung | NetRung) for rung in ladder):
        raise book.refusal(
            "ladder",
            "no rung closes what a pool without a hedge holds",
            'write a [[ladder]] rung with action = "book_order", "takeover" or "adl"',
        )
    for index, (above, rung) in enumerate(pairwise(ladder), start=1):
        if _above(rung.level, above.level):
            raise book.refusal(
                f"ladder.{index}.level",
                f"a level of {level_text(rung.level)} stands below one of {level_text(above.level)}",
                "write the [[ladder]] from the highest level to the lowest",
                f"ladder.{index - 1}.level",
            )
        taking = [
            other.absorber
            for other in ladder[:index]
            if isinstance(other, TakeoverRung) and other.level == rung.level
        ]
        if isinstance(rung, TakeoverRung) and taking and rung.absorber not in taking:
            continue
        if rung.level == above.level and isinstance(above, TakeoverRung | AdlRung):
            raise book.refusal(
                f"ladder.{index}",
                f"this rung is never reached: rung {index - 1} takes the whole pool at the same level",
                f'a rung with action = "{above.action}" is the last of its level',
                f"ladder.{index - 1}",
            )
    _check_shares(book)
    _check_enter(book)
    for index, rung in enumerate(ladder):
        if rung.size in PARTIAL and book.rules.margin.size_basis == "notional_entry":
            raise book.refusal(
                f"ladder.{index}.size",
                "an entry value is not brought down by closing a part: tiers are picked by it",
                'write size = "full", or another margin.size_basis',
                "margin.size_basis",
            )
        if rung.size in ("step_down", "smallest_fix") and book.rules.margin.shape not in TIERED:
            raise book.refusal(
                f"ladder.{index}.size",
                f"there are no tiers to step down: the margin is {book.rules.margin.shape}",
                f'write size = "full", or a margin of one of the shapes {", ".join(TIERED)}',
                "margin",
            )


def _check_shares(book: RuleBook) -> None:
    """Refuse takeovers of one level that would not take the same share of all positions, or at another rate."""
    keys = ("size", "share", "exit", "margin_forfeited", "penalty", "owed")
    for index, (above, rung) in enumerate(pairwise(book.rules.ladder), start=1):
        if not isinstance(above, TakeoverRung) or not isinstance(rung, TakeoverRung):
            continue
        if above.level != rung.level:
            continue
        if above.rate_limit != rung.rate_limit:
            raise book.refusal(
                f"ladder.{index}.rate_limit",
                f"it takes what rung {index - 1} leaves, and not at the same rate",
                "write the same rate_limit for both",
                f"ladder.{index - 1}.rate_limit",
            )
        if above.share == rung.share is None:
            continue
        for key in keys:
            if getattr(above, key) != getattr(rung, key):
                raise book.refusal(
                    f"ladder.{index}.{key}",
                    f"it takes what rung {index - 1} leaves of a share of all positions, and is not on its terms",
                    f"write the same {', '.join(keys)} for both",
                    f"ladder.{index - 1}.{key}",
                )


def _check_enter(book: RuleBook) -> None:
    """Refuse a condition on what the rung before left where it leaves nothing, or that parts a whole pool."""
    before: BookOrderRung | TakeoverRung | AdlRung | NetRung | None = None
    for index, rung in enumerate(book.rules.ladder):
        if isinstance(rung, CancelRung):
            continue
        if isinstance(rung, BookOrderRung | TakeoverRung | AdlRung) and rung.enter is not None:
            leaves = isinstance(before, BookOrderRung | TakeoverRung) and before.level == rung.level
            if not leaves:
                raise book.refusal(
                    f"ladder.{index}.enter",
                    "no rung before it at its level asks for something that may be left",
                    'write it after one with action = "book_order" or "takeover" of the same level, or take it out',
                    f"ladder.{index}.level",
                )
            if rung.size in OF_ALL:
                raise book.refusal(
                    f"ladder.{index}.enter",
                    f"size = {json.dumps(rung.size)} is reckoned over all positions of the pool",
                    "take enter out, or write another size",
                    f"ladder.{index}.size",
                )
        before = rung


def _stale_guard(book: RuleBook) -> plan.StaleGuard | None:
    """Return when nothing is liquidated in a market, after checking that no rung parts what it reckons as a whole."""
    guard = book.rules.price.stale_guard
    if guard is None:
        return None
    for index, rung in enumerate(book.rules.ladder):
        if rung.size in OF_ALL:
            raise book.refusal(
                f"ladder.{index}.size",
                f"size = {json.dumps(rung.size)} is reckoned over all positions, and a guard leaves some of them out",
                "write another size, or take price.stale_guard out",
                "price.stale_guard",
            )
    return plan.StaleGuard(
        guard.divergence,
        guard.window // NS_PER_MS,
        guard.clamp or 0,
        (guard.clamp_window or 0) // NS_PER_MS,
    )


def _check_bankruptcy(book: RuleBook) -> None:
    """Refuse penalties that are shared otherwise than the equity, and fees that are asked for twice."""
    rules = book.rules.bankruptcy
    for index, rung in enumerate(book.rules.ladder):
        if rules.allocation != "maintenance_proportional" and isinstance(rung, TakeoverRung) and rung.penalty:
            raise book.refusal(
                f"ladder.{index}.penalty",
                f"a penalty is shared over positions by maintenance, and equity as {rules.allocation}",
                'write allocation = "maintenance_proportional"',
                "bankruptcy.allocation",
            )
        if rules.fee_rate and isinstance(rung, BookOrderRung) and rung.fee_from == "improvement":
            raise book.refusal(
                f"ladder.{index}.fee_from",
                "the fee comes out of what a fill is better than a price that holds the fee already",
                'write fee_from = "value", or fee_in_price = "none"',
                "bankruptcy.fee_in_price",
            )


def _above(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] * other[1] > other[0] * one[1]


def _ladder(book: RuleBook) -> tuple[plan.Rung, ...]:
    rungs: list[plan.Rung] = []
    for rung in book.rules.ladder:
        if isinstance(rung, TakeoverRung):
            absorber = [absorber.name for absorber in book.rules.absorbers].index(rung.absorber)
            rungs.append(
                plan.Takeover(
                    level=rung.level,
                    price=rung.price,
                    penalty_rate=rung.penalty or 0,
                    absorber=absorber,
                    owed_stays=rung.owed == "stays",
                    share=rung.share or 0,
                    exit=rung.exit or (1, 1),
                    after_unfilled=rung.enter is not None,
                    rate=_rate(rung.rate_limit),
                )
            )
        elif isinstance(rung, AdlRung):
            rungs.append(plan.Deleverage(level=rung.level, after_unfilled=rung.enter is not None))
        elif isinstance(rung, NetRung):
            rungs.append(plan.NetOwnHedge(level=rung.level))
        elif isinstance(rung, CancelRung):
            continue  # no tape has orders of accounts to cancel
        else:
            rungs.append(
                plan.BookOrder(
                    level=rung.level,
                    size=rung.size,
                    slice_above=rung.slice_above or 0,
                    slice_rate=RATE_ONE if rung.slice_share is None else rung.slice_share,
                    cooldown_ns=rung.cooldown or 0,
                    limit=rung.limit,
                    all_or_nothing=rung.tif == "fok",
                    surplus_to=rung.surplus_to,
                    fee_rate=rung.fee,
                    limit_bp=rung.limit_bp or 0,
                    fee_from_improvement=rung.fee_from == "improvement",
                    fee_to_absorber=rung.fee_to == "absorber",
                    tiers=rung.tiers or 1,
                    share=rung.share or 0,
                    cap=rung.cap or 0,
                    exit=rung.exit or (1, 1),
                    spread=rung.spread or (0, 1),
                    order=rung.position_order or "",
                    after_unfilled=rung.enter is not None,
                    rate=_rate(rung.rate_limit),
                )
            )
    return tuple(rungs)


def _rate(limit: RateLimit | None) -> plan.RateLimit:
    if limit is None:
        return plan.RateLimit()
    if isinstance(limit, StepLimit):
        return plan.RateLimit(step_cap=limit.notional)
    return plan.RateLimit(
        initial_rate=limit.initial, full_after_ns=limit.full_after, spared=limit.whole_below or 0
    )


def _check_adl(book: RuleBook) -> None:
    """Refuse ADL that nothing starts, and starts of an ADL that is off."""
    rules = book.rules
    starts = [f"ladder.{index}" for index, rung in enumerate(rules.ladder) if isinstance(rung, AdlRung)]
    for index, absorber in enumerate(rules.absorbers):
        starts += [f"absorbers.{index}.{key}" for key in absorber.triggers]
    limits = [f"absorbers.{i}" for i, absorber in enumerate(rules.absorbers) if absorber.is_limited]
    if isinstance(rules.adl, AdlOff):
        if starts:
            raise book.refusal(
                starts[0],
                "it starts auto-deleveraging, which is off: adl.enabled is false",
                "take it out, or write an [adl] that is enabled",
                "adl",
            )
        if rules.step.max_deleveragings is not None:
            raise book.refusal(
                "step.max_deleveragings",
                "nothing is tried at auto-deleveraging, which is off: adl.enabled is false",
                "take it out, or write an [adl] that is enabled",
                "adl",
            )
        return
    if rules.adl.winner_cap is not None and rules.adl.method is not None:
        raise book.refusal(
            "adl.winner_cap",
            f"the method {rules.adl.method} says itself how much of each it takes",
            "take winner_cap out, or adl.method",
            "adl.method",
        )
    if rules.adl.loss_rule != "exclude" and (rules.adl.method or "").partition(" ")[0] in NEEDS_PROFIT:
        raise book.refusal(
            "adl.loss_rule",
            f"{rules.adl.loss_rule} lets positions at a loss be closed, and {rules.adl.method} shares by profit",
            'write loss_rule = "exclude"',
            "adl.method",
        )
    _check_adl_options(book, rules.adl)
    if not starts and not limits and rules.overlays is None:
        raise book.refusal(
            "adl.enabled",
            "nothing starts auto-deleveraging",
            'write a [[ladder]] rung with action = "adl" or a trigger of one of the [[absorbers]]; '
            "without ADL write enabled = false",
            "ladder",
            "absorbers",
        )


def _check_adl_options(book: RuleBook, adl: AdlOn) -> None:
    """Refuse options of ADL that need what the rules do not have."""
    absorbers = book.rules.absorbers
    if adl.tie_break is not None and adl.method is not None:
        raise book.refusal(
            "adl.tie_break",
            f"the method {adl.method} says itself who comes first",
            "take tie_break out, or adl.method",
            "adl.method",
        )
    for key, wanted in (("fallback_price", adl.fallback_price), ("residual_to", adl.residual_to)):
        if wanted not in (None, "loser") and not absorbers:
            raise book.refusal(
                f"adl.{key}",
                "there is no absorber",
                f"write one of the [[absorbers]], or take {key} out",
                "absorbers",
            )
    several = {
        "fallback_price": adl.fallback_price is not None,
        "residual_to": adl.residual_to == "absorber",
        "suspends_book_liquidation": adl.suspends_book_liquidation is True,
    }
    for key, is_set in several.items():
        if is_set and len(absorbers) > 1:
            raise book.refusal(
                f"adl.{key}",
                "not yet: it is about one absorber, and there are several",
                f"keep one of the [[absorbers]], or take {key} out",
                "absorbers",
            )
    if adl.residual_to == "absorber" and (adl.price, adl.fallback_price) == ("bankruptcy", None):
        raise book.refusal(
            "adl.residual_to",
            "at the bankruptcy price nothing is over",
            "take residual_to out, or write another adl.price",
            "adl.price",
        )
    if adl.residual_to == "absorber" and adl.loser_fee:
        raise book.refusal(
            "adl.loser_fee",
            "the loser ends with nothing to pay a fee with: the absorber has what is over",
            'write loser_fee = "0", or residual_to = "loser"',
            "adl.residual_to",
        )
    if adl.suspends_book_liquidation and not any(
        a.stops_at_zero or a.drawdown_start is not None for a in absorbers
    ):
        raise book.refusal(
            "adl.suspends_book_liquidation",
            "no rule of an absorber says while when a market is being deleveraged",
            "write stops_at_zero or drawdown_start for one of the [[absorbers]], or take it out",
            "absorbers",
        )


def _adl(book: RuleBook, markets: Sequence[Market]) -> plan.Adl | None:
    adl = book.rules.adl
    if isinstance(adl, AdlOff):
        return None
    profit_term, leverage_term, equity_scope = NAMED_SCORES.get(
        adl.score, (adl.profit_term, adl.leverage_term, adl.equity_scope)
    )
    assert profit_term is not None
    assert leverage_term is not None
    assert equity_scope is not None
    return plan.Adl(
        profit_term=profit_term,
        leverage_term=leverage_term,
        equity_scope=equity_scope,
        loss_rule=adl.loss_rule,
        price=adl.price,
        winner_fee_rate=adl.winner_fee,
        loser_fee_rate=adl.loser_fee,
        lights=adl.lights,
        winner_cap=RATE_ONE if adl.winner_cap is None else adl.winner_cap,
        method=adl.method or "queue",
        must_not_worsen=adl.must_not_worsen_counterparty or "",
        fallback_price=adl.fallback_price or "",
        fallback_below=adl.fallback_below or 0,
        residual_to_absorber=adl.residual_to == "absorber",
        tie_break=adl.tie_break or (),
        suspends_book=adl.suspends_book_liquidation is True,
        exempt_markets=_named(markets, adl.exempt.markets if adl.exempt else None),
        exempt_accounts=(adl.exempt.accounts if adl.exempt else None) or (),
    )


def _named(markets: Sequence[Market], names: tuple[str, ...] | None) -> tuple[int, ...]:
    """Return the ids of the markets of the tape that are named; names that it does not have name none."""
    return tuple(market.id for market in markets if market.name in (names or ()))


def _oracle_key(book: RuleBook) -> str:
    """Return the key of the rules that needs oracle prices, or nothing."""
    adl = book.rules.adl
    for index, rung in enumerate(book.rules.ladder):
        if isinstance(rung, BookOrderRung) and rung.limit == "oracle_band":
            return f"ladder.{index}.limit"
    if isinstance(adl, AdlOff):
        return ""
    prices = {"adl.price": adl.price, "adl.fallback_price": adl.fallback_price or ""}
    return next((key for key, price in prices.items() if "oracle" in price), "")


def _depth(
    book: RuleBook, markets: Sequence[Market], ledgers: Sequence[tuple[str, str]]
) -> plan.DepthRule | None:
    """Return the rule of the book's depth, after checking that something is sent there."""
    rules, depth = book.rules, book.rules.depth
    senders = [f"ladder.{i}" for i, rung in enumerate(rules.ladder) if isinstance(rung, BookOrderRung)]
    senders += [f"absorbers.{i}.work_out" for i, a in enumerate(rules.absorbers) if a.work_out == "book"]
    if isinstance(depth, NoDepth):
        if senders:
            raise book.refusal(
                "depth.provider",
                f"{senders[0]} sends orders into a book without depth",
                'write how deep it is: provider = "levels", "volume" or "static"',
                senders[0],
            )
        return None
    if not senders:
        raise book.refusal(
            "depth.provider",
            "nothing is sent into the book",
            'write provider = "none", or a [[ladder]] rung with action = "book_order"',
            "ladder",
            "absorbers",
        )
    volume = depth if isinstance(depth, VolumeDepth) else None
    static: tuple[tuple[int, int], ...] = ()
    if isinstance(depth, StaticDepth):
        _check_static_currency(book, depth, markets, ledgers)
        static = tuple((level.bp, level.notional) for level in depth.static)
    return plan.DepthRule(
        provider=depth.provider,
        haircut_rate=depth.haircut,
        half_life_ns=depth.half_life,
        participation_rate=volume.participation if volume else 0,
        window_ns=volume.window if volume else 0,
        slippage_bp=volume.slippage_bp if volume else 0,
        static=static,
        cap_rate=depth.cap_per_step or RATE_ONE,
    )


def _check_static_currency(
    book: RuleBook, depth: StaticDepth, markets: Sequence[Market], ledgers: Sequence[tuple[str, str]]
) -> None:
    for market in markets:
        currency = ledgers[market.ledger][1]
        if market.payoff != Payoff.SPOT and currency not in depth.currencies:
            raise book.refusal(
                "depth.currencies",
                f"the table is in {', '.join(depth.currencies)}, market {market.name} of the tape settles in "
                f"{currency}",
                'not yet: a table for each currency; use provider = "levels" or "volume" for such a tape',
            )
