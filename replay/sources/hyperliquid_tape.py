"""Understood rows of Hyperliquid node fills onto the tables of a tape: ids, ledgers, liquidations, marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.sources._numbers import round_digits
from replay.sources.hyperliquid_contexts import Contexts
from replay.sources.hyperliquid_rows import Rows
from replay.sources.hyperliquid_words import NET_CHILD_VAULTS, Liquidation, Method, is_spot
from replay.tape.schema import MAIN_DEX, SPOT_DEX, FillKind, Mode, Payoff, PriceKind, Role
from replay.tape.write import TapeWriter

_DOLLAR = "USDC"
_SPOT_DECIMALS = 6
"""Decimals kept of spot sizes: dust has ten, and trades of billions of tokens must fit 62 bits beside it."""

_METHOD_WORDS = {Method.MARKET: "market", Method.BACKSTOP: "backstop"}
_FORCED = {
    FillKind.LIQUIDATION: "liquidation fills",
    FillKind.BACKSTOP: "backstop fills",
    FillKind.ADL: "adl fills",
    FillKind.SETTLEMENT: "settlement fills",
}


class FillsTape:
    """Gives ids and appends understood rows to the tape's tables; ``counts`` says how many of what.

    Args:
        writer: The tape being written.
        contexts: Marks and oracles by the minute, between which the marks of liquidations stand.
    """

    def __init__(self, writer: TapeWriter, contexts: Contexts) -> None:
        self._writer = writer
        self._contexts = contexts
        self._liquidations = 0
        self._settle: dict[str, str] = {}
        self._marks_of = -1
        self._marks: set[tuple[int, tuple[int, int]]] = set()
        self.counts = dict.fromkeys(
            (
                "fills",
                "spot fills",
                "builder dex fills",
                "fills without their other row",
                *_FORCED.values(),
                "forced fills of an unknown victim",
                "liquidation rows without a method",
                "net child vault fills",
                "maker rebates",
                "fees rounded",
                "positions cleaned of float noise",
                "spot sizes rounded",
            ),
            0,
        )

    def append(self, rows: Rows, ts: npt.NDArray[np.int64], block: npt.NDArray[np.int64]) -> None:
        """Append the rows of a batch."""
        if rows.row.size == 0:
            return
        market, fee_ledger = self._market_ids(rows)
        account, victims = self._account_ids(rows)
        spot = np.array([is_spot(name) for name in rows.coin_names], dtype=np.bool_)[rows.coin_codes]
        size = round_digits(rows.size, _SPOT_DECIMALS)
        paired = rows.partner >= 0
        self._writer.append(
            "fills",
            {
                "ts": ts,
                "block": pa.array(block, mask=block < 0),
                "market": market,
                "account": account,
                "qty": np.where(spot, size.mantissa, rows.size.mantissa) * rows.sign,
                "qty_digits": np.where(spot, size.digits, rows.size.digits),
                "price": rows.price.mantissa,
                "price_digits": rows.price.digits,
                "fee": rows.fee,
                "fee_ledger": fee_ledger,
                "role": np.where(rows.crossed, np.int8(Role.TAKER), np.int8(Role.MAKER)),
                "kind": rows.kind,
                "match": pa.array(rows.tid, mask=rows.tid == 0),
                "paired": paired.astype(np.int8),
                "victim": pa.array(victims, mask=victims < 0),
                "start_position": pa.array(rows.start.mantissa, mask=spot),
                "start_position_digits": pa.array(rows.start.digits, mask=spot),
                "mode": np.full(market.size, Mode.CROSS, dtype=np.int8),
            },
        )
        self._append_liquidations(rows, ts, market, account, victims, ~spot)
        self._count(rows, spot, paired, victims)
        self.counts["spot sizes rounded"] += int(np.count_nonzero(size.rounded & spot))

    def _market_ids(self, rows: Rows) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16]]:
        """Return the market and the fee ledger of each row: its fee token on the dex of the market."""
        tokens = len(rows.token_names) + 1
        key = rows.coin_codes.astype(np.int64) * tokens + rows.token_codes + 1
        markets = np.zeros(len(rows.coin_names) * tokens, dtype=np.int32)
        ledgers = np.zeros(markets.size, dtype=np.int16)
        for code, row in _first_seen(key):
            coin = rows.coin_names[int(rows.coin_codes[row])]
            token = int(rows.token_codes[row])
            dex = _dex_of(coin)
            known = dex in (MAIN_DEX, SPOT_DEX) or token < 0
            settle = self._settle.setdefault(coin, _DOLLAR if known else rows.token_names[token])
            payoff = Payoff.SPOT if dex == SPOT_DEX else Payoff.LINEAR
            markets[code] = self._writer.market(coin, settle=settle, dex=dex, payoff=payoff)
            ledgers[code] = self._writer.ledger(dex, rows.token_names[token] if token >= 0 else settle)
        return markets[key], ledgers[key]

    def _account_ids(self, rows: Rows) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the account of each row and the victim of its match, -1 for none; ids in order of rows."""
        forced = np.flatnonzero((rows.kind != FillKind.TRADE) & (rows.kind != FillKind.SETTLEMENT)).tolist()
        victim_of = {row: name for row in forced if (name := rows.victim_of(row)) is not None}
        names = [(row, 0, rows.user_names[code]) for code, row in _first_seen(rows.user_codes)]
        names += [(row, 1, name) for row, name in victim_of.items()]
        ids = {name: self._writer.account(name) for _row, _rank, name in sorted(names)}
        accounts = np.array([ids.get(name, -1) for name in rows.user_names], dtype=np.int32)
        victims = np.full(rows.row.size, -1, dtype=np.int32)
        for row, name in victim_of.items():
            victims[row] = ids[name]
        return accounts[rows.user_codes], victims

    def _append_liquidations(
        self,
        rows: Rows,
        ts: npt.NDArray[np.int64],
        market: npt.NDArray[np.int32],
        account: npt.NDArray[np.int32],
        victims: npt.NDArray[np.int32],
        perp: npt.NDArray[np.bool_],
    ) -> None:
        """Append the marks of liquidations, and a liquidation for each row of a victim."""
        forced = np.flatnonzero((rows.kind != FillKind.TRADE) & perp)
        found = [rows.liquidation_of(row) for row in forced.tolist()]
        self._append_marks(found, ts[forced].tolist(), market[forced].tolist())
        own = np.flatnonzero(account[forced] == victims[forced])
        legs = forced[own]
        if legs.size == 0:
            return
        causes = [found[place] for place in own.tolist()]
        marks = [(None, None) if cause is None or cause.mark is None else cause.mark for cause in causes]
        words = [rows.dir_of(row).split(" ") for row in legs.tolist()]
        self._writer.append(
            "liquidations",
            {
                "ts": ts[legs],
                "liquidation": np.arange(self._liquidations, self._liquidations + legs.size),
                "account": account[legs],
                "market": market[legs],
                "qty": rows.size.mantissa[legs] * rows.sign[legs],
                "qty_digits": rows.size.digits[legs],
                "price": rows.price.mantissa[legs],
                "price_digits": rows.price.digits[legs],
                "price_kind": ["fill"] * legs.size,
                "mode": [word[1] if word[0] == "Liquidated" else None for word in words],
                "method": [None if cause is None else _METHOD_WORDS.get(cause.method) for cause in causes],
                "mark": [mantissa for mantissa, _digits in marks],
                "mark_digits": [digits for _mantissa, digits in marks],
            },
        )
        self._liquidations += legs.size

    def _append_marks(self, found: list[Liquidation | None], ts: list[int], market: list[int]) -> None:
        """Append the marks of liquidations, each once per block, market and value."""
        marks: list[tuple[int, int, int, int]] = []
        for cause, moment, where in zip(found, ts, market, strict=True):
            if moment != self._marks_of:
                self._marks_of = moment
                self._marks.clear()
            if cause is not None and cause.mark is not None and (where, cause.mark) not in self._marks:
                self._marks.add((where, cause.mark))
                marks.append((moment, where, *cause.mark))
        if marks:
            moments, markets, mantissas, digits = zip(*marks, strict=True)
            columns = {"ts": moments, "market": markets, "price": mantissas, "price_digits": digits}
            rows = {**columns, "kind": [int(PriceKind.EVENT)] * len(marks)}
            self._contexts.write_until(moments[-1], rows)

    def _count(
        self,
        rows: Rows,
        spot: npt.NDArray[np.bool_],
        paired: npt.NDArray[np.bool_],
        victims: npt.NDArray[np.int32],
    ) -> None:
        builder = np.array([":" in name for name in rows.coin_names], dtype=np.bool_)[rows.coin_codes]
        forced = (rows.kind != FillKind.TRADE) & (rows.kind != FillKind.SETTLEMENT)
        found: dict[str, Any] = {
            "fills": rows.row.size,
            "spot fills": np.count_nonzero(spot),
            "builder dex fills": np.count_nonzero(builder & ~spot),
            "fills without their other row": np.count_nonzero(~paired),
            **{name: np.count_nonzero(rows.kind == kind) for kind, name in _FORCED.items()},
            "forced fills of an unknown victim": np.count_nonzero(forced & (victims < 0)),
            "liquidation rows without a method": sum(
                liquidation.method == Method.EMPTY for liquidation in rows.liquidations.values()
            ),
            "net child vault fills": rows.count_dir(NET_CHILD_VAULTS),
            "maker rebates": np.count_nonzero(rows.fee < 0),
            "positions cleaned of float noise": np.count_nonzero(rows.start.rounded & ~spot),
            "fees rounded": np.count_nonzero(rows.fee_rounded),
        }
        for name, count in found.items():
            self.counts[name] += int(count)


def _dex_of(coin: str) -> str:
    """Return the dex of a coin: ``xyz`` of ``xyz:GOLD``, the spot dex of balances, else the main dex."""
    return SPOT_DEX if is_spot(coin) else coin.rpartition(":")[0] or MAIN_DEX


def _first_seen(codes: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Return each code with its first row, in order of appearance."""
    found, rows = np.unique(codes, return_index=True)
    order = np.argsort(rows)
    return list(zip(found[order].tolist(), rows[order].tolist(), strict=True))
