"""``replay import drift-v1``: the public history of Drift v1 on Solana (November 2021 to early 2022), as CSV.

The history has no trades and no positions. What it has of each account is its collateral before every deposit,
withdrawal and liquidation; the tape's cash is brought to it there, so that cash is right at each record and what
trading and funding made of it in between stands in one row. Fees of liquidations move to the keeper and to the fund.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import (
    Sequence,
)
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources._read import Progress
    from replay.sources._rejects import Rejects
    from replay.sources.drift_v1_rows import Curve, Deposit, Funding, Liquidation, Row
    from replay.tape.write import TapeWriter

FUND = "@fund:insurance"
"""Where the share of the insurance fund in the fees of liquidations goes."""

MARKETS = (
    "SOL-PERP", "BTC-PERP", "ETH-PERP", "LUNA-PERP", "AVAX-PERP", "BNB-PERP", "MATIC-PERP", "ATOM-PERP", "DOT-PERP",
    "ADA-PERP", "ALGO-PERP", "FTT-PERP", "LTC-PERP",
)  # fmt: skip
"""Names by index, from the list of markets of the protocol's own client; the history has the index only."""

HAS = (
    "Liquidations by account: a quarter of its positions or all, their value before, equity (below zero where the "
    "account owed); their fees as moves of cash to the keeper and to the fund.",
    "Deposits and withdrawals by account, and its collateral before each.",
    "Funding rates; hourly means of mark and oracle; marks after changes of a market's curve.",
)
LACKS = (
    "Trades and positions: markets, sizes and prices of liquidations.",
    "Payments of funding by account, and other rates than the shorts' or longs' own where the pool paid a part.",
    "Cash of accounts before their first record; deposits before the first file of them.",
    "What the fund paid, and its balance before the first record.",
)
ASSUMES = (
    "An account's cash is its recorded collateral: before each record it is brought there by a transfer of kind "
    "`other`, which is what trading, fees and funding made of it since the record before.",
    "The notional of a liquidation is the value of all that the account held; method `partial` closed a quarter of it.",
    "Of records of one second deposits and withdrawals come first, then liquidations by their number.",
    "Marks of `FundingRate` rows are means over the hour, known at its end; so are oracle prices.",
    "A funding rate is a share of the mean mark of its own row; that of a market's first mark or before is left out.",
    "Names of markets are those of the protocol's client; an index beyond its 13 is `market-INDEX`.",
)


