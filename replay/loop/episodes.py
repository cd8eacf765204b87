"""Liquidations as episodes: from a pool's first breach until it is restored or flat.

An episode has one leg per position; episodes and legs are records of two arrays, so that a stage accounts for a
whole batch of forced orders at once. Records that ended are used again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.fund import Funds, counted_fund_at, is_held
from replay.loop.rows import LIQUIDATION_ROWS, Buffers, Rows
from replay.loop.state import ATTENDING, Arrays, State
from replay.loop.watch import wait_for_marks
from replay.loop.waterfall import is_open

Array = npt.NDArray[Any]

LEG = np.dtype(
    [
        ("liquidation", "i8"),
        ("position", "i8"),
        ("next", "i8"),  # next leg of the episode, -1 for none
        ("market", "i8"),
        ("size", "i8"),  # at the first breach, as mark and bankruptcy_value
        ("mark", "i8"),
        ("bankruptcy_value", "i8"),
        ("netted", "i8"),
        ("book", "i8"),
        ("absorbed", "i8"),
        ("adl", "i8"),
        ("left", "i8"),
        ("left_value", "i8"),  # signed, at which what an absorber left of a takeover was to go
        ("surplus", "i8"),
        ("shortfall", "i8"),
        ("vault", "i8"),  # what of the shortfall vaults bore
        ("recorded", "i8"),  # whether the tape forced the position in that step
    ]
)
EPISODE = np.dtype(
    [
        ("id", "i8"),
        ("ts", "i8"),
        ("pool", "i8"),
        ("place", "i8"),  # in Episodes.open
        ("equity", "i8"),  # at the first breach, as maintenance
        ("maintenance", "i8"),
        ("first", "i8"),  # head of the chain of its legs
        ("socialised", "i8"),
        ("bad_debt", "i8"),
    ]
)

# Places of Cases.numbers.
_OPEN, _COUNT, _FREE_EPISODES, _FREE_LEGS, _NUMBERS = range(5)

_OPEN_END = -1
"""Stands for the end of an episode that the tape left open."""


class Cases(NamedTuple):
    """The open episodes as compiled code sees them."""

    episodes: Array  # EPISODE records
    legs: Array  # LEG records
    leg_of: Array  # int64 by position slot, -1 where it is no leg
    open: Array  # int64: pools in liquidation, in no order
    free_episodes: Array  # int64, a stack
    free_legs: Array  # int64, a stack
    numbers: Array  # int64: how many are open, were begun, and are free


def no_cases() -> Cases:
    """Return room for no episode."""
    empty = np.zeros(0, np.int64)
    return Cases(
        np.zeros(0, EPISODE), np.zeros(0, LEG), empty, empty, empty, empty, np.zeros(_NUMBERS, np.int64)
    )


class Episodes:
    """The open episodes of a replay; those that end become rows of `liquidations`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.arrays = no_cases()

    @property
    def count(self) -> int:
        """How many liquidations there were so far."""
        return int(self.arrays.numbers[_COUNT])

    @property
    def open(self) -> Array:
        """The pools in liquidation, int64, in no order."""
        pools: Array = self.arrays.open[: self.arrays.numbers[_OPEN]]
        return pools

    def of(self, pool: int) -> Any:
        """Return the EPISODE record of a pool in liquidation, to be read and written."""
        return self.arrays.episodes[self._state.arrays.pools[pool]["episode"]]

    def legs_of(self, pool: int) -> Array:
        """Return copies of the LEG records of a pool in liquidation, in no order."""
        found, leg = [], int(self.of(pool)["first"])
        while leg >= 0:
            found.append(leg)
            leg = int(self.arrays.legs[leg]["next"])
        return self.arrays.legs[found]

    def reserve(self, rows: int) -> None:
        """Make room for ``rows`` more legs, each of an episode of its own, and for all positions."""
        cases = self.arrays
        slots = len(self._state.arrays.positions)
        if slots > len(cases.leg_of):
            cases = cases._replace(leg_of=_longer(cases.leg_of, slots, -1))
        if cases.numbers[_FREE_LEGS] < rows:
            cases = cases._replace(
                legs=_longer(cases.legs, _enough(cases.legs, rows), 0),
                free_legs=self._more_free(cases.free_legs, cases.legs, rows, _FREE_LEGS),
            )
        if cases.numbers[_FREE_EPISODES] < rows:
            cases = cases._replace(
                episodes=_longer(cases.episodes, _enough(cases.episodes, rows), 0),
                open=_longer(cases.open, _enough(cases.episodes, rows), 0),
                free_episodes=self._more_free(cases.free_episodes, cases.episodes, rows, _FREE_EPISODES),
            )
        self.arrays = cases

    def _more_free(self, stack: Array, records: Array, rows: int, place: int) -> Array:
        """Return a longer stack of free records, with those that are about to be added on top."""
        size, free = _enough(records, rows), int(self.arrays.numbers[place])
        added = size - len(records)
        longer = _longer(stack, size, 0)
        longer[free : free + added] = np.arange(size - 1, len(records) - 1, -1)
        self.arrays.numbers[place] += added
        return longer

    def end(self, rows: Rows, pools: Array, ts: int | None) -> None:
        """End the episodes of pools and write their rows, one per market.

        Args:
            rows: Receives them.
            pools: The pools, in the order of the rows.
            ts: The step of the end, or None if the tape ended before.
        """
        if len(pools):
            rows.reserve(liquidations=int(count_legs(self._state.arrays, self.arrays, pools)))
            moment = _OPEN_END if ts is None else ts
            end_episodes(self._state.arrays, self.arrays, rows.arrays, pools, moment)


