"""Accounts of the user's own, put into a recorded day: cash from outside, positions opened against @book.

They are booked by the host between two steps, at the marks of the last step at or before their moment, and
from then on are judged, ranked and closed like any other account. Without any, nothing here runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.errors import RunError
from replay.loop.books import value_of
from replay.loop.ledger import add_cash, take_other_side
from replay.loop.state import State, pool_of, position_of
from replay.tape.read import Window
from replay.tape.schema import Grade, Mode
from replay.units import format_time

_KNOWN = int(Grade.KNOWN)


@dataclass(frozen=True, slots=True)
class AddedCash:
    """Cash that an added account brings, in atoms; ``market`` is that of an isolated pool, else -1."""

    ts: int
    account: str
    ledger: int
    market: int
    amount: int


@dataclass(frozen=True, slots=True)
class AddedPosition:
    """A position that an added account opens (or changes) by a signed ``size`` in units of the market."""

    ts: int
    account: str
    market: int
    mode: Mode
    size: int
    place: str


Added = AddedCash | AddedPosition


def book_added(state: State, entries: Sequence[Added]) -> None:
    """Book entries whose moment has come, in their order.

    Raises:
        RunError: A position in a market that has no mark yet.
    """
    state.reserve(2 * len(entries))
    arrays = state.arrays
    for entry in entries:
        account = state.account(entry.account)
        if isinstance(entry, AddedCash):
            pool = pool_of(arrays, account, entry.ledger, entry.market, _KNOWN)
            add_cash(arrays, pool, entry.amount)
            state.external_flow[entry.ledger] += entry.amount
            continue
        record = arrays.markets[entry.market]
        if not record["has_mark"]:
            raise RunError(
                f"market {state.markets[entry.market].name} has no mark yet at {format_time(entry.ts)}",
                key=entry.place,
                mend="open the position later, or in a market that the tape prices by then",
            )
        value = value_of(state, entry.market, entry.size, int(record["mark"]), at_mark=True)
        slot, _ = position_of(arrays, account, entry.market, int(entry.mode), _KNOWN)
        take_other_side(arrays, slot, entry.size, value)
        take_other_side(arrays, int(record["book"]), -entry.size, -value)


def cut_window(window: Window, ts: int) -> tuple[Window, Window]:
    """Cut a window behind the step ``ts``."""
    before: list[Any] = []
    after: list[Any] = []
    for table in window:
        end = int(np.searchsorted(table.ts, ts, side="right"))
        before.append(type(table)(*(column[:end] for column in table)))
        after.append(type(table)(*(column[end:] for column in table)))
    return Window(*before), Window(*after)
