"""Scenario files: what is written arrives exactly, and what is wrong is said once and clearly."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replay.errors import SourceError, TapeError
from replay.sources import find_source, import_source
from replay.sources.scenario_model import Scenario, parse_offset
from replay.tape.read import Tape
from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind, Role, TransferKind
from replay.units import parse_time
from tests.scenario_tape import scenario_tape

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "datasets/demo-squeeze/scenario.toml"
GUIDE = ROOT / "docs/scenarios.md"
START = parse_time("2024-03-05T12:00:00Z")
SECOND = 1_000_000_000

HEAD = """
venue = "example"
start = "2024-03-05T12:00:00Z"
markets = [{ name = "BTC" }, { name = "ETH" }]
accounts = [{ name = "ann", cash = 100 }, { name = "ben", cash = 100 }]
"""


def rows(tape: Tape, query: str) -> list[tuple[Any, ...]]:
    return tape.connection().execute(query).fetchall()


def refused(folder: Path, text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        scenario_tape(folder, text)
    assert caught.value.file == str(folder / "tape.toml")
    assert [path.name for path in folder.iterdir()] == ["tape.toml"], "a failed import leaves nothing behind"
    return caught.value


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("90s", 90 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("2d", 172_800 * SECOND),
        ("1.5s", 1_500_000_000),
        ("250ms", 250_000_000),
        ("3us7ns", 3_007),
        ("0.000000001s", 1),
        ("00:01:30.5", 90_500_000_000),
        ("100:00", 360_000 * SECOND),
        ("0s", 0),
    ],
)
def test_an_offset_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_offset(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "90", "s", "1h 30m", "-5s", "1.5ns", "00:60", "1:2", "1x", "90s!"])
def test_an_offset_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_offset(text)


def test_a_trade_becomes_both_rows_of_its_match(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path,
        HEAD
        + """
[[trades]]
at = "+1m"
market = "ETH"
buyer = "ben"
seller = "ann"
qty = 0.25
price = "1600.5"
taker = "seller"
buyer_fee = -0.01
seller_fee = 0.1
""",
    )
    found = rows(
        tape, "SELECT ts, seq, market, account, qty, price, fee, role, kind, paired, victim, mode FROM fills"
    )
    ts, trade = START + 60 * SECOND, FillKind.TRADE
    assert tape.markets[1].qty_scale == 2
    assert tape.markets[1].price_scale == 1
    assert found == [
        (ts, 0, 1, 1, 25, 16_005, -1_000_000, Role.MAKER, trade, 1, None, Mode.CROSS),
        (ts, 1, 1, 0, -25, 16_005, 10_000_000, Role.TAKER, trade, 1, None, Mode.CROSS),
    ]
    assert rows(tape, "SELECT count(DISTINCT match), count(match) FROM fills") == [(1, 2)]


@pytest.mark.parametrize("side", ['buyer = "@unseen"\n', ""])
def test_an_unnamed_side_has_no_row(tmp_path: Path, side: str) -> None:
    tape = scenario_tape(
        tmp_path,
        f'{HEAD}[[trades]]\nat = "+1s"\nmarket = "BTC"\n{side}seller = "ann"\nqty = 2\nprice = 100\n',
    )
    assert rows(tape, "SELECT account, qty, paired FROM fills") == [(0, -2, 0)]


def test_entries_are_sorted_by_time_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    trade = (
        '[[trades]]\nat = "{at}"\nmarket = "BTC"\nbuyer = "ann"\nseller = "ben"\nqty = {qty}\nprice = 100\n'
    )
    fill = '[[fills]]\nat = "+5s"\nmarket = "BTC"\naccount = "ann"\nqty = 40\nprice = 100\nmatch = 7\n'
    text = HEAD + fill + "".join(trade.format(at=a, qty=q) for a, q in (("+9s", 1), ("+5s", 2), ("+5s", 3)))
    tape = scenario_tape(tmp_path, text)
    assert rows(tape, "SELECT qty, match FROM fills WHERE qty > 0 ORDER BY seq") == [
        (2, 8),
        (3, 9),
        (40, 7),
        (1, 10),
    ]


def test_the_three_forms_of_marks_say_the_same(tmp_path: Path) -> None:
    forms = {
        "single": '[[marks]]\nmarket = "BTC"\nat = "{}"\nprice = {}\n',
        "path": '[[marks]]\nmarket = "BTC"\npath = [["+0s", 100], ["+10s", 99.5], ["+20s", 99]]\n',
        "every": '[[marks]]\nmarket = "BTC"\nat = "+0s"\nevery = "+10s"\nprices = [100, 99.5, 99]\n',
    }
    points = [("+0s", "100"), ("2024-03-05T12:00:10Z", "99.5"), ("+00:00:20", "99.0")]
    forms["single"] = "".join(forms["single"].format(*point) for point in points)
    expected = [
        (START + k * 10 * SECOND, 0, PriceKind.MARK, price) for k, price in enumerate((1000, 995, 990))
    ]
    for name, text in forms.items():
        tape = scenario_tape(tmp_path, HEAD + text, name)
        assert rows(tape, "SELECT ts, market, kind, price FROM prices") == expected, name


def test_the_opening_snapshot(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path,
        """
