"""From the entries of a scenario to the rows of a tape, one function a table."""

from __future__ import annotations

from typing import Any

from replay.sources.scenario_model import Fill, Number, Pool, Scenario, Trade
from replay.sources.scenario_names import Names
from replay.sources.scenario_read import Page, Place
from replay.tape.schema import EVENT_TABLES, FillKind, Grade, Mode, PriceKind, Role, Side, TransferKind
from replay.tape.write import TapeWriter
from replay.units import MAX_SCALE, format_units, rescale

UNSEEN = "@unseen"

_WITH_VICTIM = ("liquidation", "backstop", "adl")


class Rows:
    """The rows of a tape while they are collected, table by table."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}

    def put(self, table: str, **row: Any) -> None:
        """Add a row; a :class:`Number` becomes a mantissa and its digits, None a null."""
        flat: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, Number):
                flat[name], flat[f"{name}_digits"] = value
            else:
                flat[name] = value
        self.tables.setdefault(table, []).append(flat)

    def write(self, writer: TapeWriter) -> None:
        """Append all rows to a tape, events in order of time and, within a moment, of the file."""
        for table, rows in self.tables.items():
            if table in EVENT_TABLES:
                rows.sort(key=lambda row: row["ts"])
            names = dict.fromkeys(name for row in rows for name in row)
            writer.append(table, {name: [row.get(name) for row in rows] for name in names})


def put_opening(day: Scenario, page: Page, names: Names, rows: Rows) -> dict[str, str]:
    """Put the opening pools and positions; return the sums of sizes, where not zero, by market."""
    totals: dict[str, int] = {}
    claimed: set[tuple[object, ...]] = set()

    def claim(place: Place, *what: object) -> None:
        if what in claimed:
            raise page.error(f"{what[1]!r} has this {what[0]} already", place, f"write each {what[0]} once")
        claimed.add(what)

    def put_pool(account: int, ledger: tuple[str, str], market: int | None, cash: int, grade: Grade) -> None:
        ledger_id = names.ledger_id(ledger)
        rows.put("accounts", account=account, ledger=ledger_id, market=market, cash=cash, grade=grade)

    for number, entry in enumerate(day.accounts):
        place: Place = ("accounts", number)
        _check_account(day, page, number)
        account = names.declare_account(entry.name)
        grade = Grade[(entry.grade or "known").upper()]
        pool = None if entry.cash is None else names.ledger(entry.currency, entry.dex, place)
        claim((*place, "name"), "pool", entry.name, pool)
        if entry.cash is not None and pool is not None:
            put_pool(account, pool, None, names.money(entry.cash, (*place, "cash")), grade)
        for index, position in enumerate(entry.positions):
            here: Place = (*place, "positions", index)
            market = names.margined(position.market, (*here, "market"))
            home = names.home(position.market)
            if position.margin is not None:
                put_pool(account, home, market, names.money(position.margin, (*here, "margin")), grade)
            elif pool is not None and home != pool:
                raise page.error(
                    f"{position.market} settles in another ledger than this cash",
                    (*here, "market"),
                    "write one entry per ledger, each with the positions of its markets",
                )
            mode = Mode.CROSS if position.margin is None else Mode.ISOLATED
            claim(here, "position", entry.name, position.market, mode)
            size, _ = rescale(*position.size, MAX_SCALE)
            totals[position.market] = totals.get(position.market, 0) + size
            rows.put(
                "positions",
                account=account,
                market=market,
                mode=mode,
                size=position.size,
                entry_price=position.entry,
            )
    for number, fund in enumerate(day.funds):
        place = ("funds", number)
        pool = names.ledger(fund.currency, fund.dex, place)
        claim((*place, "name"), "pool", fund.name, pool)
        cash = names.money(fund.cash, (*place, "cash"))
        put_pool(names.declare_account(fund.name), pool, None, cash, Grade.KNOWN)
    return {market: format_units(total, MAX_SCALE) for market, total in totals.items() if total}


def _check_account(day: Scenario, page: Page, number: int) -> None:
    """Refuse entries of ``[[accounts]]`` that leave open what their pool holds."""
    entry = day.accounts[number]
    place: Place = ("accounts", number)
    if entry.name.startswith("@"):
        raise page.error(
            f"{entry.name!r} is the name of a pseudo account",
            (*place, "name"),
            "declare @fund: and @vault: names in [[funds]]; the replay keeps the others itself",
        )
    if entry.cash is not None:
        return
    if day.accounts_start == "known" and any(position.margin is None for position in entry.positions):
        mend = 'give `cash`; if it is not known, write cash = "0" and grade = "unknown"'
        raise page.error("has cross positions and no cash", place, mend)
    for key in ("currency", "dex"):
        if getattr(entry, key) is not None:
            raise page.error("says what the cash is in, and there is no cash", (*place, key), "give `cash`")
    if entry.grade is not None and not any(position.margin for position in entry.positions):
        raise page.error("grades a pool that has no cash", (*place, "grade"), "give `cash`, 0 if unknown")


def put_prices(day: Scenario, names: Names, rows: Rows) -> None:
    """Put the prices of [[marks]], in whichever of their three forms."""
    for number, entry in enumerate(day.marks):
        place: Place = ("marks", number)
        points: list[tuple[int, Number]] = []
        if entry.path is not None:
            for index, (at, price) in enumerate(entry.path):
                points.append((names.time(at, (*place, "path", index)), price))
        elif entry.at is not None:
            first = names.time(entry.at, (*place, "at"))
            single = () if entry.price is None else (entry.price,)
            for index, price in enumerate(entry.prices or single):
                points.append((names.step(first, index, entry.every or 0, (*place, "every")), price))
        market = names.market(entry.market, (*place, "market"))
        for ts, price in points:
            rows.put("prices", ts=ts, market=market, kind=PriceKind[entry.kind.upper()], price=price)


def put_funding(day: Scenario, names: Names, rows: Rows) -> None:
    """Put [[funding]]."""
    for number, entry in enumerate(day.funding):
        place: Place = ("funding", number)
        rows.put(
            "funding",
            ts=names.time(entry.at, (*place, "at")),
            market=names.margined(entry.market, (*place, "market")),
            rate=names.rate(entry.rate, (*place, "rate")),
        )


def put_transfers(day: Scenario, page: Page, names: Names, rows: Rows) -> None:
    """Put [[transfers]]; a move between two pools becomes two rows."""

    def pool(entry: Pool, place: Place) -> tuple[int, tuple[str, str], int | None]:
        """Return account, ledger and isolated market of one end."""
        account = names.account(entry.account, (*place, "account"))
        if entry.isolated is None:
            return account, names.ledger(entry.currency, entry.dex, place), None
        if entry.currency is not None or entry.dex is not None:
            raise page.error("names the ledger of an isolated pool", place, "its market says the ledger")
        market = names.margined(entry.isolated, (*place, "isolated"))
        return account, names.home(entry.isolated), market

    def put(ts: int, end: tuple[int, tuple[str, str], int | None], amount: int, kind: TransferKind) -> None:
        account, ledger, market = end
        rows.put(
            "transfers",
            ts=ts,
            account=account,
            ledger=names.ledger_id(ledger),
            market=market,
            amount=amount,
            kind=kind,
        )

    for number, entry in enumerate(day.transfers):
        place: Place = ("transfers", number)
        ts = names.time(entry.at, (*place, "at"))
        amount = names.money(entry.amount, (*place, "amount"))
        if entry.source is not None and entry.target is not None:
            source = pool(entry.source, (*place, "from"))
            target = pool(entry.target, (*place, "to"))
            if source == target:
                raise page.error("moves cash from a pool to itself", place, "`from` and `to` are two pools")
            if source[1][1] != target[1][1]:
                raise page.error("moves between two currencies", place, "write a withdrawal and a deposit")
            put(ts, source, -amount, TransferKind.MOVE)
            put(ts, target, amount, TransferKind.MOVE)
        elif entry.account is not None:
            end = Pool(account=entry.account, isolated=entry.isolated, currency=entry.currency, dex=entry.dex)
            kind = entry.kind or ("deposit" if entry.amount.mantissa > 0 else "withdrawal")
            put(ts, pool(end, place), amount, TransferKind[kind.upper()])


def put_liquidations(day: Scenario, page: Page, names: Names, rows: Rows) -> None:
    """Put [[liquidations]], numbered by first appearance in time."""
    ids: dict[object, int] = {}
    heads: dict[object, tuple[int, str]] = {}
    timed = [
        (names.time(entry.at, ("liquidations", number, "at")), number)
        for number, entry in enumerate(day.liquidations)
    ]
    for ts, number in sorted(timed):
        entry = day.liquidations[number]
        place: Place = ("liquidations", number)
        key: object = number if entry.id is None else entry.id
        if heads.setdefault(key, (ts, entry.account)) != (ts, entry.account):
            raise page.error(
                f"is a leg of {entry.id!r} at another time or of another account",
                (*place, "id"),
                "the legs of one liquidation share moment and account",
            )
        rows.put(
            "liquidations",
            ts=ts,
            liquidation=ids.setdefault(key, len(ids)),
            account=names.account(entry.account, (*place, "account")),
            market=None if entry.market is None else names.margined(entry.market, (*place, "market")),
            qty=entry.qty,
            price=entry.price,
            price_kind=entry.price_kind,
            mode=entry.mode,
            method=entry.method,
            notional=None if entry.notional is None else names.money(entry.notional, (*place, "notional")),
            equity=None if entry.equity is None else names.money(entry.equity, (*place, "equity")),
            mark=entry.mark,
        )


def put_depth(day: Scenario, page: Page, names: Names, rows: Rows) -> None:
    """Put the levels of [[depth]], bids before asks, in the order written."""
    seen: set[tuple[int, int]] = set()
    for number, entry in enumerate(day.depth):
        place: Place = ("depth", number)
        ts = names.time(entry.at, (*place, "at"))
        market = names.market(entry.market, (*place, "market"))
        if (ts, market) in seen:
            raise page.error("is a second snapshot of this market at this moment", place, "join the two")
        seen.add((ts, market))
        for side, levels in ((Side.BID, entry.bids), (Side.ASK, entry.asks)):
            for price, qty in levels:
                rows.put("depth", ts=ts, market=market, side=side, price=price, qty=qty)


def put_fills(day: Scenario, page: Page, names: Names, rows: Rows) -> int:
    """Put both sides of [[trades]] and the rows of [[fills]]; return the count of matches of trades."""
    first_match = 1 + max((entry.match for entry in day.fills if entry.match is not None), default=0)
    timed = [
        (names.time(entry.at, ("trades", number, "at")), number) for number, entry in enumerate(day.trades)
    ]
    for match, (ts, number) in enumerate(sorted(timed), start=first_match):
        _put_trade(day.trades[number], ts, match, ("trades", number), page, names, rows)
    for number, fill in enumerate(day.fills):
        _put_fill(fill, ("fills", number), page, names, rows)
    return len(timed)


def _put_trade(entry: Trade, ts: int, match: int, place: Place, page: Page, names: Names, rows: Rows) -> None:
    buyer = None if entry.buyer == UNSEEN else entry.buyer
    seller = None if entry.seller == UNSEEN else entry.seller
    if buyer == seller:
        raise page.error(
            "names neither buyer nor seller" if buyer is None else "buyer and seller are the same",
            place,
            f"name two accounts; one of them may be {UNSEEN!r} or left out",
        )
    if entry.kind in _WITH_VICTIM and (entry.victim is None or entry.victim not in (buyer, seller)):
        mend = f"name the buyer or the seller, whichever was forced ({entry.kind})"
        raise page.error("is not a side of the match", (*place, "victim"), mend)
    if entry.kind == "trade" and entry.victim is not None:
        raise page.error("a trade has no victim", (*place, "victim"), "give `kind`, or leave `victim` out")
    market = names.market(entry.market, (*place, "market"))
    dex, currency = names.home(entry.market)
    qty = entry.qty
    for name, key, signed, fee, mode in (
        (buyer, "buyer", qty, entry.buyer_fee, entry.buyer_mode),
        (seller, "seller", Number(-qty.mantissa, qty.digits), entry.seller_fee, entry.seller_mode),
    ):
        if name is None:
            if fee.mantissa:
                raise page.error("is paid by nobody on the tape", (*place, f"{key}_fee"), f"name the {key}")
            continue
        role = Role.UNKNOWN
        if entry.taker is not None:
            role = Role.TAKER if entry.taker == key else Role.MAKER
        rows.put(
            "fills",
            ts=ts,
            block=None,
            market=market,
            account=names.account(name, (*place, key)),
            qty=signed,
            price=entry.price,
            fee=names.money(fee, (*place, f"{key}_fee")),
            fee_ledger=names.ledger_id((dex, entry.fee_currency or currency)),
            role=role,
            kind=FillKind[entry.kind.upper()],
            match=match,
            paired=int(buyer is not None and seller is not None),
            victim=None if entry.victim is None else names.account(entry.victim, (*place, "victim")),
            mode=Mode[mode.upper()],
        )


def _put_fill(entry: Fill, place: Place, page: Page, names: Names, rows: Rows) -> None:
    if entry.paired and entry.match is None:
        raise page.error("is paired with no row", (*place, "paired"), "give both rows the same `match`")
    market = names.market(entry.market, (*place, "market"))
    dex, currency = names.home(entry.market)
    rows.put(
        "fills",
        ts=names.time(entry.at, (*place, "at")),
        block=None,
        market=market,
        account=names.account(entry.account, (*place, "account")),
        qty=entry.qty,
        price=entry.price,
        fee=names.money(entry.fee, (*place, "fee")),
        fee_ledger=names.ledger_id((dex, entry.fee_currency or currency)),
        role=Role.UNKNOWN if entry.role is None else Role[entry.role.upper()],
        kind=FillKind[entry.kind.upper()],
        match=entry.match,
        paired=int(entry.paired),
        victim=None if entry.victim is None else names.account(entry.victim, (*place, "victim")),
        start_position=entry.start_position,
        mode=Mode[entry.mode.upper()],
    )
