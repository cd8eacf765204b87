"""A linear account at one price per market, and its forced closing part by part.

Source: venue-rules.md section 7: one cash balance in the quote currency, equity ``cash + sum n*P``,
maintenance a rate of notional. Every figure is exact; what a rule rounds is rounded to its quantum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from replay.rules.formulas.bankruptcy import bankruptcy_quote
from replay.rules.formulas.exact import Exact, side_of
from replay.rules.formulas.fill import walk_levels
from replay.rules.formulas.insurance import improvement_fee
from replay.rules.formulas.triggers import fund_covers


@dataclass(frozen=True, slots=True)
class Holding:
    """A position: signed size in units of the underlying, its risk price, its maintenance rate."""

    size: Exact
    price: Exact
    rate: Exact = 1

    @property
    def value(self) -> Fraction:
        """Return the signed value at the risk price."""
        return Fraction(self.size) * self.price

    @property
    def maintenance(self) -> Fraction:
        """Return the maintenance margin."""
        return abs(self.value) * self.rate


@dataclass(frozen=True, slots=True)
class Account:
    """Cash and the positions it backs."""

    cash: Exact
    holdings: tuple[Holding, ...]

    @property
    def equity(self) -> Fraction:
        """Return cash plus the value of all positions."""
        return Fraction(self.cash) + sum((held.value for held in self.holdings), Fraction(0))

    @property
    def maintenance(self) -> Fraction:
        """Return the maintenance margin of all positions."""
        return sum((held.maintenance for held in self.holdings), Fraction(0))

    def after(self, index: int, change: Exact, quote: Exact) -> Account:
        """Return the account after a position changed by a signed size for a quote."""
        held = self.holdings[index]
        changed = replace(held, size=Fraction(held.size) + change)
        return Account(
            Fraction(self.cash) + quote, (*self.holdings[:index], changed, *self.holdings[index + 1 :])
        )


def quote_at_bankruptcy(
    account: Account, index: int, change: Exact, *, quantum: Exact | None = None
) -> Fraction:
    """Return the cash for which a position changes by a signed size at bankruptcy.

    Equity is shared by maintenance; see :func:`replay.rules.formulas.bankruptcy.bankruptcy_quote`.

    Args:
        account: The account.
        index: Which of its positions.
        change: Signed change of size: negative reduces a long.
        quantum: Smallest amount of cash; None: not rounded.
    """
    held = account.holdings[index]
    freed = abs(Fraction(change)) * held.price * held.rate
    return bankruptcy_quote(
        Fraction(change) * held.price, account.equity, freed, account.maintenance, quantum=quantum
    )


@dataclass(frozen=True, slots=True)
class ForcedClose:
    """An account whose position was closed in the book, and what the fund got or paid."""

    account: Account
    filled: Fraction
    fund_change: Fraction
    refused: bool


def close_in_book(
    account: Account,
    index: int,
    quantity: Exact,
    levels: Sequence[tuple[Exact, Exact]],
    *,
    fee_cap: Exact,
    fund: Exact | None = None,
) -> ForcedClose:
    """Close a quantity of a position against levels ``(price, size)``, best first.

    Of each fill the fund takes the improvement over bankruptcy, at most ``fee_cap`` of the fill, or pays what
    it is worse. A fill that the fund cannot pay for ends the order: the rest is for deleveraging.

    Args:
        account: The account.
        index: Which of its positions.
        quantity: Magnitude to close.
        levels: Of the side it trades with.
        fee_cap: Highest fee as a share of the fill.
        fund: Balance of the fund; None: it pays whatever is needed.
    """
    left, gained = Fraction(quantity), Fraction(0)
    refused = False
    side = side_of(account.holdings[index].size)
    for price, fill in walk_levels(quantity, levels):
        quote = side * fill * price
        change = improvement_fee(quote, quote_at_bankruptcy(account, index, -side * fill), fee_cap)
        if fund is not None and not fund_covers(Fraction(fund) + gained, change):
            refused = True
            break
        gained += change
        left -= fill
        account = account.after(index, -side * fill, quote - change)
    return ForcedClose(account, Fraction(quantity) - left, gained, refused)


@dataclass(frozen=True, slots=True)
class SharedPool:
    """Cash of a collateral pool around a close whose loss the fund pays."""

    fund_change: Fraction
    before: Fraction
    after_fund: Fraction
    needed: Fraction

    @property
    def pays_without_fund(self) -> bool:
        """Tell whether the pool could pay out before the fund has paid in."""
        return self.before >= self.needed


def fund_before_payout(loser: Account, winner: Account, price: Exact) -> SharedPool:
    """Close the last positions of a pool of their own: the fund pays in, then the winner is paid out.

    Source: the published case of a chain that halted on 2025-10-10 because collateral moved first.
    """
    held = loser.holdings[0]
    short = Fraction(loser.cash) + Fraction(held.size) * price
    paid = Fraction(winner.cash) + Fraction(winner.holdings[0].size) * price
    before = Fraction(loser.cash) + winner.cash
    return SharedPool(min(short, Fraction(0)), before, before - min(short, Fraction(0)), paid)
