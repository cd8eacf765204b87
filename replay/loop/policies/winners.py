"""The candidates of one market and side, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Lots = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Winners:
    """Candidates of one market and side, one row each.

    Attributes:
        lots: Whole lots of the position, unsigned.
        entry: Magnitude of the entry value.
        profit: Unrealised profit of the position; negative for a candidate that loses.
        notional: Magnitude of the value at mark of what the leverage is measured on: the position, or the
            whole account (axis ``adl.equity_scope``).
        equity: Equity behind it: the position's own, or the account's.
        maintenance: Maintenance margin on the same scope.
        wallet: Cash without unrealised profit on the same scope.
        margin: Margin posted at the open (``profit / margin`` and set leverage).
        account: Number of the account: the last tie-break, lower first.
    """

    lots: Array
    entry: Array
    profit: Array
    notional: Array
    equity: Array
    maintenance: Array
    wallet: Array
    margin: Array
    account: Array

    def __len__(self) -> int:
        return len(self.lots)


def candidates(lots: Any, **columns: Any) -> Winners:
    """Make winners of sequences; a column that is left out is ones (``account``: 0, 1, 2, ...).

    Numbers that are no machine integers or floats (fractions) are kept as they are.
    """
    size = np.asarray(lots)

    def column(name: str) -> Array:
        if name not in columns:
            return np.arange(len(size)) if name == "account" else np.ones(len(size))
        return np.asarray(columns.pop(name))

    names = ("entry", "profit", "notional", "equity", "maintenance", "wallet", "margin", "account")
    winners = Winners(size, **{name: column(name) for name in names})
    if columns:
        raise TypeError(f"no such column of winners: {', '.join(columns)}")
    return winners