def _enough(records: Array, rows: int) -> int:
    return max(64, 2 * len(records), len(records) + rows)


def _longer(array: Array, size: int, fill: int) -> Array:
    longer = np.zeros(size, array.dtype)
    if fill:
        longer[:] = fill
    longer[: len(array)] = array
    return longer


@kernel
def legs_in_use(c: Cases) -> int:
    """Return how many legs the liquidations have that have not ended."""
    return i64(len(c.legs) - c.numbers[_FREE_LEGS])


@allocating_kernel
def pools_in_liquidation(c: Cases) -> Array:
    """Return the pools in liquidation, ascending."""
    return np.sort(c.open[: c.numbers[_OPEN]])


@kernel
def has_room_for_legs(s: Arrays, c: Cases, rows: int) -> bool:
    """Tell whether there is room for ``rows`` more legs, see :meth:`Episodes.reserve`."""
    has_places = len(c.leg_of) >= len(s.positions)
    return bool(has_places and c.numbers[_FREE_LEGS] >= rows and c.numbers[_FREE_EPISODES] >= rows)


@allocating_kernel
def begin_step(s: Arrays, c: Cases) -> Array:
    """Return the pools in liquidation that were judged and are flat or not in breach, ascending.

    All others in liquidation are no winners of this step: also those that wait for a mark and were not judged.
    """
    restored = np.empty(c.numbers[_OPEN], np.int64)
    count = 0
    for i in range(c.numbers[_OPEN]):
        pool = s.pools[c.open[i]]
        if pool.waiting == 0 and pool.in_breach == 0:
            restored[count] = c.open[i]
            count += 1
        else:
            pool.in_breach = 1
    return np.sort(restored[:count])


@allocating_kernel
def end_step(s: Arrays, c: Cases, funds: Funds, judged: bool, closed: Array) -> Array:
    """Let pools in liquidation wait for a mark; return which of some pools are flat: their episodes end.

    Args:
        s: The state.
        c: The open episodes.
        funds: The absorbers.
        judged: Whether pools were judged in this step; if not, all that waited still do.
        closed: int64, the pools that the step may have closed.
    """
    flat = np.empty(len(closed), np.int64)
    count = 0
    if judged:
        wait_for_marks(s, c.open[: c.numbers[_OPEN]])
        for pool in closed:
            if not is_open(s, pool):
                flat[count] = pool
                count += 1
    else:
        for i in range(c.numbers[_OPEN]):
            s.pools[c.open[i]].in_breach = 0
    is_due = c.numbers[_OPEN] > count
    for number in range(len(funds.rule)):
        f = counted_fund_at(funds, number)
        for market in range(len(f.markets)):
            is_due = is_due or is_held(s, f, market)
    s.counters[ATTENDING] = is_due
    return flat[:count]


@kernel
def _is_recorded(recorded: Array, position: int) -> bool:
    place = np.searchsorted(recorded, position)
    return bool(place < len(recorded) and recorded[place] == position)


