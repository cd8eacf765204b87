"""Why an account was liquidated, deleveraged or spared: the rows of a run as a story in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from replay.analysis.moments import Arithmetic, arithmetic
from replay.errors import RunError, suggest
from replay.run.sql import connect
from replay.run.store import Run
from replay.units import format_time

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to the account at a moment.

    Attributes:
        ts: The step, in ns.
        what: ``breach``, ``book``, ``takeover``, ``adl``, ``bad debt`` or ``end`` (of a liquidation).
        text: In one sentence, with its numbers.
    """

    ts: int
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The story of one account.

    Attributes:
        account: Its name.
        verdict: ``liquidated``, ``deleveraged``, ``both`` or ``spared``.
        answer: The answer in one or two sentences.
        steps: What happened, by time.
        standing: What it is left with at the end, or where it came closest if it was spared.
        arithmetic: Its margin at each breach, at the last sample before it was deleveraged, or where it came
            closest; or at the one moment that was asked for.
        differences: Why an exchange's own display may show other figures.
    """

    account: str
    verdict: str
    answer: tuple[str, ...]
    steps: tuple[Step, ...]
    standing: tuple[str, ...]
    arithmetic: tuple[Arithmetic, ...]
    differences: tuple[str, ...]


def explain(run: Run, account: str, market: str | None = None, *, at: int | None = None) -> Explanation:
    """Tell what the waterfall did to an account and why.

    Args:
        run: The run.
        account: Name of the account.
        market: Only what happened in this market.
        at: Work the margin out at the last moment that the run keeps at or before this one, in ns, instead of
            those of the story.

    Raises:
        RunError: The run has no such account or market, or keeps no moment of it so early.
    """
    connection = connect(run)
    try:
        _check(connection, run, account, market)
        asked = _Asked(connection, account, market)
        steps = sorted(
            [*_breaches(asked), *_orders(asked), *_winnings(asked), *_losses(asked), *_debts(asked)],
            key=lambda step: (step.ts, step.what == "end"),
        )
        kinds = {step.what for step in steps}
        liquidated, deleveraged = "breach" in kinds, "adl" in kinds and bool(asked.rows(_WON))
        verdict = {
            (True, True): "both",
            (True, False): "liquidated",
            (False, True): "deleveraged",
            (False, False): "spared",
        }[liquidated, deleveraged]
        sheets, why = arithmetic(connection, run, account, market, at)
        standing = (*_closest(asked), *_left(asked))
        return Explanation(account, verdict, _answer(asked, verdict), tuple(steps), standing, sheets, why)
    finally:
        connection.close()


class _Asked:
    """A run asked about one account, and if wanted one market."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, account: str, market: str | None) -> None:
        self._connection = connection
        self.account = account
        self._market = market

    def rows(self, statement: str) -> list[Row]:
        """Return rows of a statement over $account and $market (null: all)."""
        parameters = {
            name: value
            for name, value in (("account", self.account), ("market", self._market))
            if f"${name}" in statement
        }
        rows: list[Row] = self._connection.sql(statement, params=parameters).to_arrow_table().to_pylist()
        return rows


def _check(connection: duckdb.DuckDBPyConnection, run: Run, account: str, market: str | None) -> None:
    names = run.account_names
    if account not in names:
        mend = suggest(account, names, 'replay sql RUN "FROM accounts" lists them')
        raise RunError(f"the run has no account {account!r}", file=run.path, key="--account", mend=mend)
    if market is not None and market not in run.market_names:
        mend = f"its markets are {', '.join(run.market_names)}"
        raise RunError(f"the run has no market {market!r}", file=run.path, key="--market", mend=mend)


_HERE = "account = $account AND ($market IS NULL OR market = $market)"
_UNIT = "m.multiplier * CASE m.payoff WHEN 'inverse' THEN -1 / f.mark ELSE f.mark END"

