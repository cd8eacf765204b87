"""Runs side by side: who paid what, in one currency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from replay.errors import RunError
from replay.run.sql import query
from replay.run.store import Run


class Paid(NamedTuple):
    """Who paid what in a run, in one settle currency.

    Attributes:
        rules: Name of the rule book.
        liquidations: Liquidations.
        book: Value that forced orders sold or bought in the book.
        taken_over: Value that funds and vaults took over, as they booked it.
        adl: Value closed against winners.
        winners: Accounts of winners that were closed.
        fund: What funds paid beyond equity.
        vault: What vaults bore beyond equity.
        socialised: What other accounts paid.
        bad_debt: What nobody paid.
    """

    rules: str
    liquidations: int
    book: float
    taken_over: float
    adl: float
    winners: int
    fund: float
    vault: float
    socialised: float
    bad_debt: float


_PAID = """
WITH forced AS (
    SELECT f.stage, abs(f.value) AS value
    FROM forced_orders AS f JOIN markets AS m ON m.market = f.market WHERE m.currency = {currency}
), adl AS (
    SELECT winner, abs(value) AS value FROM adl_fills WHERE currency = {currency}
)
SELECT
    count(DISTINCT liquidation),
    (SELECT coalesce(sum(value), 0) FROM forced WHERE stage = 'book'),
    (SELECT coalesce(sum(value), 0) FROM forced WHERE stage = 'takeover'),
    (SELECT coalesce(sum(value), 0) FROM adl),
    (SELECT count(DISTINCT winner) FROM adl),
    coalesce(sum(fund), 0), coalesce(sum(vault), 0), coalesce(sum(socialised), 0), coalesce(sum(bad_debt), 0)
FROM liquidations WHERE currency = {currency}
"""


def who_pays(runs: Sequence[Run], currency: str | None = None) -> tuple[str, list[Paid]]:
    """Return who paid what in each of several runs, in one currency.

    Args:
        runs: Runs with liquidations by the rules, of one tape.
        currency: The settle currency; None: that in which the first run has most liquidations.

    Returns:
        The currency, and a row for each run.

    Raises:
        RunError: Runs of several tapes, or no liquidations in the currency.
    """
    tapes = {run.manifest["tape"]["sha256"] for run in runs}
    if len(tapes) > 1:
        raise RunError(
            "the runs are of several tapes", mend="compare runs of one tape: rules differ, the day does not"
        )
    if currency is None:
        most = (
            query(
                runs[0],
                "SELECT currency FROM liquidations GROUP BY ALL ORDER BY count(*) DESC, currency LIMIT 1",
            )
            .table()
            .to_pylist()
        )
        if not most:
            raise RunError(
                "the run has no liquidations", file=runs[0].path, mend="run with --liquidations rules"
            )
        currency = str(most[0]["currency"])
    rows = [_paid(run, currency) for run in runs]
    if not any(row.liquidations for row in rows):
        raise RunError(
            f"no run has liquidations in {currency}",
            mend="name a settle currency of the tape, or leave it out",
        )
    return currency, rows


def _paid(run: Run, currency: str) -> Paid:
    quoted = "'" + currency.replace("'", "''") + "'"
    (row,) = query(run, _PAID.format(currency=quoted)).table().to_pylist()
    return Paid(run.manifest["rules"]["name"], *row.values())
