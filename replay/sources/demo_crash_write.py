"""Writing the tape of the crash day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.errors import SourceError
from replay.folders import sha256_file
from replay.progress import OnProgress
from replay.sources.demo_crash_accounts import People, make_people
from replay.sources.demo_crash_cash import make_funding, make_transfers
from replay.sources.demo_crash_depth import make_depth
from replay.sources.demo_crash_margin import foresee
from replay.sources.demo_crash_markets import CONTRACT_USD, LEDGERS, MARKETS, column
from replay.sources.demo_crash_model import Dataset, read_dataset
from replay.sources.demo_crash_prices import Paths, make_paths
from replay.sources.demo_crash_trades import make_trades
from replay.tape.schema import MAIN_DEX, SCALE_OF, TABLES, Grade, PriceKind, Unit
from replay.tape.write import TapeWriter

_DIGITS = {
    Unit.PRICE: column("price_digits").astype(np.int8),
    Unit.MARK: column("mark_digits").astype(np.int8),
    Unit.QTY: column("lot_digits").astype(np.int8),
}
_PARTS = ("prices", "accounts", "trades", "funding", "transfers", "depth")
"""Parts of the day with random numbers of their own; a new part goes to the end."""

LACKS = ("Forced fills: nobody was ever liquidated on this day; the rules of a replay decide who is.",)
ASSUMPTIONS = (
    "Prices, accounts, trades and books come from a seeded model; they are no record of any market.",
    "The price path does not react to what a replay forces.",
    "Accounts that would not survive the day stop trading before; none of them closes by force.",
)


def import_demo_crash(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    rejects: Path | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Make the day that a dataset file asks for, write its tape and return the manifest.

    Raises:
        SourceError: Another count of files, ``rejects`` asked for, or a fault in the file.
        TapeError: The tape exists or cannot be written.
    """
    if len(inputs) != 1:
        raise SourceError(f"the day is one file, found {len(inputs)}", mend="pass its dataset.toml")
    path = inputs[0]
    if rejects is not None:
        raise SourceError("a generated day sets no rows aside", file=path, mend="leave out --rejects")
    dataset = read_dataset(path)
    tell = on_progress or (lambda _share, _text: None)
    asked = dataset.parameters
    seeds = np.random.SeedSequence(asked.seed).spawn(len(_PARTS))
    rng = {part: np.random.Generator(np.random.PCG64(seed)) for part, seed in zip(_PARTS, seeds, strict=True)}
    with TapeWriter(out, venue=dataset.venue, importer="demo-crash", force=force) as writer:
        _declare_markets(writer)
        tell(0.0, "prices")
        paths = make_paths(rng["prices"], asked.crash)
        _put(writer, "prices", _price_rows(paths))
        tell(0.1, "accounts")
        people = make_people(rng["accounts"], asked.accounts, paths.marks[0])
        _put_opening(writer, people, dataset)
        fate = foresee(people, paths)
        tell(0.2, "trades")
        fills = make_trades(rng["trades"], people, fate, paths, asked.matches)
        _put(writer, "fills", fills)
        tell(0.4, "funding and transfers")
        _put(writer, "funding", make_funding(rng["funding"], paths))
        _put(writer, "transfers", make_transfers(rng["transfers"], people, fate, paths))
        tell(0.45, "depth")
        _put(writer, "depth", make_depth(rng["depth"], paths, asked.depth))
        tell(0.6, "writing")
        kinds = {f"accounts of kind {kind}": end - first for kind, (first, end) in people.kinds.items()}
        manifest = writer.finish(
            sources=[{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}],
            lacks=LACKS,
            assumptions=ASSUMPTIONS,
            counts={"matches": len(fills["ts"]) // 2, **kinds},
            accounts_start="known",
        )
    tell(1.0, f"wrote {out.name}")
    return manifest


def _declare_markets(writer: TapeWriter) -> None:
    for market in MARKETS:
        writer.market(
            market.name,
            settle=LEDGERS[market.ledger],
            dex=MAIN_DEX,
            payoff=market.payoff,
            multiplier=Fraction(CONTRACT_USD if market.is_inverse else 1),
            tick=(1, market.price_digits),
            lot=(1, market.lot_digits),
        )


def _put(writer: TapeWriter, table: str, rows: Mapping[str, npt.NDArray[Any]]) -> None:
    """Append rows to a table: digits beside scaled columns, null for an id of -1."""
    columns: dict[str, Any] = {}
    for column_of in TABLES[table].columns:
        values = rows.get(column_of.name)
        if values is None:
            continue
        columns[column_of.name] = (
            pa.array(values, mask=values < 0) if column_of.name == "market" and column_of.nullable else values
        )
        if column_of.unit in SCALE_OF:
            columns[f"{column_of.name}_digits"] = _DIGITS[column_of.unit][rows["market"]]
    writer.append(table, columns)


def _price_rows(paths: Paths) -> dict[str, npt.NDArray[Any]]:
    """Return the rows of ``prices``: at each step the marks of all markets, then their index prices."""
    shape = (len(paths.ts), 2, len(MARKETS))
    return {
        "ts": np.broadcast_to(paths.ts[:, None, None], shape).ravel(),
        "market": np.broadcast_to(np.arange(len(MARKETS)), shape).ravel(),
        "kind": np.broadcast_to(np.array([[PriceKind.MARK], [PriceKind.INDEX]], np.int8), shape).ravel(),
        "price": np.stack((paths.marks, paths.index), axis=1).ravel(),
    }


def _put_opening(writer: TapeWriter, people: People, dataset: Dataset) -> None:
    """Put accounts, pools and positions of the start, and the opening cash of funds and vaults."""
    for name in people.names:
        writer.account(name)
    _put(
        writer,
        "accounts",
        {
            "account": people.pool_account,
            "ledger": people.pool_ledger,
            "market": people.pool_market,
            "cash": people.pool_cash,
            "grade": np.full(len(people.pool_cash), int(Grade.KNOWN)),
        },
    )
    funds = dataset.funds
    _put(
        writer,
        "accounts",
        {
            "account": np.array([writer.account(fund.name) for fund in funds], np.int64),
            "ledger": np.array([fund.ledger for fund in funds], np.int64),
            "market": np.full(len(funds), -1),
            "cash": np.array([fund.atoms for fund in funds], np.int64),
            "grade": np.full(len(funds), int(Grade.KNOWN)),
        },
    )
    _put(
        writer,
        "positions",
        {
            "account": people.account,
            "market": people.market,
            "mode": people.mode,
            "size": people.size,
            "entry_price": people.entry,
        },
    )
