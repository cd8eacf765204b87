"""Where a replay stood at a moment: positions, equity and ranks, by replaying the tape up to then."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from replay.errors import RunError
from replay.loop.engine import Replay
from replay.loop.series import append_standing
from replay.loop.state import State
from replay.progress import OnProgress
from replay.rules import RuleBook, compile_rules
from replay.rules.model import Rules
from replay.run.added import parse_added
from replay.run.schema import WORDS
from replay.run.store import Run
from replay.run.switches import executes_the_record
from replay.tape.read import Tape
from replay.tape.schema import Payoff
from replay.units import MONEY_SCALE, format_time


def standing(
    run: Run,
    tape: Tape,
    at: int,
    *,
    accounts: Collection[str] = (),
    market: str | None = None,
    on_progress: OnProgress | None = None,
) -> pa.Table:
    """Return the open positions at the end of the last step at or before a moment.

    The tape is replayed again with the rules and switches that the run keeps, and stopped there.

    Args:
        run: The run.
        tape: The tape it was made from.
        at: The moment, in ns.
        accounts: Only these; empty for all.
        market: Only this one.
        on_progress: Called with the share of the tape's rows replayed and a short text.

    Returns:
        One row per open position, largest value first: account, market, currency, mode, size, entry, mark,
        value, profit, equity, maintenance and ratio (equity / maintenance) of its pool, rank of how many
        candidates, lights.

    Raises:
        RunError: The tape is another, the moment is outside the run, an account or market is unknown.
    """
    _check(run, tape, at, accounts, market)
    switches = run.manifest["switches"]
    rules = run.manifest["rules"]
    resolved = Rules.model_validate_json(json.dumps(rules["resolved"]))
    book = RuleBook(rules["name"], str(run.path), "", resolved)
    plan = compile_rules(book, tape.markets, tape.ledgers, accept_assumptions=True)
    own = run.manifest.get("added")
    added = None if own is None else parse_added(own["text"], Path(own["name"]), tape)
    sink = _Rows()
    replay = Replay(
        tape,
        plan,
        sink,
        rules_decide=switches["liquidations"] == "rules",
        anchoring=switches["anchor_equity"] == "recorded",
        executing=executes_the_record(switches["liquidations"], switches["execution"]),
        added=() if added is None else added.entries,
    )
    total = max(1, sum(tape.rows(name) for name in replay.outcome.rows))
    for ts, rows in replay.run(until=at):
        if on_progress is not None:
            on_progress(rows / total, format_time(ts)[:19])
    state = replay.state
    positions = state.positions
    wanted = (positions["size"] != 0) & (state.pools["special"][positions["pool"]] == 0)
    if accounts:
        ids = [number for number, name in enumerate(state.account_names) if name in accounts]
        wanted &= np.isin(state.pools["account"][positions["pool"]], ids)
    if market is not None:
        wanted &= positions["market"] == next(m.id for m in state.markets if m.name == market)
    sink.rows = None
    append_standing(state, plan.adl, sink, at, np.flatnonzero(wanted))
    return _decoded(state, sink.rows)


def _check(run: Run, tape: Tape, at: int, accounts: Collection[str], market: str | None) -> None:
    if tape.manifest["sha256"] != run.manifest["tape"]["sha256"]:
        raise RunError(
            f"was not made from {tape.path}: the hash of the tape differs",
            file=run.path,
            mend="give the tape of the run",
        )
    first, last = run.manifest["span"]["from"], run.manifest["span"]["until"]
    if first is None or not first <= at <= last:
        span = (
            "it has no events"
            if first is None
            else f"it goes from {format_time(first)} to {format_time(last)}"
        )
        raise RunError(f"{format_time(at)} is outside the run", file=run.path, key="--at", mend=span)
    for name in accounts:
        if name not in run.account_names:
            raise RunError(
                f"the run has no account {name!r}", key="--account", mend="FROM accounts lists them"
            )
    if market is not None and market not in run.market_names:
        raise RunError(
            f"the run has no market {market!r}", key="--market", mend=f"it has {', '.join(run.market_names)}"
        )


class _Rows:
    """Keeps the rows of the standing; what else the replay writes is in the run already."""

    rows: dict[str, Any] | None = None

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        if table == "account_series":
            self.rows = dict(columns)


def _decoded(state: State, rows: dict[str, Any] | None) -> pa.Table:
    columns: dict[str, Sequence[Any]] = {name: [] for name in _COLUMNS}
    if rows is not None:
        plain = {name: _plain(column) for name, column in rows.items()}
        order = sorted(
            range(len(plain["account"])), key=lambda i: (-abs(plain["value"][i]), plain["account"][i])
        )
        found = [_row(state, {name: column[i] for name, column in plain.items()}) for i in order]
        columns = {name: [row[name] for row in found] for name in _COLUMNS}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in _COLUMNS.items()})


_COLUMNS = {
    "account": pa.string(),
    "market": pa.string(),
    "currency": pa.string(),
    "mode": pa.string(),
    "size": pa.float64(),
    "entry": pa.float64(),
    "mark": pa.float64(),
    "value": pa.float64(),
    "profit": pa.float64(),
    "equity": pa.float64(),
    "maintenance": pa.float64(),
    "ratio": pa.float64(),
    "rank": pa.int32(),
    "candidates": pa.int32(),
    "lights": pa.int8(),
}


def _plain(column: Any) -> list[Any]:
    values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
    return values


def _row(state: State, row: dict[str, Any]) -> dict[str, Any]:
    market = state.markets[row["market"]]
    money = 10**MONEY_SCALE
    size = row["size"] / 10**market.qty_scale
    cost = row["cost"] / money
    contracts = size * float(market.multiplier)
    equity, maintenance = row["equity"], row["maintenance"]
    return {
        "account": state.account_names[row["account"]],
        "market": market.name,
        "currency": state.ledgers[row["ledger"]][1],
        "mode": WORDS["mode"](row["mode"]).name.lower(),
        "size": size,
        "entry": None
        if cost == 0
        else (-contracts / cost if market.payoff == Payoff.INVERSE else cost / contracts),
        "mark": row["mark"] / 10**market.mark_scale,
        "value": row["value"] / money,
        "profit": (row["value"] - row["cost"]) / money,
        "equity": None if equity is None else equity / money,
        "maintenance": None if maintenance is None else maintenance / money,
        "ratio": equity / maintenance if equity is not None and maintenance else None,
        "rank": row["rank"],
        "candidates": row["candidates"],
        "lights": row["lights"],
    }
