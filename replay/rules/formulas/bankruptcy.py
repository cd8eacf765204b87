"""Bankruptcy value and price of a position, by allocation (axis ``bankruptcy.allocation``) and exit fee.

Source: venue-rules.md section 0. In value space all payoffs read alike: a position may lose its share of the
equity, ``V(B) = V(M) - share``; the allocations differ in the share.
"""

from __future__ import annotations

from fractions import Fraction

from replay.rules.formulas.contract import Payoff, price_at, value_at
from replay.rules.formulas.exact import Exact, round_down, round_up


def isolated(
    payoff: Payoff,
    size: Exact,
    entry: Exact,
    margin: Exact,
    *,
    multiplier: Exact = 1,
    exit_fee_rate: Exact = 0,
) -> Fraction | None:
    """Return the price at which a position has lost its own margin: ``V(B) = V(entry) - margin``.

    With an exit fee the taker fee on the value at B is part of the loss, ``V(B) - f*|V(B)| = V(entry) -
    margin``: a long linear price grows by 1/(1 - f), a short one by 1/(1 + f); inverse the other way round.

    Returns:
        The price, or None where even the best price does not lose that much (an inverse long can never be
        closed at a price that high).
    """
    worth = value_at(payoff, size, entry, multiplier) - margin
    return price_at(payoff, size, _with_fee(worth, exit_fee_rate), multiplier)


def all_equity(
    payoff: Payoff, size: Exact, mark: Exact, equity: Exact, *, multiplier: Exact = 1
) -> Fraction | None:
    """Return the price at which one position alone uses up the whole equity: ``V(B) = V(M) - equity``."""
    return price_at(payoff, size, value_at(payoff, size, mark, multiplier) - equity, multiplier)


def _with_fee(worth: Fraction, rate: Exact) -> Fraction:
    """Return the value whose amount after a fee on its magnitude is ``worth``."""
    return worth / (1 - rate) if worth > 0 else worth / (1 + Fraction(rate))


def by_leverage(payoff: Payoff, side: int, entry: Exact, leverage: Exact) -> Fraction | None:
    """Return the isolated price of a position whose margin is ``1/leverage`` of its entry value."""
    margin = abs(value_at(payoff, side, entry)) / Fraction(leverage)
    return isolated(payoff, side, entry, margin)


def maintenance_share(equity: Exact, maintenance: Exact, total_maintenance: Exact) -> Fraction:
    """Return the part of an account's equity that one position may lose: in proportion to maintenance."""
    return Fraction(equity) * maintenance / total_maintenance


def maintenance_proportional(
    payoff: Payoff,
    size: Exact,
    mark: Exact,
    equity: Exact,
    maintenance: Exact,
    total_maintenance: Exact,
    *,
    multiplier: Exact = 1,
) -> Fraction | None:
    """Return the price at which a position loses its share of the account's equity.

    Closing at it leaves equity over maintenance unchanged; closing every position at its own leaves nothing.
    Linear: ``M * (1 - side * rate * equity / total maintenance)``. Source: venue-rules.md sections 0, 7, 19.
    """
    share = maintenance_share(equity, maintenance, total_maintenance)
    return price_at(payoff, size, value_at(payoff, size, mark, multiplier) - share, multiplier)


def bankruptcy_quote(
    change_of_value: Exact,
    equity: Exact,
    change_of_maintenance: Exact,
    total_maintenance: Exact,
    *,
    quantum: Exact | None = None,
) -> Fraction:
    """Return the cash for which part of a position changes hands at bankruptcy.

    ``-dV - floor(equity * |dMM| / total MM)``: positive is cash the account receives (it sells a long),
    negative is cash it pays. Rounded up to the quantum, so that no insurance is needed.
    Source: venue-rules.md section 7.2.

    Args:
        change_of_value: Change of the position's value at the risk price: negative when a long is reduced.
        equity: Equity of the account.
        change_of_maintenance: Maintenance that the change frees, as a magnitude.
        total_maintenance: Maintenance of the account.
        quantum: Smallest amount of cash; None: not rounded.
    """
    share = maintenance_share(equity, change_of_maintenance, total_maintenance)
    if quantum is not None:
        share = round_down(share, quantum)
    return -Fraction(change_of_value) - share


def to_tick(price: Exact, side: int, tick: Exact) -> Fraction:
    """Round against the counterparty of the bankrupt: up for a long, which sells, down for a short."""
    return round_up(price, tick) if side > 0 else round_down(price, tick)
