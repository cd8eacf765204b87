"""Who is there when the crash day starts: accounts, their pools and their positions.

Seven kinds of accounts, the public long-biased, and market makers who hold the other side of all of them, so
that the sizes of each market sum to zero. Cash follows from the leverage an account is meant to have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from replay.sources.demo_crash_markets import (
    BTC,
    INVERSE,
    LEDGER_OF,
    LINEAR,
    MARK_ONE,
    MARKETS,
    PRICE_ONE,
    Floats,
    Ints,
    coin_value,
    column,
    dollars,
    lots_of,
    whole,
)
from replay.tape.schema import Mode
from replay.units import ATOM

MAKERS = "maker"
PUBLIC_SHARES = {
    "long": 0.66,
    "short": 0.12,
    "isolated": 0.10,
    "hedged": 0.05,
    "coin": 0.05,
    "basis": 0.02,
}
"""Share of each kind among the accounts that are no market makers; the first takes what is left over."""

ETH = 1
_LARGEST = 12e6  # dollars of one account of the public
_LEAST_CASH = 0.01  # of gross notional
_OVER_INITIAL = 1.1  # equity at the start is at least so much of the initial margin


@dataclass(slots=True)
class People:
    """Accounts, pools and positions at the start of the day, each a column by its id.

    Attributes:
        names: Names of the accounts.
        kinds: First account and the one after the last, by kind.
        pool_account: Account of each pool.
        pool_ledger: Its ledger.
        pool_market: Market of an isolated pool, -1 of a cross pool.
        pool_cash: Its cash in atoms.
        account: Account of each position.
        market: Its market.
        mode: 0 cross, 1 isolated.
        pool: Its pool.
        size: Signed lots.
        entry: Entry price in ``10**-price_digits``.
    """

    names: list[str]
    kinds: dict[str, tuple[int, int]]
    pool_account: Ints
    pool_ledger: Ints
    pool_market: Ints
    pool_cash: Ints
    account: Ints
    market: Ints
    mode: Ints
    pool: Ints
    size: Ints
    entry: Ints

    def kind_of(self, kind: str) -> slice:
        """Return the accounts of a kind as a slice of account ids."""
        return slice(*self.kinds[kind])


@dataclass(slots=True)
class _Draft:
    """Positions while they are collected: dollars and entry as a share of the first mark."""

    account: list[Ints] = field(default_factory=list)
    market: list[Ints] = field(default_factory=list)
    isolated: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    amount: list[Floats] = field(default_factory=list)
    entry: list[Floats] = field(default_factory=list)

    def add(
        self, account: Ints, market: Ints | int, amount: Floats, entry: Floats, *, isolated: bool = False
    ) -> None:
        self.account.append(account)
        self.market.append(np.broadcast_to(np.asarray(market, np.int64), account.shape))
        self.isolated.append(np.full(account.shape, isolated))
        self.amount.append(amount)
        self.entry.append(entry)


def make_people(rng: np.random.Generator, accounts: int, first_marks: Ints) -> People:
    """Make the accounts of the day.

    Args:
        rng: Random numbers.
        accounts: How many.
        first_marks: int64[markets], marks at the start of the day.
    """
    prices = first_marks / MARK_ONE
    kinds = _kinds(accounts)
    draft = _Draft()
    leverage = np.ones(accounts)
    _add_longs(rng, draft, leverage, kinds["long"])
    _add_shorts(rng, draft, leverage, kinds["short"])
    _add_isolated(rng, draft, leverage, kinds["isolated"])
    _add_hedged(rng, draft, leverage, kinds["hedged"])
    _add_coin(rng, draft, leverage, kinds["coin"])
    _add_basis(rng, draft, leverage, kinds["basis"])
    account, market = np.concatenate(draft.account), np.concatenate(draft.market)
    isolated = np.concatenate(draft.isolated)
    size = lots_of(market, np.concatenate(draft.amount), prices[market])
    entry = prices[market] * np.concatenate(draft.entry)
    held = _held_by_makers(rng, kinds[MAKERS], market, size)
    makers, theirs = (axis.ravel() for axis in np.indices(held.shape))
    is_held = held.ravel() != 0
    leverage[: len(held)] = rng.uniform(1.4, 3.2, len(held))
    account = np.concatenate((makers[is_held], account))
    market = np.concatenate((theirs[is_held], market))
    size = np.concatenate((held.ravel()[is_held], size))
    entry = np.concatenate((prices[theirs[is_held]] * rng.uniform(0.985, 1.015, is_held.sum()), entry))
    isolated = np.concatenate((np.zeros(is_held.sum(), bool), isolated))
    order = np.lexsort((market, account))
    return _with_pools(
        rng,
        kinds,
        leverage,
        prices,
        account[order],
        market[order],
        isolated[order],
        size[order],
        whole(entry[order] * PRICE_ONE[market[order]]),
    )


def _kinds(accounts: int) -> dict[str, tuple[int, int]]:
    """Share the account ids out over the kinds."""
    makers = max(8, accounts // 1000)
    public = accounts - makers
    counts = {kind: int(public * share) for kind, share in PUBLIC_SHARES.items()}
    counts["long"] += public - sum(counts.values())
    kinds = {}
    first = 0
    for kind, count in {MAKERS: makers, **counts}.items():
        kinds[kind] = (first, first + count)
        first += count
    return kinds


def _gross(rng: np.random.Generator, count: int, median: float, *, tail: float) -> Floats:
    """Return dollars of gross notional: lognormal, and for a share ``tail`` of accounts Pareto."""
    body = median * rng.lognormal(0.0, 1.4, count)
    large = 60_000.0 * (1.0 + rng.pareto(1.05, count))
    return np.clip(np.where(rng.random(count) < tail, large, body), 50.0, _LARGEST)


def _leverage(rng: np.random.Generator, count: int, median: float, spread: float, most: float) -> Floats:
    return np.clip(median * rng.lognormal(0.0, spread, count), 0.3, most)


def _picks(rng: np.random.Generator, count: int, most: int) -> Ints:
    """Return ``most`` different linear markets for each of ``count`` accounts, popular ones first."""
    keys = rng.exponential(size=(count, LINEAR)) / column("popularity")[:LINEAR]
    return np.argsort(keys, axis=1, kind="stable")[:, :most].astype(np.int64)


def _spread(
    rng: np.random.Generator, kind: tuple[int, int], gross: Floats, chances: tuple[float, ...]
) -> tuple[Ints, Ints, Floats]:
    """Spread the gross notional of accounts over one to ``len(chances)`` markets, as rows of positions."""
    count = kind[1] - kind[0]
    most = len(chances)
    held = 1 + np.searchsorted(np.cumsum(chances)[:-1], rng.random(count), side="right")
    weights = rng.uniform(0.3, 1.0, (count, most)) * (np.arange(most) < held[:, None])
    amounts = gross[:, None] * weights / weights.sum(axis=1, keepdims=True)
    account = np.repeat(np.arange(*kind), most).reshape(count, most)
    used = weights > 0.0
    return account[used].astype(np.int64), _picks(rng, count, most)[used], amounts[used]


def _add_longs(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Cross accounts that are long, a few positions short; some bought long ago, most lately."""
    count = kind[1] - kind[0]
    leverage[slice(*kind)] = _leverage(rng, count, 1.35, 0.95, 32.0)
    gross = _gross(rng, count, 2_800.0, tail=0.02)
    account, market, amount = _spread(rng, kind, gross, (0.55, 0.25, 0.12, 0.08))
    side = np.where(rng.random(len(account)) < 0.07, -1.0, 1.0)
    old = rng.random(len(account)) < 0.3
    entry = np.where(old, rng.uniform(0.70, 1.0, len(account)), rng.uniform(0.97, 1.05, len(account)))
    draft.add(account, market, side * amount, entry)


