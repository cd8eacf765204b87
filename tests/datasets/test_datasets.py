"""Days of the registry, their downloads from a server on loopback that breaks in every way, and their facts."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

import replay
from replay.cli.datasets import datasets
from replay.datasets import Fact, Source, compare, dataset, fetch, list_datasets
from replay.errors import SourceError, TapeError
from tests.waterfall.days import BYBIT, account, marks, replayed

TRADES = "data/futures/cm/daily/trades/{symbol}/{symbol}-trades-2025-10-10.zip"
MARKS = "data/futures/cm/daily/markPriceKlines/{symbol}/1m/{symbol}-1m-2025-10-10.zip"
METRICS = "data/futures/cm/daily/metrics/{symbol}/{symbol}-metrics-2025-10-10.zip"
START = 1_760_054_400_000  # 2025-10-10T00:00:00Z


def zipped(name: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


def trades(symbol: str, rows: int = 4000) -> bytes:
    """Rows in the layout of the archive: contracts of 10 USD around 20 USD."""
    lines = ["id,price,qty,base_qty,time,is_buyer_maker"]
    for n in range(1, rows):
        qty, sold = n % 9 + 1, "true" if n % 2 else "false"
        lines.append(f"{n},{20 + n % 7 / 100},{qty},{qty / 2},{START + 1000 * n},{sold}")
    return zipped(f"{symbol}-trades-2025-10-10.csv", "\n".join(lines) + "\n")


def marks_of(symbol: str) -> bytes:
    columns = "open_time,open,high,low,close,volume,close_time,quote_volume,count"
    lines = [f"{columns},taker_buy_volume,taker_buy_quote_volume,ignore"]
    for n in range(10):
        opens = START + 60_000 * n
        lines.append(f"{opens},20.01,20.05,20.00,20.02,0,{opens + 59_999},0,60,0,0,0")
    return zipped(f"{symbol}-1m-2025-10-10.csv", "\n".join(lines) + "\n")


def metrics(symbol: str) -> bytes:
    """Open interest of 5,000 contracts, then of 4,000; ratios may be empty."""
    columns = "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio"
    lines = [
        f"{columns},sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
    ]
    for minute, told in ((5, 5_000), (0, 5_000), (30, 4_000)):
        lines.append(f"2025-10-10 00:{minute:02}:00,{symbol},{told}.0000000000000000,{told / 2},,,,1.1")
    return zipped(f"{symbol}-metrics-2025-10-10.csv", "\n".join(lines) + "\n")


class Server(ThreadingHTTPServer):
    """A server of files that may misbehave: ``faults`` are answers to the first requests of a path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.asked[path] += 1
        fault = self.server.faults.get(path, [])
        kind = fault.pop(0) if fault else ""
        content = self.server.files.get(path)
        if kind.isdecimal() or content is None:
            self.send_response(int(kind) if kind.isdecimal() else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        start = 0
        if asked:
            self.server.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + (len(content) - start) // 2 if kind == "cut" else len(content)
        self.wfile.write(content[start:end])
        if kind == "cut":
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(timeout=5)


def offered(server: Server, symbols: tuple[str, ...] = ("AVAXUSD_PERP",)) -> Source:
    for symbol in symbols:
        for path, content in (
            (TRADES, trades(symbol)),
            (MARKS, marks_of(symbol)),
            (METRICS, metrics(symbol)),
        ):
            name = path.replace("{symbol}", symbol)
            server.files[name] = content
            server.files[f"{name}.CHECKSUM"] = (
                f"{hashlib.sha256(content).hexdigest()}  {name.rpartition('/')[2]}\n".encode()
            )
    return Source(
        importer="binance",
        origin="a server on loopback",
        base=server.base,
        checksum=".CHECKSUM",
        symbols=symbols,
        paths=(TRADES, MARKS),
    )


PATH = TRADES.replace("{symbol}", "AVAXUSD_PERP")


def test_files_come_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    source = offered(server)
    told: list[tuple[str, int, int | None]] = []
    files = fetch(source, tmp_path, on_bytes=lambda *what: told.append(what))
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        PATH,
        MARKS.replace("{symbol}", "AVAXUSD_PERP"),
    ]
    assert files[0].read_bytes() == server.files[PATH]
    length = len(server.files[PATH])
    assert [there for path, there, size in told if path == PATH and size == length][-1] == length
    fetch(source, tmp_path)
    assert server.asked[PATH] == 1, "with its checksum it is not downloaded again"


