"""When the reference engine liquidates nothing in a market, because its price is far from its average."""

from __future__ import annotations

from replay.rules.plan import Plan
from tests.reference.books import RATE_ONE

MS = 10**6
FINE = 10**8


class Guard:
    """Averages of the marks of a day, in 1e-8 of a unit: of each market the average, a slower one, and their time."""

    def __init__(self, plan: Plan) -> None:
        self.rule = plan.stale_guard
        self.averages: dict[int, tuple[int, int, int]] = {}

    def updated(self, market: int, mark: int, ts: int) -> tuple[int, int]:
        """Return both averages after an update with a mark that stood until now."""
        assert self.rule is not None
        average, slow, before = self.averages[market]
        if self.rule.clamp_rate:
            most = slow // FINE * self.rule.clamp_rate // RATE_ONE
            mark = min(max(mark, slow // FINE - most), slow // FINE + most)
        found = []
        windows = (self.rule.window_ms, self.rule.clamp_window_ms or 1)
        for value, window in zip((average, slow), windows, strict=True):
            since = min(ts // MS - before, window)
            found.append((value * (window - since) + mark * FINE * since) // window)
        return found[0], found[1]

    def follow(self, market: int, old: int | None, new: int, ts: int) -> None:
        """Update the averages of a market whose mark changes."""
        if self.rule is not None:
            first = (new * FINE, new * FINE)
            self.averages[market] = (*(first if old is None else self.updated(market, old, ts)), ts // MS)

    def holds_up(self, market: int, mark: int, ts: int) -> bool:
        """Tell whether nothing is liquidated in a market at a mark."""
        if self.rule is None:
            return False
        average = self.updated(market, mark, ts)[0] // FINE
        return abs(mark - average) * RATE_ONE >= self.rule.divergence * average
