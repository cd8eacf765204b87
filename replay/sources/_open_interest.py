"""Open interest on its way to a tape: no finer than the trades of its market, and only where it changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from replay.sources._numbers import Numbers, round_digits


class OpenInterest:
    """Rounds open interest to the quantities that a market trades in, half to even, and drops what is told again.

    Archives print it with digits that no trade has; taken as they are, these would make the market's quantities finer
    and so leave less room for large ones.
    """

    def __init__(self) -> None:
        self._digits: dict[int, int] = {}
        self._last: dict[int, tuple[int, int]] = {}

    def note_trades(self, columns: dict[str, Any]) -> None:
        """Note how fine the quantities of trades are, by market."""
        for market in np.unique(columns["market"]).tolist():
            finest = int(columns["qty_digits"][columns["market"] == market].max())
            self._digits[market] = max(self._digits.get(market, 0), finest)

    def changed(self, columns: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
        """Return the rows of a batch that tell something new; ``counts`` receives how many were rounded.

        A market without trades keeps its open interest as it is.
        """
        qty, digits = columns["qty"].copy(), columns["qty_digits"].copy()
        kept = np.zeros(len(qty), np.bool_)
        for market in np.unique(columns["market"]).tolist():
            mine = np.flatnonzero(columns["market"] == market)
            if market in self._digits:
                none = np.zeros(len(mine), np.bool_)
                found = round_digits(Numbers(qty[mine], digits[mine], none, none), self._digits[market])
                qty[mine], digits[mine] = found.mantissa, found.digits
                counts["open interest rounded"] = counts.get("open interest rounded", 0) + int(
                    found.rounded.sum()
                )
            told = list(zip(qty[mine].tolist(), digits[mine].tolist(), strict=True))
            before = [self._last.get(market), *told[:-1]]
            kept[mine] = [one != other for one, other in zip(told, before, strict=True)]
            self._last[market] = told[-1]
        rows = {**columns, "qty": qty, "qty_digits": digits}
        return {name: column[kept] for name, column in rows.items()}
