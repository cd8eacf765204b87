"""The generated crash day: it is what its page says, sums to zero, and the same file gives the same bytes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.sources.demo_crash_accounts import PUBLIC_SHARES
from replay.sources.demo_crash_markets import INVERSE, MARKETS, value_atoms
from replay.tape.check import check_tape
from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind, Role, Side, TransferKind
from replay.units import ATOM, parse_time

DATASET = Path(__file__).parents[2] / "datasets/demo-crash/dataset.toml"
CRASH = parse_time("2025-10-10T21:15:00Z")
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

FEES = {(True, False): -30, (True, True): 240, (False, False): 150, (False, True): 450}
"""In millionths of the value, by whether the account is a market maker and whether it took."""

Columns = dict[str, npt.NDArray[Any]]

SMALL = """
venue = "demo"
[parameters]
seed = 5
crash = "2025-10-10T21:15:00Z"
accounts = 1_500
matches = 4_000
depth = 6
[[funds]]
name = "@vault:liquidator"
currency = "USDC"
cash = 100_000.00000001
"""


def small(folder: Path, text: str = SMALL, name: str = "tape") -> Tape:
    file = folder / "dataset.toml"
    file.write_text(text, encoding="utf-8")
    import_source("demo-crash", [file], folder / name)
    return open_tape(folder / name)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    out = tmp_path_factory.mktemp("crash") / "tape"
    import_source("demo-crash", [DATASET], out)
    return open_tape(out)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    return small(tmp_path_factory.mktemp("little"))


def table(tape: Tape, name: str, where: str = "true") -> Columns:
    order = "ORDER BY seq" if name in ("fills", "prices", "depth", "funding", "transfers") else ""
    columns: Columns = tape.connection().execute(f"FROM {name} WHERE {where} {order}").fetchnumpy()
    return columns


def marks(tape: Tape, kind: PriceKind = PriceKind.MARK) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return seconds from the crash, and prices by step and market."""
    rows = table(tape, "prices", f"kind = {int(kind)}")
    ts = np.unique(rows["ts"])
    scale = 10.0 ** np.array([market.mark_scale for market in tape.markets])
    assert (rows["market"].reshape(len(ts), -1) == np.arange(len(tape.markets))).all()
    return (ts - CRASH) / SECOND, rows["price"].reshape(len(ts), -1) / scale


def kind_of(tape: Tape) -> npt.NDArray[Any]:
    return np.array([name.rpartition("-")[0] or name for name in tape.account_names])


def test_check_finds_nothing(day: Tape) -> None:
    report = check_tape(day)
    assert report.findings == []
    assert report.facts["unpaired_rows"] == 0
    assert report.facts["links"] == day.rows("fills")


def test_the_shipped_day_has_the_size_it_says(day: Tape) -> None:
    assert (day.first_ts, day.last_ts) == (CRASH - 8 * HOUR, CRASH + 45 * MINUTE)
    people = [name for name in day.account_names if not name.startswith("@")]
    assert len(people) == 24_000
    assert [market.payoff for market in day.markets] == [Payoff.LINEAR] * 12 + [Payoff.INVERSE]
    assert day.ledgers == [("", "USDC"), ("", "BTC")]
    assert [market.ledger for market in day.markets] == [0] * 12 + [1]
    assert day.markets[INVERSE].multiplier == 100
    assert 150_000 <= day.rows("fills") <= 400_000
    assert day.manifest["counts"]["matches"] * 2 == day.rows("fills")


def test_nobody_is_forced_and_the_tape_says_so(day: Tape) -> None:
    fills = table(day, "fills")
    assert (fills["kind"] == int(FillKind.TRADE)).all()
    assert day.rows("liquidations") == 0
    assert any("nobody was ever liquidated" in sentence for sentence in day.manifest["lacks"])
    assert "model" in day.manifest["assumptions"][0]
    assert not any(day.account_names[account].startswith("@") for account in np.unique(fills["account"]))


def test_marks_come_slowly_and_then_every_three_seconds(day: Tape) -> None:
    seconds, _ = marks(day)
    calm = np.diff(seconds[seconds <= -300])
    assert set(calm) == {20.0}
    assert set(np.diff(seconds[seconds >= -300])) == {3.0}
    index_seconds, index = marks(day, PriceKind.INDEX)
    assert (index_seconds == seconds).all()
    before = np.abs(marks(day)[1] / index - 1)[seconds < 0]
    assert before.max() < 0.002


