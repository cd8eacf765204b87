"""``replay populate``: accounts for an anonymous day, by a documented, seeded model (docs/anonymous-days.md).

Every trade of the tape becomes fills between modelled accounts, at its price and of its whole quantity, save
the share of taker flow that is withheld as forced. Accounts are drawn per market: most are small, a few are
large, some are market makers; each has a leverage at which it stops adding. They open the day with positions
that sum to zero. Who takes a trade is drawn: either somebody who adds, by size of account, or somebody who
closes, among the holders of the other side, so that open interest stays near its target: what the tape tells of it,
else a share of the day's volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.errors import TapeError
from replay.exact import Conversion, contract_value, conversion
from replay.progress import OnProgress
from replay.tape.populate_match import list_holders, match_trades
from replay.tape.read import Market, Tape
from replay.tape.schema import SCALE_OF, TABLES, FillKind, Grade, Payoff, Role
from replay.tape.write import TapeWriter
from replay.units import NS_PER_HOUR, NS_PER_MINUTE

Array = npt.NDArray[Any]

_BATCH = 131_072
FUNDS = ("@fund:insurance", "@vault:liquidator")
_COPIED = ("prices", "funding", "depth", "liquidations", "transfers", "open_interest")


@dataclass(frozen=True, slots=True)
class Population:
    """What the model assumes; all of it is written to the tape's assumptions.

    Attributes:
        seed: Everything random follows from it.
        accounts: Accounts a market, market makers among them.
        makers: Market makers a market; they rest behind most trades and are never short of margin.
        tail: Exponent of the Pareto law of account sizes; smaller is heavier.
        open_interest: Open interest at the start, and its target, as a share of the day's volume; of markets whose
            open interest the tape tells, that is the target instead.
        leverage: Median of the leverage at which an account stops adding.
        leverage_spread: Standard deviation of its logarithm.
        most_leverage: Largest leverage.
        fund: Opening cash of the insurance fund, and likewise of the vault, as a share of the value of open
            interest, per ledger. Which of the two acts is said by the rules of a run.
        forced_share: Share of taker flow withheld as forced in minutes of stress, on the side of the move.
        stress_percent: Move of the price within a minute, in percent, from which it counts as stress.
    """

    seed: int = 7
    accounts: int = 2_000
    makers: int = 20
    tail: float = 1.2
    open_interest: float = 0.1
    leverage: float = 5.0
    leverage_spread: float = 0.7
    most_leverage: float = 10.0
    fund: float = 0.02
    forced_share: float = 0.2
    stress_percent: float = 1.0


def populate(
    tape: Tape, out: Path, model: Population, *, force: bool = False, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Write a tape with accounts in the place of anonymous trades; return its manifest.

    Raises:
        TapeError: The tape has no trades, has fills already, or ``out`` exists.
    """
    if tape.rows("trades") == 0 or tape.rows("fills"):
        raise TapeError(
            "holds fills of accounts already" if tape.rows("fills") else "holds no trades",
            file=tape.path,
            mend="populate a tape of anonymous trades, as `replay import tardis` makes",
        )
    rng = np.random.Generator(np.random.PCG64(model.seed))
    days = _days(tape)
    markets = [market for market in tape.markets if market.payoff != Payoff.SPOT and market.id in days]
    with TapeWriter(out, venue=tape.venue, importer="populate", force=force) as writer:
        for market in tape.markets:
            writer.market(
                market.name,
                settle=tape.ledgers[market.ledger][1],
                dex=market.dex,
                payoff=market.payoff,
                multiplier=market.multiplier,
                tick=(market.tick, market.price_scale),
                lot=(market.lot, market.qty_scale),
            )
        crowd = _Crowd(tape, markets, days, model, rng)
        for number in range(len(crowd.market)):
            market_name = tape.markets[int(crowd.market[number])].name
            writer.account(f"{market_name}/{'maker' if crowd.is_maker[number] else 'account'}-{number}")
        writer.append("accounts", crowd.accounts())
        writer.append("accounts", _funds(writer, crowd.interest_value(), model.fund))
        writer.append("positions", crowd.positions())
        counts = {"trades": 0, "fills": 0, "withheld quantity": 0, "quantity of fills": 0}
        total = max(1, tape.rows("trades"))
        done = 0
        for rows in _trades(tape):
            fills = crowd.fills(rows, counts)
            writer.append("fills", fills)
            done += len(rows["ts"])
            counts["trades"] += len(rows["ts"])
            counts["fills"] += len(fills["ts"])
            if on_progress is not None:
                on_progress(0.7 * done / total, f"{done:,} trades")
        for table in _COPIED:
            _copy(tape, writer, table)
        manifest = writer.finish(
            sources=[{"name": tape.path.name, "bytes": 0, "sha256": tape.manifest["sha256"]}],
            lacks=tape.manifest["lacks"],
            assumptions=[*tape.manifest["assumptions"], *_sentences(model, crowd)],
            counts=counts,
            accounts_start="known",
        )
    if on_progress is not None:
        on_progress(1.0, "done")
    return manifest


