"""Depth: what the book can take of a forced order, and what it remembers of the orders before.

A provider offers price levels for a (market, side); forced orders walk them best first, in canonical order,
never beyond their limits. What they took is missing for those that follow, and comes back with a half-life.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, HALF_EVEN, OVERFLOW, contract_value, muldiv, product
from replay.kernels import i64, kernel
from replay.loop.state import BUCKET_NS, BUCKETS, Arrays, State
from replay.rules.plan import DepthRule
from replay.tape.read import DepthRows, Fills
from replay.tape.schema import FillKind, Side
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

NO_LIMIT = -1

_LEVELS, _STATIC, _VOLUME = range(3)
_PROVIDERS = {"levels": _LEVELS, "static": _STATIC, "volume": _VOLUME}
_POINTS = 10_000
_BID = int(Side.BID)

# Places of Book.rule.
_PROVIDER, _KEPT_RATE, _HALF_LIFE, _PARTICIPATION, _SLIPPAGE, _CAP, _RULES = range(7)


class Book(NamedTuple):
    """The book as compiled code sees it; a side is 0 for bids, which serve forced sales, and 1 for asks."""

    rule: Array  # int64[_RULES]
    static: Array  # int64[levels, 2]: basis points behind the mark, notional in atoms
    taken: Array  # int64[markets, sides, 2]: quantity that forced orders took, as of which moment
    stepped: Array  # int64[markets, sides, 2]: what of it was taken in one step, and which that was
    refused: Array  # int64[markets, 2]: last impossible snapshot that an order met, and how many there were
    first: Array  # int64[markets + 1]: the rows of snapshots of a market are order[first[m]:first[m + 1]]
    order: Array  # int64[rows]
    ts: Array  # int64[rows] of the snapshots, as the three that follow
    side: Array
    price: Array
    qty: Array
    shown_ts: Array  # int64, rising: recorded forced fills that the rules leave out, as the three that follow
    shown_market: Array
    shown_sold: Array  # whether they sold
    shown_price: Array
    shown_left: Array  # what is left of their quantities
    scratch: Array  # int64[3, room]: prices, quantities and origins of the levels that orders walk


def no_book(markets: int = 0) -> Book:
    """Return a book that offers nothing."""
    nothing = np.zeros(0, np.int64)
    return Book(
        rule=np.zeros(_RULES, np.int64),
        static=np.zeros((0, 2), np.int64),
        taken=np.zeros((markets, 2, 2), np.int64),
        stepped=np.zeros((markets, 2, 2), np.int64),
        refused=np.full((markets, 2), (-1, 0), np.int64),
        first=np.zeros(markets + 1, np.int64),
        order=nothing,
        ts=nothing,
        side=np.zeros(0, np.int8),
        price=nothing,
        qty=nothing,
        shown_ts=nothing,
        shown_market=nothing,
        shown_sold=np.zeros(0, bool),
        shown_price=nothing,
        shown_left=nothing,
        scratch=np.zeros((3, 1), np.int64),
    )


class Depth:
    """The book of a replay: levels by the rule's provider, less what forced orders took.

    Args:
        state: The state (marks, volumes, scales).
        rule: Provider, haircut, half-life and table of the rules.
    """

    def __init__(self, state: State, rule: DepthRule) -> None:
        self._state = state
        empty = no_book(len(state.markets))
        empty.rule[_PROVIDER] = _PROVIDERS[rule.provider]
        empty.rule[_KEPT_RATE] = RATE_ONE - rule.haircut_rate
        empty.rule[_HALF_LIFE] = rule.half_life_ns
        empty.rule[_PARTICIPATION], empty.rule[_SLIPPAGE] = rule.participation_rate, rule.slippage_bp
        empty.rule[_CAP] = rule.cap_rate
        self.arrays = empty._replace(
            static=np.array(rule.static, np.int64).reshape(-1, 2),
            scratch=np.zeros((3, max(len(rule.static), 1)), np.int64),
        )

    @property
    def refused(self) -> int:
        """How many snapshots that orders met were refused, as they are impossible: bids above asks."""
        return int(self.arrays.refused[:, 1].sum())

    def open_window(self, rows: DepthRows, fills: Fills) -> None:
        """Take over the depth rows of a window; the last snapshot of each market before it stays known.

        What recorded forced orders took from the book in a step is liquidity that was there: where the rules
        leave those orders out, it is offered again in that step, at its own prices.
        """
        forced = (fills.kind == FillKind.LIQUIDATION) & (fills.account == fills.victim)
        self.arrays = self.arrays._replace(
            shown_ts=fills.ts[forced],
            shown_market=fills.market[forced].astype(np.int64),
            shown_sold=fills.qty[forced] < 0,
            shown_price=fills.price[forced],
            shown_left=np.abs(fills.qty[forced]),
        )
        if len(rows.ts):
            self._add_snapshots(rows)
        room = _longest_run(self.arrays.shown_ts) + max(len(self.arrays.static), 1)
        if len(self.arrays.ts):
            of_market = np.repeat(np.arange(len(self.arrays.first) - 1), np.diff(self.arrays.first))
            room += _longest_run(self.arrays.ts[self.arrays.order], of_market)
        if room > self.arrays.scratch.shape[1]:
            self.arrays = self.arrays._replace(scratch=np.zeros((3, room), np.int64))

    def _add_snapshots(self, rows: DepthRows) -> None:
        """Put the rows of a window behind the last snapshot of each market before it."""
        book = self.arrays
        last = []
        for first, end in zip(book.first[:-1].tolist(), book.first[1:].tolist(), strict=True):
            mine = book.order[first:end]
            if end > first:
                last.append(mine[book.ts[mine] == book.ts[mine[-1]]])
        held = np.concatenate(last) if last else np.zeros(0, np.int64)
        market = np.repeat(np.arange(len(book.first) - 1), np.diff(book.first))
        of_row = np.empty(len(book.order), np.int64)
        of_row[book.order] = market
        markets = np.concatenate((of_row[held], rows.market))
        order = np.argsort(markets, kind="stable")
        self.arrays = book._replace(
            first=np.searchsorted(markets[order], np.arange(len(book.first))),
            order=order,
            ts=np.concatenate((book.ts[held], rows.ts)),
            side=np.concatenate((book.side[held], rows.side)),
            price=np.concatenate((book.price[held], rows.price)),
            qty=np.concatenate((book.qty[held], rows.qty)),
        )

    def levels(self, market: int, side: Side, ts: int) -> tuple[Array, Array]:
        """Return prices and quantities of a side at a moment, best first, before what forced orders took.

        Bids serve forced sales (longs that are closed), asks forced purchases.
        """
        count = int(_gather(self._state.arrays, self.arrays, market, side == Side.BID, ts))
        prices, quantities = self.arrays.scratch[:2, :count].copy()
        return prices, quantities

    def offered(self, market: int, side: Side, ts: int) -> int:
        """Return the quantity that a side offers at a moment: its levels, less what is missing of them."""
        _, quantities = self.levels(market, side, ts)
        return max(0, int(quantities.sum()) - self.taken(market, side, ts))

    def taken(self, market: int, side: Side, ts: int) -> int:
        """Return how much of what forced orders took is still missing; it halves each half-life."""
        return int(_missing(self.arrays, market, side == Side.BID, ts))

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
        filled, values = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int64)
        _fill(
            self._state.arrays,
            self.arrays,
            market,
            side == Side.BID,
            ts,
            asked,
            limit,
            all_or_nothing,
            filled,
            values,
        )
        return filled, values


def _longest_run(*columns: Array) -> int:
    """Return how many neighbouring rows at most are equal in all columns."""
    rows = len(columns[0])
    if rows == 0:
        return 0
    changes = np.zeros(rows - 1, bool)
    for column in columns:
        changes |= column[1:] != column[:-1]
    starts = np.concatenate(([-1], np.flatnonzero(changes), [rows - 1]))
    return int(np.diff(starts).max())


@kernel
def _snapshot(d: Book, market: int, ts: int) -> tuple[int, int]:
    """Return the places in ``order`` of a market's last snapshot up to a moment."""
    first = low = d.first[market]
    high = d.first[market + 1]
    while low < high:
        middle = (low + high) // 2
        if d.ts[d.order[middle]] <= ts:
            low = middle + 1
        else:
            high = middle
    begin = low
    while begin > first and d.ts[d.order[begin - 1]] == d.ts[d.order[low - 1]]:
        begin -= 1
    return begin, low


