"""Leverage water-filling: cut whoever is above one level of leverage, exactly to it.

Minimises the highest leverage left after a given amount is closed, and for one market also the expected
shortfall after the next shock whatever its law. Source: Campbell, Hey, Moallemi, Nutz, "Risk-Based
Auto-Deleveraging" (arXiv 2603.15963); vectors in adl-paper.md section 2.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Exact = int | Fraction


def cut_to_equal_leverage(
    need: Exact, notionals: Sequence[Exact], equities: Sequence[Exact]
) -> tuple[Fraction, list[Fraction]]:
    """Return the level l with ``sum (n_i - l*e_i)_+ = need``, and each cut ``(n_i - l*e_i)_+``.

    Args:
        need: Notional to close; more than there is closes everything at level 0.
        notionals: Notional of each position.
        equities: Equity behind each, above zero.
    """
    total = sum((Fraction(n) for n in notionals), Fraction(0))
    if need >= total:
        return Fraction(0), [Fraction(n) for n in notionals]
    order = sorted(range(len(notionals)), key=lambda i: -Fraction(notionals[i]) / equities[i])
    above_notional, above_equity = Fraction(0), Fraction(0)
    level = Fraction(0)
    for place, row in enumerate(order):
        above_notional += notionals[row]
        above_equity += equities[row]
        level = (above_notional - need) / above_equity
        following = order[place + 1] if place + 1 < len(order) else None
        if following is None or level >= Fraction(notionals[following]) / equities[following]:
            break
    return level, [max(Fraction(0), n - level * e) for n, e in zip(notionals, equities, strict=True)]
