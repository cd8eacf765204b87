"""`replay check`: a good tape has no finding, and each kind of damage has its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from replay.cli.check import check as check_command
from replay.folders import sha256_file
from replay.sources import import_source
from replay.tape import check_files
from replay.tape.check import CheckReport, Severity, check_tape
from replay.tape.read import Tape, open_tape
from replay.units import parse_time
from tests.scenario_tape import scenario_tape

DEMO = Path(__file__).parents[2] / "datasets/demo-squeeze/scenario.toml"
DATA = Path(__file__).parents[2] / "../shared/data"
START = parse_time("2024-03-05T23:59:00Z")
SECOND = 1_000_000_000

HEAD = """
venue = "example"
start = "2024-03-05T23:59:00Z"
accounts_start = "unknown"
markets = [{ name = "BTC" }, { name = "ETH" }, { name = "PURR/USDC", payoff = "spot" }]
accounts = [{ name = "ann" }, { name = "ben" }, { name = "cid" }]
"""
TRADES = """
[[marks]]
market = "BTC"
at = "+0s"
every = "+1s"
prices = [100, 101, 102]
[[trades]]
at = "+1s"
market = "BTC"
buyer = "ann"
seller = "ben"
qty = 2
price = 100
[[trades]]
at = "+2s"
market = "BTC"
buyer = "ann"
seller = "cid"
qty = 3
price = 101
"""

Change = Callable[[dict[str, list[Any]]], None]


def damage(tape: Tape, table: str, change: Change) -> Tape:
    """Rewrite the first file of a table and its entry in the manifest, so that only the content is wrong."""
    path = tape.path / "tape.json"
    manifest = json.loads(path.read_text())
    entry = manifest["tables"][table]
    file = tape.path / entry["files"][0]["path"]
    content = pq.ParquetFile(file).read()
    columns = content.to_pydict()
    change(columns)
    new = pa.table(columns, schema=content.schema)
    pq.write_table(new, file, store_schema=False)
    entry["rows"] += new.num_rows - content.num_rows
    entry["files"][0] |= {
        "rows": new.num_rows,
        "bytes": file.stat().st_size,
        "sha256": sha256_file(file),
    }
    path.write_text(json.dumps(manifest))
    return open_tape(tape.path)


def put(column: str, row: int, value: Any) -> Change:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[column][row] = value

    return change


def found(report: CheckReport) -> list[tuple[str, str, int]]:
    return [(f.severity.value, f.table, f.count) for f in report.findings]


def only(report: CheckReport, severity: str, table: str, message: str) -> Any:
    assert [(f.severity.value, f.table) for f in report.findings] == [(severity, table)], report.findings
    assert message in report.findings[0].message
    return report.findings[0]


def test_a_good_tape_has_no_finding(tmp_path: Path) -> None:
    report = check_tape(scenario_tape(tmp_path, HEAD + TRADES))
    assert report.findings == []
    assert report.ok
    assert report.facts == {
        "events": 7,
        "accounts": 3,
        "markets": 3,
        "spot_rows": 0,
        "matches": 2,
        "unpaired_rows": 0,
        "chains": 0,
        "links": 0,
        "broken_links": 0,
        "broken_chains": 0,
    }


def test_the_demo_has_no_finding(tmp_path: Path) -> None:
    import_source("scenario", [DEMO], tmp_path / "t")
    assert check_tape(open_tape(tmp_path / "t")).findings == []


def test_a_tape_without_events_has_no_finding(tmp_path: Path) -> None:
    assert check_tape(scenario_tape(tmp_path, HEAD)).findings == []


def test_progress_rises_to_one(tmp_path: Path) -> None:
    told: list[float] = []
    check_tape(scenario_tape(tmp_path, HEAD + TRADES), lambda share, _text: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


# -- files ----------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_and_the_content_left_alone(tmp_path: Path) -> None:
    tape = scenario_tape(tmp_path, HEAD + TRADES)
    file = Path(tape.files("fills")[0])
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    report = check_tape(open_tape(tape.path))
    only(report, "error", "fills", "was changed after it was written")
    assert report.facts == {}


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    tape = scenario_tape(tmp_path, HEAD + TRADES)
    Path(tape.files("prices")[0]).unlink()
    only(check_tape(tape), "error", "prices", "is missing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["role"]), "differs from the schema in `role`"),
        (lambda t: t.append_column("extra", t["role"]), "differs from the schema in `extra`"),
        (lambda t: t.set_column(9, "role", t["role"].cast(pa.int16())), "differs from the schema in `role`"),
        (lambda t: t.select([1, 0, *range(2, 16)]), "differs from the schema in the order of columns"),
    ],
)
def test_another_schema_is_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    tape = scenario_tape(tmp_path, HEAD + TRADES)
    path = tape.path / "tape.json"
    manifest = json.loads(path.read_text())
    file = Path(tape.files("fills")[0])
    pq.write_table(change(pq.ParquetFile(file).read()), file)
    manifest["tables"]["fills"]["files"][0] |= {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    path.write_text(json.dumps(manifest))
    only(check_tape(open_tape(tape.path)), "error", "fills", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["tables"].update(extra={"rows": 0, "files": []}), "names the table `extra`"),
        (lambda m: m["tables"]["fills"].update(rows=5), "says 5 rows of `fills`, its files sum to 4"),
        (lambda m: m["tables"]["fills"]["files"][0].pop("sha256"), "rows, bytes and sha256 of every file"),
        (lambda m: m.update({"until": m["until"] + 1}), "another span"),
        (lambda m: m.update({"from": None}), "another span"),
    ],
)
def test_a_manifest_that_disagrees_is_found(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    tape = scenario_tape(tmp_path, HEAD + TRADES)
    manifest = json.loads((tape.path / "tape.json").read_text())
    change(manifest)
    (tape.path / "tape.json").write_text(json.dumps(manifest))
    only(check_tape(open_tape(tape.path)), "error", "tape.json", message)


def test_a_file_nobody_named_is_found(tmp_path: Path) -> None:
    tape = scenario_tape(tmp_path, HEAD + TRADES)
    file = Path(tape.files("fills")[0])
    file.with_name("part-1.parquet").write_bytes(file.read_bytes())
    only(check_tape(tape), "warning", "tape.json", "fills/date=2024-03-05/part-1.parquet")


# -- order ----------------------------------------------------------------------------------------


def swap(columns: dict[str, list[Any]]) -> None:
    for values in columns.values():
        values[1], values[2] = values[2], values[1]


def test_rows_out_of_order_are_found(tmp_path: Path) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", swap)
    finding = only(check_tape(tape), "error", "fills", "not in order")
    assert (finding.count, finding.ts, finding.row) == (1, START + SECOND, 1)


def test_a_repeated_seq_is_found(tmp_path: Path) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "prices", put("seq", 2, 1))
    assert only(check_tape(tape), "error", "prices", "not in order").count == 1


def test_order_is_checked_across_files(tmp_path: Path) -> None:
    text = HEAD + TRADES.replace('every = "+1s"', 'every = "+50s"')
    tape = scenario_tape(tmp_path, text)
    assert len(tape.files("prices")) == 2, "the third price is of the next day"
    assert check_tape(tape).ok
    tape = damage(tape, "prices", put("seq", 1, 9))
    assert only(check_tape(tape), "error", "prices", "not in order").row == 2


def test_a_moment_in_the_file_of_another_day_is_found(tmp_path: Path) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", put("ts", 3, START + 70 * SECOND))
    findings = [f for f in check_tape(tape).findings if "another day" in f.message]
    assert [(f.table, f.count, f.ts, f.row) for f in findings] == [("fills", 1, START + 70 * SECOND, 3)]


@pytest.mark.parametrize(("silence", "count"), [(50, 0), (150, 1)])
def test_a_long_silence_is_noted(tmp_path: Path, silence: int, count: int) -> None:
    path = [f'["+{second}s", 100]' for second in [*range(30), 29 + silence, 30 + silence]]
    tape = scenario_tape(tmp_path, f'{HEAD}[[marks]]\nmarket = "BTC"\npath = [{", ".join(path)}]\n')
    report = check_tape(tape)
    assert found(report) == [("note", "prices", 1)] * count
    if count:
        assert "at most for 2.5 min" in report.findings[0].message
        assert report.findings[0].ts == START + 29 * SECOND


def test_the_walk_does_not_depend_on_the_size_of_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", swap)
    whole = list(check_files.check_order(tape))
    monkeypatch.setattr(check_files, "_BATCH_ROWS", 1)
    assert list(check_files.check_order(tape)) == whole


# -- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("fills", "account", 3, "unknown account"),
        ("fills", "account", -1, "unknown account"),
        ("fills", "market", 3, "unknown market"),
        ("fills", "fee_ledger", 2, "unknown fee_ledger"),
        ("fills", "victim", 77, "unknown victim"),
        ("fills", "kind", 5, "kind other than 0, 1, 2, 3, 4"),
        ("fills", "role", 3, "role other than 0, 1, 2"),
        ("fills", "mode", 2, "mode other than 0, 1"),
        ("fills", "paired", 2, "paired other than 0 and 1"),
        ("fills", "match", None, "paired and has no match"),
        ("fills", "qty", 0, "qty of zero"),
        ("fills", "price", 0, "price not above zero"),
        ("fills", "fee", 1 << 62, "fee beyond 2**62"),
        ("prices", "price", -5, "price not above zero"),
        ("prices", "kind", 6, "kind other than"),
        ("prices", "market", 9, "unknown market"),
        ("markets", "tick", 0, "tick not above zero"),
        ("markets", "ledger", 5, "unknown ledger"),
        ("markets", "market", 5, "ids that are not 0, 1, 2"),
        ("markets", "price_scale", 1, "marks with fewer digits than prices"),
        ("markets", "name", "ETH", "has a name twice"),
        ("account_names", "account", 9, "ids that are not 0, 1, 2"),
        ("account_names", "name", "ben", "has a name twice"),
    ],
)
def test_an_impossible_row_is_found(
    tmp_path: Path, table: str, column: str, value: Any, message: str
) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), table, put(column, 0, value))
    findings = [f for f in check_tape(tape).findings if message in f.message]
    assert [(f.severity, f.table, f.count) for f in findings] == [(Severity.ERROR, table, 1)]
    if table in ("fills", "prices"):
        assert findings[0].row == 0
        assert findings[0].ts is not None


def test_a_forced_fill_without_victim_is_a_warning(tmp_path: Path) -> None:
    text = '[[fills]]\nat = "+1s"\nmarket = "BTC"\naccount = "ann"\nqty = 1\nprice = 9\nkind = "adl"\n'
    only(check_tape(scenario_tape(tmp_path, HEAD + text)), "warning", "fills", "names no victim")


# -- matches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("qty", 1, -3), "quantities do not cancel"),
        (put("price", 1, 101), "another price or market"),
        (put("market", 1, 1), "another price or market"),
        (put("kind", 1, 4), "kind and victim"),
        (put("match", 1, 9), "not exactly two rows"),
        (put("ts", 1, START + SECOND + 1), "another moment"),
    ],
)
def test_a_match_whose_rows_disagree_is_an_error(tmp_path: Path, change: Change, message: str) -> None:
    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", change)
    finding = only(check_tape(tape), "error", "fills", message)
    assert (finding.ts, finding.row) == (START + SECOND, 0)
    assert finding.count == (2 if message == "not exactly two rows" else 1)


def test_a_victim_who_is_on_neither_side_is_an_error(tmp_path: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["kind"][:2] = [2, 2]
        columns["victim"][:2] = [2, 2]

    tape = damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", change)
    only(check_tape(tape), "error", "fills", "kind and victim")


def test_rows_without_their_other_side_are_counted(tmp_path: Path) -> None:
    report = check_tape(scenario_tape(tmp_path, HEAD + TRADES.replace('seller = "cid"\n', "")))
    assert report.findings == []
    assert (report.facts["matches"], report.facts["unpaired_rows"]) == (1, 1)


# -- chains ---------------------------------------------------------------------------------------


def chain(*rows: tuple[str, str, str, int, int | None]) -> str:
    """Return fills as (offset, market, account, start position, quantity)."""
    return "".join(
        f'[[fills]]\nat = "{at}"\nmarket = "{market}"\naccount = "{account}"\nqty = {qty}\nprice = 100\n'
        + (f"start_position = {start}\n" if start is not None else "")
        for at, market, account, qty, start in rows
    )


def test_whole_chains_are_counted_and_spot_is_set_apart(tmp_path: Path) -> None:
    text = chain(
        ("+1s", "BTC", "ann", 2, 5),
        ("+2s", "BTC", "ben", -1, 0),
        ("+2s", "BTC", "ann", -7, 7),  # 5 + 2
        ("+2s", "BTC", "ann", -1, 0),
        ("+3s", "ETH", "ann", 1, 0),
        ("+3s", "PURR/USDC", "ann", 1, 40),
        ("+4s", "PURR/USDC", "ann", 1, 99),
        ("+9s", "BTC", "ann", 1, -1),
    )
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    assert report.findings == []
    facts = report.facts
    assert (facts["chains"], facts["links"], facts["broken_links"], facts["spot_rows"]) == (3, 3, 0, 2)


def test_a_break_between_moments_is_a_warning_that_names_it(tmp_path: Path) -> None:
    text = chain(
        ("+1s", "BTC", "ann", 2, 5),
        ("+2s", "BTC", "ben", 1, 1),
        ("+3s", "BTC", "ann", 1, 8),  # 5 + 2 is 7
        ("+4s", "BTC", "ann", 1, 10),  # 8 + 1 is 9
    )
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    finding = only(report, "warning", "fills", "in 1 of 2 chains: ann in BTC")
    assert (finding.count, finding.ts, finding.row) == (2, START + 3 * SECOND, 2)
    assert report.ok
    assert (report.facts["links"], report.facts["broken_links"], report.facts["broken_chains"]) == (2, 2, 1)


def test_a_row_without_start_position_is_no_link(tmp_path: Path) -> None:
    text = chain(("+1s", "BTC", "ann", 2, 5), ("+2s", "BTC", "ann", 1, None), ("+3s", "BTC", "ann", 1, 8))
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    assert report.findings == []
    assert report.facts["links"] == 0


@pytest.mark.parametrize(
    ("start", "opening", "broken"),
    [
        ("unknown", None, 0),
        ("known", None, 1),  # a known account begins flat
        ("unknown", 3, 0),
        ("known", 3, 0),
        ("unknown", 4, 1),
    ],
)
def test_the_first_link_is_to_the_opening(
    tmp_path: Path, start: str, opening: int | None, broken: int
) -> None:
    head = HEAD.replace('"unknown"', f'"{start}"')
    if opening is not None:
        position = f'positions = [{{ market = "BTC", size = {opening}, entry = 100 }}]'
        head = head.replace('{ name = "ann" }', f'{{ name = "ann", cash = 9, {position} }}')
    report = check_tape(scenario_tape(tmp_path, head + chain(("+1s", "BTC", "ann", 1, 3))))
    assert [f.table for f in report.findings if f.severity is Severity.WARNING] == ["fills"] * broken
    assert report.facts["broken_links"] == broken


def test_isolated_and_cross_are_chains_of_their_own(tmp_path: Path) -> None:
    text = chain(("+1s", "BTC", "ann", 2, 5), ("+2s", "BTC", "ann", 1, 0), ("+3s", "BTC", "ann", 1, 7))
    text = text.replace("start_position = 0\n", 'start_position = 0\nmode = "isolated"\n')
    assert check_tape(scenario_tape(tmp_path, HEAD + text)).findings == []


@pytest.mark.parametrize(("links", "severities"), [(99, ["error", "warning"]), (101, ["warning"])])
def test_many_breaks_within_moments_are_an_error(tmp_path: Path, links: int, severities: list[str]) -> None:
    starts = [*range(links), links + 5]  # all links but the last one hold
    text = chain(*(("+1s", "BTC", "ann", 1, start) for start in starts))
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    assert report.facts["links"] == links
    assert [f.severity.value for f in report.findings] == severities
    if "error" in severities:
        assert "order or signs are wrong" in report.findings[0].message


# -- the rest of the books -------------------------------------------------------------------------


def test_opening_sizes_that_do_not_cancel_are_noted(tmp_path: Path) -> None:
    position = 'cash = 9, positions = [{ market = "ETH", size = 1.5, entry = 100 }]'
    head = HEAD.replace('{ name = "ann" }', f'{{ name = "ann", {position} }}')
    only(check_tape(scenario_tape(tmp_path, head)), "note", "positions", "sizes of ETH sum to 1.5")


@pytest.mark.parametrize("table", ["accounts", "positions"])
def test_an_opening_row_twice_is_an_error(tmp_path: Path, table: str) -> None:
    position = 'cash = 9, positions = [{ market = "ETH", size = 1, entry = 100 }]'
    head = HEAD.replace('{ name = "ann" }', f'{{ name = "ann", {position} }}')

    def twice(columns: dict[str, list[Any]]) -> None:
        for values in columns.values():
            values.append(values[0])

    report = check_tape(damage(scenario_tape(tmp_path, head), table, twice))
    assert (report.findings[0].severity, report.findings[0].table) == (Severity.ERROR, table)
    assert "twice" in report.findings[0].message


def test_moves_that_make_money_are_an_error(tmp_path: Path) -> None:
    text = (
        "".join(f'[[transfers]]\nat = "+{s}s"\namount = 5\nfrom = "ann"\nto = "ben"\n' for s in (1, 2))
        + '[[transfers]]\nat = "+2s"\naccount = "ann"\namount = 3\n'
    )
    tape = scenario_tape(tmp_path, HEAD + text)
    assert check_tape(tape).findings == []
    finding = only(
        check_tape(damage(tape, "transfers", put("amount", 3, 6))), "error", "transfers", "sum to zero"
    )
    assert (finding.count, finding.ts, finding.row) == (1, START + 2 * SECOND, 2)


REPORT = '[[liquidations]]\nat = "+1s"\naccount = "ben"\nmarket = "BTC"\nqty = -2\n'
FORCED = 'kind = "liquidation"\nvictim = "ben"\nprice = 100'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("qty = -2", "qty = -1", "another quantity"),
        ('at = "+1s"\naccount', 'at = "+2s"\naccount', "no forced fill"),
        ('account = "ben"', 'account = "ann"', "no forced fill"),
        ('market = "BTC"\nqty = -2', "", "name no market"),
    ],
)
def test_a_report_without_its_forced_fill_is_a_warning(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    text = TRADES.replace("price = 100\n", FORCED + "\n", 1) + REPORT.replace(old, new)
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    if message is None:
        assert report.findings == []
    else:
        only(report, "warning", "liquidations", message)


FUNDING = '[[funding]]\nat = "{}"\nmarket = "{}"\nrate = 0.0001\n'


@pytest.mark.parametrize(
    ("at", "market", "errors"),
    [
        ("+3s", "BTC", 0),
        ("+1s", "BTC", 0),  # the mark of +0s
        ("+0s", "BTC", 0),  # nobody holds anything yet
        ("+5s", "ETH", 0),  # nobody ever does
    ],
)
def test_funding_needs_a_mark_only_where_there_are_positions(
    tmp_path: Path, at: str, market: str, errors: int
) -> None:
    report = check_tape(scenario_tape(tmp_path, HEAD + TRADES + FUNDING.format(at, market)))
    assert report.count(Severity.ERROR) == errors


@pytest.mark.parametrize(
    ("old", "new", "errors"),
    [
        ('at = "+0s"', 'at = "+5s"', 1),  # fills of +1s and +2s set no mark where the tape has marks later
        ('at = "+0s"', 'at = "+5s"\nkind = "last"', 0),  # but they do where it has none
        ('at = "+0s"', 'at = "+5s"\nkind = "index"', 0),
    ],
)
def test_funding_before_the_first_mark_is_an_error(tmp_path: Path, old: str, new: str, errors: int) -> None:
    text = HEAD + TRADES.replace(old, new, 1) + FUNDING.format("+3s", "BTC")
    report = check_tape(scenario_tape(tmp_path, text))
    assert found(report) == [("error", "funding", 1)] * errors


def test_funding_on_opening_positions_needs_a_mark_before_it(tmp_path: Path) -> None:
    position = 'cash = 9, positions = [{ market = "BTC", size = 1, entry = 100 }]'
    head = HEAD.replace('{ name = "ann" }', f'{{ name = "ann", {position} }}')
    report = check_tape(scenario_tape(tmp_path, head + TRADES + FUNDING.format("+0s", "BTC")))
    assert [f.table for f in report.findings if f.severity is Severity.ERROR] == ["funding"]


# -- depth ----------------------------------------------------------------------------------------


def snapshots(count: int, *, moving: bool, bid: int = 99) -> str:
    text = '[[depth]]\nat = "+{}s"\nmarket = "BTC"\nbids = [[{}, {}]]\nasks = [[101, 2]]\n'
    return "".join(text.format(k, bid, k + 1 if moving else 1) for k in range(count))


MOVING = '[[marks]]\nmarket = "BTC"\npath = [["+1s", 100], ["+8s", 100.5]]\n'
STILL = '[[marks]]\nmarket = "BTC"\npath = [["+1s", 100], ["+8s", 100]]\n'


@pytest.mark.parametrize(
    ("text", "message", "count"),
    [
        (snapshots(12, moving=True) + MOVING, None, 0),
        (snapshots(12, moving=False) + STILL, None, 0),
        (snapshots(9, moving=False) + MOVING, None, 0),
        (snapshots(12, moving=False) + MOVING, "frozen", 12),
        (snapshots(3, moving=True, bid=101), "crossed", 3),
        (snapshots(3, moving=True) + '[[marks]]\nmarket = "BTC"\nat = "+102s"\nprice = 9\n', None, 0),
        (snapshots(3, moving=True) + '[[marks]]\nmarket = "BTC"\nat = "+103s"\nprice = 9\n', "stale", 1),
    ],
)
def test_depth_that_cannot_be_relied_on_is_a_warning(
    tmp_path: Path, text: str, message: str | None, count: int
) -> None:
    report = check_tape(scenario_tape(tmp_path, HEAD + text))
    if message is None:
        assert report.findings == []
    else:
        assert only(report, "warning", "depth", message).count == count


def test_fills_and_marks_of_other_scales_are_no_movement(tmp_path: Path) -> None:
    """A trade at 100 beside a mark at 100.00 with more digits elsewhere is one price."""
    text = snapshots(12, moving=False) + TRADES.replace("[100, 101, 102]", "[100, 100]").replace("101", "100")
    text += '[[marks]]\nmarket = "BTC"\nat = "+30s"\nprice = 100.25\n'
    tape = scenario_tape(tmp_path, HEAD + text)
    assert tape.markets[0].mark_scale > tape.markets[0].price_scale
    assert check_tape(tape).findings == []


# -- the command ----------------------------------------------------------------------------------


def test_the_command_prints_facts_and_ends_well(tmp_path: Path) -> None:
    scenario_tape(tmp_path, HEAD + TRADES)
    result = CliRunner().invoke(check_command, [str(tmp_path / "tape")])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "venue     example",
        "span      2024-03-05T23:59:00Z to 2024-03-05T23:59:02Z",
        "rows      3 prices, 4 fills",
        "accounts  3",
        "markets   3",
        "spot      0 fills, set apart",
        "matches   2 paired; 0 fills without the other side",
        "chains    0 of start positions, 0 links checked; 0 links broken in 0 chains",
        "",
        "no errors, no warnings, no notes",
    ]


def test_the_command_lists_errors_and_exits_with_one(tmp_path: Path) -> None:
    damage(scenario_tape(tmp_path, HEAD + TRADES), "fills", put("qty", 1, -3))
    result = CliRunner().invoke(check_command, [str(tmp_path / "tape")])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 error, no warnings, no notes"
    assert "2024-03-05T23:59:01Z, row 0" in result.stdout


# -- recordings -----------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("name", ["hyperliquid-2023", "hyperliquid-node-fills"])
def test_recorded_tapes_have_no_errors_and_no_warnings(tmp_path: Path, name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not there")
    import_source("hyperliquid", [DATA / name], tmp_path / "t")
    report = check_tape(open_tape(tmp_path / "t"))
    assert [f for f in report.findings if f.severity is not Severity.NOTE] == []
    if name == "hyperliquid-node-fills":
        assert report.facts["unpaired_rows"] == 0
        assert report.facts["links"] > 0
        assert report.facts["spot_rows"] > 0
