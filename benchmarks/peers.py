"""Side by side on one generated tape: the bare scan, this project, and whichever peers are installed.

``python -m benchmarks.peers`` prints a table and writes ``out/bench/peers.json``. Each row is run several
times in turn with the others, in this process; the median is quoted with the least and the largest. Peers do
other things for each event, so a column says what: see ``docs/benchmarks.md``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import duckdb
import numpy as np

from benchmarks.tapes import Size, kept_tape
from replay.loop.engine import Replay
from replay.rules import compile_rules, load_rules
from replay.tape.read import Tape

_COLUMNS = "ts, seq, market, account, qty, price, fee, fee_ledger, kind, paired, victim, start_position, mode"


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: Who ran.
        what: What it did with each event.
        events: Events of a run.
        seconds: Seconds of each run.
    """

    name: str
    what: str
    events: int
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events a second in the median run."""
        return self.events / statistics.median(self.seconds)


class Nothing:
    """A sink of run tables that keeps none."""

    def append(self, table: str, columns: Any) -> None:
        """Take rows and forget them."""


def scan(tape: Tape) -> int:
    """Read the columns of `fills` that the loop reads, to NumPy; return how many rows there were."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET threads = 2")
    relation = connection.sql(f"SELECT {_COLUMNS} FROM read_parquet({tape.files('fills')})")
    rows = 0
    for batch in relation.to_arrow_reader(131_072):
        for column in batch.columns:
            column.to_numpy(zero_copy_only=False)
        rows += batch.num_rows
    return rows


def replayed(tape: Tape, *, batch_rows: int = 131_072) -> int:
    """Replay a tape, recorded, to positions and equity; return the fills."""
    plan = compile_rules(load_rules("hyperliquid@2023-02"), tape.markets, tape.ledgers)
    loop = Replay(tape, plan, Nothing())
    for _ in loop.run(batch_rows=batch_rows):
        pass
    return loop.outcome.rows["fills"]


class Decoded:
    """A tape whose windows are in memory."""

    def __init__(self, tape: Tape) -> None:
        self.decoded = list(tape.windows(batch_rows=131_072, threads=2))
        self.__dict__.update(tape.__dict__)
        self.select = tape.select

    def windows(self, **_: Any) -> Any:
        yield from self.decoded


def dict_loop(tape: Tape, fills: int) -> int:
    """Keep position, cost and cash in dictionaries, one event after the other, in plain Python."""
    window = next(iter(tape.windows(batch_rows=fills, threads=2)))
    columns = (
        window.fills.account,
        window.fills.market,
        window.fills.qty,
        window.fills.price,
        window.fills.fee,
    )
    accounts: dict[int, dict[str, Any]] = {}
    count = 0
    for account, market, qty, price, fee in zip(
        *(column[:fills].tolist() for column in columns), strict=True
    ):
        book = accounts.get(account)
        if book is None:
            book = accounts[account] = {"cash": 0, "positions": {}}
        size, cost = book["positions"].get(market, (0, 0))
        value = qty * price * 1_000
        if size * qty >= 0:
            cost += value
        elif abs(qty) <= abs(size):
            released = cost * abs(qty) // abs(size)
            cost -= released
            book["cash"] += -value - released
        else:
            closing = -size * price * 1_000
            book["cash"] += -closing - cost
            cost = value - closing
        book["positions"][market] = (size + qty, cost)
        book["cash"] -= fee
        count += 1
    return count


