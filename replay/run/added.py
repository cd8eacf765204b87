"""``--add book.toml``: a user's own accounts, read and held against the tape that they are put into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from replay.errors import RunError, suggest
from replay.loop.added import Added, AddedCash, AddedPosition
from replay.sources.scenario_model import At, Entry, Moment, Name, NotZero, Number, Positive
from replay.sources.scenario_read import Form, Page, Place, key_of, parse_form, read_text
from replay.tape.read import Market, Tape
from replay.tape.schema import Mode, Payoff
from replay.units import BOUND, MONEY_SCALE, format_time, format_units, rescale


class Cash(Entry):
    """``cash`` of an account: what it brings in one currency, at the start of the tape or ``at`` a moment."""

    amount: Positive
    currency: Name
    dex: str = ""
    at: At | None = None


class Position(Entry):
    """``positions`` of an account: opened against @book at the mark; with ``margin`` it is isolated."""

    market: Name
    size: NotZero
    at: At
    margin: Positive | None = None


class Account(Entry):
    """``[[accounts]]``: an account to be put into the day."""

    name: Name
    cash: tuple[Cash, ...] = ()
    positions: Annotated[tuple[Position, ...], Field(min_length=1)]


class Book(Entry):
    """A whole file."""

    accounts: Annotated[tuple[Account, ...], Field(min_length=1)]


_LISTED = 20
"""Names that an error lists; of more it gives the number."""

_FORM = Form(Book, "a book of own accounts", "docs/own-accounts.md")


@dataclass(frozen=True, slots=True)
class AddedBook:
    """Own accounts, resolved against a tape.

    Attributes:
        name: Name of the file.
        text: What it says.
        accounts: Names of the accounts.
        entries: What is booked, by moment; within a moment cash first, then in the order of the file.
    """

    name: str
    text: str
    accounts: tuple[str, ...]
    entries: tuple[Added, ...]


def read_added(path: Path, tape: Tape, *, until: int | None = None) -> AddedBook:
    """Read a book of own accounts for a tape.

    Raises:
        SourceError: Not readable; a key or value of another form; a name the tape has; an unknown market or
            ledger; a moment outside the replayed time; a size that is no multiple of the lot.
    """
    return parse_added(read_text(path, _FORM), path, tape, until=until)


def parse_added(text: str, path: Path, tape: Tape, *, until: int | None = None) -> AddedBook:
    """Read a book of own accounts from its text; see :func:`read_added`."""
    book, page = parse_form(text, path, _FORM)
    entries = _Resolver(tape, page, until).entries(book)
    return AddedBook(path.name, text, tuple(account.name for account in book.accounts), entries)


def followed_accounts(tape: Tape, watch: Sequence[str], added: AddedBook | None) -> tuple[str, ...]:
    """Return the names of the accounts to sample from the start: watched, then added ones.

    Raises:
        RunError: A watched account that neither the tape nor the book has.
    """
    own = () if added is None else added.accounts
    known = {*tape.account_names, *own} if watch else set()
    for name in watch:
        if name not in known:
            raise RunError(f"the tape has no account {name!r}", key="--watch", mend=_near(name, known))
    return tuple(dict.fromkeys((*watch, *own)))


class _Resolver:
    def __init__(self, tape: Tape, page: Page, until: int | None) -> None:
        self._page = page
        self._ledgers = tape.ledgers
        self._markets = {market.name: market for market in tape.markets if market.payoff != Payoff.SPOT}
        self._taken = set(tape.account_names)
        self._first = tape.first_ts or 0
        last = tape.last_ts or 0
        self._last = last if until is None else min(last, until)

    def entries(self, book: Book) -> tuple[Added, ...]:
        cash: list[Added] = []
        positions: list[Added] = []
        for number, account in enumerate(book.accounts):
            place: Place = ("accounts", number)
            self._claim(account.name, (*place, "name"))
            for index, item in enumerate(account.cash):
                cash.append(self._cash(account.name, item, (*place, "cash", index)))
            for index, held in enumerate(account.positions):
                own = (*place, "positions", index)
                position = self._position(account.name, held, own)
                positions.append(position)
                if held.margin is not None:
                    margin = self._money(held.margin, (*own, "margin"))
                    ledger = self._markets[held.market].ledger
                    cash.append(AddedCash(position.ts, account.name, ledger, position.market, margin))
        return tuple(sorted(cash + positions, key=lambda entry: entry.ts))

    def _claim(self, name: str, place: Place) -> None:
        if name.startswith("@"):
            raise self._page.error(f"{name!r} is a name of the books", place, "choose one without @")
        if name in self._taken:
            raise self._page.error(f"there is an account {name!r} already", place, "choose another name")
        self._taken.add(name)

    def _cash(self, account: str, item: Cash, place: Place) -> AddedCash:
        ledger = (item.dex, item.currency)
        if ledger not in self._ledgers:
            listed = ", ".join(
                f"{currency} (dex {dex!r})" if dex else currency for dex, currency in self._ledgers
            )
            raise self._page.error(
                f"the tape has no ledger in {item.currency}" + (f" of dex {item.dex!r}" if item.dex else ""),
                place,
                f"its ledgers are: {listed}",
            )
        ts = self._first if item.at is None else self._moment(item.at, (*place, "at"))
        amount = self._money(item.amount, (*place, "amount"))
        return AddedCash(ts, account, self._ledgers.index(ledger), -1, amount)

    def _position(self, account: str, held: Position, place: Place) -> AddedPosition:
        market = self._market(held.market, (*place, "market"))
        size = self._size(held.size, market, (*place, "size"))
        mode = Mode.CROSS if held.margin is None else Mode.ISOLATED
        key = key_of(place)
        return AddedPosition(self._moment(held.at, (*place, "at")), account, market.id, mode, size, key)

    def _market(self, name: str, place: Place) -> Market:
        market = self._markets.get(name)
        if market is None:
            raise self._page.error(
                f"the tape has no market {name!r} for positions", place, _near(name, self._markets)
            )
        return market

    def _size(self, number: Number, market: Market, place: Place) -> int:
        size, rounded = rescale(*number, market.qty_scale)
        if rounded or size % market.lot:
            raise self._page.error(
                f"{format_units(*number)} is no multiple of the lot of {market.name}",
                place,
                f"its lot is {format_units(market.lot, market.qty_scale)}",
            )
        if abs(size) >= BOUND:
            raise self._page.error(f"{format_units(*number)} is too large", place)
        return size

    def _money(self, number: Number, place: Place) -> int:
        amount, rounded = rescale(*number, MONEY_SCALE)
        if rounded or abs(amount) >= BOUND:
            raise self._page.error(
                f"{format_units(*number)} is too fine or too large", place, "money has at most 8 decimals"
            )
        return amount

    def _moment(self, moment: Moment, place: Place) -> int:
        ts = self._first + moment.ns if moment.is_offset else moment.ns
        if not self._first <= ts <= self._last:
            raise self._page.error(
                f"{format_time(ts)} is outside the time that is replayed",
                place,
                f"it goes from {format_time(self._first)} to {format_time(self._last)}",
            )
        return ts


def _near(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    listed = f"there are: {', '.join(names)}" if len(names) <= _LISTED else f"there are {len(names):,} others"
    return suggest(name, names, listed)
