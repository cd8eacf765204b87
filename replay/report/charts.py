"""The charts of the page as plotly figures in plain JSON.

One colour means one stage of the waterfall, in every chart; lines of markets have colours of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from replay.report.facts import Facts, Row

Figure = dict[str, Any]

STAGES: dict[str, tuple[str, str]] = {
    "book": ("sold into the book", "#3b7dd8"),
    "takeover": ("taken over", "#f0a92e"),
    "adl": ("ADL", "#d6404e"),
    "left": ("left open: recovered, or the tape ended", "#c3c9d2"),
    "socialised": ("shared over others", "#7a4fb5"),
    "bad_debt": ("unpaid: bad debt", "#17121f"),
}
"""Stage -> words and colour."""

_MARKET_LINES = ("#334155", "#0d9488", "#8b5cf6")
_PANEL, _GAP, _LANE = 135, 46, 21
"""Heights in px of a balance, of what is between panels, and of a market's lane."""
_INK, _FAINT, _GRID = "#1f2937", "#6b7280", "#e8ebf0"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def market_and_flow(facts: Facts) -> Figure:
    """Marks of the most hit markets above, forced flow by stage below, on one clock."""
    data: list[Figure] = []
    for number, market in enumerate(dict.fromkeys(row["market"] for row in facts.marks)):
        rows = [row for row in facts.marks if row["market"] == market]
        start = rows[0]["mark"]
        colour = _MARKET_LINES[number % len(_MARKET_LINES)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines" if facts.marks_from_tape else "lines+markers",
                "marker": {"size": 4},
                "name": escape(market),
                "x": _times(row["ns"] for row in rows),
                "y": [100 * row["mark"] / start - 100 for row in rows],
                "customdata": [row["mark"] for row in rows],
                "hovertemplate": "%{y:+.1f} % (%{customdata:,.6~g})",
                "line": {"color": colour, "width": 2},
                "yaxis": "y2",
                "showlegend": False,
            }
        )
    annotations = _line_ends(data, facts)
    for stage in ("book", "takeover", "adl", "socialised", "bad_debt"):
        rows = [row for row in facts.flow if row["stage"] == stage]
        if rows:
            data.append(
                {
                    "type": "bar",
                    "name": STAGES[stage][0],
                    "x": _times(row["ns"] + facts.bin_ns // 2 for row in rows),
                    "y": [row["value"] for row in rows],
                    "width": facts.bin_ns / 1e6,
                    "marker": {"color": STAGES[stage][1], "line": {"width": 0}},
                    "hovertemplate": "%{y:,.3s}",
                }
            )
    seen = _first_engagements(facts)
    annotations += [
        _note(
            f"first {'ADL' if row['stage'] == 'adl' else row['stage']} {_time(row['ns'])[11:19]}",
            x=_time(row["ns"]), y=0.575, yref="paper", xref="x", yanchor="middle",
            xanchor="right" if row["stage"] == "takeover" else "left", colour=STAGES[row["stage"]][1],
        )
        for row in seen
    ]  # fmt: skip
    layout = _layout(facts)
    layout |= {
        "barmode": "stack",
        "bargap": 0,
        "annotations": annotations,
        "margin": {"l": 96, "r": 104, "t": 40, "b": 42},
        "shapes": [_moment(row) for row in seen],
        "yaxis": _axis("forced per " + _width(facts.bin_ns), domain=[0, 0.54], tickformat="~s"),
        "yaxis2": _axis("mark, change in %", domain=[0.6, 1], tickformat="+d", zeroline=True),
    }
    return {"data": data, "layout": layout}


def absorber_path(facts: Facts) -> Figure:
    """The balance of each fund or vault, the lines that start deleveraging, and where it was on."""
    paths: dict[tuple[str, str, str], list[Row]] = {}
    for row in facts.balances:
        paths.setdefault((row["account"], row["currency"], row["dex"]), []).append(row)
    shown = sorted(paths, key=lambda key: -len(paths[key]))[:3]
    markets = _adl_markets(facts)
    inner = absorber_height(facts) - 84
    data: list[Figure] = []
    layout = _layout(facts)
    shapes: list[Figure] = []
    annotations: list[Figure] = []
    for number, key in enumerate(shown):
        axis = "" if number == 0 else str(number + 1)
        top = 1 - number * (_PANEL + _GAP) / inner
        most = max(abs(row["balance"]) for row in paths[key])
        layout[f"yaxis{axis}"] = _axis(
            key[1],
            domain=[max(0, top - _PANEL / inner), top],
            tickformat="~s" if most >= 1e3 else ".3~g",
            nticks=5,
        )
        data.append(_balance_line(key, paths[key], facts, axis))
        shapes.append(_level(0, f"y{axis}", "#1f2937", "solid"))
        annotations.append(
            _note(f"<b>{escape(key[0])}</b>, {escape(key[1])}", x=0, y=top, xref="paper", yref="paper")
        )
        line = _drawdown_line(key, paths[key], facts.triggers)
        if line is not None:
            level, share = line
            shapes.append(_level(level, f"y{axis}", STAGES["adl"][1], "dash"))
            annotations.append(
                _note(
                    f"ADL line: -{share:.0f} % of the peak",
                    x=0.005, y=level, xref="paper", yref=f"y{axis}", yanchor="top", colour=STAGES["adl"][1],
                )
            )  # fmt: skip
    if markets:
        axis = str(len(shown) + 1)
        layout[f"yaxis{axis}"] = {
            **_axis("", domain=[0, _LANE * len(markets) / inner]),
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [escape(market) for market in markets[::-1]],
            "range": [-0.7, len(markets) - 0.3],
            "tickfont": {"size": 11},
            "dtick": 1,
        }
        data += _on_spans(facts, markets, axis)
        data += _adl_dots(facts, markets, axis)
    layout["margin"] = {"l": 96, "r": 104, "t": 48, "b": 36}
    layout["legend"] |= {"y": 1 + 22 / inner}
    layout |= {"shapes": shapes, "annotations": annotations, "hovermode": "closest"}
    return {"data": data, "layout": layout}


def absorber_height(facts: Facts) -> int:
    """Return the height in px that :func:`absorber_path` is made for."""
    paths = {(row["account"], row["currency"], row["dex"]) for row in facts.balances}
    return 84 + min(3, len(paths)) * (_PANEL + _GAP) + _LANE * len(_adl_markets(facts))


def _adl_markets(facts: Facts) -> list[str]:
    """Return the markets with deleveraging, in the order of the split."""
    hit = {row["market"] for row in facts.adl_times} | {row["market"] for row in facts.triggers}
    return [row["market"] for row in facts.split if row["market"] in hit]


def split_by_market(facts: Facts) -> Figure:
    """How each market's liquidated quantity was shared out."""
    rows = [row for row in facts.split if row["market"] != "all"]
    names = [escape(row["market"]) for row in rows]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": STAGES[stage][0],
            "y": names,
            "x": [row[column] for row in rows],
            "marker": {"color": STAGES[stage][1]},
            "hovertemplate": "%{x:.1f} %",
        }
        for stage, column in (
            ("book", "book_pct"),
            ("takeover", "absorbed_pct"),
            ("adl", "adl_pct"),
            ("left", "left_pct"),
        )
    ]
    annotations = [
        _note(
            f"{short(row['notional'])} {escape(row['currency'])}",
            x=101, y=name, xref="x", yref="y", xanchor="left", yanchor="middle",
        )
        for name, row in zip(names, rows, strict=True)
    ]  # fmt: skip
    layout = _layout(None)
    layout |= {
        "barmode": "stack",
        "bargap": 0.28,
        "annotations": annotations,
        "xaxis": _axis(
            "",
            range=[0, 118],
            tickvals=[0, 25, 50, 75, 100],
            ticktext=["0", "25 %", "50 %", "75 %", "100 %"],
            showgrid=False,
        ),
        "yaxis": {
            **_axis(""),
            "autorange": "reversed",
            "automargin": True,
            "showgrid": False,
            "ticksuffix": "  ",
        },
        "hovermode": "y unified",
    }
    return {"data": data, "layout": layout}


