"""From a rule book to the plan of a run; what cannot go together is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from replay.errors import RulesError
from replay.rules.model import RATE_ONE, BracketMargin, FlatMargin, RuleBook
from replay.rules.plan import Plan, Takeover
from replay.tape.schema import Payoff
from replay.units import RATE_SCALE, format_units

if TYPE_CHECKING:
    from replay.tape.read import Market


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
        RulesError: A draft without ``accept_assumptions``; a rate above 1; tiers in another currency than a
            market's; a ladder and absorbers that do not fit each other.
    """
    if book.rules.status == "draft" and not accept_assumptions:
        raise RulesError(
            f"{book.name} is a draft: it assumes what the venue does not publish",
            file=book.place("status"),
            key="status",
            mend=f"read `replay rules show {book.name}`, then run with --accept-assumptions",
        )
    tiers = _tiers(book)
    _check_currency(book, markets, ledgers)
    counts = [0 if market.payoff == Payoff.SPOT else len(tiers) for market in markets]
    derived = [market for market in markets if market.payoff != Payoff.SPOT]
    columns = np.array(tiers, dtype=np.int64).T
    starts, rates, deductions = (np.tile(column, len(derived)) for column in columns)
    return Plan(
        name=book.name,
        sha256=book.sha256,
        tier_first=np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64),
        tier_from=starts,
        tier_rate=rates,
        tier_deduction=deductions,
        breach_at_equal=book.rules.trigger.when == "equity <= maintenance",
        ladder=_ladder(book),
        allocation=book.rules.bankruptcy.allocation,
        adl_enabled=book.rules.adl.enabled,
        assumptions=book.rules.assumptions,
    )


def _tiers(book: RuleBook) -> list[tuple[int, int, int]]:
    """Return ``(from, rate, deduction)`` of each tier; a flat rate is one tier."""
    margin = book.rules.margin
    if isinstance(margin, FlatMargin):
        _check_rate(book, "margin.rate", margin.rate)
        return [(0, margin.rate, 0)]
    tiers = []
    for index, tier in enumerate(margin.tiers):
        _check_rate(book, f"margin.tiers.{index}.rate", tier.rate)
        tiers.append((tier.start, tier.rate, tier.deduction or 0))
    return tiers


def _check_rate(book: RuleBook, key: str, rate: int) -> None:
    """Refuse a rate above 1: the search for breaches needs maintenance to rise no faster than value."""
    if rate > RATE_ONE:
        raise RulesError(
            f"a maintenance rate of {format_units(rate, RATE_SCALE)} is above 1",
            file=book.place(key),
            key=key,
            mend="rates are shares of notional: 1 % is 0.01; the sum of all rates on a position is at most 1",
        )


def _check_currency(book: RuleBook, markets: Sequence[Market], ledgers: Sequence[tuple[str, str]]) -> None:
    """Refuse tiers in one currency for a market that settles in another."""
    margin = book.rules.margin
    if not isinstance(margin, BracketMargin):
        return
    for market in markets:
        currency = ledgers[market.ledger][1]
        if market.payoff != Payoff.SPOT and currency != margin.currency:
            raise RulesError(
                f"the tiers are in {margin.currency}, market {market.name} of the tape settles in {currency}",
                file=book.place("margin.currency"),
                key="margin.currency",
                mend='not yet: tiers for some markets only; use shape = "flat" for such a tape',
            )


def _ladder(book: RuleBook) -> tuple[Takeover, ...]:
    """Resolve the absorbers that the stages name."""
    accounts: dict[str, str] = {}
    for index, absorber in enumerate(book.rules.absorbers):
        if absorber.name in accounts:
            key = f"absorbers.{index}.name"
            raise RulesError(
                f"two absorbers are called {absorber.name}",
                file=book.place(key),
                key=key,
                mend="give each of the [[absorbers]] a name of its own",
            )
        accounts[absorber.name] = absorber.account
    stages = []
    for index, stage in enumerate(book.rules.ladder):
        key = f"ladder.{index}"
        if index > 0:
            raise RulesError(
                f"this stage is never reached: stage {index - 1} always takes the whole pool",
                file=book.place(key),
                key=key,
                mend='a stage with action = "takeover" and size = "full" is the last of the [[ladder]]',
            )
        if stage.absorber not in accounts:
            raise RulesError(
                f"there is no absorber called {stage.absorber}",
                file=book.place(f"{key}.absorber"),
                key=f"{key}.absorber",
                mend=f"the [[absorbers]] of the file are: {', '.join(accounts)}",
            )
        stages.append(Takeover(absorber=accounts[stage.absorber], price=stage.price))
    used = {stage.absorber for stage in book.rules.ladder}
    for index, name in enumerate(accounts):
        if name not in used:
            raise RulesError(
                f"no stage of the ladder hands anything to {name}",
                file=book.place(f"absorbers.{index}"),
                key=f"absorbers.{index}",
                mend="name it as the absorber of a [[ladder]] stage, or take it out",
            )
    return tuple(stages)