def test_prices_are_calm_fall_in_legs_and_recover(day: Tape) -> None:
    seconds, price = marks(day)
    at_crash = price[np.searchsorted(seconds, 0)]
    calm = price[seconds <= 0]
    assert (np.abs(np.diff(calm, axis=0) / calm[:-1]) < 0.01).all()
    crash = price[(seconds >= 0) & (seconds <= 720)]
    fall = 1 - crash.min(axis=0) / at_crash
    assert fall[0] == pytest.approx(0.13, abs=0.01)
    assert fall[1] == pytest.approx(0.20, abs=0.01)
    assert ((fall[2:12] > 0.38) & (fall[2:12] < 0.77)).all()
    assert fall[INVERSE] == pytest.approx(0.135, abs=0.01)
    assert (price[seconds >= 0].min(axis=0) == crash.min(axis=0)).all(), "the low is within twelve minutes"
    for market, low in enumerate(crash.argmin(axis=0)):
        way_down = crash[:low, market]
        rebound = (way_down / np.minimum.accumulate(way_down)).max() - 1
        assert rebound > 0.2 * fall[market], "a leg of rebound before the low"
    left = 1 - price[-1] / at_crash
    assert (left < 0.35 * fall).all()


def test_marks_are_finer_than_ticks(day: Tape) -> None:
    for number, market in enumerate(day.markets):
        assert market.mark_scale > market.price_scale
        rows = table(day, "prices", f"kind = {int(PriceKind.MARK)} AND market = {number}")
        assert (rows["price"] % 10 ** (market.mark_scale - market.price_scale) != 0).any()


def test_opening_sizes_sum_to_zero_and_makers_hold_both_signs(day: Tape) -> None:
    rows = table(day, "positions")
    kinds = kind_of(day)[rows["account"]]
    for market in range(len(day.markets)):
        here = rows["market"] == market
        assert int(rows["size"][here].sum()) == 0
        held = rows["size"][here & (kinds == "maker")]
        assert (held > 0).any()
        assert (held < 0).any()


def test_every_kind_of_account_is_there(day: Tape) -> None:
    rows = table(day, "positions")
    kinds = kind_of(day)
    counts = {kind: int((kinds == kind).sum()) for kind in ("maker", *PUBLIC_SHARES)}
    assert counts["maker"] == 24
    assert sum(counts.values()) == 24_000
    assert all(count > 400 for kind, count in counts.items() if kind != "maker")

    def of(kind: str) -> Columns:
        chosen = kinds[rows["account"]] == kind
        return {name: values[chosen] for name, values in rows.items()}

    longs = of("long")
    assert (longs["size"] > 0).mean() > 0.9
    assert (of("short")["size"] < 0).all()
    assert (of("isolated")["mode"] == int(Mode.ISOLATED)).all()
    hedged = of("hedged")
    assert (np.sign(hedged["size"]) == np.where(hedged["market"] >= 2, 1, -1)).all()
    assert (np.bincount(hedged["account"])[hedged["account"]] == 2).all()
    basis = of("basis")
    assert (np.sign(basis["size"]) == np.where(basis["market"] == INVERSE, 1, -1)).all()


def test_pools_have_cash_and_some_positions_are_in_profit(day: Tape) -> None:
    pools = table(day, "accounts")
    assert (pools["cash"] > 0).all()
    assert (pools["grade"] == int(Grade.KNOWN)).all()
    rows = table(day, "positions")
    _, price = marks(day)
    scale = 10.0 ** np.array([market.price_scale for market in day.markets])
    gain = price[0][rows["market"]] * scale[rows["market"]] - rows["entry_price"]
    assert 0.3 < (gain * np.sign(rows["size"]) > 0).mean() < 0.8


def test_funds_open_with_the_cash_of_the_file(day: Tape, little: Tape) -> None:
    def funds(tape: Tape) -> dict[tuple[str, int], int]:
        rows = table(tape, "accounts")
        named = zip(rows["account"], rows["ledger"], rows["cash"], strict=True)
        return {
            (tape.account_names[account], int(ledger)): int(cash)
            for account, ledger, cash in named
            if tape.account_names[account].startswith("@")
        }

    assert funds(day) == {
        ("@vault:liquidator", 0): 2_000_000 * ATOM,
        ("@vault:liquidator", 1): 5 * ATOM // 2,
        ("@fund:insurance", 0): 600_000 * ATOM,
        ("@fund:insurance", 1): 4 * ATOM // 5,
    }
    assert funds(little) == {("@vault:liquidator", 0): 100_000 * ATOM + 1}


