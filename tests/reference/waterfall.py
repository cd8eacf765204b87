"""The waterfall of the reference engine: depth, ladder, absorber, auto-deleveraging, bad debt.

Every stage goes order by order over lists; what the product does in batches is done here one after the other.
Rows of run tables are kept as dictionaries with names of accounts in place of ids.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from replay.rules.plan import BookOrder, NetOwnHedge, Plan, Takeover
from replay.tape.schema import FillKind, Grade, Payoff, Side
from tests.reference.books import (
    ATOMS,
    RATE_ONE,
    Books,
    Day,
    Fill,
    Pool,
    Position,
    Price,
    Rules,
    Transfer,
    by_moment,
    contract_value,
    sign,
    split,
)

Row = dict[str, Any]
LOT = TICK = 1
"""Days in memory have markets of one lot and one tick."""


@dataclass
class Leg:
    """One market of an episode."""

    position: Position
    size: int
    mark: int
    bankruptcy_value: int
    recorded: int
    netted: int = 0
    book: int = 0
    absorbed: int = 0
    adl: int = 0
    left: int = 0
    surplus: int = 0
    shortfall: int = 0


@dataclass
class Episode:
    id: int
    ts: int
    pool: Pool
    equity: int
    maintenance: int
    legs: list[Leg] = field(default_factory=list)
    bad_debt: int = 0

    def leg(self, position: Position) -> Leg:
        return next(leg for leg in self.legs if leg.position is position)


@dataclass
class Order:
    """What goes to auto-deleveraging: ``value`` is that of the whole quantity, None for the rule's price."""

    position: Position
    quantity: int
    value: int | None
    origin: str
    equity: int
    episode: Episode | None