@kernel
def begin_episodes(s: Arrays, c: Cases, batch: Array, ts: int, recorded: Array) -> None:
    """Begin the episodes of pools at their first breach, and add legs for positions that came later.

    Args:
        s: The state.
        c: The open episodes; room for the rows must be reserved.
        batch: FORCED records: the open positions of the pools in breach.
        ts: The step.
        recorded: Position slots that the tape forces in this step, ascending.
    """
    for i in range(len(batch)):
        row = batch[i]
        pool = s.pools[row.pool]
        pool.liquidated_ts = ts
        pool.touched = 1
        known = c.leg_of[row.position]
        if known >= 0:
            c.legs[known].left = 0
            continue
        if pool.episode < 0:
            c.numbers[_FREE_EPISODES] -= 1
            pool.episode = c.free_episodes[c.numbers[_FREE_EPISODES]]
            fresh = c.episodes[pool.episode]
            fresh.id, fresh.ts, fresh.pool = c.numbers[_COUNT], ts, row.pool
            fresh.equity, fresh.maintenance = row.equity, row.maintenance
            fresh.first, fresh.socialised, fresh.bad_debt = -1, 0, 0
            fresh.place = c.numbers[_OPEN]
            c.open[fresh.place] = row.pool
            c.numbers[_OPEN] += 1
            c.numbers[_COUNT] += 1
        episode = c.episodes[pool.episode]
        c.numbers[_FREE_LEGS] -= 1
        place = c.free_legs[c.numbers[_FREE_LEGS]]
        leg = c.legs[place]
        leg.liquidation, leg.position, leg.market = episode.id, row.position, row.market
        leg.size, leg.mark, leg.bankruptcy_value = row.size, row.mark, row.bankruptcy_value
        leg.netted, leg.book, leg.absorbed, leg.adl, leg.left = 0, 0, 0, 0, 0
        leg.surplus, leg.shortfall, leg.vault = 0, 0, 0
        leg.recorded = _is_recorded(recorded, row.position)
        leg.next = episode.first
        episode.first = place
        c.leg_of[row.position] = place


@kernel
def count_legs(s: Arrays, c: Cases, pools: Array) -> int:
    """Return how many legs the episodes of pools have."""
    count = 0
    for pool in pools:
        leg = c.episodes[s.pools[pool].episode].first
        while leg >= 0:
            count += 1
            leg = c.legs[leg].next
    return count


@allocating_kernel
def end_episodes(s: Arrays, c: Cases, r: Buffers, pools: Array, ts: int) -> None:
    """End the episodes of pools and write a row per leg, by position; see :meth:`Episodes.end`."""
    legs = np.empty(count_legs(s, c, pools), np.int64)
    for number in pools:
        pool = s.pools[number]
        place = i64(pool.episode)
        episode = c.episodes[place]
        count, leg = 0, episode.first
        while leg >= 0:  # by position: insertion, as there are few
            here = count
            while here > 0 and c.legs[legs[here - 1]].position > c.legs[leg].position:
                legs[here] = legs[here - 1]
                here -= 1
            legs[here] = leg
            count += 1
            leg = c.legs[leg].next
        for i in range(count):
            mine = c.legs[legs[i]]
            row = r.liquidations[r.counts[LIQUIDATION_ROWS]]
            r.counts[LIQUIDATION_ROWS] += 1
            socialised = episode.socialised if i == 0 else 0
            bad_debt = episode.bad_debt if i == 0 else 0
            row.liquidation, row.ts, row.ts_end = mine.liquidation, episode.ts, ts
            row.account, row.ledger, row.market = pool.account, pool.ledger, mine.market
            row.mode = s.positions[mine.position].mode
            row.size = mine.size
            row.asked = mine.netted + mine.book + mine.absorbed + mine.adl + mine.left
            row.netted, row.book, row.absorbed = mine.netted, mine.book, mine.absorbed
            row.adl, row.left = mine.adl, mine.left
            row.bankruptcy_value, row.mark = mine.bankruptcy_value, mine.mark
            row.equity, row.maintenance = episode.equity, episode.maintenance
            row.surplus = mine.surplus
            row.shortfall = mine.shortfall + socialised + bad_debt
            row.fund, row.vault = mine.shortfall - mine.vault, mine.vault
            row.socialised, row.bad_debt, row.recorded = socialised, bad_debt, mine.recorded
            c.leg_of[mine.position] = -1
            c.free_legs[c.numbers[_FREE_LEGS]] = legs[i]
            c.numbers[_FREE_LEGS] += 1
        c.numbers[_OPEN] -= 1
        last = c.open[c.numbers[_OPEN]]
        c.open[episode.place] = last
        c.episodes[s.pools[last].episode].place = episode.place
        c.free_episodes[c.numbers[_FREE_EPISODES]] = place
        c.numbers[_FREE_EPISODES] += 1
        pool.episode = -1
