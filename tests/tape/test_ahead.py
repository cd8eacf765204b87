"""Items read ahead by a thread: order, failures, and who prepares them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from replay.tape.ahead import read_ahead

PATIENCE_SECONDS = 20


def until(holds: Callable[[], bool]) -> bool:
    """Wait until something holds, for a while."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)
    return holds()


def test_items_come_in_order_each_with_what_was_made_of_it() -> None:
    assert list(read_ahead(range(100), lambda item: item * 2)) == [(item, item * 2) for item in range(100)]


def test_a_failure_is_raised_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the third is damaged")

    ahead = read_ahead(items(), str)
    assert [next(ahead), next(ahead)] == [(1, "1"), (2, "2")]
    with pytest.raises(OSError, match="the third is damaged"):
        next(ahead)


@pytest.mark.parametrize("depth", [2, 4])
def test_while_the_loop_is_busy_the_thread_prepares(depth: int) -> None:
    """The loop stands still at the first item: behind those that may wait stands one that the thread prepared."""
    prepared: list[tuple[int, bool]] = []

    def prepare(item: int) -> int:
        prepared.append((item, threading.current_thread() is threading.main_thread()))
        return item

    ahead = read_ahead(range(10), prepare, depth=depth)
    assert next(ahead) == (0, 0)
    assert until(lambda: any(not by_loop for _, by_loop in prepared))
    assert [item for item, _ in ahead] == list(range(1, 10))
    assert sorted(item for item, _ in prepared) == list(range(10)), "each once"


def test_leaving_early_ends_the_thread() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    ahead = read_ahead(endless(), str)
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]  # it is a generator
    assert until(lambda: all(thread.name != "read-ahead" for thread in threading.enumerate()))
