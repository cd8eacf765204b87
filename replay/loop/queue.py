"""Auto-deleveraging as a queue, compiled whole: losers in canonical order meet the first in rank.

One ranking per market and side and step. What a policy shares, what may harm a winner, and caps on what a winner gives
are the host's, see :mod:`replay.loop.deleverage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.adl import pair_queue
from replay.loop.adl_prices import PRICES
from replay.loop.closing import CLOSING_COLUMNS, close_side, stages_to_close
from replay.loop.episodes import Cases
from replay.loop.fund import Funds, balance, fund_at
from replay.loop.holders import has_list
from replay.loop.policies.registry import QUEUE
from replay.loop.ranking import lit, ranked
from replay.loop.rows import Buffers, has_room
from replay.loop.scoring import Scoring, scoring_of
from replay.loop.state import Arrays
from replay.rules.plan import Adl
from replay.units import RATE_ONE

Array = npt.NDArray[Any]

_NO_RULE = Adl("profit", "one", "account", "exclude", "mark", 0, 0, lights=1)


class Queue(NamedTuple):
    """How losers are deleveraged, as compiled code sees it."""

    is_plain: bool  # else the host does it
    scoring: Scoring
    price: int  # place in adl_prices.PRICES
    fallback: int  # the price while the first absorber has no more than its line
    lines: Array  # int64 by purse of the first absorber
    loser_rate: int  # fees, in 1e-12 of value
    winner_rate: int
    residual_to_absorber: bool
    lights: int
    exempt: Array  # uint8 by market: nobody is deleveraged there
    most: int  # losers that are tried in a step, 0: all


def queue_of(rule: Adl | None, markets: int, opening: Mapping[int, int], most: int) -> Queue:
    """Return how a rule deleverages.

    Args:
        rule: The rule; None deleverages nobody.
        markets: How many there are.
        opening: What the first absorber opened with, by purse: below a share of it another price may hold.
        most: How many positions of pools in breach are tried in a step; 0: all.
    """
    rule = rule or _NO_RULE
    exempt = np.zeros(markets, np.uint8)
    exempt[list(rule.exempt_markets)] = 1
    lines = np.zeros(max(opening, default=-1) + 1, np.int64)
    for purse, amount in opening.items():
        lines[purse] = rule.fallback_below * amount // RATE_ONE
    return Queue(
        rule.method == QUEUE
        and rule.winner_cap == RATE_ONE
        and not rule.must_not_worsen
        and not rule.exempt_accounts,
        scoring_of(rule),
        PRICES.index(rule.price),
        PRICES.index(rule.fallback_price or rule.price),
        lines,
        rule.loser_fee_rate,
        rule.winner_fee_rate,
        rule.residual_to_absorber,
        rule.lights,
        exempt,
        most,
    )


@allocating_kernel
def _stable(order: Array, keys: Array) -> Array:
    """Return an order sorted by a key of each row, equal ones as they were."""
    return order[np.argsort(keys[order], kind="mergesort")]


@allocating_kernel
def sides_in_order(s: Arrays, losing: Array, q: Queue) -> Array:
    """Return the losers that are tried in this step by market and side; in each, absorbers come last, then by pool.

    Those beyond the most that are tried wait, by age of their liquidation; their pools are judged in the next step.
    """
    rows = np.empty(len(losing), np.int64)
    count = 0
    for i in range(len(losing)):
        if q.exempt[losing[i].market] == 0:
            rows[count] = i
            count += 1
    rows = rows[:count]
    position, episode = losing["position"].copy(), losing["episode"].copy()
    if q.most:
        tried = i64(0)
        rows = _stable(_stable(rows, position), episode)
        count = 0
        for row in rows:
            if episode[row] >= 0:
                tried += 1
                if tried > q.most:
                    s.pools[losing[row].pool].deferred = 1
                    continue
            rows[count] = row
            count += 1
        rows = rows[:count]
    rows = _stable(_stable(rows, position), losing["pool"].copy())
    rows = _stable(rows, (episode < 0).astype(np.int64))
    return losing[_stable(rows, 2 * losing["market"] + losing["is_short"])]


@kernel
def price_now(s: Arrays, funds: Funds, q: Queue, market: int) -> int:
    """Return the price at which losers of a market are closed: another if the first absorber has little left."""
    if q.fallback != q.price:
        f = fund_at(funds, 0)
        purse = i64(f.markets[market].purse)
        if balance(s, f, purse) <= q.lines[purse]:
            return q.fallback
    return q.price


@allocating_kernel
def close_next_side(
    s: Arrays, funds: Funds, c: Cases, r: Buffers, q: Queue, ts: int, losing: Array, first: int
) -> tuple[int, int]:
    """Close the losers of one market and side against the first in rank.

    Args:
        s: The state.
        funds: The absorbers.
        c: The open liquidations.
        r: Receives the rows.
        q: How losers are deleveraged.
        ts: The step.
        losing: LOSING records in order, see :func:`sides_in_order`.
        first: The first of the side.

    Returns:
        The row behind the side, and how many pieces there may be; the former is ``first`` where the host has to make
        room for these, or the list of the market.
    """
    market, is_short = i64(losing[first].market), losing[first].is_short
    if not has_list(s, market):
        return first, i64(0)
    end, need = first, i64(0)
    while end < len(losing) and losing[end].market == market and losing[end].is_short == is_short:
        need += losing[end].quantity
        end += 1
    nobody = np.empty(0, np.int64)
    winners, candidates, total = ranked(s, market, q.scoring, is_short != 0, nobody, need)
    side = losing[first:end]
    most = len(side) + len(winners)
    if not has_room(r, 0, 0, stages_to_close(funds), most, 0):
        return first, i64(most)
    quantities, offered = np.empty(len(side), np.int64), np.empty(len(winners), np.int64)
    for i in range(len(side)):
        quantities[i] = side[i].quantity
    for i in range(len(winners)):
        offered[i] = winners[i].size
    loser, winner, pieces = pair_queue(quantities, offered)
    close_side(
        s,
        funds,
        c,
        r,
        ts,
        side,
        loser,
        winner,
        pieces,
        winners,
        lit(winners, total, q.lights),
        candidates,
        price_now(s, funds, q, market),
        q.loser_rate,
        q.winner_rate,
        q.residual_to_absorber,
        np.empty((CLOSING_COLUMNS, len(pieces)), np.int64),
        np.zeros((2, len(funds.rule)), np.int64),
    )
    return i64(end), i64(most)
