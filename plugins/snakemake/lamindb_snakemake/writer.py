"""A thread that does what an engine's threads must not wait for, in the order of their asking.

It looks for work twenty times a second rather than being woken for each act: waking it would take
the interpreter's lock from the thread that has just asked. Who has to wait for an act wakes it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger("lamindb")

Act = Callable[[], None]
_PAUSE_S = 0.05


class Writer:
    """Runs acts one after the other; an act that fails is logged, the next one runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._acts: deque[Act] = deque()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._is_ending = False
        self._has_failed = False

    def put(self, act: Act) -> None:
        """Have an act run soon; returns at once."""
        self._acts.append(act)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Have what was put before run now."""
        self._hurry.set()

    def end(self, timeout_s: float) -> bool:
        """Wait until everything is done; False when that takes longer, and is then given up."""
        self._is_ending = True
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._acts:
            self._acts.clear()
            return False
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            self._hurry.clear()
            while self._acts:
                self._run(self._acts.popleft())
            if self._is_ending:
                if not self._acts:
                    return
                continue
            self._hurry.wait(_PAUSE_S)

    def _run(self, act: Act) -> None:
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
