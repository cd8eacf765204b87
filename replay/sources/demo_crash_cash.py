"""Funding, deposits, withdrawals and moves of margin on the crash day."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.sources.demo_crash_accounts import MAKERS, People
from replay.sources.demo_crash_margin import NEVER, Fate
from replay.sources.demo_crash_markets import (
    MARKETS,
    Floats,
    Ints,
    column,
    whole,
)
from replay.sources.demo_crash_prices import MARK_EVERY, Paths
from replay.tape.schema import TransferKind
from replay.units import ATOM, NS_PER_SECOND, RATE_SCALE

HOUR = 3600 * NS_PER_SECOND
_BASE_RATE = 12.5e-6  # of the notional per hour
_AFTER_CRASH = -60e-6
_CENT = ATOM // 100

Columns = dict[str, npt.NDArray[Any]]


def make_funding(rng: np.random.Generator, paths: Paths) -> Columns:
    """Make hourly funding: longs pay a little while it is calm, shorts pay once the crash is over."""
    first = -(-(paths.start + 1) // HOUR)
    hours = np.arange(first, paths.end // HOUR + 1) * HOUR
    calm = _BASE_RATE * (1.0 + rng.uniform(-0.2, 0.8, (len(hours), len(MARKETS))) * column("beta"))
    panic = _AFTER_CRASH * rng.uniform(0.2, 1.0, (len(hours), len(MARKETS))) * column("beta")
    rate = np.where(hours[:, None] > paths.crash, panic, calm)
    return {
        "ts": np.repeat(hours, len(MARKETS)),
        "market": np.tile(np.arange(len(MARKETS)), len(hours)),
        "rate": whole(rate.ravel() * 10**RATE_SCALE),
    }


def make_transfers(rng: np.random.Generator, people: People, fate: Fate, paths: Paths) -> Columns:
    """Make deposits that save accounts, margin moved to isolated positions, and quiet withdrawals."""
    is_public = people.pool_account >= people.kind_of(MAKERS).stop
    is_cross = people.pool_market < 0
    doomed = is_public & (fate.distress != NEVER) & (fate.distress > paths.crash) & (fate.leverage < 15.0)
    accounts = len(people.names)
    rows = [
        _saving(rng, people, fate, np.flatnonzero(doomed & is_cross), accounts // 400),
        _moves(rng, people, fate, np.flatnonzero(doomed & ~is_cross), accounts // 800),
        _quiet(
            rng, people, paths, np.flatnonzero(is_public & is_cross & (fate.leverage < 1.5)), accounts // 300
        ),
    ]
    columns = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    order = np.argsort(columns["ts"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _some(rng: np.random.Generator, pools: Ints, count: int) -> Ints:
    """Return up to ``count`` of the pools, ascending."""
    return np.sort(rng.permutation(pools)[:count])


def _needed(rng: np.random.Generator, fate: Fate, pools: Ints) -> Ints:
    """Return in atoms what keeps pools out of distress through the day, and some more."""
    amount = -fate.lowest[pools] * rng.uniform(1.1, 1.5, len(pools)) + 0.02 * fate.gross[pools]
    atoms: Ints = np.maximum(whole(amount * ATOM / _CENT), 1) * _CENT
    return atoms


def _just_before(rng: np.random.Generator, fate: Fate, pools: Ints) -> Ints:
    """Return moments a few marks before the distress of pools."""
    marks = rng.integers(2, 12, len(pools))
    return (
        fate.distress[pools]
        - marks * MARK_EVERY * NS_PER_SECOND
        + rng.integers(1, 1000, len(pools)) * 1_000_000
    )


def _columns(people: People, pools: Ints, ts: Ints, amount: Ints, kind: TransferKind) -> Columns:
    return {
        "ts": ts,
        "account": people.pool_account[pools],
        "ledger": people.pool_ledger[pools],
        "market": people.pool_market[pools],
        "amount": amount,
        "kind": np.full(len(pools), int(kind)),
    }


def _saving(rng: np.random.Generator, people: People, fate: Fate, pools: Ints, count: int) -> Columns:
    saved = _some(rng, pools, count)
    amount = _needed(rng, fate, saved)
    return _columns(people, saved, _just_before(rng, fate, saved), amount, TransferKind.DEPOSIT)


def _moves(rng: np.random.Generator, people: People, fate: Fate, pools: Ints, count: int) -> Columns:
    """Move spare cash of an account to its isolated position, as far as it has enough."""
    cross = {
        int(account): pool
        for pool, account in enumerate(people.pool_account)
        if people.pool_market[pool] < 0 and people.pool_ledger[pool] == 0
    }
    source = np.array([cross[int(account)] for account in people.pool_account[pools]], np.int64)
    amount = _needed(rng, fate, pools)
    _, first = np.unique(source, return_index=True)
    is_first = np.zeros(len(pools), bool)
    is_first[first] = True
    able = np.flatnonzero(
        is_first & (people.pool_cash[source] > 2 * amount) & (people.pool_ledger[pools] == 0)
    )
    chosen = _some(rng, able, count)
    ts = _just_before(rng, fate, pools[chosen])
    amounts = np.stack((-amount[chosen], amount[chosen]), axis=1).ravel()
    ends = np.stack((source[chosen], pools[chosen]), axis=1).ravel()
    return _columns(people, ends, np.repeat(ts, 2), amounts, TransferKind.MOVE)


def _quiet(rng: np.random.Generator, people: People, paths: Paths, pools: Ints, count: int) -> Columns:
    """Withdraw a part of the cash of accounts with hardly any leverage, in the calm hours."""
    chosen = _some(rng, pools, count)
    share: Floats = rng.uniform(0.02, 0.15, len(chosen))
    amount = -np.maximum(whole(people.pool_cash[chosen] * share), 1)
    calm = (paths.crash - paths.start) // 1_000_000
    ts = paths.start + rng.integers(1, calm, len(chosen)) * 1_000_000
    return _columns(people, chosen, ts, amount, TransferKind.WITHDRAWAL)