def _add_shorts(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Cross accounts that are short, most of them since higher prices: the winners of the day."""
    count = kind[1] - kind[0]
    leverage[slice(*kind)] = _leverage(rng, count, 2.0, 0.9, 25.0)
    gross = _gross(rng, count, 6_000.0, tail=0.03)
    account, market, amount = _spread(rng, kind, gross, (0.6, 0.25, 0.15))
    old = rng.random(len(account)) < 0.5
    highest = np.where(market <= ETH, 1.15, 2.2)
    entry = np.where(old, rng.uniform(1.0, highest), rng.uniform(0.94, 1.02, len(account)))
    draft.add(account, market, -amount, entry)


def _add_isolated(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Accounts with isolated positions of high leverage, most of them long, and spare cash beside them."""
    count = kind[1] - kind[0]
    leverage[slice(*kind)] = _leverage(rng, count, 3.2, 0.75, 36.0)
    account, market, amount = _spread(rng, kind, _gross(rng, count, 2_000.0, tail=0.005), (0.7, 0.3))
    side = np.where(rng.random(len(account)) < 0.22, -1.0, 1.0)
    draft.add(account, market, side * amount, rng.uniform(0.96, 1.03, len(account)), isolated=True)


def _add_hedged(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Accounts long a small market and short BTC or ETH for about as much."""
    count = kind[1] - kind[0]
    leverage[slice(*kind)] = _leverage(rng, count, 3.5, 0.45, 12.0)
    account = np.arange(*kind, dtype=np.int64)
    weights = np.where(np.arange(LINEAR) > ETH, column("popularity")[:LINEAR], 0.0)
    alt = rng.choice(LINEAR, count, p=weights / weights.sum()).astype(np.int64)
    major = np.where(rng.random(count) < 0.6, BTC, ETH).astype(np.int64)
    amount = 0.5 * _gross(rng, count, 20_000.0, tail=0.03)
    draft.add(account, alt, amount, rng.uniform(0.85, 1.05, count))
    draft.add(account, major, -amount * rng.uniform(0.7, 1.15, count), rng.uniform(0.97, 1.06, count))


def _add_coin(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Accounts with coin as margin: longs with leverage, and holders short once their coin."""
    count = kind[1] - kind[0]
    is_long = rng.random(count) < 0.65
    leverage[slice(*kind)] = np.where(is_long, _leverage(rng, count, 4.0, 0.7, 25.0), 1.0)
    amount = _gross(rng, count, 6_000.0, tail=0.015)
    account = np.arange(*kind, dtype=np.int64)
    entry = np.where(is_long, rng.uniform(0.94, 1.03, count), rng.uniform(0.95, 1.05, count))
    draft.add(account, INVERSE, np.where(is_long, amount, -amount), entry)


def _add_basis(rng: np.random.Generator, draft: _Draft, leverage: Floats, kind: tuple[int, int]) -> None:
    """Accounts long the inverse market in coin and short the linear one in dollars, for the same amount."""
    count = kind[1] - kind[0]
    leverage[slice(*kind)] = _leverage(rng, count, 4.0, 0.35, 9.0)
    amount = _gross(rng, count, 25_000.0, tail=0.02)
    account = np.arange(*kind, dtype=np.int64)
    draft.add(account, INVERSE, amount, rng.uniform(0.97, 1.01, count))
    draft.add(account, BTC, -amount * rng.uniform(0.95, 1.05, count), rng.uniform(0.99, 1.03, count))


def _held_by_makers(rng: np.random.Generator, kind: tuple[int, int], market: Ints, size: Ints) -> Ints:
    """Return int64[makers, markets]: the opposite of what the public holds, shared out with both signs."""
    makers = kind[1] - kind[0]
    total = np.zeros(len(MARKETS), np.int64)
    np.add.at(total, market, size)
    volume = np.zeros(len(MARKETS), np.int64)
    np.add.at(volume, market, np.abs(size))
    weight = rng.uniform(0.2, 1.0, makers)
    mine = np.outer(weight / weight.sum(), -total.astype(np.float64))
    swing = rng.standard_normal((makers, len(MARKETS)))
    swing -= swing.mean(axis=0)
    held = whole(mine + swing * (0.54 * volume / makers))
    held[-1] = -total - held[:-1].sum(axis=0)
    return held


def _with_pools(
    rng: np.random.Generator,
    kinds: dict[str, tuple[int, int]],
    leverage: Floats,
    prices: Floats,
    account: Ints,
    market: Ints,
    isolated: npt.NDArray[np.bool_],
    size: Ints,
    entry: Ints,
) -> People:
    """Give every account its pools and cash, from positions sorted by account and market."""
    ledger = LEDGER_OF[market]
    margined = np.where(isolated, market, -1)
    keys = np.stack((account, ledger, margined), axis=1)
    spare = np.arange(*kinds["isolated"])
    keys = np.concatenate((keys, np.stack((spare, 0 * spare, 0 * spare - 1), axis=1)))
    pools, where = np.unique(keys, axis=0, return_inverse=True)
    pool = where.ravel()[: len(account)].astype(np.int64)
    gross = np.zeros(len(pools))
    initial = np.zeros(len(pools))
    profit = np.zeros(len(pools))
    price = prices[market]
    notional = np.abs(dollars(market, size, price))
    np.add.at(gross, pool, notional)
    np.add.at(initial, pool, notional / column("leverage")[market])
    paid = coin_value(market, size, entry / PRICE_ONE[market])
    np.add.at(profit, pool, coin_value(market, size, price) - paid)
    in_coin = pools[:, 1] == 1
    rate = np.where(in_coin, prices[INVERSE], 1.0)
    gross, initial = gross / rate, initial / rate
    wanted = np.maximum(gross / leverage[pools[:, 0]], _OVER_INITIAL * initial) - profit
    is_spare = (pools[:, 2] < 0) & (gross == 0.0)
    wanted = np.where(is_spare, rng.lognormal(7.0, 1.2, len(pools)), np.maximum(wanted, _LEAST_CASH * gross))
    cents = np.where(in_coin, 1, ATOM // 100)
    cash = whole(wanted * ATOM / cents) * cents
    names = [
        f"{kind}-{number:05d}" for kind, (first, end) in kinds.items() for number in range(1, end - first + 1)
    ]
    return People(
        names=names,
        kinds=kinds,
        pool_account=pools[:, 0],
        pool_ledger=pools[:, 1],
        pool_market=pools[:, 2],
        pool_cash=cash,
        account=account,
        market=market,
        mode=np.where(isolated, Mode.ISOLATED, Mode.CROSS).astype(np.int64),
        pool=pool,
        size=size,
        entry=entry,
    )
