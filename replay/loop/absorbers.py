"""Funds and vaults: what they may still take, what they hold, when their own positions are closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replay.loop import fund
from replay.loop.fund import FUND_MARKET, RULES, UNBOUNDED, UNCHANGED, Fund
from replay.loop.ledger import add_cash
from replay.loop.state import NEVER, State
from replay.rules.plan import Absorber
from replay.tape.schema import Payoff

_ROOM = 64
"""Samples that a rolling peak has room for at first; a power of two."""

_REASONS = {
    fund.STARTS_EMPTY: (True, "the balance is not above zero"),
    fund.STARTS: (True, "drawdown of the market against the fund's peak"),
    fund.STOPS_EMPTY: (False, "the balance is above zero"),
    fund.STOPS: (False, "drawdown of the market against the fund's peak"),
}


@dataclass(slots=True)
class Verdict:
    """Whether a market's deleveraging is on, and why: measured against threshold, both in atoms."""

    active: bool
    reason: str
    measured: int
    threshold: int


def _purses(state: State, rule: Absorber) -> tuple[list[tuple[str, int]], list[int]]:
    """Return name and ledger of each purse of an absorber, and the purse of each market, -1 of spot markets."""
    if rule.scope == "ledger":
        names = [(rule.account, ledger) for ledger in range(len(state.ledgers))]
        return names, [market.ledger for market in state.markets]
    group_of = {market: group for group, markets in rule.groups for market in markets}
    found: dict[tuple[str, int], int] = {}
    purse_of = []
    for market in state.markets:
        if market.payoff == Payoff.SPOT:
            purse_of.append(-1)
            continue
        own = market.name if rule.scope == "contract" else group_of.get(market.name)
        name = rule.account if own is None else f"{rule.account}:{own}"
        purse_of.append(found.setdefault((name, market.ledger), len(found)))
    return list(found), purse_of


def _spans(state: State, rule: Absorber) -> list[tuple[int, int, int]]:
    """Return the spans in which it does nothing: market or -1 for all, first moment, end."""
    ids = {market.name: market.id for market in state.markets}
    return [
        (market, start, until)
        for names, start, until in rule.off
        for market in ([-1] if names is None else [ids[name] for name in names if name in ids])
    ]


