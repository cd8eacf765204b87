"""One step of the waterfall, compiled: who is in it, what is forced, who is done.

What a step does is a few microseconds of work for each pool, less than a call from the host costs with all the
arrays of the state. So the loop runs it by itself, and the host is asked only for what compiled code cannot do: longer
arrays, positions of absorbers, deleveraging by a policy, the sharing of losses. A step that asked goes on where it
stopped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.asking import ask
from replay.loop.debts import write_off
from replay.loop.depth import Book
from replay.loop.episodes import (
    Cases,
    begin_episodes,
    begin_step,
    end_episodes,
    end_step,
    has_room_for_legs,
    legs_in_use,
    pools_in_liquidation,
)
from replay.loop.fund import (
    EXISTS,
    PER_ACCOUNT_STEP,
    SUSPENDS_BOOK,
    Fund,
    Funds,
    counted_fund_at,
    fund_at,
    is_full,
    is_quiet,
)
from replay.loop.held_up import look_for_guards, not_passed_over, of_free_markets
from replay.loop.queue import Queue, close_next_side, sides_in_order
from replay.loop.rates import hold_down
from replay.loop.rows import Buffers, has_room
from replay.loop.stages import (
    LOSING,
    absorber_losing,
    give_up,
    hold_back,
    judge_held,
    net_own_hedges,
    send_to_book,
    take_over,
    work_out,
)
from replay.loop.state import BREACHES, GUARD_MS, RESTORED, Arrays
from replay.loop.waterfall import (
    ADL,
    BOOK,
    NET,
    RUNG,
    TAKEOVER,
    forced_batch,
    in_turn,
    indebted,
    lowest_rungs,
    open_positions,
    still_in_breach,
)
from replay.rules.plan import NetOwnHedge, Plan

Array = npt.NDArray[Any]

_WHOLE = -1
"""Of :func:`force`: nothing was done yet, or nothing is left to do; else a rung before which it stopped."""


class Ladder(NamedTuple):
    """The ladder of a plan as compiled code sees it."""

    rungs: Array  # RUNG records
    first_of_level: Array  # int64[rungs]: the first rung of the same level
    heads: Array  # int64[2 * markets], all -1: see stages.send_to_book
    at_equal: bool  # equity equal to a share of maintenance counts as below it
    at_bankruptcy: bool  # losers are deleveraged at their bankruptcy price
    has_book: bool  # forced orders meet a book
    deleverages: bool  # losers are deleveraged
    bad_debt: Array  # int64 by ledger: the pool of bad debt, -1 where there is none yet
    writes_off: bool  # nobody pays what flat pools owe
    nets: bool  # a pool may be closed by what is forced on another
    most: int  # pools that it takes in a step, 0: all


class Work(NamedTuple):
    """What a step keeps while it asks the host for something, and what it asks."""

    numbers: Array  # int64[_NUMBERS], see below
    lowest: Array  # int64: see waterfall.lowest_rungs, by pool in breach
    losing: Array  # LOSING records
    asked: Array  # int64: the pools or markets that a question is about


class Forcing(NamedTuple):
    """A waterfall as compiled code sees it."""

    book: Book
    funds: Funds
    rows: Buffers
    cases: Cases
    ladder: Ladder
    queue: Queue
    work: Work


# Places of Work.numbers.
_PHASE, AT_RUNG, LOST, ASKS, ASKED, FORCED_ROWS, _JUDGED, _CLOSED, PIECES, _NUMBERS = range(10)

# Phases of a step.
_BEGIN, _RESTORED, _FORCE, _CLOSE, _LEAVE, _LEFT = range(6)

DONE, ROOM, DEBTS, POSITIONS, LOSERS, ROOM_TO_CLOSE = range(6)
"""What a step asks of the host: nothing, or room for ``FORCED_ROWS`` positions, that the first ``ASKED`` pools of
``asked`` pay what they owe, that the absorber of the rung ``AT_RUNG`` gets a position in the markets there, that the
first ``LOST`` of ``losing`` are deleveraged, or lists of holders and room for ``PIECES`` rows of deleveraging."""


def ladder_of(plan: Plan, rungs: Array, markets: int, ledgers: int) -> Ladder:
    """Return the ladder of a plan for a number of markets and ledgers."""
    levels = [(int(rung["level_num"]), int(rung["level_den"])) for rung in rungs]
    return Ladder(
        rungs,
        np.array([levels.index(level) for level in levels], np.int64),
        np.full(2 * markets, -1, np.int64),
        plan.breach_at_equal,
        plan.adl is not None and plan.adl.needs_bankruptcy,
        plan.depth is not None,
        plan.adl is not None,
        np.full(ledgers, -1, np.int64),
        plan.socialise == "none" and not any(absorber.pays_debts for absorber in plan.absorbers),
        any(isinstance(rung, NetOwnHedge) for rung in plan.ladder),
        plan.max_liquidations,
    )


def no_ladder() -> Ladder:
    """Return the ladder of rules that force nothing."""
    nothing = np.zeros(0, np.int64)
    return Ladder(np.zeros(0, RUNG), nothing, nothing, False, False, False, False, nothing, False, False, 0)


def work_of(legs: int, losers: int) -> Work:
    """Return room for steps that end so many legs and have so many losers."""
    return Work(
        np.zeros(_NUMBERS, np.int64),
        np.zeros(legs, np.int64),
        np.zeros(losers, LOSING),
        np.zeros(2 * legs, np.int64),
    )


@kernel
def needs_of(forcing: Forcing, forced: int) -> tuple[int, int, int, int]:
    """Return what a step writes at most: orders, rows of legs, stages with a row per market each, losers."""
    rungs, absorbers = len(forcing.ladder.rungs), len(forcing.funds.rule)
    losers = rungs * forced + absorbers * len(forcing.rows.sums)
    return rungs * forced, legs_in_use(forcing.cases) + forced, rungs + 2 * absorbers + 3, losers


@kernel
def _has_room(s: Arrays, forcing: Forcing, forced: int) -> bool:
    """Tell whether there is room for all that a step may write."""
    w, r, funds = forcing.work, forcing.rows, forcing.funds
    orders, legs, stages, losers = needs_of(forcing, forced)
    for number in range(len(funds.rule)):
        f = fund_at(funds, number)
        if f.rule[EXISTS] and (is_full(f) or (f.rule[PER_ACCOUNT_STEP] and len(f.given) < len(s.pools))):
            return False
    if len(w.losing) < losers or len(w.lowest) < legs or len(w.asked) < 2 * legs:
        return False
    return has_room_for_legs(s, forcing.cases, forced) and has_room(r, orders, legs, stages, 0, 2 * legs)


@kernel
def _ask(w: Work, asks: int, about: Array) -> int:
    """Note what the host is asked, and about whom."""
    for i in range(len(about)):
        w.asked[i] = about[i]
    w.numbers[ASKS], w.numbers[ASKED] = asks, len(about)
    return asks


@kernel
def _can_write_off(s: Arrays, ladder: Ladder, pools: Array) -> bool:
    """Tell whether what pools owe is bad debt, and there is a pool for it."""
    can = ladder.writes_off or len(pools) == 0
    for pool in pools:
        can = can and ladder.bad_debt[s.pools[pool].ledger] >= 0
    return bool(can)


@allocating_kernel
def _close(s: Arrays, forcing: Forcing, ts: int) -> bool:
    """Close losers against the first in rank, side by side; False where the host has to make room."""
    _, funds, r, c, _, q, w = forcing
    n = w.numbers
    losing = w.losing[: n[LOST]]
    while n[_CLOSED] < len(losing):
        end, pieces = close_next_side(s, funds, c, r, q, ts, losing, i64(n[_CLOSED]))
        if end == n[_CLOSED]:
            n[PIECES] = pieces
            return False
        n[_CLOSED] = end
    return True


@allocating_kernel
def step(s: Arrays, forcing: Forcing, ts: int, recorded: Array) -> int:
    """Run one step of the waterfall, or go on with one that asked for something.

    Args:
        s: The state at the end of a step of the tape, the pools in breach in ``s.breaches``, ascending.
        forcing: The waterfall.
        ts: The step.
        recorded: Position slots that the tape forces in this step, ascending.

    Returns:
        ``DONE`` or what the host has to do before it goes on.
    """
    d, funds, r, c, ladder, q, w = forcing
    n, nothing = w.numbers, np.empty(0, np.int64)
    breaches = s.breaches[: s.counters[BREACHES]].astype(np.int64)
    if n[_PHASE] <= _RESTORED:
        if n[_PHASE] == _BEGIN:
            n[FORCED_ROWS] = open_positions(s, breaches)
            if not _has_room(s, forcing, i64(n[FORCED_ROWS])):
                return _ask(w, ROOM, nothing)
        restored = begin_step(s, c)
        n[_JUDGED] = len(breaches) > 0 or len(restored) > 0
        if n[_PHASE] == _BEGIN:
            n[AT_RUNG], n[LOST], n[_PHASE] = _WHOLE, 0, _RESTORED
            debts = indebted(s, restored)
            if not _can_write_off(s, ladder, debts):
                return _ask(w, DEBTS, debts)
            write_off(s, c, r, debts, ladder.bad_debt, ts)
        if len(restored):
            end_episodes(s, c, r, restored, ts)
        n[_PHASE] = _FORCE
    if n[_PHASE] == _FORCE:
        begin, lost = i64(n[AT_RUNG]), i64(n[LOST])
        number, lost, fresh = force(
            s, d, funds, c, r, ladder, ts, breaches, recorded, begin, w.lowest, w.losing, lost
        )
        n[AT_RUNG], n[LOST] = number, lost
        if number != _WHOLE:
            return _ask(w, POSITIONS, fresh)
        n[_PHASE] = _LEAVE
        if lost and ladder.deleverages:
            ordered = sides_in_order(s, w.losing[:lost], q)
            n[LOST] = _keep(ordered, w.losing, 0)
            n[_CLOSED], n[_PHASE] = 0, _CLOSE if q.is_plain else _LEAVE
            if not q.is_plain and len(ordered):
                return _ask(w, LOSERS, nothing)
    if n[_PHASE] == _CLOSE:
        if not _close(s, forcing, ts):
            return _ask(w, ROOM_TO_CLOSE, nothing)
        n[_PHASE] = _LEAVE
    closed = breaches
    if n[_JUDGED] and ladder.nets:
        # A pool that waits may be flat, too: its position was the hedge of another's.
        closed = pools_in_liquidation(c)
    if n[_PHASE] == _LEAVE:
        n[_PHASE] = _LEFT
        debts = indebted(s, closed)
        if not _can_write_off(s, ladder, debts):
            return _ask(w, DEBTS, debts)
        write_off(s, c, r, debts, ladder.bad_debt, ts)
    flat = end_step(s, c, funds, n[_JUDGED] != 0, closed)
    if len(flat):
        end_episodes(s, c, r, flat, ts)
    n[_PHASE] = _BEGIN
    return _ask(w, DONE, nothing)


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
        begin: ``_WHOLE`` at first, then the rung before which the last call stopped.
        lowest: int64[pools], kept from call to call.
        losing: LOSING records, room for what every rung and the absorber may lose; those before ``lost`` are kept.
        lost: How many are there already.

    Returns:
        ``_WHOLE`` or the rung before which it stopped, as the absorber needs positions in markets it had none in;
        how many are losing; those markets, in the order of the forced positions.
    """
    number, seen = i64(begin), i64(-1)
    nothing = np.empty(0, np.int64)
    if begin == _WHOLE and len(breaches):
        begin_episodes(s, c, forced_batch(s, breaches), ts, recorded)
    if s.counters[GUARD_MS]:
        if begin == _WHOLE and (len(breaches) or s.counters[RESTORED]):
            look_for_guards(s, r, breaches, ts)
        breaches = not_passed_over(s, breaches)
    if ladder.most and len(breaches) > ladder.most:
        breaches = in_turn(s, breaches, _liquidations_of(s, c, breaches), ladder.most)
    if begin == _WHOLE and len(breaches):
        seen = lowest_rungs(s, breaches, ladder.rungs, ladder.at_equal, lowest)
    if begin == _WHOLE:
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
    return i64(_WHOLE), lost, nothing


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