def hftbacktest_run(trades: int) -> tuple[Callable[[], int], str] | None:
    """Return a run of hftbacktest's elapse loop over trades in memory, if it is installed."""
    if importlib.util.find_spec("hftbacktest") is None:
        return None
    from hftbacktest import (  # type: ignore[import-not-found]
        BUY_EVENT,
        DEPTH_EVENT,
        EXCH_EVENT,
        LOCAL_EVENT,
        SELL_EVENT,
        TRADE_EVENT,
        BacktestAsset,
        HashMapMarketDepthBacktest,
    )
    from hftbacktest.types import event_dtype  # type: ignore[import-not-found]
    from numba import njit

    rng = np.random.default_rng(7)
    data = np.zeros(trades + 2, event_dtype)
    ts = 1_760_054_400_000_000_000 + rng.integers(1_000, 2_000_000, trades).cumsum()
    walk = 1_100_000 + rng.choice([-1, 0, 0, 0, 1], trades).cumsum()
    data["exch_ts"][2:], data["local_ts"][2:] = ts, ts + 500_000
    data["px"][2:] = walk * 0.1
    data["qty"][2:] = np.round(rng.exponential(0.05, trades) + 0.001, 3)
    side = np.where(rng.random(trades) < 0.5, BUY_EVENT, SELL_EVENT)
    data["ev"][2:] = TRADE_EVENT | EXCH_EVENT | LOCAL_EVENT | side
    for row, (flag, price) in enumerate(((BUY_EVENT, 109_999.9), (SELL_EVENT, 110_000.1))):
        data[row]["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | flag
        data[row]["exch_ts"], data[row]["local_ts"] = ts[0] - 1_000, ts[0] - 500
        data[row]["px"], data[row]["qty"] = price, 1.0

    @njit
    def elapse(backtest: Any) -> int:
        steps = 0
        while backtest.elapse(100_000_000) == 0:
            steps += 1
        return steps

    def run() -> int:
        asset = (
            BacktestAsset()
            .data([data])
            .linear_asset(1.0)
            .constant_order_latency(1_000_000, 1_000_000)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(2e-4, 5e-4)
            .tick_size(0.1)
            .lot_size(0.001)
            .last_trades_capacity(0)
        )
        backtest = HashMapMarketDepthBacktest([asset])
        elapse(backtest)
        backtest.close()
        return trades

    return run, "exchange and local clock of one asset, no accounts"


def nautilus_run(trades: int) -> tuple[Callable[[], int], str] | None:
    """Return a run of nautilus_trader's backtest engine over trade ticks without a strategy, if installed."""
    if importlib.util.find_spec("nautilus_trader") is None:
        return None
    from nautilus_trader.backtest.engine import (  # type: ignore[import-not-found]
        BacktestEngine,
        BacktestEngineConfig,
    )
    from nautilus_trader.config import LoggingConfig  # type: ignore[import-not-found]
    from nautilus_trader.model.currencies import USDT  # type: ignore[import-not-found]
    from nautilus_trader.model.data import TradeTick  # type: ignore[import-not-found]
    from nautilus_trader.model.enums import (  # type: ignore[import-not-found]
        AccountType,
        AggressorSide,
        OmsType,
    )
    from nautilus_trader.model.identifiers import TradeId, Venue  # type: ignore[import-not-found]
    from nautilus_trader.model.objects import Money  # type: ignore[import-not-found]
    from nautilus_trader.test_kit.providers import (  # type: ignore[import-not-found]
        TestInstrumentProvider,
    )

    instrument = TestInstrumentProvider.btcusdt_perp_binance()
    rng = np.random.default_rng(7)
    ts = 1_760_054_400_000_000_000 + rng.integers(1_000, 2_000_000, trades).cumsum()
    walk = 1_100_000 + rng.choice([-1, 0, 0, 0, 1], trades).cumsum()
    ticks = [
        TradeTick(
            instrument.id,
            instrument.make_price(price * 0.1),
            instrument.make_qty(0.05),
            AggressorSide.BUYER,
            TradeId(str(number)),
            int(moment),
            int(moment),
        )
        for number, (moment, price) in enumerate(zip(ts.tolist(), walk.tolist(), strict=True))
    ]

    def run() -> int:
        engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
        engine.add_venue(
            Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USDT)], USDT
        )
        engine.add_instrument(instrument)
        engine.add_data(ticks)
        began = time.perf_counter()
        engine.run()
        run.inner = time.perf_counter() - began  # type: ignore[attr-defined]
        engine.dispose()
        return trades

    return run, "matching engine of one asset, no strategy, one account; `run()` alone"


def versions() -> dict[str, str]:
    """Return the versions of what ran, and the processor."""
    found = {"python": platform.python_version(), "cpu": _processor(), "cores": str(os.cpu_count())}
    for name in ("duckdb", "pyarrow", "numba", "numpy", "hftbacktest", "nautilus_trader", "flox-py"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--fills", default=2_000_000, help="Rows of the generated tape.")
@click.option("--accounts", default=50_000, help="Its accounts.")
@click.option("--markets", default=50, help="Its markets.")
@click.option("--events", default=1_000_000, help="Events of the peers that run in memory.")
@click.option("--repeat", default=3, help="Runs of each row, in turn.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/bench"), help="Folder of tape and JSON."
)
def main(fills: int, accounts: int, markets: int, events: int, repeat: int, out: Path) -> None:
    """Run the bare scan, this project and its peers side by side.

    \b
    Example:
      python -m benchmarks.peers --fills 20000000 --accounts 200000 --markets 150
    """  # noqa: D301 - click reads the escape
    size = Size(fills=fills, accounts=accounts, markets=markets)
    tape = kept_tape(out / f"{fills}-{accounts}-{markets}", size)
    memory: Any = Decoded(tape)
    few = min(fills, 300_000)
    jobs: list[tuple[str, str, Callable[[], int]]] = [
        ("bare scan", "the columns of the fills to NumPy", lambda: scan(tape)),
        (
            "replay, from Parquet",
            "cash, cost, size, fee of every account, exact; books proven",
            lambda: replayed(tape),
        ),
        ("replay, in memory", "the same on decoded batches", lambda: replayed(memory)),
        ("dict loop, in memory", "the same arithmetic in plain Python", lambda: dict_loop(tape, few)),
    ]
    for label, make in (("hftbacktest", hftbacktest_run), ("nautilus_trader", nautilus_run)):
        made = make(events if label == "hftbacktest" else min(events, 200_000))
        if made is not None:
            jobs.append((f"{label}, in memory", made[1], made[0]))
    rows = {label: Row(label, what, 0) for label, what, _ in jobs}
    for turn in range(repeat + 1):
        for label, _, job in jobs:
            began = time.perf_counter()
            count = job()
            elapsed = getattr(job, "inner", None) or time.perf_counter() - began
            if turn:  # the first turn compiles and warms
                rows[label].events = count
                rows[label].seconds.append(elapsed)
    _print(list(rows.values()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    click.echo(
        f"peak memory of this process {peak:,} MiB; " + ", ".join(f"{k} {v}" for k, v in versions().items())
    )
    (out / "peers.json").write_text(
        json.dumps({"versions": versions(), "rows": [asdict(row) for row in rows.values()]}, indent=2) + "\n",
        encoding="utf-8",
    )


def _print(rows: list[Row]) -> None:
    base = rows[0].rate
    click.echo(f"{'':24}{'events':>12}{'M/s':>8}{'least':>8}{'most':>8}{'x scan':>8}  what it does")
    for row in rows:
        least, most = row.events / max(row.seconds) / 1e6, row.events / min(row.seconds) / 1e6
        click.echo(
            f"{row.name:24}{row.events:>12,}{row.rate / 1e6:>8.2f}{least:>8.2f}{most:>8.2f}"
            f"{base / row.rate:>8.1f}  {row.what}"
        )


if __name__ == "__main__":
    main()
