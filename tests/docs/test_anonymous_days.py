"""docs/anonymous-days.md states the model as it is: its options and their defaults are those of the program."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from replay.cli.populate import populate_
from replay.tape.populate import Population
from replay.tape.prices import BASIS_SECONDS, OUTLIER_PERCENT, STALE_SECONDS

GUIDE = (Path(__file__).parents[2] / "docs" / "anonymous-days.md").read_text()
ROW = re.compile(r"^\| `--([a-z-]+)` \| ([\d.,]+) \|", re.MULTILINE)


def test_the_table_of_options_is_that_of_the_model() -> None:
    stated = {name.replace("-", "_"): float(value.replace(",", "")) for name, value in ROW.findall(GUIDE)}
    options = {option.name for option in populate_.params} - {"tape", "out", "force"}
    assert stated == {field.name: field.default for field in fields(Population) if field.name in options}


def test_what_has_no_option_is_stated_too() -> None:
    model = Population()
    assert f"| (`tail`) | {model.tail} |" in GUIDE
    assert f"{model.makers} of them market makers" in GUIDE
    assert f"log-normal ({model.leverage_spread}), between 1 and {model.most_leverage:g}" in GUIDE
    assert f"a move of {model.stress_percent:g} % within a minute" in GUIDE


def test_the_guards_of_prices_are_those_of_the_program() -> None:
    assert f"not older than {STALE_SECONDS} s" in GUIDE
    assert f"more than {OUTLIER_PERCENT} % from the median" in GUIDE
    assert f"smoothed over {BASIS_SECONDS} s" in GUIDE
