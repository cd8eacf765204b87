"""One step of the waterfall as three calls of compiled code: who is in it, what is forced, who is done.

What a step does is a few microseconds of work for each pool, less than a call from the host costs with all the
arrays of the state. So the host is asked only for what compiled code cannot do: longer arrays, the ranking of
winners, the sharing of losses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.asking import ask
from replay.loop.depth import Book
from replay.loop.episodes import Cases, begin_episodes, begin_step, end_episodes, end_step
from replay.loop.fund import EXISTS, SUSPENDS_BOOK, Fund, Funds, counted_fund_at, is_quiet
from replay.loop.held_up import look_for_guards, not_passed_over, of_free_markets
from replay.loop.rates import hold_down
from replay.loop.rows import Buffers
from replay.loop.stages import (
    absorber_losing,
    give_up,
    hold_back,
    judge_held,
    net_own_hedges,
    send_to_book,
    take_over,
    work_out,
)
from replay.loop.state import GUARD_MS, RESTORED, Arrays
from replay.loop.waterfall import (
    ADL,
    BOOK,
    NET,
    TAKEOVER,
    forced_batch,
    in_turn,
    indebted,
    lowest_rungs,
    open_positions,
    still_in_breach,
)
from replay.rules.plan import Plan

Array = npt.NDArray[Any]

DONE = -1
"""Of :func:`force`: nothing is left to do; any other number is the rung before which it stopped."""


class Ladder(NamedTuple):
    """The ladder of a plan as compiled code sees it."""

    rungs: Array  # RUNG records
    first_of_level: Array  # int64[rungs]: the first rung of the same level
    heads: Array  # int64[2 * markets], all -1: see stages.send_to_book
    at_equal: bool  # equity equal to a share of maintenance counts as below it
    at_bankruptcy: bool  # losers are deleveraged at their bankruptcy price
    has_book: bool  # forced orders meet a book
    most: int  # pools that it takes in a step, 0: all


def ladder_of(plan: Plan, rungs: Array, markets: int) -> Ladder:
    """Return the ladder of a plan for a number of markets."""
    levels = [(int(rung["level_num"]), int(rung["level_den"])) for rung in rungs]
    return Ladder(
        rungs,
        np.array([levels.index(level) for level in levels], np.int64),
        np.full(2 * markets, -1, np.int64),
        plan.breach_at_equal,
        plan.adl is not None and plan.adl.needs_bankruptcy,
        plan.depth is not None,
        plan.max_liquidations,
    )


@allocating_kernel
def enter(s: Arrays, c: Cases, breaches: Array) -> tuple[Array, int]:
    """Return the pools whose liquidation is over (see episodes.begin_step), and how many positions may be forced.

    Args:
        s: The state at the end of a step of the tape.
        c: The open liquidations.
        breaches: int64 ids of the pools in breach, ascending.
    """
    return begin_step(s, c), open_positions(s, breaches)


@allocating_kernel
def force(
    s: Arrays,
    d: Book,
    funds: Funds,
    c: Cases,
    r: Buffers,
    ladder: Ladder,
    ts: int,
    breaches: Array,
    recorded: Array,
    begin: int,
    lowest: Array,
    losing: Array,
    lost: int,
) -> tuple[int, int, Array]:
    """Run the rungs over all pools in breach, then the absorbers' own step.

    Args:
        s: The state.
        d: The book.
        funds: The absorbers.
        c: The open liquidations; room for all forced positions must be reserved.
        r: Receives the rows; room must be reserved.
        ladder: The ladder.
        ts: The step.
        breaches: int64 ids of the pools in breach, ascending.
        recorded: Position slots that the tape forces in this step, ascending.
        begin: ``DONE`` at first, then the rung before which the last call stopped.
        lowest: int64[pools], kept from call to call.
        losing: LOSING records, room for what every rung and the absorber may lose; those before ``lost`` are kept.
        lost: How many are there already.

    Returns:
        ``DONE`` or the rung before which it stopped, as the absorber needs positions in markets it had none in;
        how many are losing; those markets, in the order of the forced positions.
    """
    number, seen = i64(begin), i64(-1)
    nothing = np.empty(0, np.int64)
    if begin == DONE and len(breaches):
        begin_episodes(s, c, forced_batch(s, breaches), ts, recorded)
    if s.counters[GUARD_MS]:
        if begin == DONE and (len(breaches) or s.counters[RESTORED]):
            look_for_guards(s, r, breaches, ts)
        breaches = not_passed_over(s, breaches)
    if ladder.most and len(breaches) > ladder.most:
        breaches = in_turn(s, breaches, _liquidations_of(s, c, breaches), ladder.most)
    if begin == DONE and len(breaches):
        seen = lowest_rungs(s, breaches, ladder.rungs, ladder.at_equal, lowest)
    if begin == DONE:
        number = 0
    while number < len(ladder.rungs) and len(breaches):
        rung, first = ladder.rungs[number], ladder.first_of_level[number]
        is_idle = rung.action == BOOK and not ladder.has_book
        if seen >> first & 1 and not is_idle:
            pools = still_in_breach(s, breaches, lowest, first, ladder.at_equal)
            if len(pools):
                batch = forced_batch(s, pools)
                if s.counters[GUARD_MS]:
                    batch = of_free_markets(s, batch, ts)
                if rung.continues or rung.after_unfilled:
                    batch = _left_over(c, batch)
                f = counted_fund_at(funds, rung.absorber)
                if f.rule[EXISTS] and _meets_absorber(rung):
                    fresh = _unopened(f, batch)
                    if len(fresh):
                        return number, lost, fresh
                suspender = counted_fund_at(funds, 0)
                lost = _act(s, d, f, suspender, c, r, ladder, rung, batch, ts, losing, lost)
        number += 1
    for place in range(len(funds.rule)):
        f = counted_fund_at(funds, place)
        if f.rule[SUSPENDS_BOOK]:
            judge_held(s, f, r, ts)
        work_out(s, d, f, r, ts)
    for place in range(len(funds.rule)):
        f = counted_fund_at(funds, place)
        if not is_quiet(s, f, ts):
            lost = _keep(absorber_losing(s, f, r, ts), losing, lost)
    return DONE, lost, nothing


@allocating_kernel
def _liquidations_of(s: Arrays, c: Cases, pools: Array) -> Array:
    """Return the numbers of the liquidations of pools."""
    numbers = np.empty(len(pools), np.int64)
    for i in range(len(pools)):
        numbers[i] = c.episodes[s.pools[pools[i]].episode].id
    return numbers


@allocating_kernel
def _left_over(c: Cases, batch: Array) -> Array:
    """Return the rows of a batch of which the rung before left something that it asked for."""
    rows = np.empty(len(batch), np.int64)
    count = 0
    for i in range(len(batch)):
        if c.legs[c.leg_of[batch[i].position]].left > 0:
            rows[count] = i
            count += 1
    return batch[rows[:count]]


@kernel
def _meets_absorber(rung: Any) -> bool:
    """Tell whether a rung books something to the absorber by market."""
    return bool(rung.action == TAKEOVER or rung.surplus_to_absorber or rung.fee_to_absorber)


@allocating_kernel
def _unopened(f: Fund, batch: Array) -> Array:
    """Return the markets of a batch in which the absorber has no position yet."""
    markets = np.empty(len(batch), np.int64)
    count = 0
    for i in range(len(batch)):
        if f.markets[batch[i].market].slot < 0:
            markets[count] = batch[i].market
            count += 1
    return markets[:count]


@kernel
def _keep(found: Array, losing: Array, lost: int) -> int:
    for i in range(len(found)):
        losing[lost + i] = found[i]
    return lost + len(found)


@allocating_kernel
def _act(
    s: Arrays,
    d: Book,
    f: Fund,
    suspender: Fund,
    c: Cases,
    r: Buffers,
    ladder: Ladder,
    rung: Any,
    batch: Array,
    ts: int,
    losing: Array,
    lost: int,
) -> int:
    """Let one rung act on the positions of its pools; return how many are losing then."""
    if rung.action == NET:
        net_own_hedges(s, f, c, r, batch, ts)
    elif rung.action == BOOK:
        ask(s, c, batch, rung, ts)
        if suspender.rule[SUSPENDS_BOOK]:
            hold_back(s, suspender, r, batch, ts)
        hold_down(s, c, batch, rung, ts)
        send_to_book(s, d, f, c, r, batch, rung, ts, ladder.heads)
    elif rung.action == TAKEOVER:
        beyond = take_over(s, f, c, r, batch, rung, ts, ladder.at_bankruptcy)
        if not rung.passes_on:
            lost = _keep(beyond, losing, lost)
    elif rung.action == ADL:
        lost = _keep(give_up(c, batch, ladder.at_bankruptcy), losing, lost)
    return lost


@allocating_kernel
def leave(
    s: Arrays,
    c: Cases,
    funds: Funds,
    r: Buffers,
    ts: int,
    is_judged: bool,
    closed: Array,
    owing: bool,
) -> Array:
    """End a step and the liquidations that it closed, unless pools are left that owe.

    Args:
        s: The state.
        c: The open liquidations.
        funds: The absorbers.
        r: Receives the rows of liquidations; room for all legs must be reserved.
        ts: The step.
        is_judged: Whether pools were judged in this step.
        closed: int64, the pools that the step may have closed, ascending.
        owing: Whether flat pools may owe: False once their debts were paid.

    Returns:
        The flat pools with negative cash; if there are any, nothing else was done.
    """
    debts = indebted(s, closed) if owing else np.empty(0, np.int64)
    if len(debts) == 0:
        flat = end_step(s, c, funds, is_judged, closed)
        if len(flat):
            end_episodes(s, c, r, flat, ts)
    return debts
