"""The voluntary trades of the crash day: what accounts want, who takes the other side, and at what price.

An account's wish is a position to reach, as a multiple of what it held at the start (or opens with), so that
no position runs away. The public trades with market makers, who also trade with each other. Nobody trades
once in distress, and nobody is forced.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.sources.demo_crash_accounts import MAKERS, People
from replay.sources.demo_crash_margin import Fate
from replay.sources.demo_crash_markets import (
    LEDGER_OF,
    LINEAR,
    MARK_ONE,
    MARKETS,
    PRICE_ONE,
    Floats,
    Ints,
    column,
    curve,
    dollars,
    lots_of,
    value_atoms,
    whole,
)
from replay.sources.demo_crash_prices import CALM_SECONDS, CRASH_SECONDS, Paths
from replay.tape.schema import FillKind, Mode, Role
from replay.units import NS_PER_SECOND

_PACE = (
    (-CALM_SECONDS, 1.0),
    (-1800, 1.2),
    (-300, 2.5),
    (0, 8.0),
    (150, 22.0),
    (320, 30.0),
    (480, 18.0),
    (CRASH_SECONDS, 12.0),
    (1200, 7.0),
    (2690, 4.0),
)
"""Orders per second against a calm hour, by seconds from the start of the crash."""

_AMONG_MAKERS = 0.18  # of all matches
_NEW = 0.22  # of the orders of the public, in a market in which the account held nothing
_SLICE_USD = 20_000.0  # larger orders meet several makers
_MOST_SLICES = 8
_MATCHES_PER_ORDER = 1.01
_RESTING = 0.15  # of the orders of the public that wait in the book
_CAREFUL = 4.0  # accounts of more leverage add nothing

# Fees in 1e-6 of the notional, by whether the account is a market maker and whether it took.
_FEES = {(False, True): 450, (False, False): 150, (True, True): 240, (True, False): -30}

_CALM_WISHES = ((0.0, 0.12), (0.6, 0.22), (0.85, 0.22), (1.15, 0.28), (1.4, 0.16))
_LONG_WISHES = ((0.0, 0.34), (0.5, 0.32), (0.8, 0.18), (1.25, 0.16))
_SHORT_WISHES = ((0.0, 0.28), (0.5, 0.36), (0.75, 0.18), (1.2, 0.18))


@dataclass(frozen=True, slots=True)
class _Orders:
    """Orders of the day in order of time: who wants which signed quantity of what."""

    ts: Ints
    account: Ints
    market: Ints
    mode: Ints
    qty: Ints
    is_maker: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[Any]) -> _Orders:
        """Return some of the orders."""
        return _Orders(
            self.ts[rows],
            self.account[rows],
            self.market[rows],
            self.mode[rows],
            self.qty[rows],
            self.is_maker[rows],
        )


def make_trades(
    rng: np.random.Generator, people: People, fate: Fate, paths: Paths, matches: int
) -> dict[str, npt.NDArray[Any]]:
    """Make the rows of ``fills``, two a match, with about ``matches`` matches."""
    public = _public_orders(rng, people, fate, paths, int(matches * (1 - _AMONG_MAKERS) / _MATCHES_PER_ORDER))
    among = _maker_orders(rng, people, paths, int(matches * _AMONG_MAKERS))
    both = _Orders(
        *(
            np.concatenate((getattr(public, column.name), getattr(among, column.name)))
            for column in fields(_Orders)
        )
    )
    orders = both.take(np.argsort(both.ts, kind="stable"))
    price = _price_at(paths, orders.ts, orders.market)
    usd = np.abs(dollars(orders.market, orders.qty, price))
    parts = np.minimum(1 + (usd / _SLICE_USD).astype(np.int64), _MOST_SLICES)
    parts = np.minimum(parts, np.abs(orders.qty))
    owner = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    wanted = np.abs(orders.qty)
    qty = (wanted // parts)[owner] + (part < (wanted % parts)[owner])
    sliced = orders.take(owner)
    sign = np.sign(sliced.qty)
    maker = _counterparties(rng, people, sliced)
    rests = (rng.random(len(parts)) < _RESTING)[owner] & ~sliced.is_maker
    aggressor = np.where(rests, -sign, sign)
    ticks = _execution_price(rng, paths, sliced, price[owner], aggressor, part)
    return _rows(people, sliced, qty * sign, maker, rests, ticks)


def _moments(rng: np.random.Generator, paths: Paths, count: int) -> Ints:
    """Draw moments (ns, whole milliseconds) at the pace of the day."""
    seconds, pace = curve(_PACE)
    areas = np.diff(seconds) * (pace[1:] + pace[:-1]) / 2
    reached = np.concatenate(([0.0], np.cumsum(areas)))
    piece = np.searchsorted(reached, rng.random(count) * reached[-1], side="right") - 1
    within = rng.random(count)
    at = seconds[piece] + within * np.diff(seconds)[piece]
    milliseconds = whole(at * 1000)
    return paths.crash + np.maximum(milliseconds, -CALM_SECONDS * 1000 + 500) * (NS_PER_SECOND // 1000)


def _public_orders(rng: np.random.Generator, people: People, fate: Fate, paths: Paths, count: int) -> _Orders:
    """Return what the public wants, as changes of positions that follow from wishes."""
    held = np.flatnonzero(people.account >= people.kind_of(MAKERS).stop)
    usd = np.abs(dollars(people.market[held], people.size[held], paths.prices[0][people.market[held]]))
    weight = np.sqrt(np.sqrt(usd))
    chosen = held[rng.choice(len(held), int(count * (1 - _NEW)), p=weight / weight.sum())]
    fresh = _fresh_pairs(rng, people, fate, paths, int(count * _NEW * 0.55))
    pairs = np.unique(chosen)
    pair_of = np.concatenate(
        (
            np.searchsorted(pairs, chosen),
            len(pairs) + rng.integers(0, len(fresh["account"]), count - len(chosen)),
        )
    )
    account = np.concatenate((people.account[pairs], fresh["account"]))
    market = np.concatenate((people.market[pairs], fresh["market"]))
    mode = np.concatenate((people.mode[pairs], np.full(len(fresh["account"]), Mode.CROSS)))
    pool = np.concatenate((people.pool[pairs], fresh["pool"]))
    opening = np.concatenate((people.size[pairs], 0 * fresh["size"]))
    base = np.concatenate((people.size[pairs], fresh["size"]))
    moments = _moments(rng, paths, count)
    alive = moments < fate.distress[pool[pair_of]]
    pair_of, moments = pair_of[alive], moments[alive]
    order = np.lexsort((moments, pair_of))
    pair_of, moments = pair_of[order], moments[order]
    is_first = np.diff(pair_of, prepend=-1) != 0
    is_new = opening[pair_of] == 0
    wish = _wishes(rng, (moments - paths.crash) / NS_PER_SECOND, base[pair_of])
    careful = (fate.leverage[pool[pair_of]] > _CAREFUL) | (mode[pair_of] == Mode.ISOLATED)
    wish = np.where(is_new & is_first, 1.0, np.where(careful, np.minimum(wish, 1.0), wish))
    target = whole(base[pair_of] * wish)
    before = np.where(is_first, opening[pair_of], np.roll(target, 1))
    qty = target - before
    moves = np.flatnonzero(qty)
    who = pair_of[moves]
    return _Orders(
        moments[moves], account[who], market[who], mode[who], qty[moves], np.zeros(len(moves), bool)
    )


def _fresh_pairs(
    rng: np.random.Generator, people: People, fate: Fate, paths: Paths, count: int
) -> dict[str, Ints]:
    """Return accounts and markets in which they hold nothing at the start, with the size they open."""
    able = np.flatnonzero(
        (people.pool_market < 0)
        & (people.pool_ledger == 0)
        & (people.pool_account >= people.kind_of(MAKERS).stop)
        & (fate.leverage < _CAREFUL)
        & (fate.gross > 0.0)
    )
    pool = able[rng.integers(0, len(able), count)]
    chance = column("popularity")[:LINEAR]
    market = rng.choice(LINEAR, count, p=chance / chance.sum()).astype(np.int64)
    account = people.pool_account[pool]
    key = account * len(MARKETS) + market
    _, first = np.unique(key, return_index=True)
    is_first = np.zeros(count, bool)
    is_first[first] = True
    kept = is_first & ~np.isin(key, people.account * len(MARKETS) + people.market)
    side = np.where(rng.random(count) < 0.62, 1.0, -1.0)
    usd = side * fate.gross[pool] * rng.uniform(0.1, 0.5, count)
    size = lots_of(market, usd, paths.prices[0][market])
    return {"account": account[kept], "market": market[kept], "pool": pool[kept], "size": size[kept]}


def _wishes(rng: np.random.Generator, seconds: Floats, base: Ints) -> Floats:
    """Draw what accounts want to hold, as a multiple of what they held: calm before, fear and greed after."""
    draw = rng.random(len(seconds))

    def pick(wishes: tuple[tuple[float, float], ...]) -> Floats:
        multiples, chances = curve(wishes)
        return multiples[np.searchsorted(np.cumsum(chances)[:-1], draw, side="right")]

    calm = (seconds < 0.0) | (seconds > 2.0 * CRASH_SECONDS)
    return np.where(calm, pick(_CALM_WISHES), np.where(base > 0, pick(_LONG_WISHES), pick(_SHORT_WISHES)))


def _maker_orders(rng: np.random.Generator, people: People, paths: Paths, count: int) -> _Orders:
    """Return the orders by which market makers trade with each other."""
    chance = np.append(column("popularity")[:LINEAR], 0.08)
    market = rng.choice(len(MARKETS), count, p=chance / chance.sum()).astype(np.int64)
    ts = _moments(rng, paths, count)
    side = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    usd = side * np.clip(4_000.0 * rng.lognormal(0.0, 1.1, count), 50.0, 1.5e5)
    makers = people.kind_of(MAKERS).stop
    account = rng.integers(0, makers, count)
    qty = lots_of(market, usd, _price_at(paths, ts, market))
    return _Orders(ts, account, market, np.full(count, int(Mode.CROSS)), qty, np.ones(count, bool))


def _counterparties(rng: np.random.Generator, people: People, orders: _Orders) -> Ints:
    """Return the market maker on the other side of each order, never the one who sent it."""
    makers = people.kind_of(MAKERS).stop
    weight = rng.uniform(0.2, 1.0, makers)
    maker = rng.choice(makers, len(orders.ts), p=weight / weight.sum()).astype(np.int64)
    return np.where(maker == orders.account, (maker + 1) % makers, maker)


def _price_at(paths: Paths, ts: Ints, market: Ints) -> Floats:
    """Return the price between the marks before and after each moment, in dollars."""
    step = paths.step_at(ts)
    after = np.minimum(step + 1, len(paths.ts) - 1)
    length = np.maximum(paths.ts[after] - paths.ts[step], 1)
    share = (ts - paths.ts[step]) / length
    low, high = paths.marks[step, market], paths.marks[after, market]
    price: Floats = (low + share * (high - low)) / MARK_ONE[market]
    return price


def _execution_price(
    rng: np.random.Generator, paths: Paths, orders: _Orders, price: Floats, aggressor: Ints, part: Ints
) -> Ints:
    """Return execution prices in ticks: who takes pays half a spread, more when books are thin."""
    liquidity = np.minimum(paths.liquidity[paths.step_at(orders.ts), orders.market], 1.0)
    cost = 0.00008 + 0.0012 * (1.0 - liquidity) ** 2 + 0.0001 * part * (1.0 + 4.0 * (1.0 - liquidity))
    cost = cost * rng.uniform(0.5, 1.5, len(price))
    return np.maximum(whole(price * (1.0 + aggressor * cost) * PRICE_ONE[orders.market]), 1)


def _rows(
    people: People, orders: _Orders, qty: Ints, maker: Ints, rests: npt.NDArray[np.bool_], ticks: Ints
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of ``fills``: of each match first the row that rested, then the row that took."""
    count = len(qty)
    first = np.where(rests, orders.account, maker)
    second = np.where(rests, maker, orders.account)
    account = np.stack((first, second), axis=1).ravel()
    signed = np.where(rests, qty, -qty)
    both = np.stack((signed, -signed), axis=1).ravel()
    makers = people.kind_of(MAKERS).stop
    market = np.repeat(orders.market, 2)
    mode = np.where(account == np.repeat(orders.account, 2), np.repeat(orders.mode, 2), int(Mode.CROSS))
    takes = np.tile(np.array([False, True]), count)
    price = np.repeat(ticks, 2)
    rate = np.empty(2 * count, np.int64)
    for (is_maker, taker), millionths in _FEES.items():
        rate[((account < makers) == is_maker) & (takes == taker)] = millionths
    value = value_atoms(market, both, price)
    fee = np.sign(rate) * (value * np.abs(rate) // 1_000_000)
    return {
        "ts": np.repeat(orders.ts, 2),
        "market": market,
        "account": account,
        "qty": both,
        "price": price,
        "fee": fee,
        "fee_ledger": LEDGER_OF[market],
        "role": np.where(takes, int(Role.TAKER), int(Role.MAKER)),
        "kind": np.full(2 * count, int(FillKind.TRADE)),
        "match": np.repeat(np.arange(count), 2),
        "paired": np.ones(2 * count, np.int64),
        "start_position": _start_positions(people, account, market, mode, both),
        "mode": mode,
    }


def _start_positions(people: People, account: Ints, market: Ints, mode: Ints, qty: Ints) -> Ints:
    """Return the position before each row: the opening size and all quantities of the chain before it."""
    opened = _chain_key(people.account, people.market, people.mode)
    key = np.concatenate((opened, _chain_key(account, market, mode)))
    change = np.concatenate((people.size, qty))
    order = np.argsort(key, kind="stable")
    total = np.cumsum(change[order])
    is_first = np.diff(key[order], prepend=-1) != 0
    before_chain = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    start = np.empty_like(total)
    start[order] = total - change[order] - (total - change[order])[before_chain]
    return start[len(opened) :]


def _chain_key(account: Ints, market: Ints, mode: Ints) -> Ints:
    return (account * len(MARKETS) + market) * len(Mode) + mode
