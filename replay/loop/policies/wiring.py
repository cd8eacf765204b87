"""A policy over the ranked winners of the loop: quantities to lots and back."""

from __future__ import annotations

import numpy as np

from replay.errors import RulesError
from replay.loop.policies.allocate import greedy
from replay.loop.policies.registry import Policy, checked
from replay.loop.policies.winners import Array, Lots, Winners
from replay.units import ATOM


def winners_of(ranked: Array, lot: int) -> Winners:
    """Return CANDIDATE records as candidates of a policy: whole lots, leverage and risk of the account."""
    return Winners(
        lots=ranked["size"] // lot,
        entry=np.abs(ranked["cost"]),
        value=np.abs(ranked["value"]),
        profit=ranked["value"] - ranked["cost"],
        notional=ranked["notional"].copy(),
        equity=ranked["equity"].copy(),
        maintenance=ranked["pool_maintenance"].copy(),
        wallet=ranked["wallet"].copy(),
        margin=ranked["share"].copy(),
        account=ranked["pool"].copy(),
        unit=ATOM,
    )


def taken_by(policy: Policy, need: int, lot: int, ranked: Array, name: str) -> Lots:
    """Return what a policy takes of each ranked winner, in units of quantity.

    Winners of unknown equity are used last, in the order of their rank, as in a queue. What of the need is
    no whole lot is taken in that order too, once the policy has found all whole lots.

    Args:
        policy: The policy.
        need: Quantity to close.
        lot: Units of quantity in a lot.
        ranked: CANDIDATE records in the order of their rank.
        name: What the rules call the policy, for errors.
    """
    taken = np.zeros(len(ranked), np.int64)
    known = np.flatnonzero(ranked["known"])
    whole = need // lot
    found = 0
    if len(known) and whole:
        winners = winners_of(ranked[known], lot)
        lots = checked(_called(policy, whole, winners, name), whole, winners, name)
        taken[known] = lots * lot
        found = int(lots.sum())
        if found < min(whole, int(winners.lots.sum())):
            return taken
    rest = ranked["size"] - taken
    order = np.arange(len(rest))
    if found < whole:
        order = order[ranked["known"] == 0]
    return taken + greedy(need - found * lot, rest, order)


def _called(policy: Policy, need: int, winners: Winners, name: str) -> Lots:
    """Call a policy; whatever it raises is told as a fault of the policy."""
    try:
        return policy(need, winners)
    except Exception as failure:
        raise RulesError(
            f"the policy {name} failed: {type(failure).__name__}: {failure}",
            key="adl.method",
            mend="a policy is f(need, winners) -> lots and works for any candidates",
        ) from failure
