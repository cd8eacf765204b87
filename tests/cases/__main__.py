"""python -m tests.cases FILE: run published cases through the product's functions; exit 1 if one fails."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cases.case import read_cases
from tests.cases.runner import run_case, summary


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: python -m tests.cases FILE   (for example ../shared/cases/cases.json)", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        cases = read_cases(Path(arguments[0]))
    except (OSError, ValueError, KeyError, TypeError) as failure:
        print(f"{arguments[0]}: not a file of cases: {failure!r}", file=sys.stderr)
        return 1
    outcomes = [run_case(case) for case in cases]
    for outcome in outcomes:
        print(outcome.line())
    print(summary(outcomes))
    return int(any(outcome.verdict == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
