"""Which run this code belongs to: per context, then per process, then from the environment.

The run of the process is the one that its main flow tracks: the main thread, outside of tasks or in
the one task that the event loop runs for it. Threads and tasks beside each other do not see what
the others track.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from lamindb import config, instance
from lamindb.db.schema import now
from lamindb.errors import DatabaseError
from lamindb.hooks import manager
from lamindb.mainflow import current_task, is_main_flow
from lamindb.records.run import Run
from lamindb.records.stubs import add_stubs

if TYPE_CHECKING:
    from lamindb.records.transform import Transform


# the process, and the task or thread in it: a number alone is given to others after its end
_Place = tuple[int, "weakref.ref[Any]"]


@dataclass(frozen=True)
class _Tracked:
    """A run that ``track`` began.

    Attributes: place: tells a context from copies of it; engine_run_id: inside which it began.
    """

    run: Run
    place: _Place
    engine_run_id: str | None
    generation: int


_START_WAITS_S = 2.0
_TOLD = "_is_told_of"

_in_context: ContextVar[_Tracked | None] = ContextVar("lamindb_run", default=None)
_in_process: _Tracked | None = None
_started_by = config.parent_run_id()
_inherited: Run | None = None
_inherited_is_known = False
# contexts of other threads cannot be reached: after a reset their entries are of an older one
_generation = 0


class Context:
    """``ln.context``: what is being tracked where this is asked."""

    @property
    def run(self) -> Run | None:
        """The run that this code belongs to; None when nothing is tracked.

        What :func:`track` set in this context, or in this process (for a thread without a context
        of its own); an engine's run unless that began inside it; else the run of the process that
        started this one.
        """
        tracked = tracked_here()
        if tracked is None:
            return engine_run() or inherited()
        _settle(tracked)
        return tracked

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
    entries = _entries()
    return entries[0].run if entries else None


def tracked_in_place() -> Run | None:
    """The run that ``track`` began in this very thread and task, not where it was started from."""
    place = _place()
    return next((entry.run for entry in _entries() if entry.place == place), None)


def tracked_outside() -> Run | None:
    """The run that ``track`` began outside of any engine's run: inside it an engine was started."""
    return next((entry.run for entry in _begun() if entry.engine_run_id is None), None)


def _entries() -> list[_Tracked]:
    """What was begun inside the same engine's run, or outside of any: the innermost first."""
    entries = _begun()
    inside = engine_run_id() if entries else None
    return [entry for entry in entries if entry.engine_run_id == inside]


def _begun() -> list[_Tracked]:
    entries = [_in_context.get(), _in_process]
    if _in_process is not None and _in_process.place == _place():
        # the cells of a notebook share the place, but not all of them the context
        entries.reverse()
    return [entry for entry in entries if entry is not None and entry.generation == _generation]


def engine_run() -> Run | None:
    """The engine's run inside which this code executes.

    Its start may still wait in the spool of another process: then a stub stands for it.
    """
    run_id = engine_run_id()
    if run_id is None:
        return None
    found = _read(run_id)
    if found is None or found.transform_id is None:
        manager.notify("ln_records_read")  # it may wait in this process's
        found = _read(run_id)
    if found is None:
        here = instance.current()
        with here.begin() as connection:
            add_stubs(connection, here, [(run_id, now())])
        found = _read(run_id)
    return found


def engine_run_id() -> str | None:
    run_id: str | None = manager.first("ln_current_run")
    return run_id


def told_of(run: Run) -> Run:
    """Mark a run as one of which events tell, for the database is out of reach."""
    run._mark_stored()
    run.__dict__[_TOLD] = True
    return run


def _settle(run: Run) -> None:
    """Learn what is recorded of a run that was told of, once the database can be reached."""
    if _TOLD in run.__dict__ and instance.is_open():
        with suppress(DatabaseError):
            manager.notify("ln_records_read")
            found = _read(run.id)
            if found is not None and found.transform_id is not None:
                run._set_values(found._values())
                del run.__dict__[_TOLD]


def current_run_id() -> str | None:
    """The id of the run that this code belongs to, as far as it is known without the database."""
    tracked = tracked_here()
    return tracked.id if tracked is not None else engine_run_id() or _started_by


def inherited() -> Run | None:
    """The run of the process that started this one, as the environment says."""
    global _inherited, _inherited_is_known
    if _started_by is not None and not _inherited_is_known:
        # told of by that process, maybe a moment ago: it is recorded within a second
        deadline = time.monotonic() + _START_WAITS_S
        while (found := _read(_started_by)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        _inherited, _inherited_is_known = found, True
    return _inherited


def enter(run: Run) -> None:
    """Make a run the one of this context, and of the process if this is its main flow."""
    global _in_process
    entry = _Tracked(run, _place(), engine_run_id(), _generation)
    _in_context.set(entry)
    former = _in_process
    is_free = (
        former is None
        or former.generation != _generation
        or former.place[0] != os.getpid()
        or former.run.status != "started"
    )
    if is_free and is_main_flow():
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


def _place() -> _Place:
    return os.getpid(), weakref.ref(current_task() or threading.current_thread())


def _read(run_id: str) -> Run | None:
    with instance.current().database.session() as session:
        return session.scalars(select(Run).where(Run.id == run_id)).one_or_none()


@instance.on_reset
def _forget() -> None:
    global _in_process, _inherited, _inherited_is_known, _generation
    _generation += 1
    _in_process = _inherited = None
    _inherited_is_known = False
    config.export_run_id(_started_by)
