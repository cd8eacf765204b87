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
        value: Magnitude of the value at mark.
        profit: Unrealised profit of the position; negative for a candidate that loses.
        notional: Magnitude of the value at mark of what the leverage is measured on: the position, or the
            whole account (axis ``adl.equity_scope``).
        equity: Equity behind it: the position's own, or the account's.
        maintenance: Maintenance margin on the same scope.
        wallet: Cash without unrealised profit on the same scope.
        margin: Margin posted at the open (``profit / margin`` and set leverage).
        account: Number of the account: the last tie-break, lower first.
        unit: One unit of money in the columns (atoms: 10**8), for terms that count one at least.
    """

    lots: Array
    entry: Array
    value: Array
    profit: Array
    notional: Array
    equity: Array
    maintenance: Array
    wallet: Array
    margin: Array
    account: Array
    unit: int = 1

    def __len__(self) -> int:
        return len(self.lots)


def candidates(lots: Any, *, unit: int = 1, **columns: Any) -> Winners:
    """Make winners of sequences; a column that is left out is ones (``account``: 0, 1, 2, ...).

    Numbers that are no machine integers or floats (fractions) are kept as they are.
    """
    size = np.asarray(lots)

    def column(name: str) -> Array:
        if name not in columns:
            return np.arange(len(size)) if name == "account" else np.ones(len(size))
        return np.asarray(columns.pop(name))

    winners = Winners(
        lots=size,
        entry=column("entry"),
        value=column("value"),
        profit=column("profit"),
        notional=column("notional"),
        equity=column("equity"),
        maintenance=column("maintenance"),
        wallet=column("wallet"),
        margin=column("margin"),
        account=column("account"),
        unit=unit,
    )
    if columns:
        raise TypeError(f"no such column of winners: {', '.join(columns)}")
    return winners
