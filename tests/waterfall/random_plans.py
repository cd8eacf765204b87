"""Random books and plans over the random days of :mod:`tests.strategies`, and a tape with depth."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any, cast

from replay.loop.policies.scores import LOSS_RULES
from replay.rules.compile import NAMED_SCORES
from replay.rules.plan import (
    Absorber,
    Adl,
    BookOrder,
    Deleverage,
    DepthRule,
    NetOwnHedge,
    Plan,
    Rung,
    Takeover,
)
from replay.tape.schema import Payoff, PriceKind, Side
from tests.loop.in_memory import MemoryTape, Row, _arrow, _window_columns, plan_of
from tests.reference import Day
from tests.strategies import random_rules
from tests.waterfall.small import RATE_ONE, SECOND


def random_depth(seed: int, day: Day, *, times: int = 1) -> list[Row]:
    """Snapshots near the prices of a day: a few levels, some missing, some empty on one side."""
    rng = random.Random(seed)
    rows: list[Row] = []
    moments = sorted({row.ts for table in (day.prices, day.fills) for row in table})
    prices: dict[int, int] = {}
    by_ts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for price in day.prices:
        spec = day.markets[price.market]
        by_ts[price.ts].append((price.market, price.price // 10 ** (spec.mark_scale - spec.price_scale)))
    for fill in day.fills:
        by_ts[fill.ts].append((fill.market, fill.price))
    sizes: dict[int, list[int]] = defaultdict(lambda: [1_000])
    for fill in day.fills:
        sizes[fill.market].append(abs(fill.qty))
    for ts in moments:
        prices.update(by_ts[ts])
        for market, price in sorted(prices.items()):
            if day.markets[market].payoff == Payoff.SPOT or rng.random() < 0.6:
                continue
            usual = rng.choice(sizes[market])
            sides = rng.choice([(Side.BID, Side.ASK), (Side.BID, Side.ASK), (Side.BID,), (Side.ASK,)])
            for side in sides:
                away = -1 if side == Side.BID else 1
                for _ in range(rng.randint(1, 4)):
                    level = max(1, price + away * round(price * rng.choice([0, 0.0005, 0.003, 0.02, 0.1])))
                    qty = max(1, round(usual * rng.choice([0.01, 0.2, 1, 3]) * rng.random()))
                    rows.append(
                        {"ts": ts, "market": market, "side": side, "price": level, "qty": qty * times}
                    )
    return rows


def random_plan(seed: int, day: Day) -> Plan:
    """Rungs, absorber, depth and ADL from a seed, over the margin tables of `random_rules`."""
    rng = random.Random(seed)
    rules = random_rules(seed, day)
    plan = plan_of(rules, len(day.markets))
    has_steps = all(own.basis != "entry" for own in rules.own.values())
    vault = rng.random() < 0.5
    adl = None
    if rng.random() < 0.85:
        profit_term, leverage_term, equity_scope = rng.choice(
            [
                *sorted(NAMED_SCORES.values()),
                ("profit", "one", "account"),
                ("profit_on_equity", "one", "position"),
            ]
        )
        method = rng.choice(["queue", "queue", "contract_pro_rata"])
        adl = Adl(
            profit_term=profit_term,
            leverage_term=leverage_term,
            equity_scope=equity_scope,
            loss_rule=rng.choice(["exclude", *sorted(LOSS_RULES)]),
            price=rng.choice(["previous_mark", "mark", "bankruptcy", "oracle", "clamped_oracle"]),
            winner_cap=rng.choice([RATE_ONE, RATE_ONE // 3]) if method == "queue" else RATE_ONE,
            winner_fee_rate=rng.choice([0, RATE_ONE // 5_000]),
            loser_fee_rate=rng.choice([0, RATE_ONE // 2_000]),
            lights=5,
            method=method,
            **_exempt(random.Random(f"exempt {seed}"), day),
            **_safeguards(random.Random(f"safeguards {seed}"), queue=method == "queue"),
        )
        if adl.tie_break and random.Random(f"ties {seed}").random() < 0.7:
            adl = replace(adl, loss_rule="zero")  # all losers tie
    drawdown = None
    if adl is not None and rng.random() < 0.5:
        drawdown = rng.choice([(3 * RATE_ONE // 10, RATE_ONE // 4), (RATE_ONE // 100, RATE_ONE // 200)])
    own = random.Random(f"absorber {seed}")
    scope = own.choice(["ledger", "contract", "group"])
    with_cash = [row.account for row in day.opening_cash if row.account.startswith("@vault")]
    absorber = Absorber(
        account=with_cash[0] if with_cash else "@vault:v" if vault else "@fund:f",
        work_out=rng.choice(["hold", "book"]),
        insolvent_below=adl is not None and drawdown is None and rng.random() < 0.6,
        drawdown=drawdown,
        window_ns=3_600 * SECOND if drawdown else 0,
        least_balance=0,
        stops_at_zero=adl is not None and rng.random() < 0.5,
        amount=rng.choice([None, None, 10**9, 10**12]),
        currencies=("USDC", "USDT", "USD", "BTC"),
        scope=cast(Any, scope),
        groups=(("g", tuple(market.name for market in day.markets[::2])),) if scope == "group" else (),
        pays_debts=own.random() < 0.5,
        off=_off(own, day),
        **_limits(own),
    )
    others = _others(own, absorber, day) if own.random() < 0.4 else ()
    if others and adl is not None:  # these are about one absorber
        adl = replace(adl, fallback_price="", residual_to_absorber=False, suspends_book=False)
    usual = rng.choice([10**9, 10**11, 10**13])
    ladder = _ladder(rng, usual, has_adl=adl is not None, has_steps=has_steps)
    return replace(
        plan,
        ladder=_handed_on(own, ladder, len(others)),
        absorbers=(absorber, *others),
        adl=adl,
        socialise=_socialise(own, rng.choice(["none", "none", "deposit_haircut", "oi_pro_rata_same_market"])),
        session_start_ns=_session_start(own, day),
        depth=DepthRule(
            provider=rng.choice(["levels", "levels", "static", "volume"]),
            haircut_rate=rng.choice([0, RATE_ONE // 3]),
            half_life_ns=rng.choice([0, SECOND, 3_600 * SECOND]),
            participation_rate=RATE_ONE // 10,
            window_ns=64 * SECOND,
            slippage_bp=30,
            static=((5, usual), (100, 3 * usual)),
            cap_rate=random.Random(f"cap {seed}").choice([RATE_ONE, RATE_ONE, RATE_ONE // 4]),
        ),
    )


def _exempt(rng: random.Random, day: Day) -> dict[str, Any]:
    """Spare a market or an account now and then; rules for an axis of their own draw from a seed of their own."""
    spared: dict[str, Any] = {}
    if rng.random() < 0.2:
        spared["exempt_markets"] = (rng.randrange(len(day.markets)),)
    if rng.random() < 0.2:
        spared["exempt_accounts"] = tuple(rng.sample(day.accounts, min(2, len(day.accounts))))
    return spared


def _socialise(rng: random.Random, method: str) -> str:
    """Share by the gain of a session now and then."""
    return "session_profit_pro_rata" if rng.random() < 0.3 else method


def _session_start(rng: random.Random, day: Day) -> int:
    """A time of the day at which something happens in the day, or any other."""
    moments = [row.ts for table in (day.prices, day.fills) for row in table]
    moment = rng.choice(moments) if moments and rng.random() < 0.8 else rng.randrange(86_400 * SECOND)
    return (moment + rng.choice([0, 0, -1])) % (86_400 * SECOND)


def _others(rng: random.Random, first: Absorber, day: Day) -> tuple[Absorber, ...]:
    """A second absorber: another kind, another scope, other limits, whatever the first has."""
    other = replace(
        first,
        account="@fund:second" if first.is_vault else "@vault:second",
        work_out=cast(Any, rng.choice(["hold", "book"])),
        amount=rng.choice([None, 10**8, 10**11]),
        scope=cast(Any, rng.choice(["ledger", "contract"])),
        pays_debts=rng.random() < 0.5,
        off=_off(rng, day),
        **(dict.fromkeys(_LIMITS, 0) | _limits(rng)),
    )
    return (other,)


def _handed_on(rng: random.Random, ladder: tuple[Rung, ...], others: int) -> tuple[Rung, ...]:
    """Let a second absorber take what the first leaves, or take in its place."""
    rungs: list[Rung] = []
    for rung in ladder:
        if not isinstance(rung, Takeover):
            rungs.append(rung)
            continue
        second = replace(rung, absorber=1)
        if rung.price == "mark" and rng.random() < 0.5:
            rung, second = replace(rung, owed_stays=True), replace(second, owed_stays=True)
        rungs += (
            rng.choice([[rung, second], [rung, second], [second, rung], [second], [rung]])
            if others
            else [rung]
        )
    return tuple(rungs)


_LIMITS = ("per_trade", "per_account_step", "lifetime", "per_market_day", "per_day", "inventory")


def _limits(rng: random.Random) -> dict[str, int]:
    """Limits of the absorber: none, one or two, near what the losses of a day are."""
    amounts = {"per_trade", "per_account_step", "lifetime"}
    names = rng.sample(_LIMITS, rng.choice([0, 1, 1, 2]))
    rates = [RATE_ONE // 10**6, RATE_ONE // 1_000, RATE_ONE // 20, RATE_ONE]
    return {name: 10 ** rng.randint(5, 12) if name in amounts else rng.choice(rates) for name in names}


def _off(rng: random.Random, day: Day) -> tuple[Any, ...]:
    """Spans of the day in which the absorber does nothing for a market or for any."""
    moments = sorted({row.ts for table in (day.prices, day.fills) for row in table})
    if not moments or rng.random() < 0.7:
        return ()
    start, until = sorted((rng.choice(moments), rng.choice(moments)))
    return ((rng.choice([None, (rng.choice(day.markets).name,)]), start, until + 1),)


def _safeguards(rng: random.Random, *, queue: bool) -> dict[str, Any]:
    """Who may not be harmed, the price in need, who has the rest, ties, and whether the book is left alone."""
    drawn: dict[str, Any] = {"must_not_worsen": rng.choice(["", "", "below_maintenance", "always"])}
    if rng.random() < 0.3:
        drawn["fallback_price"] = rng.choice(["bankruptcy", "bankruptcy", "mark", "clamped_oracle"])
        drawn["fallback_below"] = rng.choice([0, RATE_ONE // 2, RATE_ONE])
    drawn["residual_to_absorber"] = rng.random() < 0.25
    words = ["larger_profit", "larger_value", "smaller_wallet", "newer"]
    if queue and rng.random() < 0.5:
        drawn["tie_break"] = tuple(rng.sample(words, rng.randint(1, 4)))
    drawn["suspends_book"] = rng.random() < 0.3
    return drawn


def with_risk_price(seed: int, day: Day, plan: Plan) -> tuple[Day, Plan]:
    """Measure risk at the oracle or the index of some days, whose rows take the place of those that set marks.

    What were oracle and index rows are marks then, which set nothing. Days with a market whose mark comes from
    its fills stay as they are: they have no row to take.
    """
    rng = random.Random(f"risk price {seed}")
    markets = {m for m, spec in enumerate(day.markets) if spec.payoff != Payoff.SPOT}
    by_mark = {row.market for row in day.prices if row.kind == PriceKind.MARK}
    by_last = {row.market for row in day.prices if row.kind == PriceKind.LAST} - by_mark
    if not markets <= by_mark | by_last or rng.random() < 0.5:
        return day, plan
    risk_price = rng.choice(["oracle", "index"])
    own = PriceKind.ORACLE if risk_price == "oracle" else PriceKind.INDEX
    prices = []
    for row in day.prices:
        source = PriceKind.LAST if row.market in by_last else PriceKind.MARK
        kind = row.kind
        if row.market in markets and kind in (source, PriceKind.EVENT):
            kind = own
        elif row.market in markets and kind in (PriceKind.ORACLE, PriceKind.INDEX):
            kind = PriceKind.MARK
        prices.append(row._replace(kind=kind))
    return replace(day, prices=prices), replace(plan, risk_price=cast(Any, risk_price))


def _ladder(rng: random.Random, usual: int, *, has_adl: bool, has_steps: bool) -> tuple[Rung, ...]:
    def order(size: str, tif: bool) -> BookOrder:
        sliced = size == "full" and rng.random() < 0.5
        return BookOrder(
            level=(1, 1),
            size=cast(Any, size),
            slice_above=usual if sliced else 0,
            slice_rate=RATE_ONE // 5 if sliced else RATE_ONE,
            cooldown_ns=30 * SECOND if sliced else 0,
            limit=cast(Any, rng.choice(["none", "bankruptcy", "bankruptcy", "bankruptcy_band", "mark_band"])),
            limit_bp=rng.choice([0, 50, 700]),
            fee_from_improvement=rng.random() < 0.3,
            fee_to_absorber=rng.random() < 0.3,
            all_or_nothing=tif,
            surplus_to=rng.choice(["trader", "absorber"]),
            fee_rate=rng.choice([0, 450_000_000]),
        )

    rungs: list[Rung] = [NetOwnHedge((1, 1))] if rng.random() < 0.3 else []
    if rng.random() < 0.3 and has_steps:
        rungs.append(order("step_down", True))
    rungs.append(order("full", False))
    kind = rng.random()
    if kind < 0.5:
        price = rng.choice(["bankruptcy", "bankruptcy", "mark"])
        penalty = rng.choice([0, 7 * RATE_ONE // 10]) if price == "mark" else 0
        rungs.append(Takeover((1, 1) if rng.random() < 0.5 else (2, 3), cast(Any, price), penalty))
    elif kind < 0.7 and has_adl:
        return (*rungs, Deleverage((1, 1)))
    else:
        rungs.append(Takeover((2, 3), "bankruptcy"))
    if has_adl and rng.random() < 0.7:
        rungs.append(Deleverage((0, 1)))
    return tuple(rungs)


class DeepTape(MemoryTape):
    """A day in memory with snapshots of the book."""

    def __init__(self, day: Day, depth: list[Row], seed: int) -> None:
        super().__init__(day, seed)
        self._tables["depth"] = _arrow("depth", depth)
        self._columns["depth"] = _window_columns("depth", self._tables["depth"])
        self.moments = sorted({int(ts) for table in self._columns.values() for ts in table.ts})
        self.first_ts, self.last_ts = min(self.moments, default=None), max(self.moments, default=None)
