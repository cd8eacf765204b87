"""The recorded files of Hyperliquid: facts found without the program, and the same bytes each time."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

from replay.sources import hyperliquid_fills, import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Payoff, PriceKind

DATA = Path(__file__).parents[2] / "../shared/data"
FILLS = DATA / "hyperliquid-node-fills"
ALPHA = DATA / "hyperliquid-2023"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (FILLS.is_dir() and ALPHA.is_dir()), reason="the recorded tapes are not in ../shared/data"
    ),
]


def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Tape:
    out = tmp_path_factory.mktemp("real") / "tape"
    import_source("hyperliquid", [folder], out)
    return open_tape(out)


@pytest.fixture(scope="module")
def fills(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    return made(tmp_path_factory, FILLS)


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    return made(tmp_path_factory, ALPHA)


def select(tape: Tape, query: str) -> list[tuple[Any, ...]]:
    return tape.connection().execute(query).fetchall()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decimal(mantissa: int, scale: int) -> Decimal:
    return Decimal(mantissa).scaleb(-scale)


def recorded_fills() -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Give block, user and fill of every row of the recording, by the standard library."""
    for path in sorted(FILLS.iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            block = json.loads(line)
            for user, fill in block["events"]:
                yield block, user, fill


def recorded_rows(name: str) -> list[dict[str, str]]:
    with (ALPHA / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_fill_arrives_with_its_numbers_to_the_digit(fills: Tape) -> None:
    query = """
        SELECT ts, block, m.name, n.name, qty, qty_scale, price, price_scale, fee, l.currency, role, match
        FROM fills JOIN markets m USING (market) JOIN account_names n USING (account)
        JOIN ledgers l ON fee_ledger = l.ledger ORDER BY seq
    """
    found = select(fills, query)
    recorded = list(recorded_fills())
    assert len(found) == len(recorded) == 3590
    for row, (block, user, fill) in zip(found, recorded, strict=True):
        ts, number, coin, account, qty, qty_scale, price, price_scale, fee, currency, role, match = row
        assert (number, coin, account, match) == (block["block_number"], fill["coin"], user, fill["tid"])
        assert ts % 1_000_000_000 == int(block["block_time"][-9:])
        assert ts // 1_000_000 == fill["time"]
        sign = 1 if fill["side"] == "B" else -1
        assert decimal(qty, qty_scale) == sign * Decimal(fill["sz"])
        assert decimal(price, price_scale) == Decimal(fill["px"])
        assert abs(decimal(fee, 8) - Decimal(fill["fee"])) <= Decimal("5e-9")
        assert (currency, role) == (fill["feeToken"], int(fill["crossed"]))


def test_every_match_has_a_buyer_and_a_seller(fills: Tape) -> None:
    assert select(fills, "SELECT count(*), count(DISTINCT match), min(paired) FROM fills") == [
        (3590, 1795, 1)
    ]
    assert select(fills, "SELECT match FROM fills GROUP BY match HAVING sum(qty) <> 0 OR count(*) <> 2") == []


def test_every_position_follows_from_the_one_before(fills: Tape) -> None:
    links = """
        SELECT start_position - lag(start_position + qty) OVER chain AS gap
        FROM fills JOIN markets USING (market) WHERE payoff <> 2
        WINDOW chain AS (PARTITION BY account, market ORDER BY seq)
    """
    assert select(fills, f"SELECT count(gap), count(*) FILTER (gap <> 0) FROM ({links})") == [(2134, 0)]
    noisy = sum(
        len(fill["startPosition"].replace(".", "").lstrip("-0")) > 15
        for _block, _user, fill in recorded_fills()
        if not fill["coin"].startswith("@") and "/" not in fill["coin"]
    )
    assert fills.manifest["counts"]["positions cleaned of float noise"] == noisy == 11


def test_spot_and_builder_dexes_are_apart(fills: Tape) -> None:
    kinds = Counter((market.dex, market.payoff) for market in fills.markets)
    assert set(kinds) == {("", Payoff.LINEAR), ("xyz", Payoff.LINEAR), ("spot", Payoff.SPOT)}
    assert sum(kinds.values()) == 151
    by_dex = select(
        fills, "SELECT dex, count(*) FROM fills JOIN markets USING (market) GROUP BY dex ORDER BY dex"
    )
    assert by_dex == [("", 3222), ("spot", 258), ("xyz", 110)]
    assert ("spot", "UBTC") in fills.ledgers


def test_the_one_liquidation_is_there_with_its_mark(fills: Tape) -> None:
    query = """
        SELECT n.name, m.name, qty, price, price_scale, method, l.mode, mark, mark_scale
        FROM liquidations l JOIN account_names n USING (account) JOIN markets m USING (market)
    """
    victim = "0xa59f55114ccb120487c4fb5766cb89b123c13563"
    ((name, coin, qty, price, price_scale, method, mode, mark, mark_scale),) = select(fills, query)
    assert (name, coin, qty, method, mode) == (victim, "WLFI", 890, "market", None)
    assert decimal(price, price_scale) == Decimal("0.15327")
    assert decimal(mark, mark_scale) == Decimal("0.15319")
    assert select(fills, "SELECT kind, price FROM prices") == [(PriceKind.EVENT, mark)]
    forced = "SELECT v.name FROM fills JOIN account_names v ON victim = v.account WHERE kind = 1"
    assert select(fills, forced) == [(victim,), (victim,)]


def test_the_same_recording_gives_the_same_bytes_however_it_is_packed(
    tmp_path: Path, fills: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source("hyperliquid", [FILLS], tmp_path / "again")
    assert content(tmp_path / "again") == content(fills.path)
    (original,) = FILLS.iterdir()
    lines = original.read_bytes().splitlines(keepends=True)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/2").write_bytes(lz4.frame.compress(b"".join(lines[200:])))
    (tmp_path / "packed/10").write_bytes(gzip.compress(b"".join(lines[:200])))
    monkeypatch.setattr(hyperliquid_fills, "_BATCH_ROWS", 100)
    manifest = import_source("hyperliquid", [tmp_path / "packed"], tmp_path / "third")
    assert manifest["tables"] == fills.manifest["tables"]
    assert [source["name"] for source in manifest["sources"]] == ["10", "2"]


def test_the_closed_alpha_arrives_whole(alpha: Tape) -> None:
    assert alpha.rows("fills") == 35_691
    assert alpha.rows("transfers") == 560
    assert select(alpha, "SELECT count(DISTINCT liquidation) FROM liquidations") == [(62,)]
    cells = "ts, market, account, qty, price, role"
    same = f"SELECT count(*) - 1 AS more FROM fills GROUP BY {cells}"
    assert select(alpha, f"SELECT sum(more) FROM ({same})") == [(948,)]
    query = """
        SELECT n.name, m.name, qty, qty_scale, price, price_scale, role FROM fills
        JOIN markets m USING (market) JOIN account_names n USING (account) ORDER BY seq
    """
    for found, row in zip(select(alpha, query), recorded_rows("non_mm_trades.csv"), strict=True):
        user, coin, qty, qty_scale, price, price_scale, role = found
        assert (user, coin, role) == (row["user"], row["coin"], int(row["crossed"] == "true"))
        assert decimal(qty, qty_scale) == Decimal(row["sz"]) * (1 if row["side"] == "Bid" else -1)
        assert decimal(price, price_scale) == Decimal(row["px"])
    amounts = select(alpha, "SELECT amount FROM transfers ORDER BY seq")
    recorded = [Decimal(row["delta_usd"]) for row in recorded_rows("non_mm_ledger_updates.csv")]
    assert [decimal(amount, 8) for (amount,) in amounts] == recorded


def test_the_49_single_coin_cross_liquidations_end_at_zero_and_at_bankruptcy(alpha: Tape) -> None:
    query = """
        SELECT l.ts, account, market, l.mode, count(*) OVER (PARTITION BY liquidation) AS legs,
               qty, qty_scale, l.price, price_scale, mark, mark_scale, notional, equity
        FROM liquidations l JOIN markets m USING (market) ORDER BY seq
    """
    legs = select(alpha, query)
    assert len(legs) == 69
    single = [leg for leg in legs if leg[3] == "Cross" and leg[4] == 1]
    assert len(single) == 49
    for leg in single:
        (
            ts,
            account,
            market,
            _mode,
            _legs,
            qty,
            qty_scale,
            price,
            price_scale,
            mark,
            mark_scale,
            notional,
            equity,
        ) = leg
        position = f"FROM fills WHERE account = {account} AND market = {market}"
        ((before,),) = select(alpha, f"SELECT sum(qty) {position} AND (ts < {ts} OR ts = {ts} AND kind = 0)")
        ((forced,),) = select(alpha, f"SELECT sum(qty) {position} AND ts = {ts} AND kind = 2")
        assert before == -qty
        assert forced == qty
        size, marked = decimal(abs(qty), qty_scale), decimal(mark, mark_scale)
        assert marked * size == decimal(notional, 8)
        bankruptcy = marked + decimal(equity, 8) / size * (1 if qty > 0 else -1)
        assert abs(decimal(price, price_scale) / bankruptcy - 1) <= Decimal("0.1e-4")
    cross = {leg[0:2]: leg for leg in legs if leg[3] == "Cross"}
    assert len(cross) == 54
    assert all(equity * 100 < notional for *_rest, notional, equity in cross.values())


def test_every_forced_fill_of_the_closed_alpha_takes_its_position_to_zero(alpha: Tape) -> None:
    ends = """
        SELECT sum(f.qty) FROM liquidations l
        JOIN fills f ON f.account = l.account AND f.market = l.market AND f.ts <= l.ts
        GROUP BY l.seq
    """
    assert select(alpha, ends) == [(0,)] * 69
    assert select(alpha, "SELECT kind, count(*) FROM fills GROUP BY kind ORDER BY kind") == [
        (FillKind.TRADE, 35_691 - 2 * 69),
        (FillKind.BACKSTOP, 2 * 69),
    ]


def test_every_takeover_of_the_closed_alpha_has_the_row_of_who_took_it(alpha: Tape) -> None:
    """One account takes all 69 positions over: same second, coin, size and price as its victims' rows."""
    pairs = """
        SELECT v.match, t.account, v.qty + t.qty, v.price = t.price, v.ts = t.ts, v.market = t.market, t.role
        FROM fills v JOIN fills t ON v.match = t.match AND t.account <> t.victim
        WHERE v.account = v.victim
    """
    rows = select(alpha, pairs)
    assert len({match for match, *_rest in rows}) == len(rows) == 69
    assert {tuple(rest) for _match, _taker, *rest in rows} == {(0, True, True, True, 1)}
    takers = {taker for _match, taker, *_rest in rows}
    assert [alpha.account_names[taker][:10] for taker in takers] == ["0x63c621a3"]


def test_a_mark_is_implied_only_where_notional_is_of_one_position(alpha: Tape) -> None:
    """An isolated liquidation may report the whole account: AVAX would be at 39.91 while it traded at 18."""
    held: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    trades = iter([*recorded_rows("non_mm_trades.csv"), None])
    trade = next(trades)
    alone = 0
    for report in recorded_rows("liquidations.csv"):
        while trade is not None and trade["time"] < report["time"]:
            held[trade["user"]][trade["coin"]] += Decimal(trade["sz"]) * (1 if trade["side"] == "Bid" else -1)
            trade = next(trades)
        alone += sum(size != 0 for size in held[report["user"]].values()) == 1
    ratio = """
        SELECT max(abs(p.price / 10.0 ** mark_scale / (f.price / 10.0 ** price_scale) - 1)) FROM prices p
        JOIN fills f USING (ts, market) JOIN markets USING (market) WHERE f.kind = 2
    """
    assert alpha.rows("prices") == alone == 53
    assert select(alpha, ratio)[0][0] < 0.35, "an isolated position may be taken over a third from the mark"
    assert alpha.manifest["counts"]["implied marks rounded"] == 0


def test_accounts_without_a_deposit_before_their_first_trade_are_unknown(alpha: Tape) -> None:
    first_trade = {row["user"]: row["time"] for row in reversed(recorded_rows("non_mm_trades.csv"))}
    first_deposit = {row["user"]: row["time"] for row in reversed(recorded_rows("non_mm_ledger_updates.csv"))}
    expected = {user for user, time in first_trade.items() if first_deposit.get(user, "9") > time}
    names = select(alpha, "SELECT name FROM accounts JOIN account_names USING (account) WHERE grade = 3")
    assert {name for (name,) in names} == expected
    assert len(expected) == 11


def test_the_closed_alpha_gives_the_same_bytes_from_files_of_other_names(tmp_path: Path, alpha: Tape) -> None:
    (tmp_path / "copies").mkdir()
    for name, path in zip("cab", sorted(ALPHA.iterdir()), strict=True):
        (tmp_path / "copies" / name).write_bytes(path.read_bytes())
    manifest = import_source("hyperliquid", sorted((tmp_path / "copies").iterdir()), tmp_path / "tape")
    assert manifest["tables"] == alpha.manifest["tables"]
    import_source("hyperliquid", sorted(ALPHA.iterdir(), reverse=True), tmp_path / "again")
    assert content(tmp_path / "again") == content(alpha.path)
