"""At which price risk is measured (``price.risk_price``): the mark, the oracle, the index.

A long of 10 BTC from 100,000 with 50,000 of cash needs 1.25 %: in breach below 96,203.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.errors import RulesError, TapeError
from tests.waterfall.days import HYPERLIQUID, Day, account, marks, replayed

MARKET = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'


def prices(kind: str, at: int) -> str:
    return marks("BTC", ("+0s", 100_000), ("+10s", at)).replace("path", f'kind = "{kind}"\npath')


def day(folder: Path, risk_price: str, **at: int) -> Day:
    return replayed(
        folder,
        MARKET
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("short", 2_000_000, ("BTC", -10, 100_000))
        + "".join(prices(kind, price) for kind, price in at.items()),
        HYPERLIQUID,
        [f"price.risk_price={risk_price}"],
    )


@pytest.mark.parametrize(
    ("risk_price", "at", "breaches"),
    [
        ("mark", {"mark": 96_000, "oracle": 99_000, "index": 99_000}, [96_000]),
        ("oracle", {"mark": 96_000, "oracle": 99_000, "index": 96_000}, []),
        ("oracle", {"mark": 99_000, "oracle": 96_100, "index": 99_000}, [96_100]),
        ("oracle", {"mark": 99_000, "index": 96_100}, [96_100]),  # the index where there is no oracle
        ("index", {"mark": 99_000, "oracle": 99_000, "index": 96_100}, [96_100]),
        ("index", {"mark": 96_000, "oracle": 96_000, "index": 99_000}, []),
    ],
)
def test_a_pool_is_in_breach_at_the_price_of_the_rules(
    tmp_path: Path, risk_price: str, at: dict[str, int], breaches: list[int]
) -> None:
    assert [
        mark for (mark,) in day(tmp_path, risk_price, **at).rows("SELECT mark FROM liquidations")
    ] == breaches


@pytest.mark.parametrize(
    ("risk_price", "problem"), [("oracle", "neither oracle nor index of BTC"), ("index", "no index of BTC")]
)
def test_the_price_must_be_on_the_tape(tmp_path: Path, risk_price: str, problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        day(tmp_path, risk_price, mark=99_000)


@pytest.mark.parametrize("market", ["BTC", "ETH"])
def test_funding_needs_the_price_of_what_somebody_holds(tmp_path: Path, market: str) -> None:
    """The oracle begins after the rate is due; nobody holds ETH, so that its rate pays nothing."""
    text = (
        MARKET.replace(" }]", ' }, { name = "ETH", tick = 0.1, lot = 0.001 }]')
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("short", 2_000_000, ("BTC", -10, 100_000))
        + "".join(
            marks(name, ("+0s", 100_000), ("+10s", 100_000))
            + marks(name, ("+5s", 100_000), ("+10s", 100_000)).replace("path", 'kind = "oracle"\npath')
            for name in ("BTC", "ETH")
        )
        + f'[[funding]]\nat = "+2s"\nmarket = "{market}"\nrate = 0.001\n'
    )
    overrides = ["price.risk_price=oracle"]
    if market == "ETH":
        assert replayed(tmp_path, text, HYPERLIQUID, overrides).cash("long") == 50_000
        return
    with pytest.raises(TapeError, match=r"funding of market BTC at .* comes before its first mark"):
        replayed(tmp_path, text, HYPERLIQUID, overrides)
