"""Which run this code belongs to: per context, then per process, then from the environment."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lamindb import config, instance
from lamindb.hooks import manager
from lamindb.records.run import Run

if TYPE_CHECKING:
    from lamindb.records.transform import Transform


@dataclass(frozen=True)
class _Tracked:
    """A run that ``track`` began; ``place`` tells a context from copies of it."""

    run: Run
    place: tuple[int, int, int]
    generation: int


_in_context: ContextVar[_Tracked | None] = ContextVar("lamindb_run", default=None)
_in_process: _Tracked | None = None
_started_by = config.parent_run_id()
_inherited: Run | None = None
# contexts of other threads cannot be reached: after a reset their entries are of an older one
_generation = 0


class Context:
    """``ln.context``: what is being tracked where this is asked."""

    @property
    def run(self) -> Run | None:
        """The run that this code belongs to; None when nothing is tracked.

        An engine's run first, then what :func:`track` set in this context, in this process (a
        thread without a context of its own), or in the process that started this one.
        """
        engine_run = manager.first("ln_current_run")
        if engine_run is not None:
            return _read(engine_run)
        return tracked_here() or inherited()

    @property
    def transform(self) -> Transform | None:
        """The transform of :attr:`run`."""
        run = self.run
        return run.transform if run is not None else None

    def __repr__(self) -> str:
        return f"Context(run={self.run!r}, transform={self.transform!r})"


context = Context()


def tracked_here() -> Run | None:
    """The run that ``track`` began in this context, or else in this process."""
    for entry in (_in_context.get(), _in_process):
        if entry is not None and entry.generation == _generation:
            return entry.run
    return None


def tracked_in_place() -> Run | None:
    """The run that ``track`` began in this very thread and task, not where it was started from."""
    entry = _in_context.get()
    if entry is None or entry.generation != _generation or entry.place != _place():
        return None
    return entry.run


def inherited() -> Run | None:
    """The run of the process that started this one, as the environment says."""
    global _inherited
    if _started_by is None:
        return None
    if _inherited is None:
        _inherited = _read(_started_by)
    return _inherited


def enter(run: Run) -> None:
    """Make a run the one of this context, and of the process if it has none."""
    global _in_process
    entry = _Tracked(run, _place(), _generation)
    _in_context.set(entry)
    former = _in_process
    if (
        former is None
        or former.generation != _generation
        or former.place[0] != os.getpid()
        or former.run.status != "started"
    ):
        _in_process = entry
        config.export_run_id(run.id)


def leave(run: Run) -> None:
    """Make a run no longer the one of this context and process."""
    global _in_process
    entry = _in_context.get()
    if entry is not None and entry.run is run:
        _in_context.set(None)
    if _in_process is not None and _in_process.run is run:
        _in_process = None
        config.export_run_id(_started_by)


def _place() -> tuple[int, int, int]:
    task = 0
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        with contextlib.suppress(RuntimeError):  # no loop runs in this thread
            task = id(asyncio.current_task())
    return os.getpid(), threading.get_ident(), task


def _read(run_id: str) -> Run | None:
    with instance.current().database.session() as session:
        return session.scalars(select(Run).where(Run.id == run_id)).one_or_none()


@instance.on_reset
def _forget() -> None:
    global _in_process, _inherited, _generation
    _generation += 1
    _in_process = _inherited = None
    config.export_run_id(_started_by)
