"""Random days, the way to write them as tapes, and hypothesis strategies for numbers near the bounds.

A day is small and dense: everything a tape may hold happens within a few dozen steps, prices jump, and
accounts hold little cash against large positions, so that a replay under rules has much to force.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from replay.tape.read import Tape
from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind, Role, TransferKind
from replay.tape.write import TapeWriter
from replay.units import BOUND, NS_PER_SECOND
from tests.reference import (
    ATOMS,
    Day,
    Fill,
    Funding,
    Liquidation,
    Market,
    OpeningCash,
    OpeningPosition,
    OwnMargin,
    Price,
    Rules,
    Tier,
    Transfer,
    contract_value,
)

Item = TypeVar("Item")

# --- numbers -----------------------------------------------------------------------------------------


def near_powers(bits: int) -> st.SearchStrategy[int]:
    """Return non-negative integers below ``2**bits``, many of them near powers of two and of ten."""
    limit = (1 << bits) - 1
    edges = [1 << k for k in range(bits)] + [10**k for k in range(19) if 10**k <= limit]
    near = st.builds(
        lambda edge, step: min(limit, max(0, edge + step)), st.sampled_from(edges), st.integers(-2, 2)
    )
    return near | st.integers(0, limit) | st.integers(0, min(limit, 1_000))


def muldiv_triples() -> st.SearchStrategy[tuple[int, int, int]]:
    """Return ``(a, b, d)`` over the whole range of ``muldiv``, some quotients near its limits or halves."""
    whole = st.tuples(near_powers(62), near_powers(62), near_powers(62).map(lambda d: max(1, d)))

    def aim(a: int, b: int, quotient: int, step: int) -> tuple[int, int, int]:
        return a, b, min(BOUND - 1, max(1, a * b // quotient + step))

    large = st.integers(1 << 55, BOUND - 1)
    aimed = st.builds(
        aim, large, large, st.sampled_from([1, 2, 3, BOUND, BOUND - 1, 1 << 63, 1 << 64]), st.integers(-2, 2)
    )
    return whole | aimed


def random_triple(rng: random.Random) -> tuple[int, int, int]:
    """Return one ``(a, b, d)``: any lengths, or a divisor that brings the quotient below 2**62."""
    a, b = rng.getrandbits(rng.randint(1, 62)), rng.getrandbits(rng.randint(1, 62))
    least = a * b // BOUND + 1
    if rng.random() < 0.8 and least < BOUND:
        d = min(BOUND - 1, least + rng.getrandbits(rng.randint(0, 61)))
    else:
        d = rng.getrandbits(rng.randint(1, 62))
    return a, b, max(1, d)


def decimal_texts() -> st.SearchStrategy[str]:
    """Return literals of decimal numbers: signs, leading and trailing zeros, exponents."""
    digits = st.text("0123456789", min_size=1, max_size=25)
    fraction = st.none() | st.text("0123456789", max_size=25) | st.text("05", max_size=12)
    exponent = st.none() | st.integers(-30, 30)

    def write(sign: str, whole: str, rest: str | None, power: int | None, letter: str) -> str:
        return (
            sign
            + whole
            + ("" if rest is None else f".{rest}")
            + ("" if power is None else f"{letter}{power}")
        )

    return st.builds(
        write, st.sampled_from(["", "-", "+"]), digits, fraction, exponent, st.sampled_from("eE")
    )


# --- random days -------------------------------------------------------------------------------------

MAIN_USD, OTHER_USD, TOKENS = 0, 1, 2
LEDGERS = [("", "USDC"), ("xyz", "USDC"), ("spot", "HYPE")]
DAY_NS = 86_400 * NS_PER_SECOND

CONTRACTS: Sequence[tuple[Payoff, Fraction, int, int, float]] = (
    # payoff, multiplier, digits of prices, digits of quantities, first price
    (Payoff.LINEAR, Fraction(1), 1, 5, 20_000.0),  # 100 atoms a lot and tick
    (Payoff.LINEAR, Fraction(1), 2, 2, 25.0),
    (Payoff.LINEAR, Fraction(1), 6, 0, 0.3),
    (Payoff.LINEAR, Fraction(1), 5, 5, 1.7),  # 1/100 atom: values are rounded
    (Payoff.LINEAR, Fraction(1, 1_000), 3, 4, 1_800.0),  # 1/100 atom
    (Payoff.LINEAR, Fraction(1, 3), 2, 1, 90.0),  # thirds of atoms
    (Payoff.LINEAR, Fraction(3, 7), 4, 6, 55.0),
    (Payoff.LINEAR, Fraction(1_000), 0, 0, 7.0),
    (Payoff.INVERSE, Fraction(100), 1, 0, 20_000.0),
    (Payoff.INVERSE, Fraction(1), 2, 0, 1_500.0),
    (Payoff.INVERSE, Fraction(10), 4, 1, 5.0),
)


@dataclass
class _Recorded:
    """What the generator knows of a position: where the tape says it is, and whether it is on the tape."""

    size: int = 0
    seen: bool = False


@dataclass
class _Maker:
    """The making of one day: its dice, and what the rows so far amount to."""

    rng: random.Random
    day: Day
    prices: list[int]  # current price of each market, at price scale
    sources: list[str]  # what marks each market: "mark", "last" or "fills"
    notional: int  # usual value of a fill in atoms
    starts: float  # share of fills that tell their start position
    isolated: float
    moves: Sequence[float]  # shares of price a market may move by
    trading: float  # share of the usual count of matches
    recorded: dict[tuple[str, int, int], _Recorded] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)  # markets that have a mark in every mode of replay
    liquidation: int = 0

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.rng.random() * len(items))]

    # -- numbers

    def lots(self, market: int, share: float) -> int:
        """Return a quantity worth about ``share`` of the usual value."""
        spec = self.day.markets[market]
        one = max(1, abs(contract_value(spec, 1_000, self.prices[market], spec.price_scale)))
        return max(1, int(self.notional * share) * 1_000 // one)

    def quantity(self, market: int) -> int:
        qty = self.lots(market, self.pick([0.001, 0.1, 0.5, 1.0, 1.0, 2.0, 5.0]) * (0.5 + self.rng.random()))
        return qty if self.chance(0.5) else -qty

    def price_near(self, market: int, spread: float) -> int:
        return max(1, round(self.prices[market] * (1 + spread * (2 * self.rng.random() - 1))))

    def fee(self, market: int, fee_ledger: int) -> int:
        if self.chance(0.2):
            return 0
        scale = self.notional if fee_ledger == self.day.markets[market].ledger else 10 * ATOMS
        return round(scale * 0.002 * (self.rng.random() - 0.3))

    # -- rows

    def jump(self, market: int) -> None:
        size = self.pick(self.moves)
        self.prices[market] = min(
            max(10, self.price_near(market, size)), 50 * first_price(self.day.markets[market])
        )

    def price_rows(self, ts: int, market: int) -> None:
        self.jump(market)
        spec = self.day.markets[market]
        finer = 10 ** (spec.mark_scale - spec.price_scale)
        kinds = {
            "mark": [PriceKind.MARK] * 6
            + [PriceKind.LAST, PriceKind.INDEX, PriceKind.EVENT, PriceKind.IMPLIED],
            "last": [PriceKind.LAST] * 6 + [PriceKind.ORACLE, PriceKind.EVENT, PriceKind.IMPLIED],
            "fills": [PriceKind.INDEX, PriceKind.ORACLE, PriceKind.IMPLIED],
        }[self.sources[market]]
        for _ in range(self.pick([1, 1, 1, 2])):
            kind = self.pick(kinds)
            price = max(1, self.price_near(market, 0.002) * finer + int(self.rng.random() * finer))
            self.day.prices.append(Price(ts, market, kind, price))
            sets = {PriceKind.MARK, PriceKind.EVENT} | (
                {PriceKind.LAST} if self.sources[market] == "last" else set()
            )
            if kind in sets:
                self.marked.add(market)

    def transfer_row(self, ts: int) -> None:
        market = None
        ledger = self.pick([MAIN_USD, MAIN_USD, OTHER_USD, TOKENS])
        if self.chance(self.isolated):
            market = self.pick([m for m, spec in enumerate(self.day.markets)])
            ledger = self.day.markets[market].ledger
            market = None if self.day.markets[market].payoff == Payoff.SPOT else market
        amount = round(self.notional * 0.2 * (self.rng.random() - 0.4))
        self.day.transfers.append(Transfer(ts, self.pick(self.day.accounts), ledger, market, amount))

    def mode(self) -> int:
        return Mode.ISOLATED if self.chance(self.isolated) else Mode.CROSS

    def start(self, key: tuple[str, int, int]) -> int | None:
        """Return what the row says of the position before it: usually the truth, if anything."""
        if not self.chance(self.starts):
            return None
        known = self.recorded[key]
        if not known.seen and self.chance(0.4):
            return self.quantity(key[1])
        if self.chance(0.03):
            return known.size + self.quantity(key[1])
        return known.size

    def fill_row(
        self,
        ts: int,
        key: tuple[str, int, int],
        qty: int,
        price: int,
        kind: FillKind,
        *,
        paired: bool,
        victim: str | None,
    ) -> None:
        account, market, mode = key
        known = self.recorded.setdefault(key, _Recorded())
        spec = self.day.markets[market]
        fee_ledger = TOKENS if self.chance(0.05) else spec.ledger
        start = self.start(key)
        fee = self.fee(market, fee_ledger)
        self.day.fills.append(
            Fill(ts, market, account, qty, price, fee, fee_ledger, kind, int(paired), victim, start, mode)
        )
        known.size = qty + (known.size if start is None else start)
        known.seen = True
        if self.sources[market] == "fills" and kind == FillKind.TRADE and spec.payoff != Payoff.SPOT:
            self.marked.add(market)

    def match_rows(self, ts: int, market: int) -> None:
        """Write one match: both rows, or the one whose other side the tape does not tell."""
        if self.day.markets[market].payoff == Payoff.SPOT or self.chance(0.3):
            self.jump(market)
        price = self.price_near(market, 0.003)
        spot = self.day.markets[market].payoff == Payoff.SPOT
        qty = self.quantity(market)
        first = self.pick(self.day.accounts)
        key = (first, market, Mode.CROSS if spot else self.mode())
        known = self.recorded.get(key, _Recorded())
        if known.size and self.chance(0.5):  # close, reduce or flip what there is
            qty = -known.size if self.chance(0.4) else -round(known.size * 2 * self.rng.random()) or 1
        paired = self.chance(0.7)
        self.fill_row(ts, key, qty, price, FillKind.TRADE, paired=paired, victim=None)
        if paired:
            other = (self.pick(self.day.accounts), market, Mode.CROSS if spot else self.mode())
            self.fill_row(ts, other, -qty, price, FillKind.TRADE, paired=True, victim=None)

    def forced_rows(self, ts: int) -> None:
        """Write a recorded liquidation: forced fills of one position or of all, and usually its report."""
        held = {key: known.size for key, known in self.recorded.items() if known.size}
        held = {key: size for key, size in held.items() if self.day.markets[key[1]].payoff != Payoff.SPOT}
        if not held:
            return
        first = self.pick(list(held))
        legs = [first]
        if self.chance(0.4):
            legs += [key for key in held if key[0] == first[0] and key != first]
        kind = self.pick(
            [FillKind.LIQUIDATION] * 4 + [FillKind.BACKSTOP] * 2 + [FillKind.ADL, FillKind.SETTLEMENT]
        )
        self.report_rows(ts, legs)
        for key in legs:
            for qty in [-held[key]] if self.chance(0.6) else self.pieces(-held[key]):
                self.forced_match(ts, key, qty, kind)

    def forced_match(self, ts: int, key: tuple[str, int, int], qty: int, kind: FillKind) -> None:
        """Write one forced match: both rows, or the victim's, or the other side's alone."""
        victim, market, _ = key
        price = self.price_near(market, 0.01)
        other = (self.pick([name for name in self.day.accounts if name != victim]), market, self.mode())
        side = self.rng.random()
        if side < 0.9:
            self.fill_row(ts, key, qty, price, kind, paired=side < 0.7, victim=victim)
        if side < 0.7 or side >= 0.9:
            self.fill_row(ts, other, -qty, price, kind, paired=side < 0.7, victim=victim)

    def pieces(self, qty: int) -> list[int]:
        first = round(qty * self.rng.random()) or qty
        rest = round((qty - first) * self.pick([0.0, 0.5, 1.0]))
        return [piece for piece in (first, rest) if piece]

    def report_rows(self, ts: int, keys: Sequence[tuple[str, int, int]]) -> None:
        """Write the report of a liquidation: a row per market, at times one that has no forced fill."""
        if self.chance(0.25):
            return
        account, _, mode = keys[0]
        words = "Isolated" if mode == Mode.ISOLATED else self.pick(["Cross", "cross", "Cross", None])
        equity = None if self.chance(0.2) else round(self.notional * 0.05 * (self.rng.random() - 0.3))
        legs: list[int | None] = list(dict.fromkeys(market for _, market, _ in keys))
        if self.chance(0.05):
            legs[0] = None
        elif self.chance(0.2):
            legs += [market for market in range(len(self.day.markets)) if market not in legs][:1]
        for leg in legs:
            self.day.liquidations.append(Liquidation(ts, self.liquidation, account, leg, words, equity))
        self.liquidation += 1

    def step(self, ts: int) -> None:
        markets = range(len(self.day.markets))
        fundable = sorted(self.marked)
        for market in markets:
            if self.chance(0.3) and self.day.markets[market].payoff != Payoff.SPOT:
                self.price_rows(ts, market)
        for _ in range(self.pick([0, 0, 0, 1, 2])):
            self.transfer_row(ts)
        if fundable and self.chance(0.1):
            rate = round(10**12 * self.pick([0.0001, 0.001, 0.02]) * (2 * self.rng.random() - 1))
            self.day.funding.append(Funding(ts, self.pick(fundable), rate))
        for _ in range(self.pick([0, 1, 1, 2, 3]) if self.chance(self.trading) else 0):
            self.match_rows(ts, self.pick(markets))
        if self.chance(0.15):
            self.forced_rows(ts)
        if self.chance(0.3 * self.trading):
            self.match_rows(ts, self.pick(markets))


def first_price(market: Market) -> int:
    """Return the price a market of a random day starts at, at price scale."""
    start = next(
        price
        for payoff, multiplier, price_scale, qty_scale, price in (*CONTRACTS, SPOT)
        if (payoff, multiplier, price_scale, qty_scale)
        == (market.payoff, market.multiplier, market.price_scale, market.qty_scale)
    )
    return round(Fraction(start) * Fraction(10) ** market.price_scale)


SPOT = (Payoff.SPOT, Fraction(1), 3, 2, 20.0)


def random_day(seed: int, *, steps: int | None = None, accounts: int | None = None) -> Day:
    """Make a day from a seed: the same day for the same seed.

    Args:
        seed: Any integer.
        steps: Count of steps; by default mostly a few dozen, at times up to 200.
        accounts: Count of accounts; by default up to 12.
    """
    rng = random.Random(seed)
    markets: list[Market] = []
    for index in range(rng.randint(1, 4)):
        payoff, multiplier, price_scale, qty_scale, _ = rng.choice(CONTRACTS)
        if index and rng.random() < 0.1:
            payoff, multiplier, price_scale, qty_scale, _ = SPOT
        ledger = OTHER_USD if rng.random() < 0.25 else MAIN_USD
        finer = 0 if payoff == Payoff.SPOT else rng.randint(0, 3)
        markets.append(
            Market(f"M{index}", payoff, ledger, multiplier, price_scale, price_scale + finer, qty_scale)
        )
    usual = rng.randint(2, 12)
    names = [f"0x{rng.getrandbits(32):08x}{index}" for index in range(accounts or usual)]
    day = Day(markets, list(LEDGERS), names, rng.choice(["known", "known", "known", "unknown"]))
    calm = rng.random() < 0.3  # marks creep and hardly anybody trades, so that old certificates are relied on
    maker = _Maker(
        rng,
        day,
        prices=[first_price(market) for market in markets],
        sources=[rng.choice(["mark", "mark", "last", "fills"]) for _ in markets],
        notional=rng.choice([10, 1_000, 1_000, 50_000, 20_000_000]) * ATOMS,
        starts=rng.choice([0.0, 0.3, 1.0, 1.0]),
        isolated=rng.choice([0.0, 0.0, 0.3]),
        moves=[0.002, 0.005, 0.01] if calm else [0.001, 0.001, 0.005, 0.005, 0.02, 0.08, 0.2],
        trading=0.15 if calm else 1.0,
    )
    _open(maker)
    if steps is None:
        steps = rng.choice([5, 20, 20, 50, 50, 200])
    ts = 1_675_900_800 * NS_PER_SECOND + rng.randrange(DAY_NS)
    for _ in range(steps):
        ts += rng.choice([1, 1_000, NS_PER_SECOND, 3_600 * NS_PER_SECOND])
        maker.step(ts)
    priced = {row.market for row in day.prices}
    for index, market in enumerate(markets):
        if index not in priced:  # a tape gives marks no more digits than it has seen
            day.markets[index] = market._replace(mark_scale=market.price_scale)
    return day


def _open(maker: _Maker) -> None:
    """Give some accounts cash, and some a position, before the first step."""
    rng, day = maker.rng, maker.day
    futures = [index for index, market in enumerate(day.markets) if market.payoff != Payoff.SPOT]
    pools: list[tuple[str, int, int | None]] = []
    for account in day.accounts:
        pools += [(account, ledger, None) for ledger in (MAIN_USD, OTHER_USD) if maker.chance(0.8)]
        if maker.chance(maker.isolated):
            market = rng.choice(futures)
            pools.append((account, day.markets[market].ledger, market))
    if rng.random() < 0.3:
        day.accounts.append("@vault:test")
        pools.append(("@vault:test", MAIN_USD, None))
    rng.shuffle(pools)
    for account, ledger, isolated in pools:
        cash = round(maker.notional * rng.choice([0.1, 0.3, 1.0]) * (rng.random() + 0.1))
        grade = rng.choice(
            [Grade.KNOWN, Grade.KNOWN, Grade.KNOWN, Grade.BOUNDED, Grade.ASSUMED, Grade.UNKNOWN]
        )
        day.opening_cash.append(OpeningCash(account, ledger, isolated, cash, grade))
    if rng.random() < 0.7:
        for account in day.accounts:
            for index in futures:
                if account.startswith("@") or rng.random() < 0.6:
                    continue
                mode = maker.mode()
                size, entry = maker.quantity(index), maker.price_near(index, 0.02)
                day.opening_positions.append(OpeningPosition(account, index, mode, size, entry))
                maker.recorded[account, index, mode] = _Recorded(size, True)
        if (
            rng.random() < 0.5 and len(day.opening_positions) > 1
        ):  # sizes that sum to nothing, at unequal cost
            last = day.opening_positions[-1]
            others = sum(row.size for row in day.opening_positions[:-1] if row.market == last.market)
            if others:
                day.opening_positions[-1] = last._replace(size=-others)
                maker.recorded[last.account, last.market, last.mode].size = -others
    day.accounts = [name for name in day.accounts if not name.startswith("@")]


def random_rules(seed: int, day: Day) -> Rules:
    """Make margin rules from a seed: flat rates, tiers that continue, and tiers that jump.

    Tiers begin near the values that positions of the day have, so that marks carry positions over them.
    """
    rng = random.Random(seed)
    tiers: dict[int, list[Tier]] = {}
    for index, market in enumerate(day.markets):
        rate = Fraction(rng.choice([5_000_000_000, 10_000_000_000, 33_333_333_333, 100_000_000_000]), 10**12)
        table = [Tier(0, rate, 0)]
        values = [
            abs(contract_value(market, row.qty, row.price, market.price_scale))
            for row in day.fills
            if row.market == index and market.payoff != Payoff.SPOT
        ]
        values += [
            abs(contract_value(market, row.size, row.entry_price, market.price_scale))
            for row in day.opening_positions
            if row.market == index
        ]
        starts = {
            round(value * rng.choice([0.8, 1.02, 1.1, 1.5]))
            for value in rng.sample(values, min(3, len(values)))
        }
        continued = rng.random() < 0.5
        for start in sorted(starts - {0}):
            higher = table[-1].rate + Fraction(rng.choice([5_000_000_000, 50_000_000_001]), 10**12)
            step = int((higher - table[-1].rate) * start) if continued else 0
            table.append(Tier(start, higher, table[-1].deduction + step))
        tiers[index] = table
    breach_at_equal = rng.random() < 0.3
    own = {index: _own_margin(rng, tiers, index, day) for index in tiers if rng.random() < 0.4}
    return Rules(tiers, absorber="@vault:test", breach_at_equal=breach_at_equal, own=own)


def _own_margin(rng: random.Random, tiers: dict[int, list[Tier]], index: int, day: Day) -> OwnMargin:
    """Make the margin of a market depend on entry values or sizes; tiers by size begin near its sizes."""
    basis = rng.choice(["notional", "entry", "size"])
    table = tiers[index]
    if basis != "notional":
        table = [tier._replace(deduction=0) for tier in table]
    if basis == "size":
        sizes = sorted({abs(row.qty) for row in day.fills if row.market == index} | {10})
        starts = sorted(rng.sample(sizes, min(len(sizes), len(table) - 1)))
        table = [tier._replace(start=start) for tier, start in zip(table, [0, *starts], strict=False)]
    tiers[index] = table
    if basis != "notional" and len(table) == 1:
        unit = 10 ** day.markets[index].qty_scale if basis == "size" else 10**8
        usual = Fraction(rng.choice(sizes), unit) if basis == "size" else Fraction(rng.choice([1, 10**4]))
        growth = Fraction(round(Fraction(10**10) / usual), 10**12)
        factor = Fraction(rng.choice([10**9, 10**10]), 10**12)
        return OwnMargin(basis, *rng.choice([(growth, Fraction(0)), (Fraction(0), factor)]), unit)
    least = rng.choice([0, 10**8, 10**10])
    if basis == "notional" and len(table) == 1:
        # Of its own source, so that the seeds of known days keep their days.
        sides = random.Random(repr((index, table)))
        return OwnMargin(basis, least=least, short=Fraction(sides.choice([0, 1, 5, 20]), 100))
    return OwnMargin(basis, least=least)


# --- days as tapes -----------------------------------------------------------------------------------


def account_names(day: Day) -> list[str]:
    """Return the accounts of a tape in order of their ids: those of fills first, then pseudo accounts."""
    return list(dict.fromkeys([*day.accounts, *(row.account for row in day.opening_cash)]))


def tape_rows(day: Day) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a day as rows with the columns of the tape's schema, accounts by id."""
    ids: dict[str | None, int | None] = {None: None}
    ids.update((name, index) for index, name in enumerate(account_names(day)))

    def rows(table: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
        dicts = [row._asdict() | more for row in table]
        for row in dicts:
            row.update((name, ids[row[name]]) for name in ("account", "victim") if name in row)
        return dicts

    return {
        "accounts": rows(day.opening_cash),
        "positions": rows(day.opening_positions),
        "transfers": rows(day.transfers, kind=TransferKind.OTHER),
        "funding": rows(day.funding),
        "prices": rows(day.prices),
        "fills": rows(day.fills, role=Role.UNKNOWN),
        "liquidations": rows(day.liquidations),
    }


def write_tape(day: Day, path: Path) -> None:
    """Write a day as a tape folder through the public writer."""
    with TapeWriter(path, venue="test", importer="random") as writer:
        for dex, currency in day.ledgers:
            writer.ledger(dex, currency)
        for name in account_names(day):
            writer.account(name)
        for market in day.markets:
            dex, currency = day.ledgers[market.ledger]
            writer.market(
                market.name,
                dex=dex,
                settle=currency,
                payoff=market.payoff,
                multiplier=market.multiplier,
                tick=(1, market.price_scale),
                lot=(1, market.qty_scale),
            )
        for table, rows in tape_rows(day).items():
            if rows:
                columns = {name: [row[name] for row in rows] for name in rows[0]}
                for name in set(columns) & set(DIGITS):
                    scale = "mark_scale" if table == "prices" else DIGITS[name]
                    columns[f"{name}_digits"] = [getattr(day.markets[row["market"]], scale) for row in rows]
                writer.append(table, columns)
        writer.finish(sources=[], lacks=[], assumptions=[], counts={}, accounts_start=day.accounts_start)


DIGITS = {
    "price": "price_scale",
    "entry_price": "price_scale",
    "qty": "qty_scale",
    "size": "qty_scale",
    "start_position": "qty_scale",
}


def day_of_tape(tape: Tape) -> Day:
    """Read a whole tape back as a day."""
    connection = tape.connection()
    name = tape.account_names

    def rows(table: str, columns: str) -> list[tuple[Any, ...]]:
        order = "" if table in ("accounts", "positions") else " ORDER BY ts, seq"
        return connection.execute(f"SELECT {columns} FROM {table}{order}").fetchall()

    def named(row: tuple[Any, ...], *places: int) -> list[Any]:
        return [
            name[cell] if place in places and cell is not None else cell for place, cell in enumerate(row)
        ]

    markets = [
        Market(m.name, m.payoff, m.ledger, m.multiplier, m.price_scale, m.mark_scale, m.qty_scale)
        for m in tape.markets
    ]
    legs = rows("liquidations", "ts, liquidation, account, market, mode, equity")
    fills = rows(
        "fills",
        "ts, market, account, qty, price, fee, fee_ledger, kind, paired, victim, start_position, mode",
    )
    return Day(
        markets=markets,
        ledgers=list(tape.ledgers),
        accounts=[item for item in name if not item.startswith("@")],
        accounts_start=tape.manifest["accounts_start"],
        opening_cash=[
            OpeningCash(*named(r, 0)) for r in rows("accounts", "account, ledger, market, cash, grade")
        ],
        opening_positions=[
            OpeningPosition(*named(r, 0))
            for r in rows("positions", "account, market, mode, size, entry_price")
        ],
        transfers=[Transfer(*named(r, 1)) for r in rows("transfers", "ts, account, ledger, market, amount")],
        funding=[Funding(*r) for r in rows("funding", "ts, market, rate")],
        prices=[Price(*r) for r in rows("prices", "ts, market, kind, price")],
        fills=[Fill(*named(r, 2, 9)) for r in fills],
        liquidations=[Liquidation(*named(r, 2)) for r in legs],
    )
