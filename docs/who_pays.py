"""Write docs/who-pays-what.md: the built-in crash day under every rule book that is no draft.

``python docs/who_pays.py`` takes about a minute; :func:`table` makes the rows of some rule books.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

import replay
from replay.cli.comparing import compare
from replay.rules import list_rules

ROOT = Path(__file__).parents[1]

HEAD = """# Who pays what

The built-in crash day (`replay import demo-crash`) under every rule book that is no draft. Accounts, trades, marks and
depth are the same in every line; who is liquidated, in what order, and who pays for what is lost is up to the rules.
Contracts settled in the dollar coin of the day; values at the price at which they changed hands.

"""

TAIL = """
`in the book`, `taken over` and `in ADL` are values that changed hands; what a fund took over and sold on is in the
second. The last four are what was lost beyond the equity of those liquidated, and who bore it. Names of funds and
vaults on the tape are `@fund:insurance` and `@vault:liquidator`: a rule book whose absorber is called otherwise begins
with nothing, and a rule book without one has nobody to pay. What a rule book assumes stands in `replay rules show`.

Made by `python docs/who_pays.py`, which runs each rule book and then `replay compare`.
"""


def table(names: Sequence[str]) -> str:
    """Return the Markdown table of `replay compare` over runs of the built-in day under rule books."""
    with tempfile.TemporaryDirectory() as folder:
        tape = replay.import_source(
            "demo-crash", [ROOT / "datasets" / "demo-crash" / "dataset.toml"], Path(folder) / "tape"
        )
        runs = []
        for name in names:
            runs.append(Path(folder) / name)
            replay.run_replay(tape, replay.load_rules(name), runs[-1], liquidations="rules")
        made = CliRunner().invoke(compare, [*map(str, runs), "--format", "markdown"], catch_exceptions=False)
        return made.stdout


def main() -> None:
    """Write the page."""
    names = [rule_file.name for rule_file in list_rules() if rule_file.status == "final"]
    page = HEAD + table(names) + TAIL
    (ROOT / "docs" / "who-pays-what.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