@pytest.mark.parametrize("faults", [["cut"], ["cut", "cut"], ["503"], ["500", "cut", "429"]])
def test_a_transfer_that_breaks_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, faults: list[str]
) -> None:
    source = offered(server)
    server.faults[PATH] = list(faults)
    files = fetch(source, tmp_path, backoff=0.01)
    assert files[0].read_bytes() == server.files[PATH]
    assert bool(server.ranges) == ("cut" in faults)
    assert not list(tmp_path.rglob("*.part"))


def test_a_half_file_of_an_earlier_command_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    source = offered(server)
    part = tmp_path / f"{PATH}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.files[PATH][:100])
    assert fetch(source, tmp_path)[0].read_bytes() == server.files[PATH]
    assert server.ranges == ["bytes=100-"]


def test_a_transfer_that_never_works_is_one_error(server: Server, tmp_path: Path) -> None:
    source = offered(server)
    server.faults[PATH] = ["cut"] * 20
    with pytest.raises(SourceError, match="broke 4 times") as caught:
        fetch(source, tmp_path, backoff=0.01)
    assert caught.value.mend == "run the command again: it goes on where it stopped"
    assert not (tmp_path / PATH).exists()


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    source = offered(server)
    server.files[f"{PATH}.CHECKSUM"] = b"0" * 64 + b"  some.zip\n"
    with pytest.raises(SourceError, match="the source says 0000"):
        fetch(source, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_page_in_place_of_a_checksum(server: Server, tmp_path: Path) -> None:
    source = offered(server)
    server.files[f"{PATH}.CHECKSUM"] = b"<html>gone</html>"
    with pytest.raises(SourceError, match="is no SHA-256 checksum"):
        fetch(source, tmp_path)


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    source = offered(server).model_copy(update={"checksum": ""})
    del server.files[PATH]
    with pytest.raises(SourceError, match="answers 404") as caught:
        fetch(source, tmp_path)
    assert "look at the day and the symbol" in str(caught.value)


def test_a_day_is_built_from_a_mirror(server: Server, tmp_path: Path) -> None:
    """Eight contracts of 3,999 trades and two words of open interest each in the layout of the archive."""
    day = dataset("binance-coinm-2025-10-10")
    offered(server, day.sources[0].symbols)
    out = tmp_path / "tape"
    made = CliRunner().invoke(
        datasets, ["build", day.name, "--out", str(out), "--from", server.base], catch_exceptions=False
    )
    assert made.exit_code == 0, made.output
    assert f"{out}: " in made.stdout
    assert f"{8 * 3999:,} trades" in made.stdout
    assert "replay populate" in made.stdout
    tape = replay.open_tape(out)
    assert len(tape.markets) == 8
    assert tape.select("SELECT DISTINCT qty FROM open_interest ORDER BY 1") == [(4_000,), (5_000,)]


def test_a_built_in_day_needs_no_server(tmp_path: Path) -> None:
    made = CliRunner().invoke(
        datasets, ["build", "demo-thin-book", "--out", str(tmp_path / "tape")], catch_exceptions=False
    )
    assert made.exit_code == 0
    assert (tmp_path / "tape" / "tape.json").exists()


def test_a_day_that_is_not_free_prints_what_to_run_and_what_it_costs(tmp_path: Path) -> None:
    made = CliRunner().invoke(datasets, ["build", "hyperliquid-2025-10-10", "--out", str(tmp_path / "tape")])
    assert made.exit_code == 0
    assert "aws s3 cp s3://hl-mainnet-node-data/node_fills_by_block/hourly/20251010/" in made.stdout
    assert "--request-payer requester" in made.stdout
    assert "cost: about 1.3 GB" in made.stdout
    assert not (tmp_path / "tape").exists()


def test_every_day_has_what_a_reader_needs() -> None:
    found = {day.name: day for day in list_datasets()}
    assert {
        "demo-crash",
        "hyperliquid-2023",
        "hyperliquid-2025-10-10",
        "binance-coinm-2025-10-10",
        "binance-usdm-2025-10-10",
        "bybit-2025-10-10",
    } <= set(found)
    for day in found.values():
        for name in day.rules:
            replay.load_rules(name)
        shown = CliRunner().invoke(datasets, ["show", day.name], catch_exceptions=False)
        assert day.title in shown.stdout
        assert all(fact.what in shown.stdout for fact in day.facts)
        for source in day.sources:
            assert len({path for path, _ in source.urls()}) == len(source.paths) * max(1, len(source.symbols))
    assert all(name in CliRunner().invoke(datasets, ["list"]).stdout for name in found)


def test_an_unknown_day_names_the_known() -> None:
    with pytest.raises(SourceError, match="there is no dataset called demo-crsh") as caught:
        dataset("demo-crsh")
    assert str(caught.value.mend).startswith("did you mean demo-crash? there are: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [("title = ", "cannot be read"), ('title = "a"\n', "Field required"), (b"\xff", "cannot be read")],
)
def test_a_damaged_file_is_one_error(tmp_path: Path, content: str | bytes, problem: str) -> None:
    file = tmp_path / "dataset.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=problem) as caught:
        dataset(f"{tmp_path}/")
    assert caught.value.file == str(file)


ONE_FALL = (
    'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
    + account("long", 50_000, ("BTC", 10, 100_000))
    + account("short", 500_000, ("BTC", -10, 100_000))
    + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
)
"""A day on which one of two accounts is liquidated and the other deleveraged."""


def test_facts_beside_a_run(tmp_path: Path) -> None:
    """One long of 10 BTC that owes 10,000 at 94,000: one liquidation, 10 BTC at 95,000 against one winner."""
    run = replayed(tmp_path, ONE_FALL, BYBIT).run
    facts = (
        Fact(what="liquidations", source="here", value=1, sql="SELECT count(*) FROM liquidations"),
        Fact(what="value", source="here", value=1e6, tolerance=0.05, sql="SELECT sum(value) FROM adl_fills"),
        Fact(
            what="value, wide",
            source="here",
            value=1e6,
            tolerance=0.06,
            sql="SELECT sum(value) FROM adl_fills",
        ),
        Fact(what="nothing", source="here", value=1, sql="SELECT max(mark) FROM market_series"),
        Fact(what="no such", source="here", value=1, sql="SELECT nope FROM liquidations"),
        Fact(what="a sentence", source="here"),
    )
    day = dataset("demo-thin-book").model_copy(update={"facts": facts})
    found = [(row.found, row.verdict) for row in compare(run, day)]
    assert found[:4] == [(1, "agrees"), (950_000, "agrees"), (950_000, "agrees"), (None, "the run has none")]
    assert found[4][0] is None
    assert found[4][1].startswith("no answer: SQL")
    assert found[5] == (None, "to read")
    strict = dataset("demo-thin-book").model_copy(
        update={"facts": (facts[1].model_copy(update={"tolerance": 0.04}),)}
    )
    assert compare(run, strict)[0].verdict == "differs"
    shown = CliRunner().invoke(datasets, ["compare", str(run.path), "--dataset", "demo-thin-book"])
    assert shown.exit_code == 0


def test_facts_beside_the_tape_of_a_run(tmp_path: Path) -> None:
    """The same day: the tape has two marks, the last at 94,000; another tape is refused."""
    run = replayed(tmp_path, ONE_FALL, BYBIT).run
    tape = replay.open_tape(tmp_path / "tape")
    low = "SELECT min(price) / 10 ** any_value(mark_scale) FROM prices JOIN markets USING (market)"
    both = {"sql": "SELECT count(*) FROM liquidations", "tape_sql": "SELECT count(*) FROM prices"}
    facts = (
        Fact(what="lowest mark", source="here", value=94_000, tape_sql=low),
        Fact(what="two questions", source="here", value=1, **both),
        Fact(what="nothing", source="here", value=1, tape_sql="SELECT max(price) FROM trades"),
        Fact(what="no such", source="here", value=1, tape_sql="SELECT nope FROM trades"),
    )
    day = dataset("demo-thin-book").model_copy(update={"facts": facts})
    found = [(row.recorded, row.found, row.verdict) for row in compare(run, day, tape)]
    assert found[:3] == [
        (94_000, None, "agrees"),
        (2, 1, "tape differs, run agrees"),
        (None, None, "the tape has none"),
    ]
    assert found[3][2].startswith("no answer")
    assert [row.verdict for row in compare(run, day)][:2] == [
        "--tape TAPE has an answer",
        "agrees; --tape TAPE has an answer",
    ]
    (tmp_path / "other").mkdir()
    other = replayed(tmp_path / "other", ONE_FALL + marks("BTC", ("+20s", 95_000)), BYBIT)
    with pytest.raises(TapeError, match="is another tape than that of the run"):
        compare(other.run, day, tape)
