"""The waterfall of the reference engine: depth, ladder, absorber, auto-deleveraging, bad debt.

Every stage goes order by order over lists; what the product does in batches is done here one after the other.
Rows of run tables are kept as dictionaries with names of accounts in place of ids.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from fractions import Fraction
from typing import Any

from replay.rules.plan import BookOrder, NetOwnHedge, Plan, Takeover
from replay.tape.schema import FillKind, Grade, Payoff, PriceKind, Side
from tests.reference.absorber import DAY_NS, FundBook
from tests.reference.books import (
    ATOMS,
    RATE_ONE,
    Day,
    Fill,
    OwnMargin,
    Pool,
    Position,
    Price,
    Rules,
    Transfer,
    by_moment,
    sign,
    split,
)
from tests.reference.deleveraging import Deleveraging
from tests.reference.depth import Row
from tests.reference.guard import Guard
from tests.reference.orders import Episode, Leg, Order

Handed = tuple[Pool, Position, int, int, int, int]
"""Pool, position, value, equity and maintenance of the pool, quantity: what an absorber is asked to take."""

LOT = TICK = 1
"""Days in memory have markets of one lot and one tick."""


class Waterfall(Deleveraging):
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
        self.taken_in_step: Counter[tuple[int, Side, int]] = Counter()
        self.met: Counter[str] = Counter()  # rules that changed something, which no row tells
        self.shown_left: dict[tuple[int, Side], list[int]] = {}
        self.volumes: list[tuple[int, int, int]] = []
        self.ts = 0
        self.funds = [FundBook(self, rule) for rule in plan.absorbers]
        self.reserves: dict[int, int] = {}  # by id of a position, what its bankruptcy value holds for a fee
        self.shut_out: list[Pool] = []  # no winners of the step
        self.guard = Guard(plan)
        self.held_up: set[int] = set()  # markets in which pools in breach are passed over
        self.deferred: list[Pool] = []  # in breach when last judged, and not among the first in something
        self.session_next = 0
        self.session_bases: dict[Pool, int] = {}
        self.session_flows: Counter[Pool] = Counter()
        self.opened: dict[int, int] = {}  # balance of the first absorber at the beginning
        if plan.risk_price != "mark":  # then neither last prices nor fills are marks
            self.published |= {m for m, spec in enumerate(day.markets) if spec.payoff != Payoff.SPOT}

    def attend(self, breaches: list[Pool], restored: list[Pool], recorded: list[Position]) -> None:
        ended: list[Episode] = []
        self.failing = breaches
        self.pay_bad_debts(restored)
        ended += [self.episode(pool) for pool in restored]
        self.episodes = [episode for episode in self.episodes if episode.pool not in restored]
        before = {pool: (self.equity(pool), self.maintenance(pool)) for pool in breaches}
        for pool in breaches:
            self.open_episode(pool, *before[pool], recorded)
        self.shut_out = [*breaches, *(episode.pool for episode in self.episodes)]
        passed_over = self.pass_over(breaches) if breaches or restored else []
        free = [pool for pool in breaches if not all(map(self.is_guarded, self.open_positions(pool)))]
        by_age = sorted(free, key=lambda pool: self.episode(pool).id)
        first = by_age[: self.plan.max_liquidations or None]
        late = [pool for pool in free if pool not in first]
        self.met["a breach waits for its turn"] += bool(late)
        self.deferred = [*late, *passed_over]
        losing = self.climb([pool for pool in breaches if pool in first], before)
        losing += self.attend_funds()
        if losing and self.plan.adl is not None:
            self.deleverage(losing)
        order = {id(pool): number for number, pool in enumerate(self.pools.values())}
        self.pay_bad_debts(sorted((e.pool for e in self.episodes), key=lambda pool: order[id(pool)]))
        flat = [episode for episode in self.episodes if not self.open_positions(episode.pool)]
        ended += sorted(flat, key=lambda episode: order[id(episode.pool)])
        self.episodes = [episode for episode in self.episodes if episode not in flat]
        for episode in ended:
            self.end(episode, self.ts)

    def is_guarded(self, position: Position) -> bool:
        return self.guard.holds_up(position.market, self.marks[position.market], self.ts)

    def pass_over(self, breaches: list[Pool]) -> list[Pool]:
        """Return the pools with a position that nothing may close now; write where that begins and ends."""
        rows = [(pool, p) for pool in breaches for p in self.open_positions(pool) if self.is_guarded(p)]
        self.met["a market is guarded"] += bool(rows)
        held_up = {position.market for _, position in rows}
        for market in sorted(held_up ^ self.held_up):
            mine = [(pool, p) for pool, p in rows if p.market == market]
            words = f"the price is too far from its average: {len(mine)} pool{'s' if len(mine) > 1 else ''}"
            self.write(
                "engagements",
                ts=self.ts,
                scope=self.day.markets[market].name,
                market=market,
                ledger=self.day.markets[market].ledger,
                stage="guard",
                state="start" if mine else "stop",
                reason=words if mine else "nobody is passed over for the price any more",
                measured=sum(self.equity(pool) for pool, _ in mine),
                threshold=sum(self.maintenance(pool) for pool, _ in mine),
                fund_balance=None,
                quantity=sum(abs(p.size) for _, p in mine) if mine else None,
            )
        self.held_up = held_up
        return [pool for pool, _ in rows]

    def set_mark(self, market: int, mark: int) -> None:
        if self.marks.get(market) != mark:
            self.guard.follow(market, self.marks.get(market), mark, self.ts)
        super().set_mark(market, mark)

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
        """Return positions with their signed bankruptcy values; what these hold for a fee goes to `reserves`."""
        found = []
        for position, worth in self.worths(pool):
            rate = Fraction(self.plan.exit_fee_rate, RATE_ONE)
            exact = worth / (1 - rate) if worth > 0 else worth / (1 + rate)
            self.reserves[id(position)] = math.ceil(exact) - worth
            found.append((position, math.ceil(exact)))
        return found

    def worths(self, pool: Pool) -> list[tuple[Position, int]]:
        """Return positions with the values at which closing all of them without a fee leaves the pool nothing."""
        positions = self.open_positions(pool)
        profits = [self.value(position) - position.cost for position in positions]
        if self.plan.allocation == "all":
            bearer = profits.index(min(profits))
            lost = [self.equity(pool) if number == bearer else 0 for number in range(len(positions))]
            return [(p, self.value(p) - loss) for p, loss in zip(positions, lost, strict=True)]
        is_isolated = self.plan.allocation == "isolated"
        weights = [abs(p.cost) if is_isolated else self.position_maintenance(p) for p in positions]
        if not sum(weights):
            weights = [1] * len(positions)
        if is_isolated:
            margins = split(pool.cash, weights)
            return [(p, p.cost - margin) for p, margin in zip(positions, margins, strict=True)]
        shares = split(self.equity(pool), weights)
        return [(p, self.value(p) - share) for p, share in zip(positions, shares, strict=True)]

    def end(self, episode: Episode, ts: int | None) -> None:
        slots = {id(position): number for number, position in enumerate(self.positions.values())}
        for number, leg in enumerate(sorted(episode.legs, key=lambda leg: slots[id(leg.position)])):
            debt = episode.bad_debt if number == 0 else 0
            shared = episode.socialised if number == 0 else 0
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
                shortfall=leg.shortfall + shared + debt,
                fund=leg.shortfall - leg.vault,
                vault=leg.vault,
                socialised=shared,
                bad_debt=debt,
                recorded=leg.recorded,
            )

    def pay_bad_debts(self, pools: list[Pool]) -> None:
        owing = [pool for pool in pools if not self.open_positions(pool) and pool.cash < 0]
        for fund in self.funds:
            moved: dict[int, int] = {}
            for pool in owing:
                episode = self.episode(pool)
                for market, paid in fund.pay_out_of_fund(pool, self.held_at_first(episode)).items():
                    moved[market] = moved.get(market, 0) - paid
                    leg = next(leg for leg in episode.legs if leg.position.market == market)
                    leg.shortfall += paid
                    leg.vault += paid if fund.rule.account.startswith("@vault") else 0
            fund.movement("debt", moved)
        for pool in owing:
            self.pay_bad_debt(pool)

    def held_at_first(self, episode: Episode) -> dict[int, int]:
        """Return the absolute values of what a pool held at its first breach, by market."""
        held: Counter[int] = Counter()
        for leg in episode.legs:
            held[leg.position.market] += abs(self.worth(leg.position.market, leg.size, leg.mark))
        return held

    def pay_bad_debt(self, pool: Pool) -> None:
        """Settle what a flat pool owes still."""
        episode, amount = self.episode(pool), -pool.cash
        if not amount:
            return
        for payer, share in self.shared_by_all(episode, amount):
            self.pay(payer, pool, share)
            episode.socialised += share
            amount -= share
            self.write_loss(episode, payer, "socialised", share)
        if amount:
            self.pay(self.pool("@bad_debt", pool.ledger), pool, amount)
            episode.bad_debt += amount
            self.write_loss(episode, pool, "bad_debt", amount)

    def write_loss(self, episode: Episode, pool: Pool, kind: str, amount: int) -> None:
        self.write(
            "shared_losses",
            ts=self.ts,
            liquidation=episode.id,
            account=pool.account,
            ledger=pool.ledger,
            kind=kind,
            amount=amount,
        )

    def shared_by_all(self, episode: Episode, amount: int) -> list[tuple[Pool, int]]:
        """Return who pays what of a loss: by cash, at most all of it, or by size in the markets of the loss."""
        ill = [*self.failing, *(other.pool for other in self.episodes)]
        able = [
            pool
            for pool in self.pools.values()
            if not pool.special and pool.grade < Grade.UNKNOWN and not any(pool is other for other in ill)
        ]
        order = {id(pool): number for number, pool in enumerate(able)}
        if self.plan.socialise == "deposit_haircut":
            payers = [pool for pool in able if pool.ledger == episode.pool.ledger and pool.cash > 0]
            cash = [pool.cash for pool in payers]
            shares = cash if sum(cash) <= amount else split(amount, cash)
            return [(pool, share) for pool, share in zip(payers, shares, strict=True) if share]
        if self.plan.socialise == "session_profit_pro_rata":
            gains = [(pool, self.session_gain(pool)) for pool in able if pool.ledger == episode.pool.ledger]
            gains = [(pool, gain) for pool, gain in gains if min(gain, self.session_worth(pool)) > 0]
            caps = [min(gain, self.session_worth(pool)) for pool, gain in gains]
            shares = self.shared_up_to(amount, [gain for _, gain in gains], caps)
            return [(pool, share) for (pool, _), share in zip(gains, shares, strict=True) if share]
        if self.plan.socialise == "none":
            return []
        lost = self.held_at_first(episode)
        paid: Counter[int] = Counter()
        markets = sorted(lost)
        for market, part in zip(markets, split(amount, [lost[m] for m in markets]), strict=True):
            holders = sorted(
                (
                    position
                    for pool in able
                    for position in pool.positions
                    if position.market == market and position.size
                ),
                key=lambda position: order[id(position.pool)],
            )
            if holders:
                sizes = [abs(position.size) for position in holders]
                for position, share in zip(holders, split(part, sizes), strict=True):
                    paid[order[id(position.pool)]] += share
        return [(able[number], paid[number]) for number in sorted(paid) if paid[number]]

    def shared_up_to(self, amount: int, weights: list[int], caps: list[int]) -> list[int]:
        """Share by weights; who would give its cap or more gives the cap, and the others share the rest anew."""
        given = [0] * len(weights)
        rows, left = list(range(len(weights))), min(amount, sum(caps))
        while rows and left:
            total = sum(weights[i] for i in rows)
            full = [i for i in rows if left * weights[i] >= caps[i] * total]
            if not full:
                for i, part in zip(rows, split(left, [weights[i] for i in rows]), strict=True):
                    given[i] = part
                break
            for i in full:
                given[i] = caps[i]
                left -= caps[i]
            rows = [i for i in rows if i not in full]
        return given

    def session_worth(self, pool: Pool) -> int:
        """Return cash and what positions gained; in a market without a mark that is nothing."""
        return pool.cash + sum(
            (self.value(position) if position.size else 0) - position.cost
            for position in pool.positions
            if position.market in self.marks
        )

    def session_gain(self, pool: Pool) -> int:
        return self.session_worth(pool) - self.session_bases.get(pool, 0) - self.session_flows[pool]

    def begin_sessions(self, ts: int) -> None:
        """Begin the sessions whose moment is before a step."""
        while ts > self.session_next:
            self.session_next += DAY_NS
            self.session_bases = {pool: self.session_worth(pool) for pool in self.pools.values()}
            self.session_flows.clear()

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
            batch = [row for row in batch if not self.is_guarded(row[1])]
            if not isinstance(rung, NetOwnHedge) and rung.after_unfilled:
                whole, batch = batch, [row for row in batch if self.episode(row[0]).leg(row[1]).left]
                self.met["what is left enters alone"] += 0 < len(batch) < len(whole)
            if not batch:
                continue
            if isinstance(rung, BookOrder):
                self.send(batch, rung)
            elif isinstance(rung, Takeover):
                rows = self.to_take_over(rung, batch)
                beyond = self.hand_over(rows, self.funds[rung.absorber]) if rows else []
                later = ladder[ladder.index(rung) + 1 :]
                if not any(isinstance(other, Takeover) and other.level == rung.level for other in later):
                    losing += beyond
            elif isinstance(rung, NetOwnHedge):
                self.net(batch)
            else:
                losing += [
                    self.losing(pool, p, abs(p.size), v, "ladder", equity) for pool, p, v, equity, _ in batch
                ]
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
            for episode in self.episodes:
                for leg in episode.legs:
                    if leg.position is hedge:
                        leg.left = min(leg.left, abs(hedge.size))
            rows.append((quantity, value))
        for (pool, position, _, _, _), size, (quantity, value) in zip(batch, sizes, rows, strict=True):
            if quantity:
                words = "closed against its own hedge"
                self.order(pool, position, "net", size, quantity, None, quantity, value, words)

    def losing(
        self,
        pool: Pool,
        position: Position,
        quantity: int,
        value: int | None,
        origin: str,
        equity: int,
        fund: FundBook | None = None,
    ) -> Order:
        if self.plan.adl is None:
            value = None
        else:
            adl = self.plan.adl
            prices = (adl.price, adl.fallback_price)
            if not adl.residual_to_absorber and not any("bankruptcy" in p or "clamped" in p for p in prices):
                value = None
        episode = self.episode(pool)
        episode.leg(position).left = quantity
        return Order(position, quantity, value, origin, equity, episode, fund)

    def asks(self, pool: Pool, positions: list[Position], rung: BookOrder) -> list[tuple[int, bool]]:
        """Return how much of each open position of a pool is sent, and whether that is a slice."""
        order = list(range(len(positions)))
        if rung.order == "largest_loss":
            order.sort(key=lambda i: (self.value(positions[i]) - positions[i].cost, i))
        elif rung.order == "largest_maintenance":
            order.sort(key=lambda i: (-self.position_maintenance(positions[i]), i))
        if rung.size == "minimal_to_exit":
            cuts = [0] * len(positions)
            for i in order:
                whole = abs(positions[i].size)
                tried = [[*cuts[:i], cut, *cuts[i + 1 :]] for cut in (0, whole)]
                if not self.restores(pool, positions, tried[0], rung):
                    cuts = tried[1]
                    if self.restores(pool, positions, cuts, rung):
                        cuts[i] = bisect_left(
                            range(whole),
                            1,
                            key=lambda cut: self.restores(
                                pool, positions, [*cuts[:i], cut, *cuts[i + 1 :]], rung
                            ),
                        )
            return [(cut, False) for cut in cuts]
        if rung.size == "smallest_fix":
            deepest = max(len(self.rules.tiers[position.market]) for position in positions)
            cuts = [0] * len(positions)
            for tiers in range(1, deepest + 1):
                if not self.restores(pool, positions, cuts, rung):
                    cuts = [self.down(position, tiers) for position in positions]
            asked = [(cut, False) for cut in cuts]
        else:
            asked = [self.asked(pool, position, rung) for position in positions]
        if rung.order:
            first = next((i for i in order if asked[i][0]), None)
            asked = [entry if i == first else (0, False) for i, entry in enumerate(asked)]
        return asked

    def held_down(
        self, pool: Pool, positions: list[Position], asked: list[int], rung: BookOrder | Takeover, lacks: int
    ) -> list[int]:
        """Return what of what is asked of the positions of a pool, which lacks so much, may go in this step."""
        rate, episode, allowed = rung.rate, self.episode(pool), list(asked)
        elapsed = self.ts - episode.ts
        if elapsed < rate.full_after_ns and lacks >= rate.spared:
            share = min(RATE_ONE, rate.initial_rate + elapsed * RATE_ONE // rate.full_after_ns)
            for i, position in enumerate(positions):
                leg = episode.leg(position)
                closed = leg.netted + leg.book + leg.absorbed + leg.adl
                most = max((asked[i] + closed) * share // RATE_ONE - closed, 0)
                if abs(self.value(position)) > rate.spared:
                    allowed[i] = min(asked[i], most)
            self.met["more of it later"] += allowed != asked
        if rate.step_cap:
            before, left, is_first = list(allowed), rate.step_cap, True
            order = list(range(len(positions)))
            name = rung.order if isinstance(rung, BookOrder) else ""
            if name == "largest_loss":
                order.sort(key=lambda i: self.value(positions[i]) - positions[i].cost)
            elif name == "largest_maintenance":
                order.sort(key=lambda i: -self.position_maintenance(positions[i]))
            for i in order:
                if not allowed[i]:
                    continue
                worth = abs(self.worth(positions[i].market, allowed[i]))
                if worth > left:
                    fits = (
                        part
                        for part in self.guesses(positions[i], left)
                        if abs(self.worth(positions[i].market, part)) <= left
                    )
                    part = next(fits) if left else 0
                    allowed[i] = min(allowed[i], max(part, LOT) if is_first else part)
                    worth = left
                left -= worth
                is_first = False
            self.met["the cap of a pool in a step"] += allowed != before
        if allowed != asked:
            self.deferred.append(pool)
        return allowed

    def restores(self, pool: Pool, positions: list[Position], cuts: list[int], rung: BookOrder) -> bool:
        """Tell whether closing parts of positions at the mark, without a fee, brings a pool to the exit of a rung."""
        spare = self.equity(pool) - (1 if self.plan.breach_at_equal else 0)
        return spare >= Fraction(*rung.exit) * self.due_without(positions, cuts)

    def due_without(self, positions: list[Position], cuts: list[int]) -> int:
        """Return the maintenance of positions if they were cut down."""
        due, before = 0, [position.size for position in positions]
        for position, cut in zip(positions, cuts, strict=True):
            position.size -= sign(position.size) * cut
            if position.size:
                due += self.position_maintenance(position)
        for position, size in zip(positions, before, strict=True):
            position.size = size
        return due

    def down(self, position: Position, tiers: int) -> int:
        """Return what brings a position down by some margin tiers, at most to the lowest."""
        size, value = abs(position.size), abs(self.value(position))
        by_size = self.rules.own.get(position.market, OwnMargin()).basis == "size"
        measure = size if by_size else value
        edges = [tier.start for tier in self.rules.tiers[position.market] if tier.start <= measure][1:]
        if not edges:
            return 0
        edge = edges[max(0, len(edges) - tiers)]
        if by_size:
            return size - edge + 1
        keep = next(
            keep for keep in self.guesses(position, edge) if abs(self.worth(position.market, keep)) <= edge
        )
        return size - keep

    def asked(self, pool: Pool, position: Position, rung: BookOrder) -> tuple[int, bool]:
        size, value = abs(position.size), abs(self.value(position))
        if rung.size == "step_down":
            return self.down(position, rung.tiers), False
        if rung.size.startswith("fraction_of"):
            base = (
                size if rung.size == "fraction_of_remaining" else abs(self.episode(pool).leg(position).size)
            )
            return min(size, max(base * rung.share // RATE_ONE, LOT)), False
        if rung.size == "notional_cap":
            if value <= rung.cap:
                return size, False
            part = next(
                part
                for part in self.guesses(position, rung.cap)
                if abs(self.worth(position.market, part)) <= rung.cap
            )
            return max(part, LOT), False
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

    def discount(self, rung: BookOrder, position: Position, equity: int, maintenance: int) -> int:
        """Return how much a fillable price is from the mark: the more, the less of maintenance is there."""
        if not maintenance:
            return 0
        missing = min(max(maintenance - equity, 0), maintenance)
        most = math.floor(self.position_maintenance(position) * Fraction(*rung.spread))
        return most * missing // maintenance

    def band(self, position: Position, limit: int | None, rung: BookOrder) -> int:
        """Return the price some basis points beyond the mark, the oracle or a limit, rounded as a limit is."""
        spec, long = self.day.markets[position.market], position.size > 0
        mark = self.marks[position.market]
        if rung.limit == "oracle_band":
            mark = self.oracles.get(position.market, mark)
        base = Fraction(mark, 10 ** (spec.mark_scale - spec.price_scale))
        if rung.limit == "bankruptcy_band":
            assert limit is not None
            base = Fraction(limit)
        exact = base * Fraction(10_000 - rung.limit_bp if long else 10_000 + rung.limit_bp, 10_000)
        return max(0, exact.__ceil__() if long else exact.__floor__())

    def send(self, batch: list[tuple[Pool, Position, int, int, int]], rung: BookOrder) -> None:
        """Send orders into the book: all are filled from one book, then booked, then pay."""
        plans = []
        suspends = self.plan.adl is not None and self.plan.adl.suspends_book
        for market in sorted({position.market for _, position, _, _, _ in batch}) if suspends else []:
            self.funds[0].judge_fund(market)
        asks: dict[int, tuple[int, bool]] = {}
        for pool in {id(row[0]): row[0] for row in batch}.values():
            positions = [row[1] for row in batch if row[0] is pool]
            entries = self.asks(pool, positions, rung)
            asked = [entry[0] for entry in entries]
            if suspends:
                asked = [
                    0 if p.market in self.funds[0].active else amount
                    for p, amount in zip(positions, asked, strict=True)
                ]
                self.met["the book is left alone"] += sum(
                    a != e[0] for a, e in zip(asked, entries, strict=True)
                )
            lacks = next(row[4] - row[3] for row in batch if row[0] is pool)
            asked = self.held_down(pool, positions, asked, rung, lacks)
            for position, amount, entry in zip(positions, asked, entries, strict=True):
                asks[id(position)] = (amount, entry[1])
        for pool, position, value, equity, maintenance in batch:
            asked, sliced = asks[id(position)]
            limit = self.limit(position, value) if "bankruptcy" in rung.limit else None
            if rung.limit == "zero_equity":
                limit = self.limit(position, self.value(position) - equity)
            if rung.limit == "fillable":
                limit = self.limit(
                    position, self.value(position) - self.discount(rung, position, equity, maintenance)
                )
            if rung.limit in ("mark_band", "oracle_band") or (
                rung.limit == "bankruptcy_band" and limit not in (None, 0, 1 << 62)
            ):
                limit = self.band(position, limit, rung)
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
            worth = bankrupt - self.reserves[id(position)]
            part = abs(worth) * filled // abs(sizes[id(plan)])
            surplus = max(0, (-part if worth >= 0 else part) - value) if filled else 0
            gives = rung.surplus_to == "absorber" and self.funds
            if gives or rung.fee_from_improvement:
                fee = min(fee, surplus)
            plan.append((fee, surplus - fee if gives else None))
        if rung.surplus_to == "absorber" and self.funds:
            for plan in plans:
                kept = plan[10][1]
                market = plan[1].market
                surpluses[market] = surpluses.get(market, 0) + kept
                if kept:
                    self.pay(plan[0], self.funds[0].fund_pool(market), kept)
                    self.funds[0].fund_books(market, kept)
                    self.episode(plan[0]).leg(plan[1]).surplus += kept
            self.funds[0].movement("surplus", surpluses)
        to_fund = rung.fee_to_absorber and self.funds
        fees: dict[int, int] = {}
        for plan in plans:
            fee, market = plan[10][0], plan[1].market
            fees[market] = fees.get(market, 0) + fee
            if fee:
                to = self.funds[0].fund_pool(market) if to_fund else self.pool("@fees", plan[0].ledger)
                self.pay(plan[0], to, fee)
                if to_fund:
                    self.funds[0].fund_books(market, fee)
        if to_fund:
            self.funds[0].movement("fee", fees)
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
                market, "book", None, mine, [plan[8] for plan in mine], "forced orders sent to the book"
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
        self,
        market: int,
        stage: str,
        fund: FundBook | None,
        plans: list[Any],
        quantities: list[int],
        reason: str,
    ) -> None:
        many = "s" if len(plans) > 1 else ""
        self.engage(
            market,
            stage,
            "engaged",
            fund,
            f"{reason}: {len(plans)} pool{many}",
            sum(plan[3] for plan in plans),
            sum(plan[4] for plan in plans),
            sum(quantities),
        )

    def taken_at(
        self, rung: Takeover, pool: Pool, position: Position, value: int, equity: int, due: int
    ) -> int:
        """Return the value at which a position is taken over: bankruptcy, or the mark less a penalty."""
        if rung.price == "bankruptcy":
            return value
        value -= self.reserves[id(position)]
        self.reserves[id(position)] = 0
        worth = self.value(position)
        if equity < 0 and rung.owed_stays:
            return worth
        if equity < 0:
            return value
        penalty = min(equity, self.penalty(rung, due))
        return worth - ((worth - value) * penalty // equity if equity else 0)

    def to_take_over(self, rung: Takeover, batch: list[tuple[Pool, Position, int, int, int]]) -> list[Handed]:
        """Return what is to be taken over of which position at what value: all, a share, or what a share left."""
        if not rung.share:
            whole = [(*row[:2], self.taken_at(rung, *row), *row[3:], abs(row[1].size)) for row in batch]
            return self.parts_held_down(rung, whole)
        same = [r for r in self.plan.ladder if isinstance(r, Takeover) and r.level == rung.level]
        rows: list[Handed] = []
        if rung is not same[0]:
            for pool, position, _, equity, due in batch:
                leg = self.episode(pool).leg(position)
                self.reserves[id(position)] = 0  # at the mark nothing is held for a fee
                if leg.left:
                    rows.append((pool, position, leg.left_value, equity, due, leg.left))
            self.met["the rest of a share is handed on"] += bool(rows)
            return rows
        for pool in {id(row[0]): row[0] for row in batch}.values():
            mine = [row for row in batch if row[0] is pool]
            share = self.enough(rung, [row[1] for row in mine], *mine[0][3:])
            self.met["a share of all is enough" if share < 1 else "no share is enough"] += 1
            for _, position, value, equity, due in mine:
                if share == 1:
                    taken = self.taken_at(rung, pool, position, value, equity, due)
                    rows.append((pool, position, taken, equity, due, abs(position.size)))
                    continue
                value -= self.reserves[id(position)]
                self.reserves[id(position)] = 0
                cut = math.ceil(abs(position.size) * share)
                penalty = math.ceil(share * self.penalty(rung, due))
                own = (self.value(position) - value) * penalty // equity if penalty else 0
                worth = self.worth(position.market, cut if position.size > 0 else -cut)
                rows.append((pool, position, worth - own, equity, due, cut))
        return self.parts_held_down(rung, rows)

    def parts_held_down(self, rung: Takeover, rows: list[Handed]) -> list[Handed]:
        """Return what of rows may go in this step; a part has the discount to the mark that belongs to it."""
        parts: list[Handed] = []
        for pool in {id(row[0]): row[0] for row in rows}.values():
            mine = [row for row in rows if row[0] is pool]
            positions, asked = [row[1] for row in mine], [row[5] for row in mine]
            allowed = self.held_down(pool, positions, asked, rung, mine[0][4] - mine[0][3])
            for (_, position, value, equity, due, whole), part in zip(mine, allowed, strict=True):
                leg, side = self.episode(pool).leg(position), sign(position.size)
                if not part:
                    leg.left = leg.left_value = 0
                    continue
                if part < whole:
                    discount = self.worth(position.market, side * whole) - value
                    own = sign(discount) * (abs(discount) * part // whole)
                    value = self.worth(position.market, side * part) - own
                parts.append((pool, position, value, equity, due, part))
        return parts

    def penalty(self, rung: Takeover, due: int) -> int:
        return math.ceil(Fraction(due * rung.penalty_rate, RATE_ONE))

    def enough(self, rung: Takeover, positions: list[Position], equity: int, due: int) -> Fraction:
        """Return the least share of all positions whose takeover restores a pool that pays the penalty for it."""
        grid = Fraction(rung.share, RATE_ONE)
        for number in range(1, math.ceil(1 / grid)):
            share = number * grid
            paid = math.ceil(share * self.penalty(rung, due))
            if paid > equity:
                break  # it cannot pay: everything goes
            rest = self.due_without(positions, [math.ceil(abs(p.size) * share) for p in positions])
            if rung.exit == (1, 1):
                is_enough = equity - paid > rest or (equity - paid == rest and not self.plan.breach_at_equal)
            else:
                is_enough = equity - paid > rest * Fraction(*rung.exit)
            if is_enough:
                return share
        return Fraction(1)

    def hand_over(self, batch: list[Handed], fund: FundBook) -> list[Order]:
        """Hand positions to an absorber, as far as its capacity and its limits go."""
        gains = {
            id(p): self.worth(p.market, asked if p.size > 0 else -asked) - value
            for _, p, value, _, _, asked in batch
        }
        room: dict[int, int | None] = {}
        for market in sorted({row[1].market for row in batch}):
            fund.judge_fund(market)
            room[market] = fund.capacity(market)
        losing: list[Order] = []
        entries = []
        sizes = {market: fund.fund_position(market).size for market in {*room, *fund.handled}}
        for pool, position, value, equity, maintenance, asked in batch:
            market, size, loss = position.market, position.size, -gains[id(position)]
            take, left = asked, room[market]
            if loss > 0:
                allowed = [bound for bound in (left, fund.allowance(market, pool)) if bound is not None]
                if allowed and loss > min(allowed):
                    take = asked * min(allowed) // loss
            if fund.is_off(market):
                take = 0
            elif fund.rule.inventory:
                take = fund.fits(market, size, take, sizes)
            sizes[market] += sign(size) * take
            if loss > 0:
                paid = -(-loss * take // asked)
                fund.paid.append((self.ts, market, pool, paid))
                if left is not None:
                    room[market] = 0 if loss > left else left - paid
            part = sign(value) * (abs(value) * take // asked)
            entries.append((pool, position, value, equity, maintenance, size, take, part, asked))
        for _, position, _, _, _, size, take, part, _ in entries:
            if take:
                quantity = -take if size > 0 else take
                self.book(position, quantity, -part)
                self.book(fund.fund_position(position.market), -quantity, part)
                fee = self.reserves[id(position)] * take // abs(size)
                self.pay(position.pool, self.pool("@fees", position.pool.ledger), fee)
        moved: dict[int, int] = {}
        for pool, position, value, equity, _, size, take, part, asked in entries:
            market = position.market
            gain = (self.worth(market, take if size > 0 else -take) if take else 0) - part
            leg = self.episode(pool).leg(position)
            leg.absorbed += take
            leg.left, leg.left_value = asked - take, value - part
            leg.surplus += max(0, gain)
            leg.shortfall += max(0, -gain)
            leg.vault += max(0, -gain) if fund.rule.account.startswith("@vault") else 0
            fund.fund_books(market, -part)
            moved[market] = moved.get(market, 0) + gain
            if leg.left:
                order = self.losing(pool, position, leg.left, leg.left_value, "takeover", equity, fund)
                losing.append(order)
        for pool, position, _, _, _, size, take, part, asked in entries:
            whole = f"taken over by {fund.fund_account(position.market)}"
            if take < asked:
                whole = "the absorber's capacity is used up"
                if fund.is_off(position.market):
                    whole = "the absorber does nothing for the market now"
            self.order(pool, position, "takeover", size, asked, None, take, -part, whole)
        fund.movement("takeover", moved)
        for market in sorted(moved):
            mine = [entry for entry in entries if entry[1].market == market]
            taken = [entry[6] for entry in mine]
            self.engaged(market, "takeover", fund, mine, taken, "equity below maintenance")
        return losing

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
        self.session_flows[self.pool(row.account, row.ledger, row.market)] += row.amount
        if row.amount:
            self.touch(self.pool(row.account, row.ledger, row.market))

    def would_fall_short(self, row: Fill, position: Position, qty: int) -> bool:
        touched = list(self.touched)
        short = super().would_fall_short(row, position, qty)
        self.touched = touched
        return short

    def sets_mark(self, row: Price) -> bool:
        """Tell whether a price is the one at which risk is measured."""
        if self.plan.risk_price == "mark" or self.day.markets[row.market].payoff == Payoff.SPOT:
            return super().sets_mark(row)
        oracle = self.oracle_kinds.get(row.market)
        return row.kind == (oracle if self.plan.risk_price == "oracle" else PriceKind.INDEX)

    def price(self, row: Price) -> None:
        self.note_oracle(row)
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
        for fund in self.funds:
            fund.open()
            for market in fund.fund_markets():
                fund.balance_peak(market)
                balance = self.opened[id(fund.fund_pool(market))] = fund.balance(market)
                self.write(
                    "absorber_ledger",
                    ts=first,
                    account=fund.fund_account(market),
                    ledger=self.day.markets[market].ledger,
                    market=None,
                    kind="opening",
                    amount=balance,
                    balance=balance,
                    inventory=None,
                )
        transfers, funding = by_moment(self.day.transfers), by_moment(self.day.funding)
        prices, fills = by_moment(self.day.prices), by_moment(self.day.fills)
        liquidations = by_moment(self.day.liquidations)
        attending, is_new_round = False, True
        last_period: int | None = None
        self.session_next = first + (self.plan.session_start_ns - first) % DAY_NS
        self.session_bases = {pool: self.session_worth(pool) for pool in self.pools.values()}
        for ts in sorted({*transfers, *funding, *prices, *fills, *liquidations}):
            self.begin_sessions(ts)
            self.ts, self.shown_left = ts, {}
            if is_new_round:
                self.moved, self.touched = False, []
            self.priced_now, self.standings_now, self.forced_now = set(), {}, {}
            for _, transfer in transfers.get(ts, []):
                self.transfer(transfer)
            for _, rate in funding.get(ts, []):
                self.fund(rate)
            for _, price in prices.get(ts, []):
                self.price(price)
            for seq, fill in fills.get(ts, []):
                self.fill(fill, seq)
            period = ts // self.plan.period_ns if self.plan.period_ns else None
            is_new_round = period is None or period != last_period
            last_period = period
            if not is_new_round:
                known = [episode.pool for episode in self.episodes]
                ill = [pool for pool in self.pools.values() if self.in_breach(pool)]
                self.met["a breach waits for its round"] += any(pool not in known for pool in ill)
                super().check()
                self.note_step()
                continue
            waiting = [episode.pool for episode in self.episodes]
            judged = [
                p
                for p in waiting
                if (self.moved or p in self.touched or p in self.deferred)
                and (self.judged(p) or not self.open_positions(p))
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
                attending = bool(self.episodes) or any(fund.holdings() for fund in self.funds)
            self.note_step()
        order = {id(pool): number for number, pool in enumerate(self.pools.values())}
        for episode in sorted(self.episodes, key=lambda episode: order[id(episode.pool)]):
            self.end(episode, None)

    def note_step(self) -> None:
        for key, facts in self.forced_now.items():
            facts.size_after, facts.cost_after = self.positions[key].size, self.positions[key].cost
            self.facts.append(facts)
        self.steps += 1


def run_waterfall(day: Day, rules: Rules, plan: Plan, depth: list[Row]) -> Waterfall:
    """Replay a day under a plan whose margin tables are those of ``rules``; return its books."""
    books = Waterfall(day, rules, plan, depth)
    books.run()
    return books