def test_fees_are_the_rates_of_the_page(day: Tape) -> None:
    rows = table(day, "fills")
    chosen = np.random.default_rng(1).integers(0, len(rows["ts"]), 2_000)
    names = kind_of(day)
    seen = set()
    for row in chosen:
        market = day.markets[rows["market"][row]]
        quantity = Fraction(abs(int(rows["qty"][row])), 10**market.qty_scale)
        price = Fraction(int(rows["price"][row]), 10**market.price_scale)
        value = 100 * quantity / price if market.payoff is Payoff.INVERSE else quantity * price
        is_maker = names[rows["account"][row]] == "maker"
        takes = rows["role"][row] == int(Role.TAKER)
        expected = value * FEES[is_maker, takes] / 1_000_000 * ATOM
        assert abs(int(rows["fee"][row]) - expected) <= 1
        assert rows["fee_ledger"][row] == market.ledger
        seen.add((is_maker, takes))
    assert len(seen) == 4


def test_trades_are_near_the_mark_and_heaviest_in_the_crash(day: Tape) -> None:
    rows = table(day, "fills")
    seconds, price = marks(day)
    scale = 10.0 ** np.array([market.price_scale for market in day.markets])
    step = np.searchsorted(seconds, (rows["ts"] - CRASH) / SECOND, side="right") - 1
    ratio = rows["price"] / scale[rows["market"]] / price[step, rows["market"]]
    at = (rows["ts"] - CRASH) / SECOND
    assert np.abs(ratio[at < 0] - 1).max() < 0.02
    assert np.abs(ratio - 1).max() < 0.25
    crash = ((at >= 0) & (at < 720)).sum() / 720
    calm = (at < -300).sum() / (8 * 3600 - 300)
    assert crash > 10 * calm


def test_books_stand_round_the_mark_and_thin_out(day: Tape) -> None:
    rows = table(day, "depth")
    snapshots = len(np.unique(rows["ts"]))
    levels = rows["price"].reshape(snapshots, len(day.markets), 2, 10).astype(np.float64)
    scale = 10.0 ** np.array([market.price_scale for market in day.markets])
    levels /= scale[None, :, None, None]
    assert (rows["side"].reshape(levels.shape)[:, :, 0] == int(Side.BID)).all()
    at = np.unique(rows["ts"])
    since = (at - CRASH) / SECOND
    assert set(np.diff(since[since < -300])) == {60.0}
    assert set(np.diff(since[since >= -300])) == {6.0}
    seconds, price = marks(day)
    mark = price[np.searchsorted(seconds, since)]
    assert (levels[:, :, 0, 0] < mark).all()
    assert (levels[:, :, 1, 0] > mark).all()
    assert (np.diff(levels[:, :, 0]) < 0).all()
    assert (np.diff(levels[:, :, 1]) > 0).all()
    calm = since < -900
    assert (np.abs(levels[calm] / mark[calm][:, :, None, None] - 1) < 0.022).all()
    quantity = rows["qty"].reshape(levels.shape)
    lot = np.array([1 if m.payoff is Payoff.INVERSE else 10**m.qty_scale for m in day.markets])
    dollars = np.where(np.arange(13)[:, None, None] == INVERSE, 100.0, levels) * quantity / lot[:, None, None]
    bids = dollars[:, :, 0].sum(axis=2)
    normal = np.median(bids[calm], axis=0)
    assert normal == pytest.approx([market.depth for market in MARKETS], rel=0.15)
    worst = np.median(bids[(since >= 310) & (since <= 400)], axis=0) / normal
    assert ((worst > 0.02) & (worst < 0.05)).all()
    assert (np.median(bids[since > 2_600], axis=0) > 0.5 * normal).all()


