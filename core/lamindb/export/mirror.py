"""A plugin that mirrors runs to OpenLineage as they happen, where ``LAMINDB_OPENLINEAGE`` says.

That is a file, to which one event a line is appended, or the URL of an endpoint such as
``http://127.0.0.1:5000/api/v1/lineage``. Events are made from the records once these are written,
in a thread of this module: neither an engine nor the recorder waits for them. Importing this loads
no database.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lamindb.config import settings
from lamindb.hooks import Event, Tracking, hookimpl
from lamindb.threads import OURS

logger = logging.getLogger("lamindb")

_EVERY_S = 1.0
_EXIT_S = 5.0
_TIMEOUT_S = 5.0
_MOST_WAITING = 10_000
_MOST_KNOWN = 50_000
_ENDS = ("COMPLETE", "FAIL", "ABORT")

Message = dict[str, Any]


class Mirror:
    """Tells of each run what has changed since it last did."""

    def __init__(self, target: str, api_key: str | None = None) -> None:
        self._target, self._key = target, api_key
        self._reset()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._runs: dict[str, None] = {}  # of which something new was recorded
        self._tracked: set[str] = set()  # of this process, whose end is not recorded by an event
        self._told: dict[str, tuple[bool, str]] = {}  # run → whether its end was told, and what
        self._waiting: list[Message] = []
        self._thread: threading.Thread | None = None
        self._telling = threading.Lock()
        self._closing = self._in_trouble = False
        self._ends_at = math.inf

    # --- the hooks: called in the threads of others ---------------------------------------------

    @hookimpl
    def ln_event_recorded(self, event: Event) -> None:
        run = getattr(event, "run", None)
        if run is not None:
            self._note(run)

    @hookimpl
    def ln_tracking_started(self, tracking: Tracking) -> None:
        self._tracked.add(tracking.run)
        self._note(tracking.run)

    @hookimpl
    def ln_tracking_finished(self, run: str) -> None:
        self._note(run)

    def _note(self, run: str) -> None:
        with self._changed:
            self._runs[run] = None
            if self._thread is None and not self._closing:
                thread = self._new_thread(self._work)
                # from Python 3.12 on, the interpreter that ends starts none: then close tells it
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            self._changed.notify_all()

    # --- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._runs and not self._closing:
                    # a tracked run ends without an event: its row is looked at
                    if not self._changed.wait(_EVERY_S) and (self._tracked or self._waiting):
                        break
                if self._closing:
                    return
            time.sleep(_EVERY_S)  # for what belongs together to come together
            self._tell()

    def _tell(self) -> None:
        with self._changed:
            runs, self._runs = [*self._runs, *self._tracked - self._runs.keys()], {}
        try:
            with self._telling:
                self._gather(runs)
                self._send()
            self._in_trouble = False
        except Exception as error:  # the database's, or the network's: others must not suffer
            with self._changed:
                self._runs = dict.fromkeys(runs) | self._runs
            if not self._in_trouble:
                logger.warning("OpenLineage events wait: %s: %s", type(error).__name__, error)
            self._in_trouble = True
            time.sleep(0 if self._closing else _EVERY_S)

    def _gather(self, runs: list[str]) -> None:
        """Put what is new of runs among what waits to be sent."""
        if not runs:
            return
        from lamindb.export.openlineage import run_events

        for run, events in run_events(runs).items():
            if not events:
                continue
            had_end, former = self._told.pop(run, (False, ""))
            text = json.dumps(events[-1], sort_keys=True)
            is_end = events[-1]["eventType"] in _ENDS
            if is_end:
                self._tracked.discard(run)
            self._told[run] = had_end or is_end, text
            if text == former:
                continue
            if former:
                events = events[-1:]
            if had_end:  # what came to be known after the end
                events = [{**events[-1], "eventType": "OTHER"}]
            self._waiting += events
        if len(self._waiting) > _MOST_WAITING:
            logger.warning("OpenLineage events are dropped: they cannot be sent")
            del self._waiting[:-_MOST_WAITING]
        for run in list(self._told)[:-_MOST_KNOWN]:
            del self._told[run]

    def _send(self) -> None:
        while self._waiting and time.monotonic() < self._ends_at:
            if self._target.startswith(("http://", "https://")):
                self._post(self._waiting[0])
                del self._waiting[0]
            else:
                lines = "".join(json.dumps(each) + "\n" for each in self._waiting)
                descriptor = os.open(self._target, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
                try:  # in one write, so that processes do not write into each other's lines
                    os.write(descriptor, lines.encode())
                finally:
                    os.close(descriptor)
                self._waiting.clear()

    def _post(self, message: Message) -> None:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        asked = urllib.request.Request(  # noqa: S310 - http or https, as _send has seen
            self._target, data=json.dumps(message).encode(), headers=headers, method="POST"
        )
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_S):  # noqa: S310
            pass

    def close(self) -> None:
        """Tell what is left, within a bounded time; called at the end of the process."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None and not self._runs:
            return
        if thread is not None:
            thread.join(_EXIT_S)
        last = self._new_thread(self._tell)
        try:
            last.start()
        except RuntimeError:
            self._ends_at = time.monotonic() + _EXIT_S
            self._tell()
        else:
            last.join(_EXIT_S)

    def _new_thread(self, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name=f"{OURS}openlineage", daemon=True)


class _Off:
    """Nothing is mirrored: the recorder then spares itself the calls."""


plugin: Mirror | _Off = (
    Mirror(settings.openlineage, settings.openlineage_key) if settings.openlineage else _Off()
)
