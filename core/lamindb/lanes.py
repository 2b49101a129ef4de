"""Queues of events, each with a thread that records them in batches.

What cannot be recorded now is tried again, with growing pauses; what never can be holds up nothing
else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from lamindb import threads
from lamindb.errors import (
    DatabaseError,
    LaminError,
    NoInstanceError,
    SetupError,
    StorageMissingError,
    StorageUnreachableError,
)
from lamindb.hooks.events import Event

logger = logging.getLogger("lamindb")

BATCH = 500
# so long a batch gathers what follows its first event
LINGER_S = 0.6
# a lane with nothing to do shows so often that it lives
BEAT_S = 60.0
MOST_IN_MEMORY = 100_000
_LONGEST_PAUSE_S = 30.0

# why nothing can be recorded now, though it may be later
OUT_OF_REACH = (
    DatabaseError,
    NoInstanceError,
    SetupError,
    StorageMissingError,
    StorageUnreachableError,
)

Record = Callable[[Sequence[Event]], None]


class Keeper(Protocol):
    """Who has the lanes, and keeps their events on disk."""

    @property
    def has_disk(self) -> bool: ...

    def on_disk(self, of_files: bool) -> Iterator[list[Event]]:
        """Yield batches of the events that are on disk: of files, or of runs."""

    def idle(self) -> None:
        """A lane has nothing to do; called at least once a minute then."""

    def warn_once(self, subject: str, message: str) -> None: ...

    def say_out_of_reach(self, error: LaminError) -> None: ...


class Lane:
    """A queue with a thread that records it in batches, and tries again while it cannot."""

    def __init__(self, name: str, record: Record, keeper: Keeper) -> None:
        self._name, self._record, self._keeper = name, record, keeper
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._kept = self._done = 0
        # those of them that are on disk alone
        self._skipped = 0
        self._urgent = self._stopping = False
        self._thread: threading.Thread | None = None
        # one thread records at a time: which one that is
        self._turn = threading.Lock()
        self._worker: int | None = None
        self.is_in_trouble = False

    @property
    def is_idle(self) -> bool:
        return self._kept == self._done

    def put(self, event: Event) -> None:
        with self._changed:
            self._kept += 1
            if len(self._events) >= MOST_IN_MEMORY and self._keeper.has_disk:
                self._skipped += 1
                self._keeper.warn_once(
                    "memory", "too many events wait: the rest is recorded from disk, later"
                )
                return
            self._events.append(event)
            if self._thread is None:
                thread = threading.Thread(
                    target=self._work, name=f"{threads.OURS}{self._name}", daemon=True
                )
                # the interpreter that ends starts none: then flush does the work
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            elif len(self._events) == 1:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        if self._is_own_thread():
            return self.is_idle  # an observer, or a signal's handler, asks in the middle of a batch
        if self._thread is None:
            self._drain(deadline)
        with self._changed:
            wanted = self._kept
            while self._done < wanted:
                if self.is_in_trouble:
                    return False
                self._urgent = True
                self._changed.notify_all()
                if not self._changed.wait(min(deadline - time.monotonic(), 0.1)):
                    alive = self._thread is not None and self._thread.is_alive()
                    if not alive or time.monotonic() >= deadline:
                        return self._done >= wanted
            return True

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _is_own_thread(self) -> bool:
        thread = threading.current_thread()
        return thread is self._thread or thread.ident == self._worker

    def _drain(self, deadline: float) -> None:
        """Record what waits, in the thread that calls."""
        while not self.is_idle and (left_s := deadline - time.monotonic()) > 0:
            if self._step(0.0, left_s):
                return

    def _work(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                while self.is_idle and not self._stopping:
                    if not self._changed.wait(BEAT_S):
                        break
                if self._stopping:
                    return
                if not self._urgent:
                    self._changed.wait(max(LINGER_S, pause_s))
            pause_s = self._step(pause_s)
            with self._changed:
                if self.is_idle:
                    self._urgent = False
                self._changed.notify_all()
                if self._stopping:
                    return  # the file on disk is no longer its own
            if not self._events:
                self._keeper.idle()

    def _step(self, pause_s: float, timeout_s: float = -1) -> float:
        """Record a batch; returns how long to wait before the next try, 0 after a success."""
        if not self._turn.acquire(timeout=timeout_s):
            return LINGER_S
        self._worker = threading.get_ident()
        try:
            return 0.0 if self.is_idle else self._record_next(pause_s)
        finally:
            self._worker = None
            self._turn.release()

    def _record_next(self, pause_s: float) -> float:
        batch = list(islice(self._events, BATCH))
        skipped = 0 if batch else self._skipped
        try:
            if batch:
                record_each(self._record, batch)
            else:
                # some of them are recorded already, which changes nothing
                for each in self._keeper.on_disk(of_files=self._name == "files"):
                    record_each(self._record, each)
        except OUT_OF_REACH as error:
            self.is_in_trouble = True
            self._keeper.say_out_of_reach(error)
            with self._changed:
                self._urgent = False
            return min(max(2 * pause_s, 1.0), _LONGEST_PAUSE_S)
        self.is_in_trouble = False
        with self._changed:
            for _ in batch:
                self._events.popleft()
            self._skipped -= skipped
            self._done += len(batch) + skipped
        return 0.0


def record_each(record: Record, batch: Sequence[Event]) -> int:
    """Record a batch, or each event alone where that fails: a bad one holds up no other.

    Returns: how many were refused.
    """
    try:
        record(batch)
        return 0
    except OUT_OF_REACH:
        raise
    except Exception as error:  # whatever is wrong with one of them
        logger.debug("a batch of %d events is recorded one by one: %s", len(batch), error)
    refused = 0
    for event in batch:
        try:
            record([event])
        except OUT_OF_REACH:
            raise
        except Exception as error:  # whatever is wrong with it
            refused += 1
            logger.warning(
                "%s was not recorded: %s: %s", _short(event), type(error).__name__, error
            )
    return refused


def _short(event: Event) -> str:
    subject = getattr(event, "uri", None) or getattr(event, "run", None) or event.event_id
    return f"{type(event).__name__} of {subject}"
