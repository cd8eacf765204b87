"""Reading ahead: the next windows are read in a thread of their own while the loop works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")

_WAIT_SECONDS = 0.1


class _End:
    """Marks the end of the items, and the failure that was it, if any."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure


def read_ahead(items: Iterable[Item], *, depth: int = 2) -> Iterator[Item]:
    """Yield items that a thread takes from an iterable, at most ``depth`` of them early.

    Order and failures are those of the iterable. Leaving the generator early ends the thread.

    Args:
        items: Where they come from; used by one thread only.
        depth: How many may wait.
    """
    waiting: Queue[Item | _End] = Queue(depth)
    left = Event()

    def put(item: Item | _End) -> bool:
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
                if not put(item):
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
                item = waiting.get(timeout=_WAIT_SECONDS)
            except Empty:
                continue
            if isinstance(item, _End):
                if item.failure is not None:
                    raise item.failure
                return
            yield item
    finally:
        left.set()
        thread.join()