def _sentences(model: Population, crowd: _Crowd) -> list[str]:
    strayed = crowd.strayed
    hours = " ".join(f"{100 * share:.0f}" for share in strayed.max(axis=0).tolist())
    if crowd.told:
        target = (
            f"that is what the tape tells, minute by minute, of {len(crowd.told)} of {crowd.markets} markets."
        )
    else:
        target = "the recorded open interest is not on the tape."
    parts = ", ".join(f"{key} {value}" for key, value in asdict(model).items())
    return [
        f"Accounts are modelled, not recorded (population: {parts}); every number about them is an estimate.",
        f"Open interest of the model strayed at most {100 * float(strayed.max(initial=0)):.0f} % from its "
        f"target, hour by hour in the worst market {hours} %; {target}",
        f"Of taker flow in minutes that move {model.stress_percent} % or more, {model.forced_share:.0%} on the "
        "side of the move is withheld as forced (forced_share).",
    ]


def _funds(writer: TapeWriter, values: dict[int, int], share: float) -> dict[str, Any]:
    """Return the opening cash of fund and vault of each ledger."""
    rows = [
        (writer.account(name), ledger, int(value * share))
        for name in FUNDS
        for ledger, value in sorted(values.items())
    ]
    return {
        "account": np.array([row[0] for row in rows], np.int32),
        "ledger": np.array([row[1] for row in rows], np.int16),
        "market": pa.nulls(len(rows), pa.int32()),
        "cash": np.array([row[2] for row in rows], np.int64),
        "grade": np.full(len(rows), int(Grade.ASSUMED), np.int8),
    }


def _days(tape: Tape) -> dict[int, tuple[int, int]]:
    """Return first price and volume of each market's trades."""
    found = tape.select(
        "SELECT market, arg_min(price, (ts, seq)), sum(qty)::BIGINT FROM trades GROUP BY market"
    )
    return {market: (price, volume) for market, price, volume in found}


def _told_interest(tape: Tape) -> dict[int, tuple[Array, Array]]:
    """Return moments and open interest, the last of each minute, of the markets whose tape tells it."""
    with tape.connection() as connection:
        found = connection.sql(
            f"SELECT market, max(ts) AS ts, arg_max(qty, (ts, seq)) AS qty FROM open_interest "
            f"GROUP BY market, ts // {NS_PER_MINUTE} ORDER BY market, ts"
        ).fetchnumpy()
    return {
        market: (found["ts"][found["market"] == market], found["qty"][found["market"] == market])
        for market in np.unique(found["market"]).tolist()
    }


def _trades(tape: Tape) -> Iterator[dict[str, Array]]:
    """Yield the trades in order of time."""
    with tape.connection() as connection:
        reader = connection.sql(
            "SELECT ts, market, price, qty, taker_side FROM trades ORDER BY ts, seq"
        ).to_arrow_reader(_BATCH)
        for batch in reader:
            yield {name: batch.column(name).to_numpy() for name in batch.schema.names}


def _copy(tape: Tape, writer: TapeWriter, table: str) -> None:
    if tape.rows(table) == 0:
        return
    columns = [column for column in TABLES[table].columns if column.name != "seq"]
    with tape.connection() as connection:
        reader = connection.sql(f"SELECT * EXCLUDE (seq) FROM {table} ORDER BY ts, seq").to_arrow_reader(
            _BATCH
        )
        for batch in reader:
            rows: dict[str, Any] = {column.name: batch.column(column.name) for column in columns}
            if "account" in rows:  # ids of the other tape
                names = rows["account"].to_pylist()
                rows["account"] = [writer.account(tape.account_names[account]) for account in names]
            for column in columns:
                if column.unit in SCALE_OF:
                    scales = np.array(
                        [getattr(market, SCALE_OF[column.unit]) for market in tape.markets], np.int8
                    )
                    ids = batch.column("market").fill_null(0).to_numpy(zero_copy_only=False)
                    rows[f"{column.name}_digits"] = pa.array(scales[ids])
            writer.append(table, rows)