@kernel
def _insert(d: Book, count: int, price: int, quantity: int, origin: int, is_bid: bool) -> None:
    """Put a level behind those that are as good or better."""
    prices, quantities, origins = d.scratch[0], d.scratch[1], d.scratch[2]
    place = count
    while place > 0 and (prices[place - 1] < price if is_bid else prices[place - 1] > price):
        prices[place] = prices[place - 1]
        quantities[place] = quantities[place - 1]
        origins[place] = origins[place - 1]
        place -= 1
    prices[place], quantities[place], origins[place] = price, quantity, origin


@kernel
def _gather_snapshot(d: Book, market: int, is_bid: bool, ts: int) -> int:
    begin, end = _snapshot(d, market, ts)
    highest_bid, lowest_ask, count = -1, BOUND, 0
    for place in range(begin, end):
        row = d.order[place]
        is_mine = (d.side[row] == _BID) == is_bid
        if d.side[row] == _BID:
            highest_bid = max(highest_bid, d.price[row])
        else:
            lowest_ask = min(lowest_ask, d.price[row])
        if is_mine:
            _insert(d, count, d.price[row], d.qty[row], -1, is_bid)
            count += 1
    if highest_bid > lowest_ask:  # a locked book, equal ones, may be
        moment = d.ts[d.order[begin]]
        if d.refused[market, 0] != moment:
            d.refused[market, 0] = moment
            d.refused[market, 1] += 1
        return 0
    return count