def name_of(market: int) -> str:
    """Return the name of a market."""
    return MARKETS[market] if market < len(MARKETS) else f"market-{market}"


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.errors import SourceError
    from replay.sources._read import Progress
    from replay.sources._rejects import Rejects
    from replay.tape.write import TapeWriter

    progress = Progress(inputs, on_progress)
    counts = dict.fromkeys(("rows read", "null records", "records that stand there twice"), 0)
    with TapeWriter(out, venue="drift-v1", importer="drift-v1", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            sources, tables = _read(inputs, aside, progress, counts)
        aside.check(counts["rows read"])
        if not any(tables.values()):
            raise SourceError("holds no record", file=inputs[0], mend="a tape needs at least one")
        progress.writing()
        _write(tables, writer, counts)
        manifest = writer.finish(
            sources=sources,
            lacks=LACKS,
            assumptions=ASSUMES,
            counts={**counts, "rows set aside": aside.count},
            accounts_start="unknown",
        )
    progress.finished()
    return manifest


def _read(
    inputs: Sequence[Path], aside: Rejects, progress: Progress, counts: dict[str, int]
) -> tuple[list[dict[str, Any]], dict[str, list[Row]]]:
    """Read all files; the history is small, and its files overlap and are not in order, so it is held and sorted."""
    from replay.sources._read import Lines, check_held, name_inputs
    from replay.sources.drift_v1_rows import TABLES, identify, read_rows

    names = name_inputs(inputs)
    found: dict[str, dict[Row, None]] = {table: {} for table in TABLES}
    sources = []
    with ExitStack() as stack:
        for file in inputs:
            table, columns = identify(file)
            lines = stack.enter_context(Lines(file, names[file]))
            for row in read_rows(lines, table, columns, aside, counts):
                check_held(counts["rows read"], file)
                counts["records that stand there twice"] += row in found[table]
                found[table][row] = None
            progress.read(lines)
            sources.append(lines.provenance())
    return sources, {table: sorted(rows, key=_place) for table, rows in found.items()}


def _place(row: Row) -> tuple[int, int]:
    return row.ts, row.record


def _write(tables: dict[str, list[Any]], writer: TapeWriter, counts: dict[str, int]) -> None:
    from replay.sources.drift_v1_rows import CURVES, DEPOSITS, FUNDING, LIQUIDATIONS

    _write_cash(tables[DEPOSITS], tables[LIQUIDATIONS], writer, counts)
    _write_liquidations(tables[LIQUIDATIONS], writer, counts)
    priced = _write_prices([*tables[FUNDING], *tables[CURVES]], writer)
    _write_funding(tables[FUNDING], priced, writer, counts)


def _write_cash(
    deposits: list[Deposit], liquidations: list[Liquidation], writer: TapeWriter, counts: dict[str, int]
) -> None:
    """Append deposits, withdrawals, fees of liquidations, and what brings cash to the recorded collateral."""
    from replay.sources.drift_v1_rows import Deposit
    from replay.tape.schema import MAIN_DEX, TransferKind

    ledger = writer.ledger(MAIN_DEX, "USDC")
    cash: defaultdict[str, int] = defaultdict(int)
    rows: list[tuple[int, int, int, int, int]] = []

    def book(ts: int, user: str, amount: int, kind: TransferKind) -> None:
        if amount:
            cash[user] += amount
            rows.append((ts, writer.account(user), ledger, amount, int(kind)))

    def bring(row: Deposit | Liquidation) -> None:
        counts["cash brought to the recorded collateral"] += row.collateral != cash[row.user]
        book(row.ts, row.user, row.collateral - cash[row.user], TransferKind.OTHER)

    counts["cash brought to the recorded collateral"] = 0
    records: list[Deposit | Liquidation] = [*deposits, *liquidations]
    for row in sorted(records, key=lambda row: (row.ts, not isinstance(row, Deposit), row.record)):
        bring(row)
        if isinstance(row, Deposit):
            kind = TransferKind.DEPOSIT if row.amount >= 0 else TransferKind.WITHDRAWAL
            book(row.ts, row.user, row.amount, kind)
        else:
            book(row.ts, row.user, -row.to_liquidator - row.to_fund, TransferKind.MOVE)
            book(row.ts, row.liquidator, row.to_liquidator, TransferKind.MOVE)
            book(row.ts, FUND, row.to_fund, TransferKind.MOVE)
    writer.append_rows("transfers", "ts account ledger amount kind", rows)


def _write_liquidations(liquidations: list[Liquidation], writer: TapeWriter, counts: dict[str, int]) -> None:
    counts["liquidations"] = len(liquidations)
    counts["liquidations of all that an account held"] = sum(row.method == "full" for row in liquidations)
    counts["liquidations of accounts that owed"] = sum(row.equity < 0 for row in liquidations)
    rows = (
        (row.ts, place, writer.account(row.user), "cross", row.method, row.value, row.equity)
        for place, row in enumerate(liquidations)
    )
    writer.append_rows("liquidations", "ts liquidation account mode method notional equity", rows)


def _write_funding(
    funding: list[Funding], priced: dict[int, int], writer: TapeWriter, counts: dict[str, int]
) -> None:
    """Append funding rates; ``priced`` tells since when each market has a mark, before which none can be paid."""
    from replay.units import divide_half_even

    sums: dict[int, tuple[int, int]] = {}
    name, early = "funding of which the pool paid a part", "funding before the first mark left out"
    counts |= {name: 0, early: 0}
    rows = []
    for row in funding:
        before = sums.get(row.market)
        if before is not None:
            counts[name] += (row.long_sum - before[0], row.short_sum - before[1]) != (row.rate, row.rate)
        sums[row.market] = row.long_sum, row.short_sum
        if row.ts <= priced[row.market]:
            counts[early] += 1
            continue
        rate = divide_half_even(row.rate * 10**8, row.mark)  # 1e-14 a unit over 1e-10 is 1e-4, in 1e-12
        rows.append((row.ts, writer.market(name_of(row.market), settle="USDC"), rate))
    writer.append_rows("funding", "ts market rate", rows)


def _write_prices(records: list[Funding | Curve], writer: TapeWriter) -> dict[int, int]:
    """Append marks and oracle prices; return the moment of each market's first mark."""
    from replay.sources.drift_v1_rows import PRICE_DIGITS, Funding
    from replay.tape.schema import PriceKind

    rows = []
    first: dict[int, int] = {}
    for row in sorted(records, key=lambda row: row.ts):
        first.setdefault(row.market, row.ts)
        market = writer.market(name_of(row.market), settle="USDC")
        if isinstance(row, Funding):
            rows.append((row.ts, market, row.oracle, PRICE_DIGITS, int(PriceKind.ORACLE)))
        rows.append((row.ts, market, row.mark, PRICE_DIGITS, int(PriceKind.MARK)))
    writer.append_rows("prices", "ts market price price_digits kind", rows)
    return first


SOURCE = Source(
    name="drift-v1",
    summary="Drift v1 on Solana: its public history of liquidations, deposits, funding rates and curve changes (CSV)",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
