"""The page: headline numbers, charts, tables and small print, put together as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import orjson

from replay.errors import ReplayError
from replay.report import charts
from replay.report.charts import short
from replay.report.facts import Facts, gather
from replay.run.store import Run
from replay.run.summary import summarise
from replay.tape.read import Tape
from replay.units import format_time


def render(run: Run, tape: Tape | None = None) -> str:
    """Return the report of a run as one HTML page that loads nothing from anywhere.

    Args:
        run: The run.
        tape: The tape it was made from, for the whole path of marks; without it, marks are those that the
            run recorded with forced orders and ADL.

    Raises:
        ReplayError: plotly is not installed.
    """
    facts = gather(run, tape)
    figures = {
        name: make(facts)
        for name, make, rows in (
            ("flow", charts.market_and_flow, facts.flow),
            ("absorber", charts.absorber_path, facts.balances),
            ("split", charts.split_by_market, facts.split),
            ("rank", charts.by_rank, facts.ranks),
            ("leverage", charts.by_leverage, facts.leverages),
        )
        if rows
    }
    content = resources.files(__name__.rpartition(".")[0])
    page = Template(content.joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"{run.manifest['tape']['name']} under {run.manifest['rules']['name']}"),
        tape=escape(run.manifest["tape"]["name"]),
        rules=escape(run.manifest["rules"]["name"]),
        about=escape(_about(run)),
        style=content.joinpath("page.css").read_text(encoding="utf-8"),
        tiles=_tiles(facts),
        marks=(
            "Marks are the tape's."
            if facts.marks_from_tape
            else "A run keeps no price series: marks are those recorded with forced orders and ADL."
        ),
        split_height=90 + 30 * len([row for row in facts.split if row["market"] != "all"]),
        absorber_height=charts.absorber_height(facts),
        winners=_winners(facts),
        small_print=_small_print(run),
        figures=_script(figures),
        plotly=_plotly(),
        sha256=escape(run.manifest["sha256"]),
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ReplayError(
            "a report needs plotly, which is not installed", mend='pip install "perp-replay[report]"'
        ) from None
    return str(get_plotlyjs())


def _script(figures: dict[str, Any]) -> str:
    """Return figures as JSON that cannot end the script it stands in."""
    return orjson.dumps(figures).decode().replace("</", "<\\/").replace("<!--", "<\\!--")


def _about(run: Run) -> str:
    """Return the title of the rules and the span of the tape in a line."""
    title = str(run.manifest["rules"].get("resolved", {}).get("title", ""))
    first, last = run.manifest["span"]["from"], run.manifest["span"]["until"]
    if first is None or last is None:
        span = "no events"
    else:
        begin, end = (format_time(ns)[:16].replace("T", " ") for ns in (first, last))
        span = f"{begin} to {end[11:] if begin[:10] == end[:10] else end} UTC"
    return f"{title}. {span}" if title else span


def _tiles(facts: Facts) -> str:
    """Return the headline numbers: how much, where it went, who was hit, what stayed unpaid, and when."""
    row = facts.headline
    forced = row["forced"]
    first = {entry["stage"]: entry["ns"] for entry in facts.first}
    everybody = (
        f"{row['accounts']:,} of {row['all_accounts']:,} accounts, {row['liquidations']:,} liquidations"
    )
    tiles = [("", short(forced), "", "closed by force", everybody)]
    for stage, words in (("book", "into the book"), ("takeover", "taken over"), ("adl", "by ADL")):
        share = f"{100 * row[stage] / forced:.1f}" if forced else "-"
        when = f"first at {_clock(first[stage])}" if stage in first else "never engaged"
        tiles.append((stage, share, "%", words, when))
    closed = f"{short(row['adl'] + row['absorber_adl'])} closed"
    if row["absorber_adl"]:
        closed += f", {short(row['absorber_adl'])} of it against the absorber"
    tiles.append(("adl", f"{row['winners']:,}", "", "winners deleveraged", closed))
    tiles += _lowest(facts)[:1]
    unpaid = row["bad_debt"] or [{"currency": "", "amount": 0}]
    rest = [f"{short(entry['amount'])} {entry['currency']}" for entry in unpaid[1:]]
    more = f"and {', '.join(rest)}, that no fund or vault took" if rest else "that no fund or vault took"
    tiles.append(("bad_debt", short(unpaid[0]["amount"]), unpaid[0]["currency"], "unpaid: bad debt", more))
    return "\n".join(
        f'<div class="tile {stage}"><b>{escape(value)} <em>{escape(unit)}</em></b>'
        f"<span>{escape(label)}</span><small>{escape(more)}</small></div>"
        for stage, value, unit, label, more in tiles
    )


def _lowest(facts: Facts) -> list[tuple[str, str, str, str, str]]:
    """Return a tile per absorber and ledger with its lowest balance, the one that moved most often first."""
    paths: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in facts.balances:
        paths.setdefault((row["account"], row["currency"], row["dex"]), []).append(row)
    tiles = []
    for key in sorted(paths, key=lambda key: -len(paths[key])):
        low = min(paths[key], key=lambda row: (row["balance"], row["ns"]))
        when = f"at {_clock(low['ns'])}, from {short(paths[key][0]['balance'])}"
        tiles.append(("takeover", short(low["balance"]), key[1], f"lowest of {key[0]}", when))
    return tiles


def _winners(facts: Facts) -> str:
    if not facts.winners:
        return "<p>Nobody was deleveraged.</p>"
    head = (
        "account",
        "closed",
        "",
        "of the position",
        "markets",
        "worst rank",
        "leverage before",
        "equity before",
        "first",
    )
    most = max(row["value_closed"] for row in facts.winners)
    body = []
    for row in facts.winners:
        leverage = row["leverage_before"]
        cells = [
            escape(_short_name(row["account"])),
            f"{row['value_closed']:,.0f} {escape(row['currency'])}"
            if row["value_closed"] >= 1000
            else f"{row['value_closed']:,.4g} {escape(row['currency'])}",
            f'<i style="width:{100 * row["value_closed"] / most:.1f}%"></i>',
            f"{100 * row['share_closed']:.0f} %",
            escape(row["markets"].replace("+", ", ")),
            f"{row['first_rank']:,}",
            "-" if leverage is None else f"{leverage:.1f}×",
            f"{row['equity_before']:,.0f}",
            _clock(_ns(row["first_ts"])),
        ]
        body.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{name}</th>" for name in head)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _small_print(run: Run) -> str:
    """Return coverage first, then every assumption, then conservation and effort."""
    summary = summarise(run)
    lines = [line.text for line in summary.small_print if line.label == "coverage"]
    sentences: Sequence[str] = run.manifest["assumptions"]
    conserved = [line.text for line in summary.facts if line.label == "conserved"]
    switches = [line.text for line in summary.facts if line.label == "switches"]
    parts = [f"<p><b>Coverage.</b> {escape(_capital(text))}.</p>" for text in lines]
    parts += [f"<p><b>Switches.</b> {escape(text)}</p>" for text in switches]
    parts.append(
        "<p><b>Units.</b> Forced flow and ADL are in the quote currency: value of linear contracts, size × "
        "multiplier of inverse ones, summed as if all quote currencies were one. Bad debt in coin is in the "
        "tile, not in the chart. What an absorber took counts once, as taken over; what became of it then is "
        "shown apart. Balances are known where something moved them.</p>"
    )
    parts += [f"<p><b>Books.</b> {escape(_capital(text))}.</p>" for text in conserved]
    items = "".join(f"<li>{escape(_capital(text))}</li>" for text in sentences)
    parts.append(f"<details open><summary>Assumptions ({len(sentences)})</summary><ul>{items}</ul></details>")
    return "\n".join(parts)


def _short_name(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:10]}…{name[-6:]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clock(ns: int) -> str:
    return format_time(ns // 10**9 * 10**9)[11:19]


def _ns(moment: Any) -> int:
    """Return ns of a timestamp as Arrow gives it: a datetime or a pandas timestamp."""
    return int(moment.value) if hasattr(moment, "value") else int(moment.timestamp() * 10**9)