venue = "example"
start = "2024-03-05T12:00:00Z"
markets = [{ name = "BTC" }, { name = "xyz:GOLD", dex = "xyz", settle = "USDH" }]
funds = [{ name = "@fund:main", cash = 7, currency = "USDC" }]
[[accounts]]
name = "ann"
cash = 100.5
currency = "USDC"
grade = "bounded"
positions = [{ market = "BTC", size = -1.5, entry = 20_000, margin = 3 }]
[[accounts]]
name = "ann"
cash = 0.000000015
currency = "USDH"
dex = "xyz"
positions = [{ market = "xyz:GOLD", size = 2, entry = 2_000 }]
""",
    )
    assert tape.ledgers == [("", "USDC"), ("xyz", "USDH")]
    assert tape.account_names == ["ann", "@fund:main"]
    assert rows(tape, "SELECT account, ledger, market, cash, grade FROM accounts") == [
        (0, 0, None, 10_050_000_000, Grade.BOUNDED),
        (0, 0, 0, 300_000_000, Grade.BOUNDED),
        (0, 1, None, 2, Grade.KNOWN),  # 1.5 atoms, half to even
        (1, 0, None, 700_000_000, Grade.KNOWN),
    ]
    assert rows(tape, "SELECT account, market, mode, size, entry_price FROM positions") == [
        (0, 0, Mode.ISOLATED, -15, 20_000),
        (0, 1, Mode.CROSS, 2, 2_000),
    ]
    assert tape.manifest["counts"]["numbers rounded"] == 1
    assert tape.manifest["counts"]["markets of unbalanced opening sizes"] == 2
    assert "The opening sizes of BTC sum to -1.5; @unseen holds the opposite." in tape.manifest["assumptions"]


def test_markets_of_every_payoff(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path,
        """
venue = "example"
start = "2024-03-05T12:00:00Z"
[[markets]]
name = "BTCUSD"
payoff = "inverse"
settle = "BTC"
multiplier = 100
tick = 0.5
[[markets]]
name = "PURR/USDC"
payoff = "spot"
lot = 0.01
""",
    )
    inverse, spot = tape.markets
    assert (inverse.payoff, inverse.multiplier, inverse.price_scale, inverse.tick) == (
        Payoff.INVERSE,
        Fraction(100),
        1,
        5,
    )
    assert (spot.payoff, spot.dex, spot.qty_scale, spot.lot) == (Payoff.SPOT, "spot", 2, 1)
    assert tape.ledgers == [("", "BTC"), ("spot", "USDC")]
    assert tape.manifest["lacks"] == ["Marks of BTCUSD."]


def test_an_account_without_cash_is_only_declared(tmp_path: Path) -> None:
    text = HEAD.replace('{ name = "ann", cash = 100 }', '{ name = "ann" }')
    tape = scenario_tape(tmp_path, 'accounts_start = "unknown"\n' + text)
    assert tape.account_names == ["ann", "ben"]
    assert rows(tape, "SELECT account FROM accounts") == [(1,)]
    assert tape.manifest["accounts_start"] == "unknown"


def test_transfers_and_moves(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path,
        HEAD
        + """
