"""What one entry of a scenario says of others: names of markets and accounts, ledgers, moments, amounts."""

from __future__ import annotations

from fractions import Fraction

from replay.errors import suggest
from replay.sources.scenario_model import Moment, Number, Scenario
from replay.sources.scenario_read import Page, Place
from replay.tape.schema import MAIN_DEX, SPOT_DEX, Payoff
from replay.tape.write import TapeWriter
from replay.units import BOUND, MONEY_SCALE, RATE_SCALE, format_units, rescale

Ledger = tuple[str, str]
"""Dex and currency."""


class Names:
    """Resolves the names and numbers of one scenario to the ids and integers of its tape.

    Every method raises :class:`~replay.errors.SourceError` for the entry at ``place``.
    """

    def __init__(self, day: Scenario, page: Page, writer: TapeWriter) -> None:
        self._day = day
        self._page = page
        self._writer = writer
        self._homes: dict[str, Ledger] = {}
        self._spot: set[str] = set()
        self._accounts: set[str] = set()
        self.rounded = 0
        for number, market in enumerate(day.markets):
            if market.name in self._homes:
                raise page.error(f"{market.name!r} is declared twice", ("markets", number, "name"))
            payoff = Payoff[market.payoff.upper()]
            if payoff is Payoff.SPOT:
                self._spot.add(market.name)
            main = SPOT_DEX if payoff is Payoff.SPOT else MAIN_DEX
            dex = main if market.dex is None else market.dex
            settle = market.settle or day.currency
            self._homes[market.name] = (dex, settle)
            writer.market(
                market.name,
                settle=settle,
                dex=dex,
                payoff=payoff,
                multiplier=Fraction(market.multiplier.mantissa, 10**market.multiplier.digits),
                tick=market.tick,
                lot=market.lot,
            )

    def declare_account(self, name: str) -> int:
        """Make an account or fund known and return its id."""
        self._accounts.add(name)
        return self._writer.account(name)

    def account(self, name: str, place: Place) -> int:
        """Return the id of a declared account or fund."""
        if name not in self._accounts:
            mend = suggest(name, self._accounts, "declare it in [[accounts]] or [[funds]]")
            raise self._page.error(f"there is no account {name!r}", place, mend)
        return self._writer.account(name)

    def market(self, name: str, place: Place) -> int:
        """Return the id of a declared market."""
        if name not in self._homes:
            mend = suggest(name, self._homes, "declare it in [[markets]]")
            raise self._page.error(f"there is no market {name!r}", place, mend)
        return self._writer.market(name, settle=self._homes[name][1])

    def margined(self, name: str, place: Place) -> int:
        """Return the id of a market in which positions are held, which a spot market is not."""
        market = self.market(name, place)
        if name in self._spot:
            raise self._page.error("a spot market has no positions", place, "use a linear or inverse market")
        return market

    def home(self, market: str) -> Ledger:
        """Return the ledger that margins and settles a declared market."""
        return self._homes[market]

    def ledger_id(self, ledger: Ledger) -> int:
        """Return the id of a ledger."""
        return self._writer.ledger(*ledger)

    def ledger(self, currency: str | None, dex: str | None, place: Place) -> Ledger:
        """Return the ledger an entry names by currency and dex, or the only one there is."""
        every = dict.fromkeys(self._homes.values())
        if currency is not None:
            fitting = [ledger for ledger in every if ledger == (dex or MAIN_DEX, currency)]
        else:
            margin = dict.fromkeys(home for name, home in self._homes.items() if name not in self._spot)
            fitting = [ledger for ledger in margin or every if dex in (None, ledger[0])]
        if len(fitting) != 1:
            listed = ", ".join(f"{c} (dex {d!r})" if d else c for d, c in every)
            raise self._page.error(
                "may mean several ledgers" if fitting else "names no ledger of the markets",
                place,
                f"give `currency` and, off the main venue, `dex`; ledgers: {listed}",
            )
        return fitting[0]

    def time(self, moment: Moment, place: Place) -> int:
        """Return a moment in ns UTC, not before the scenario's start."""
        ts = self._day.start + moment.ns if moment.is_offset else moment.ns
        if ts < self._day.start:
            raise self._page.error("is before the start of the scenario", place, "times begin at `start`")
        if ts >= BOUND:
            raise self._page.error("is out of range", place, "times from 1970 to 2116 are supported")
        return ts

    def step(self, first: int, index: int, every: int, place: Place) -> int:
        """Return the ``index``-th moment of an even series that begins at ``first``."""
        return self.time(Moment(first + index * every, is_offset=False), place)

    def money(self, number: Number, place: Place) -> int:
        """Return an amount in atoms; finer amounts are rounded half-even and counted."""
        return self._fixed(number, MONEY_SCALE, place)

    def rate(self, number: Number, place: Place) -> int:
        """Return a rate in 1e-12; finer rates are rounded half-even and counted."""
        return self._fixed(number, RATE_SCALE, place)

    def _fixed(self, number: Number, scale: int, place: Place) -> int:
        value, rounded = rescale(*number, scale)
        if abs(value) >= BOUND:
            limit = format_units(BOUND, scale)
            raise self._page.error(
                f"{format_units(*number)} is too large", place, f"it must stay below {limit}"
            )
        self.rounded += rounded
        return value