@kernel
def _price_at(s: Arrays, market: int, is_bid: bool, basis_points: int) -> int:
    """Return the price ``basis_points`` behind the mark, on the tick grid, away from the mark."""
    m = s.markets[market]
    factor = _POINTS - basis_points if is_bid else _POINTS + basis_points
    if factor <= 0:
        return 0
    price = muldiv(m.mark, factor, _POINTS * m.mark_factor, FLOOR if is_bid else CEIL)
    ticks = price // m.tick if is_bid else -(-price // m.tick)
    return 0 if price == OVERFLOW else ticks * m.tick


@kernel
def _traded_volume(s: Arrays, market: int, ts: int) -> int:
    """Return the quantity traded voluntarily in a market in the last ``BUCKETS`` buckets of time."""
    bucket, traded = ts // s.counters[BUCKET_NS], 0
    for i in range(BUCKETS):
        number = s.volumes[market, i, 0]
        if bucket - BUCKETS < number <= bucket:
            traded = min(traded + s.volumes[market, i, 1], BOUND - 1)
    return traded


@kernel
def _gather(s: Arrays, d: Book, market: int, is_bid: bool, ts: int) -> int:
    """Write the levels of a side at a moment, best first, after the haircut; return how many."""
    m, count = s.markets[market], 0
    if d.rule[_PROVIDER] == _LEVELS:
        count = _gather_snapshot(d, market, is_bid, ts)
    elif m.has_mark and d.rule[_PROVIDER] == _STATIC:
        for level in range(len(d.static)):
            price = _price_at(s, market, is_bid, d.static[level, 0])
            if price <= 0:
                continue
            notional = d.static[level, 1]
            if m.inverse:
                quantity = muldiv(notional, price, m.price_num, HALF_EVEN)
            else:
                worth = product(price, m.price_num)
                quantity = 0 if worth == OVERFLOW else muldiv(notional, m.price_den, worth, HALF_EVEN)
            _insert(d, count, price, max(quantity, 0), -1, is_bid)
            count += 1
    elif m.has_mark:
        price = _price_at(s, market, is_bid, d.rule[_SLIPPAGE])
        if price > 0:
            quantity = muldiv(_traded_volume(s, market, ts), d.rule[_PARTICIPATION], RATE_ONE, FLOOR)
            _insert(d, 0, price, max(quantity, 0), -1, is_bid)
            count = 1
    for level in range(count):
        d.scratch[1, level] = muldiv(d.scratch[1, level], d.rule[_KEPT_RATE], RATE_ONE, FLOOR)
    return count


@kernel
def _missing(d: Book, market: int, is_bid: bool, ts: int) -> int:
    """Return how much of what forced orders took is still missing at a moment."""
    quantity, since = d.taken[market, 0 if is_bid else 1]
    half_life = d.rule[_HALF_LIFE]
    if quantity == 0 or half_life == 0:
        return quantity if ts == since else 0
    whole = (ts - since) // half_life
    if whole >= 63:
        return 0
    rest = (ts - since) - whole * half_life
    # Within a half-life the remainder falls in a straight line: exact integers, no floating point.
    return muldiv(quantity >> whole, 2 * half_life - rest, 2 * half_life, FLOOR)