def by_rank(facts: Facts) -> Figure:
    """Value closed by place in the queue."""
    tenths = [f"{n}0 %" for n in range(1, 11)]
    values = {row["decile"]: row for row in facts.ranks}
    return _bars(
        tenths,
        [values.get(n, {"value": 0, "accounts": 0}) for n in range(10)],
        "place in the queue of winners: the first 10 %, the next, ...",
    )


def by_leverage(facts: Facts) -> Figure:
    """Value closed by leverage of the winner, in fifths of the accounts that were closed."""
    labels = [f"{row['least']:.1f} to {row['most']:.1f}×" for row in facts.leverages]
    return _bars(labels, facts.leverages, "leverage of the winner before, a fifth of them each")


def _bars(labels: Sequence[str], rows: Sequence[Row], title: str) -> Figure:
    layout = _layout(None)
    layout |= {
        "xaxis": {
            **_axis(title),
            "type": "category",
            "showgrid": False,
            "automargin": True,
            "tickangle": 0,
            "tickfont": {"size": 11, "color": _FAINT},
        },
        "yaxis": _axis("closed by ADL", tickformat="~s"),
        "bargap": 0.25,
        "showlegend": False,
        "hovermode": "x unified",
        "margin": {"l": 62, "r": 16, "t": 22, "b": 42},
    }
    bar = {
        "type": "bar",
        "x": list(labels),
        "y": [row["value"] for row in rows],
        "customdata": [row["accounts"] for row in rows],
        "text": [f"{row['accounts']:,}" if row["accounts"] else "" for row in rows],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"size": 11, "color": _FAINT},
        "marker": {"color": STAGES["adl"][1]},
        "hovertemplate": "%{y:,.3s} of %{customdata:,} accounts<extra></extra>",
    }
    return {"data": [bar], "layout": layout}


