"""The queries of the waterfall on runs of a few rows; expected values are worked out here by hand."""

from __future__ import annotations

import pytest

from tests.run.test_queries import ask
from tests.run.tiny import ATOM, LONG, SECOND, SHORT, START, make_run, ruled

VAULT = 3
"""Account of the tiny run: `@vault:hlp`."""


def adl(loser, winner, market, ledger, quantity, value, before, after, **columns):
    """One row of `adl_fills`; quantities in lots, value in atoms, `before` and `after` the winner's size."""
    return {
        "ts": START,
        "liquidation": None if loser == VAULT else 1,
        "loser": loser,
        "winner": winner,
        "market": market,
        "ledger": ledger,
        "origin": "ladder",
        "rank": 1,
        "candidates": 9,
        "score": 1.5,
        "lights": 5,
        "quantity": quantity,
        "value": value,
        "mark": 160_000,
        "realised": 0,
        "loser_fee": 0,
        "winner_fee": 0,
        "loser_size_before": 0,
        "loser_size_after": 0,
        "winner_size_before": before,
        "winner_size_after": after,
        "loser_equity_before": 0,
        "loser_equity_after": 0,
        "winner_equity_before": 1_000 * ATOM,
        "winner_equity_after": 1_000 * ATOM,
        "winner_notional_before": 3_200 * ATOM,
        **columns,
    }


def position(account, market, size, value, **columns):
    return {
        "account": account,
        "market": market,
        "mode": 0,
        "size": size,
        "recorded_size": size,
        "cost": value,
        "mark": 160_000,
        "value": value,
        "entry_unknown": 0,
        **columns,
    }


def pool(account, cash, equity, ledger=0, **columns):
    return {"account": account, "ledger": ledger, "cash": cash * ATOM, "equity": equity * ATOM,
            "maintenance": 0, "grade": 0, "special": int(account > 1), **columns}  # fmt: skip


def movement(seconds, kind, amount, balance, **columns):
    return {"ts": START + seconds * SECOND, "account": VAULT, "ledger": 0, "kind": kind,
            "amount": amount * ATOM, "balance": balance * ATOM, **columns}  # fmt: skip


def test_the_split_of_a_market_by_quantity_and_of_a_currency_by_notional(tmp_path):
    """ETH: 8 + 2 lots asked of 10 + 4; BTCUSD beside it in its own currency; xyz is another ledger."""
    liquidations = [
        ruled(1, 0, 0, 0, size=10, asked=8, book=2, absorbed=4, adl=1, left=1, bankruptcy_value=1000 * ATOM),
        ruled(2, 1, 0, 0, size=-4, asked=2, book=2, absorbed=0, bankruptcy_value=-400 * ATOM),
        ruled(2, 1, 1, 1, size=5, asked=5, absorbed=5, bankruptcy_value=-5 * ATOM),
    ]
    fills = [
        adl(0, 1, 0, 0, 1, 100 * ATOM, -1, 0),
        adl(VAULT, 1, 0, 0, 3, 300 * ATOM, -4, -1),  # of the 4 absorbed: not counted a second time
    ]
    ends = [position(VAULT, 0, 1, 90 * ATOM)]
    run = make_run(
        tmp_path / "run", tables={"liquidations": liquidations, "adl_fills": fills, "positions_end": ends}
    )
    rows = {(row["currency"], row["market"]): row for row in ask(run, "waterfall-split")}
    assert list(rows) == [("USDC", "all"), ("USDC", "ETH"), ("BTC", "all"), ("BTC", "BTCUSD")]
    eth = rows["USDC", "ETH"]
    assert (eth["liquidations"], eth["accounts"]) == (2, 2)
    assert eth["quantity"] == pytest.approx(0.001, rel=1e-12)  # 10 lots of 1e-4
    assert eth["notional"] == pytest.approx(1000 * 8 / 10 + 400 * 2 / 4)
    shares = [eth[f"{stage}_pct"] for stage in ("book", "absorbed", "adl", "left")]
    assert shares == pytest.approx([40, 40, 10, 10])
    assert (eth["absorber_adl"], eth["absorber_adl_notional"]) == (0.0003, 300)
    assert (eth["absorber_held"], eth["absorber_held_notional"]) == (0.0001, 90)
    everything = rows["USDC", "all"]
    # 800 of the first go 2 : 4 : 1 : 1, 200 of the second whole to the book
    shares = [everything[f"{stage}_pct"] for stage in ("book", "absorbed", "adl", "left")]
    assert shares == pytest.approx([40, 40, 10, 10])
    assert everything["quantity"] is None
    assert everything["absorber_adl_notional"] == 300
    assert rows["BTC", "BTCUSD"]["absorbed_pct"] == 100
    assert rows["BTC", "all"]["absorber_adl_notional"] is None


