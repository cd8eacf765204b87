"""The crash day of 2025-10-10 in one COIN-M perpetual, from recorded trades to a waterfall under three rule books."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.tape.populate import Population, populate
from replay.tape.read import Tape, open_tape
from tests.end_to_end.recordings import recording

pytestmark = pytest.mark.real

VOLUME = ["depth.provider=volume", "depth.participation=0.2", "depth.window=60s", "depth.slippage_bp=20"]
MINUTE = 60 * 10**9
CRASH = 1_760_130_900_000_000_000  # 2025-10-10T21:15:00Z


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    folder = recording("tardis-2025-10-10")
    out: Path = tmp_path_factory.mktemp("coinm")
    perp = folder / "perp" / "binance-delivery_trades_2025-10-10_ATOMUSD_PERP.csv.gz"
    spot = [folder / "spot" / name for name in ("coinbase_trades_2025-10-10_ATOM-USD.csv.gz",)]
    import_source("tardis", [perp, *spot], out / "tape")
    populate(open_tape(out / "tape"), out / "peopled", Population(accounts=500, fund=0.001))
    return open_tape(out / "peopled")


@pytest.mark.parametrize(
    ("rules", "overrides"),
    [("binance-coinm", []), ("bybit@2025-09-23", VOLUME), ("hyperliquid@2025-10-10", VOLUME)],
)
def test_the_day_runs_under_each_rule_book_and_deleverages_in_the_crash(tmp_path, peopled, rules, overrides):
    """The fall from 3.4 to 1.06 between 21:15 and 21:22 is where liquidations and ADL are; books close."""
    from datetime import date

    book = load_rules(rules, on=date(2025, 10, 10), overrides=overrides)
    made = run(peopled, book, tmp_path / "run", liquidations="rules", execution="depth")
    assert not made.manifest["conservation"]["open_markets"]
    liquidations = made.table("liquidations").to_pylist()
    by_minute: dict[int, int] = {}
    for row in liquidations:
        by_minute[row["ts"] // MINUTE] = by_minute.get(row["ts"] // MINUTE, 0) + row["asked"]
    worst = max(by_minute, key=lambda minute: by_minute[minute]) * MINUTE
    assert CRASH <= worst < CRASH + 15 * MINUTE, "the minute of the most forced flow"
    adl = made.table("engagements").to_pylist()
    assert min(row["ts"] for row in adl if row["stage"] == "adl") >= CRASH - 5 * MINUTE
