"""The reference engine: the books of one day, kept slowly and plainly.

It says in the plainest Python what the compiled loop has to do, and is written apart from it: whole
numbers, fractions, dictionaries and dataclasses, one event after the other, every sum added anew. The
tests of the loop compare every cell of a run with what comes out here.

A day is a tape in memory: the same rows, as tuples. A *step* is all rows of one moment, applied in the
order transfers, funding, prices, anchors, fills. The margin rules look at the books at the end of a step.

Amounts of money are atoms (1e-8 of the currency); prices, marks and sizes are whole numbers in the
scales of their market; rates of funding are in 1e-12. All accounts go by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeVar

from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind

ATOMS = 10**8
RATE_ONE = 10**12


# --- the tape in memory ------------------------------------------------------------------------------


class Market(NamedTuple):
    name: str
    payoff: Payoff
    ledger: int
    multiplier: Fraction
    price_scale: int
    mark_scale: int
    qty_scale: int


class OpeningCash(NamedTuple):
    account: str
    ledger: int
    market: int | None  # of an isolated pool
    cash: int
    grade: int


class OpeningPosition(NamedTuple):
    account: str
    market: int
    mode: int
    size: int
    entry_price: int


class Transfer(NamedTuple):
    ts: int
    account: str
    ledger: int
    market: int | None
    amount: int


class Funding(NamedTuple):
    ts: int
    market: int
    rate: int


class Price(NamedTuple):
    ts: int
    market: int
    kind: int
    price: int


class Fill(NamedTuple):
    ts: int
    market: int
    account: str
    qty: int
    price: int
    fee: int
    fee_ledger: int
    kind: int
    paired: int
    victim: str | None
    start_position: int | None
    mode: int


class Liquidation(NamedTuple):
    ts: int
    liquidation: int
    account: str
    market: int | None
    mode: str | None
    equity: int | None


Row = TypeVar("Row", Transfer, Funding, Price, Fill, Liquidation)
Numbered = list[tuple[int, Row]]


def by_moment(rows: Iterable[Row]) -> dict[int, Numbered[Row]]:
    """Group the rows of a table by their moment, each with its place (``seq``) in the table."""
    groups: dict[int, Numbered[Row]] = {}
    for seq, row in enumerate(rows):
        groups.setdefault(row.ts, []).append((seq, row))
    return groups


@dataclass
class Day:
    """One tape. Rows of a table stand in the order of their ``seq``."""

    markets: list[Market]
    ledgers: list[tuple[str, str]]
    accounts: list[str]
    accounts_start: str  # "known" or "unknown"
    opening_cash: list[OpeningCash] = field(default_factory=list)
    opening_positions: list[OpeningPosition] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    funding: list[Funding] = field(default_factory=list)
    prices: list[Price] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    liquidations: list[Liquidation] = field(default_factory=list)


# --- the rules ---------------------------------------------------------------------------------------


class Tier(NamedTuple):
    """Maintenance of a position whose value is at least ``start`` atoms: ``rate * value - deduction``."""

    start: int
    rate: Fraction
    deduction: int


class OwnMargin(NamedTuple):
    """What picks the tier of a market's positions, and what makes their rate grow.

    ``basis`` is ``notional``, ``entry`` or ``size``; ``growth`` is added to the rate for each unit of
    quantity or entry value (of ``unit`` whole numbers), ``factor * sqrt(10 * quantity + 1)`` to four fifths
    of it; ``least`` is in atoms; a short has the rate ``short``, if there is one.
    """

    basis: str = "notional"
    growth: Fraction = Fraction(0)
    factor: Fraction = Fraction(0)
    unit: int = 1
    least: int = 0
    short: Fraction = Fraction(0)


@dataclass(frozen=True)
class Rules:
    """Maintenance tiers per market, the strictness of the breach, and who takes over."""

    tiers: Mapping[int, Sequence[Tier]]
    absorber: str
    breach_at_equal: bool = False
    own: Mapping[int, OwnMargin] = field(default_factory=dict)


# --- values ------------------------------------------------------------------------------------------


def up(rate: Fraction) -> Fraction:
    """Round a rate up to the twelve decimals it has."""
    return Fraction(math.ceil(rate * RATE_ONE), RATE_ONE)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def half_even(number: int, divisor: int) -> int:
    """Divide, rounded to the nearest whole number, in the middle to the even one."""
    whole, rest = divmod(number, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2))


def round_up(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


def contract_value(market: Market, size: int, price: int, scale: int) -> int:
    """Return V(size, price) in atoms: what a position is worth as a contract, with its sign.

    Linear: size times multiplier times price. Inverse: minus the size times multiplier divided by price.
    The magnitude is rounded half to even, so that V(-n, P) = -V(n, P).
    """
    lots = abs(size)
    times, per = market.multiplier.numerator, market.multiplier.denominator
    if market.payoff == Payoff.LINEAR:
        exact = lots * times * price * ATOMS
        return sign(size) * half_even(exact, 10**market.qty_scale * per * 10**scale)
    per_lot, left_over = divmod(times * ATOMS * 10**scale, per * 10**market.qty_scale)
    assert left_over == 0, "an inverse contract must be worth whole atoms per lot and price step"
    whole, rest = divmod(per_lot, price)
    return -sign(size) * (lots * whole + half_even(lots * rest, price))


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount by weights, exactly: floors of magnitudes, then one atom each to the largest rests."""
    total = sum(weights)
    parts = [abs(amount) * weight // total for weight in weights]
    rests = [abs(amount) * weight % total for weight in weights]
    missing = abs(amount) - sum(parts)
    for index in sorted(range(len(weights)), key=lambda i: (-rests[i], i))[:missing]:
        parts[index] += 1
    return [sign(amount) * part for part in parts]


# --- the state of the books --------------------------------------------------------------------------


@dataclass(eq=False)
class Pool:
    """The unit of margin: one cash balance and the positions it backs. Identity is creation order."""

    account: str
    ledger: int
    market: int | None  # of an isolated pool
    grade: int
    cash: int = 0
    positions: list[Position] = field(default_factory=list)

    @property
    def special(self) -> bool:
        return self.account.startswith("@")


@dataclass(eq=False)
class Position:
    pool: Pool
    market: int
    mode: int
    size: int = 0
    recorded_size: int = 0
    cost: int = 0
    entry_unknown: bool = False


class Standing(NamedTuple):
    """How a pool stands before the first forced fill of a step; no amounts where a mark is missing."""

    equity: int | None
    maintenance: int | None
    notional: int | None
    judged: bool
    short: bool


@dataclass
class Facts:
    """What the books said of a forced position just before its first forced fill of a step, and then did."""

    ts: int
    account: str
    market: int
    mode: int
    standing: Standing
    grade: int
    size: int
    cost: int
    mark: int | None
    bankruptcy_value: int | None
    filled: int = 0  # by the step's forced fills on the tape
    filled_value: int = 0
    size_after: int = 0  # at the end of the step
    cost_after: int = 0


class Takeover(NamedTuple):
    """One position of a pool that the absorber took over."""

    ts: int
    account: str
    ledger: int
    market: int
    mode: int
    size: int
    value: int
    equity: int
    maintenance: int
    mark: int


class Break(NamedTuple):
    """A fill whose start position is not where the fills before it had led."""

    ts: int
    seq: int
    account: str
    market: int
    expected: int
    found: int


PoolKey = tuple[str, int, int | None]
PositionKey = tuple[str, int, int]


@dataclass
class Books:
    """All pools and positions, and everything a day does to them."""

    day: Day
    rules: Rules
    ruled: bool  # forced orders come from the rules' margin checks, not from the tape
    anchored: bool  # recorded equity replaces replayed equity before each recorded liquidation
    pools: dict[PoolKey, Pool] = field(default_factory=dict)
    positions: dict[PositionKey, Position] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    external: Counter[int] = field(default_factory=Counter)  # per ledger
    half_matches: Counter[tuple[str, int]] = field(default_factory=Counter)
    breaks: list[Break] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    anchors: Counter[int] = field(default_factory=Counter)  # per recorded liquidation
    reasons: Counter[str] = field(default_factory=Counter)  # what happened how often, for the tests' coverage
    forced_now: dict[PositionKey, Facts] = field(default_factory=dict)
    anchored_now: list[Pool] = field(default_factory=list)  # pools whose equity is known in this step
    standings_now: dict[Pool, Standing] = field(default_factory=dict)  # of pools forced in this step
    priced_now: set[int] = field(default_factory=set)  # markets whose mark a price row set in this step
    steps: int = 0

    def __post_init__(self) -> None:
        self.published = {row.market for row in self.day.prices if row.kind == PriceKind.MARK}
        self.quoted = {row.market for row in self.day.prices if row.kind == PriceKind.LAST}
        self.oracles: dict[int, int] = {}
        self.oracle_kinds = {
            row.market: PriceKind.INDEX for row in self.day.prices if row.kind == PriceKind.INDEX
        }
        self.oracle_kinds |= {
            row.market: PriceKind.ORACLE for row in self.day.prices if row.kind == PriceKind.ORACLE
        }

    # -- finding

    def pool(self, account: str, ledger: int, market: int | None = None) -> Pool:
        key = (account, ledger, market)
        if key not in self.pools:
            start = Grade.KNOWN if self.day.accounts_start == "known" else Grade.UNKNOWN
            self.pools[key] = Pool(account, ledger, market, start)
        return self.pools[key]

    def position(self, account: str, market: int, mode: int = Mode.CROSS) -> Position:
        key = (account, market, mode)
        if key not in self.positions:
            pool = self.pool(
                account, self.day.markets[market].ledger, market if mode == Mode.ISOLATED else None
            )
            self.positions[key] = Position(pool, market, mode)
            pool.positions.append(self.positions[key])
        return self.positions[key]

    def open_positions(self, pool: Pool) -> list[Position]:
        return [position for position in pool.positions if position.size]

    # -- valuing

    def value(self, position: Position) -> int:
        market = self.day.markets[position.market]
        return contract_value(market, position.size, self.marks[position.market], market.mark_scale)

    def marked(self, pool: Pool) -> bool:
        return all(position.market in self.marks for position in self.open_positions(pool))

    def equity(self, pool: Pool) -> int:
        return pool.cash + sum(self.value(position) - position.cost for position in self.open_positions(pool))

    def notional(self, pool: Pool) -> int:
        return sum(abs(self.value(position)) for position in self.open_positions(pool))

    def position_maintenance(self, position: Position) -> int:
        value = abs(self.value(position))
        own = self.rules.own.get(position.market, OwnMargin())
        key = {"notional": value, "entry": abs(position.cost), "size": abs(position.size)}[own.basis]
        tier = [tier for tier in self.rules.tiers[position.market] if tier.start <= key][-1]
        measured = position.cost if own.basis == "entry" else position.size
        quantity = Fraction(abs(measured), own.unit)
        base = own.short if position.size < 0 and own.short else tier.rate
        rate = min(Fraction(1), base + up(quantity * own.growth))
        if own.factor:
            root = Fraction(math.isqrt(math.floor((10 * quantity + 1) * 10**10)), 10**5)
            rate = min(Fraction(1), max(rate, up(Fraction(4, 5) * rate) + up(own.factor * root)))
        return max(math.ceil(rate * value) - tier.deduction, own.least)

    def maintenance(self, pool: Pool) -> int:
        return sum(self.position_maintenance(position) for position in self.open_positions(pool))

    def judged(self, pool: Pool) -> bool:
        """Tell whether the rules can say anything of a pool: its equity is known, its marks are there."""
        known = pool.grade < Grade.UNKNOWN or pool in self.anchored_now
        return known and not pool.special and self.marked(pool)

    def falls_short(self, pool: Pool) -> bool:
        equity, maintenance = self.equity(pool), self.maintenance(pool)
        return equity <= maintenance if self.rules.breach_at_equal else equity < maintenance

    def in_breach(self, pool: Pool) -> bool:
        return self.judged(pool) and bool(self.open_positions(pool)) and self.falls_short(pool)

    # -- booking: these two, with the opening and transfers, are all that moves cash and cost

    def pay(self, payer: Pool, receiver: Pool, amount: int) -> None:
        payer.cash -= amount
        receiver.cash += amount

    def book(
        self, position: Position, qty: int, value: int, price: int | None = None, scale: int = 0
    ) -> None:
        """Book a signed quantity at its signed value; ``cash - cost`` of the pool changes by ``-value``.

        The price only divides the value of a flip into the part that closes and the part that opens; without
        a price the closing part is that of the quantity, rounded toward zero.
        """
        pool, size = position.pool, position.size
        if size * qty >= 0:
            self.reasons["opened" if size == 0 else "increased"] += 1
            position.cost += value
        elif abs(qty) <= abs(size):
            self.reasons["closed" if qty == -size else "reduced"] += 1
            released = sign(position.cost) * (abs(position.cost) * abs(qty) // abs(size))
            position.cost -= released
            pool.cash += -value - released
        else:
            self.reasons["flipped"] += 1
            if price is None:
                closing = sign(value) * (abs(value) * abs(size) // abs(qty))
            else:
                closing = contract_value(self.day.markets[position.market], -size, price, scale)
            pool.cash += -closing - position.cost
            position.cost = value - closing
        position.size += qty

    # -- the invariants

    def check(self) -> None:
        """Assert that sizes sum to zero per market and money to the external flow per ledger.

        Between the two rows of one match the books are out by exactly the row that is still to come.
        """
        for market in range(len(self.day.markets)):
            sizes = sum(p.size for p in self.positions.values() if p.market == market)
            assert sizes == self.half_matches["size", market]
        for ledger in range(len(self.day.ledgers)):
            cash = sum(pool.cash for pool in self.pools.values() if pool.ledger == ledger)
            cost = sum(p.cost for p in self.positions.values() if p.pool.ledger == ledger)
            assert cash - cost == self.external[ledger] - self.half_matches["value", ledger]
        assert all(p.size or not p.cost for p in self.positions.values()), "a flat position keeps no cost"

    # -- the opening

    def open(self) -> None:
        """Enter the opening snapshot; what its positions lack to sum to zero is the unseen accounts'."""
        for row in self.day.opening_cash:
            pool = self.pool(row.account, row.ledger, row.market)
            pool.grade = row.grade
            pool.cash += row.cash
            self.external[row.ledger] += row.cash
        sizes: Counter[int] = Counter()
        costs: Counter[int] = Counter()
        for start in self.day.opening_positions:
            market = self.day.markets[start.market]
            position = self.position(start.account, start.market, start.mode)
            position.size = position.recorded_size = start.size
            position.cost = contract_value(market, start.size, start.entry_price, market.price_scale)
            sizes[start.market] += position.size
            costs[start.market] += position.cost
        for index in sizes:
            if sizes[index] or costs[index]:
                unseen = self.position("@unseen", index)
                unseen.size = -sizes[index]
                if unseen.size:
                    unseen.cost = -costs[index]
                else:
                    unseen.pool.cash += costs[index]
        self.check()

    # -- the parts of a step

    def transfer(self, row: Transfer) -> None:
        self.reasons["transfer"] += 1
        self.pool(row.account, row.ledger, row.market).cash += row.amount
        self.external[row.ledger] += row.amount
        self.check()

    def fund(self, row: Funding) -> None:
        """Let longs pay shorts the rate of their value at mark, each through the market's funding account."""
        if row.market not in self.marks:
            if any(p.market == row.market and p.size for p in self.positions.values()):
                raise ValueError("funding before first mark")
            return
        market = self.day.markets[row.market]
        through = self.pool(f"@funding:{market.name}", market.ledger)
        for position in self.positions.values():
            if position.market == row.market and position.size:
                self.reasons["funding"] += 1
                amount = round(Fraction(abs(self.value(position)) * row.rate, RATE_ONE))
                self.pay(position.pool, through, sign(position.size) * amount)
                self.check()

    def note_oracle(self, row: Price) -> None:
        """Keep the oracle's last price: the oracle rows of a market, or its index if it has none."""
        if row.kind == self.oracle_kinds.get(row.market):
            self.oracles[row.market] = row.price

    def sets_mark(self, row: Price) -> bool:
        """Tell whether a price is a mark: published marks if there are any, else last prices, else fills."""
        if row.kind == PriceKind.LAST:
            return row.market not in self.published
        if row.kind == PriceKind.IMPLIED:
            return self.anchored
        return row.kind in (PriceKind.MARK, PriceKind.EVENT)

    def anchor(self, row: Liquidation) -> None:
        """Bring a pool to its recorded equity; what that takes is booked as unexplained."""
        if row.equity is None or row.market is None or (row.mode or "").lower() != "cross":
            return
        ledger = self.day.markets[row.market].ledger
        pool = self.pool(row.account, ledger)
        if not self.marked(pool):
            return
        self.reasons["anchored"] += 1
        self.anchored_now.append(pool)
        missing = row.equity - self.equity(pool)
        self.pay(self.pool("@unexplained", ledger), pool, missing)
        self.anchors[row.liquidation] += missing
        self.check()

    def fill(self, row: Fill, seq: int) -> None:
        market = self.day.markets[row.market]
        if market.payoff == Payoff.SPOT:
            if row.fee:
                self.reasons["spot fee"] += 1
                self.charge(row, row.fee, None)
                self.check()
            return
        position = self.follow_start(row, seq)
        if row.kind != FillKind.TRADE and row.account == row.victim:
            self.note_facts(row, position)
        if self.left_out(row):
            self.reasons["left out"] += 1
            position.recorded_size += row.qty
            if row.kind == FillKind.LIQUIDATION and not row.paired:  # whoever bought from it still did
                value = contract_value(market, row.qty, row.price, market.price_scale)
                self.book(
                    self.position("@unseen", row.market), -row.qty, -value, row.price, market.price_scale
                )
                self.book(self.position("@book", row.market), row.qty, value, row.price, market.price_scale)
                self.check()
            return
        self.match(row, position)
        position.recorded_size += row.qty
        if row.kind == FillKind.TRADE and row.market not in self.published | self.quoted | self.priced_now:
            self.marks[row.market] = row.price * 10 ** (market.mark_scale - market.price_scale)

    def follow_start(self, row: Fill, seq: int) -> Position:
        """Find the fill's position and bring it to the size that the tape says it had before the fill."""
        seen = (row.account, row.market, row.mode) in self.positions
        position = self.position(row.account, row.market, row.mode)
        start = row.start_position
        if start is None or start == position.recorded_size:
            return position
        if seen:
            self.reasons["break"] += 1
            self.breaks.append(Break(row.ts, seq, row.account, row.market, position.recorded_size, start))
        else:
            self.reasons["opened from start"] += 1
            position.entry_unknown = True
        missing = start - position.recorded_size
        if position.size != position.recorded_size:  # it left the recorded path, so the gap is not its own
            position.recorded_size = start
            return position
        market = self.day.markets[row.market]
        price, scale = row.price, market.price_scale
        if row.market in self.marks:
            price, scale = self.marks[row.market], market.mark_scale
        value = contract_value(market, missing, price, scale)
        self.book(position, missing, value, price, scale)
        self.book(self.position("@unseen", row.market), -missing, -value, price, scale)
        position.recorded_size = start
        self.check()
        return position

    def standing(self, pool: Pool) -> Standing:
        if not self.marked(pool):
            return Standing(None, None, None, judged=False, short=False)
        amounts = self.equity(pool), self.maintenance(pool), self.notional(pool)
        return Standing(*amounts, judged=self.judged(pool), short=self.falls_short(pool))

    def note_facts(self, row: Fill, position: Position) -> None:
        """Keep what the books say before the first forced fill of a step, and sum what is filled.

        All positions of a pool that are forced in one step are seen with the pool as it stood before the
        first of them.
        """
        key = (row.account, row.market, row.mode)
        if key not in self.forced_now:
            pool = position.pool
            standing = self.standings_now.setdefault(pool, self.standing(pool))
            self.forced_now[key] = Facts(
                ts=row.ts,
                account=row.account,
                market=row.market,
                mode=row.mode,
                standing=standing,
                grade=pool.grade,
                size=position.size,
                cost=position.cost,
                mark=self.marks.get(row.market) if standing.equity is not None else None,
                bankruptcy_value=self.shadow_value(position, standing),
            )
        market = self.day.markets[row.market]
        self.forced_now[key].filled += row.qty
        self.forced_now[key].filled_value += contract_value(market, row.qty, row.price, market.price_scale)

    def shadow_value(self, position: Position, standing: Standing) -> int | None:
        """Return at what value the rules would take a position over, its share of equity rounded by itself.

        A takeover makes the shares of all positions sum to the equity, so its value may be an atom away.
        """
        if not position.size or standing.equity is None or not standing.maintenance:
            return None
        share = Fraction(standing.equity * self.position_maintenance(position), standing.maintenance)
        return self.value(position) - round(share)

    def left_out(self, row: Fill) -> bool:
        """Tell whether the rules' own forced orders stand in for this row."""
        if not self.ruled:
            return False
        if row.kind in (FillKind.BACKSTOP, FillKind.ADL):
            return True
        return row.kind == FillKind.LIQUIDATION and row.account == row.victim

    def match(self, row: Fill, position: Position) -> None:
        """Book a row: what the replayed position takes, what the book takes instead, and the other side."""
        market = self.day.markets[row.market]
        scale = market.price_scale
        qty = row.qty
        fee = row.fee
        if position.size != position.recorded_size:
            qty = self.part_applied(row, position)
            fee = sign(fee) * round(Fraction(abs(fee) * abs(qty), abs(row.qty)))
        whole_value = contract_value(market, row.qty, row.price, scale)
        value = contract_value(market, qty, row.price, scale)
        if qty:
            self.book(position, qty, value, row.price, scale)
        self.charge(row, fee, position.pool)
        if qty != row.qty:
            book = self.position("@book", row.market)
            self.book(book, row.qty - qty, whole_value - value, row.price, scale)
        if self.ruled and row.kind == FillKind.LIQUIDATION:
            self.book(self.position("@book", row.market), -row.qty, -whole_value, row.price, scale)
        elif not row.paired:
            self.book(self.position("@unseen", row.market), -row.qty, -whole_value, row.price, scale)
        else:
            self.half_matches["size", row.market] += row.qty
            self.half_matches["value", market.ledger] += whole_value
        self.check()

    def charge(self, row: Fill, fee: int, own: Pool | None) -> None:
        """Pay a fee or receive a rebate: in the position's own pool, or in the account's of that ledger."""
        if fee < 0:
            self.reasons["rebate"] += 1
        if own is None or own.ledger != row.fee_ledger:
            self.reasons["fee in another ledger"] += 1
            own = self.pool(row.account, row.fee_ledger)
        self.pay(own, self.pool("@fees", row.fee_ledger), fee)

    def part_applied(self, row: Fill, position: Position) -> int:
        """Return how much of a recorded fill a position that left the recorded path takes.

        What reduced the recorded position reduces the replayed one, at most to zero. What increased it is
        taken if the pool then still meets its maintenance. A settlement that closes the record closes the
        replay, whatever its size.
        """
        if row.kind == FillKind.SETTLEMENT and row.qty == -position.recorded_size:
            self.reasons["settled apart"] += 1
            return -position.size
        recorded = position.recorded_size
        reducing = 0
        if recorded * row.qty < 0:
            reducing = sign(row.qty) * min(abs(row.qty), abs(recorded))
        increasing = row.qty - reducing
        applied = 0
        if reducing and position.size * recorded > 0:
            applied = sign(row.qty) * min(abs(reducing), abs(position.size))
        if applied != reducing:
            self.reasons["clipped"] += 1
        if increasing:
            if self.would_fall_short(row, position, applied + increasing):
                self.reasons["dropped"] += 1
            else:
                applied += increasing
        return applied

    def would_fall_short(self, row: Fill, position: Position, qty: int) -> bool:
        """Tell whether a pool would miss its maintenance, at the marks of now, after a fill of ``qty``."""
        market = self.day.markets[row.market]
        before = (position.size, position.cost, position.pool.cash)
        reasons = self.reasons.copy()
        value = contract_value(market, qty, row.price, market.price_scale)
        self.book(position, qty, value, row.price, market.price_scale)
        known = position.pool.grade < Grade.UNKNOWN
        short = known and self.judged(position.pool) and self.falls_short(position.pool)
        position.size, position.cost, position.pool.cash = before
        self.reasons = reasons
        return short

    def take_over(self, ts: int, pool: Pool) -> None:
        """Let the absorber take every position of a pool at the values that leave it at exactly nothing.

        The equity of the pool is shared by maintenance; a position goes at its mark less its share.
        """
        self.reasons["takeover"] += 1
        equity, maintenance = self.equity(pool), self.maintenance(pool)
        positions = self.open_positions(pool)
        shares = split(equity, [self.position_maintenance(position) for position in positions])
        for position, share in zip(positions, shares, strict=True):
            market, size, value = position.market, position.size, self.value(position) - share
            mode, mark = position.mode, self.marks[market]
            self.takeovers.append(
                Takeover(ts, pool.account, pool.ledger, market, mode, size, value, equity, maintenance, mark)
            )
            self.book(position, -size, -value)
            self.book(self.position(self.rules.absorber, market), size, value)
            self.check()
        assert pool.cash == 0
        assert not any(position.size or position.cost for position in positions)

    # -- the steps

    def run(self) -> None:
        """Open the books, apply the rows of each moment in order, and judge after each."""
        self.open()
        transfers, funding = by_moment(self.day.transfers), by_moment(self.day.funding)
        prices, fills = by_moment(self.day.prices), by_moment(self.day.fills)
        liquidations = by_moment(self.day.liquidations)
        for ts in sorted({*transfers, *funding, *prices, *fills, *liquidations}):
            for _, transfer in transfers.get(ts, []):
                self.transfer(transfer)
            for _, rate in funding.get(ts, []):
                self.fund(rate)
            self.priced_now = set()
            self.anchored_now = []
            self.standings_now = {}
            for _, price in prices.get(ts, []):
                self.note_oracle(price)
                if self.sets_mark(price):
                    self.marks[price.market] = price.price
                    self.priced_now.add(price.market)
            if self.anchored:
                first_legs: dict[int, Liquidation] = {}
                for _, leg in liquidations.get(ts, []):
                    first_legs.setdefault(leg.liquidation, leg)
                for leg in first_legs.values():
                    self.anchor(leg)
            for seq, fill in fills.get(ts, []):
                self.fill(fill, seq)
            assert not any(self.half_matches.values()), "a match has only one of its two rows in this step"
            if self.ruled:
                for pool in list(self.pools.values()):
                    if self.in_breach(pool) and (pool in self.anchored_now or not self.anchored):
                        self.take_over(ts, pool)
            for key, facts in self.forced_now.items():
                facts.size_after, facts.cost_after = self.positions[key].size, self.positions[key].cost
                self.facts.append(facts)
            self.forced_now = {}
            self.steps += 1


def replay(day: Day, rules: Rules, *, ruled: bool = False, anchored: bool = False) -> Books:
    """Replay a day and return its books after the last step.

    Args:
        day: The tape.
        rules: Margin rules; without ``ruled`` they only speak in :class:`Facts`.
        ruled: Leave the recorded forced fills out and let the rules force.
        anchored: Bring each pool to its recorded equity just before its recorded liquidation; in
            such a replay the rules force a pool only in the steps in which it was anchored.
    """
    books = Books(day, rules, ruled, anchored)
    books.run()
    return books
