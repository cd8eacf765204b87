"""The waterfall: each stage is a plain function over a batch of forced orders.

A batch holds the positions of all pools found in breach at the end of one step, in canonical order (pool,
then position). A stage fills in what it takes of each order; what no stage took is `left`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.kernels import kernel
from replay.loop.margin import bankruptcy_values, valuation
from replay.loop.state import Arrays, State

Array = npt.NDArray[Any]


@dataclass(slots=True)
class ForcedBatch:
    """The forced orders of one step, one row a position; quantities and money as in the ledger.

    ``size`` is the signed position to be closed, ``bankruptcy_value`` the signed value at which closing it
    costs the pool exactly its share of equity. Equity and maintenance are those of the pool.
    """

    ts: int
    pool: Array
    position: Array
    market: Array
    size: Array
    mark: Array
    bankruptcy_value: Array
    equity: Array
    maintenance: Array
    absorbed: Array = field(init=False)
    absorber: Array = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is taken yet."""
        self.absorbed = np.zeros(len(self.pool), np.int64)
        self.absorber = np.full(len(self.pool), -1, np.int64)

    @property
    def left(self) -> Array:
        """Quantity of each order that no stage has taken, unsigned."""
        return np.abs(self.size) - self.absorbed


@kernel
def _open_positions(s: Arrays, pools: Array) -> int:
    count = 0
    for pool in pools:
        slot = s.pools[pool].first
        while slot >= 0:
            count += s.positions[slot].size != 0
            slot = s.positions[slot].next
    return count


@kernel
def _forced_orders(s: Arrays, pools: Array, rows: int) -> tuple[Array, Array, Array, Array, Array]:
    pool_of_row = np.empty(rows, np.int64)
    position = np.empty(rows, np.int64)
    bankruptcy = np.empty(rows, np.int64)
    equities = np.empty(rows, np.int64)
    maintenances = np.empty(rows, np.int64)
    row = 0
    for pool in pools:
        equity, maintenance, _ = valuation(s, pool)
        count = bankruptcy_values(s, pool, equity, position[row:], bankruptcy[row:])
        pool_of_row[row : row + count] = pool
        equities[row : row + count] = equity
        maintenances[row : row + count] = maintenance
        row += count
    return pool_of_row, position, bankruptcy, equities, maintenances


def forced_batch(state: State, ts: int, pools: Array) -> ForcedBatch:
    """Return the forced orders for all positions of the pools in breach, valued at bankruptcy.

    Args:
        state: The state at the end of the step.
        ts: Moment of the step.
        pools: int64 ids of pools in breach, ascending.
    """
    arrays = state.arrays
    rows = int(_open_positions(arrays, pools))
    pool, position, bankruptcy, equity, maintenance = _forced_orders(arrays, pools, rows)
    records = arrays.positions[position]
    market = records["market"].astype(np.int64)
    return ForcedBatch(
        ts=ts,
        pool=pool,
        position=position,
        market=market,
        size=records["size"].copy(),
        mark=arrays.markets["mark"][market],
        bankruptcy_value=bankruptcy,
        equity=equity,
        maintenance=maintenance,
    )


def take_over(batch: ForcedBatch, state: State, absorber: str) -> None:
    """Let an absorber take all that is left of each order at its bankruptcy value (stage ``takeover``).

    Args:
        batch: The step's forced orders; ``absorbed`` and ``absorber`` (position slot) are filled in.
        state: The state, in which the absorber's positions are made where they do not exist yet.
        absorber: Pseudo account of the fund or vault.
    """
    state.reserve(len(batch.pool))
    taker_of = {
        int(market): state.pseudo_position(absorber, int(market)) for market in np.unique(batch.market)
    }
    batch.absorber = np.array([taker_of[int(market)] for market in batch.market], np.int64)
    batch.absorbed = np.abs(batch.size)
