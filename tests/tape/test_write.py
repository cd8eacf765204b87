"""Writing tapes: what does not fit is named by market, table and moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.errors import SourceError
from replay.tape.schema import PriceKind
from replay.tape.write import TapeWriter
from replay.units import BOUND, parse_time

NOON = parse_time("2023-03-01T12:00:00Z")


def write_prices(folder: Path, prices: list[tuple[int, int]]) -> None:
    """Write prices of SOL, as mantissa and digits, one a second."""
    with TapeWriter(folder / "tape", venue="v", importer="test") as writer:
        writer.market("BTC", settle="USDC")
        sol = writer.market("SOL", settle="USDC")
        count = len(prices)
        rows = {
            "ts": [NOON + i * 10**9 for i in range(count)],
            "market": [sol] * count,
            "kind": [int(PriceKind.MARK)] * count,
            "price": [mantissa for mantissa, _ in prices],
            "price_digits": [digits for _, digits in prices],
        }
        writer.append("prices", rows)
        writer.finish(sources=[], lacks=[], assumptions=[], counts={}, accounts_start="unknown")


def test_the_largest_number_that_fits_is_written(tmp_path: Path) -> None:
    write_prices(tmp_path, [((BOUND - 1) // 10**15, 0), (1, 15)])
    assert (tmp_path / "tape/tape.json").exists()


def test_a_number_too_large_for_its_market_is_named(tmp_path: Path) -> None:
    """A cell holds less than 2**62, about 4.6e18: with 15 decimals 4611 fits and 99999.5 does not."""
    with pytest.raises(SourceError) as caught:
        write_prices(tmp_path, [(20, 0), (999995, 1), (1, 15)])
    text = str(caught.value)
    assert text.startswith(
        "prices.price of market SOL: 99999.5 of 2023-03-01T12:00:01Z does not fit: SOL has such numbers of "
        "15 decimals, which leaves room up to 4611\n"
    )
    assert list(tmp_path.iterdir()) == []
