"""Depth: what the book can take of a forced order, and what it remembers of the orders before.

A provider offers price levels for a (market, side); forced orders walk them best first, in canonical order,
never beyond their limits. What they took is missing for those that follow, and comes back with a half-life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.exact import OVERFLOW, contract_value, muldiv_floor
from replay.kernels import kernel
from replay.loop.state import State
from replay.rules.plan import DepthRule
from replay.tape.read import DepthRows, Fills
from replay.tape.schema import FillKind, Side
from replay.units import RATE_ONE, divide_half_even

Array = npt.NDArray[Any]

NO_LIMIT = -1


class Shown(NamedTuple):
    """Recorded forced fills that the rules leave out: moment, market, signed quantity, price."""

    ts: Array
    market: Array
    qty: Array
    price: Array


@dataclass(slots=True)
class _Taken:
    quantity: int
    ts: int


class Depth:
    """The book of a replay: levels by the rule's provider, less what forced orders took.

    Args:
        state: The state (marks, volumes, scales).
        rule: Provider, haircut, half-life and table of the rules.
    """

    def __init__(self, state: State, rule: DepthRule) -> None:
        self._state = state
        self._rule = rule
        self._taken: dict[tuple[int, int], _Taken] = {}
        self._snapshots: dict[int, DepthRows] = {}
        self._rows: DepthRows | None = None
        self._by_market: dict[int, Array] = {}
        self._shown = Shown(*(np.zeros(0, np.int64) for _ in range(4)))
        self._shown_left: dict[tuple[int, int], tuple[int, Array]] = {}
        self.crossed: set[tuple[int, int]] = set()
        """(market, moment) of snapshots that orders met and that were refused, as they are impossible."""

    def open_window(self, rows: DepthRows, fills: Fills) -> None:
        """Take over the depth rows of a window; the last snapshot of each market before it stays known.

        What recorded forced orders took from the book in a step is liquidity that was there: where the rules
        leave those orders out, it is offered again in that step, at its own prices.
        """
        forced = (fills.kind == FillKind.LIQUIDATION) & (fills.account == fills.victim)
        self._shown = Shown(*(column[forced] for column in (fills.ts, fills.market, fills.qty, fills.price)))
        self._rows = rows
        order = np.argsort(rows.market, kind="stable")
        markets, starts = np.unique(rows.market[order], return_index=True)
        self._by_market = dict(
            zip(markets.tolist(), np.split(order, starts[1:]) if len(starts) else [], strict=True)
        )

    def close_window(self) -> None:
        """Remember the last snapshot of each market of the window."""
        for market in self._by_market:
            snapshot = self._snapshot(market, _FOREVER)
            if snapshot is not None:
                self._snapshots[market] = snapshot
        self._by_market = {}

    def _snapshot(self, market: int, ts: int) -> DepthRows | None:
        rows = self._by_market.get(market)
        if rows is not None and self._rows is not None:
            times = self._rows.ts[rows]
            end = int(np.searchsorted(times, ts, side="right"))
            if end:
                begin = int(np.searchsorted(times, times[end - 1], side="left"))
                return DepthRows(*(column[rows[begin:end]] for column in self._rows))
        return self._snapshots.get(market)

    def levels(self, market: int, side: Side, ts: int) -> tuple[Array, Array]:
        """Return prices and quantities of a side at a moment, best first, before what forced orders took.

        Bids serve forced sales (longs that are closed), asks forced purchases.
        """
        rule = self._rule
        if rule.provider == "levels":
            snapshot = self._snapshot(market, ts)
            if snapshot is None:
                return _NOTHING
            if _is_crossed(snapshot):
                self.crossed.add((market, int(snapshot.ts[0])))
                return _NOTHING
            mine = snapshot.side == side
            prices, quantities = snapshot.price[mine], snapshot.qty[mine]
            order = np.argsort(-prices if side == Side.BID else prices, kind="stable")
            prices, quantities = prices[order], quantities[order]
        elif rule.provider == "static":
            prices, quantities = self._static(market, side)
        else:
            prices, quantities = self._volume(market, side, ts)
        kept = RATE_ONE - rule.haircut_rate
        quantities = np.array([muldiv_floor(int(q), kept, RATE_ONE) for q in quantities], np.int64)
        return prices, quantities

    def offered(self, market: int, side: Side, ts: int) -> int:
        """Return the quantity that a side offers at a moment: its levels, less what is missing of them."""
        _, quantities = self.levels(market, side, ts)
        return max(0, int(quantities.sum()) - self.taken(market, side, ts))

    def _shown_levels(self, market: int, side: Side, ts: int) -> tuple[Array, Array]:
        """Return what recorded forced orders took from a side in this step, less what was taken again."""
        shown = self._shown
        sold = shown.qty < 0 if side == Side.BID else shown.qty > 0
        mine = (shown.ts == ts) & (shown.market == market) & sold
        since, left = self._shown_left.get((market, int(side)), (ts - 1, _NOTHING[1]))
        return shown.price[mine], left if since == ts else np.abs(shown.qty[mine])

    def _price_at(self, market: int, side: Side, basis_points: int) -> int:
        """Return the price ``basis_points`` behind the mark, on the tick grid, away from the mark."""
        record, info = self._state.arrays.markets[market], self._state.markets[market]
        factor = 10_000 - basis_points if side == Side.BID else 10_000 + basis_points
        numerator, denominator = int(record["mark"]) * factor, 10_000 * int(record["mark_factor"])
        ticks, rest = divmod(numerator, denominator * info.tick)
        if rest and side == Side.ASK:
            ticks += 1
        return ticks * info.tick

    def _static(self, market: int, side: Side) -> tuple[Array, Array]:
        record = self._state.arrays.markets[market]
        if not record["has_mark"]:
            return _NOTHING
        prices, quantities = [], []
        for basis_points, notional in self._rule.static:
            price = self._price_at(market, side, basis_points)
            if price <= 0:
                continue
            num, den = int(record["price_num"]), int(record["price_den"])
            if record["inverse"]:
                quantity = divide_half_even(notional * price, num)
            else:
                quantity = divide_half_even(notional * den, price * num)
            prices.append(price)
            quantities.append(quantity)
        return np.array(prices, np.int64), np.array(quantities, np.int64)

    def _volume(self, market: int, side: Side, ts: int) -> tuple[Array, Array]:
        record = self._state.arrays.markets[market]
        if not record["has_mark"]:
            return _NOTHING
        traded = self._state.traded_volume(market, ts)
        price = self._price_at(market, side, self._rule.slippage_bp)
        if price <= 0:
            return _NOTHING
        quantity = traded * self._rule.participation_rate // RATE_ONE
        return np.array([price], np.int64), np.array([quantity], np.int64)

    def taken(self, market: int, side: Side, ts: int) -> int:
        """Return how much of what forced orders took is still missing; it halves each half-life."""
        past = self._taken.get((market, int(side)))
        if past is None:
            return 0
        half_life = self._rule.half_life_ns
        if half_life == 0:
            return past.quantity if ts == past.ts else 0
        whole, rest = divmod(ts - past.ts, half_life)
        if whole >= 63:
            return 0
        # Within a half-life the remainder falls in a straight line: exact integers, no floating point.
        return (past.quantity >> whole) * (2 * half_life - rest) // (2 * half_life)

    def fill(
        self, market: int, side: Side, ts: int, asked: Array, limit: Array, all_or_nothing: Array
    ) -> tuple[Array, Array]:
        """Let forced orders of one market and side walk the levels in their order.

        Args:
            market: The market.
            side: ``BID`` for forced sales, ``ASK`` for forced purchases.
            ts: The step.
            asked: Unsigned quantities.
            limit: Worst price each accepts, or :data:`NO_LIMIT`.
            all_or_nothing: Whether an order that cannot fill whole fills nothing.

        Returns:
            Unsigned quantities filled, and the magnitudes of their values at the prices of the levels.
        """
        prices, quantities = self.levels(market, side, ts)
        missing = self.taken(market, side, ts)
        record = self._state.arrays.markets[market]
        filled, values = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int64)
        remaining = _without(quantities, missing)
        levels = len(prices)
        shown_prices, shown_quantities = self._shown_levels(market, side, ts)
        if len(shown_prices):
            prices = np.concatenate((prices, shown_prices))
            remaining = np.concatenate((remaining, shown_quantities))
        order = np.argsort(-prices if side == Side.BID else prices, kind="stable")
        walked = remaining[order]
        _walk(
            prices[order],
            walked,
            asked,
            limit,
            all_or_nothing,
            side == Side.BID,
            int(record["price_num"]),
            int(record["price_den"]),
            bool(record["inverse"]),
            filled,
            values,
        )
        left = np.empty_like(remaining)
        left[order] = walked
        total = int((remaining - left)[:levels].sum())
        if total:
            self._taken[market, int(side)] = _Taken(missing + total, ts)
        if len(shown_prices):
            self._shown_left[market, int(side)] = (ts, left[levels:])
        return filled, values


def _is_crossed(rows: DepthRows) -> bool:
    """Tell whether the best bid of a snapshot is above its best ask; a locked book, equal ones, may be."""
    bids, asks = rows.price[rows.side == Side.BID], rows.price[rows.side == Side.ASK]
    return len(bids) > 0 and len(asks) > 0 and int(bids.max()) > int(asks.min())


_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))
_FOREVER = (1 << 63) - 1


def _without(quantities: Array, missing: int) -> Array:
    """Take a quantity off levels, best first."""
    before = np.concatenate(([0], np.cumsum(quantities)[:-1])) if len(quantities) else quantities
    gone = np.clip(missing - before, 0, quantities)
    left: Array = (quantities - gone).astype(np.int64)
    return left


@kernel
def _walk(
    prices: Array,
    remaining: Array,
    asked: Array,
    limit: Array,
    all_or_nothing: Array,
    is_bid: bool,
    num: int,
    den: int,
    inverse: bool,
    filled: Array,
    values: Array,
) -> None:
    """Fill orders from levels; ``remaining`` shrinks, ``filled`` and ``values`` are written."""
    for i in range(len(asked)):
        if all_or_nothing[i]:
            reachable = 0
            for level in range(len(prices)):
                if _within(prices[level], limit[i], is_bid):
                    reachable += remaining[level]
            if reachable < asked[i]:
                continue
        for level in range(len(prices)):
            if filled[i] == asked[i] or not _within(prices[level], limit[i], is_bid):
                break
            piece = min(asked[i] - filled[i], remaining[level])
            if piece == 0:
                continue
            value = contract_value(piece, prices[level], num, den, inverse)
            if value == OVERFLOW:
                continue
            remaining[level] -= piece
            filled[i] += piece
            values[i] += value


@kernel
def _within(price: int, limit: int, is_bid: bool) -> bool:
    if limit < 0:
        return True
    return price >= limit if is_bid else price <= limit