[[transfers]]
at = "+2s"
amount = 5
from = "ann"
to = { account = "ben", isolated = "ETH" }
[[transfers]]
at = "+1s"
account = "ben"
amount = -7.5
[[transfers]]
at = "+3s"
account = "ann"
isolated = "BTC"
amount = 1
kind = "other"
""",
    )
    assert rows(tape, "SELECT account, market, amount, kind FROM transfers ORDER BY seq") == [
        (1, None, -750_000_000, TransferKind.WITHDRAWAL),
        (0, None, -500_000_000, TransferKind.MOVE),
        (1, 1, 500_000_000, TransferKind.MOVE),
        (0, 0, 100_000_000, TransferKind.OTHER),
    ]


def test_funding_liquidations_depth_and_single_fills(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path,
        HEAD
        + """
[[funding]]
at = "+1s"
market = "BTC"
rate = -1.25e-5
[[liquidations]]
at = "+2s"
account = "ben"
market = "ETH"
id = "a"
qty = -3
notional = 300
equity = -1.5
mark = 100.25
[[liquidations]]
at = "+2s"
account = "ben"
id = "a"
mode = "Isolated"
[[liquidations]]
at = "+1s"
account = "ann"
price = 9
price_kind = "bankruptcy"
market = "BTC"
[[depth]]
at = "+1s"
market = "BTC"
bids = [[99, 10], [98.5, 20]]
asks = [[101, 5]]
[[fills]]
at = "+4s"
market = "BTC"
account = "ann"
qty = -1
price = 100
start_position = 3
role = "maker"
mode = "isolated"
fee = 0.5
fee_currency = "HYPE"
kind = "liquidation"
victim = "ben"
""",
    )
    assert rows(tape, "SELECT market, rate FROM funding") == [(0, -12_500_000)]
    assert rows(
        tape,
        "SELECT liquidation, account, market, qty, price, mode, notional, equity, mark FROM liquidations",
    ) == [
        (0, 0, 0, None, 90, "Cross", None, None, None),
        (1, 1, 1, -3, None, "Cross", 30_000_000_000, -150_000_000, 10_025),
        (1, 1, None, None, None, "Isolated", None, None, None),
    ]
    assert rows(tape, "SELECT side, price, qty FROM depth ORDER BY seq") == [
        (0, 990, 10),
        (0, 985, 20),
        (1, 1010, 5),
    ]
    assert rows(
        tape, "SELECT qty, start_position, role, mode, fee, kind, victim, paired, match FROM fills"
    ) == [(-1, 3, Role.MAKER, Mode.ISOLATED, 50_000_000, FillKind.LIQUIDATION, 1, 0, None)]
    assert tape.ledgers == [("", "USDC"), ("", "HYPE")]


TRADE = '[[trades]]\nat = "+1s"\nmarket = "BTC"\nbuyer = "ann"\nseller = "ben"\nqty = 1\nprice = 100\n'
MARK = '[[marks]]\nmarket = "BTC"\nat = "+1s"\nprice = 100\n'
TRANSFER = '[[transfers]]\nat = "+1s"\naccount = "ann"\namount = 1\n'


@pytest.mark.parametrize(
    ("old", "new", "key", "problem", "mend"),
    [
        (TRADE, TRADE + 'prise = "1"\n', "trades[0].prise", "is not a key", "did you mean `price`?"),
        (TRADE, TRADE + "zzz = 1\n", "trades[0].zzz", "is not a key", "allowed: at, buyer"),
        (TRADE, TRADE * 2 + "[[trade]]\n", "trade", "is not a key", "did you mean `trades`?"),
        (TRANSFER, TRANSFER + "form = 1\n", "transfers[0].form", "is not a key", "did you mean `from`?"),
        ("qty = 1\n", "", "trades[0].qty", "is missing", "docs/scenarios.md"),
        ("qty = 1\n", "qty = nan\n", "trades[0].qty", "'nan' is not a decimal", "plain decimal"),
        ("qty = 1\n", "qty = inf\n", "trades[0].qty", "'inf' is not a decimal", "plain decimal"),
        ("qty = 1\n", "qty = true\n", "trades[0].qty", "True is not a number", "plain decimal"),
        ("qty = 1\n", 'qty = "1,5"\n', "trades[0].qty", "'1,5' is not a decimal", "plain decimal"),
        ("qty = 1\n", "qty = -1\n", "trades[0].qty", "must be more than zero", None),
        ("qty = 1\n", "qty = 1e-19\n", "trades[0].qty", "1e-19 has 19 decimals", "at most 18"),
        ("qty = 1\n", "qty = 1e30\n", "trades[0].qty", "too large", None),
        ("price = 100\n", "price = 0\n", "trades[0].price", "must be more than zero", None),
        ('"+1s"', '"1s"', "trades[0].at", "'1s' is not a UTC time", '"+90s"'),
        ('"+1s"', '"+1 s"', "trades[0].at", "'1 s' is not an offset", '"+90s"'),
        ('"+1s"', "2024-03-05T12:00:01Z", "trades[0].at", "not a moment in quotes", "in quotes"),
        ('"+1s"', '"2024-03-05T11:00:00Z"', "trades[0].at", "before the start", None),
        ('"+1s"', '"+40000d"', "trades[0].at", "out of range", None),
        (
            '"BTC"\nbuyer',
            '"BCT"\nbuyer',
            "trades[0].market",
            "there is no market 'BCT'",
            "did you mean 'BTC'?",
        ),
        (
            '"ann"\nsell',
            '"anna"\nsell',
            "trades[0].buyer",
            "there is no account 'anna'",
            "did you mean 'ann'?",
        ),
        ('"ann"\nsell', '"zoe"\nsell', "trades[0].buyer", "there is no account 'zoe'", "[[accounts]] or"),
        ('"ann"\nsell', '"@book"\nsell', "trades[0].buyer", "there is no account '@book'", None),
        ('"ann"\nsell', '"ben"\nsell', "trades[0]", "buyer and seller are the same", None),
        (TRADE, TRADE + 'kind = "adl"\n', "trades[0].victim", "not a side of the match", None),
        (TRADE, TRADE + 'victim = "ann"\n', "trades[0].victim", "a trade has no victim", None),
        (TRADE, TRADE + 'kind = "adr"\n', "trades[0].kind", "'settlement', found 'adr'", None),
        (TRADE, TRADE + "taker = 1\n", "trades[0].taker", "must be 'buyer' or 'seller', found '1'", None),
        ("[[trades]]", "[trades]", "trades", "must be a list", "docs/scenarios.md"),
        ('"BTC"\nbuyer', "7\nbuyer", "trades[0].market", "must be text in quotes, found '7'", None),
        ('at = "+1s"\nprice = 100', 'path = ["+1s"]', "marks[0].path[0]", "must be a list", None),
        ('at = "+1s"\nprice = 100', 'path = [["+1s"]]', "marks[0].path[0][1]", "is missing", None),
        ('at = "+1s"\nprice = 100', 'path = [["+1s", 1, 2]]', "marks[0].path[0]", "more values than 2", None),
        ('at = "+1s"\nprice = 100', "path = []", "marks[0].path", "must not be empty", None),
        (
            'accounts = [{ name = "ann"',
            'funding = [3]\naccounts = [{ name = "ann"',
            "funding[0]",
            "must be a table: {",
            None,
        ),
        ("price = 100\n[[tr", "[[tr", "marks[0]", "has at", "`path`"),
        ("amount = 1\n", "amount = 0\n", "transfers[0].amount", "must not be zero", None),
        ("amount = 1\n", 'amount = 1\nkind = "withdrawal"\n', "transfers[0]", "wrong sign", None),
        ("amount = 1\n", 'amount = 1\nto = "ben"\n', "transfers[0]", "neither a flow nor a move", None),
        ("amount = 1\n", 'amount = 1\ncurrency = "EUR"\n', "transfers[0]", "names no ledger", "USDC"),
        ('{ name = "ETH" }', '{ name = "BTC" }', "markets[1].name", "'BTC' is declared twice", None),
        ('{ name = "ETH" }', '{ name = "" }', "markets[1].name", "'' is not a name", None),
        ('{ name = "ben", ', '{ name = "ann", ', "accounts[1].name", "'ann' has this pool already", None),
        ('{ name = "ben", ', '{ name = "@ben", ', "accounts[1].name", "pseudo account", "[[funds]]"),
        ("cash = 100 }]", "cash = 1e11 }]", "accounts[1].cash", "100000000000 is too large", None),
        ("2024-03-05T12:00:00Z", "2024-02-30", "start", "", None),
        ("2024-03-05T12:00:00Z", "+1s", "start", "is an offset", None),
        ('venue = "example"\n', "", "venue", "is missing", None),
        (
            HEAD,
            HEAD.replace('markets = [{ name = "BTC" }, { name = "ETH" }]', "markets = []"),
            "markets",
            "",
            None,
        ),
    ],
)
def test_a_fault_is_named_with_its_place_and_mend(
    tmp_path: Path, old: str, new: str, key: str, problem: str, mend: str | None
) -> None:
    good = HEAD + TRADE + MARK + TRANSFER
    assert old in good
    error = refused(tmp_path, good.replace(old, new, 1))
    assert error.key == key
    assert problem in error.problem
    if mend is not None:
        assert error.mend is not None
        assert mend in error.mend


POSITION = '{ market = "BTC", size = 1, entry = 100 }'


@pytest.mark.parametrize(
    ("account", "key", "problem"),
    [
        (
            f"positions = [{POSITION.replace(', entry = 100', '')}]\ncash = 1",
            "positions[0].entry",
            "is missing",
        ),
        (
            f"positions = [{POSITION.replace('= 1,', '= 0,')}]\ncash = 1",
            "positions[0].size",
            "must not be zero",
        ),
        (f"positions = [{POSITION}]", "", "has cross positions and no cash"),
        (f"positions = [{POSITION}, {POSITION}]\ncash = 1", "positions[1]", "has this position already"),
        ('currency = "USDC"', "currency", "there is no cash"),
        ('grade = "unknown"', "grade", "no cash"),
        (f"positions = [{POSITION.replace('BTC', 'SOL')}]\ncash = 1", "positions[0].market", "a spot market"),
        (
            f"positions = [{POSITION.replace('BTC', 'DOGE')}]\ncash = 1",
            "positions[0].market",
            "another ledger",
        ),
    ],
)
def test_an_account_that_leaves_something_open_is_refused(
    tmp_path: Path, account: str, key: str, problem: str
) -> None:
    head = HEAD.replace(
        '{ name = "ETH" }', '{ name = "SOL", payoff = "spot" }, { name = "DOGE", settle = "EUR" }'
    ).replace("cash = 100", 'cash = 100, currency = "USDC"')
    head = head.replace('accounts = [{ name = "ann"', '[[accounts]]\nname = "x"\nACCOUNT\n#')
    account = account if "cash" not in account else f'{account}\ncurrency = "USDC"'
    error = refused(tmp_path, head.replace("ACCOUNT", account))
    assert error.key == f"accounts[0].{key}".rstrip(".")
    assert problem in error.problem


def test_several_ledgers_must_be_told_apart(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD.replace('{ name = "ETH" }', '{ name = "ETH", settle = "EUR" }'))
    assert error.key == "accounts[0]"
    assert error.mend == "give `currency` and, off the main venue, `dex`; ledgers: USDC, EUR"


def test_the_line_of_the_entry_is_named(tmp_path: Path) -> None:
    text = HEAD + TRADE + TRADE.replace("qty = 1", "qty = 0")
    error = refused(tmp_path, text)
    assert error.row == text.splitlines().index("[[trades]]", HEAD.count("\n") + 1) + 1
    assert str(error).startswith(
        f"{tmp_path / 'tape.toml'}:{error.row}: trades[1].qty: must be more than zero"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is missing"),
        (b"venue = \n", "is not TOML"),
        (b"\xff\xfe", "UTF-8"),
        (b"a = " + b"[" * 9999, "TOML"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "day.toml"
    file.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        import_source("scenario", [file], tmp_path / "tape")
    assert problem in caught.value.problem
    assert [path.name for path in tmp_path.iterdir()] == ["day.toml"]


def test_a_number_too_fine_for_the_cells_of_its_market_names_the_file(tmp_path: Path) -> None:
    text = HEAD + TRADE + TRADE.replace("qty = 1", "qty = 1e-18").replace("price", "taker = 'buyer'\nprice")
    error = refused(tmp_path, text.replace("qty = 1\n", "qty = 100\n"))
    assert error.key == "fills.qty of market BTC"
    assert "does not fit" in error.problem


ODD_VALUES = (
    *('""', '"x"', "1", "-1", "0", "true", "[]", "{}", "[[]]", "nan", "-inf", "1e400", "1e-400", '"+1s"'),
    *(
        "2024-01-01",
        "2024-01-01T00:00:00.123456789Z",
        "9" * 30,
        '"9999-12-31"',
        '"1969-12-31"',
        '"+99999999d"',
    ),
    *(
        '[["+1s", 1], ["+2s"]]',
        '{ account = "ann" }',
        '"\\u0000"',
        str(1 << 62),
        "1e-18",
        '"ETH"',
        '"@unseen"',
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_odd_values_give_a_tape_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    lines = [line for line in DEMO.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    at = data.draw(st.sampled_from([number for number, line in enumerate(lines) if " = " in line]))
    lines[at] = f"{lines[at].partition('=')[0]}= {data.draw(st.sampled_from(ODD_VALUES))}"
    file = tmp_path / "day.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    try:
        import_source("scenario", [file], tmp_path / "tape", force=True)
    except SourceError as error:
        assert error.file == str(file)  # noqa: PT017 - either outcome is right


def test_the_guide_has_every_key_and_its_example_imports(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    tape = scenario_tape(tmp_path, text.partition("```toml\n")[2].partition("```")[0])
    assert (tape.rows("prices"), tape.rows("fills"), tape.rows("positions")) == (3, 2, 2)
    top, *sections = text.partition("## Top level")[2].split("\n## ")
    told = {section.partition("`[[")[2].partition("]]`")[0]: section for section in sections}
    lists = {"markets", "accounts", "funds", "marks", "trades", "fills", "transfers", "funding"}
    lists |= {"liquidations", "depth"}
    assert set(told) == lists
    for key, field in Scenario.model_fields.items():
        if key not in lists:
            assert f"`{key}`" in top
            continue
        entry = field.annotation.__args__[0]  # type: ignore[union-attr]
        for name, inner in entry.model_fields.items():
            assert f"`{inner.alias or name}`" in told[key] or f"`{name} = " in told[key], f"{key}.{name}"


def test_one_file_and_no_rejects(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="one file, found 2"):
        find_source("scenario").load(
            [DEMO, DEMO], tmp_path / "t", force=False, rejects=None, on_progress=None
        )
    with pytest.raises(SourceError, match="sets no rows aside"):
        import_source("scenario", [DEMO], tmp_path / "t", rejects=tmp_path / "r")


def test_an_existing_tape_is_kept_unless_forced(tmp_path: Path) -> None:
    import_source("scenario", [DEMO], tmp_path / "t")
    with pytest.raises(TapeError, match="already exists"):
        import_source("scenario", [DEMO], tmp_path / "t")
    import_source("scenario", [DEMO], tmp_path / "t", force=True)


def test_progress_is_told_and_ends_at_one(tmp_path: Path) -> None:
    told: list[float] = []
    import_source("scenario", [DEMO], tmp_path / "t", on_progress=lambda share, _text: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    hashes = [import_source("scenario", [DEMO], tmp_path / name)["sha256"] for name in ("a", "b")]
    assert hashes[0] == hashes[1]
    assert (tmp_path / "a/tape.json").read_bytes() == (tmp_path / "b/tape.json").read_bytes()


def test_the_arithmetic_in_the_comments_of_the_demo() -> None:
    """Follow the demo day by fractions: who is in breach when, and at which price the rules take over."""
    day = tomllib.loads(DEMO.read_text(encoding="utf-8"), parse_float=Fraction)
    btc, eth = (entry["prices"] for entry in day["marks"])
    paid = day["funding"][0]["rate"] * btc[9]  # per BTC at +5m, when the mark is still that of +4m30s
    btc_long = {a["name"]: a for a in day["accounts"]}

    def breach_below(name: str, extra: int = 0) -> Fraction:
        """Solve cash + n (P - entry) = 0.01 n P for P, funding paid."""
        account = btc_long[name]
        position = account["positions"][0]
        cash = position.get("margin", account["cash"]) + extra
        cash -= 0 if name == "thin-long" else position["size"] * paid
        return (position["size"] * position["entry"] - cash) / (position["size"] * Fraction(99, 100))

    said = {
        ("thin-long", 0): "19696.97",
        ("saved-long", 0): "19446.41",
        ("saved-long", 5_000): "18815.10",
        ("isolated-long", 0): "19395.91",
        ("isolated-long", 1_500): "18638.33",
        ("late-long", 0): "19193.89",
    }
    for (name, extra), text in said.items():
        assert f"{float(breach_below(name, extra)):.2f}" == text

    assert btc[6] > breach_below("thin-long") > btc[7]  # +3m30s
    assert btc[9] > breach_below("saved-long") > btc[10]  # the deposit at +4m45s comes in time
    assert btc[10] > breach_below("isolated-long") > btc[11]  # and so does the margin at +5m15s
    assert btc[13] > breach_below("late-long") > btc[14]  # +7m; the record acts at +6m30s
    assert min(btc) > max(breach_below("saved-long", 5_000), breach_below("isolated-long", 1_500))

    cash = 6_000 - 4 * paid
    legs = [(4 * b, 50 * e) for b, e in zip(btc[10::2], eth[5:], strict=False)]  # at full minutes from +5m
    equity = [cash + sum(leg) - 160_000 for leg in legs]
    assert equity[0] > sum(legs[0]) / 100
    assert cash + 4 * btc[11] + 50 * eth[5] - 160_000 > (4 * btc[11] + 50 * eth[5]) / 100
    assert equity[1] < sum(legs[1]) / 100
    assert equity[1] == Fraction("632.208")
    prices = [
        leg / size - equity[1] * leg / sum(legs[1]) / size for leg, size in zip(legs[1], (4, 50), strict=True)
    ]
    assert [f"{float(price):.2f}" for price in prices] == ["19181.26", "1545.66"]

    late = 20_000 - (20_000 - 20 * paid) / 20
    assert late == day["trades"][3]["price"] == day["liquidations"][1]["price"]
    assert day["liquidations"][1]["equity"] == 20_000 - 20 * paid + 20 * (btc[13] - 20_000)
    assert day["liquidations"][0]["equity"] == 2_500 + 5 * (btc[7] - 20_000)
    assert day["trades"][0]["price"] == 20_000 - Fraction(2_500, 5)


def test_the_demo_tape_is_balanced(tmp_path: Path) -> None:
    import_source("scenario", [DEMO], tmp_path / "t")
    manifest = import_source("scenario", [DEMO], tmp_path / "t", force=True)
    assert manifest["counts"] == {
        "matches": 5,
        "numbers rounded": 0,
        "markets of unbalanced opening sizes": 0,
    }
    assert manifest["assumptions"] == ["The day was written by hand; it is no record of a market."]