class AbsorberBook:
    """The accounts of one absorber; its numbers stand in :attr:`arrays`.

    Each of its balances is a purse: the pool of a pseudo account in a ledger, which answers for some markets.

    Args:
        state: The state.
        rule: The absorber of the rules.
        start_ts: Beginning of the tape, from which on the opening balance counts.
        deleverages: Whether the rules have deleveraging.
        has_book: Whether there is a book to sell inventory into.
        exempt: Ids of markets without deleveraging.
        number: Its place among the absorbers.
        suspends_book: Whether nothing is sold into the book of a market while it deleverages.
    """

    def __init__(
        self,
        state: State,
        rule: Absorber,
        start_ts: int,
        *,
        deleverages: bool = True,
        has_book: bool = True,
        exempt: Sequence[int] = (),
        number: int = 0,
        suspends_book: bool = False,
    ) -> None:
        self.rule = rule
        self._state = state
        self._purses, purse_of = _purses(state, rule)
        markets, purses = len(state.markets), len(self._purses)
        self.arrays = Fund(
            rule=np.zeros(RULES, np.int64),
            markets=np.zeros(markets, FUND_MARKET),
            pools=np.full(purses, -1, np.int64),
            peaks=np.zeros((markets + purses, _ROOM, 2), np.int64),
            ends=np.zeros((markets + purses, 2), np.int64),
            days=np.full((purses, 3), -1, np.int64),
            given=np.zeros((0, 2), np.int64),
            off=np.array(_spans(state, rule), np.int64).reshape(-1, 3),
        )
        self.arrays.markets["slot"] = self.arrays.markets["day"] = -1
        self.arrays.markets["purse"] = purse_of
        self.arrays.markets["exempt"][list(exempt)] = 1
        numbers = self.arrays.rule
        numbers[fund.EXISTS] = 1
        numbers[fund.NUMBER] = number
        numbers[fund.IS_VAULT] = rule.is_vault
        numbers[fund.DELEVERAGES] = deleverages
        numbers[fund.WORKS_OUT] = rule.work_out == "book" and has_book
        numbers[fund.WORKED_OUT_TS] = NEVER
        numbers[fund.SUSPENDS_BOOK] = suspends_book
        numbers[fund.INSOLVENT_BELOW] = rule.insolvent_below
        numbers[fund.HAS_DRAWDOWN] = rule.drawdown is not None
        numbers[[fund.START, fund.STOP]] = rule.drawdown or (0, 0)
        numbers[fund.WINDOW_NS] = rule.window_ns
        numbers[fund.LEAST_BALANCE] = rule.least_balance
        numbers[fund.STOPS_AT_ZERO] = rule.stops_at_zero
        numbers[fund.HAS_CAPS] = rule.has_caps
        numbers[[fund.PER_TRADE, fund.PER_ACCOUNT_STEP]] = rule.per_trade, rule.per_account_step
        numbers[[fund.PER_MARKET_DAY, fund.PER_DAY]] = rule.per_market_day, rule.per_day
        numbers[[fund.LIFETIME, fund.INVENTORY]] = rule.lifetime, rule.inventory
        if rule.scope == "contract" and rule.amount is None:
            self._share_out()
        for purse in self.in_use():
            if rule.amount is not None and state.ledgers[self._purses[purse][1]][1] in rule.currencies:
                self._open_with(purse, rule.amount)
            self.balance_peak(purse, start_ts)

    def _open_with(self, purse: int, amount: int) -> None:
        """Bring the cash of a purse to an amount, from outside."""
        pool = self.pool(purse)
        flow = amount - int(self._state.pools[pool]["cash"])
        add_cash(self._state.arrays, pool, flow)
        self._state.external_flow[self._purses[purse][1]] += flow

    def _share_out(self) -> None:
        """Share what the tape gives the absorber as a whole evenly over its markets, rests to the first."""
        if self.rule.account not in self._state.account_names:
            return
        for ledger in range(len(self._state.ledgers)):
            mine = [purse for purse in self.in_use() if self._purses[purse][1] == ledger]
            whole = self._state.pseudo_pool(self.rule.account, ledger)
            cash = int(self._state.pools[whole]["cash"])
            if not mine or cash <= 0:
                continue
            share, rest = divmod(cash, len(mine))
            for place, purse in enumerate(mine):
                amount = share + (place < rest)
                add_cash(self._state.arrays, self.pool(purse), amount)
                add_cash(self._state.arrays, whole, -amount)

    def in_use(self) -> list[int]:
        """Return the purses that answer for a market, ascending."""
        return sorted(
            {self.purse(market.id) for market in self._state.markets if market.payoff != Payoff.SPOT}
        )

    def purse(self, market: int) -> int:
        """Return the purse that answers for a market."""
        return int(self.arrays.markets[market]["purse"])

    def pool(self, purse: int) -> int:
        """Return the pool of a purse."""
        if self.arrays.pools[purse] < 0:
            self.arrays.pools[purse] = self._state.pseudo_pool(*self._purses[purse])
        return int(self.arrays.pools[purse])

    def position(self, market: int) -> int:
        """Return the absorber's position slot in a market."""
        record = self.arrays.markets[market]
        if record["slot"] < 0:
            name, _ = self._purses[self.purse(market)]
            record["slot"] = self._state.pseudo_position(name, market)
        return int(record["slot"])

    def size(self, market: int) -> int:
        """Return its inventory in a market, signed."""
        return int(self._state.arrays.positions[self.position(market)]["size"])

    def balance(self, purse: int) -> int:
        """Return the equity of a purse at the marks, in atoms."""
        self.pool(purse)
        return int(fund.balance(self._state.arrays, self.arrays, purse))

    def balances(self) -> list[tuple[int, int, int]]:
        """Return account, ledger and equity of each purse in use."""
        return [
            (self._state.account(self._purses[purse][0]), self._purses[purse][1], self.balance(purse))
            for purse in self.in_use()
        ]

    def holdings(self) -> list[int]:
        """Return the markets in which it holds inventory from forced orders, ascending."""
        markets = np.flatnonzero(self.arrays.markets["booked"])
        for market in markets[self.arrays.markets["slot"][markets] < 0].tolist():
            self.position(market)
        held = self._state.arrays.positions["size"][self.arrays.markets["slot"][markets]]
        found: list[int] = markets[held != 0].tolist()
        return found

    def book(self, market: int, amount: int) -> None:
        """Note a change of its ``cash - cost`` that came from a market."""
        fund.note(self._state.arrays, self.arrays, market, amount)

    def profit(self, market: int) -> int:
        """Return what a market has brought it so far, inventory at mark, in atoms."""
        self.position(market)
        return int(fund.profit(self._state.arrays, self.arrays, market))

    def make_room(self) -> None:
        """Give the rolling peaks room for one more moment, and what was paid by pool for all of them."""
        self.reserve_pools()
        if fund.is_full(self.arrays):
            self.grow()

    def reserve_pools(self) -> None:
        """Give what was paid by pool room for all pools, where the rules limit it."""
        if not self.rule.per_account_step:
            return
        pools = len(self._state.arrays.pools)
        if len(self.arrays.given) < pools:
            given = np.zeros((pools, 2), np.int64)
            given[: len(self.arrays.given)] = self.arrays.given
            self.arrays = self.arrays._replace(given=given)

    def grow(self) -> None:
        """Double the room of the rolling peaks."""
        keys, room, _ = self.arrays.peaks.shape
        larger = np.zeros((keys, 2 * room, 2), np.int64)
        for key, (first, count) in enumerate(self.arrays.ends.tolist()):
            larger[key, :count] = np.roll(self.arrays.peaks[key], -first, axis=0)[:count]
        self.arrays.ends[:, 0] = 0
        self.arrays = self.arrays._replace(peaks=larger)

    def balance_peak(self, purse: int, ts: int) -> int:
        """Return the highest value of a purse over the window, the present one included."""
        self.pool(purse)
        self.make_room()
        return int(fund.balance_peak(self._state.arrays, self.arrays, purse, ts))

    def profit_peak(self, market: int, ts: int) -> int:
        """Return the highest profit of a market over the window, the present one and the start included."""
        self.position(market)
        self.make_room()
        return int(fund.profit_peak(self._state.arrays, self.arrays, market, ts))

    def headroom(self, market: int, ts: int) -> int | None:
        """Return how much more a market may lose before the drawdown line; None without a rule."""
        if self.rule.drawdown is None:
            return None
        self.position(market)
        self.make_room()
        return int(fund.headroom(self._state.arrays, self.arrays, market, ts))

    def capacity(self, market: int, ts: int) -> int | None:
        """Return the loss at mark that it may take on in a market now, in atoms; None is no bound."""
        if self.rule.drawdown is not None:
            self.position(market)
            self.make_room()
        room = int(fund.capacity(self._state.arrays, self.arrays, market, ts))
        return None if room == UNBOUNDED else room

    def is_active(self, market: int) -> bool:
        """Return whether deleveraging is on for a market."""
        return bool(self.arrays.markets[market]["active"])

    def judge(self, market: int, ts: int) -> Verdict | None:
        """Judge the start and stop rules of a market; return the verdict if the state changed."""
        if self.rule.drawdown is None and not self.rule.stops_at_zero:
            return None
        if self.rule.drawdown is not None:
            self.position(market)
            self.make_room()
        found, measured, threshold = fund.judge(self._state.arrays, self.arrays, market, ts)
        if found == UNCHANGED:
            return None
        active, reason = _REASONS[found]
        self.arrays.markets[market]["active"] = active
        return Verdict(active, reason, int(measured), int(threshold))


