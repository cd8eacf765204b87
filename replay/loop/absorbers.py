"""Funds and vaults: what they may still take, what they hold, when their own positions are closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.loop.books import value_of
from replay.loop.ledger import add_cash
from replay.loop.margin import valuation
from replay.loop.state import State
from replay.rules.formulas.triggers import EMPTY, RollingPeak, pool_empty
from replay.rules.plan import Absorber
from replay.units import RATE_ONE


@dataclass(slots=True)
class Verdict:
    """Whether a market's deleveraging is on, and why: measured against threshold, both in atoms."""

    active: bool
    reason: str
    measured: int
    threshold: int


class AbsorberBook:
    """The account of one absorber over all ledgers: profit by market, rolling peaks, and its triggers.

    Args:
        state: The state.
        rule: The absorber of the rules.
        start_ts: Beginning of the tape, from which on the opening balance counts.
    """

    def __init__(self, state: State, rule: Absorber, start_ts: int) -> None:
        self.rule = rule
        self._state = state
        self._flow: dict[int, int] = {}
        self._profit_peak: dict[int, RollingPeak] = {}
        self._balance_peak: dict[int, RollingPeak] = {}
        self._active: dict[int, bool] = {}
        self._slots = np.zeros(0, np.int64)  # of the markets it was ever booked in
        self._pools: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        for ledger in self.ledgers():
            if rule.amount is not None and state.ledgers[ledger][1] in rule.currencies:
                self._open_with(ledger, rule.amount)
            self.balance_peak(ledger, start_ts)

    def _open_with(self, ledger: int, amount: int) -> None:
        """Bring its cash of a ledger to an amount, from outside."""
        pool = self.pool(ledger)
        flow = amount - int(self._state.pools[pool]["cash"])
        add_cash(self._state.arrays, pool, flow)
        self._state.external_flow[ledger] += flow

    def ledgers(self) -> list[int]:
        """Return the ledgers in which markets are settled."""
        return sorted({market.ledger for market in self._state.markets if market.payoff != 2})

    def pool(self, ledger: int) -> int:
        """Return the absorber's pool of a ledger."""
        if ledger not in self._pools:
            self._pools[ledger] = self._state.pseudo_pool(self.rule.account, ledger)
        return self._pools[ledger]

    def position(self, market: int) -> int:
        """Return the absorber's position slot in a market."""
        if market not in self._positions:
            self._positions[market] = self._state.pseudo_position(self.rule.account, market)
        return self._positions[market]

    def size(self, market: int) -> int:
        """Return its inventory in a market, signed."""
        return int(self._state.arrays.positions[self.position(market)]["size"])

    def balance(self, ledger: int) -> int:
        """Return its equity in a ledger at the marks, in atoms."""
        return int(valuation(self._state.arrays, self.pool(ledger))[0])

    def holdings(self) -> list[int]:
        """Return the markets in which it holds inventory, ascending."""
        markets = sorted(self._flow)
        if len(markets) != len(self._slots):
            self._slots = np.array([self.position(market) for market in markets], np.int64)
        held = self._state.arrays.positions["size"][self._slots]
        return [market for market, size in zip(markets, held.tolist(), strict=True) if size]

    def book(self, market: int, amount: int) -> None:
        """Note a change of its ``cash - cost`` that came from a market."""
        self._flow[market] = self._flow.get(market, 0) + amount

    def profit(self, market: int) -> int:
        """Return what a market has brought it so far, inventory at mark, in atoms."""
        size = self.size(market)
        mark = int(self._state.arrays.markets[market]["mark"])
        held = value_of(self._state, market, size, mark, at_mark=True) if size else 0
        return self._flow.get(market, 0) + held

    def balance_peak(self, ledger: int, ts: int) -> int:
        """Return its highest balance over the window, the present one included."""
        peak = self._balance_peak.setdefault(ledger, RollingPeak(self.rule.window_ns))
        return peak.add(ts, self.balance(ledger))

    def profit_peak(self, market: int, ts: int) -> int:
        """Return the highest profit of a market over the window, the present one and the start included."""
        peak = self._profit_peak.get(market)
        if peak is None:
            peak = self._profit_peak[market] = RollingPeak(self.rule.window_ns)
            peak.add(ts, 0)
        return peak.add(ts, self.profit(market))

    def headroom(self, market: int, ts: int) -> int | None:
        """Return how much more a market may lose before the drawdown line; None without a rule.

        Source: Bybit's adlAlert: (profit of the symbol - its peak) / (peak balance of the pool), both
        over the window, against the start ratio. Only what lies beyond the line is deleveraged.
        """
        if self.rule.drawdown is None:
            return None
        ledger = self._state.markets[market].ledger
        start = self.rule.drawdown[0]
        line = start * self.balance_peak(ledger, ts) // RATE_ONE
        return int(line + self.profit(market) - self.profit_peak(market, ts))

    def capacity(self, market: int, ts: int) -> int | None:
        """Return the loss at mark that it may take on in a market now, in atoms; None is no bound."""
        room: int | None = self.headroom(market, ts)
        if self.is_active(market):
            return 0
        if self.rule.stops_at_zero:
            balance = max(0, self.balance(self._state.markets[market].ledger))
            return int(balance if room is None else max(0, min(room, balance)))
        return None if room is None else max(0, int(room))

    def is_active(self, market: int) -> bool:
        """Return whether deleveraging is on for a market."""
        return self._active.get(market, False)

    def judge(self, market: int, ts: int) -> Verdict | None:
        """Judge the start and stop rules of a market; return the verdict if the state changed."""
        if self.rule.drawdown is None and not self.rule.stops_at_zero:
            return None
        ledger = self._state.markets[market].ledger
        balance = self.balance(ledger)
        was = self.is_active(market)
        drawdown, start_line, stop_line = 0, 0, 0
        starts = stops = False
        if self.rule.drawdown is not None:
            peak = self.balance_peak(ledger, ts)
            drawdown = self.profit(market) - self.profit_peak(market, ts)
            start, stop = self.rule.drawdown
            start_line, stop_line = -(start * peak // RATE_ONE), -(stop * peak // RATE_ONE)
            starts = balance > self.rule.least_balance and drawdown < 0 and drawdown <= start_line
            stops = drawdown > stop_line
        empty = self.rule.stops_at_zero and pool_empty(balance)
        if not was and empty:
            self._active[market] = True
            return Verdict(True, "the balance is not above zero", balance, EMPTY)
        if not was and starts:
            self._active[market] = True
            return Verdict(True, "drawdown of the market against the fund's peak", drawdown, start_line)
        if was and not empty and (stops or self.rule.drawdown is None):
            self._active[market] = False
            if self.rule.drawdown is None:
                return Verdict(False, "the balance is above zero", balance, EMPTY)
            return Verdict(False, "drawdown of the market against the fund's peak", drawdown, stop_line)
        return None