def test_a_currency_weighs_markets_by_notional(tmp_path):
    liquidations = [
        ruled(1, 0, 0, 0, size=10, asked=10, absorbed=10, bankruptcy_value=900 * ATOM),
        ruled(2, 1, 2, 0, size=10, asked=10, absorbed=0, adl=10, bankruptcy_value=100 * ATOM),
    ]
    rows = ask(make_run(tmp_path / "run", tables={"liquidations": liquidations}), "waterfall-split")
    assert (rows[0]["market"], rows[0]["absorbed_pct"], rows[0]["adl_pct"]) == ("all", 90, 10)


def test_what_was_left_and_wanted_again_counts_once(tmp_path):
    """10 lots: 4 go to the book and the account recovers; later 5 of the 6 are absorbed, and 1 is left."""
    liquidations = [
        ruled(1, 0, 0, 0, size=10, asked=10, book=4, absorbed=0, left=6, bankruptcy_value=1_000 * ATOM),
        ruled(5, 0, 0, 0, size=6, asked=6, absorbed=5, left=1, bankruptcy_value=600 * ATOM),
    ]
    run = make_run(tmp_path / "run", tables={"liquidations": liquidations})
    everything, eth = ask(run, "waterfall-split")
    assert eth["liquidations"] == 2
    assert (eth["quantity"], eth["notional"]) == pytest.approx((0.001, 1_000))
    for row in (everything, eth):
        shares = [row[f"{stage}_pct"] for stage in ("book", "absorbed", "adl", "left")]
        assert shares == pytest.approx([40, 50, 0, 10])


def test_the_fund_path_adds_up_what_moved_it(tmp_path):
    movements = [
        movement(0, "opening", 100, 100),
        movement(1, "takeover", -30, 70, market=0, inventory=5000),
        movement(2, "work out", 5, 90, market=0, inventory=0),  # marks gave 15 in between
    ]
    rows = ask(make_run(tmp_path / "run", tables={"absorber_ledger": movements}), "fund-path")
    assert [(row["kind"], row["moved"], row["balance"], row["inventory"]) for row in rows] == [
        ("opening", 100, 100, None),
        ("takeover", 70, 70, 0.5),
        ("work out", 75, 90, 0),
    ]
    assert {row["account"] for row in rows} == {"@vault:hlp"}


def test_winners_with_the_share_of_what_they_had(tmp_path):
    """SHORT loses 1 of 4 ETH, then 1 more; and all of its 10 GOLD, in another ledger; LONG half of 2 ETH."""
    fills = [
        adl(0, 1, 0, 0, 10_000, 1_500 * ATOM, -40_000, -30_000, rank=3, realised=7 * ATOM, winner_fee=ATOM),
        adl(0, 1, 0, 0, 10_000, 1_700 * ATOM, -30_000, -20_000, ts=START + SECOND, rank=2,
            winner_equity_before=ATOM),
        adl(VAULT, 1, 2, 2, 1_000, 10 * ATOM, -1_000, 0),
        adl(1, 0, 0, 0, 10_000, -1_600 * ATOM, 20_000, 10_000, rank=8),
    ]  # fmt: skip
    rows = ask(make_run(tmp_path / "run", tables={"adl_fills": fills}), "who-was-deleveraged")
    assert [(row["account"], row["dex"]) for row in rows] == [(SHORT, ""), (LONG, ""), (SHORT, "xyz")]
    first = rows[0]
    assert (first["value_closed"], first["fills"], first["markets"]) == (3_200, 2, "ETH")
    assert first["share_closed"] == 0.5
    assert (first["first_rank"], first["last_rank"]) == (2, 3)
    assert (first["equity_before"], first["leverage_before"]) == (1_000, 3.2)  # of the first closing
    assert (first["realised"], first["fee"]) == (7, 1)
    assert rows[1]["share_closed"] == 0.5
    assert rows[2]["share_closed"] == 1


def test_the_share_over_several_markets_is_weighted_by_value(tmp_path):
    fills = [
        adl(0, 1, 0, 0, 10_000, 300 * ATOM, -10_000, 0),  # all of it, 300
        adl(0, 1, 2, 0, 100, 100 * ATOM, -200, -100),  # half of it, 100
    ]
    (row,) = ask(make_run(tmp_path / "run", tables={"adl_fills": fills}), "who-was-deleveraged")
    assert row["markets"] == "ETH+xyz:GOLD"
    assert row["share_closed"] == (300 * 1 + 100 * 0.5) / 400