def test_funding_is_due_every_hour_in_every_market(day: Tape) -> None:
    rows = table(day, "funding")
    hours = np.unique(rows["ts"])
    assert hours.tolist() == [parse_time(f"2025-10-10T{hour}:00:00Z") for hour in range(14, 23)]
    assert len(rows["ts"]) == 9 * 13
    assert (rows["rate"][rows["ts"] < CRASH] > 0).all()
    assert (rows["rate"][rows["ts"] > CRASH] < 0).all()


def test_some_accounts_are_saved_and_some_withdraw(day: Tape) -> None:
    rows = table(day, "transfers")
    deposits = rows["kind"] == int(TransferKind.DEPOSIT)
    assert deposits.sum() == 60
    assert (rows["amount"][deposits] > 0).all()
    assert (np.abs(rows["ts"][deposits] - CRASH) < 12 * MINUTE).all()
    withdrawals = rows["kind"] == int(TransferKind.WITHDRAWAL)
    assert withdrawals.sum() == 80
    assert (rows["amount"][withdrawals] < 0).all()
    assert (rows["ts"][withdrawals] < CRASH).all()
    moves = rows["kind"] == int(TransferKind.MOVE)
    assert moves.sum() == 60
    assert rows["amount"][moves].reshape(-1, 2).sum() == 0


def test_no_pool_is_overdrawn_by_what_leaves_it(day: Tape) -> None:
    overdrawn = day.connection().execute(
        """
        SELECT count(*) FROM accounts a JOIN (
            SELECT account, ledger, coalesce(market, -1) AS market, sum(amount) AS out
            FROM transfers WHERE amount < 0 GROUP BY ALL
        ) t ON (a.account, a.ledger, coalesce(a.market, -1)) = (t.account, t.ledger, t.market)
        WHERE a.cash + t.out < 0
        """
    )
    assert overdrawn.fetchone() == (0,)


def test_a_good_part_of_the_longs_is_liquidatable_and_the_shortfall_is_more_than_the_fund(day: Tape) -> None:
    """Value the opening cross pools in USDC by hand, at the marks, with nobody trading."""
    pools = table(day, "accounts", "ledger = 0 AND market IS NULL")
    kinds = kind_of(day)
    cash = np.zeros(len(kinds))
    cash[pools["account"]] = pools["cash"] / ATOM
    rows = table(day, "positions", f"mode = {int(Mode.CROSS)} AND market < {INVERSE}")
    markets = [day.markets[market] for market in rows["market"]]
    lots = np.array([10.0**market.qty_scale for market in markets])
    entry = rows["entry_price"] / np.array([10.0**market.price_scale for market in markets])
    seconds, price = marks(day)
    breached = np.zeros(len(kinds), bool)
    worst = np.zeros(len(kinds))
    for step in np.flatnonzero((seconds >= 0) & (seconds < 720)):
        now = price[step][rows["market"]]
        profit = np.bincount(rows["account"], rows["size"] / lots * (now - entry), len(kinds))
        gross = np.bincount(rows["account"], np.abs(rows["size"]) / lots * now, len(kinds))
        equity = cash + profit
        breached |= (gross > 0) & (equity < 0.02 * gross)
        worst = np.where(breached, np.minimum(worst, equity), worst)
    share = breached[kinds == "long"].mean()
    assert 0.15 < share < 0.30
    vault_and_fund = 2_000_000 + 600_000
    assert -worst[~np.char.startswith(kinds, "@")].sum() > 2 * vault_and_fund


def test_values_in_atoms_are_exact() -> None:
    lots = np.array([7, -123_456, 3], np.int64)
    price = np.array([1_214_003, 24_751, 1_213_507], np.int64)
    market = np.array([0, 5, INVERSE], np.int64)
    btc = Fraction(7, 1000) * Fraction(12_140_03, 10)
    doge = 123_456 * Fraction(24_751, 10**5)
    coin = Fraction(3 * 100 * 10, 1_213_507)
    expected = [int(value * ATOM) for value in (btc, doge, coin)]
    assert value_atoms(market, lots, price).tolist() == expected


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    first = small(tmp_path, name="one")
    second = small(tmp_path, name="two")
    assert (first.path / "tape.json").read_bytes() == (second.path / "tape.json").read_bytes()
    other = small(tmp_path, SMALL.replace("seed = 5", "seed = 6"), "three")
    for name in ("positions", "prices", "fills", "depth", "funding", "transfers"):
        assert other.manifest["tables"][name] != first.manifest["tables"][name]


