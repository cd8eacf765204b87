"""When deleveraging starts and stops (axes ``adl.start``, ``adl.stop``): predicates on money.

All comparisons are exact; a ratio is compared by cross-multiplication, so that an equal ratio is equal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

from replay.rules.formulas.exact import Exact


@dataclass(slots=True)
class RollingPeak:
    """The largest sample of the last ``window``: only what can still become the largest is kept."""

    window: int
    _samples: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, at: int, value: int) -> int:
        """Take a sample and return the largest of the window, both ends included."""
        while self._samples and self._samples[-1][1] <= value:
            self._samples.pop()
        self._samples.append((at, value))
        while self._samples[0][0] < at - self.window:
            self._samples.popleft()
        return self._samples[0][1]


def drawdown_of_profit(profit: Exact, peak_profit: Exact, peak_balance: Exact) -> Fraction:
    """Return ``(profit of the market - its peak) / (peak balance of the pool)``, never positive.

    Source: venue-rules.md section 1.4: the numerator is the market's, the denominator the whole pool's.
    """
    return Fraction(profit - peak_profit) / peak_balance


def drawdown_starts(ratio: Exact, start: Exact, *, balance: Exact, least_balance: Exact) -> bool:
    """Tell whether a drawdown at or past the start ratio (-0.3 for 30 %) begins deleveraging.

    Only above a least balance: below it the rule for an empty pool decides. Source: venue-rules.md 1.4.
    """
    return balance > least_balance and ratio <= start


def drawdown_continues(ratio: Exact, stop: Exact) -> bool:
    """Tell whether deleveraging that has begun goes on: until the ratio is above the stop ratio."""
    return ratio <= stop


def beyond_drawdown(profit: Exact, peak_profit: Exact, peak_balance: Exact, start: Exact) -> Fraction:
    """Return the loss beyond the start line, which is what is deleveraged; 0 before it."""
    line = Fraction(start) * peak_balance
    return max(Fraction(0), line - (Fraction(profit) - peak_profit))


EMPTY = 0
"""At this balance a pool is empty; deleveraging goes on until it is above."""


def pool_empty(balance: Exact) -> bool:
    """Tell whether nothing is left in a pool."""
    return balance <= EMPTY


def balance_drawdown(balance: Exact, peak: Exact, share: Exact) -> bool:
    """Tell whether a fund has fallen by a share of its rolling peak, or more. Source: venue-rules.md 3.4."""
    return Fraction(balance) <= (1 - Fraction(share)) * peak


def fund_covers(fund: Exact, change: Exact) -> bool:
    """Tell whether a fund stays at or above zero after a change. Source: venue-rules.md section 7.3."""
    return fund + change >= 0


def equity_negative(equity: Exact) -> bool:
    """Tell whether an account is below zero, strictly. Source: venue-rules.md sections 4.4, 7.4."""
    return equity < 0


def loss_beyond_share(loss_share: Exact, limit: Exact) -> bool:
    """Tell whether a loss per contract value is more than the engine bears; equal to the limit it is not."""
    return loss_share > limit


@dataclass(frozen=True, slots=True)
class PoolClaim:
    """Open profit of one side of a market against the pool that pays it, in dollars."""

    tokens: Fraction
    pending_profit: Fraction
    pool_value: Fraction
    factor: Fraction


def profit_to_pool(pool_tokens: Exact, open_size: Exact, open_price: Exact, price: Exact) -> PoolClaim:
    """Return the pending profit of longs over the value of the pool at one price.

    Args:
        pool_tokens: Tokens of the pool, collateral of traders left out.
        open_size: Open size of the longs in dollars at their entry.
        open_price: Their average entry.
        price: Price now.

    Source: venue-rules.md section 9.4.
    """
    tokens = Fraction(open_size) / open_price
    pending = tokens * price - open_size
    value = Fraction(pool_tokens) * price
    return PoolClaim(tokens, pending, value, pending / value)


def allowed_reduction(
    claim: PoolClaim, open_size: Exact, wanted: Exact, *, start: Exact, floor: Exact
) -> Fraction:
    """Return the size that may be closed, all or nothing: the factor must fall, and end above the floor.

    The closed part of the profit is paid out of the pool. Source: venue-rules.md sections 9.4 and 27.9.
    """
    if claim.factor <= start:
        return Fraction(0)
    paid = claim.pending_profit * wanted / open_size
    after = (claim.pending_profit - paid) / (claim.pool_value - paid)
    return Fraction(wanted) if floor <= after < claim.factor else Fraction(0)
