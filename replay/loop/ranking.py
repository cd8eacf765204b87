"""The ranking of winners of one market and side: who is closed first.

Scores are floating point for order only; equal scores fall back to the tie-breaks of the rules, then the pool, then
the position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, muldiv
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.candidates import BOUNDED, OPEN, OUT, Asks, list_candidates, settle
from replay.loop.holders import has_list, in_profit
from replay.loop.scoring import Scoring, comes_before, fill_scores, scoring_of
from replay.loop.state import CANDIDATE, RANKINGS, TOUCHED, VALUED_TO_RANK, Arrays, State
from replay.rules.plan import Adl

Array = npt.NDArray[Any]

_ALL = -1
"""Of a need: all candidates are ranked."""

_AT_ONCE = 16
"""Candidates of the top of the queue that are valued together, so that waits for memory overlap."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Winners of one market and side in the order in which a queue closes them.

    ``winners`` are CANDIDATE records, ``candidates`` is how many there are; where only what a queue needs was asked
    for, ``winners`` are the first of them.
    """

    winners: Array
    lights: Array
    candidates: int

    @property
    def score(self) -> Array:
        """Return the scores."""
        return self.winners["score"]

    @property
    def position(self) -> Array:
        """Return the position slots."""
        return self.winners["position"]

    @property
    def pool(self) -> Array:
        """Return the pools."""
        return self.winners["pool"]

    @property
    def size(self) -> Array:
        """Return the unsigned sizes, int64."""
        return self.winners["size"].copy()


_NOBODY = Ranking(np.zeros(0, CANDIDATE), np.zeros(0, np.int64), 0)


def rank_winners(
    state: State, market: int, rule: Adl, *, losers_are_long: bool, need: int | None = None
) -> Ranking:
    """Rank the positions on the other side of a market.

    Pools in breach, pseudo accounts, pools without equity, and accounts and markets that the rules spare are no
    candidates; positions without profit only where the loss rule has them. Pools of unknown equity come last, as
    if their equity were the position's own value.

    Args:
        state: The state at the end of the step.
        market: The market.
        rule: How they are scored, and how many steps the indicator has.
        losers_are_long: Side of the losers; winners are on the other.
        need: Quantity that a queue is to close, so that those behind need no order; None ranks all.
    """
    if market in rule.exempt_markets or not state.arrays.markets[market]["has_mark"]:
        return _NOBODY
    if not has_list(state.arrays, market):
        state.make_lists()
    winners, candidates, total = ranked(
        state.arrays,
        market,
        scoring_of(rule),
        not losers_are_long,
        np.array([state.account(name) for name in rule.exempt_accounts], np.int64),
        _ALL if need is None else need,
    )
    return Ranking(winners, lit(winners, total, rule.lights), int(candidates))


@allocating_kernel
def ranked(
    s: Arrays,
    market: int,
    rules: Scoring,
    is_long: bool,
    spared: Array,
    need: int,
) -> tuple[Array, int, int]:
    """Return the first of a queue as CANDIDATE records, how many candidates there are, and the quantity of all.

    A heap holds the candidates by what they score, or score at most. The first of it is next in rank if that is
    exact; if it is a bound, the first few are valued and find their places.

    Args:
        s: The state.
        market: The market, with a mark and a list of its open positions.
        rules: How candidates are scored.
        is_long: The side of the winners.
        spared: int64, accounts that the rules spare.
        need: Quantity of the first that are asked for; negative: all.
    """
    s.counters[RANKINGS] += 1
    slots = in_profit(s, market, is_long, rules.with_losers)
    asks = Asks(rules.of_position or need < 0, rules.of_maintenance or need < 0)
    candidates = s.candidates
    listed, _ = list_candidates(s, slots, rules.with_losers, spared, asks, candidates)
    near, columns = np.empty((3, TOUCHED), np.int64), np.empty((2, listed), np.int64)
    heap, rows = columns[0], columns[1]
    size, total = _fill_heap(s, candidates, heap, asks, near)
    count = _take_first(s, candidates, heap[:size], rules, asks, need, near, rows)
    return candidates[rows[:count]], size, total


@kernel
def _fill_heap(s: Arrays, candidates: Array, heap: Array, asks: Asks, near: Array) -> tuple[int, int]:
    """Value the candidates of which nothing is known, and list those that are some.

    Args:
        s: The state.
        candidates: CANDIDATE records, at least as many as ``heap`` has room for.
        heap: Filled with the rows of candidates, in no order.
        asks: What is asked for.
        near: int64[3, TOUCHED] to work in.

    Returns:
        How many they are, and their quantity.
    """
    count, total = i64(0), i64(0)
    for row in range(len(heap)):
        if candidates[row].standing == OPEN:
            heap[count] = row
            count += 1
    s.counters[VALUED_TO_RANK] += count
    settle(s, candidates, heap[:count], asks, near)
    count = 0
    for row in range(len(heap)):
        if candidates[row].standing != OUT:
            heap[count] = row
            count += 1
            total += candidates[row].size
    return count, total


@kernel
def _take_first(
    s: Arrays, candidates: Array, heap: Array, rules: Scoring, asks: Asks, need: int, near: Array, rows: Array
) -> int:
    """Fill ``rows`` with the first in rank, until their quantity is what is needed; return how many they are."""
    size = len(heap)
    fill_scores(candidates, heap, rules)
    for place in range(size // 2 - 1, -1, -1):
        _sift_down(candidates, heap, size, place, rules.ties)
    count, left = i64(0), i64(need)
    while size > 0 and (need < 0 or left > 0):
        first = heap[0]
        if candidates[first].standing == BOUNDED:
            _settle_first(s, candidates, heap, size, rules, asks, near)
            continue
        rows[count] = first
        count += 1
        left -= candidates[first].size
        size -= 1
        heap[0] = heap[size]
        _sift_down(candidates, heap, size, 0, rules.ties)
    return count


@kernel
def _settle_first(
    s: Arrays, candidates: Array, heap: Array, size: int, rules: Scoring, asks: Asks, near: Array
) -> None:
    """Value the bounded ones at the top of the heap, and mend it."""
    first = near[2]
    count, end = 0, min(_AT_ONCE, size)
    for place in range(end):
        if candidates[heap[place]].standing == BOUNDED:
            first[count] = heap[place]
            count += 1
    s.counters[VALUED_TO_RANK] += count
    settle(s, candidates, first[:count], asks, near)
    fill_scores(candidates, first[:count], rules)
    for place in range(end - 1, -1, -1):
        _sift_down(candidates, heap, size, place, rules.ties)


@kernel
def _sift_down(candidates: Array, heap: Array, size: int, place: int, ties: Array) -> None:
    """Let a row find its place below in a heap whose first comes before all others."""
    row = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and comes_before(candidates[heap[child + 1]], candidates[heap[child]], ties):
            child += 1
        if not comes_before(candidates[heap[child]], candidates[row], ties):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = row


@kernel
def lights_at(reached: int, total: int, lights: int) -> int:
    """Return how many lights are lit where ``reached`` of a total quantity are closed first, see :func:`indicator`."""
    return lights + 1 - muldiv(reached, lights, total, CEIL)


@allocating_kernel
def lit(winners: Array, total: int, lights: int) -> Array:
    """Return :func:`indicator` of CANDIDATE records, the first of all with a total quantity."""
    found, reached = np.zeros(len(winners), np.int64), i64(0)
    for i in range(len(winners)):
        reached += winners[i].size
        found[i] = lights_at(reached, total, lights)
    return found


def indicator(sizes: Array, lights: int) -> Array:
    """Return how many of ``lights`` are lit per rank: all for the first n-th, one for the last.

    Source: BitMEX's steps of 20 % of cumulative quantity, the last contract of a position deciding.

    Args:
        sizes: Quantities in order of rank.
        lights: How many steps there are.
    """
    ranked = np.zeros(len(sizes), CANDIDATE)
    ranked["size"] = sizes
    return lit(ranked, int(sizes.sum()), lights)