def test_parts_of_the_day_have_random_numbers_of_their_own(tmp_path: Path, little: Tape) -> None:
    text = SMALL.replace("matches = 4_000", "matches = 5_000").replace("depth = 6", "depth = 7")
    other = small(tmp_path, text)
    changed = {
        name for name, entry in other.manifest["tables"].items() if entry != little.manifest["tables"][name]
    }
    assert changed == {"fills", "depth"}


def test_rules_find_victims_and_the_books_close(tmp_path: Path, little: Tape) -> None:
    rules = load_rules("hyperliquid@2023-02")
    made = run(little, rules, tmp_path / "rules", liquidations="rules")
    liquidated = np.unique(made.table("liquidations")["account"].to_numpy())
    assert 150 < len(liquidated) < 600
    assert made.rows("breaks") == 0


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "dataset.toml"
    file.write_text(SMALL, encoding="utf-8")
    told: list[float] = []
    import_source(
        "demo-crash", [file], tmp_path / "tape", on_progress=lambda share, _text: told.append(share)
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_command_says_what_is_on_the_tape(tmp_path: Path) -> None:
    file = tmp_path / "dataset.toml"
    file.write_text(SMALL, encoding="utf-8")
    result = CliRunner().invoke(cli, ["import", "demo-crash", str(file), "--out", str(tmp_path / "tape")])
    assert result.exit_code == 0, result.output
    assert "1,501" in result.output
    manifest = json.loads((tmp_path / "tape/tape.json").read_text())
    assert manifest["importer"]["name"] == "demo-crash"
    assert manifest["accounts_start"] == "known"


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ("accounts =", "acounts =", "parameters.acounts", "is not a key of a crash dataset"),
        ("accounts = 1_500", "accounts = 100", "parameters.accounts", "greater than or equal to 500"),
        ("accounts = 1_500", "accounts = 1500.5", "parameters.accounts", "valid integer"),
        ("seed = 5", "seed = -1", "parameters.seed", "greater than or equal to 0"),
        ("depth = 6", "", "parameters.depth", "is missing"),
        ("2025-10-10T21:15:00Z", "noon", "parameters.crash", "'noon' is not a UTC time"),
        ("2025-10-10T21:15:00Z", "1970-01-01T07:00:00Z", "parameters.crash", "first hours of 1970"),
        ('currency = "USDC"', "", "funds[0]", "does not say in which currency"),
        ('currency = "USDC"', 'currency = "EUR"', "funds[0]", "does not say in which currency"),
        ('currency = "USDC"', 'currency = "USDC"\ndex = "xyz"', "funds[0]", "names a dex"),
        ("@vault:liquidator", "vault", "funds[0]", "'vault' is not the name of a fund"),
        ("100_000.00000001", "-1", "funds[0]", "less cash than none"),
        ("100_000.00000001", "1e12", "funds[0]", "more than there is"),
        ("100_000.00000001", '"much"', "funds[0].cash", "'much' is not a decimal number"),
        ("[parameters]", "[parameters", None, "is not TOML"),
    ],
)
def test_a_fault_in_the_file_is_said_once(
    tmp_path: Path, old: str, new: str, key: str | None, problem: str
) -> None:
    assert old in SMALL
    with pytest.raises(SourceError, match=problem.replace("(", r"\(")) as caught:
        small(tmp_path, SMALL.replace(old, new))
    assert caught.value.file == str(tmp_path / "dataset.toml")
    assert caught.value.key == key
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.toml"]


def test_a_fund_is_given_once(tmp_path: Path) -> None:
    again = SMALL[SMALL.index("[[funds]]") :]
    with pytest.raises(SourceError, match="has cash in USDC already") as caught:
        small(tmp_path, SMALL + again)
    assert caught.value.row == SMALL.count("\n") + 1


def test_one_file_and_no_rejects(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(SMALL, encoding="utf-8")
    with pytest.raises(SourceError, match="found 2"):
        import_source("demo-crash", [tmp_path], tmp_path / "tape")
    with pytest.raises(SourceError, match="sets no rows aside"):
        import_source("demo-crash", [tmp_path / "a.toml"], tmp_path / "tape", rejects=tmp_path / "r.jsonl")
    assert not (tmp_path / "tape").exists()