class Absorbers:
    """All absorbers of a plan, in the order of its file.

    Their numbers stand in :attr:`arrays`; those of each are views of it.

    Args:
        state: The state.
        rules: The absorbers of the rules.
        start_ts: Beginning of the tape.
        deleverages: Whether the rules have deleveraging.
        has_book: Whether there is a book to sell inventory into.
        exempt: Ids of markets without deleveraging.
        suspends_book: Whether nothing is sold into the book of a market while it deleverages.
    """

    def __init__(
        self,
        state: State,
        rules: Sequence[Absorber],
        start_ts: int,
        *,
        deleverages: bool,
        has_book: bool,
        exempt: Sequence[int],
        suspends_book: bool,
    ) -> None:
        self.books = [
            AbsorberBook(
                state,
                rule,
                start_ts,
                deleverages=deleverages,
                has_book=has_book,
                exempt=exempt,
                suspends_book=suspends_book,
                number=number,
            )
            for number, rule in enumerate(rules)
        ]
        self._stack()

    def _stack(self) -> None:
        self.arrays = fund.stacked([book.arrays for book in self.books] or [fund.no_fund()])
        for number, book in enumerate(self.books):
            book.arrays = fund.part_of(self.arrays, number)

    def make_room(self) -> None:
        """Give all of them room for a step, see :meth:`AbsorberBook.make_room`."""
        before = [book.arrays for book in self.books]
        if any(fund.is_full(arrays) for arrays in before):
            for book in self.books:
                book.grow()
        for book in self.books:
            book.reserve_pools()
        if any(book.arrays is not arrays for book, arrays in zip(self.books, before, strict=True)):
            self._stack()

    def balance(self, market: int) -> int | None:
        """Return what the balances that answer for a market have at the marks; None without any."""
        balances = [book.balance(book.purse(market)) for book in self.books]
        return sum(balances) if balances else None

    def size(self, market: int) -> int | None:
        """Return what all of them hold in a market, signed; None without any."""
        sizes = [book.size(market) for book in self.books]
        return sum(sizes) if sizes else None
