"""Liquidations as episodes: from a pool's first breach until it is restored or flat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from replay.loop.state import State


@dataclass(slots=True)
class Leg:
    """One market of an episode: its position at the first breach, and where its quantity and money went."""

    position: int
    market: int
    size: int
    mark: int
    bankruptcy_value: int
    netted: int = 0
    book: int = 0
    absorbed: int = 0
    adl: int = 0
    left: int = 0
    surplus: int = 0
    shortfall: int = 0
    recorded: int = 0

    @property
    def closed(self) -> int:
        """Quantity closed so far."""
        return self.netted + self.book + self.absorbed + self.adl


@dataclass(slots=True)
class Episode:
    """One liquidation of a pool."""

    id: int
    ts: int
    pool: int
    equity: int
    maintenance: int
    legs: dict[int, Leg] = field(default_factory=dict)
    bad_debt: int = 0


class Episodes:
    """The open episodes of a replay, by pool; those that end become rows of `liquidations`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.open: dict[int, Episode] = {}
        self.count = 0

    def of(self, pool: int, ts: int, equity: int, maintenance: int) -> Episode:
        """Return the open episode of a pool, beginning one at its first breach."""
        episode = self.open.get(pool)
        if episode is None:
            episode = self.open[pool] = Episode(self.count, ts, pool, equity, maintenance)
            self.count += 1
        return episode

    def end(self, pool: int, ts: int | None, absorber_is_vault: bool) -> list[dict[str, Any]]:
        """End the episode of a pool; return its rows of `liquidations`, one per market.

        Args:
            pool: The pool.
            ts: The step of the end, or None if the tape ended before.
            absorber_is_vault: Whether shortfalls are borne by a vault or by a fund.
        """
        episode = self.open.pop(pool)
        record = self._state.pools[pool]
        rows = []
        for number, leg in enumerate(sorted(episode.legs.values(), key=lambda leg: leg.position)):
            bad_debt = episode.bad_debt if number == 0 else 0
            rows.append(
                {
                    "liquidation": episode.id,
                    "ts": episode.ts,
                    "ts_end": ts,
                    "account": int(record["account"]),
                    "ledger": int(record["ledger"]),
                    "market": leg.market,
                    "mode": int(self._state.positions[leg.position]["mode"]),
                    "size": leg.size,
                    "asked": leg.closed + leg.left,
                    "netted": leg.netted,
                    "book": leg.book,
                    "absorbed": leg.absorbed,
                    "adl": leg.adl,
                    "left": leg.left,
                    "bankruptcy_value": leg.bankruptcy_value,
                    "mark": leg.mark,
                    "equity": episode.equity,
                    "maintenance": episode.maintenance,
                    "surplus": leg.surplus,
                    "shortfall": leg.shortfall + bad_debt,
                    "fund": 0 if absorber_is_vault else leg.shortfall,
                    "vault": leg.shortfall if absorber_is_vault else 0,
                    "socialised": 0,
                    "bad_debt": bad_debt,
                    "recorded": leg.recorded,
                }
            )
        return rows
