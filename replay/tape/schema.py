"""The tables of a tape: columns, units, meanings, order. The docs are generated from this module.

A tape is a folder with ``tape.json`` and one Parquet dataset per table. Dimension tables are single
files; event tables are partitioned by UTC day and sorted by ``(ts, seq)``. Across tables the order of
events is ``(ts, rank, seq)`` with the rank of :data:`RANK`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import pyarrow as pa

FORMAT = 1
"""Version of the tape format, written to ``tape.json``; readers refuse any other."""

MANIFEST = "tape.json"
ROW_GROUP_ROWS = 122_880


class FillKind(IntEnum):
    """Why a fill happened. Everything but ``TRADE`` is forced."""

    TRADE = 0
    LIQUIDATION = 1  # forced order filled in the book
    BACKSTOP = 2  # taken over by a fund or vault, off the book
    ADL = 3
    SETTLEMENT = 4


class Role(IntEnum):
    """Which side of the match rested in the book."""

    MAKER = 0
    TAKER = 1
    UNKNOWN = 2


class PriceKind(IntEnum):
    """What a row of ``prices`` is."""

    MARK = 0  # the venue's published mark
    INDEX = 1
    ORACLE = 2
    LAST = 3
    EVENT = 4  # the mark the venue printed with a forced fill, or implied by its opening snapshot
    IMPLIED = 5  # recorded notional of a liquidation divided by the size it closed


class TransferKind(IntEnum):
    """Why cash moved into or out of a pool without a fill."""

    DEPOSIT = 0
    WITHDRAWAL = 1
    FUNDING = 2  # a funding payment recorded per account
    MOVE = 3  # between pools of the tape; the rows of one move sum to zero
    OTHER = 4


class Mode(IntEnum):
    """Margin mode of a position; ``CROSS`` also where the tape does not tell (a stated assumption)."""

    CROSS = 0
    ISOLATED = 1


class Grade(IntEnum):
    """How much is known of a pool's equity. Pools of ``UNKNOWN`` grade are booked, never risk-checked."""

    KNOWN = 0  # deposits from the start, or a snapshot
    BOUNDED = 1
    ASSUMED = 2
    UNKNOWN = 3


class Payoff(IntEnum):
    """How a contract pays. ``SPOT`` rows are kept on the tape but apart: only their fees are booked."""

    LINEAR = 0
    INVERSE = 1
    SPOT = 2


class Side(IntEnum):
    """A side of the book."""

    BID = 0
    ASK = 1


class Unit(StrEnum):
    """The unit of a column, which also tells the writer how to scale it."""

    NONE = ""
    TIME = "ns UTC"
    PRICE = "10^-price_scale of the market"
    MARK = "10^-mark_scale of the market"
    QTY = "10^-qty_scale of the market"
    MONEY = "1e-8 of the currency"
    RATE = "1e-12"


