from __future__ import annotations

import pytest
from rich.cells import cell_len

from replay.cli.tables import format_table, shorten_addresses

ADDRESS = "0x677d831aef5328190852e24f13c46cac05f984e7"


def lines(names, columns, width=None):
    return format_table(names, columns, width).text.splitlines()


def test_numbers_are_aligned_with_as_many_decimals_as_the_column_needs():
    assert lines(["name", "price", "n"], [["a", "b"], [1600.0, 1592.1], [1, 12345]]) == [
        "name    price       n",
        "────  ───────  ──────",
        "a     1,600.0       1",
        "b     1,592.1  12,345",
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2.956494], "2.95649"),
        ([0.0452], "0.0452"),
        ([356.80015], "356.8"),
        ([1234567.891], "1,234,567.89"),
        ([196_356.48], "196,356.48"),
        ([-0.4316], "-0.4316"),
        ([2 / 3], "0.6667"),
        ([0.000123456], "0.0001235"),
        ([1e-9, 5.5], "1.0e-09"),
        ([-0.0], "0"),
        ([None, 1.25], "-"),
        ([True], "yes"),
        ([0.1 + 0.2], "0.3"),
    ],
)
def test_one_number(values, shown):
    assert lines(["x"], [values])[2].strip() == shown


def test_the_smallest_number_of_a_column_keeps_its_digits():
    assert [line.strip() for line in lines(["size"], [[-9653.0, -0.4316, 1.12854, 0.0]])[2:]] == [
        "-9,653.00000",
        "-0.43160",
        "1.12854",
        "0.00000",
    ]


def test_a_column_of_amounts_does_not_get_longer_than_ten_digits():
    assert lines(["cash"], [[28_188.5, 0.00012345]])[2:] == ["28,188.50000", "     0.00012"]


def test_quotients_show_fewer_digits():
    assert lines(["ratio"], [[1 / 3, 200 / 7]])[2:] == [" 0.3333", "28.5714"]


def test_only_addresses_are_shortened():
    sentence = "a market without marks is valued at its last trade"
    text = lines(["account", "cause", "hash"], [[ADDRESS], [sentence], ["dydx1" + "q2" * 20]])
    assert text[2].split("  ") == ["0x677d…84e7", sentence, "dydx1q…q2q2"]
    assert "@vault:hyperliquidity-provider" in lines(["a"], [["@vault:hyperliquidity-provider"]])[2]


def test_no_rows():
    assert lines(["a", "b"], [[], []]) == ["a  b", "(no rows)"]


def test_names_are_folded_before_anything_else():
    columns = [[1], [2]]
    assert lines(["recorded_notional", "recorded_equity"], columns, 20) == [
        "recorded  recorded",
        "notional    equity",
        "────────  ────────",
        "       1         2",
    ]


def test_long_texts_are_folded_to_fit():
    text = lines(["n", "cause"], [[1], ["one two three four five six seven eight"]], 24)
    assert text == [
        "n  cause",
        "─  ─────────────────────",
        "1  one two three four",
        "   five six seven eight",
    ]


WIDE = [f"column_{i}" for i in range(20)]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_of_a_table_too_wide_the_leading_columns_are_shown(width):
    layout = format_table(WIDE, [[1000, 2000, 3000]] * 20, width)
    text = layout.text.splitlines()
    count = (width + 2) // (len("column") + 2)
    assert layout.left_out == tuple(WIDE[count:])
    assert text[0].split() == ["column"] * min(count, 20)
    assert all(cell_len(line) <= width for line in text)
    assert len(text) == 2 + 1 + 3


def test_without_a_width_nothing_is_left_out():
    layout = format_table(WIDE, [[1000, 2000, 3000]] * 20, None)
    assert layout.left_out == ()
    assert layout.text.split()[:20] == WIDE


def test_addresses_are_shortened_further_where_a_column_more_fits():
    columns = [[ADDRESS] * 3, [1234567] * 3, [7] * 3]
    layout = format_table(["account", "number", "last"], columns, 24)
    assert layout.left_out == ()
    assert layout.text.splitlines()[2] == "0x677d…  1,234,567     7"
    assert format_table(["account", "number", "last"], columns, 20).text.splitlines()[2] == (
        "0x677d…  1,234,567"
    )


def test_a_word_longer_than_its_column_is_broken():
    text = lines(["n", "cause"], [[1], ["a word of " + "x" * 40]], 24)
    assert all(cell_len(line) <= 24 for line in text)
    assert "".join(text).count("x") == 40


def test_addresses_in_sentences_are_shortened():
    assert shorten_addresses(f"breaks for {ADDRESS}, first") == "breaks for 0x677d…84e7, first"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_two_rows_too_wide_become_records_with_nothing_lost(width):
    names = [f"column_{i}" for i in range(20)]
    columns = [[1000 + i, 2000 + i] for i in range(20)]
    text = lines(names, columns, width)
    assert all(cell_len(line) <= width for line in text)
    assert text[0].startswith("── 1 ─")
    joined = " ".join(" ".join(text).split())
    for i in range(20):
        assert f"column_{i} " in joined
        assert f"{1000 + i:,}" in joined
        assert f"{2000 + i:,}" in joined


def test_a_long_value_of_a_record_gets_lines_of_its_own():
    names = [f"column_{i}" for i in range(9)] + ["cause"]
    columns = [[f"value{i}"] for i in range(9)] + [["word " * 20]]
    text = lines(names, columns, 50)
    assert all(cell_len(line) <= 50 for line in text)
    assert " ".join(text).count("word") == 20


def test_wide_characters_count_as_two_cells():
    text = lines(["market", "n"], [["币安人生USDT", "B"], [1, 2]])
    assert text[2] == "币安人生USDT  1"
    assert text[3] == "B             2"