_WON = f"""
    SELECT epoch_ns(f.ts) AS ts, f.market, f.currency, sum(f.quantity) AS quantity,
           arg_min(f.winner_size_before, f.seq) AS before, arg_max(f.winner_size_after, f.seq) AS after,
           min(f.rank) AS rank, any_value(f.candidates) AS candidates, any_value(f.score) AS score,
           any_value(f.lights) AS lights, any_value(f.mark) AS mark,
           abs(sum(f.value)) AS value, sum(f.realised) AS realised, sum(f.winner_fee) AS fee,
           -- the loser's part at the mark, less what it was closed for
           sum(sign(f.loser_size_before) * f.quantity * {_UNIT} - f.value) AS over_mark,
           any_value(m.multiplier) AS multiplier, any_value(m.payoff) AS payoff,
           string_agg(DISTINCT f.loser, ', ' ORDER BY f.loser) AS losers, count(DISTINCT f.loser) AS many
    FROM adl_fills AS f JOIN markets AS m ON m.market = f.market
    WHERE f.winner = $account AND ($market IS NULL OR f.market = $market)
    GROUP BY f.ts, f.market, f.currency ORDER BY f.ts, f.market
"""
_LOST = """
    SELECT epoch_ns(ts) AS ts, market, currency, sum(quantity) AS quantity, any_value(mark) AS mark,
           abs(sum(value)) AS value, count(*) AS pieces, any_value(origin) AS origin,
           arg_min(loser_size_before, seq) AS before
    FROM adl_fills WHERE loser = $account AND ($market IS NULL OR market = $market)
    GROUP BY ts, market, currency ORDER BY ts, market
"""


def _breaches(asked: _Asked) -> list[Step]:
    rows = asked.rows(
        "SELECT epoch_ns(ts) AS ts, epoch_ns(ts_end) AS ts_end, liquidation, market, mode, currency, size, "
        "mark, equity, maintenance, bankruptcy_value, shortfall, surplus FROM liquidations "
        f"WHERE {_HERE} ORDER BY ts, liquidation, market"
    )
    steps = []
    ended: set[int] = set()
    for row in rows:
        ratio = f", {100 * row['equity'] / row['maintenance']:.1f} % of it" if row["maintenance"] else ""
        steps.append(
            Step(
                row["ts"],
                "breach",
                f"{_position(row['size'], row['market'])} ({row['mode']}) at mark {_number(row['mark'])}: "
                f"equity {_money(row['equity'], row)} is below the maintenance of "
                f"{_money(row['maintenance'], row)}{ratio}; bankrupt at a value of "
                f"{_money(abs(row['bankruptcy_value']), row)}",
            )
        )
        if row["ts_end"] is not None and row["liquidation"] not in ended:
            ended.add(row["liquidation"])
            steps.append(Step(row["ts_end"], "end", "the liquidation ends: the pool is restored or flat"))
    return steps


def _orders(asked: _Asked) -> list[Step]:
    rows = asked.rows(
        "SELECT epoch_ns(f.ts) AS ts, f.stage, f.market, m.currency, f.asked, f.filled, f.limit_price, "
        "f.value, f.mark, f.reason, m.multiplier, m.payoff FROM forced_orders AS f JOIN markets AS m "
        f"ON m.market = f.market WHERE f.{_HERE.replace('market =', 'f.market =')} ORDER BY f.seq"
    )
    steps = []
    for row in rows:
        verb = "sell" if row["asked"] < 0 else "buy"
        limit = f" at {_number(row['limit_price'])} or better" if row["limit_price"] is not None else ""
        filled = (
            f"{_number(abs(row['filled']))} done at {_number(_price(row, abs(row['filled'])))}"
            if row["filled"]
            else "nothing done"
        )
        steps.append(
            Step(
                row["ts"],
                row["stage"],
                f"{verb} {_number(abs(row['asked']))} {row['market']}{limit}: {filled} "
                f"(mark {_number(row['mark'])}); {row['reason']}",
            )
        )
    return steps


