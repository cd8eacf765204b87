"""Reading ahead: the next windows are read in a thread of their own while the loop works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")

_WAIT_SECONDS = 0.1


class _End:
    """Marks the end of the items, and the failure that was it, if any."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure


def read_ahead(
    items: Iterable[Item], prepare: Callable[[Item], Ready], *, depth: int = 4
) -> Iterator[tuple[Item, Ready]]:
    """Yield items that a thread takes from an iterable, at most ``depth`` of them early, and prepare each.

    Order and failures are those of the iterable. Leaving the generator early ends the thread. Where
    all but one that may wait do so the thread prepares an item, else the loop does: who has the time. Not where
    all do: large and small windows take turns, and the large would all come while there is room for one more.

    Args:
        items: Where they come from; used by one thread only.
        prepare: What is done with each; its result does not depend on who calls it, or when.
        depth: How many may wait.
    """
    waiting: Queue[tuple[Item, Ready | None] | _End] = Queue(depth)
    left = Event()

    def put(item: tuple[Item, Ready | None] | _End) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=_WAIT_SECONDS)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, prepare(item) if waiting.qsize() >= depth - 1 else None)):
                    return
        except BaseException as failure:  # raised where the items are used
            put(_End(failure))
        else:
            put(_End())

    thread = Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                taken = waiting.get(timeout=_WAIT_SECONDS)
            except Empty:
                continue
            if isinstance(taken, _End):
                if taken.failure is not None:
                    raise taken.failure
                return
            item, ready = taken
            yield item, prepare(item) if ready is None else ready
    finally:
        left.set()
        thread.join()
