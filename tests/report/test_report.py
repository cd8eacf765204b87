"""The report of a run of a few rows: what its figures say, that they are figures, and that it is one file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.report import charts, render
from replay.report.facts import gather
from tests.run.test_waterfall_queries import VAULT, adl, movement
from tests.run.tiny import ATOM, LONG, MARKETS, SECOND, SHORT, START, make_run, ruled
from tests.scenario_tape import scenario_tape

EVIL = "</script><b>&"


def order(seconds, stage, market, filled, value, **columns):
    """One row of `forced_orders`; quantity in lots, value in units of the currency."""
    return {
        "ts": START + seconds * SECOND,
        "liquidation": 1,
        "stage": stage,
        "account": 0,
        "market": market,
        "asked": filled,
        "filled": filled,
        "value": int(value * ATOM),
        "mark": 160_000,
        "reason": "filled",
        **columns,
    }


TABLES = {
    "liquidations": [
        ruled(1, 0, 0, 0, size=10, asked=10, book=4, absorbed=5, adl=1, bankruptcy_value=1_000 * ATOM)
    ],
    "forced_orders": [
        order(0, "book", 0, -4, -400),
        order(1, "takeover", 0, -5, -500),
        order(2, "book", 1, 3, 0.015),  # 3 contracts of 100 USD
        order(3, "book", 0, 0, 0),  # nothing filled
    ],
    "adl_fills": [
        adl(0, 1, 0, 0, 1, 100 * ATOM, -4, -3),
        adl(VAULT, 1, 0, 0, 3, 250 * ATOM, -3, 0, ts=START + 5 * SECOND, rank=9),
    ],
    "absorber_ledger": [
        movement(-60, "opening", 1_000, 1_000),
        movement(1, "takeover", -400, 600, market=0, inventory=5),
        movement(1, "takeover", -700, -100, market=0, inventory=5),
        movement(5, "deleveraged", 100, 0, market=0, inventory=2),
    ],
    "engagements": [
        {"ts": START + seconds * SECOND, "scope": "@vault:hlp", "market": 0, "ledger": 0, "stage": stage,
         "state": state, "reason": "why", "measured": measured * ATOM, "threshold": threshold * ATOM,
         "shadow": 0}
        for seconds, stage, state, measured, threshold in (
            (1, "takeover", "engaged", 0, 0), (2, "adl", "start", -400, -300), (6, "adl", "stop", -100, -250),
        )
    ],
    "shared_losses": [
        {"ts": START + 2 * SECOND, "liquidation": 1, "account": 0, "ledger": ledger, "kind": "bad_debt",
         "amount": amount}
        for ledger, amount in ((0, 7 * ATOM), (1, 8_310))
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "run", tables=TABLES)


@pytest.fixture(scope="module")
def facts(run):
    return gather(run)


@pytest.fixture(scope="module")
def page(run):
    return render(run)


def test_forced_value_counts_once_and_in_the_quote_currency(facts):
    row = facts.headline
    assert (row["book"], row["takeover"], row["adl"]) == (400 + 300, 500, 100)
    assert row["forced"] == 400 + 300 + 500 + 100
    assert row["absorber_adl"] == 250  # of the 500 that were taken over
    assert (row["accounts"], row["liquidations"], row["winners"]) == (1, 1, 1)


def test_the_flow_of_a_stage_sums_to_its_headline(facts):
    sums = {}
    for row in facts.flow:
        sums[row["stage"]] = sums.get(row["stage"], 0) + row["value"]
    assert sums == {"book": 700, "takeover": 500, "adl": 100, "bad_debt": 7}


def test_marks_come_from_forced_orders_where_no_tape_is_given(facts):
    assert not facts.marks_from_tape
    assert {(row["market"], row["mark"]) for row in facts.marks} == {("ETH", 1600.0), ("BTCUSD", 16000.0)}


def test_the_line_that_starts_deleveraging_is_drawn_at_its_share_of_the_peak(facts):
    """The peak before the start was 1,000, the threshold a loss of 300."""
    figure = charts.absorber_path(facts)
    dashed = [shape for shape in figure["layout"]["shapes"] if shape["line"]["dash"] == "dash"]
    assert [shape["y0"] for shape in dashed] == [700]
    assert any("-30 %" in note["text"] for note in figure["layout"]["annotations"])


def test_a_span_of_deleveraging_lasts_from_start_to_stop(facts):
    (bars,) = [trace for trace in charts.absorber_path(facts)["data"] if trace["type"] == "bar"]
    assert (bars["base"], bars["x"]) == (["2023-02-28 21:10:25.000"], [4_000])


def test_ranks_go_by_tenths_of_the_queue(facts):
    assert [(row["decile"], row["value"]) for row in facts.ranks] == [(0, 100), (8, 250)]  # 1 and 9 of 9


def test_every_figure_is_one_plotly_accepts(facts):
    for make in (charts.market_and_flow, charts.absorber_path, charts.split_by_market, charts.by_rank,
                 charts.by_leverage):  # fmt: skip
        go.Figure(make(facts))


def test_a_stage_has_one_colour_everywhere(facts):
    flow = {trace["name"]: trace["marker"]["color"] for trace in charts.market_and_flow(facts)["data"]
            if trace["type"] == "bar"}  # fmt: skip
    split = {trace["name"]: trace["marker"]["color"] for trace in charts.split_by_market(facts)["data"]}
    assert len(flow) == 4
    for stage in ("book", "takeover", "adl"):
        words, colour = charts.STAGES[stage]
        assert flow[words] == split[words] == colour


class Loads(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.found += [value for name, value in names.items() if name in ("src", "srcset", "data")]
        if tag == "link":
            self.found.append(names.get("href"))


def test_the_page_is_one_file_that_loads_nothing(page):
    parser = Loads()
    parser.feed(page)
    assert parser.found == []
    assert "@import" not in page[: page.index("</style>")]
    assert "Plotly" in page


def test_headline_and_small_print(page):
    for text in (
        "1.3 k",  # closed by force
        "first at 21:10:24",  # takeover
        "-100",  # lowest of the vault, within the step
        "and 0.0000831 BTC",
        "Known equity: 2 pools, 100.0 % of open USDC notional",
        "A market without marks is valued at its last trade.",
    ):
        assert text in page[page.index("<main>") : page.index("<script>")], text
    small_print = page[page.index("Small print") :]
    assert small_print.index("Coverage") < small_print.index("Assumptions")


def test_the_same_run_gives_the_same_page(run, page):
    assert render(run) == page


def test_names_cannot_leave_their_place(tmp_path):
    markets = [(0, EVIL, *MARKETS[0][2:]), *MARKETS[1:]]
    page = render(make_run(tmp_path / "run", tables=TABLES, markets=markets, assumptions=[EVIL]))
    assert EVIL not in page
    assert page.count("</script>") == 2
    figures = re.search(r"const figures = (.*);\n", page).group(1)
    assert json.loads(figures)["split"]["data"][0]["y"][0] == "&lt;/script&gt;&lt;b&gt;&amp;"


def test_a_run_in_which_nothing_was_forced(tmp_path):
    page = render(make_run(tmp_path / "run", tables={}))
    assert "never engaged" in page
    assert "Nobody was deleveraged." in page
    assert json.loads(re.search(r"const figures = (.*);\n", page).group(1)) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (37_451_000, "37.5 M"),
        (412_345, "412 k"),
        (-55_299, "-55.3 k"),
        (208.4, "208"),
        (0, "0"),
        (0.0000831, "0.0000831"),
    ],
)
def test_short_numbers(value, text):
    assert charts.short(value) == text


def report(*arguments):
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], prog_name="replay")


def test_the_command_writes_a_file_once(run, tmp_path):
    out = tmp_path / "day.html"
    result = report(run.path, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out}  ")
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    again = report(run.path, "--out", out)
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    assert report(run.path, "--out", out, "--force").exit_code == 0


DAY = """
venue = "example"
start = "2023-02-28T21:10:00Z"
accounts_start = "unknown"
markets = [{ name = "ETH" }]
accounts = [{ name = "ann" }]
[[marks]]
market = "ETH"
at = "+0s"
every = "+20s"
prices = ["1650", "1640", "1600", "1590"]
"""


def test_the_tape_of_another_run_is_refused(run, tmp_path):
    tape = scenario_tape(tmp_path, DAY)
    result = report(run.path, "--tape", tape.path, "--out", tmp_path / "x.html")
    assert result.exit_code == 1
    assert "was not made from" in result.stderr
    assert not (tmp_path / "x.html").exists()


def test_marks_are_the_tapes_where_it_is_given(tmp_path):
    """Shown is half a minute either side of the forced orders: the marks of 21:10:00, 21:10:20, 21:10:40."""
    tape = scenario_tape(tmp_path, DAY)
    named = {"name": "tape", "sha256": tape.manifest["sha256"], "venue": "example"}
    run = make_run(tmp_path / "run", tables=TABLES, tape=named)
    facts = gather(run, tape)
    assert facts.marks_from_tape
    assert [(row["market"], row["mark"]) for row in facts.marks] == [
        ("ETH", 1650), ("ETH", 1640), ("ETH", 1600),
    ]  # fmt: skip
    result = report(run.path, "--tape", tape.path, "--out", tmp_path / "x.html")
    assert (result.exit_code, result.stderr) == (0, "")


def test_winners_are_named(page):
    table = page[page.index("<table>") : page.index("</table>")]
    assert SHORT[:10] in table
    assert LONG[:10] not in table
