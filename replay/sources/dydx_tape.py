"""Understood rows of dYdX v4 onto the tables of a tape: accounts, matches of two rows, liquidations, oracle prices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from replay.sources.dydx_rows import (
    DELEVERAGED,
    FORCED,
    OFFSETTING,
    VICTIMS,
    Fill,
    Funding,
    Market,
    Price,
    Subaccount,
    Trade,
    Transfer,
)
from replay.tape.schema import MAIN_DEX, FillKind, Grade, Mode, PriceKind, Role, TransferKind
from replay.tape.write import TapeWriter
from replay.units import MONEY_SCALE, rescale

_DOLLAR = "USDC"
UNSEEN = "@unseen"
"""Whose liquidations are that the trades print without a name."""

_KINDS = {
    **dict.fromkeys(("LIQUIDATED", "LIQUIDATION"), FillKind.LIQUIDATION),
    **dict.fromkeys((DELEVERAGED, OFFSETTING), FillKind.ADL),
}
_PRICE_KINDS = {"LIQUIDATED": "fill", DELEVERAGED: "bankruptcy"}


class DydxTape:
    """Appends rows to the tables of a tape; ``counts`` says how many of what.

    Args:
        writer: The tape being written.
        markets: Steps of markets, as far as they are known.
    """

    def __init__(self, writer: TapeWriter, markets: Iterable[Market]) -> None:
        self._writer = writer
        self._steps = {market.ticker: market for market in markets}
        self._ledger = writer.ledger(MAIN_DEX, _DOLLAR)
        self._legs: list[tuple[int, int, str, str, int, tuple[int, int], tuple[int, int], str]] = []
        self.counts: Counter[str] = Counter()

    def _market(self, ticker: str) -> int:
        steps = self._steps.get(ticker)
        tick, lot = (None, None) if steps is None else (steps.tick, steps.lot)
        return self._writer.market(ticker, settle=_DOLLAR, tick=tick, lot=lot)

    def add_opening(self, subaccounts: Sequence[Subaccount]) -> dict[str, int]:
        """Append the first state told of each account; return after which block each account's rows count.

        Cash of the tape is what the account has and what its positions cost: the chain takes the cost off.
        """
        first: dict[str, Subaccount] = {}
        for state in sorted(subaccounts, key=lambda state: state.height):
            self.counts["later states of accounts left out"] += state.account in first
            first.setdefault(state.account, state)
        pools, positions = [], []
        for state in first.values():
            account, cash = self._writer.account(state.account), state.quote
            for position in state.positions:
                if position.size[0] == 0:
                    continue
                cost = position.size[0] * position.entry[0]
                amount, is_rounded = rescale(cost, position.size[1] + position.entry[1], MONEY_SCALE)
                self.counts["opening costs rounded"] += is_rounded
                cash += amount
                positions.append(
                    (account, self._market(position.ticker), int(Mode.CROSS), *position.size, *position.entry)
                )
            pools.append((account, self._ledger, cash, int(Grade.KNOWN)))
        self._writer.append_rows("accounts", "account ledger cash grade", pools)
        self._writer.append_rows(
            "positions", "account market mode size size_digits entry_price entry_price_digits", positions
        )
        return {state.account: state.height for state in first.values()}

    def add_fills(self, fills: Sequence[Fill], opened: dict[str, int]) -> None:
        """Append fills after the opening of their account, both rows of a match joined where both are there."""
        kept = [fill for fill in fills if fill.height > opened.get(fill.account, -1)]
        self.counts["fills up to the opening left out"] += len(fills) - len(kept)
        kept.sort(key=lambda fill: (fill.ts, fill.height))
        other = _partners(kept)
        rows = []
        for place, fill in enumerate(kept):
            partner = other.get(place)
            names = {fill.kind: fill.account} | (
                {} if partner is None else {kept[partner].kind: kept[partner].account}
            )
            victim = next((names[kind] for kind in VICTIMS if kind in names), None)
            rows.append(
                (
                    fill.ts,
                    fill.height,
                    self._market(fill.ticker),
                    self._writer.account(fill.account),
                    fill.side * fill.size[0],
                    fill.size[1],
                    *fill.price,
                    fill.fee,
                    self._ledger,
                    int(Role.TAKER if fill.is_taker else Role.MAKER),
                    int(_KINDS.get(fill.kind, FillKind.TRADE)),
                    None if partner is None else min(place, partner),
                    int(partner is not None),
                    None if victim is None else self._writer.account(victim),
                    int(Mode.CROSS),
                )
            )
            if fill.kind in VICTIMS:
                self._legs.append(
                    (fill.ts, place, fill.account, fill.ticker, fill.side, fill.size, fill.price, fill.kind)
                )
        self.counts["fills without their other row"] += sum(row[13] == 0 for row in rows)
        self._writer.append_rows(
            "fills",
            "ts block market account qty qty_digits price price_digits fee fee_ledger role kind match paired victim "
            "mode",
            rows,
        )

    def add_trades(self, trades: list[Trade]) -> None:
        """Append matches without names; a forced one whose fill is there, too, is reported by the fill alone."""
        trades.sort(key=lambda trade: (trade.ts, trade.event))
        named = Counter(
            (ts, ticker, side, size, price) for ts, _, _, ticker, side, size, price, _ in self._legs
        )
        rows = []
        for trade in trades:
            rows.append((trade.ts, self._market(trade.ticker), *trade.price, *trade.size, trade.side))
            key = (trade.ts, trade.ticker, trade.side, trade.size, trade.price)
            if trade.kind not in FORCED:
                continue
            if named[key] > 0:
                named[key] -= 1
                continue
            self._legs.append(
                (
                    trade.ts,
                    len(self._legs),
                    UNSEEN,
                    trade.ticker,
                    trade.side,
                    trade.size,
                    trade.price,
                    trade.kind,
                )
            )
        self._writer.append_rows("trades", "ts market price price_digits qty qty_digits taker_side", rows)

    def add_liquidations(self) -> None:
        """Append a liquidation for each forced fill, and for each forced trade of nobody in particular."""
        rows = []
        for number, leg in enumerate(sorted(self._legs, key=lambda leg: leg[:2])):
            ts, _, account, ticker, side, size, price, kind = leg
            rows.append(
                (
                    ts,
                    number,
                    self._writer.account(account),
                    self._market(ticker),
                    side * size[0],
                    size[1],
                    *price,
                    _PRICE_KINDS[kind],
                    kind,
                )
            )
            self.counts["auto-deleveragings"] += kind == DELEVERAGED
        self._writer.append_rows(
            "liquidations",
            "ts liquidation account market qty qty_digits price price_digits price_kind method",
            rows,
        )

    def add_transfers(self, transfers: Sequence[Transfer], opened: dict[str, int]) -> None:
        """Append moves of cash after the opening of their accounts; the rows of a move between two sum to zero."""
        rows = []
        for move in sorted(transfers, key=lambda move: (move.ts, move.height)):
            ends = [
                (name, sign)
                for name, sign in ((move.sender, -1), (move.recipient, 1))
                if name is not None and move.height > opened.get(name, -1)
            ]
            self.counts["transfers up to the opening left out"] += not ends
            kind = TransferKind.MOVE
            if len(ends) == 1:
                kind = TransferKind.DEPOSIT if ends[0][1] > 0 else TransferKind.WITHDRAWAL
            rows += [
                (move.ts, self._writer.account(name), self._ledger, sign * move.amount, int(kind))
                for name, sign in ends
            ]
        self._writer.append_rows("transfers", "ts account ledger amount kind", rows)

    def add_prices(self, funding: list[Funding], prices: list[Price]) -> None:
        """Append oracle prices, which are marks, too, and last prices; then funding rates.

        The oracle price of a funding row stands a nanosecond before it, since it is paid at that price.
        """
        rows = []
        told = [Price(row.ts - 1, row.ticker, row.price, is_oracle=True) for row in funding]
        for price in sorted({*told, *prices}, key=lambda price: (price.ts, price.ticker, price)):
            market = self._market(price.ticker)
            kinds = (PriceKind.ORACLE, PriceKind.MARK) if price.is_oracle else (PriceKind.LAST,)
            rows += [(price.ts, market, *price.price, int(kind)) for kind in kinds]
        self._writer.append_rows("prices", "ts market price price_digits kind", rows)
        rates = sorted({(row.ts, self._market(row.ticker), row.rate) for row in funding})
        self._writer.append_rows("funding", "ts market rate", rates)


def _partners(fills: Sequence[Fill]) -> dict[int, int]:
    """Find the rows of one match: of one block, market, price and size, a taker and a maker of opposite sides."""
    free: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    for place, fill in enumerate(fills):
        key = (fill.ts, fill.height, fill.ticker, fill.price, fill.size)
        other = FORCED.get(fill.kind) or {kind: victim for victim, kind in FORCED.items()}.get(fill.kind, "")
        mine = (*key, fill.side, fill.is_taker, fill.kind if other else "")
        wanted = (*key, -fill.side, not fill.is_taker, other)
        waiting = next((one for one in free[wanted] if fills[one].account != fill.account), None)
        if waiting is None:
            free[mine].append(place)
            continue
        free[wanted].remove(waiting)
        found[place], found[waiting] = waiting, place
    return found
