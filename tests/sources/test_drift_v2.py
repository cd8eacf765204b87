"""A snapshot of Drift v2 as an opening: the recorded one against its own figures, and a small one written by hand."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import Grade, PriceKind
from replay.units import parse_time
from tests.end_to_end.recordings import recording
from tests.sources.kept_answers import checked_tape

ANN, BEN = "A" * 44, "B" * 43
DEPOSIT, BORROW = "SpotBalanceType.Deposit()", "SpotBalanceType.Borrow()"

PERP = {
    "market.pubkey": "M" * 44,
    "market.name": "ListContainer: \n    83\n    79",
    "market.market_index": "0",
    "market.amm.oracle": "Q" * 44,
    "market.amm.order_step_size": "0.1",
    "market.amm.order_tick_size": "0.0001",
    "market.amm.cumulative_funding_rate_long": "0.5",
    "market.amm.cumulative_funding_rate_short": "-0.25",
    "market.amm.historical_oracle_data.last_oracle_price": "16.33",
    "market.amm.historical_oracle_data.last_oracle_price_twap_ts": "2023-01-10 18:13:35",
}
SPOTS = {
    "spot_market.pubkey": ("U" * 44, "S" * 44),
    "spot_market.market_index": ("0", "1"),
    "spot_market.decimals": ("6", "9"),
    "spot_market.cumulative_deposit_interest": ("1.01", "1.0"),
    "spot_market.cumulative_borrow_interest": ("1.02", "1.1"),
    "spot_market.historical_oracle_data.last_oracle_price": ("1.0", "16.0"),
    "insurance_fund_vault_amt": ("40050600568", "933844897"),
}


def user(**cells: str) -> dict[str, str]:
    """A sub-account that holds nothing but what is named, such as ``perp0_base_asset_amount``."""
    found = {"authority": "H" * 44, "sub_account_id": "0"}
    for slot in range(8):
        for key in ("market_index", "base_asset_amount", "quote_asset_amount", "quote_entry_amount"):
            found[f"{slot}.perp.{key}"] = "0.0"
        found |= {f"{slot}.perp.last_cumulative_funding_rate": "0.0", f"{slot}.perp.lp_shares": "0.0"}
        found |= {f"{slot}.spot.{key}": "0.0" for key in ("market_index", "scaled_balance")}
        found[f"{slot}.spot.balance_type"] = DEPOSIT
    for name, value in cells.items():
        table, key = name[:4], name[6:]
        found[f"{name[4]}.{table}.{key}"] = value
    return found


def write(file: Path, *columns: dict[str, str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["", *range(len(columns))])
        writer.writerows([key, *(column[key] for column in columns)] for key in columns[0])
    return file


def snapshot(folder: Path, **users: dict[str, str]) -> Path:
    write(folder / "perp_markets.csv", PERP)
    write(
        folder / "spot_markets.csv", *({key: pair[place] for key, pair in SPOTS.items()} for place in (0, 1))
    )
    for name, cells in users.items():
        write(folder / "users" / f"{name}.csv", cells)
    return folder


imported = partial(checked_tape, "drift-v2")


def test_an_account_is_worth_what_the_protocol_says(tmp_path: Path) -> None:
    """Ann is long 3.1 SOL for 52.54655 USDC, has paid 0.052547 of fees, and owes 3.1 x (0.5 + 0.46) of funding.

    Entry 52.54655 / 3.1 = 16.950500; cash 1,000 x 1.01 - 52.599097 + 3.1 x 16.9505 - 2.976. Ben borrows 2 SOL (x 1.1)
    at 16 against 100 USDC: his equity is known at the price of the snapshot only.
    """
    folder = snapshot(
        tmp_path / "data",
        **{
            ANN: user(
                perp0_base_asset_amount="3100000000.0",
                perp0_quote_asset_amount="-52599097.0",
                perp0_quote_entry_amount="-52546550.0",
                perp0_last_cumulative_funding_rate="-460000000.0",
                spot0_scaled_balance="1000000000000.0",
            ),
            BEN: user(
                spot0_scaled_balance="100000000000.0",
                spot1_market_index="1.0",
                spot1_scaled_balance="2000000000.0",
                spot1_balance_type=BORROW,
            ),
            "C" * 44: user(),
        },
    )
    tape = imported(folder, tmp_path / "tape")
    assert tape.account_names == [ANN, BEN, "@vault:keepers"]
    ann = Fraction("1010") - Fraction("52.599097") + Fraction("52.54655") - Fraction("2.976")
    assert tape.select("SELECT account, cash, grade FROM accounts ORDER BY account") == [
        (0, ann * 10**8, Grade.KNOWN),
        (1, (101 * 10 - 352) * 10**7, Grade.ASSUMED),
        (2, 4_005_060_056_800, Grade.KNOWN),
    ]
    (market,) = tape.markets
    assert (market.name, market.price_scale, market.qty_scale, market.tick) == ("SOL-PERP", 6, 9, 100)
    assert tape.select("SELECT account, size, entry_price FROM positions") == [(0, 3_100_000_000, 16_950_500)]
    assert tape.select("SELECT ts, kind, price FROM prices ORDER BY seq") == [
        (parse_time("2023-01-10T18:13:35Z"), kind, 16_330_000) for kind in (PriceKind.ORACLE, PriceKind.MARK)
    ]
    assert tape.manifest["counts"]["empty sub-accounts left out"] == 1


def test_a_position_that_cost_nothing_enters_at_the_oracle(tmp_path: Path) -> None:
    """A short of 2 SOL at 16.33 with 40 USDC brought in is worth 7.34, whatever its entry; funding is none due."""
    cells = user(
        perp3_base_asset_amount="-2000000000.0",
        perp3_quote_asset_amount="40000000.0",
        perp3_last_cumulative_funding_rate="-250000000.0",
    )
    tape = imported(snapshot(tmp_path / "data", **{ANN: cells}), tmp_path / "tape")
    assert tape.select("SELECT size, entry_price FROM positions") == [(-2_000_000_000, 16_330_000)]
    assert tape.select("SELECT cash FROM accounts WHERE account = 0") == [(734_000_000,)]


def test_a_tar_archive_is_the_folder(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "data", **{ANN: user(spot0_scaled_balance="1000000000.0")})
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        archive.add(folder, "data")
        note = tarfile.TarInfo("data/README.txt")
        note.size = 3
        archive.addfile(note, io.BytesIO(b"hi\n"))
    one, two = imported(folder, tmp_path / "one"), imported(tmp_path / "data.tar.gz", tmp_path / "two")
    assert one.manifest["sha256"] == two.manifest["sha256"]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("0.perp.base_asset_amount", "1.5", "0.perp.base_asset_amount: 1.5 is no multiple of 1e-0"),
        ("0.perp.base_asset_amount", "many", "0.perp.base_asset_amount: 'many' is not a decimal number"),
        (
            "3.spot.balance_type",
            "Loan",
            "3.spot.balance_type is none of SpotBalanceType.Deposit(), SpotBalanceType",
        ),
        ("3.spot.scaled_balance", "-5.0", "3.spot.scaled_balance: -5 is below zero"),
        ("7.perp.lp_shares", "", "7.perp.lp_shares: '' is not a decimal number"),
    ],
)
def test_a_field_that_cannot_be_understood_is_named(
    tmp_path: Path, key: str, value: str, problem: str
) -> None:
    folder = snapshot(tmp_path / "data", **{ANN: {**user(), key: value}})
    with pytest.raises(SourceError) as caught:
        import_source("drift-v2", [folder], tmp_path / "tape")
    assert caught.value.problem.startswith(problem)
    assert caught.value.file == str(folder / "users" / f"{ANN}.csv")
    assert not (tmp_path / "tape").exists()


def test_half_a_snapshot_is_refused(tmp_path: Path) -> None:
    folder = snapshot(
        tmp_path / "data", **{ANN: user(perp0_market_index="5.0", perp0_base_asset_amount="1.0")}
    )
    with pytest.raises(
        SourceError, match=r"holds what no file of markets has: perpetuals \[5\], tokens \[\]"
    ):
        import_source("drift-v2", [folder], tmp_path / "tape")
    shutil.rmtree(folder / "users")
    with pytest.raises(SourceError, match=r"of the snapshot, users/ADDRESS\.csv is missing"):
        import_source("drift-v2", [folder], tmp_path / "tape")


# --- the recorded snapshot


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    out: Path = tmp_path_factory.mktemp("drift") / "tape"
    import_source("drift-v2", [recording("drift-v2-2023-01-10.tar.gz")], out)
    return open_tape(out)


@pytest.mark.real
def test_sizes_sum_to_what_the_markets_state(opening: Tape) -> None:
    """User longs and shorts by market; the market itself states 33,481.8 long of SOL, seven less than its users."""
    found = opening.select(
        "SELECT name, sum(size) FILTER (size > 0) / 1e9, sum(size) FILTER (size < 0) / 1e9, count(*) "
        "FROM positions JOIN markets USING (market) GROUP BY ALL ORDER BY name"
    )
    assert found == [
        ("BTC-PERP", 4.4245, -4.4244, 29),
        ("ETH-PERP", 52.224, -52.225, 36),
        ("SOL-PERP", 33_488.8, -22_684.6, 190),
    ]
    assert opening.select(
        "SELECT cash FROM accounts JOIN account_names USING (account) WHERE name LIKE '@%'"
    ) == [(4_005_060_056_800,)]


@pytest.mark.real
def test_every_account_is_worth_what_its_file_says(opening: Tape) -> None:
    """Of each file balance with interest, plus size x oracle + quote, less funding due, in fractions."""
    columns: dict[str, list[dict[str, str]]] = {}
    with tarfile.open(recording("drift-v2-2023-01-10.tar.gz")) as archive:
        for entry in archive:
            if entry.isfile() and ("/users/" in entry.name or "_markets" in entry.name):
                opened = archive.extractfile(entry)
                assert opened is not None
                rows = [row for row in csv.reader(io.StringIO(opened.read().decode())) if row]
                columns[Path(entry.name).stem] = [dict(zip([r[0] for r in rows], cells, strict=True))
                                                  for cells in list(zip(*rows, strict=True))[1:]]  # fmt: skip
    perps, spots = columns.pop("perp_markets"), columns.pop("spot_markets")

    def worth(cells: dict[str, str]) -> Fraction:
        total = Fraction(0)
        for slot in range(8):
            perp = {
                key.rpartition(".")[2]: value
                for key, value in cells.items()
                if key.startswith(f"{slot}.perp.")
            }
            spot = {
                key.rpartition(".")[2]: value
                for key, value in cells.items()
                if key.startswith(f"{slot}.spot.")
            }
            size = Fraction(perp["base_asset_amount"]) / 10**9
            market = perps[int(float(perp["market_index"]))]
            paid = market[f"market.amm.cumulative_funding_rate_{'long' if size > 0 else 'short'}"]
            due = (Fraction(paid) - Fraction(perp["last_cumulative_funding_rate"]) / 10**9) * size
            oracle = Fraction(market["market.amm.historical_oracle_data.last_oracle_price"])
            total += size * oracle + Fraction(perp["quote_asset_amount"]) / 10**6 - due
            token = spots[int(float(spot["market_index"]))]
            kind, sign = ("deposit", 1) if spot["balance_type"] == DEPOSIT else ("borrow", -1)
            grown = Fraction(spot["scaled_balance"]) * Fraction(
                token[f"spot_market.cumulative_{kind}_interest"]
            )
            price = Fraction(token["spot_market.historical_oracle_data.last_oracle_price"])
            total += sign * grown / 10**9 * price
        return total

    found = opening.select(
        """
        WITH held AS (SELECT account, sum(size::HUGEINT * (price - entry_price)) AS profit
            FROM positions JOIN (SELECT market, price FROM prices WHERE kind = 0) USING (market) GROUP BY account)
        SELECT name, cash, coalesce(profit, 0)
        FROM accounts JOIN account_names USING (account) LEFT JOIN held USING (account)
        WHERE name NOT LIKE '@%'
        """
    )
    assert {market.mark_scale + market.qty_scale for market in opening.markets} == {15}
    assert len(found) == 809
    assert sum(worth(cells) != 0 for (cells,) in columns.values()) >= len(found)
    for name, cash, profit in found:
        mine = Fraction(cash, 10**8) + Fraction(int(profit), 10**15)
        assert abs(mine - worth(columns[name][0])) < Fraction(8, 10**6), (
            name
        )  # each of eight balances is cut to 1e-6


@pytest.mark.real
def test_nobody_is_below_maintenance_at_the_recorded_oracle(opening: Tape, tmp_path: Path) -> None:
    """As it must be on a venue whose keepers watch every account: the rules find nobody to liquidate."""
    made = run(
        opening, load_rules("drift-v2@2023-01-10"), tmp_path / "run", liquidations="rules", execution="depth"
    )
    assert len(made.table("liquidations")) == 0
    held = {row["account"] for row in made.table("positions_end").to_pylist() if row["size"]}
    pools = [
        row for row in made.table("accounts_end").to_pylist() if row["account"] in held and not row["special"]
    ]
    assert len(pools) == 235
    assert all(row["equity"] > row["maintenance"] > 0 for row in pools)
