"""Keeps SQLite's connections from being carried over a fork.

SQLite counts the locks of a process, and a forked child inherits the belief to hold its parent's.
It would wait in vain for a transaction of one of the parent's threads, or write into a log that the
parent, finding no other lock, has folded up and removed: all that is lost.

Source: https://sqlite.org/howtocorrupt.html, section 2.6.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ForkGate:
    """Has a fork wait until no other thread is using a connection, and closes the idle ones."""

    def __init__(self, close_idle: Callable[[], None], forget: Callable[[], None]) -> None:
        """Args: close_idle: called before a fork; forget: called in the child after it."""
        self._close_idle = close_idle
        self._forget = forget
        self._open()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold up forks of other threads; the same thread may enter again."""
        thread = threading.get_ident()
        with self._changed:
            # a signal handler of a thread that waits to fork may not wait for that fork
            while self._forking.keys() - {thread} and thread not in self._users:
                self._changed.wait()
            self._users[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._users[thread] -= 1
                if not self._users[thread]:
                    del self._users[thread]
                    self._changed.notify_all()

    def _open(self) -> None:
        self._changed = threading.Condition()
        self._users: Counter[int] = Counter()
        self._forking: Counter[int] = Counter()

    def _before(self) -> None:
        thread = threading.get_ident()
        self._changed.acquire()
        self._forking[thread] += 1
        while self._users.keys() - {thread}:
            self._changed.wait()
        self._close_idle()

    def _after_in_parent(self) -> None:
        thread = threading.get_ident()
        self._forking[thread] -= 1
        if not self._forking[thread]:
            del self._forking[thread]
        self._changed.notify_all()
        self._changed.release()

    def _after_in_child(self) -> None:
        self._open()
        self._forget()
