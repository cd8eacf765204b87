"""What each pool has gained in the present session: losses may be shared over it.

Source: venue-rules.md section 6: losses beyond the fund are those of the winning traders of the day.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import OVERFLOW, signed_value
from replay.kernels import i64, kernel
from replay.loop.margin import fault, notional_at
from replay.loop.state import CELL_OVERFLOW, POOLS, POSITIONS, Arrays, State, pool_of
from replay.tape.read import Transfers
from replay.tape.schema import Grade
from replay.units import (
    BOUND,
    NS_PER_DAY,
)

Array = npt.NDArray[Any]


class Sessions:
    """Keeps what pools were worth when the session began, and what was paid in or out of them since.

    A session begins behind the step at its moment, and at the beginning of the tape. A position in a market
    without a mark counts at its entry value.

    Args:
        state: The state, its books opened.
        start_ns: At what time of the day (UTC) a session begins.
        first_ts: Beginning of the tape.
    """

    def __init__(self, state: State, start_ns: int, first_ts: int) -> None:
        self._state = state
        self.next = first_ts + (start_ns - first_ts) % NS_PER_DAY
        self._waiting: list[Transfers] = []
        self._base = self.worths()
        self._flows = np.zeros(0, np.int64)

    def worths(self) -> Array:
        """Return what each pool is worth now, in atoms."""
        worths = np.zeros(self._state.arrays.counters[POOLS], np.int64)
        fill_worths(self._state.arrays, worths)
        return worths

    def begin(self, ts: int) -> None:
        """Begin a session if one is due at a moment; all steps up to it are done."""
        if ts < self.next:
            return
        self.next += (ts - self.next) // NS_PER_DAY * NS_PER_DAY + NS_PER_DAY
        self._count_flows(ts)
        self._base, self._flows = self.worths(), np.zeros(0, np.int64)

    def note(self, transfers: Transfers) -> None:
        """Take the transfers of the window that is about to be replayed."""
        if len(transfers.ts):
            self._waiting.append(transfers)

    def pass_over(self, before: Array) -> None:
        """Count what pools are worth more than before as paid in: it came from outside.

        Args:
            before: What :meth:`worths` was.
        """
        base = self.worths()
        base[: len(before)] -= before
        base[: len(self._base)] += self._base
        self._base = base

    def _count_flows(self, ts: int) -> None:
        arrays = self._state.arrays
        pools = int(arrays.counters[POOLS])
        flows = np.zeros(pools, np.int64)
        flows[: len(self._flows)] = self._flows
        rest = []
        for t in self._waiting:
            end = int(np.searchsorted(t.ts, ts, side="right"))
            for i in range(end):
                pool = int(pool_of(arrays, t.account[i], t.ledger[i], t.market[i], int(Grade.UNKNOWN)))
                flows[pool] += t.amount[i]
            if end < len(t.ts):
                rest.append(Transfers(*(column[end:] for column in t)))
        self._waiting, self._flows = rest, flows

    def gains(self, ts: int) -> tuple[Array, Array]:
        """Return what each pool has gained since the session began, and what it is worth, in atoms.

        Args:
            ts: The present step.
        """
        self._count_flows(ts)
        worths = self.worths()
        gains = worths - self._flows[: len(worths)]
        gains[: len(self._base)] -= self._base
        return gains, worths


@kernel
def fill_worths(s: Arrays, worths: Array) -> None:
    """Fill the cash of pools and what their positions gained at the marks, in atoms."""
    for pool in range(len(worths)):
        worths[pool] = s.pools[pool].cash
    for slot in range(s.counters[POSITIONS]):
        p = s.positions[slot]
        m = s.markets[p.market]
        if m.has_mark == 0 or (p.size == 0 and p.cost == 0):
            continue
        value = i64(0)
        if p.size != 0:
            notional = notional_at(m, p.size, m.mark)
            if notional == OVERFLOW:
                fault(s, CELL_OVERFLOW, i64(p.pool), i64(p.market))
                continue
            value = signed_value(p.size, notional, m.inverse != 0)
        worths[p.pool] += value - p.cost
        if abs(worths[p.pool]) >= BOUND:
            fault(s, CELL_OVERFLOW, i64(p.pool), i64(p.market))
