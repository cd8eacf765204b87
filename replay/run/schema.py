"""The tables of a run: columns, units, meanings. The docs and the SQL views are generated from this module.

A run is a folder with ``run.json`` and one Parquet file per table, plus the dimension tables of the tape
(``markets``, ``account_names`` with the pseudo accounts appended, ``ledgers``), so that it explains itself.
Numbers are integers in the units of the tape; the views of :mod:`replay.run.sql` decode them.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum

import pyarrow as pa

from replay.tape.schema import ACCOUNT_NAMES, LEDGERS, MARKETS, Column, Grade, Mode, Payoff, Table, Unit

FORMAT = 1
"""Version of the run format, written to ``run.json``; readers refuse any other."""

MANIFEST = "run.json"

_TS = Column("ts", pa.int64(), "end of the step", Unit.TIME)
_SEQ = Column("seq", pa.int64(), "order within the table, from 0")
_ACCOUNT = Column("account", pa.int32(), "id in `account_names`")
_LEDGER = Column("ledger", pa.int16(), "id in `ledgers`")
_MARKET = Column("market", pa.int32(), "id in `markets`")
_MODE = Column("mode", pa.int8(), "margin mode: 0 cross or unknown, 1 isolated")
_GRADE = Column("grade", pa.int8(), "equity of the pool is 0 known, 1 bounded, 2 assumed, 3 unknown")
_LIQUIDATION = Column("liquidation", pa.int64(), "id in `liquidations` of this run")
_POOL_MARKET = Column("market", pa.int32(), "market of an isolated pool; null if cross", nullable=True)


def _money(name: str, meaning: str, *, nullable: bool = False) -> Column:
    return Column(name, pa.int64(), meaning, Unit.MONEY, nullable)


def _qty(name: str, meaning: str, *, nullable: bool = False) -> Column:
    return Column(name, pa.int64(), meaning, Unit.QTY, nullable)


def _mark(name: str, meaning: str, *, nullable: bool = False) -> Column:
    return Column(name, pa.int64(), meaning, Unit.MARK, nullable)


ENGAGEMENTS = Table(
    "engagements",
    "stage of the waterfall that starts or stops",
    (
        _TS,
        _SEQ,
        Column("scope", pa.string(), "what the stage covers: a fund, a vault or a market, by name"),
        Column("market", pa.int32(), "market the quantity is in; null if it covers several", nullable=True),
        _LEDGER,
        Column(
            "stage", pa.string(), "stage of the waterfall: book, takeover, adl; guard: pools are passed over"
        ),
        Column("state", pa.string(), "`start`, `stop`, or `engaged` (starts and stops within the step)"),
        Column("reason", pa.string(), "why, in one sentence"),
        _money("measured", "what the start or stop rule measured"),
        _money("threshold", "what it was compared with"),
        _money("fund_balance", "balance of the fund of the scope after the step", nullable=True),
        _qty("quantity", "quantity needed from the stage", nullable=True),
        Column("shadow", pa.int8(), "1 if the recorded day was only judged and nothing was booked"),
    ),
    event=False,
)
LIQUIDATIONS = Table(
    "liquidations",
    "liquidation (episode of a pool) and market",
    (
        Column("liquidation", pa.int64(), "id; the same on all markets of one episode"),
        Column("ts", pa.int64(), "step of the breach", Unit.TIME),
        Column(
            "ts_end",
            pa.int64(),
            "step in which the pool was restored or flat; null if the tape ended before",
            Unit.TIME,
            nullable=True,
        ),
        _ACCOUNT,
        _LEDGER,
        _MARKET,
        _MODE,
        _qty("size", "signed size before"),
        _qty("asked", "quantity the rules wanted to close, in all attempts"),
        _qty("netted", "part of it closed against the same account's other positions"),
        _qty("book", "part of it filled in the book"),
        _qty("absorbed", "part of it taken over by a fund or vault"),
        _qty("adl", "part of it closed against winners"),
        _qty("left", "part of it nobody took"),
        _money("bankruptcy_value", "signed value at which the position leaves the pool no equity"),
        _mark("mark", "the replay's mark at the breach"),
        _money("equity", "equity of the pool at the breach"),
        _money("maintenance", "maintenance requirement of the pool at the breach"),
        _money("surplus", "gain over the bankruptcy value"),
        _money("shortfall", "loss beyond equity: fund + vault + socialised + bad debt"),
        _money("fund", "part of the shortfall paid by funds"),
        _money("vault", "part of the shortfall borne by vaults"),
        _money("socialised", "part of the shortfall shared out"),
        _money("bad_debt", "part of the shortfall nobody paid"),
        Column("recorded", pa.int8(), "1 if the tape has one of this account and market in the same step"),
    ),
    event=False,
)
FORCED_ORDERS = Table(
    "forced_orders",
    "attempt to close a position by force",
    (
        _TS,
        _SEQ,
        _LIQUIDATION,
        Column("stage", pa.string(), "stage of the ladder that made the attempt"),
        _ACCOUNT,
        _MARKET,
        _qty("asked", "signed quantity of the order: + buys, - sells"),
        Column("limit_price", pa.int64(), "limit; null if none", Unit.PRICE, nullable=True),
        _qty("filled", "signed quantity filled"),
        _money("value", "signed contract value of what was filled"),
        _mark("mark", "the replay's mark"),
        Column("reason", pa.string(), "why the attempt ended"),
    ),
    event=False,
)
ABSORBER_LEDGER = Table(
    "absorber_ledger",
    "movement of a fund or vault",
    (
        _TS,
        _SEQ,
        Column("account", pa.int32(), "the fund's or vault's pseudo account, id in `account_names`"),
        _LEDGER,
        Column("market", pa.int32(), "market of the movement; null if none", nullable=True),
        Column(
            "kind",
            pa.string(),
            "`opening`, `surplus`, `fee`, `takeover`, `work out`, `deleveraged`, or `debt` that it paid",
        ),
        _money("amount", "what the movement brought (+) or cost (-) it at the mark"),
        _money("balance", "its equity at the marks after the movement"),
        _qty("inventory", "its signed size in the market after the movement", nullable=True),
    ),
    event=False,
)
ADL_FILLS = Table(
    "adl_fills",
    "winner closed against a loser",
    (
        _TS,
        _SEQ,
        Column("liquidation", pa.int64(), "id in `liquidations`; null if an absorber lost", nullable=True),
        Column("loser", pa.int32(), "account that loses, id in `account_names`"),
        Column("winner", pa.int32(), "account that is deleveraged, id in `account_names`"),
        _MARKET,
        _LEDGER,
        Column("origin", pa.string(), "`ladder`, `takeover` (beyond its capacity), or the absorber"),
        Column("rank", pa.int32(), "rank of the winner, from 1"),
        Column("candidates", pa.int32(), "of how many"),
        Column("score", pa.float64(), "the score it was ranked by"),
        Column("lights", pa.int8(), "lights lit before"),
        _qty("quantity", "quantity closed"),
        _money("value", "signed contract value of the loser's part that was closed"),
        _mark("mark", "the replay's mark"),
        _money("realised", "change of the winner's cash, fee included"),
        _money("loser_fee", "fee of the loser"),
        _money("winner_fee", "fee of the winner"),
        _qty("loser_size_before", "signed size before the step's deleveraging"),
        _qty("loser_size_after", "and after"),
        _qty("winner_size_before", "signed size before the step's deleveraging"),
        _qty("winner_size_after", "and after"),
        _money("loser_equity_before", "equity of the pool before the step's deleveraging"),
        _money("loser_equity_after", "and after"),
        _money("winner_equity_before", "equity of the pool before the step's deleveraging"),
        _money("winner_equity_after", "and after"),
        _money("winner_notional_before", "notional of the pool's positions before"),
    ),
    event=False,
)
SHARED_LOSSES = Table(
    "shared_losses",
    "loss that no stage took",
    (
        _TS,
        _SEQ,
        _LIQUIDATION,
        _ACCOUNT,
        _LEDGER,
        Column(
            "kind", pa.string(), "`socialised`: the account paid it for others; `bad_debt`: nobody paid it"
        ),
        _money("amount", "the loss"),
    ),
    event=False,
)
ACCOUNTS_END = Table(
    "accounts_end",
    "pool at the end of the run",
    (
        _ACCOUNT,
        _LEDGER,
        _POOL_MARKET,
        _money("cash", "cash of the pool"),
        _money("equity", "cash and profit at the last marks; null if a market never had one", nullable=True),
        _money("maintenance", "maintenance requirement at the last marks", nullable=True),
        _GRADE,
        Column("special", pa.int8(), "1 for pseudo accounts"),
    ),
    event=False,
)
POSITIONS_END = Table(
    "positions_end",
    "position at the end of the run that is, was recorded as, or costs other than nothing",
    (
        _ACCOUNT,
        _MARKET,
        _MODE,
        _qty("size", "signed size in the replay"),
        _qty("recorded_size", "signed size according to the tape"),
        _money("cost", "signed entry value"),
        _mark("mark", "last mark; null if the market never had one", nullable=True),
        _money("value", "signed contract value at the last mark", nullable=True),
        Column("entry_unknown", pa.int8(), "1 if the tape does not tell the entry price"),
    ),
    event=False,
)
BREAKS = Table(
    "breaks",
    "break in a chain of start positions: fills of the account are missing on the tape",
    (
        _TS,
        _SEQ,
        _ACCOUNT,
        _MARKET,
        _qty("expected", "size after the last fill on the tape"),
        _qty("found", "size before this fill according to the tape"),
    ),
    event=False,
)
AUDIT = Table(
    "audit",
    "market leg of a recorded liquidation, compared with the rules' verdict on the replayed state",
    (
        _TS,
        _SEQ,
        Column("liquidation", pa.int64(), "id of the recorded liquidation; the same on all of its legs"),
        _ACCOUNT,
        _LEDGER,
        Column("market", pa.int32(), "market of the leg; null without a forced fill", nullable=True),
        Column("legs", pa.int32(), "legs of this liquidation"),
        Column("leverage_type", pa.string(), "margin mode in the source's words", nullable=True),
        Column("method", pa.string(), "how it was closed in the source's words", nullable=True),
        _money("recorded_notional", "recorded notional of all legs", nullable=True),
        _money("recorded_equity", "recorded equity of the pool", nullable=True),
        _mark("recorded_mark", "recorded or implied mark of the leg", nullable=True),
        _qty("fill_qty", "signed quantity of the forced fills of the leg", nullable=True),
        _money("fill_value", "signed contract value of the forced fills of the leg", nullable=True),
        Column("fill_price", pa.int64(), "average price of the forced fills", Unit.PRICE, nullable=True),
        _qty("replayed_size", "signed size before the step's forced fills", nullable=True),
        _money("replayed_cost", "signed entry value before the step's forced fills", nullable=True),
        _mark("mark", "the replay's mark", nullable=True),
        _money("replayed_equity", "equity of the pool at the replay's marks", nullable=True),
        _money("replayed_equity_recorded_mark", "the same, this market at the recorded mark", nullable=True),
        _money("replayed_maintenance", "maintenance requirement of the pool", nullable=True),
        _money("replayed_notional", "notional of the pool's positions", nullable=True),
        _money("bankruptcy_value", "bankruptcy value of the leg under the rules", nullable=True),
        _GRADE,
        Column("verdict", pa.string(), "what the rules say; see `VERDICTS`"),
        Column("stage", pa.string(), "stage the rules would use", nullable=True),
        _qty("booked", "quantity the depth of the rules would take (`--execution depth`)", nullable=True),
        _qty("absorbed", "quantity a fund or vault could take", nullable=True),
        _qty("adl_needed", "quantity left to auto-deleveraging", nullable=True),
        _money(
            "anchored",
            "cash booked against @unexplained just before, to meet recorded equity; on the first leg only",
            nullable=True,
        ),
        _qty("size_after", "signed size in the replay after the step", nullable=True),
        _money("cost_after", "signed entry value in the replay after the step", nullable=True),
        Column("replayed_ts", pa.int64(), "when the rules liquidated this account", Unit.TIME, nullable=True),
        _money("turnover", "traded value of the account's fills in this pool so far", nullable=True),
        Column("cause", pa.string(), "why rules and record differ, if they do", nullable=True),
    ),
    event=False,
)

MARKET_SERIES = Table(
    "market_series",
    "sample of a market that has a mark (`--sample`)",
    (
        Column("ts", pa.int64(), "moment of the sample: the last step at or before it shows", Unit.TIME),
        _SEQ,
        _MARKET,
        _LEDGER,
        _mark("mark", "the replay's mark"),
        _qty("open_interest", "sum of all long positions"),
        _qty("bid_depth", "quantity that forced sales would find; null without depth", nullable=True),
        _qty("ask_depth", "quantity that forced purchases would find; null without depth", nullable=True),
        _qty("book_size", "signed size of @book: how far replay and record have diverged"),
        _money(
            "fund_balance",
            "equity of the funds and vaults that answer for this market; null without one",
            nullable=True,
        ),
        _qty("fund_size", "signed size they hold in this market; null without one", nullable=True),
    ),
    event=False,
)
ACCOUNT_SERIES = Table(
    "account_series",
    "sample of an open position of an account that is watched, was added, or was touched before (`--sample`)",
    (
        Column("ts", pa.int64(), "moment of the sample: the last step at or before it shows", Unit.TIME),
        _SEQ,
        _ACCOUNT,
        _LEDGER,
        _MARKET,
        _MODE,
        _qty("size", "signed size"),
        _money("cost", "signed entry value"),
        _mark("mark", "the replay's mark"),
        _money("value", "signed contract value at the mark"),
        _money("equity", "equity of its pool; null if unknown", nullable=True),
        _money("maintenance", "maintenance requirement of its pool; null if unknown", nullable=True),
        Column("rank", pa.int32(), "rank in the ADL queue, from 1; null if no candidate", nullable=True),
        Column("candidates", pa.int32(), "of how many", nullable=True),
        Column("lights", pa.int8(), "lights lit", nullable=True),
    ),
    event=False,
)

RUN_TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        ENGAGEMENTS,
        LIQUIDATIONS,
        FORCED_ORDERS,
        ABSORBER_LEDGER,
        ADL_FILLS,
        SHARED_LOSSES,
        ACCOUNTS_END,
        POSITIONS_END,
        BREAKS,
        AUDIT,
        MARKET_SERIES,
        ACCOUNT_SERIES,
    )
}
"""The tables the journal writes."""

DIMENSIONS: dict[str, Table] = {
    table.name: table
    for table in (
        MARKETS,
        replace(
            ACCOUNT_NAMES,
            columns=(
                *ACCOUNT_NAMES.columns,
                Column("added", pa.int8(), "1 if the user put it into the day with `--add`"),
            ),
        ),
        LEDGERS,
    )
}
"""The tables copied from the tape; names of accounts also hold those that the run made."""

VERDICTS: dict[str, str] = {
    "agrees": "the rules breach in the same step",
    "healthy": "the rules see no breach on the replayed state",
    "unknown equity": "the pool's equity is not known, so it is not judged",
    "flat": "the account has no position in the replay",
    "unmatched": "the tape has no forced fill for it",
    "found": "the rules liquidated the account in the same step",
    "found earlier": "the rules had liquidated the account before",
    "found later": "the rules liquidated the account only after",
    "missed": "the rules never liquidated the account",
}
"""Meaning of ``audit.verdict``; the last four occur only where the rules make the liquidations."""

WORDS: dict[str, type[IntEnum]] = {"mode": Mode, "grade": Grade, "payoff": Payoff}
"""Columns of small integers that stand for words, and the words."""

FLAGS = frozenset({"shadow", "recorded", "special", "entry_unknown", "added"})
"""Columns of 0 or 1 that answer a question."""
