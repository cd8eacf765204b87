"""Numbers of the symbols of an import: markets of the tape, and spot markets apart from it."""

from __future__ import annotations

from pathlib import Path

from replay.sources.feeds import Contract, Family
from replay.tape.schema import Payoff
from replay.tape.write import TapeWriter


class FeedMarkets:
    """Numbers of symbols: markets of the tape, and spot markets apart from it."""

    def __init__(self, family: Family, writer: TapeWriter) -> None:
        self._family = family
        self._writer = writer
        self.contracts: list[Contract] = []
        self.tape_market: list[int] = []  # -1 for spot
        self.marked: set[int] = set()  # tape markets that a file gives marks of
        self._numbers: dict[str, int] = {}

    def number(self, symbol: str, file: Path) -> int:
        """Return the number of a symbol, describing it on first sight."""
        contract = self._family.describe(symbol, file)
        key = f"{file.name.split('_', 1)[0]}:{symbol}" if contract.payoff == Payoff.SPOT else symbol
        known = self._numbers.get(key)
        if known is not None:
            return known
        number = self._numbers[key] = len(self.contracts)
        self.contracts.append(contract)
        market = -1
        if contract.payoff != Payoff.SPOT:
            market = self._writer.market(
                symbol, settle=contract.settle, payoff=contract.payoff, multiplier=contract.multiplier
            )
        self.tape_market.append(market)
        return number

    def known(self, symbol: str, _file: Path) -> int:
        """Return the number of the symbol of a derivative, or -1 if no file named it before."""
        return self._numbers.get(symbol, -1)
