"""A thread that does what an engine's threads must not wait for, in the order of their asking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger("lamindb")

Act = Callable[[], None]


class Writer:
    """Runs acts one after the other; an act that fails is logged, the next one runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._acts: SimpleQueue[Act | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def put(self, act: Act) -> None:
        """Have an act run soon; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._acts.put(act)

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything put before is done; False when that takes longer."""
        if self._thread is None or not self._thread.is_alive():
            return True
        done = threading.Event()
        self._acts.put(done.set)
        deadline = time.monotonic() + timeout_s
        while not done.wait(0.05):
            if time.monotonic() > deadline or not self._thread.is_alive():
                return False
        return True

    def stop(self) -> None:
        """End the thread once everything is done."""
        if self._thread is not None:
            self._acts.put(None)
            self._thread = None

    def _work(self) -> None:
        while (act := self._acts.get()) is not None:
            try:
                act()
            except Exception as error:  # the workflow goes on, and so does what comes next
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        logger.log(
            level, "part of the workflow is not recorded: %s: %s", type(error).__name__, error
        )
