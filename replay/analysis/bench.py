"""The margin rules of a run on its markets: what a position needs at a mark, and which numbers made it so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from replay.exact import signed_value
from replay.loop.margin import maintenance_of, notional_at, term_of
from replay.loop.state import State
from replay.rules import RuleBook, compile_rules
from replay.rules.compile_margin import MarketMargin, margin_of
from replay.rules.formulas.exact import round_up, square_root
from replay.rules.formulas.maintenance import tier_of
from replay.rules.model import Rules
from replay.rules.plan import BY_ENTRY, BY_NOTIONAL
from replay.run.store import Run
from replay.tape.read import Market, market_of
from replay.tape.schema import Grade
from replay.units import ATOM, RATE_ONE


@dataclass(frozen=True, slots=True)
class Need:
    """The maintenance of a position and the numbers it comes from.

    ``result = max(ceil(notional * rate) - deduction, least)``, in atoms.

    Attributes:
        notional: Absolute value at the mark, in atoms.
        tier: Index of the tier that applied, from 0.
        tiers: How many the market has.
        start: Where the tier begins, in atoms, or in units of quantity where the size picks it.
        table_rate: Rate of the tier, in 1e-12; a fee to close is part of it.
        growth: What a unit of size adds to the rate, in 1e-12; 0 where it does not grow so.
        factor: Factor of the root of the size, in 1e-12; 0 without it.
        units: Size that the rate grows with, in whole units; None where it does not grow.
        root: Root of ten times the size and one, rounded down to five digits; None without it.
        rate: The rate that applied, in 1e-12.
        deduction: What the tier takes off, in atoms.
        least: What no position needs less than, in atoms.
        result: The maintenance, in atoms.
    """

    notional: int
    tier: int
    tiers: int
    start: int
    table_rate: int
    growth: int
    factor: int
    units: Fraction | None
    root: Fraction | None
    rate: int
    deduction: int
    least: int
    result: int

    @property
    def line(self) -> tuple[int, int]:
        """Return (rate, deduction) of ``rate * notional - deduction`` near here: no rate where least binds."""
        if self.least and self.result == self.least:
            return 0, -self.least
        return self.rate, self.deduction


class Bench:
    """Markets under the rules of a run; the judgement is that of the replay itself.

    Attributes:
        rules: The rules.
        markets: Markets by id.
        margins: Their compiled margins by id.
        least_slack: A pool is in breach while equity less maintenance is below this: 0, or 1 where equal
            amounts are a breach.
    """

    def __init__(self, book: RuleBook, markets: Sequence[Market], ledgers: Sequence[tuple[str, str]]) -> None:
        self.rules = book.rules
        self.markets = list(markets)
        plan = compile_rules(book, markets, ledgers, accept_assumptions=True)
        self.margins: list[MarketMargin] = [margin_of(book, market, ledgers) for market in markets]
        self.least_slack = 1 if plan.breach_at_equal else 0
        arrays = State(
            markets,
            ledgers,
            [],
            mark_kinds=[0] * len(markets),
            fills_set_mark=[False] * len(markets),
            plan=plan,
            watching=False,
            anchoring=False,
            grade=Grade.KNOWN,
        ).arrays
        self._records, self._tiers = arrays.markets, arrays.tiers

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the bench of a run, from the rules and markets that its folder keeps."""
        stored = run.manifest["rules"]
        rules = Rules.model_validate_json(json.dumps(stored["resolved"]))
        markets = [market_of(row) for row in run.table("markets").to_pylist()]
        return cls(RuleBook(stored["name"], str(run.path), "", rules), markets, run.ledgers)

    def notional(self, market: int, size: int, mark: int) -> int:
        """Return the absolute value of a position in atoms, or :data:`replay.exact.OVERFLOW`."""
        return int(notional_at(self._records[market], size, mark))

    def value(self, market: int, size: int, mark: int) -> int:
        """Return the signed value of a position in atoms."""
        inverse = self._records[market]["inverse"] != 0
        return int(signed_value(size, self.notional(market, size, mark), inverse))

    def term(self, market: int, size: int, cost: int, mark: int) -> int:
        """Return what a position adds to equity less maintenance at a mark, in atoms."""
        return int(term_of(self._tiers, self._records[market], size, cost, mark))

    def by_entry(self, market: int) -> bool:
        """Tell whether the entry value decides the maintenance of positions in a market."""
        margin = self.margins[market]
        return margin.basis == BY_ENTRY and (len(margin.tiers) > 1 or margin.growth != 0 or margin.root != 0)

    def tier(self, market: int, size: int, cost: int, mark: int) -> int:
        """Return the index of the tier that applies to a position at a mark."""
        margin = self.margins[market]
        by_notional = margin.basis == BY_NOTIONAL
        key = self.notional(market, size, mark) if by_notional else _amount(margin, size, cost)
        return tier_of(key, [(start, rate) for start, rate, _ in margin.tiers])

    def need(self, market: int, size: int, cost: int, mark: int) -> Need:
        """Return the maintenance of a position at a mark, and what it comes from.

        Args:
            market: Id of the market.
            size: Signed size in units of quantity.
            cost: Signed entry value in atoms; any where :meth:`by_entry` is false.
            mark: The mark in units of the market's scale.
        """
        margin = self.margins[market]
        notional = self.notional(market, size, mark)
        tier = self.tier(market, size, cost, mark)
        start, table_rate, deduction = margin.tiers[tier]
        if size < 0 and margin.short_rate:
            table_rate = margin.short_rate
        rate, units, root = table_rate, None, None
        if margin.growth or margin.root:
            units = Fraction(_amount(margin, size, cost) * margin.unit[1], margin.unit[0])
        if margin.growth and units is not None:
            rate = min(table_rate + int(round_up(units * margin.growth)), RATE_ONE)
        if margin.root and units is not None:
            root = square_root(10 * units + 1, 5)
            grown = int(round_up(Fraction(4, 5) * rate)) + int(round_up(margin.root * root))
            rate = min(max(rate, grown), RATE_ONE)
        result = int(maintenance_of(self._tiers, self._records[market], size, cost, notional))
        return Need(
            notional,
            tier,
            len(margin.tiers),
            start,
            table_rate,
            margin.growth,
            margin.root,
            units,
            root,
            rate,
            deduction,
            margin.least,
            result,
        )


def _amount(margin: MarketMargin, size: int, cost: int) -> int:
    return abs(cost) if margin.basis == BY_ENTRY else abs(size)


def money(atoms: int) -> Fraction:
    """Return atoms as an amount of the currency."""
    return Fraction(atoms, ATOM)