SCALE_OF = {Unit.PRICE: "price_scale", Unit.MARK: "mark_scale", Unit.QTY: "qty_scale"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, Arrow type, meaning, unit, and whether null (unknown) is allowed."""

    name: str
    type: pa.DataType
    meaning: str
    unit: Unit = Unit.NONE
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its grain in words, its columns, and whether it is an event table (partitioned by day)."""

    name: str
    grain: str
    columns: tuple[Column, ...]
    event: bool = True

    def column(self, name: str) -> Column:
        """Return a column by name."""
        return next(column for column in self.columns if column.name == name)

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema of the table's files."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


def _head() -> tuple[Column, ...]:
    return (
        Column("ts", pa.int64(), "moment of the event", Unit.TIME),
        Column("seq", pa.int64(), "order of the source within the table, strictly increasing"),
    )


_ACCOUNT = Column("account", pa.int32(), "id in `account_names`")
_MARKET = Column("market", pa.int32(), "id in `markets`")
_LEDGER = Column("ledger", pa.int16(), "id in `ledgers`")
_ISOLATED_MARKET = Column(
    "market", pa.int32(), "market of an isolated pool; null is the cross pool", nullable=True
)

MARKETS = Table(
    "markets",
    "market",
    (
        Column("market", pa.int32(), "id, by first appearance"),
        Column("name", pa.string(), "the venue's spelling, case kept"),
        Column("dex", pa.string(), "builder dex the market belongs to; empty on the main venue"),
        Column("payoff", pa.int8(), "0 linear, 1 inverse, 2 spot"),
        Column("ledger", pa.int16(), "ledger that margins and settles the market"),
        Column("multiplier_num", pa.int64(), "contract multiplier, numerator (of base, inverse: of quote)"),
        Column("multiplier_den", pa.int64(), "contract multiplier, denominator"),
        Column("price_scale", pa.int8(), "digits of prices"),
        Column("mark_scale", pa.int8(), "digits of marks, never fewer than of prices"),
        Column("qty_scale", pa.int8(), "digits of quantities"),
        Column("tick", pa.int64(), "least price step of orders the replay creates", Unit.PRICE),
        Column("lot", pa.int64(), "least quantity step of orders the replay creates", Unit.QTY),
    ),
    event=False,
)
ACCOUNT_NAMES = Table(
    "account_names",
    "account",
    (
        Column("account", pa.int32(), "id, by first appearance"),
        Column("name", pa.string(), "the venue's address or number; names with @ are pseudo accounts"),
    ),
    event=False,
)
LEDGERS = Table(
    "ledgers",
    "currency per dex: what a pool's cash is in",
    (
        Column("ledger", pa.int16(), "id, by first appearance"),
        Column("dex", pa.string(), "builder dex, `spot` for token balances, empty for the main venue"),
        Column("currency", pa.string(), "currency of the cash"),
    ),
    event=False,
)
TRANSFERS = Table(
    "transfers",
    "amount into (+) or out of (-) one pool",
    (
        *_head(),
        _ACCOUNT,
        _LEDGER,
        _ISOLATED_MARKET,
        Column("amount", pa.int64(), "signed cash", Unit.MONEY),
        Column("kind", pa.int8(), "0 deposit, 1 withdrawal, 2 funding, 3 move, 4 other"),
    ),
)
FUNDING = Table(
    "funding",
    "funding moment of one market",
    (
        *_head(),
        _MARKET,
        Column("rate", pa.int64(), "share of notional at mark that longs pay to shorts", Unit.RATE),
    ),
)
PRICES = Table(
    "prices",
    "price update of one market",
    (
        *_head(),
        _MARKET,
        Column("kind", pa.int8(), "0 mark, 1 index, 2 oracle, 3 last, 4 event, 5 implied"),
        Column("price", pa.int64(), "the price", Unit.MARK),
    ),
)
FILLS = Table(
    "fills",
    "account per match",
    (
        *_head(),
        Column("block", pa.int64(), "block of the venue", nullable=True),
        _MARKET,
        _ACCOUNT,
        Column("qty", pa.int64(), "signed quantity: + bought, - sold", Unit.QTY),
        Column("price", pa.int64(), "execution price", Unit.PRICE),
        Column("fee", pa.int64(), "paid (+) or received (-) by the account", Unit.MONEY),
        Column("fee_ledger", pa.int16(), "ledger the fee is in"),
        Column("role", pa.int8(), "0 maker, 1 taker, 2 unknown"),
        Column("kind", pa.int8(), "0 trade, 1 liquidation, 2 backstop, 3 adl, 4 settlement"),
        Column("match", pa.int64(), "same on both rows of a match", nullable=True),
        Column("paired", pa.int8(), "1 if the other row of the match is on the tape, else 0"),
        Column("victim", pa.int32(), "account whose position the match forced", nullable=True),
        Column("start_position", pa.int64(), "signed position before the fill", Unit.QTY, nullable=True),
        Column("mode", pa.int8(), "0 cross or unknown, 1 isolated"),
    ),
)
TRADES = Table(
    "trades",
    "match, without the names of who traded",
    (
        *_head(),
        _MARKET,
        Column("price", pa.int64(), "execution price", Unit.PRICE),
        Column("qty", pa.int64(), "quantity, above 0", Unit.QTY),
        Column("taker_side", pa.int8(), "1 the taker bought, -1 sold, 0 unknown"),
        Column("trade_id", pa.int64(), "the venue's number, where it is one", nullable=True),
    ),
)
LIQUIDATIONS = Table(
    "liquidations",
    "market leg of a recorded liquidation (or one forced fill, where the source has no report)",
    (
        *_head(),
        Column("liquidation", pa.int64(), "same on all legs of one recorded liquidation"),
        _ACCOUNT,
        Column("market", pa.int32(), "market of the leg; null without a forced fill", nullable=True),
        Column("qty", pa.int64(), "signed quantity of the forced fills of the leg", Unit.QTY, nullable=True),
        Column("price", pa.int64(), "price of the leg, see price_kind", Unit.PRICE, nullable=True),
        Column("price_kind", pa.string(), "`fill`, `order_limit`, `bankruptcy` or `mark`", nullable=True),
        Column("mode", pa.string(), "margin mode in the source's words", nullable=True),
        Column("method", pa.string(), "how it was closed in the source's words", nullable=True),
        Column("notional", pa.int64(), "recorded notional of all legs", Unit.MONEY, nullable=True),
        Column("equity", pa.int64(), "recorded equity of the pool", Unit.MONEY, nullable=True),
        Column("mark", pa.int64(), "recorded or implied mark of the leg", Unit.MARK, nullable=True),
    ),
)
DEPTH = Table(
    "depth",
    "price level of a snapshot; the rows of one moment and market are one snapshot",
    (
        *_head(),
        _MARKET,
        Column("side", pa.int8(), "0 bid, 1 ask"),
        Column("price", pa.int64(), "level", Unit.PRICE),
        Column("qty", pa.int64(), "quantity at the level, not cumulative", Unit.QTY),
    ),
)
OPEN_INTEREST = Table(
    "open_interest",
    "open interest of one market as its venue told it",
    (
        *_head(),
        _MARKET,
        Column("qty", pa.int64(), "what all longs hold together, as all shorts do", Unit.QTY),
    ),
)
ACCOUNTS = Table(
    "accounts",
    "pool of the opening snapshot",
    (
        _ACCOUNT,
        _LEDGER,
        _ISOLATED_MARKET,
        Column("cash", pa.int64(), "cash of the pool", Unit.MONEY),
        Column("grade", pa.int8(), "0 known, 1 bounded, 2 assumed, 3 unknown"),
    ),
    event=False,
)
POSITIONS = Table(
    "positions",
    "position of the opening snapshot",
    (
        _ACCOUNT,
        _MARKET,
        Column("mode", pa.int8(), "0 cross or unknown, 1 isolated"),
        Column("size", pa.int64(), "signed size", Unit.QTY),
        Column("entry_price", pa.int64(), "average entry price; null if unknown", Unit.PRICE, nullable=True),
    ),
    event=False,
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        MARKETS,
        ACCOUNT_NAMES,
        LEDGERS,
        ACCOUNTS,
        POSITIONS,
        TRANSFERS,
        FUNDING,
        PRICES,
        FILLS,
        TRADES,
        LIQUIDATIONS,
        DEPTH,
        OPEN_INTEREST,
    )
}
EVENT_TABLES = tuple(table.name for table in TABLES.values() if table.event)

RANK = {
    "transfers": 10,
    "funding": 20,
    "prices": 30,
    "depth": 40,
    "liquidations": 45,
    "fills": 50,
    "trades": 60,
}
"""Order of tables within one moment. Sources with blocks give all rows of a block one moment, so that
block and index order is ``(ts, seq)``; the mutual order of fills and prices of a block is an assumption."""

MAIN_DEX = ""
SPOT_DEX = "spot"
