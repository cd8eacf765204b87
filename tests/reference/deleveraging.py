"""Auto-deleveraging of the reference engine: ranking, pairing, prices, fees."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from replay.tape.schema import Grade, Payoff
from tests.reference.absorber import Absorbing
from tests.reference.books import ATOMS, RATE_ONE, Pool, Position, sign
from tests.reference.orders import Order

Ranking = list[tuple[float, Position]]
Piece = tuple[Order, int, int]
"""Who loses, the rank of who is closed against it, the quantity."""


class Deleveraging(Absorbing):
    """Books whose winners are closed against what nobody else takes."""

    def winners(self, market: int, *, losers_are_long: bool) -> list[tuple[float, Position]]:
        """Return candidates with their scores, first to be closed first."""
        assert self.plan.adl is not None
        found = []
        pools = {id(pool): number for number, pool in enumerate(self.pools.values())}
        for slot, position in enumerate(self.positions.values()):
            pool = position.pool
            if position.market != market or not position.size or (position.size > 0) == losers_are_long:
                continue
            if pool.account in self.plan.adl.exempt_accounts:
                self.met["an account is spared"] += 1
                continue
            if pool.special or any(pool is other for other in self.shut_out) or not self.marked(pool):
                continue
            value = self.value(position)
            if position.cost == 0 or value == 0:
                continue
            if value - position.cost <= 0 and self.plan.adl.loss_rule == "exclude":
                continue
            known = pool.grade < Grade.UNKNOWN
            equity, notional, share = abs(value), abs(value), abs(value)
            own = maintenance = self.position_maintenance(position)
            wallet = abs(value)
            if known:
                equity, notional = self.equity(pool), self.notional(pool)
                if equity <= 0:
                    continue
                maintenance, wallet = self.maintenance(pool), pool.cash
                share = max(1, round(Fraction(equity * own, maintenance)) if maintenance > 0 else 0)
            profit = value - position.cost
            scope = self.plan.adl.equity_scope
            if scope == "position":
                equity, notional = share if known else abs(value), abs(value)
            terms = {
                "entry": abs(position.cost),
                "mark": abs(value),
                "profit": profit,
                "wallet": max(wallet, ATOMS),
                "equity": equity,
                "notional": notional,
                "maintenance": maintenance if scope == "account" else own,
                "lots": abs(position.size),
            }
            ties = {
                "larger_profit": -profit,
                "larger_value": -abs(value),
                "smaller_wallet": wallet,
                "newer": -pools[id(pool)],
            }
            score = self.score({name: float(amount) for name, amount in terms.items()})
            order = (not known, -score, *(ties[word] for word in self.plan.adl.tie_break))
            found.append((order, pools[id(pool)], slot, score, position))
        scores = Counter((entry[0][0], entry[3]) for entry in found)
        self.met["a tie is broken"] += bool(self.plan.adl.tie_break and max(scores.values(), default=0) > 1)
        found.sort(key=lambda entry: entry[:3])
        return [(entry[3], entry[4]) for entry in found]

    def score(self, t: dict[str, float]) -> float:
        """Return profit term x leverage term; what becomes of a loss is the loss rule's."""
        adl = self.plan.adl
        assert adl is not None
        larger, smaller = max(t["mark"], t["entry"]), min(t["mark"], t["entry"])
        gain = {
            "price_ratio": smaller / larger if t["profit"] < 0 else larger / smaller,
            "profit_on_entry": t["profit"] / t["entry"],
            "profit_on_wallet": t["profit"] / t["wallet"],
            "profit_on_equity": t["profit"] / t["equity"],
            "profit": t["profit"],
            "entry_value": t["entry"] / t["lots"],
        }[adl.profit_term]
        leverage = {
            "one": 1.0,
            "notional_on_equity": t["notional"] / t["equity"],
            "maintenance_on_equity": t["maintenance"] / t["equity"],
            "maintenance_on_equity_of_one": t["maintenance"] / max(t["equity"], float(ATOMS)),
        }[adl.leverage_term]
        if t["profit"] > 0 or (adl.profit_term == "price_ratio" and adl.loss_rule != "smaller_abs_first"):
            return gain * leverage
        if adl.profit_term == "price_ratio":
            return t["profit"] / t["entry"]
        return {
            "divide": gain / leverage if leverage else gain,
            "product": gain * leverage,
            "zero": 0.0,
            "smaller_abs_first": gain,
        }[adl.loss_rule]

    def deleverage(self, losing: list[Order]) -> None:
        self.met["a market is spared"] += any(self.is_exempt(order.position.market) for order in losing)
        losing = [order for order in losing if not self.is_exempt(order.position.market)]
        pools = {id(pool): number for number, pool in enumerate(self.pools.values())}
        slots = {id(position): number for number, position in enumerate(self.positions.values())}
        losing.sort(
            key=lambda o: (
                o.episode is None,
                pools[id(o.position.pool)],
                slots[id(o.position)],
            )
        )
        if self.plan.max_deleveragings:
            mine = [order for order in losing if order.episode is not None]
            mine.sort(key=lambda o: (o.episode.id, slots[id(o.position)]))
            late = mine[self.plan.max_deleveragings :]
            self.met["a loser waits for its turn"] += bool(late)
            self.deferred += [order.position.pool for order in late]
            losing = [order for order in losing if not any(order is other for other in late)]
        sides = sorted({(order.position.market, order.position.size < 0) for order in losing})
        members = {
            side: [o for o in losing if (o.position.market, o.position.size < 0) == side] for side in sides
        }
        for market, short in sides:
            self.close_side(market, not short, members[market, short])

    def close_side(self, market: int, long: bool, orders: list[Order]) -> None:
        adl = self.plan.adl
        assert adl is not None
        spec = self.day.markets[market]
        ranking = self.winners(market, losers_are_long=long)
        sizes = [abs(position.size) for _, position in ranking]
        total, lights, so_far = sum(sizes), [], 0
        for size in sizes:
            so_far += size
            lights.append(adl.lights + 1 - -(-adl.lights * so_far // total))
        self.adl_price = adl.price
        if adl.fallback_price:
            line = adl.fallback_below * self.opened[id(self.funds[0].fund_pool(market))] // RATE_ONE
            if self.funds[0].balance(market) <= line:
                self.met["the price in need"] += 1
                self.adl_price = adl.fallback_price
        if adl.must_not_worsen:
            pairs = self.willing_pairs(market, long, orders, ranking)
        else:
            pairs = self.pairs_in_order(orders, ranking)
        values, parts = self.piece_values(market, long, pairs)
        involved = [order.position for order, _, _ in pairs] + [ranking[r][1] for _, r, _ in pairs]
        before = {id(p): (p.size, *self.standing_of(p.pool)) for p in involved}
        written = []
        for (order, rank, piece), value in zip(pairs, values, strict=True):
            loser, winner = order.position, ranking[rank][1]
            quantity = -piece if loser.size > 0 else piece
            inverse = spec.payoff == Payoff.INVERSE
            signed = abs(value) if (quantity > 0) != inverse else -abs(value)
            cash = winner.pool.cash
            self.book(loser, quantity, signed, None)
            self.book(winner, -quantity, -signed, None)
            loser_fee = 0
            if not loser.pool.special:
                loser_fee = min(
                    round(Fraction(abs(value) * adl.loser_fee_rate, RATE_ONE)), max(0, loser.pool.cash)
                )
            winner_fee = round(Fraction(abs(value) * adl.winner_fee_rate, RATE_ONE))
            self.pay(loser.pool, self.pool("@fees", spec.ledger), loser_fee)
            self.pay(winner.pool, self.pool("@fees", spec.ledger), winner_fee)
            written.append((winner.pool.cash - cash, loser_fee, winner_fee))
            if order.episode is not None:
                leg = order.episode.leg(loser)
                leg.adl += piece
                leg.left -= piece
            else:
                order.fund.fund_books(market, value)
        if adl.residual_to_absorber:
            self.settle_residuals(market, pairs, values, parts)
        for (order, rank, piece), value, (realised, loser_fee, winner_fee) in zip(
            pairs, values, written, strict=True
        ):
            loser, winner = order.position, ranking[rank][1]
            loser_before, winner_before = before[id(loser)], before[id(winner)]
            self.write(
                "adl_fills",
                ts=self.ts,
                liquidation=None if order.episode is None else order.episode.id,
                loser=loser.pool.account,
                winner=winner.pool.account,
                market=market,
                ledger=spec.ledger,
                origin=order.origin,
                rank=rank + 1,
                candidates=len(ranking),
                score=ranking[rank][0],
                lights=lights[rank],
                quantity=piece,
                value=value,
                mark=self.marks[market],
                realised=realised,
                loser_fee=loser_fee,
                winner_fee=winner_fee,
                loser_size_before=loser_before[0],
                loser_size_after=loser.size,
                winner_size_before=winner_before[0],
                winner_size_after=winner.size,
                loser_equity_before=loser_before[1],
                loser_equity_after=self.standing_of(loser.pool)[0],
                winner_equity_before=winner_before[1],
                winner_equity_after=self.standing_of(winner.pool)[0],
                winner_notional_before=winner_before[2],
            )
        scope = orders[0].fund or (self.funds[0] if self.funds else None)
        self.engage(
            market,
            "adl",
            "engaged",
            scope,
            f"no stage before could close them: {len(orders)} orders",
            sum(order.equity for order in orders),
            0,
            sum(order.quantity for order in orders),
        )
        for fund in self.funds:
            own = [
                (piece, value)
                for (order, _, piece), value in zip(pairs, values, strict=True)
                if order.episode is None and order.fund is fund
            ]
            if own:
                held = sum(self.worth(market, piece if long else -piece) for piece, _ in own)
                fund.movement("deleveraged", {market: sum(value for _, value in own) - held})

    def pairs_in_order(self, orders: list[Order], ranking: Ranking) -> list[Piece]:
        """Return pieces of losers in order, each against the first winner who has something left."""
        assert self.plan.adl is not None
        pairs: list[Piece] = []
        rank, left = 0, [self.capped(abs(position.size)) for _, position in ranking]
        if self.plan.adl.method == "contract_pro_rata":
            left = self.shared_by_size(sum(order.quantity for order in orders), ranking)
        for order in orders:
            need = order.quantity
            while need and rank < len(left):
                piece = min(need, left[rank])
                if not piece:
                    rank += 1
                    continue
                pairs.append((order, rank, piece))
                need -= piece
                left[rank] -= piece
                if not left[rank]:
                    rank += 1
        return pairs

    def willing_pairs(self, market: int, long: bool, orders: list[Order], ranking: Ranking) -> list[Piece]:
        """Return pieces that leave no winner worse off: each is tried in the books, which are put back at the end.

        Each loser asks all who have something left; what those who refuse do not give it asks of the others.
        """
        assert self.plan.adl is not None
        shares = self.plan.adl.method == "contract_pro_rata"
        winners = [position for _, position in ranking]
        kept = [(p, p.size, p.cost, p.pool.cash) for p in winners]
        reasons, touched = self.reasons.copy(), list(self.touched)
        alone = {id(p): abs(self.value(p)) for p in winners if p.pool.grade == Grade.UNKNOWN}
        left = [abs(p.size) if shares else self.capped(abs(p.size)) for p in winners]
        found: list[Piece] = []
        for order in orders:
            mine: list[Piece] = []
            refused: set[int] = set()
            while need := order.quantity - sum(piece for _, _, piece in mine):
                asked = [rank for rank in range(len(winners)) if left[rank] and rank not in refused]
                if not asked:
                    break
                offers = [left[rank] for rank in asked]
                if shares:
                    offers = self.shared_by_size(need, [ranking[rank] for rank in asked])
                before = len(refused)
                for rank, offer in zip(asked, offers, strict=True):
                    piece = min(offer, order.quantity - sum(piece for _, _, piece in mine))
                    if not piece:
                        continue
                    tried = [*mine, (order, rank, piece)]
                    value = self.piece_values(market, long, tried)[0][-1]
                    if self.would_be_worse_off(winners[rank], piece, value, alone):
                        refused.add(rank)
                        self.met[f"refused: {self.plan.adl.must_not_worsen}"] += 1
                        continue
                    mine = tried
                    left[rank] -= piece
                if not shares or len(refused) == before:
                    break
            found += mine
        for position, size, cost, cash in kept:
            position.size, position.cost, position.pool.cash = size, cost, cash
        self.reasons, self.touched = reasons, touched
        return found

    def would_be_worse_off(self, winner: Position, piece: int, value: int, alone: dict[int, int]) -> bool:
        """Close a piece of a winner; if that harms it, put it back and say so.

        A pool of unknown equity is judged as if the position were alone with its own value as equity.
        """
        adl, pool = self.plan.adl, winner.pool
        assert adl is not None
        before = (winner.size, winner.cost, pool.cash)
        equity_before, due_before = self.equity(pool), self.maintenance(pool)
        own_before = self.position_maintenance(winner)
        quantity = piece if winner.size < 0 else -piece
        inverse = self.day.markets[winner.market].payoff == Payoff.INVERSE
        paid = abs(value) if (quantity > 0) != inverse else -abs(value)
        self.book(winner, quantity, paid, None)
        pool.cash -= round(Fraction(abs(value) * adl.winner_fee_rate, RATE_ONE))
        equity, due = self.equity(pool), self.maintenance(pool)
        if id(winner) in alone:
            equity_before, equity = alone[id(winner)], alone[id(winner)] + equity - equity_before
            due_before, due = own_before, self.position_maintenance(winner) if winner.size else 0
        worse = equity < 0 if due == 0 else equity * due_before < equity_before * due
        if adl.must_not_worsen == "below_maintenance" and due and equity >= due:
            worse = False
        if worse:
            winner.size, winner.cost, pool.cash = before
        elif id(winner) in alone:
            alone[id(winner)] = equity
        return worse

    def settle_residuals(self, market: int, pairs: list[Piece], values: list[int], parts: list[int]) -> None:
        """Let the absorber pay, or have, what losers got less, or more, than at their bankruptcy price."""
        settled = []
        for (order, _, _), value, part in zip(pairs, values, parts, strict=True):
            if order.episode is None:
                continue
            owed = part - value
            self.pay(self.funds[0].fund_pool(market), order.position.pool, owed)
            if owed:
                self.funds[0].fund_books(market, -owed)
            leg = order.episode.leg(order.position)
            leg.shortfall += max(0, owed)
            leg.vault += max(0, owed) if self.funds[0].rule.account.startswith("@vault") else 0
            leg.surplus += max(0, -owed)
            settled.append(owed)
        if settled:
            self.funds[0].movement("residual", {market: -sum(settled)})

    def capped(self, size: int) -> int:
        """Return the most of a position that a step closes: a share, one lot at least; random days have lots of 1."""
        assert self.plan.adl is not None
        return min(size, max(1, size * self.plan.adl.winner_cap // RATE_ONE))

    def shared_by_size(self, need: int, ranking: list[tuple[float, Position]]) -> list[int]:
        """Return what each gives in proportion to size; pools of unknown equity give what is then missing."""
        sizes = [abs(position.size) for _, position in ranking]
        known = [position.pool.grade < Grade.UNKNOWN for _, position in ranking]
        whole = sum(size for size, counts in zip(sizes, known, strict=True) if counts)
        share = min(need, whole)
        exact = [
            Fraction(share * size, whole) if counts else Fraction(0)
            for size, counts in zip(sizes, known, strict=True)
        ]
        given = [int(part) for part in exact]
        order = sorted(range(len(sizes)), key=lambda i: (given[i] - exact[i], i))
        for i in order[: share - sum(given)]:
            given[i] += 1
        missing = need - share
        for i, counts in enumerate(known):
            if not counts:
                given[i] = min(missing, sizes[i])
                missing -= given[i]
        return given

    def standing_of(self, pool: Pool) -> tuple[int, int]:
        return (self.equity(pool), self.notional(pool)) if self.marked(pool) else (0, 0)

    def piece_values(self, market: int, long: bool, pairs: list[Piece]) -> tuple[list[int], list[int]]:
        """Return the signed value of the loser's part that each piece closes, and its part at bankruptcy.

        No price is below zero.
        """
        positive = long != (self.day.markets[market].payoff == Payoff.INVERSE)
        price = self.adl_price
        mark = self.previous[market] if price == "previous_mark" else self.marks[market]
        if "oracle" in price:
            mark = self.oracles.get(market, mark)
        values, parts, closed, given = [], [], Counter[int](), Counter[int]()
        for order, _, piece in pairs:
            at_rule = self.worth(market, piece if long else -piece, mark)
            if order.value is None:
                values.append(at_rule)
                parts.append(at_rule)
                continue
            whole = max(order.value, 0) if positive else min(order.value, 0)
            closed[id(order)] += piece
            if closed[id(order)] == order.quantity:
                value = whole - given[id(order)]
            else:
                value = sign(whole) * (abs(whole) * piece // order.quantity)
            given[id(order)] += value
            parts.append(value)
            if order.episode is not None and price == "clamped_oracle":
                value = max(value, at_rule)
            elif order.episode is not None and price != "bankruptcy":
                value = at_rule
            values.append(value)
        return values, parts
