"""Rows of run tables that the waterfall writes: what was sent, moved, engaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.loop.absorbers import AbsorberBook, Verdict
from replay.loop.depth import NO_LIMIT
from replay.loop.episodes import Episodes
from replay.loop.state import State
from replay.loop.waterfall import ForcedBatch

Array = npt.NDArray[Any]


class Sink(Protocol):
    """Where the loop writes rows of run tables, in units of the tape."""

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows by column."""


def append_rows(sink: Sink, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows that are given one by one; a column missing in a row is unknown."""
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        sink.append(table, {name: [row.get(name) for row in rows] for name in names})


class CascadeRows:
    """Writes the rows of one replay's waterfall.

    Args:
        state: The state.
        sink: Receives the rows.
        episodes: The open liquidations, for their ids.
        absorber: The fund or vault, if the rules have one.
    """

    def __init__(self, state: State, sink: Sink, episodes: Episodes, absorber: AbsorberBook | None) -> None:
        self._state = state
        self._sink = sink
        self._episodes = episodes
        self._absorber = absorber

    def orders(
        self,
        batch: ForcedBatch,
        stage: str,
        asked: Array,
        limit: Array,
        signed: Array,
        value: Array,
        reason: Sequence[str],
        sent: Array,
    ) -> None:
        """Write the attempts of a stage; ``sent`` tells which rows of the batch it tried."""
        rows = np.flatnonzero(sent)
        if len(rows) == 0:
            return
        pools = self._state.pools[batch.pool[rows]]
        self._sink.append(
            "forced_orders",
            {
                "ts": np.full(len(rows), batch.ts),
                "liquidation": self._episodes.legs["liquidation"][self._episodes.rows(batch.position[rows])],
                "stage": [stage] * len(rows),
                "account": pools["account"],
                "market": batch.market[rows],
                "asked": np.where(batch.size[rows] > 0, -asked[rows], asked[rows]),
                "limit_price": pa.array(limit[rows], mask=limit[rows] == NO_LIMIT),
                "filled": signed[rows],
                "value": value[rows],
                "mark": batch.mark[rows],
                "reason": [reason[i] for i in rows.tolist()],
            },
        )

    def movements(self, ts: int, kind: str, markets: Array, amounts: Array) -> None:
        """Write what movements brought or cost the absorber at the mark, one row per market."""
        assert self._absorber is not None
        rows = []
        sums: dict[int, int] = {}
        for market, amount in zip(markets.tolist(), amounts.tolist(), strict=True):
            sums[market] = sums.get(market, 0) + amount
        for market, amount in sorted(sums.items()):
            ledger = self._state.markets[int(market)].ledger
            rows.append(
                {
                    "ts": ts,
                    "account": self._state.account(self._absorber.rule.account),
                    "ledger": ledger,
                    "market": int(market),
                    "kind": kind,
                    "amount": amount,
                    "balance": self._absorber.balance(ledger),
                    "inventory": self._absorber.size(int(market)),
                }
            )
        append_rows(self._sink, "absorber_ledger", rows)

    def opening(self, ts: int) -> None:
        """Write what the absorber begins with, one row per ledger."""
        assert self._absorber is not None
        rows = []
        for ledger in self._absorber.ledgers():
            balance = self._absorber.balance(ledger)
            rows.append(
                {
                    "ts": ts,
                    "account": self._state.account(self._absorber.rule.account),
                    "ledger": ledger,
                    "market": None,
                    "kind": "opening",
                    "amount": balance,
                    "balance": balance,
                    "inventory": None,
                }
            )
        append_rows(self._sink, "absorber_ledger", rows)

    def engaged(
        self, batch: ForcedBatch, stage: str, scope: str, quantity: Array, acted: Array, reason: str
    ) -> None:
        """Write that a stage acted in this step, one row per market."""
        rows = []
        for market in np.unique(batch.market[acted]):
            mine = np.flatnonzero((batch.market == market) & acted)
            ledger = self._state.markets[int(market)].ledger
            count = len(mine)
            balance = None
            if self._absorber is not None and scope == self._absorber.rule.account:
                balance = self._absorber.balance(ledger)
            rows.append(
                {
                    "ts": batch.ts,
                    "scope": scope,
                    "market": int(market),
                    "ledger": ledger,
                    "stage": stage,
                    "state": "engaged",
                    "reason": f"{reason}: {count} pool{'s' if count > 1 else ''}",
                    "measured": sum(batch.equity[mine].tolist()),
                    "threshold": sum(batch.maintenance[mine].tolist()),
                    "fund_balance": balance,
                    "quantity": sum(quantity[mine].tolist()),
                    "shadow": 0,
                }
            )
        append_rows(self._sink, "engagements", rows)

    def verdict(self, ts: int, market: int, verdict: Verdict) -> None:
        """Write that deleveraging of a market starts or stops by the rules of the absorber."""
        assert self._absorber is not None
        ledger = self._state.markets[market].ledger
        row = {
            "ts": ts,
            "scope": self._absorber.rule.account,
            "market": market,
            "ledger": ledger,
            "stage": "adl",
            "state": "start" if verdict.active else "stop",
            "reason": verdict.reason,
            "measured": verdict.measured,
            "threshold": verdict.threshold,
            "fund_balance": self._absorber.balance(ledger),
            "quantity": None,
            "shadow": 0,
        }
        append_rows(self._sink, "engagements", [row])