def test_a_hedge_that_lost_a_leg(tmp_path):
    """Short 2 ETH at 1600 against 30 contracts of 100 USD in coin: -3200 + 3000; the long is left."""
    fills = [adl(0, 1, 0, 0, 20_000, 3_000 * ATOM, -20_000, 0)]
    ends = [position(1, 1, 30, -15_000_000, mark=200_000)]
    run = make_run(tmp_path / "run", tables={"adl_fills": fills, "positions_end": ends})
    (row,) = ask(run, "hedge-survival")
    assert (row["account"], row["closed_legs"], row["kept_legs"]) == (SHORT, "ETH", "BTCUSD")
    assert (row["long_before"], row["short_before"]) == (3_000, 3_200)
    assert (row["net_before"], row["net_after"]) == (-200, 3_000)
    assert (row["hedged_before"], row["more_exposed"]) == (True, True)
    assert row["unseen_notional"] == 0  # its pool had 3200 of notional: the ETH


def test_legs_that_were_gone_at_the_end_are_told_as_unseen(tmp_path):
    fills = [adl(0, 1, 0, 0, 10_000, 1_500 * ATOM, -10_000, 0)]  # 1600 of a pool of 3200
    (row,) = ask(make_run(tmp_path / "run", tables={"adl_fills": fills}), "hedge-survival")
    assert row["unseen_notional"] == 1_600
    assert row["kept_legs"] is None
    assert row["hedged_before"] is False


def test_a_single_leg_is_no_hedge(tmp_path):
    fills = [adl(0, 1, 0, 0, 20_000, 3_000 * ATOM, -20_000, 0)]
    assert ask(make_run(tmp_path / "run", tables={"adl_fills": fills}), "hedge-survival") == []


def test_a_leg_partly_closed_twice_counts_from_first_to_last(tmp_path):
    fills = [
        adl(0, 1, 0, 0, 5_000, 1, -20_000, -15_000),
        adl(0, 1, 0, 0, 5_000, 1, -15_000, -10_000, ts=START + SECOND, mark=100_000),
    ]
    ends = [position(1, 0, -10_000, -ATOM), position(1, 2, 100, 10 * ATOM, mark=100_000)]
    run = make_run(tmp_path / "run", tables={"adl_fills": fills, "positions_end": ends})
    (row,) = ask(run, "hedge-survival")
    gold = 1 * 100 / 10  # one contract of a tenth, at 100
    assert (row["net_before"], row["net_after"]) == (-3_200 + gold, -1_600 + gold)
    assert row["more_exposed"] is False


@pytest.mark.parametrize(("vault", "left", "percent"), [(100, 0, 100.0), (30, 20, 80.0), (-5, 50, 50.0)])
def test_profit_is_payable_as_far_as_losers_and_the_vault_reach(tmp_path, vault, left, percent):
    """A winner's 100 against a loser of 150 who had 100: 50 are missing, less what the vault has."""
    ends = [pool(0, 20, 120), pool(1, 100, -50), pool(VAULT, vault, vault), pool(2, 0, 1_000)]
    run = make_run(
        tmp_path / "run",
        tables={"accounts_end": ends, "absorber_ledger": [movement(0, "opening", vault, vault)]},
    )
    (row,) = ask(run, "payable-profit")
    assert (row["winners"], row["profit"], row["losers"], row["loss"]) == (1, 100, 1, 150)
    assert (row["pools_below_zero"], row["owed"], row["absorbers"]) == (1, 50, vault)
    assert (row["not_payable"], row["payable_pct"]) == (left, pytest.approx(percent))


def test_a_vault_that_the_rules_do_not_name_pays_nothing(tmp_path):
    ends = [pool(0, 20, 120), pool(1, 100, -50), pool(VAULT, 900, 900)]
    (row,) = ask(make_run(tmp_path / "run", tables={"accounts_end": ends}), "payable-profit")
    assert (row["absorbers"], row["not_payable"]) == (0, 50)


def test_pools_without_equity_or_of_unknown_equity_are_counted(tmp_path):
    ends = [pool(0, 20, 20, grade=3), {**pool(1, 10, 0), "equity": None}]
    (row,) = ask(make_run(tmp_path / "run", tables={"accounts_end": ends}), "payable-profit")
    assert (row["unknown_pools"], row["payable_pct"]) == (2, None)
