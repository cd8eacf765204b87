"""Liquidations as episodes: from a pool's first breach until it is restored or flat.

An episode has one leg per position; the legs of all open episodes are rows of one array, so that a stage
accounts for a whole batch of forced orders at once. Rows of legs that ended are used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.state import State
from replay.loop.waterfall import ForcedBatch

Array = npt.NDArray[Any]

LEG = np.dtype(
    [
        ("liquidation", "i8"),
        ("position", "i8"),
        ("market", "i8"),
        ("size", "i8"),  # at the first breach, as mark and bankruptcy_value
        ("mark", "i8"),
        ("bankruptcy_value", "i8"),
        ("netted", "i8"),
        ("book", "i8"),
        ("absorbed", "i8"),
        ("adl", "i8"),
        ("left", "i8"),
        ("surplus", "i8"),
        ("shortfall", "i8"),
        ("recorded", "i8"),  # whether the tape forced the position in that step
    ]
)


@dataclass(slots=True)
class Episode:
    """One liquidation of a pool; ``legs`` are rows of :attr:`Episodes.legs`."""

    id: int
    ts: int
    pool: int
    equity: int
    maintenance: int
    legs: list[int] = field(default_factory=list)
    socialised: int = 0
    bad_debt: int = 0


class Episodes:
    """The open episodes of a replay, by pool; those that end become rows of `liquidations`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.open: dict[int, Episode] = {}
        self.legs = np.zeros(0, LEG)
        self.count = 0
        self._row_of = np.zeros(0, np.int64)  # by position slot; -1 where it is no leg
        self._free: list[int] = []

    def rows(self, positions: Array) -> Array:
        """Return the rows of positions in :attr:`legs`, -1 of those that are no leg."""
        slots = len(self._state.arrays.positions)
        if slots > len(self._row_of):
            grown = np.full(slots, -1, np.int64)
            grown[: len(self._row_of)] = self._row_of
            self._row_of = grown
        return self._row_of[positions]

    def begin(self, batch: ForcedBatch, recorded: Array) -> None:
        """Begin the episodes of pools at their first breach, and add legs for positions that came later.

        Args:
            batch: The open positions of the pools in breach.
            recorded: Position slots that the tape forces in this step.
        """
        rows = self.rows(batch.position)
        fresh = np.flatnonzero(rows < 0)
        if len(self._free) < len(fresh):
            self._grow(len(fresh))
        for i, is_recorded in zip(
            fresh.tolist(), np.isin(batch.position[fresh], recorded).tolist(), strict=True
        ):
            pool, position = int(batch.pool[i]), int(batch.position[i])
            episode = self.open.get(pool)
            if episode is None:
                episode = self.open[pool] = Episode(
                    self.count, batch.ts, pool, int(batch.equity[i]), int(batch.maintenance[i])
                )
                self.count += 1
            row = self._free.pop()
            leg = self.legs[row]
            leg["liquidation"], leg["position"], leg["recorded"] = episode.id, position, is_recorded
            episode.legs.append(row)
            rows[i] = row
        legs = rows[fresh]
        self._row_of[batch.position[fresh]] = legs
        for column, values in (
            ("market", batch.market),
            ("size", batch.size),
            ("mark", batch.mark),
            ("bankruptcy_value", batch.bankruptcy_value),
        ):
            self.legs[column][legs] = values[fresh]
        self.legs["left"][rows] = 0

    def _grow(self, need: int) -> None:
        before = len(self.legs)
        grown = np.zeros(max(64, 2 * before, before + need), LEG)
        grown[:before] = self.legs
        self.legs = grown
        self._free += range(len(grown) - 1, before - 1, -1)

    def end(self, pools: Sequence[int], ts: int | None, absorber_is_vault: bool) -> dict[str, Any]:
        """End the episodes of pools; return their rows of `liquidations`, one per market.

        Args:
            pools: The pools, in the order of the rows.
            ts: The step of the end, or None if the tape ended before.
            absorber_is_vault: Whether shortfalls are borne by a vault or by a fund.
        """
        episodes = [self.open.pop(pool) for pool in pools]
        place = self.legs["position"]
        ordered = [sorted(episode.legs, key=lambda row: int(place[row])) for episode in episodes]
        counts = [len(legs) for legs in ordered]
        rows = np.array([row for legs in ordered for row in legs], np.int64)
        legs = self.legs[rows]
        first = np.cumsum([0, *counts[:-1]]) if counts else np.zeros(0, np.int64)
        bad_debt = np.zeros(len(rows), np.int64)
        bad_debt[first] = [episode.bad_debt for episode in episodes]
        socialised = np.zeros(len(rows), np.int64)
        socialised[first] = [episode.socialised for episode in episodes]
        records = self._state.pools[np.repeat(np.array(pools, np.int64), counts)]
        closed = legs["netted"] + legs["book"] + legs["absorbed"] + legs["adl"]
        nothing = np.zeros(len(rows), np.int64)

        def of_episode(values: list[int]) -> Array:
            return np.repeat(np.array(values, np.int64), counts)

        result = {
            "liquidation": legs["liquidation"].copy(),
            "ts": of_episode([episode.ts for episode in episodes]),
            "ts_end": [ts] * len(rows),
            "account": records["account"].copy(),
            "ledger": records["ledger"].copy(),
            "market": legs["market"].copy(),
            "mode": self._state.positions["mode"][legs["position"]],
            "size": legs["size"].copy(),
            "asked": closed + legs["left"],
            "netted": legs["netted"].copy(),
            "book": legs["book"].copy(),
            "absorbed": legs["absorbed"].copy(),
            "adl": legs["adl"].copy(),
            "left": legs["left"].copy(),
            "bankruptcy_value": legs["bankruptcy_value"].copy(),
            "mark": legs["mark"].copy(),
            "equity": of_episode([episode.equity for episode in episodes]),
            "maintenance": of_episode([episode.maintenance for episode in episodes]),
            "surplus": legs["surplus"].copy(),
            "shortfall": legs["shortfall"] + socialised + bad_debt,
            "fund": nothing if absorber_is_vault else legs["shortfall"].copy(),
            "vault": legs["shortfall"].copy() if absorber_is_vault else nothing,
            "socialised": socialised,
            "bad_debt": bad_debt,
            "recorded": legs["recorded"].copy(),
        }
        self._row_of[legs["position"]] = -1
        self.legs[rows] = np.zeros((), LEG)
        self._free += rows.tolist()
        return result
