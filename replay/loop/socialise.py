"""Losses that no fund, vault or winner took, shared over accounts that did not cause them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.holders import holders_of
from replay.loop.policies.allocate import largest_remainder
from replay.loop.state import POOLS, State
from replay.tape.schema import Grade

Array = npt.NDArray[Any]


def shares(
    state: State,
    method: str,
    amount: int,
    ledger: int,
    by_market: dict[int, int],
    *,
    spared: Array,
    gains: tuple[Array, Array] | None = None,
) -> dict[int, int]:
    """Return what each pool pays of a loss, in atoms; nothing where nobody can be asked.

    Pseudo accounts, pools of unknown equity, pools in breach and the spared pay nothing. Shares are floors, one
    atom more to the largest remainders, ties by pool.

    Args:
        state: The state.
        method: ``deposit_haircut``: by cash above zero, of all pools of the ledger, at most that cash
            (venue-rules.md sections 8 and 10); ``oi_pro_rata_same_market``: by size, over both sides of the
            markets in which the loss was made (section 8); ``session_profit_pro_rata``: by what a pool of the ledger
            gained in the session, at most that and what it is worth (section 6).
        amount: The loss in atoms.
        ledger: The ledger it is in.
        by_market: What the pool that lost held at its first breach, as value per market.
        spared: int64, pools in liquidation.
        gains: What each pool gained in the session and is worth; for ``session_profit_pro_rata``.
    """
    if method == "session_profit_pro_rata":
        assert gains is not None
        most = np.minimum(*gains)
        pools = np.flatnonzero((state.pools["ledger"][: len(most)] == ledger) & (most > 0))
        pools = pools[_pays(state, pools, spared)]
        return _shared(amount, pools, gains[0][pools], caps=most[pools])
    if method == "deposit_haircut":
        pools = np.flatnonzero(state.pools["ledger"][: state.arrays.counters[POOLS]] == ledger)
        pools = pools[_pays(state, pools, spared) & (state.pools["cash"][pools] > 0)]
        return _shared(amount, pools, state.pools["cash"][pools], caps=state.pools["cash"][pools])
    markets = sorted(by_market)
    parts = largest_remainder(amount, [by_market[market] for market in markets], [amount] * len(markets))
    paid: dict[int, int] = {}
    for market, part in zip(markets, parts.tolist(), strict=True):
        slots = holders_of(state, market)
        pools = state.positions["pool"][slots].astype(np.int64)
        pays = _pays(state, pools, spared)
        sizes = np.abs(state.positions["size"][slots[pays]])
        for pool, share in _shared(part, pools[pays], sizes).items():
            paid[pool] = paid.get(pool, 0) + share
    return dict(sorted(paid.items()))


def _pays(state: State, pools: Array, spared: Array) -> Array:
    records = state.pools[pools]
    pays: Array = (records["special"] == 0) & (records["grade"] != int(Grade.UNKNOWN))
    pays &= (records["in_breach"] == 0) & ~np.isin(pools, spared)
    return pays


def _shared(amount: int, pools: Array, weights: Array, caps: Array | None = None) -> dict[int, int]:
    order = np.argsort(pools, kind="stable")
    limits = [amount] * len(pools) if caps is None else caps[order].tolist()
    parts = largest_remainder(amount, weights[order].tolist(), limits)
    paid: dict[int, int] = {}
    for pool, part in zip(pools[order].tolist(), parts.tolist(), strict=True):
        if part:
            paid[pool] = paid.get(pool, 0) + part
    return paid