class _Crowd:
    """The modelled accounts of all markets, and their positions as the day goes on."""

    def __init__(
        self,
        tape: Tape,
        markets: list[Market],
        days: dict[int, tuple[int, int]],
        model: Population,
        rng: np.random.Generator,
    ) -> None:
        self._tape = tape
        self._model = model
        self._rng = rng
        count = model.accounts
        self.market = np.repeat([market.id for market in markets], count).astype(np.int32)
        self.is_maker = np.tile(np.arange(count) < model.makers, len(markets))
        self.first = np.full(len(tape.markets), -1, np.int64)  # first account of each market
        for number, market in enumerate(markets):
            self.first[market.id] = number * count
        self.size = np.zeros(len(self.market), np.int64)
        self.cap = np.zeros(len(self.market), np.int64)  # largest size either way
        self.cash = np.zeros(len(self.market), np.int64)
        self.weight = np.zeros(len(self.market))  # cumulative within a market
        self.target = np.zeros(len(tape.markets), np.int64)
        self.price = np.zeros(len(tape.markets), np.int64)
        self.told = {
            market: told for market, told in _told_interest(tape).items() if market in {m.id for m in markets}
        }
        self.markets = len(markets)
        self._convert: dict[int, Conversion] = {}
        for market in markets:
            self._make(market, *days[market.id])
        self.open = np.zeros(len(tape.markets), np.int64)
        np.add.at(self.open, self.market, np.maximum(self.size, 0))
        self._opening = self.size.copy()
        # Holders of each side, for draws: (market, side) -> accounts, with the place of each.
        self.holders = np.full((len(tape.markets), 2, count), -1, np.int32)
        self.held = np.zeros((len(tape.markets), 2), np.int64)
        self.place = np.full(len(self.market), -1, np.int64)
        list_holders(self.size, self.market, self.holders, self.held, self.place)
        self._start = tape.first_ts or 0
        hours = 1 + ((tape.last_ts or 0) - self._start) // NS_PER_HOUR
        # How far open interest was off its target at most, as a share of it, by market and hour of the tape.
        self.strayed = np.zeros((len(tape.markets), hours))
        self._minute = np.zeros((len(tape.markets), 3), np.int64)  # minute, its first price, unused

    def _make(self, market: Market, price: int, volume: int) -> None:
        """Draw the accounts of a market: caps by Pareto's law, leverage, cash, opening positions."""
        model, rng, count = self._model, self._rng, self._model.accounts
        first = int(self.first[market.id])
        mine = slice(first, first + count)
        told = (
            int(self.told[market.id][1][0]) if market.id in self.told else int(volume * model.open_interest)
        )
        target = max(told, 2 * count * market.lot)
        weight = rng.pareto(model.tail, count) + 1
        weight[: model.makers] = np.quantile(weight, 0.99)
        cap = np.maximum(weight / weight.sum() * target * 4, market.lot).astype(np.int64)
        cap[: model.makers] = max(target, market.lot)
        leverage = model.leverage * np.exp(rng.normal(0, model.leverage_spread, count))
        leverage = np.clip(leverage, 1.0, model.most_leverage)
        leverage[: model.makers] = 1.0
        # Half of the accounts begin long, half short, each with a share of its cap; each side sums to target.
        share = rng.uniform(0.2, 1.0, count)
        side = np.where(rng.random(count) < 0.5, 1, -1)
        size = (cap * share).astype(np.int64) * side
        size[: model.makers] = 0
        for sign in (1, -1):
            held = np.flatnonzero(np.sign(size) == sign)
            total = int(np.abs(size[held]).sum())
            if total:
                size[held] = sign * np.minimum(
                    (np.abs(size[held]) * (target / total)).astype(np.int64) // market.lot * market.lot,
                    cap[held],
                )
        size[0] = -int(size.sum())  # a market maker holds what rounding leaves
        convert = conversion(
            market.payoff, market.multiplier, market.price_scale, market.qty_scale, market=market.name
        )
        self._convert[market.id] = convert
        value = [
            int(contract_value(int(q), price, convert.num, convert.den, convert.inverse))
            for q in cap.tolist()
        ]
        self.cash[mine] = np.maximum(np.array(value) / leverage, 1.0).astype(np.int64)
        self.cap[mine], self.size[mine] = cap, size
        active = np.where(np.arange(count) < model.makers, 0.0, weight)
        self.weight[mine] = np.cumsum(active) / active.sum()
        self.target[market.id], self.price[market.id] = target, price

    def targets(self, ts: Array, market: Array) -> Array:
        """Return the open interest that each trade steers to: the last that was told, or a constant."""
        targets = self.target[market]
        for number, (moments, told) in self.told.items():
            mine = np.flatnonzero(market == number)
            last = np.searchsorted(moments, ts[mine], side="right") - 1
            targets[mine] = told[np.maximum(last, 0)]
        return targets

    def interest_value(self) -> dict[int, int]:
        """Return the value in atoms of the target open interest at the first prices, per ledger."""
        values: dict[int, int] = {}
        for market, convert in self._convert.items():
            quantity, price = int(self.target[market]), int(self.price[market])
            value = int(contract_value(quantity, price, convert.num, convert.den, convert.inverse))
            ledger = self._tape.markets[market].ledger
            values[ledger] = values.get(ledger, 0) + value
        return values

    def accounts(self) -> dict[str, Any]:
        """Return the opening cash of all accounts."""
        ledgers = np.array([market.ledger for market in self._tape.markets], np.int16)
        return {
            "account": np.arange(len(self.market), dtype=np.int32),
            "ledger": ledgers[self.market],
            "market": pa.nulls(len(self.market), pa.int32()),
            "cash": self.cash,
            "grade": np.full(len(self.market), int(Grade.ASSUMED), np.int8),
        }

    def positions(self) -> dict[str, Any]:
        """Return the opening positions, entered at the first price of the day."""
        held = np.flatnonzero(self._opening)
        markets = self.market[held]
        scales = np.array([[m.qty_scale, m.price_scale] for m in self._tape.markets], np.int8)
        return {
            "account": held.astype(np.int32),
            "market": markets,
            "mode": np.zeros(len(held), np.int8),
            "size": self._opening[held],
            "size_digits": scales[markets, 0],
            "entry_price": self.price[markets],
            "entry_price_digits": scales[markets, 1],
        }

    def fills(self, rows: dict[str, Array], counts: dict[str, int]) -> dict[str, Any]:
        """Return the fills of a batch of trades, two rows a piece."""
        trades = len(rows["ts"])
        draws = self._rng.random((trades, 4))
        room = 8 * trades + 16
        trade, taker, maker = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int32)
        qty = np.empty(room, np.int64)
        sums = np.zeros(2, np.int64)
        pieces = match_trades(
            rows["ts"],
            rows["market"],
            rows["price"],
            rows["qty"],
            rows["taker_side"],
            draws,
            self.first,
            self._model.accounts,
            self._model.makers,
            self.weight,
            self.size,
            self.cap,
            self.open,
            self.targets(rows["ts"], rows["market"]),
            self.holders,
            self.held,
            self.place,
            self._minute,
            self.strayed,
            self._start,
            self._model.forced_share,
            self._model.stress_percent,
            trade,
            taker,
            maker,
            qty,
            sums,
        )
        counts["withheld quantity"] += int(sums[0])
        counts["quantity of fills"] += int(sums[1])
        trade, signed = trade[:pieces], qty[:pieces]
        market = rows["market"][trade]
        scales = np.array([[m.qty_scale, m.price_scale] for m in self._tape.markets], np.int8)
        number = np.arange(pieces) + self._pieces
        self._pieces += pieces
        ledgers = np.array([m.ledger for m in self._tape.markets], np.int16)

        def twice(values: Array) -> Array:
            return np.repeat(values, 2)

        return {
            "ts": twice(rows["ts"][trade]),
            "match": twice(number),
            "market": twice(market),
            "account": np.stack((taker[:pieces], maker[:pieces]), axis=1).ravel(),
            "qty": np.stack((signed, -signed), axis=1).ravel(),
            "qty_digits": twice(scales[market, 0]),
            "price": twice(rows["price"][trade]),
            "price_digits": twice(scales[market, 1]),
            "fee": np.zeros(2 * pieces, np.int64),
            "fee_ledger": twice(ledgers[market]),
            "role": np.tile(np.array([int(Role.TAKER), int(Role.MAKER)], np.int8), pieces),
            "kind": np.full(2 * pieces, int(FillKind.TRADE), np.int8),
            "paired": np.ones(2 * pieces, np.int8),
            "mode": np.zeros(2 * pieces, np.int8),
        }

    _pieces = 0