def _balance_line(key: tuple[str, str, str], rows: list[Row], facts: Facts, axis: str) -> Figure:
    times = [row["ns"] for row in rows]
    balances = [row["balance"] for row in rows]
    if facts.window is not None and times[-1] < facts.window[1]:
        times, balances = [*times, facts.window[1]], [*balances, balances[-1]]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape(key[0]),
        "x": _times(times),
        "y": balances,
        "line": {"color": STAGES["takeover"][1], "width": 2.2, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "rgba(240,169,46,0.14)",
        "yaxis": f"y{axis}",
        "showlegend": False,
        "hovertemplate": "%{x|%H:%M:%S}  %{y:,.2f}<extra></extra>",
    }


def _drawdown_line(
    key: tuple[str, str, str], path: list[Row], triggers: list[Row]
) -> tuple[float, float] | None:
    """Return the balance at which a single market's loss starts deleveraging, and its share of the peak."""
    for row in triggers:
        if (
            (row["scope"], row["currency"], row["dex"]) == key
            and row["state"] == "start"
            and row["threshold"]
        ):
            peak = max(point["balance"] for point in path if point["ns"] <= row["ns"])
            return peak + row["threshold"], -100 * row["threshold"] / peak
    return None


def _on_spans(facts: Facts, markets: list[str], axis: str) -> list[Figure]:
    """Return bars from each start of deleveraging to its stop."""
    begun: dict[str, Row] = {}
    spans: list[tuple[Row, int]] = []
    end = facts.window[1] if facts.window else 0
    for row in facts.triggers:
        if row["state"] == "start":
            begun.setdefault(row["market"], row)
        elif row["market"] in begun:
            spans.append((begun.pop(row["market"]), row["ns"]))
    spans += [(row, max(end, row["ns"])) for row in begun.values()]
    spans = [span for span in spans if span[0]["market"] in markets]
    if not spans:
        return []
    return [
        {
            "type": "bar",
            "orientation": "h",
            "name": "ADL switched on",
            "y": [escape(row["market"]) for row, _ in spans],
            "base": _times(row["ns"] for row, _ in spans),
            "x": [max(1, (stop - row["ns"]) / 1e6) for row, stop in spans],
            "width": 0.62,
            "customdata": [[_sentence(row)] for row, _ in spans],
            "hovertemplate": "%{y}: %{customdata[0]}<extra></extra>",
            "marker": {"color": "rgba(214,64,78,0.28)", "line": {"width": 0}},
            "yaxis": f"y{axis}",
        }
    ]


def _sentence(row: Row) -> str:
    return escape(
        f"{row['reason']}: {row['measured']:,.2f} against {row['threshold']:,.2f} {row['currency']}"
    )