def _winnings(asked: _Asked) -> list[Step]:
    steps = []
    for row in asked.rows(_WON):
        over = row["over_mark"]
        against = (
            "the price is the mark"
            if abs(over) < 0.005 * max(1e-6, row["value"]) * 1e-6
            else f"{_money(abs(over), row)} {'better' if over > 0 else 'worse'} for it than the mark"
        )
        losers = row["losers"] if row["many"] <= 3 else f"{row['many']} losers"
        steps.append(
            Step(
                row["ts"],
                "adl",
                f"rank {row['rank']:,} of {row['candidates']:,} ({row['lights']} lights, score "
                f"{row['score']:.4g}): {_number(row['quantity'])} of its "
                f"{_position(row['before'], row['market'])} closed against {losers} at "
                f"{_number(_price(row, row['quantity']))}, mark {_number(row['mark'])}: {against}; "
                f"{_money(row['realised'], row)} realised",
            )
        )
    return steps


def _losses(asked: _Asked) -> list[Step]:
    return [
        Step(
            row["ts"],
            "adl",
            f"{_number(row['quantity'])} of its {_position(row['before'], row['market'])} closed against "
            f"winners for {_money(row['value'], row)} (mark {_number(row['mark'])}), because no stage before "
            "could",
        )
        for row in asked.rows(_LOST)
    ]


def _debts(asked: _Asked) -> list[Step]:
    return [
        Step(row["ts"], "bad debt", f"{_money(row['amount'], row)} that nobody paid")
        for row in asked.rows(
            "SELECT epoch_ns(ts) AS ts, currency, amount FROM shared_losses WHERE account = $account "
            "ORDER BY seq"
        )
    ]


def _answer(asked: _Asked, verdict: str) -> tuple[str, ...]:
    """Answer "would it have been closed?" first, then what that did to its exposure."""
    if verdict == "spared":
        return (f"No: {asked.account} was neither liquidated nor deleveraged.",)
    sentences = []
    won = asked.rows(_WON)
    for market in dict.fromkeys(row["market"] for row in won):
        mine = [row for row in won if row["market"] == market]
        closed, before = sum(row["quantity"] for row in mine), mine[0]["before"]
        sentences.append(
            f"Yes: {_number(closed)} of its {_position(before, market)} {_were(closed)} closed by "
            f"auto-deleveraging, first at {_clock(mine[0]['ts'])} from rank {mine[0]['rank']:,} of "
            f"{mine[0]['candidates']:,}."
        )
    for row in asked.rows(
        "SELECT epoch_ns(min(ts)) AS ts, market, arg_min(size, ts) AS size, sum(netted) AS netted, "
        "sum(book) AS book, "
        f"sum(absorbed) AS absorbed, sum(adl) AS adl FROM liquidations WHERE {_HERE} "
        "GROUP BY market ORDER BY 1, 2"
    ):
        parts = [
            f"{_number(row[key])} {what}"
            for key, what in (
                ("netted", "against its own hedge"),
                ("book", "into the book"),
                ("absorbed", "taken over"),
                ("adl", "deleveraged as a loser"),
            )
            if row[key]
        ]
        sentences.append(
            f"Yes: its {_position(row['size'], row['market'])} came into liquidation at {_clock(row['ts'])}: "
            f"{', '.join(parts) or 'nothing was closed'}."
        )
    return (*sentences, *_exposure(asked))