class Waterfall(Books):
    """The books of a day whose forced orders go through the waterfall of a plan."""

    def __init__(self, day: Day, rules: Rules, plan: Plan, depth: list[Row]) -> None:
        super().__init__(day, rules, ruled=True, anchored=False)
        self.plan = plan
        self.depth_rows = depth
        self.rows: dict[str, list[Row]] = {}
        self.previous: dict[int, int] = {}
        self.mark_ts: dict[int, int] = {}
        self.moved = False
        self.touched: list[Pool] = []
        self.episodes: list[Episode] = []  # open
        self.episode_count = 0
        self.cooling: dict[Pool, int] = {}
        self.taken: dict[tuple[int, Side], tuple[int, int]] = {}
        self.shown_left: dict[tuple[int, Side], list[int]] = {}
        self.volumes: list[tuple[int, int, int]] = []
        self.ts = 0
        self.flow: Counter[int] = Counter()
        self.handled: list[int] = []  # markets in which the absorber was ever booked
        self.profits: dict[int, list[tuple[int, int]]] = {}
        self.balances: dict[int, list[tuple[int, int]]] = {}
        self.active: set[int] = set()
        self.shut_out: list[Pool] = []  # no winners of the step

    def write(self, table: str, **columns: Any) -> None:
        self.rows.setdefault(table, []).append(columns)

    def check(self) -> None:
        """Leave the sums to the end of each step: in between every booking adds to zero by itself."""

    # -- values

    def worth(self, market: int, size: int, mark: int | None = None) -> int:
        spec = self.day.markets[market]
        return contract_value(spec, size, self.marks[market] if mark is None else mark, spec.mark_scale)

    def at_price(self, market: int, size: int, price: int) -> int:
        spec = self.day.markets[market]
        return contract_value(spec, size, price, spec.price_scale)

    def set_mark(self, market: int, mark: int) -> None:
        if self.marks.get(market) == mark:
            return
        if self.mark_ts.get(market) != self.ts:
            self.previous[market] = self.marks.get(market, mark)
            self.mark_ts[market] = self.ts
        self.marks[market] = mark
        self.moved = True

    def touch(self, pool: Pool) -> None:
        if pool not in self.touched:
            self.touched.append(pool)

    def pay(self, payer: Pool, receiver: Pool, amount: int) -> None:
        super().pay(payer, receiver, amount)
        if amount:
            self.touch(payer)
            self.touch(receiver)

    def book(
        self, position: Position, qty: int, value: int, price: int | None = None, scale: int = 0
    ) -> None:
        super().book(position, qty, value, price, scale)
        if qty:
            self.touch(position.pool)

    # -- depth

    def levels(self, market: int, side: Side) -> list[tuple[int, int]]:
        """Return (price, quantity) of a side, best first, before what forced orders took."""
        rule = self.plan.depth
        assert rule is not None
        found: list[tuple[int, int]] = []
        if rule.provider == "levels":
            times = [row["ts"] for row in self.depth_rows if row["market"] == market and row["ts"] <= self.ts]
            if times:
                found = [
                    (row["price"], row["qty"])
                    for row in self.depth_rows
                    if row["market"] == market and row["ts"] == max(times) and row["side"] == side
                ]
        elif market in self.marks:
            if rule.provider == "static":
                for basis_points, notional in rule.static:
                    price = self.behind(market, side, basis_points)
                    if price > 0:
                        found.append((price, self.quantity_for(market, notional, price)))
            else:
                price = self.behind(market, side, rule.slippage_bp)
                if price > 0:
                    found = [(price, self.traded(market) * rule.participation_rate // RATE_ONE)]
        found.sort(key=lambda level: -level[0] if side == Side.BID else level[0])
        kept = RATE_ONE - rule.haircut_rate
        return [(price, quantity * kept // RATE_ONE) for price, quantity in found]

    def behind(self, market: int, side: Side, basis_points: int) -> int:
        """Return the price so far behind the mark, on the tick away from it."""
        spec = self.day.markets[market]
        away = -basis_points if side == Side.BID else basis_points
        exact = Fraction(
            self.marks[market] * (10_000 + away), 10_000 * 10 ** (spec.mark_scale - spec.price_scale)
        )
        return exact.__floor__() if side == Side.BID else exact.__ceil__()

    def quantity_for(self, market: int, notional: int, price: int) -> int:
        """Return the lots that are worth a notional in atoms at a price, half to even."""
        spec = self.day.markets[market]
        scale = Fraction(10**spec.price_scale)
        per_unit = spec.multiplier * ATOMS / Fraction(10**spec.qty_scale)
        if spec.payoff == Payoff.INVERSE:
            return round(notional * Fraction(price) / (per_unit * scale))
        return round(notional / (per_unit * Fraction(price) / scale))

    def traded(self, market: int) -> int:
        """Return what was traded voluntarily in the last 64 buckets of time, the present one included."""
        assert self.plan.depth is not None
        width = max(1, self.plan.depth.window_ns // 64)
        now = self.ts // width
        return sum(q for ts, m, q in self.volumes if m == market and now - 64 < ts // width <= now)

    def missing(self, market: int, side: Side) -> int:
        """Return how much of what forced orders took is not back yet; half comes back each half-life."""
        assert self.plan.depth is not None
        quantity, ts = self.taken.get((market, side), (0, self.ts))
        half_life = self.plan.depth.half_life_ns
        if half_life == 0:
            return quantity if ts == self.ts else 0
        whole, rest = divmod(self.ts - ts, half_life)
        return (quantity >> whole) * (2 * half_life - rest) // (2 * half_life) if whole < 63 else 0

    def shown(self, market: int, side: Side) -> list[tuple[int, int]]:
        """Return what recorded forced orders of this step took from a side."""
        return [
            (row.price, abs(row.qty))
            for row in self.day.fills
            if row.ts == self.ts
            and row.market == market
            and row.kind == FillKind.LIQUIDATION
            and row.account == row.victim
            and (row.qty < 0) == (side == Side.BID)
        ]

    def walk(
        self, market: int, side: Side, orders: list[tuple[int, int | None, bool]]
    ) -> list[tuple[int, int]]:
        """Let orders (asked, limit, whole or nothing) walk the levels; return (filled, value) magnitudes."""
        missing = self.missing(market, side)
        rest, book = missing, []
        for price, quantity in self.levels(market, side):
            gone = min(rest, quantity)
            rest -= gone
            book.append([price, quantity - gone, False, 0])
        shown = self.shown(market, side)
        left = self.shown_left.get((market, side), [quantity for _, quantity in shown])
        book += [
            [price, there, True, index]
            for index, ((price, _), there) in enumerate(zip(shown, left, strict=True))
        ]
        book.sort(key=lambda level: -level[0] if side == Side.BID else level[0])
        results, used = [], 0
        for asked, limit, whole in orders:
            reach = [
                level
                for level in book
                if limit is None or (level[0] >= limit if side == Side.BID else level[0] <= limit)
            ]
            filled = value = 0
            if not whole or sum(level[1] for level in reach) >= asked:
                for level in reach:
                    piece = min(asked - filled, level[1])
                    if piece:
                        level[1] -= piece
                        filled += piece
                        value += abs(self.at_price(market, piece, level[0]))
                        used += 0 if level[2] else piece
            results.append((filled, value))
        if used:
            self.taken[market, side] = (missing + used, self.ts)
        if shown:
            self.shown_left[market, side] = [
                next(level[1] for level in book if level[2] and level[3] == index)
                for index in range(len(shown))
            ]
        return results

    # -- the absorber

    @property
    def absorber_name(self) -> str:
        assert self.plan.absorber is not None
        return self.plan.absorber.account

    def fund_position(self, market: int) -> Position:
        return self.position(self.absorber_name, market)

    def balance(self, ledger: int) -> int:
        return self.equity(self.pool(self.absorber_name, ledger))

    def fund_ledgers(self) -> list[int]:
        return sorted({market.ledger for market in self.day.markets if market.payoff != Payoff.SPOT})

    def holdings(self) -> list[int]:
        return [market for market in sorted(self.handled) if self.fund_position(market).size]

    def fund_books(self, market: int, amount: int) -> None:
        self.flow[market] += amount
        if market not in self.handled:
            self.handled.append(market)

    def profit(self, market: int) -> int:
        size = self.fund_position(market).size
        return self.flow[market] + (self.worth(market, size) if size else 0)

    def rolling(self, samples: list[tuple[int, int]], value: int) -> int:
        """Take a sample; return the largest of the window."""
        assert self.plan.absorber is not None
        samples.append((self.ts, value))
        return max(v for ts, v in samples if ts >= self.ts - self.plan.absorber.window_ns)

    def balance_peak(self, ledger: int) -> int:
        return self.rolling(self.balances.setdefault(ledger, []), self.balance(ledger))

    def profit_peak(self, market: int) -> int:
        samples = self.profits.setdefault(market, [])
        if not samples:
            samples.append((self.ts, 0))
        return self.rolling(samples, self.profit(market))

    def headroom(self, market: int) -> int | None:
        assert self.plan.absorber is not None
        if self.plan.absorber.drawdown is None:
            return None
        line = self.plan.absorber.drawdown[0] * self.balance_peak(self.day.markets[market].ledger) // RATE_ONE
        return line + self.profit(market) - self.profit_peak(market)

    def capacity(self, market: int) -> int | None:
        assert self.plan.absorber is not None
        room = self.headroom(market)
        if market in self.active:
            return 0
        if self.plan.absorber.stops_at_zero:
            balance = max(0, self.balance(self.day.markets[market].ledger))
            return balance if room is None else max(0, min(room, balance))
        return None if room is None else max(0, room)

    def judge_fund(self, market: int) -> None:
        """Switch deleveraging of a market on or off by the absorber's rules, and say so."""
        rule = self.plan.absorber
        assert rule is not None
        if self.plan.adl is None or (rule.drawdown is None and not rule.stops_at_zero):
            return
        ledger = self.day.markets[market].ledger
        balance = self.balance(ledger)
        empty = rule.stops_at_zero and balance <= 0
        verdict: tuple[bool, str, int, int] | None = None
        drop = start_line = stop_line = 0
        if rule.drawdown is not None:
            peak = self.balance_peak(ledger)
            drop = self.profit(market) - self.profit_peak(market)
            start_line, stop_line = (-(rate * peak // RATE_ONE) for rate in rule.drawdown)
        by_drop = "drawdown of the market against the fund's peak"
        if market not in self.active:
            if empty:
                verdict = (True, "the balance is not above zero", balance, 0)
            elif (
                rule.drawdown is not None and balance > rule.least_balance and drop < 0 and drop <= start_line
            ):
                verdict = (True, by_drop, drop, start_line)
        elif not empty and rule.drawdown is None:
            verdict = (False, "the balance is above zero", balance, 0)
        elif not empty and drop > stop_line:
            verdict = (False, by_drop, drop, stop_line)
        if verdict is None:
            return
        on, reason, measured, threshold = verdict
        (self.active.add if on else self.active.discard)(market)
        self.engage(
            market, "adl", "start" if on else "stop", self.absorber_name, reason, measured, threshold, None
        )

    def engage(
        self,
        market: int,
        stage: str,
        state: str,
        scope: str,
        reason: str,
        measured: int,
        threshold: int,
        quantity: int | None,
    ) -> None:
        ledger = self.day.markets[market].ledger
        balance = None
        if self.plan.absorber is not None and scope == self.absorber_name:
            balance = self.balance(ledger)
        self.write(
            "engagements",
            ts=self.ts,
            scope=scope,
            market=market,
            ledger=ledger,
            stage=stage,
            state=state,
            reason=reason,
            measured=measured,
            threshold=threshold,
            fund_balance=balance,
            quantity=quantity,
        )

    def movement(self, kind: str, amounts: dict[int, int]) -> None:
        for market in sorted(amounts):
            ledger = self.day.markets[market].ledger
            self.write(
                "absorber_ledger",
                ts=self.ts,
                account=self.absorber_name,
                ledger=ledger,
                market=market,
                kind=kind,
                amount=amounts[market],
                balance=self.balance(ledger),
                inventory=self.fund_position(market).size,
            )

    # -- the step

    def attend(self, breaches: list[Pool], restored: list[Pool], recorded: list[Position]) -> None:
        ended: list[Episode] = []
        for pool in restored:
            self.pay_bad_debt(pool)
        ended += [self.episode(pool) for pool in restored]
        self.episodes = [episode for episode in self.episodes if episode.pool not in restored]
        before = {pool: (self.equity(pool), self.maintenance(pool)) for pool in breaches}
        for pool in breaches:
            self.open_episode(pool, *before[pool], recorded)
        self.shut_out = [*breaches, *(episode.pool for episode in self.episodes)]
        losing = self.climb(breaches, before)
        losing += self.attend_fund()
        if losing and self.plan.adl is not None:
            self.deleverage(losing)
        for pool in breaches:
            self.pay_bad_debt(pool)
        flat = [
            episode
            for episode in self.episodes
            if episode.pool in breaches and not self.open_positions(episode.pool)
        ]
        order = {id(pool): number for number, pool in enumerate(self.pools.values())}
        ended += sorted(flat, key=lambda episode: order[id(episode.pool)])
        self.episodes = [episode for episode in self.episodes if episode not in flat]
        for episode in ended:
            self.end(episode, self.ts)

    def episode(self, pool: Pool) -> Episode:
        return next(episode for episode in self.episodes if episode.pool is pool)

    def open_episode(self, pool: Pool, equity: int, maintenance: int, recorded: list[Position]) -> None:
        if not any(episode.pool is pool for episode in self.episodes):
            self.episodes.append(Episode(self.episode_count, self.ts, pool, equity, maintenance))
            self.episode_count += 1
        episode = self.episode(pool)
        for position, value in self.bankruptcies(pool):
            if not any(leg.position is position for leg in episode.legs):
                mark = self.marks[position.market]
                episode.legs.append(Leg(position, position.size, mark, value, int(position in recorded)))
            episode.leg(position).left = 0

    def bankruptcies(self, pool: Pool) -> list[tuple[Position, int]]:
        """Return positions with the signed values that share the pool's equity by maintenance."""
        positions = self.open_positions(pool)
        weights = [self.position_maintenance(position) for position in positions]
        if not sum(weights):
            weights = [1] * len(positions)
        shares = split(self.equity(pool), weights)
        return [(p, self.value(p) - share) for p, share in zip(positions, shares, strict=True)]

    def end(self, episode: Episode, ts: int | None) -> None:
        vault = self.plan.absorber is not None and self.absorber_name.startswith("@vault")
        slots = {id(position): number for number, position in enumerate(self.positions.values())}
        for number, leg in enumerate(sorted(episode.legs, key=lambda leg: slots[id(leg.position)])):
            debt = episode.bad_debt if number == 0 else 0
            self.write(
                "liquidations",
                liquidation=episode.id,
                ts=episode.ts,
                ts_end=ts,
                account=episode.pool.account,
                ledger=episode.pool.ledger,
                market=leg.position.market,
                mode=leg.position.mode,
                size=leg.size,
                asked=leg.netted + leg.book + leg.absorbed + leg.adl + leg.left,
                netted=leg.netted,
                book=leg.book,
                absorbed=leg.absorbed,
                adl=leg.adl,
                left=leg.left,
                bankruptcy_value=leg.bankruptcy_value,
                mark=leg.mark,
                equity=episode.equity,
                maintenance=episode.maintenance,
                surplus=leg.surplus,
                shortfall=leg.shortfall + debt,
                fund=0 if vault else leg.shortfall,
                vault=leg.shortfall if vault else 0,
                socialised=0,
                bad_debt=debt,
                recorded=leg.recorded,
            )

    def pay_bad_debt(self, pool: Pool) -> None:
        if self.open_positions(pool) or pool.cash >= 0:
            return
        episode, amount = self.episode(pool), -pool.cash
        self.pay(self.pool("@bad_debt", pool.ledger), pool, amount)
        episode.bad_debt += amount
        self.write(
            "shared_losses",
            ts=self.ts,
            liquidation=episode.id,
            account=pool.account,
            ledger=pool.ledger,
            kind="bad_debt",
            amount=amount,
        )

    # -- the ladder

    def applies(self, level: tuple[int, int], equity: int, maintenance: int) -> bool:
        slack = equity * level[1] - level[0] * maintenance
        at_equal = self.plan.breach_at_equal and level[0] > 0
        return slack < 0 or (slack == 0 and at_equal)

    def climb(self, breaches: list[Pool], before: dict[Pool, tuple[int, int]]) -> list[Order]:
        losing: list[Order] = []
        ladder = self.plan.ladder
        lowest = {
            pool: min(Fraction(*rung.level) for rung in ladder if self.applies(rung.level, *before[pool]))
            for pool in breaches
        }
        for rung in ladder:
            mine = [
                pool
                for pool in breaches
                if lowest[pool] == Fraction(*rung.level)
                and self.open_positions(pool)
                and self.falls_short(pool)
            ]
            batch = [
                (pool, *entry, self.equity(pool), self.maintenance(pool))
                for pool in mine
                for entry in self.bankruptcies(pool)
            ]
            if not batch:
                continue
            if isinstance(rung, BookOrder):
                self.send(batch, rung)
            elif isinstance(rung, Takeover):
                losing += self.hand_over(batch)
            elif isinstance(rung, NetOwnHedge):
                self.net(batch)
            else:
                losing += [self.losing(pool, p, v, "ladder", equity) for pool, p, v, equity, _ in batch]
        return losing

    def net(self, batch: list[tuple[Pool, Position, int, int, int]]) -> None:
        """Close positions at the mark against those of the same account, the other side and margin mode."""
        sizes = [position.size for _, position, _, _, _ in batch]
        rows = []
        for pool, position, _, _, _ in batch:
            hedge = self.positions.get((pool.account, position.market, 1 - position.mode))
            if hedge is None or hedge.size * position.size >= 0:
                rows.append((0, 0))
                continue
            quantity = min(abs(hedge.size), abs(position.size))
            signed = -quantity if position.size > 0 else quantity
            value = self.worth(position.market, signed)
            self.book(position, signed, value)
            self.book(hedge, -signed, -value)
            self.episode(pool).leg(position).netted += quantity
            rows.append((quantity, value))
        for (pool, position, _, _, _), size, (quantity, value) in zip(batch, sizes, rows, strict=True):
            if quantity:
                words = "closed against its own hedge"
                self.order(pool, position, "net", size, quantity, None, quantity, value, words)

    def losing(self, pool: Pool, position: Position, value: int | None, origin: str, equity: int) -> Order:
        assert self.plan.adl is not None
        if self.plan.adl.price != "bankruptcy":
            value = None
        episode = self.episode(pool)
        episode.leg(position).left = abs(position.size)
        return Order(position, abs(position.size), value, origin, equity, episode)

    def asked(self, pool: Pool, position: Position, rung: BookOrder) -> tuple[int, bool]:
        size, value = abs(position.size), abs(self.value(position))
        if rung.size == "step_down":
            starts = [tier.start for tier in self.rules.tiers[position.market] if tier.start <= value]
            if len(starts) < 2:
                return 0, False
            keep = next(
                keep
                for keep in self.guesses(position, starts[-1])
                if abs(self.worth(position.market, keep)) <= starts[-1]
            )
            return size - keep, False
        if rung.slice_above and self.cooling.get(pool, 0) <= self.ts and value > rung.slice_above:
            part = min(size, max(size * rung.slice_rate // RATE_ONE, LOT))
            return part, part < size
        return size, False

    def guesses(self, position: Position, edge: int) -> range:
        """Return sizes that may be the largest worth at most ``edge``, downwards."""
        size, value = abs(position.size), abs(self.value(position))
        near = min(size, edge * size // max(1, value) + size // max(1, value) + 2)
        return range(near, -1, -1)

    def limit(self, position: Position, value: int) -> int | None:
        """Return the worst price at which closing costs at most the share of equity; None takes any."""
        spec, size = self.day.markets[position.market], position.size
        long = size > 0
        per_unit = spec.multiplier * ATOMS / Fraction(10**spec.qty_scale)
        scale = Fraction(10**spec.price_scale)
        worth = value if long != (spec.payoff == Payoff.INVERSE) else -value
        if spec.payoff == Payoff.INVERSE:
            if worth <= 0:
                return 1 << 62 if long else None
            exact = abs(size) * per_unit * scale / worth
        else:
            if worth <= 0:
                return None if long else 0
            exact = worth * scale / (abs(size) * per_unit)
        return exact.__ceil__() if long else exact.__floor__()

    def send(self, batch: list[tuple[Pool, Position, int, int, int]], rung: BookOrder) -> None:
        """Send orders into the book: all are filled from one book, then booked, then pay."""
        plans = []
        for pool, position, value, equity, maintenance in batch:
            asked, sliced = self.asked(pool, position, rung)
            limit = self.limit(position, value) if rung.limit == "bankruptcy" else None
            plans.append([pool, position, value, equity, maintenance, asked, sliced, limit, 0, 0])
        for market in sorted({plan[1].market for plan in plans}):
            for side, long in ((Side.BID, True), (Side.ASK, False)):
                mine = [p for p in plans if p[1].market == market and (p[1].size > 0) == long and p[5] > 0]
                fills = self.walk(market, side, [(p[5], p[7], rung.all_or_nothing) for p in mine])
                for plan, (filled, magnitude) in zip(mine, fills, strict=True):
                    inverse = self.day.markets[market].payoff == Payoff.INVERSE
                    plan[8], plan[9] = filled, -magnitude if long != inverse else magnitude
        sizes = {id(plan): plan[1].size for plan in plans}
        for plan in plans:
            _, position, filled, value = plan[0], plan[1], plan[8], plan[9]
            if filled:
                quantity = -filled if position.size > 0 else filled
                self.book(position, quantity, value, None)
                self.book(self.position("@book", position.market), -quantity, -value)
        surpluses: dict[int, int] = {}
        for plan in plans:
            pool, position, bankrupt, filled, value = plan[0], plan[1], plan[2], plan[8], plan[9]
            fee = round(Fraction(abs(value) * rung.fee_rate, RATE_ONE))
            if rung.surplus_to == "absorber" and self.plan.absorber is not None:
                part = abs(bankrupt) * filled // abs(sizes[id(plan)])
                surplus = max(0, (-part if bankrupt >= 0 else part) - value) if filled else 0
                fee = min(fee, surplus)
                plan.append((fee, surplus - fee))
            else:
                plan.append((fee, None))
        if rung.surplus_to == "absorber" and self.plan.absorber is not None:
            for plan in plans:
                kept = plan[10][1]
                market = plan[1].market
                surpluses[market] = surpluses.get(market, 0) + kept
                if kept:
                    self.pay(plan[0], self.pool(self.absorber_name, plan[0].ledger), kept)
                    self.fund_books(market, kept)
                    self.episode(plan[0]).leg(plan[1]).surplus += kept
            self.movement("surplus", surpluses)
        for plan in plans:
            fee = plan[10][0]
            if fee:
                self.pay(plan[0], self.pool("@fees", plan[0].ledger), fee)
        for plan in plans:
            pool, position, asked, sliced, limit, filled, value = plan[0], plan[1], *plan[5:10]
            if sliced and filled:
                self.cooling[pool] = self.ts + rung.cooldown_ns
            leg = self.episode(pool).leg(position)
            leg.book += filled
            leg.left = asked - filled
            if asked:
                if filled == asked:
                    reason = "filled"
                else:
                    reason = "depth used up" if limit is None else "depth within the limit used up"
                self.order(pool, position, "book", sizes[id(plan)], asked, limit, filled, value, reason)
        for market in sorted({plan[1].market for plan in plans if plan[5]}):
            mine = [plan for plan in plans if plan[1].market == market and plan[5]]
            self.engaged(
                market, "book", "@book", mine, [plan[8] for plan in mine], "forced orders sent to the book"
            )

    def order(
        self,
        pool: Pool,
        position: Position,
        stage: str,
        size: int,
        asked: int,
        limit: int | None,
        filled: int,
        value: int,
        reason: str,
    ) -> None:
        closing = -1 if size > 0 else 1
        self.write(
            "forced_orders",
            ts=self.ts,
            liquidation=self.episode(pool).id,
            stage=stage,
            account=pool.account,
            market=position.market,
            asked=closing * asked,
            limit_price=limit,
            filled=closing * filled,
            value=value,
            mark=self.marks[position.market],
            reason=reason,
        )

    def engaged(
        self, market: int, stage: str, scope: str, plans: list[Any], quantities: list[int], reason: str
    ) -> None:
        many = "s" if len(plans) > 1 else ""
        self.engage(
            market,
            stage,
            "engaged",
            scope,
            f"{reason}: {len(plans)} pool{many}",
            sum(plan[3] for plan in plans),
            sum(plan[4] for plan in plans),
            sum(quantities),
        )

    def hand_over(self, batch: list[tuple[Pool, Position, int, int, int]]) -> list[Order]:
        """Hand positions to the absorber at bankruptcy, as far as its capacity goes."""
        gains = {id(p): self.value(p) - value for _, p, value, _, _ in batch}
        room: dict[int, int | None] = {}
        for market in sorted({p.market for _, p, _, _, _ in batch}):
            self.judge_fund(market)
            room[market] = self.capacity(market)
        losing: list[Order] = []
        entries = []
        for pool, position, value, equity, maintenance in batch:
            market, size, loss = position.market, position.size, -gains[id(position)]
            take, left = abs(size), room[market]
            if left is not None and loss > 0:
                if loss > left:
                    take, room[market] = abs(size) * left // loss, 0
                else:
                    room[market] = left - loss
            part = sign(value) * (abs(value) * take // abs(size))
            entries.append((pool, position, value, equity, maintenance, size, take, part))
        for _, position, _, _, _, size, take, part in entries:
            if take:
                quantity = -take if size > 0 else take
                self.book(position, quantity, -part)
                self.book(self.fund_position(position.market), -quantity, part)
        moved: dict[int, int] = {}
        for pool, position, value, equity, _, size, take, part in entries:
            market = position.market
            gain = (self.worth(market, take if size > 0 else -take) if take else 0) - part
            leg = self.episode(pool).leg(position)
            leg.absorbed += take
            leg.left = abs(size) - take
            leg.surplus += max(0, gain)
            leg.shortfall += max(0, -gain)
            self.fund_books(market, -part)
            moved[market] = moved.get(market, 0) + gain
            if leg.left:
                losing.append(self.losing(pool, position, value - part, "takeover", equity))
        for pool, position, _, _, _, size, take, part in entries:
            whole = (
                f"taken over by {self.absorber_name}"
                if take == abs(size)
                else "the absorber's capacity is used up"
            )
            self.order(pool, position, "takeover", size, abs(size), None, take, -part, whole)
        self.movement("takeover", moved)
        for market in sorted(moved):
            mine = [entry for entry in entries if entry[1].market == market]
            taken = [entry[6] for entry in mine]
            self.engaged(market, "takeover", self.absorber_name, mine, taken, "equity below maintenance")
        return losing

    # -- what the absorber does with its own

    def attend_fund(self) -> list[Order]:
        rule = self.plan.absorber
        if rule is None:
            return []
        if rule.work_out == "book" and self.plan.depth is not None:
            for market in self.holdings():
                self.work_out(market)
        losing: list[Order] = []
        for market in self.holdings():
            self.judge_fund(market)
            losing += self.beyond_the_line(market)
        if rule.insolvent_below and self.plan.adl is not None:
            losing += self.insolvent(losing)
        return losing

    def work_out(self, market: int) -> None:
        position = self.fund_position(market)
        size = position.size
        side = Side.BID if size > 0 else Side.ASK
        [(filled, magnitude)] = self.walk(market, side, [(abs(size), None, False)])
        if not filled:
            return
        inverse = self.day.markets[market].payoff == Payoff.INVERSE
        value = -magnitude if (size > 0) != inverse else magnitude
        closed = self.worth(market, filled if size > 0 else -filled)
        quantity = -filled if size > 0 else filled
        self.book(position, quantity, value)
        self.book(self.position("@book", market), -quantity, -value)
        self.fund_books(market, -value)
        self.movement("work out", {market: -value - closed})

    def own_order(self, market: int, value: int | None) -> Order:
        position = self.fund_position(market)
        equity = self.balance(self.day.markets[market].ledger)
        return Order(position, abs(position.size), value, self.absorber_name, equity, None)

    def beyond_the_line(self, market: int) -> list[Order]:
        rule = self.plan.absorber
        assert rule is not None
        headroom = self.headroom(market)
        beyond = max(0, -headroom) if headroom is not None and market in self.active else 0
        ledger = self.day.markets[market].ledger
        balance = self.balance(ledger)
        if rule.stops_at_zero and balance < 0:
            losses = {
                m: max(0, -self.profit(m)) for m in self.holdings() if self.day.markets[m].ledger == ledger
            }
            if sum(losses.values()):
                beyond = max(beyond, -(balance * losses.get(market, 0) // sum(losses.values())))
        if not beyond:
            return []
        position = self.fund_position(market)
        value = self.value(position)
        return [self.own_order(market, max(value, min(value + beyond, position.cost)))]

    def insolvent(self, already: list[Order]) -> list[Order]:
        losing: list[Order] = []
        brought: dict[int, int] = {}
        for order in already:
            assert order.value is not None
            brought[order.position.market] = order.value - self.value(order.position)
        for ledger in self.fund_ledgers():
            equity = self.balance(ledger)
            equity += sum(gain for m, gain in brought.items() if self.day.markets[m].ledger == ledger)
            changes = []
            for market in self.holdings():
                if self.day.markets[market].ledger == ledger and market not in brought:
                    size = self.fund_position(market).size
                    change = self.worth(market, size) - self.worth(market, size, self.previous[market])
                    if change < 0:
                        changes.append((change, market))
            for change, market in sorted(changes):
                if equity >= 0:
                    break
                losing.append(self.own_order(market, None))
                equity -= change
        return losing

    # -- auto-deleveraging

    def winners(self, market: int, *, losers_are_long: bool) -> list[tuple[float, Position]]:
        """Return candidates with their scores, first to be closed first."""
        assert self.plan.adl is not None
        found = []
        pools = {id(pool): number for number, pool in enumerate(self.pools.values())}
        for slot, position in enumerate(self.positions.values()):
            pool = position.pool
            if position.market != market or not position.size or (position.size > 0) == losers_are_long:
                continue
            if pool.special or any(pool is other for other in self.shut_out) or not self.marked(pool):
                continue
            value = self.value(position)
            if value - position.cost <= 0 or position.cost == 0 or value == 0:
                continue
            known = pool.grade < Grade.UNKNOWN
            equity, notional, share = abs(value), abs(value), abs(value)
            own = maintenance = self.position_maintenance(position)
            wallet = abs(value)
            if known:
                equity, notional = self.equity(pool), self.notional(pool)
                if equity <= 0:
                    continue
                maintenance, wallet = self.maintenance(pool), pool.cash
                share = max(1, round(Fraction(equity * own, maintenance)) if maintenance > 0 else 0)
            entry, mark = float(abs(position.cost)), float(abs(value))
            profit = float(value - position.cost)
            if self.plan.adl.score == "leveraged_price_ratio":
                score = max(mark, entry) / min(mark, entry) * (float(notional) / float(equity))
            elif self.plan.adl.score == "leveraged_return":
                score = profit / entry * (mark / float(share))
            elif self.plan.adl.score == "entry_return":
                score = profit / entry
            elif self.plan.adl.score == "return_at_risk":
                score = profit / entry * (float(own) / float(max(equity, ATOMS)))
            else:
                score = profit / float(max(wallet, ATOMS)) * (float(maintenance) / float(equity))
            found.append((not known, -score, pools[id(pool)], slot, position))
        found.sort(key=lambda entry: entry[:4])
        return [(-entry[1], entry[4]) for entry in found]

    def deleverage(self, losing: list[Order]) -> None:
        pools = {id(pool): number for number, pool in enumerate(self.pools.values())}
        slots = {id(position): number for number, position in enumerate(self.positions.values())}
        losing.sort(
            key=lambda o: (
                o.episode is None,
                pools[id(o.position.pool)] if o.episode else 0,
                slots[id(o.position)],
            )
        )
        sides = sorted({(order.position.market, order.position.size < 0) for order in losing})
        members = {
            side: [o for o in losing if (o.position.market, o.position.size < 0) == side] for side in sides
        }
        for market, short in sides:
            self.close_side(market, not short, members[market, short])

    def close_side(self, market: int, long: bool, orders: list[Order]) -> None:
        adl = self.plan.adl
        assert adl is not None
        spec = self.day.markets[market]
        ranking = self.winners(market, losers_are_long=long)
        sizes = [abs(position.size) for _, position in ranking]
        total, lights, so_far = sum(sizes), [], 0
        for size in sizes:
            so_far += size
            lights.append(adl.lights + 1 - -(-adl.lights * so_far // total))
        pairs: list[tuple[Order, int, int]] = []
        rank, left = 0, list(sizes)
        if adl.method == "contract_pro_rata":
            left = self.shared_by_size(sum(order.quantity for order in orders), ranking)
        for order in orders:
            need = order.quantity
            while need and rank < len(left):
                piece = min(need, left[rank])
                if not piece:
                    rank += 1
                    continue
                pairs.append((order, rank, piece))
                need -= piece
                left[rank] -= piece
                if not left[rank]:
                    rank += 1
        values = self.piece_values(market, long, pairs)
        involved = [order.position for order, _, _ in pairs] + [ranking[r][1] for _, r, _ in pairs]
        before = {id(p): (p.size, *self.standing_of(p.pool)) for p in involved}
        written = []
        for (order, rank, piece), value in zip(pairs, values, strict=True):
            loser, winner = order.position, ranking[rank][1]
            quantity = -piece if loser.size > 0 else piece
            inverse = spec.payoff == Payoff.INVERSE
            signed = abs(value) if (quantity > 0) != inverse else -abs(value)
            cash = winner.pool.cash
            self.book(loser, quantity, signed, None)
            self.book(winner, -quantity, -signed, None)
            loser_fee = 0
            if not loser.pool.special:
                loser_fee = min(
                    round(Fraction(abs(value) * adl.loser_fee_rate, RATE_ONE)), max(0, loser.pool.cash)
                )
            winner_fee = round(Fraction(abs(value) * adl.winner_fee_rate, RATE_ONE))
            self.pay(loser.pool, self.pool("@fees", spec.ledger), loser_fee)
            self.pay(winner.pool, self.pool("@fees", spec.ledger), winner_fee)
            written.append((winner.pool.cash - cash, loser_fee, winner_fee))
            if order.episode is not None:
                leg = order.episode.leg(loser)
                leg.adl += piece
                leg.left -= piece
            elif self.plan.absorber is not None:
                self.fund_books(market, value)
        for (order, rank, piece), value, (realised, loser_fee, winner_fee) in zip(
            pairs, values, written, strict=True
        ):
            loser, winner = order.position, ranking[rank][1]
            loser_before, winner_before = before[id(loser)], before[id(winner)]
            self.write(
                "adl_fills",
                ts=self.ts,
                liquidation=None if order.episode is None else order.episode.id,
                loser=loser.pool.account,
                winner=winner.pool.account,
                market=market,
                ledger=spec.ledger,
                origin=order.origin,
                rank=rank + 1,
                candidates=len(ranking),
                score=ranking[rank][0],
                lights=lights[rank],
                quantity=piece,
                value=value,
                mark=self.marks[market],
                realised=realised,
                loser_fee=loser_fee,
                winner_fee=winner_fee,
                loser_size_before=loser_before[0],
                loser_size_after=loser.size,
                winner_size_before=winner_before[0],
                winner_size_after=winner.size,
                loser_equity_before=loser_before[1],
                loser_equity_after=self.standing_of(loser.pool)[0],
                winner_equity_before=winner_before[1],
                winner_equity_after=self.standing_of(winner.pool)[0],
                winner_notional_before=winner_before[2],
            )
        scope = self.absorber_name if self.plan.absorber is not None else "@book"
        self.engage(
            market,
            "adl",
            "engaged",
            scope,
            f"no stage before could close them: {len(orders)} orders",
            sum(order.equity for order in orders),
            0,
            sum(order.quantity for order in orders),
        )
        own = [
            (piece, value)
            for (order, _, piece), value in zip(pairs, values, strict=True)
            if order.episode is None
        ]
        if own:
            held = sum(self.worth(market, piece if long else -piece) for piece, _ in own)
            self.movement("deleveraged", {market: sum(value for _, value in own) - held})

    def shared_by_size(self, need: int, ranking: list[tuple[float, Position]]) -> list[int]:
        """Return what each gives in proportion to size; pools of unknown equity give what is then missing."""
        sizes = [abs(position.size) for _, position in ranking]
        known = [position.pool.grade < Grade.UNKNOWN for _, position in ranking]
        whole = sum(size for size, counts in zip(sizes, known, strict=True) if counts)
        share = min(need, whole)
        exact = [
            Fraction(share * size, whole) if counts else Fraction(0)
            for size, counts in zip(sizes, known, strict=True)
        ]
        given = [int(part) for part in exact]
        order = sorted(range(len(sizes)), key=lambda i: (given[i] - exact[i], i))
        for i in order[: share - sum(given)]:
            given[i] += 1
        missing = need - share
        for i, counts in enumerate(known):
            if not counts:
                given[i] = min(missing, sizes[i])
                missing -= given[i]
        return given

    def standing_of(self, pool: Pool) -> tuple[int, int]:
        return (self.equity(pool), self.notional(pool)) if self.marked(pool) else (0, 0)

    def piece_values(self, market: int, long: bool, pairs: list[tuple[Order, int, int]]) -> list[int]:
        """Return the signed value of the loser's part that each piece closes; no price is below zero."""
        adl = self.plan.adl
        assert adl is not None
        positive = long != (self.day.markets[market].payoff == Payoff.INVERSE)
        mark = self.previous[market] if adl.price == "previous_mark" else self.marks[market]
        values, closed, given = [], Counter[int](), Counter[int]()
        for order, _, piece in pairs:
            if order.value is None:
                values.append(self.worth(market, piece if long else -piece, mark))
                continue
            whole = max(order.value, 0) if positive else min(order.value, 0)
            closed[id(order)] += piece
            if closed[id(order)] == order.quantity:
                value = whole - given[id(order)]
            else:
                value = sign(whole) * (abs(whole) * piece // order.quantity)
            given[id(order)] += value
            values.append(value)
        return values

    # -- the tape, step by step

    def fill(self, row: Fill, seq: int) -> None:
        market = self.day.markets[row.market]
        marks = dict(self.marks)
        super().fill(row, seq)
        mark = self.marks.get(row.market)
        if mark is not None and marks.get(row.market) != mark:
            self.marks = marks
            self.set_mark(row.market, mark)
        if market.payoff != Payoff.SPOT and row.kind == FillKind.TRADE and (row.qty > 0 or not row.paired):
            self.volumes.append((row.ts, row.market, abs(row.qty)))

    def transfer(self, row: Transfer) -> None:
        super().transfer(row)
        if row.amount:
            self.touch(self.pool(row.account, row.ledger, row.market))

    def would_fall_short(self, row: Fill, position: Position, qty: int) -> bool:
        touched = list(self.touched)
        short = super().would_fall_short(row, position, qty)
        self.touched = touched
        return short

    def price(self, row: Price) -> None:
        if self.sets_mark(row):
            self.set_mark(row.market, row.price)
            self.priced_now.add(row.market)

    def run(self) -> None:
        self.ts = min(
            (
                row.ts
                for table in (
                    self.day.transfers,
                    self.day.funding,
                    self.day.prices,
                    self.day.fills,
                    self.day.liquidations,
                )
                for row in table
            ),
            default=0,
        )
        first = min([self.ts, *(row["ts"] for row in self.depth_rows)], default=0)
        self.open()
        self.ts = first
        if self.plan.absorber is not None:
            for ledger in self.fund_ledgers():
                self.balance_peak(ledger)
                balance = self.balance(ledger)
                self.write(
                    "absorber_ledger",
                    ts=first,
                    account=self.absorber_name,
                    ledger=ledger,
                    market=None,
                    kind="opening",
                    amount=balance,
                    balance=balance,
                    inventory=None,
                )
        transfers, funding = by_moment(self.day.transfers), by_moment(self.day.funding)
        prices, fills = by_moment(self.day.prices), by_moment(self.day.fills)
        liquidations = by_moment(self.day.liquidations)
        attending = False
        for ts in sorted({*transfers, *funding, *prices, *fills, *liquidations}):
            self.ts, self.moved, self.touched, self.shown_left = ts, False, [], {}
            self.priced_now, self.standings_now, self.forced_now = set(), {}, {}
            for _, transfer in transfers.get(ts, []):
                self.transfer(transfer)
            for _, rate in funding.get(ts, []):
                self.fund(rate)
            for _, price in prices.get(ts, []):
                self.price(price)
            for seq, fill in fills.get(ts, []):
                self.fill(fill, seq)
            waiting = [episode.pool for episode in self.episodes]
            judged = [
                p
                for p in waiting
                if (self.moved or p in self.touched) and (self.judged(p) or not self.open_positions(p))
            ]
            others = [pool for pool in self.pools.values() if pool not in waiting]
            breaches = [p for p in self.pools.values() if (p in judged or p in others) and self.in_breach(p)]
            order = {id(pool): number for number, pool in enumerate(self.pools.values())}
            restored = sorted((p for p in judged if p not in breaches), key=lambda p: order[id(p)])
            super().check()
            if breaches or restored or (attending and self.moved):
                recorded = [self.positions[key] for key in self.forced_now]
                self.attend(breaches, restored, recorded)
                super().check()
                attending = bool(self.episodes) or (self.plan.absorber is not None and bool(self.holdings()))
            for key, facts in self.forced_now.items():
                facts.size_after, facts.cost_after = self.positions[key].size, self.positions[key].cost
                self.facts.append(facts)
            self.steps += 1
        order = {id(pool): number for number, pool in enumerate(self.pools.values())}
        for episode in sorted(self.episodes, key=lambda episode: order[id(episode.pool)]):
            self.end(episode, None)


def run_waterfall(day: Day, rules: Rules, plan: Plan, depth: list[Row]) -> Waterfall:
    """Replay a day under a plan whose margin tables are those of ``rules``; return its books."""
    books = Waterfall(day, rules, plan, depth)
    books.run()
    return books
