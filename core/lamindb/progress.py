"""How far a long copy, hash or import is: a bar on the terminal's stderr, and nothing elsewhere.

It is drawn once something has taken half a second, by whoever works, without a thread of its own;
never for the code of an engine's task or job, whose terminal is the engine's.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from lamindb.display import printable
from lamindb.modules import loaded

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger("lamindb")

Advance = Callable[[int], None]
Unit = Literal["bytes", "items"]

_DELAY_S = 0.5
_TICK_S = 0.1
_LONGEST_NAME = 32


class _Bar:
    def __init__(self, what: str, total: Callable[[], int | None], unit: Unit) -> None:
        self.unit = unit
        self._what = what
        self._total = total
        self._done = 0
        self._next_at = time.monotonic() + _DELAY_S
        self._lock = threading.Lock()
        self._drawn: Progress | None = None
        self._is_off = False

    def advance(self, amount: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._done += amount
            if now >= self._next_at and not self._is_off:
                self._next_at = now + _TICK_S
                self._draw()

    def _draw(self) -> None:
        try:
            if self._drawn is None:
                self._begin()
            if self._drawn is not None:
                [task] = self._drawn.task_ids
                self._drawn.update(task, completed=self._done, refresh=True)
        except Exception as error:  # a terminal that fails in any way is no reason to stop copying
            self._is_off = True
            logger.debug("no progress can be shown: %s", error)

    def _begin(self) -> None:
        total = self._total()
        is_nearly_done = total is not None and self._done >= 0.8 * total
        if is_nearly_done:
            return
        drawn = _new_progress(self.unit)
        if drawn.console.is_dumb_terminal or _is_in_engine():
            self._is_off = True
            return
        self._drawn = drawn
        self._drawn.add_task(printable(self._what), total=total)
        self._drawn.start()
        self._drawn.console.show_cursor(True)  # a process that is killed would leave it hidden

    def close(self) -> None:
        with self._lock:
            self._is_off = True
            if self._drawn is not None:
                try:
                    self._drawn.stop()
                except Exception as error:  # as above
                    logger.debug("the progress cannot be taken away: %s", error)


_current: ContextVar[_Bar | None] = ContextVar("lamindb_progress", default=None)


@contextmanager
def progress(
    what: str, total: Callable[[], int | None] = lambda: None, unit: Unit = "bytes"
) -> Iterator[Advance]:
    """Show how far something is while it lasts, unless something around it is shown already.

    What is hashed and copied inside counts by itself, of bytes.

    Args: what: as in "Copying a.csv"; total: asked once, when it has taken long.
    Returns: what to call with each number of items that is done.
    """
    if _current.get() is not None or not _has_terminal():
        yield _ignore
        return
    bar = _Bar(what, total, unit)
    token = _current.set(bar)
    try:
        yield bar.advance
    finally:
        _current.reset(token)
        bar.close()


def counter() -> Advance | None:
    """Return what to call with each number of bytes that is read; None where nobody looks."""
    bar = _current.get()
    return bar.advance if bar is not None and bar.unit == "bytes" else None


def share() -> Callable[[], None]:
    """Return what makes another thread count for what is shown here, as its initializer."""
    bar = _current.get()

    def join() -> None:
        _current.set(bar)

    return join


def named(verb: str, names: list[str]) -> str:
    """Return ``Copying a.csv``, or ``Copying 12 files``."""
    if len(names) != 1:
        return f"{verb} {len(names):,} files"
    [name] = names
    if len(name) > _LONGEST_NAME:
        name = f"…{name[1 - _LONGEST_NAME :]}"
    return f"{verb} {name}"


def _ignore(amount: int) -> None:
    pass


def _has_terminal() -> bool:
    stream = sys.stderr
    if stream is None or sys.__stderr__ is None or stream is not sys.__stderr__:
        return False  # somebody else draws there, or keeps what is written
    if threading.current_thread() is not threading.main_thread():
        return False  # several would draw at once, or the web app on the terminal it came from
    # a pool's processes would draw all at once
    parent_process = loaded("multiprocessing.process", "parent_process")
    if parent_process is not None and parent_process() is not None:
        return False
    try:
        return stream.isatty()
    except ValueError:
        return False  # it is closed


def _is_in_engine() -> bool:
    from lamindb.hooks import manager

    return manager.first("ln_current_run") is not None


def _new_progress(unit: Unit) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn() if unit == "bytes" else MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
