"""Modelled accounts of an anonymous day: volume is kept, books close, seeds decide, stress is withheld."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replay.errors import TapeError
from replay.rules import load_rules
from replay.run.execute import run
from replay.tape.populate import FUNDS, Population, populate
from replay.tape.read import Tape, open_tape
from replay.tape.write import TapeWriter

START = 1_760_054_400_000_000_000
SMALL = Population(accounts=100, makers=5)


def anonymous(
    path: Path, *, trades: int = 4_000, fall: float = 0.0, told: tuple[tuple[int, int], ...] = ()
) -> Tape:
    """A market of ``trades`` trades, one a second, around 100 dollars, that may fall on the way.

    ``told`` is open interest: second and quantity in 0.001.
    """
    rng = np.random.default_rng(3)
    price = np.round(10_000 * (1 - fall * np.arange(trades) / trades) + rng.integers(-5, 6, trades))
    with TapeWriter(path, venue="test", importer="test") as writer:
        writer.market("BTCUSDT", settle="USDT", tick=(1, 2), lot=(1, 3))
        rows: dict[str, Any] = {
            "ts": START + np.arange(trades) * 1_000_000_000,
            "market": np.zeros(trades, np.int32),
            "price": price.astype(np.int64),
            "price_digits": np.full(trades, 2, np.int8),
            "qty": rng.integers(1, 5_000, trades),
            "qty_digits": np.full(trades, 3, np.int8),
            "taker_side": rng.choice([-1, 1], trades).astype(np.int8),
        }
        writer.append("trades", rows)
        writer.append_rows(
            "open_interest",
            "ts market qty qty_digits",
            [(START + second * 1_000_000_000, 0, qty, 3) for second, qty in told],
        )
        writer.finish(sources=[], lacks=[], assumptions=[], counts={}, accounts_start="unknown")
    return open_tape(path)


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return anonymous(tmp_path / "anonymous")


def test_each_trade_is_kept_whole_at_its_price_and_moment(tmp_path, tape):
    populate(tape, tmp_path / "out", SMALL)
    made = open_tape(tmp_path / "out")
    by_trade = "SELECT ts, price, sum(qty) FROM {} GROUP BY ts, price ORDER BY ts"
    fills = made.select(by_trade.format("fills").replace("sum(qty)", "sum(qty) FILTER (qty > 0)"))
    assert fills == tape.select(by_trade.format("trades"))
    assert made.select("SELECT sum(qty) FROM fills") == [(0,)]


def test_the_takers_side_is_that_of_the_trade(tmp_path, tape):
    populate(tape, tmp_path / "out", SMALL)
    made = open_tape(tmp_path / "out")
    takers = made.select("SELECT DISTINCT ts, sign(qty) FROM fills WHERE role = 1 ORDER BY ts")
    assert takers == tape.select("SELECT ts, taker_side FROM trades ORDER BY ts")


def test_opening_positions_sum_to_zero_and_funds_hold_their_share(tmp_path, tape):
    """Open interest is a tenth of the day's volume; each fund has 2 % of its value at the first price."""
    populate(tape, tmp_path / "out", SMALL)
    made = open_tape(tmp_path / "out")
    assert sum(made.positions.column("size").to_pylist()) == 0
    ((volume, first),) = tape.select("SELECT sum(qty), arg_min(price, ts) FROM trades")
    value = int(volume * 0.1) * first * 1_000  # 1e-3 coins x 1e-2 dollars in atoms of 1e-8
    names = made.account_names
    cash = {names[row["account"]]: row["cash"] for row in made.accounts.to_pylist()}
    assert [cash[name] for name in FUNDS] == [int(value * 0.02)] * 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, tape):
    hashes = [
        populate(tape, tmp_path / str(number), Population(seed=seed, accounts=100, makers=5))["sha256"]
        for number, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_batches_in_which_trades_are_read_do_not_show(tmp_path, tape, monkeypatch):
    """Draws are taken trade by trade, so that batches of 97 give what one batch gives."""
    whole = populate(tape, tmp_path / "whole", SMALL)["sha256"]
    monkeypatch.setattr("replay.tape.populate._BATCH", 97)
    assert populate(tape, tmp_path / "parts", SMALL)["sha256"] == whole


def test_how_far_open_interest_strays_is_told_by_hour(tmp_path, tape):
    """4,000 trades, one a second, are two hours: two numbers, the larger of which is the most, and no batch shows."""
    (told,) = (
        s for s in populate(tape, tmp_path / "out", SMALL)["assumptions"] if s.startswith("Open interest")
    )
    most, hours = re.fullmatch(
        r"Open interest of the model strayed at most (\d+) % from its target, hour by hour in the worst market "
        r"([\d ]+) %; .*",
        told,
    ).groups()
    made = open_tape(tmp_path / "out")
    size: dict[int, int] = {row["account"]: row["size"] for row in made.positions.to_pylist()}
    ((volume,),) = tape.select("SELECT sum(qty) FROM trades")
    target = int(volume * 0.1)
    off = [0.0, 0.0]
    for ts, rows in groupby(
        made.select("SELECT ts, account, qty FROM fills ORDER BY seq"), lambda row: row[0]
    ):
        for _, account, signed in rows:
            size[account] = size.get(account, 0) + signed
        held = sum(value for value in size.values() if value > 0)
        hour = (ts - START) // 3_600_000_000_000
        off[hour] = max(off[hour], abs(held - target) / target)
    assert hours == " ".join(f"{100 * share:.0f}" for share in off)
    assert int(most) == max(map(int, hours.split()))


def test_open_interest_that_the_tape_tells_is_where_the_day_opens_and_what_it_steers_to(tmp_path):
    """Told are 3,000 coins, from the 1,500th second 1,000, and a last word of a minute wins: 800 is never seen.

    The model follows within its own residual, which it tells by hour, of the target of each moment.
    """
    told = ((10, 3_000_000), (1_500, 800_000), (1_510, 1_000_000))
    tape = anonymous(tmp_path / "anonymous", told=told)
    manifest = populate(tape, tmp_path / "out", SMALL)
    made = open_tape(tmp_path / "out")
    size: dict[int, int] = {row["account"]: row["size"] for row in made.positions.to_pylist()}
    assert sum(value for value in size.values() if value > 0) == pytest.approx(3_000_000, rel=0.001)
    held, off = 0, [0.0, 0.0]
    for ts, rows in groupby(
        made.select("SELECT ts, account, qty FROM fills ORDER BY seq"), lambda row: row[0]
    ):
        for _, account, signed in rows:
            size[account] = size.get(account, 0) + signed
        held = sum(value for value in size.values() if value > 0)
        target = 3_000_000 if ts < START + 1_510 * 1_000_000_000 else 1_000_000
        hour = (ts - START) // 3_600_000_000_000
        off[hour] = max(off[hour], abs(held - target) / target)
    assert held == pytest.approx(1_000_000, rel=0.2)
    (sentence,) = (text for text in manifest["assumptions"] if text.startswith("Open interest"))
    hours = " ".join(f"{100 * share:.0f}" for share in off)
    assert f"in the worst market {hours} %; that is what the tape tells" in sentence
    assert sentence.endswith("of 1 of 1 markets.")
    assert made.select("SELECT ts, qty FROM open_interest ORDER BY seq") == [
        (START + second * 1_000_000_000, qty) for second, qty in told
    ]


def test_in_stress_the_share_of_the_flow_on_the_side_of_the_move_is_withheld(tmp_path):
    """A fall of 60 % in 4,000 s moves 1 % within each minute: with a share of 1 sales late in minutes are gone."""
    tape = anonymous(tmp_path / "anonymous", fall=0.6)
    populate(tape, tmp_path / "none", Population(accounts=100, makers=5, forced_share=0.0))
    made = populate(tape, tmp_path / "all", Population(accounts=100, makers=5, forced_share=1.0))
    kept, whole = open_tape(tmp_path / "all"), open_tape(tmp_path / "none")
    volume = "SELECT sum(qty) FILTER (role = 1 AND qty {} 0) FROM fills"
    assert kept.select(volume.format(">")) == whole.select(volume.format(">"))
    sold, all_sold = (-int(t.select(volume.format("<"))[0][0]) for t in (kept, whole))
    assert made["counts"]["withheld quantity"] == all_sold - sold > 0


def test_a_run_of_it_closes_its_books_and_liquidates(tmp_path):
    tape = anonymous(tmp_path / "anonymous", fall=0.5)
    populate(tape, tmp_path / "peopled", SMALL)
    book = load_rules("binance-coinm@2025-09-10")
    made = run(open_tape(tmp_path / "peopled"), book, tmp_path / "run", liquidations="rules")
    assert made.rows("liquidations") > 10
    assert not made.manifest["conservation"]["open_markets"]


def test_a_tape_of_trades_alone_is_not_run_and_the_error_says_what_to_do(tmp_path, tape):
    with pytest.raises(TapeError, match="replay populate"):
        run(tape, load_rules("binance-coinm@2025-09-10"), tmp_path / "run")


def test_a_tape_with_accounts_is_not_populated(tmp_path, tape):
    populate(tape, tmp_path / "once", SMALL)
    peopled = open_tape(tmp_path / "once")
    with pytest.raises(TapeError, match="holds fills of accounts already"):
        populate(peopled, tmp_path / "twice", SMALL)