@kernel
def _first_shown(d: Book, ts: int) -> int:
    low, high = 0, len(d.shown_ts)
    while low < high:
        middle = (low + high) // 2
        if d.shown_ts[middle] < ts:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _room(d: Book, market: int, is_bid: bool, ts: int, levels: int) -> int:
    """Return how much more of the levels laid out, of which nothing is missing yet, this step may take."""
    whole = 0
    for level in range(levels):
        whole = min(whole + d.scratch[1, level], BOUND - 1)
    taken, since = d.stepped[market, 0 if is_bid else 1]
    room = muldiv(whole, d.rule[_CAP], RATE_ONE, FLOOR)
    return i64(max(0, room - (taken if since == ts else 0)))


@kernel
def open_levels(s: Arrays, d: Book, market: int, is_bid: bool, ts: int) -> int:
    """Lay out the levels that forced orders of one market and side meet in a step; return how many.

    What is missing is taken off the best levels; a cap leaves the best of what is there; what recorded forced
    orders took is offered beside them.
    """
    count = _gather(s, d, market, is_bid, ts)
    room = _room(d, market, is_bid, ts, count) if d.rule[_CAP] < RATE_ONE else BOUND
    missing = _missing(d, market, is_bid, ts)
    for level in range(count):
        gone = min(missing, d.scratch[1, level])
        d.scratch[1, level] -= gone
        missing -= gone
        d.scratch[1, level] = min(d.scratch[1, level], room)
        room -= d.scratch[1, level]
    row = _first_shown(d, ts)
    while row < len(d.shown_ts) and d.shown_ts[row] == ts:
        if d.shown_market[row] == market and d.shown_sold[row] == is_bid:
            _insert(d, count, d.shown_price[row], d.shown_left[row], row, is_bid)
            count += 1
        row += 1
    return count


@kernel
def walk(
    s: Arrays, d: Book, market: int, is_bid: bool, levels: int, asked: int, limit: int, all_or_nothing: bool
) -> tuple[int, int]:
    """Let one forced order walk the levels that are laid out; return quantity and value of what it took."""
    m = s.markets[market]
    prices, remaining = d.scratch[0], d.scratch[1]
    if all_or_nothing:
        reachable = 0
        for level in range(levels):
            if _within(prices[level], limit, is_bid):
                reachable += remaining[level]
        if reachable < asked:
            return 0, 0
    filled, total = 0, 0
    for level in range(levels):
        if filled == asked or not _within(prices[level], limit, is_bid):
            break
        piece = min(asked - filled, remaining[level])
        if piece == 0:
            continue
        value = contract_value(piece, prices[level], m.price_num, m.price_den, m.inverse != 0)
        if value == OVERFLOW:
            continue
        remaining[level] -= piece
        filled += piece
        total += value
    return filled, total


@kernel
def close_levels(d: Book, market: int, is_bid: bool, ts: int, levels: int, filled: int) -> None:
    """Remember what orders took of the levels laid out: ``filled`` in all, less what was only shown."""
    for level in range(levels):
        row = d.scratch[2, level]
        if row >= 0:
            filled -= d.shown_left[row] - d.scratch[1, level]
            d.shown_left[row] = d.scratch[1, level]
    if filled:
        side = 0 if is_bid else 1
        d.taken[market, side, 0] = _missing(d, market, is_bid, ts) + filled
        d.taken[market, side, 1] = ts
        before = d.stepped[market, side, 0] if d.stepped[market, side, 1] == ts else 0
        d.stepped[market, side, 0], d.stepped[market, side, 1] = before + filled, ts


@kernel
def _fill(
    s: Arrays,
    d: Book,
    market: int,
    is_bid: bool,
    ts: int,
    asked: Array,
    limit: Array,
    all_or_nothing: Array,
    filled: Array,
    values: Array,
) -> None:
    levels, total = open_levels(s, d, market, is_bid, ts), 0
    for i in range(len(asked)):
        filled[i], values[i] = walk(s, d, market, is_bid, levels, asked[i], limit[i], all_or_nothing[i])
        total += filled[i]
    close_levels(d, market, is_bid, ts, levels, total)


@kernel
def _within(price: int, limit: int, is_bid: bool) -> bool:
    if limit < 0:
        return True
    return price >= limit if is_bid else price <= limit
