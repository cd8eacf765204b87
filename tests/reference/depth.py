"""The book of the reference engine: levels, what forced orders took, what recorded ones showed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from replay.tape.schema import FillKind, Payoff, Side
from tests.reference.books import ATOMS, RATE_ONE, Books, Pool, Position, contract_value

Row = dict[str, Any]


class Depth(Books):
    """Books with marks that move, and a book of orders; attributes are those of the waterfall."""

    def write(self, table: str, **columns: Any) -> None:
        self.rows.setdefault(table, []).append(columns)

    def check(self) -> None:
        """Leave the sums to the end of each step: in between every booking adds to zero by itself."""

    def worth(self, market: int, size: int, mark: int | None = None) -> int:
        spec = self.day.markets[market]
        return contract_value(spec, size, self.marks[market] if mark is None else mark, spec.mark_scale)

    def at_price(self, market: int, size: int, price: int) -> int:
        spec = self.day.markets[market]
        return contract_value(spec, size, price, spec.price_scale)

    def set_mark(self, market: int, mark: int) -> None:
        if self.marks.get(market) == mark:
            return
        if self.mark_ts.get(market) != self.ts:
            self.previous[market] = self.marks.get(market, mark)
            self.mark_ts[market] = self.ts
        self.marks[market] = mark
        self.moved = True

    def touch(self, pool: Pool) -> None:
        if pool not in self.touched:
            self.touched.append(pool)

    def pay(self, payer: Pool, receiver: Pool, amount: int) -> None:
        super().pay(payer, receiver, amount)
        if amount:
            self.touch(payer)
            self.touch(receiver)

    def book(
        self, position: Position, qty: int, value: int, price: int | None = None, scale: int = 0
    ) -> None:
        super().book(position, qty, value, price, scale)
        if qty:
            self.touch(position.pool)

    def levels(self, market: int, side: Side) -> list[tuple[int, int]]:
        """Return (price, quantity) of a side, best first, before what forced orders took."""
        rule = self.plan.depth
        assert rule is not None
        found: list[tuple[int, int]] = []
        if rule.provider == "levels":
            times = [row["ts"] for row in self.depth_rows if row["market"] == market and row["ts"] <= self.ts]
            if times:
                found = [
                    (row["price"], row["qty"])
                    for row in self.depth_rows
                    if row["market"] == market and row["ts"] == max(times) and row["side"] == side
                ]
        elif market in self.marks:
            if rule.provider == "static":
                for basis_points, notional in rule.static:
                    price = self.behind(market, side, basis_points)
                    if price > 0:
                        found.append((price, self.quantity_for(market, notional, price)))
            else:
                price = self.behind(market, side, rule.slippage_bp)
                if price > 0:
                    found = [(price, self.traded(market) * rule.participation_rate // RATE_ONE)]
        found.sort(key=lambda level: -level[0] if side == Side.BID else level[0])
        kept = RATE_ONE - rule.haircut_rate
        return [(price, quantity * kept // RATE_ONE) for price, quantity in found]

    def behind(self, market: int, side: Side, basis_points: int) -> int:
        """Return the price so far behind the mark, on the tick away from it."""
        spec = self.day.markets[market]
        away = -basis_points if side == Side.BID else basis_points
        exact = Fraction(
            self.marks[market] * (10_000 + away), 10_000 * 10 ** (spec.mark_scale - spec.price_scale)
        )
        return exact.__floor__() if side == Side.BID else exact.__ceil__()

    def quantity_for(self, market: int, notional: int, price: int) -> int:
        """Return the lots that are worth a notional in atoms at a price, half to even."""
        spec = self.day.markets[market]
        scale = Fraction(10**spec.price_scale)
        per_unit = spec.multiplier * ATOMS / Fraction(10**spec.qty_scale)
        if spec.payoff == Payoff.INVERSE:
            return round(notional * Fraction(price) / (per_unit * scale))
        return round(notional / (per_unit * Fraction(price) / scale))

    def traded(self, market: int) -> int:
        """Return what was traded voluntarily in the last 64 buckets of time, the present one included."""
        assert self.plan.depth is not None
        width = max(1, self.plan.depth.window_ns // 64)
        now = self.ts // width
        return sum(q for ts, m, q in self.volumes if m == market and now - 64 < ts // width <= now)

    def missing(self, market: int, side: Side) -> int:
        """Return how much of what forced orders took is not back yet; half comes back each half-life."""
        assert self.plan.depth is not None
        quantity, ts = self.taken.get((market, side), (0, self.ts))
        half_life = self.plan.depth.half_life_ns
        if half_life == 0:
            return quantity if ts == self.ts else 0
        whole, rest = divmod(self.ts - ts, half_life)
        return (quantity >> whole) * (2 * half_life - rest) // (2 * half_life) if whole < 63 else 0

    def shown(self, market: int, side: Side) -> list[tuple[int, int]]:
        """Return what recorded forced orders of this step took from a side."""
        return [
            (row.price, abs(row.qty))
            for row in self.day.fills
            if row.ts == self.ts
            and row.market == market
            and row.kind == FillKind.LIQUIDATION
            and row.account == row.victim
            and (row.qty < 0) == (side == Side.BID)
        ]

    def walk(
        self, market: int, side: Side, orders: list[tuple[int, int | None, bool]]
    ) -> list[tuple[int, int]]:
        """Let orders (asked, limit, whole or nothing) walk the levels; return (filled, value) magnitudes."""
        assert self.plan.depth is not None
        missing = self.missing(market, side)
        rest, book, offered = missing, [], self.levels(market, side)
        room = sum(quantity for _, quantity in offered) * self.plan.depth.cap_rate // RATE_ONE
        room = max(0, room - self.taken_in_step.get((market, side, self.ts), 0))
        for price, quantity in offered:
            gone = min(rest, quantity)
            rest -= gone
            there = min(room, quantity - gone)
            self.met["the cap of a step"] += there < quantity - gone
            room -= there
            book.append([price, there, False, 0])
        shown = self.shown(market, side)
        left = self.shown_left.get((market, side), [quantity for _, quantity in shown])
        book += [
            [price, there, True, index]
            for index, ((price, _), there) in enumerate(zip(shown, left, strict=True))
        ]
        book.sort(key=lambda level: -level[0] if side == Side.BID else level[0])
        results, used = [], 0
        for asked, limit, whole in orders:
            reach = [
                level
                for level in book
                if limit is None or (level[0] >= limit if side == Side.BID else level[0] <= limit)
            ]
            filled = value = 0
            if not whole or sum(level[1] for level in reach) >= asked:
                for level in reach:
                    piece = min(asked - filled, level[1])
                    if piece:
                        level[1] -= piece
                        filled += piece
                        value += abs(self.at_price(market, piece, level[0]))
                        used += 0 if level[2] else piece
            results.append((filled, value))
        if used:
            self.taken[market, side] = (missing + used, self.ts)
            self.taken_in_step[market, side, self.ts] += used
        if shown:
            self.shown_left[market, side] = [
                next(level[1] for level in book if level[2] and level[3] == index)
                for index in range(len(shown))
            ]
        return results
