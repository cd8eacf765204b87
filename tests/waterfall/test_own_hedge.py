"""Rungs before the book: resting orders are cancelled, a position closes against the account's own hedge."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import replay
from replay.errors import RulesError
from replay.rules.load import list_rules
from tests.scenario_tape import scenario_tape
from tests.waterfall.days import HYPERLIQUID, Day, account, fund, marks

D = Decimal
DAY = (
    'venue = "example"\nstart = "2025-10-10T12:00:00Z"\n'
    'markets = [{ name = "ETH", tick = 0.01, lot = 0.001 }]\n'
    + account("hedged", 110, ("ETH", 10, 100))
    + '[[accounts]]\nname = "hedged"\n'
    'positions = [{ market = "ETH", size = -4, entry = 100, margin = 500 }]\n'
    + account("short", 10_000, ("ETH", -6, 100))
    + fund("@vault:liquidator", 1_000)
    + marks("ETH", ("+0s", 100), ("+1s", 90.5))
)


def rules_with(folder: Path, *actions: str) -> Path:
    """Write the Hyperliquid book with rungs put before its own."""
    assert HYPERLIQUID in {found.name for found in list_rules()}
    venue, _, version = HYPERLIQUID.partition("@")
    text = (Path("replay/rules/venues") / venue / f"{version}.toml").read_text(encoding="utf-8")
    rungs = "".join(f'[[ladder]]\naction = "{action}"\nlevel = "1"\nsize = "full"\n\n' for action in actions)
    head, mark, tail = text.partition("[[ladder]]")
    file = folder / "mine.toml"
    file.write_text(head + rungs + mark + tail, encoding="utf-8")
    return file


def replayed(folder: Path, *actions: str) -> Day:
    rules = replay.load_rules(str(rules_with(folder, *actions)))
    return Day(replay.run_replay(scenario_tape(folder, DAY), rules, folder / "run", liquidations="rules"))


def test_a_hedge_in_the_other_margin_mode_is_netted_at_the_mark(tmp_path: Path) -> None:
    """At 90.50 the cross long of 10 has 15 of 18.10 needed: 4 close against the isolated short."""
    day = replayed(tmp_path, "net_own_hedge")
    assert day.rows("SELECT size, netted FROM liquidations") == [(D(10), D(4))]
    first = day.rows("SELECT stage, asked, filled, value, reason FROM forced_orders ORDER BY seq LIMIT 1")
    assert first == [("net", D(-4), D(-4), D(-362), "closed against its own hedge")]
    # The short gained 4 x 9.50 in its own pool; the long lost as much in the cross pool.
    assert day.cash("hedged", "ETH") == 500 + 38
    assert day.one("SELECT size FROM positions_end WHERE account = 'hedged' AND mode = 'isolated'") == 0


def test_without_the_rung_the_hedge_stays(tmp_path: Path) -> None:
    day = replayed(tmp_path)
    assert day.one("SELECT netted FROM liquidations") == 0
    assert day.one("SELECT size FROM positions_end WHERE account = 'hedged' AND mode = 'isolated'") == -4


def test_cancelling_orders_changes_nothing_where_no_tape_has_them(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    cancelling = replayed(tmp_path / "with", "cancel_orders")
    plain = replayed(tmp_path / "without")
    assert cancelling.run.manifest["sha256"] == plain.run.manifest["sha256"]


def test_a_ladder_that_closes_nothing_is_refused(tmp_path: Path) -> None:
    file = rules_with(tmp_path, "cancel_orders")
    head, _, tail = file.read_text(encoding="utf-8").partition("[bankruptcy]")
    own = '[[ladder]]\naction = "cancel_orders"\nlevel = "1"\nsize = "full"\n\n'
    file.write_text(head.partition("[[ladder]]")[0] + own + "[bankruptcy]" + tail, encoding="utf-8")
    book = replay.load_rules(str(file))
    with pytest.raises(RulesError, match="no rung closes what a pool without a hedge holds"):
        replay.run_replay(scenario_tape(tmp_path, DAY), book, tmp_path / "run", liquidations="rules")