def _exposure(asked: _Asked) -> list[str]:
    """Compare its net exposure before the first closing and after the last, where it was sampled."""
    rows = asked.rows(
        """
        WITH hits AS (
            SELECT ts FROM adl_fills WHERE winner = $account
            UNION ALL SELECT ts FROM forced_orders WHERE account = $account AND filled <> 0
        ),
        span AS (SELECT min(ts) AS first, max(ts) AS last FROM hits),
        around AS (
            SELECT (SELECT max(ts) FROM account_series, span
                    WHERE account = $account AND ts < first) AS before,
                   (SELECT min(ts) FROM market_series, span WHERE ts >= last) AS after
        )
        SELECT s.ts = around.before AS is_before, epoch_ns(s.ts) AS ts, s.market,
               s.size * m.multiplier * CASE m.payoff WHEN 'inverse' THEN 1 ELSE s.mark END AS exposure
        FROM account_series AS s JOIN markets AS m ON m.market = s.market, around
        WHERE s.account = $account AND (s.ts = around.before OR s.ts = around.after)
        """
    )
    before = [row for row in rows if row["is_before"]]
    if not before:
        return []
    after = [row for row in rows if not row["is_before"]]
    was, now = sum(row["exposure"] for row in before), sum(row["exposure"] for row in after)
    gross = sum(abs(row["exposure"]) for row in before)
    sides = {row["exposure"] > 0 for row in before}
    legs = "hedged" if len(sides) == 2 and abs(was) < gross / 2 else "exposed"
    kept = ", ".join(sorted(row["market"] for row in after)) or "nothing"
    return [
        f"It was {legs}: {was:+,.0f} net of {gross:,.0f} gross at {_clock(before[0]['ts'])}; "
        f"afterwards it held {kept}, {now:+,.0f} net."
    ]


def _closest(asked: _Asked) -> list[str]:
    """Say where it stood closest to being hit, where it was sampled."""
    ranks = asked.rows(
        "SELECT market, epoch_ns(arg_min(ts, rank / candidates)) AS ts, "
        "arg_min(rank, rank / candidates) AS rank, arg_min(candidates, rank / candidates) AS candidates, "
        "max(lights) AS lights FROM account_series "
        f"WHERE rank IS NOT NULL AND {_HERE} GROUP BY market ORDER BY market"
    )
    texts = [
        f"closest to the head of the queue in {row['market']}: rank {row['rank']:,} of "
        f"{row['candidates']:,} at {_clock(row['ts'])}, {row['lights']} lights at the most"
        for row in ranks
    ]
    margins = asked.rows(
        "SELECT epoch_ns(arg_min(ts, equity / maintenance)) AS ts, min(equity / maintenance) AS ratio "
        f"FROM account_series WHERE maintenance > 0 AND {_HERE} HAVING count(*) > 0"
    )
    texts += [
        f"lowest margin that was sampled: equity of {row['ratio']:.2f} x maintenance at {_clock(row['ts'])}"
        for row in margins
    ]
    return texts


def _left(asked: _Asked) -> list[str]:
    held = asked.rows(
        "SELECT p.market, p.size, p.value, p.cost, m.currency FROM positions_end AS p JOIN markets AS m "
        "ON m.market = p.market WHERE p.account = $account AND p.size <> 0 ORDER BY abs(p.value) DESC"
    )
    cash = asked.rows(
        "SELECT currency, sum(cash) AS cash, sum(equity) AS equity FROM accounts_end "
        "WHERE account = $account GROUP BY currency HAVING sum(cash) <> 0 OR sum(equity) <> 0 "
        "ORDER BY currency"
    )
    texts = [
        f"at the end: {_position(row['size'], row['market'])}, profit "
        f"{_money(row['value'] - row['cost'], row)}"
        for row in held
    ]
    texts += [
        f"at the end: cash {_money(row['cash'], row)}"
        + ("" if row["equity"] is None else f", equity {_money(row['equity'], row)}")
        for row in cash
    ]
    return texts or ["at the end: nothing"]


def _price(row: Row, quantity: float) -> float:
    value, contracts = abs(row["value"]), quantity * row["multiplier"]
    return float(contracts / value if row["payoff"] == "inverse" else value / contracts) if value else 0.0


def _position(size: float, market: str) -> str:
    return f"{_number(abs(size))} {market} {'long' if size > 0 else 'short'}"


def _were(quantity: float) -> str:
    return "was" if quantity == 1 else "were"


def _number(value: float) -> str:
    return f"{value:,.10g}" if abs(value) < 1 else f"{value:,.8g}" if value != int(value) else f"{value:,.0f}"


def _money(value: float, row: Row) -> str:
    digits = 2 if abs(value) >= 1 or value == 0 else 6
    return f"{value:,.{digits}f} {row['currency']}"


def _clock(ts: int) -> str:
    return format_time(ts)