def _adl_dots(facts: Facts, markets: list[str], axis: str) -> list[Figure]:
    """Return dots where positions were deleveraged, their area by value."""
    biggest = max((row["value"] for row in facts.adl_times), default=1)
    traces = []
    for of_absorber, name, symbol in (
        (False, "accounts against winners", "circle"),
        (True, "the absorber's own positions", "diamond-open"),
    ):
        rows = [
            row for row in facts.adl_times if row["of_absorber"] == of_absorber and row["market"] in markets
        ]
        if rows:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"ADL: {name}",
                    "x": _times(row["ns"] + facts.bin_ns // 2 for row in rows),
                    "y": [escape(row["market"]) for row in rows],
                    "customdata": [[row["value"], row["winners"]] for row in rows],
                    "marker": {
                        "color": STAGES["adl"][1],
                        "symbol": symbol,
                        "size": [5 + 15 * math.sqrt(row["value"] / biggest) for row in rows],
                        "opacity": 0.85,
                        "line": {"width": 1.6 if of_absorber else 0, "color": STAGES["adl"][1]},
                    },
                    "hovertemplate": "%{y} %{x|%H:%M:%S}: %{customdata[0]:,.3s} of %{customdata[1]} winners"
                    "<extra></extra>",
                    "yaxis": f"y{axis}",
                }
            )
    return traces


def _level_at(moment: str, line: Figure) -> float:
    """Return where a line stands at a moment: between its points, or at its nearest end."""
    points = list(zip(line["x"], line["y"], strict=True))
    after = next((i for i, (x, _) in enumerate(points) if x > moment), len(points))
    if after in (0, len(points)):
        return float(points[min(after, len(points) - 1)][1])
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    begin, here, end = (datetime.fromisoformat(x) for x in (x0, moment, x1))
    return float(y0 + (y1 - y0) * ((here - begin) / (end - begin)))


def _first_engagements(facts: Facts) -> list[Row]:
    """Return when absorber and ADL came first, as far as the window shows it."""
    if facts.window is None:
        return []
    first, last = facts.window
    return [row for row in facts.first if row["stage"] in ("takeover", "adl") and first < row["ns"] < last]


def _moment(row: Row) -> Figure:
    return {
        "type": "line", "xref": "x", "x0": _time(row["ns"]), "x1": _time(row["ns"]),
        "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": STAGES[row["stage"]][1], "width": 1.2, "dash": "dot"}, "layer": "below",
    }  # fmt: skip


def _line_ends(lines: list[Figure], facts: Facts) -> list[Figure]:
    """Name each line at its end, apart from its neighbours."""
    if facts.window is None or not lines:
        return []
    ends = [(_level_at(_time(facts.window[1]), line), line) for line in lines]
    every = [y for line in lines for y in line["y"]]
    gap = (max(every) - min(every)) * 0.1
    notes, below = [], -math.inf
    for level, line in sorted(ends, key=lambda end: end[0]):
        below = max(level, below + gap)
        notes.append(
            _note(f"<b>{line['name']}</b>", x=1.005, y=below, xref="paper", yref="y2", xanchor="left",
                  yanchor="middle", colour=line["line"]["color"])
        )  # fmt: skip
    return notes


def _layout(facts: Facts | None) -> Figure:
    layout: Figure = {
        "font": {"family": _FONT, "size": 13, "color": _INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 62, "r": 24, "t": 40, "b": 42},
        "legend": {
            "orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left",
            "yref": "paper", "traceorder": "normal",
        },
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#d5dae2", "font": {"size": 12}},
        "dragmode": "zoom",
    }  # fmt: skip
    if facts is not None:
        axis = _axis("", showgrid=True)
        axis |= {"type": "date", "hoverformat": "%Y-%m-%d %H:%M:%S", "anchor": "free", "position": 0}
        if facts.window is not None:
            axis["range"] = [_time(ns) for ns in facts.window]
        layout["xaxis"] = axis
    return layout


def _axis(title: str, **more: Any) -> Figure:
    return {
        "title": {"text": title, "font": {"size": 12, "color": _FAINT}, "standoff": 8},
        "gridcolor": _GRID,
        "zeroline": False,
        "zerolinecolor": "#b8bfca",
        "tickfont": {"size": 12, "color": _FAINT},
        "fixedrange": "domain" in more,
        **more,
    }


def _note(text: str, *, colour: str = _FAINT, **place: Any) -> Figure:
    return {
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": colour},
        "text": text,
        **place,
    }


def _level(level: float, axis: str, colour: str, dash: str) -> Figure:
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": level, "y1": level,
        "line": {"color": colour, "width": 1.2, "dash": dash},
    }  # fmt: skip


def _time(ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1_000)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _times(moments: Iterable[int]) -> list[str]:
    return [_time(ns) for ns in moments]


def _width(bin_ns: int) -> str:
    seconds = bin_ns // 10**9
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count} {unit}s"
    raise AssertionError(bin_ns)


def short(value: float) -> str:
    """Write a number in few characters: 37.5 M, 412 k, 208, 0.0000831."""
    for size, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.3g}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"
