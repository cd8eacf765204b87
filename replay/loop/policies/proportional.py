"""Proportional policies: every candidate bears its share of the need (axis ``adl.method``).

One lot of a market costs every candidate the same money, so a share of the budget in wealth space is the same
share of the lots. Lots are rounded by largest remainders and shared again after caps. Source: adl-paper.md
sections 2.1, 2.2, 2.5, 2.7, 2.9.
"""

from __future__ import annotations

from fractions import Fraction

from replay.loop.policies import weights
from replay.loop.policies.allocate import Weight, largest_remainder
from replay.loop.policies.leverage import cut_to_equal_leverage
from replay.loop.policies.winners import Lots, Winners


def _share(need: int, winners: Winners, by: list[Weight], cap: Fraction = Fraction(1)) -> Lots:
    return largest_remainder(need, by, [int(lots * cap) for lots in winners.lots.tolist()])


def contract_pro_rata(need: int, winners: Winners) -> Lots:
    """In proportion to size, ``k_i = Q * q_i / sum q``."""
    return _share(need, winners, weights.exact(winners.lots))


def profit_pro_rata(need: int, winners: Winners) -> Lots:
    """In proportion to profit."""
    return _share(need, winners, weights.profits(winners))


def equity_pro_rata(need: int, winners: Winners) -> Lots:
    """In proportion to equity.

    Shared again after caps this is water-filling: the largest loss per equity is the least possible.
    """
    return _share(need, winners, weights.equities(winners))


def wealth_pro_rata(need: int, winners: Winners) -> Lots:
    """In proportion to what can be taken without a debt: the smaller of profit and equity."""
    return _share(need, winners, weights.wealths(winners))


def levered_pro_rata(need: int, winners: Winners) -> Lots:
    """In proportion to leverage x profit."""
    return _share(need, winners, weights.levered(winners))


def capped_pro_rata(need: int, winners: Winners, *, cap: float | Fraction = Fraction(1, 2)) -> Lots:
    """In proportion to profit, nobody beyond a share of the position; what all caps leave is not closed."""
    return _share(need, winners, weights.profits(winners), Fraction(cap))


def risk_linear(need: int, winners: Winners) -> Lots:
    """In proportion to notional x leverage."""
    return _share(need, winners, weights.risk_mass(winners, weights.linear))


def risk_power(need: int, winners: Winners, *, exponent: int = 2) -> Lots:
    """In proportion to notional x leverage to a power."""
    return _share(need, winners, weights.risk_mass(winners, weights.power(exponent)))


def risk_cvar(need: int, winners: Winners, *, cutoff: float | Fraction = 1) -> Lots:
    """In proportion to notional x the leverage beyond a cutoff.

    Whoever is below it is spared, even if that leaves lots unclosed.
    """
    return _share(need, winners, weights.risk_mass(winners, weights.beyond(Fraction(cutoff))))


def minimax_leverage(need: int, winners: Winners) -> Lots:
    """Cut the most levered to one common leverage: the highest leverage left is the least possible.

    The leverage is that of the position on the equity behind it. Candidates without equity are closed first
    of all.
    """
    lots, equities = weights.exact(winners.lots), weights.equities(winners)
    bare = [size if equity == 0 else 0 for size, equity in zip(lots, equities, strict=True)]
    taken = largest_remainder(need, bare, winners.lots.tolist())
    rows = [row for row, equity in enumerate(equities) if equity > 0]
    left = need - int(taken.sum())
    if rows and left > 0:
        _, cuts = cut_to_equal_leverage(left, [lots[row] for row in rows], [equities[row] for row in rows])
        taken[rows] = largest_remainder(left, cuts, [int(lots[row]) for row in rows])
    return taken
