"""The absorbers of the reference engine: balance, peaks, triggers, limits, inventory."""

from __future__ import annotations

from collections import Counter

from replay.rules.plan import Absorber
from replay.tape.schema import Payoff, Side
from tests.reference.books import RATE_ONE, Pool, Position, sign, split
from tests.reference.depth import Depth
from tests.reference.orders import Order

DAY_NS = 86_400 * 10**9


class FundBook:
    """One fund or vault: what it holds and pays, and when its own positions are closed."""

    def __init__(self, engine: Absorbing, rule: Absorber) -> None:
        self.e = engine
        self.rule = rule
        self.flow: Counter[int] = Counter()
        self.handled: list[int] = []  # markets in which it was ever booked
        self.profits: dict[int, list[tuple[int, int]]] = {}
        self.balances: dict[int, list[tuple[int, int]]] = {}
        self.active: set[int] = set()
        self.paid: list[tuple[int, int, Pool, int]] = []  # ts, market, pool, amount
        self.day_bases: dict[tuple[int, int], int] = {}

    def fund_account(self, market: int) -> str:
        """Return whose balance answers for a market: the absorber's, or one of the market or its group."""
        rule, name = self.rule, self.e.day.markets[market].name
        if rule.scope == "contract":
            return f"{rule.account}:{name}"
        if rule.scope == "group":
            for group, members in rule.groups:
                if name in members:
                    return f"{rule.account}:{group}"
        return rule.account

    def fund_pool(self, market: int) -> Pool:
        return self.e.pool(self.fund_account(market), self.e.day.markets[market].ledger)

    def fund_position(self, market: int) -> Position:
        return self.e.position(self.fund_account(market), market)

    def balance(self, market: int) -> int:
        return self.e.equity(self.fund_pool(market))

    def fund_markets(self) -> list[int]:
        """Return a market of each balance of the absorber: the first that it answers for."""
        found: dict[int, int] = {}
        for number, market in enumerate(self.e.day.markets):
            if market.payoff != Payoff.SPOT:
                found.setdefault(id(self.fund_pool(number)), number)
        if self.rule.scope == "ledger":
            return sorted(found.values(), key=lambda number: self.e.day.markets[number].ledger)
        return list(found.values())

    def holdings(self) -> list[int]:
        return [market for market in sorted(self.handled) if self.fund_position(market).size]

    def fund_books(self, market: int, amount: int) -> None:
        self.flow[market] += amount
        if market not in self.handled:
            self.handled.append(market)

    def profit(self, market: int) -> int:
        size = self.fund_position(market).size
        return self.flow[market] + (self.e.worth(market, size) if size else 0)

    def rolling(self, samples: list[tuple[int, int]], value: int) -> int:
        """Take a sample; return the largest of the window."""
        samples.append((self.e.ts, value))
        return max(v for ts, v in samples if ts >= self.e.ts - self.rule.window_ns)

    def balance_peak(self, market: int) -> int:
        samples = self.balances.setdefault(id(self.fund_pool(market)), [])
        return self.rolling(samples, self.balance(market))

    def profit_peak(self, market: int) -> int:
        samples = self.profits.setdefault(market, [])
        if not samples:
            samples.append((self.e.ts, 0))
        return self.rolling(samples, self.profit(market))

    def headroom(self, market: int) -> int | None:
        if self.rule.drawdown is None:
            return None
        line = self.rule.drawdown[0] * self.balance_peak(market) // RATE_ONE
        return line + self.profit(market) - self.profit_peak(market)

    def capacity(self, market: int) -> int | None:
        if self.e.is_exempt(market):
            return None
        room = self.headroom(market)
        if market in self.active:
            return 0
        if self.rule.stops_at_zero:
            balance = max(0, self.balance(market))
            return balance if room is None else max(0, min(room, balance))
        return None if room is None else max(0, room)

    def is_off(self, market: int) -> bool:
        name = self.e.day.markets[market].name
        return any(
            (names is None or name in names) and start <= self.e.ts < until
            for names, start, until in self.rule.off
        )

    def allowance(self, market: int, pool: Pool) -> int | None:
        """Return the most that the limits let the absorber pay now, from all that it paid before."""
        rule, today = self.rule, self.e.ts // DAY_NS
        mine = self.fund_pool(market)
        if not rule.has_caps:
            return None
        base = self.day_bases.setdefault((id(mine), today), max(0, self.balance(market)))
        by_market = [entry for entry in self.paid if entry[1] == market]
        rooms = []
        if rule.per_trade:
            rooms.append(rule.per_trade)
        if rule.per_account_step:
            same = [amount for ts, _, other, amount in self.paid if ts == self.e.ts and other is pool]
            rooms.append(rule.per_account_step - sum(same))
        if rule.per_market_day:
            same = [amount for ts, _, _, amount in by_market if ts // DAY_NS == today]
            rooms.append(base * rule.per_market_day // RATE_ONE - sum(same))
        if rule.per_day:
            same = [
                amount
                for ts, other, _, amount in self.paid
                if ts // DAY_NS == today and self.fund_pool(other) is mine
            ]
            rooms.append(base * rule.per_day // RATE_ONE - sum(same))
        if rule.lifetime:
            rooms.append(rule.lifetime - sum(amount for _, _, _, amount in by_market))
        return max(0, min(rooms))

    def fits(self, market: int, size: int, take: int, sizes: dict[int, int]) -> int:
        """Return how much of a signed position fits into what the absorber may hold beside ``sizes``."""
        rule, mine = self.rule, self.fund_pool(market)
        worths = {m: abs(self.e.worth(m, held)) if held else 0 for m, held in sizes.items()}
        others = sum(worth for m, worth in worths.items() if m != market and self.fund_pool(m) is mine)
        room = max(0, max(0, self.balance(market)) * rule.inventory // RATE_ONE - others)
        worth = abs(self.e.worth(market, take)) if take else 0
        if worths[market] + worth <= room:
            return take
        most = take * room // max(1, worth)
        return min(take, max(0, most - sizes[market] * sign(size)))

    def pay_out_of_fund(self, pool: Pool, held: dict[int, int]) -> dict[int, int]:
        """Let the absorber pay what a flat pool owes, by what it held; return what it paid by market."""
        rule = self.rule
        paid: dict[int, int] = {}
        if not rule.pays_debts or not sum(held.values()) or not pool.cash:
            return {}
        parts = split(-pool.cash, [held[market] for market in sorted(held)])
        for market, part in zip(sorted(held), parts, strict=True):
            if not part or self.is_off(market):
                continue
            rooms = [part, max(0, self.balance(market)), self.allowance(market, pool)]
            paid[market] = min(room for room in rooms if room is not None)
            if not paid.get(market):
                del paid[market]
                continue
            self.paid.append((self.e.ts, market, pool, paid[market]))
            self.e.pay(self.fund_pool(market), pool, paid[market])
            self.fund_books(market, -paid[market])
        return paid

    def judge_fund(self, market: int) -> None:
        """Switch deleveraging of a market on or off by the absorber's rules, and say so."""
        rule = self.rule
        if self.e.plan.adl is None or (rule.drawdown is None and not rule.stops_at_zero):
            return
        if self.e.is_exempt(market):
            return
        balance = self.balance(market)
        empty = rule.stops_at_zero and balance <= 0
        verdict: tuple[bool, str, int, int] | None = None
        drop = start_line = stop_line = 0
        if rule.drawdown is not None:
            peak = self.balance_peak(market)
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
        self.e.engage(market, "adl", "start" if on else "stop", self, reason, measured, threshold, None)

    def movement(self, kind: str, amounts: dict[int, int]) -> None:
        for market in sorted(amounts):
            ledger = self.e.day.markets[market].ledger
            self.e.write(
                "absorber_ledger",
                ts=self.e.ts,
                account=self.fund_account(market),
                ledger=ledger,
                market=market,
                kind=kind,
                amount=amounts[market],
                balance=self.balance(market),
                inventory=self.fund_position(market).size,
            )

    def work_out(self, market: int) -> None:
        position = self.fund_position(market)
        size = position.size
        side = Side.BID if size > 0 else Side.ASK
        [(filled, magnitude)] = self.e.walk(market, side, [(abs(size), None, False)])
        if not filled:
            return
        inverse = self.e.day.markets[market].payoff == Payoff.INVERSE
        value = -magnitude if (size > 0) != inverse else magnitude
        closed = self.e.worth(market, filled if size > 0 else -filled)
        quantity = -filled if size > 0 else filled
        self.e.book(position, quantity, value)
        self.e.book(self.e.position("@book", market), -quantity, -value)
        self.fund_books(market, -value)
        self.movement("work out", {market: -value - closed})

    def own_order(self, market: int, value: int | None) -> Order:
        position = self.fund_position(market)
        equity = self.balance(market)
        return Order(position, abs(position.size), value, self.fund_account(market), equity, None, self)

    def beyond_the_line(self, market: int) -> list[Order]:
        rule = self.rule
        headroom = self.headroom(market)
        beyond = max(0, -headroom) if headroom is not None and market in self.active else 0
        pool, balance = self.fund_pool(market), self.balance(market)
        if rule.stops_at_zero and balance < 0:
            losses = {m: max(0, -self.profit(m)) for m in self.holdings() if self.fund_pool(m) is pool}
            if sum(losses.values()):
                beyond = max(beyond, -(balance * losses.get(market, 0) // sum(losses.values())))
        if not beyond:
            return []
        position = self.fund_position(market)
        value = self.e.value(position)
        return [self.own_order(market, max(value, min(value + beyond, position.cost)))]

    def insolvent(self, already: list[Order]) -> list[Order]:
        losing: list[Order] = []
        brought: dict[int, int] = {}
        for order in already:
            assert order.value is not None
            brought[order.position.market] = order.value - self.e.value(order.position)
        for first in self.fund_markets():
            pool, equity = self.fund_pool(first), self.balance(first)
            equity += sum(gain for m, gain in brought.items() if self.fund_pool(m) is pool)
            changes = []
            for market in self.holdings():
                if self.e.is_exempt(market):
                    continue
                if self.fund_pool(market) is pool and market not in brought:
                    size = self.fund_position(market).size
                    change = self.e.worth(market, size) - self.e.worth(market, size, self.e.previous[market])
                    if change < 0:
                        changes.append((change, market))
            for change, market in sorted(changes):
                if equity >= 0:
                    break
                losing.append(self.own_order(market, None))
                equity -= change
        return losing

    def open(self) -> None:
        """Give each balance the amount of the rules, or those of contracts their part of what the absorber has."""
        rule = self.rule
        for ledger, (_, currency) in enumerate(self.e.day.ledgers):
            pools = [pool for pool in map(self.fund_pool, self.fund_markets()) if pool.ledger == ledger]
            whole = self.e.pool(rule.account, ledger)
            shares = split(max(0, whole.cash), [1] * len(pools)) if pools else []
            for pool, share in zip(pools, shares, strict=True):
                if rule.amount is not None:
                    if currency in rule.currencies:
                        self.e.external[ledger] += rule.amount - pool.cash
                        pool.cash = rule.amount
                elif rule.scope == "contract":
                    self.e.pay(whole, pool, share)

    def losing(self) -> list[Order]:
        """Return what of its own positions goes to auto-deleveraging."""
        losing: list[Order] = []
        for market in [market for market in self.holdings() if not self.e.is_exempt(market)]:
            self.judge_fund(market)
            losing += self.beyond_the_line(market)
        if self.rule.insolvent_below and self.e.plan.adl is not None:
            losing += self.insolvent(losing)
        return losing


class Absorbing(Depth):
    """Books whose funds and vaults take over, sell on and are deleveraged themselves."""

    funds: list[FundBook]

    def is_exempt(self, market: int) -> bool:
        """Tell whether the rules have no deleveraging in a market."""
        return self.plan.adl is not None and market in self.plan.adl.exempt_markets

    def attend_funds(self) -> list[Order]:
        suspends = self.plan.adl is not None and self.plan.adl.suspends_book
        for fund in self.funds:
            for market in fund.holdings() if suspends else []:
                fund.judge_fund(market)
            if fund.rule.work_out == "book" and self.plan.depth is not None:
                for market in fund.holdings():
                    if not (suspends and market in fund.active):
                        fund.work_out(market)
        return [order for fund in self.funds for order in fund.losing()]

    def engage(
        self,
        market: int,
        stage: str,
        state: str,
        fund: FundBook | None,
        reason: str,
        measured: int,
        threshold: int,
        quantity: int | None,
    ) -> None:
        self.write(
            "engagements",
            ts=self.ts,
            scope="@book" if fund is None else fund.fund_account(market),
            market=market,
            ledger=self.day.markets[market].ledger,
            stage=stage,
            state=state,
            reason=reason,
            measured=measured,
            threshold=threshold,
            fund_balance=None if fund is None else fund.balance(market),
            quantity=quantity,
        )
