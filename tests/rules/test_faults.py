"""Whatever a file or an override holds, the outcome is a rule book or one RulesError."""

from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import RulesError
from replay.rules import compile_rules, load_file
from tests.rules.books import LEVELS, STATIC, WHOLE, changed

FILE = changed(LEVELS, STATIC, WHOLE)
LINES = FILE.splitlines()
SETTINGS = [number for number, line in enumerate(LINES) if " = " in line]
KEYS = sorted({line.partition(" = ")[0] for line in LINES if " = " in line})
VALUES = st.sampled_from(
    [
        "true",
        "1",
        "-1",
        "0.5",
        "nan",
        "1e999",
        '"x"',
        '""',
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "[1, 2]",
        "{a = 1}",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "00:00:00",
        "0xffff",
        '"mark"',
        '"0.01"',
        '"2/3"',
        '"/"',
        '"8h"',
        '"1e999s"',
        '"none"',
        '"levels"',
        '"book_order"',
        '"full"',
        "'\\'",
        '"\\u0000"',
    ]
)


def outcome(path, overrides=()):
    try:
        book = load_file(path, overrides=overrides)
        compile_rules(book, (), (), accept_assumptions=True)
    except RulesError as error:
        return error
    return None


def is_clear(error):
    """Whether there is no error, or one with a problem and at most one line of remedy, all printable."""
    if error is None:
        return True
    return (
        bool(error.problem)
        and len(str(error).split("\n  ")) <= 2
        and str(error).replace("\n  ", "").isprintable()
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SETTINGS), st.sampled_from(KEYS) | st.none(), VALUES), max_size=4))
def test_settings_at_random(tmp_path_factory, edits):
    lines = list(LINES)
    for number, key, value in edits:
        lines[number] = f"{key or LINES[number].partition(' = ')[0]} = {value}"
    path = tmp_path_factory.getbasetemp() / "random.toml"
    path.write_text("\n".join(lines))
    assert is_clear(outcome(path))


@settings(deadline=None)
@given(st.integers(0, len(LINES)), st.integers(0, len(LINES)))
def test_lines_at_random(tmp_path_factory, first, second):
    path = tmp_path_factory.getbasetemp() / "cut.toml"
    path.write_text("\n".join(LINES[:first] + LINES[second:]))
    assert is_clear(outcome(path))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_at_random(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    error = outcome(path)
    assert error is not None
    assert is_clear(error)


PATHS = st.lists(
    st.sampled_from([*KEYS, "ladder", "absorbers", "margin", "tables", "tiers", "0", "1", "adl", "depth"]),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(PATHS.map(".".join) | st.text(max_size=20), VALUES | st.text(max_size=20))
def test_overrides_at_random(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "base.toml"
    path.write_text(FILE)
    assert is_clear(outcome(path, [f"{key}={value}"]))
