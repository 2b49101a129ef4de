"""``ln.track`` and ``ln.finish``: the run of plain code, from its start to whatever its end is."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from lamindb import config, endings, instance, lastwords, liveness, recorder, resolving, threads
from lamindb.config import settings
from lamindb.db import schema
from lamindb.db.database import insert_if_new
from lamindb.db.server import retried
from lamindb.errors import (
    DatabaseMissingError,
    DatabaseUnreachableError,
    LaminError,
    RecordError,
)
from lamindb.hooks import RunFinished, RunStarted, Tracking, environment, manager
from lamindb.hooks.environments import this_environment
from lamindb.instance import Instance
from lamindb.modules import loaded
from lamindb.records import active
from lamindb.records.active import context as context
from lamindb.records.adding import write_row
from lamindb.records.run import Run, Status, require_json
from lamindb.records.transform import Transform
from lamindb.storage.project import Project

logger = logging.getLogger("lamindb")

# runs of this process that have not ended, by id: what the end of the process must close
_open: dict[str, Run] = {}
# those of which plugins were told, and are to be told of the end
_observed: set[str] = set()
# those that began while the database was out of reach, and what plugins know of them
_told: dict[str, dict[str, Any]] = {}
_lock = threading.RLock()
PLAIN = "plain"

Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def track(
    transform: Transform | None = None,
    *,
    new_run: bool | None = None,
    params: dict[str, Any] | None = None,
    outputs: Patterns | None = None,
    inputs: Patterns | None = None,
    include: Patterns | None = None,
    exclude: Patterns | None = None,
    observe: bool | None = None,
) -> Run:
    """Start a run of a transform, and make it what files added from now on come from.

    It ends with :func:`finish`, with the next ``track`` in the same place, or with the process:
    ``completed``; ``failed`` after an exception or ``sys.exit`` of another code than 0;
    ``cancelled`` by SIGINT or SIGTERM; ``aborted``, found later, when the process could not say.
    Of ``raise SystemExit(3)`` the interpreter tells nobody: such a run counts as completed;
    ``lamin run -- python script.py`` sees the exit code.

    Args:
        transform: looked up by id, or by name and type in this project (git remote, else the
            folder of the storage), and added if it is new; None infers the script or notebook that
            calls. Inside the run of an engine, None adopts that run, and a transform becomes a
            child of it.
        new_run: whether a new Run starts though this session already has one of the transform;
            default: notebooks one a kernel session, everything else each call.
        params: JSON-able parameters of the run.
        outputs, inputs: paths, or patterns of paths such as ``results/**``, that the run declares;
            relative ones start from the working directory of this call.
        include, exclude: which files count of those that are observed: see :mod:`lamindb.rules`.
        observe: whether the files that the process reads and writes are observed; default:
            ``ln.settings.observe``, and not inside an engine's run.
    Returns: the run, status ``started``, also at ``ln.context.run``. A run that this context was
        in before is closed as ``completed``. Where the database is locked, down, gone or read-only,
        the run is told of by events, and recorded as soon as it can be.
    Raises: TransformUnknownError: nobody can tell what is running, or no transform has that id;
        RecordError: params that are not JSON; NoInstanceError.
    """
    if transform is not None and not isinstance(transform, Transform):
        raise RecordError(
            f"{transform!r} is no Transform: give ln.Transform('My script', type='pipeline')"
        )
    require_json(params)
    config.configuration()  # without an instance there is nothing to wait for
    tracking = Tracking(
        run="",
        root=_working_directory(),
        outputs=_patterns("outputs", outputs),
        inputs=_patterns("inputs", inputs),
        include=_patterns("include", include),
        exclude=_patterns("exclude", exclude),
        observe=observe,
    )
    try:
        return _track(transform, new_run, params, tracking)
    except (DatabaseUnreachableError, DatabaseMissingError) as error:
        # the script goes on as without us: the recorder warns, and what is told waits on disk
        logger.info("the run is told of by events, since %s", error)
        return _track_out_of_reach(transform, params, tracking)


def _track(
    transform: Transform | None,
    new_run: bool | None,
    params: dict[str, Any] | None,
    tracking: Tracking,
) -> Run:
    here = instance.current()
    if _is_in_spawned() and (parent := active.inherited()) is not None:
        return parent
    engine_run = active.engine_run()
    with _lock:
        if engine_run is not None and transform is None:
            _adopt(engine_run, tracking)
            return engine_run
        project = resolving.project_at(here)
        session: Run | None = None
        if transform is not None:
            wanted = resolving.given(transform, project)
        else:
            wanted = resolving.inferred(project)
            if new_run is None:
                new_run = wanted.new_run
            session = _open_run("key", wanted.key)
        if session is None or new_run:
            # another may have added the same, or deleted the user
            found = retried(lambda: resolving.resolved(here, transform, wanted), IntegrityError)
            session = _open_run("id", found.id)
            if new_run is None:
                new_run = found.type != "notebook"
        if session is not None and not new_run and params in (None, session.params):
            active.enter(session)
            return session
        _end_former()
        run = retried(lambda: _start(here, found, params), IntegrityError)
        _begin(run)
    manager.notify("ln_tracking_started", tracking=replace(tracking, run=run.id))
    return run


def _begin(run: Run) -> None:
    _open[run.id] = run
    active.enter(run)
    _watch_process()
    _start_heart()
    _observed.add(run.id)


def _adopt(engine_run: Run, tracking: Tracking) -> None:
    """Take the run of an engine for the one that is tracked here."""
    _end_former()
    if tracking.outputs or tracking.inputs or tracking.observe:
        # it ends when its engine says so, or with this process
        _observed.add(engine_run.id)
        _watch_process()
        tracking = replace(tracking, run=engine_run.id, observe=bool(tracking.observe))
        manager.notify("ln_tracking_started", tracking=tracking)


def _track_out_of_reach(
    transform: Transform | None, params: dict[str, Any] | None, tracking: Tracking
) -> Run:
    """Track a run of which events tell, for the database is locked, down or read-only."""
    with _lock:
        if _is_in_spawned() and (parent_id := active.current_run_id()) is not None:
            return active.told_of(Run(id=parent_id))
        engine_run_id = active.engine_run_id()
        if engine_run_id is not None and transform is None:
            run = active.told_of(Run(id=engine_run_id))
            _adopt(run, tracking)
            return run
        project = Project.unopened()
        wanted = (
            resolving.inferred(project)
            if transform is None
            else resolving.given(transform, project)
        )
        _end_former()
        run = Run(
            transform or Transform(wanted.name, type=wanted.type, key=wanted.key),
            name=wanted.name,
            params=params,
        )
        run.engine = PLAIN
        details = manager.every_by_plugin("ln_run_details", run=run.id)
        manager.emit(
            RunStarted(
                run=run.id,
                engine=PLAIN,
                transform=wanted,
                at=run.created_at,
                parent=active.current_run_id(),
                name=wanted.name,
                params=params,
                user=config.identity().handle,
                host=run.host,
                pid=run.pid,
                process_started_at=run.process_started_at,
                environment=environment(),
                details=details.pop(PLAIN, None),
            )
        )
        active.told_of(run)
        _told[run.id] = details
        _begin(run)
    manager.notify("ln_tracking_started", tracking=replace(tracking, run=run.id))
    return run


def _start(here: Instance, transform: Transform, params: dict[str, Any] | None) -> Run:
    run = Run(transform, name=transform.name, parent=context.run, params=params)
    seen = this_environment()
    run.environment_id = seen.id
    run.details = manager.every_by_plugin("ln_run_details", run=run.id)
    run.details["lamindb"] = {"process": liveness.process_table()}
    run.engine = PLAIN
    table = schema.environment
    with here.begin() as connection:
        known = connection.execute(select(table.c.python).where(table.c.id == seen.id)).scalar()
        if known is None:
            stub = {"id": seen.id, "python": "", "packages": {}, "created_at": seen.at}
            insert_if_new(connection, table, [stub])
        row = write_row(connection, here, run)
    run._set_values(row)
    if not known:
        environment()  # tells what it is
    return run


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""  # it was removed


def _patterns(name: str, given: Patterns | None) -> tuple[str, ...]:
    """Return what was given as a tuple of texts; raises RecordError."""
    single = isinstance(given, str | os.PathLike)
    try:
        return tuple(os.fspath(each) for each in ([given] if single else given or ()))  # type: ignore[union-attr, arg-type]
    except TypeError:
        raise RecordError(
            f"{name}={given!r} is no path or pattern, nor a list of them: give {name}='results/**'"
        ) from None


def finish() -> None:
    """End the run that this context tracks, as ``completed``; does nothing when there is none."""
    run = active.tracked_here()
    # a forked child knows its parent's run, which is not its own to end
    if run is not None and run.id in _open and run.pid == os.getpid():
        _end(run, "completed")


_HEARTBEAT_S = 60.0
_heart: tuple[int, threading.Thread] | None = None


def _start_heart() -> None:
    """Beat the hearts of this process's runs once a minute, so that other hosts see they live."""
    global _heart
    if _heart is None or _heart[0] != os.getpid():
        thread = threading.Thread(
            target=_beat_forever, name=f"{threads.OURS}heartbeat", daemon=True
        )
        _heart = os.getpid(), thread
        # from Python 3.12 on, the interpreter that ends starts none
        with suppress(RuntimeError):
            thread.start()


def _beat_forever() -> None:
    while True:
        time.sleep(_HEARTBEAT_S)
        _beat()


def _beat() -> None:
    own = [run.id for run in list(_open.values()) if run.pid == os.getpid()]
    if own and instance.is_open():
        try:
            liveness.beat(instance.current().database, own)
        except LaminError as error:
            logger.info("the heartbeat of %d runs is late: %s", len(own), error)


def _open_run(field: str, value: str) -> Run | None:
    """The latest run of this process whose transform has that key or id."""
    for run in reversed(list(_open.values())):
        if run.pid == os.getpid() and getattr(run.transform, field) == value:
            return run
    return None


def _end_former() -> None:
    former = active.tracked_in_place()
    if former is not None and former.id in _open:
        _end(former, "completed")


def _is_in_spawned() -> bool:
    """Whether ``multiprocessing`` executes a script again to find its functions.

    What the top of a script tracks is tracked by the process that was started with it.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            return True
        frame = frame.f_back
    return False


# --- how a run ends -----------------------------------------------------------------------------


def _end(run: Run, status: Status, error: str | None = None, *, by_event: bool = False) -> bool:
    """Record a run's end, in the spool where the database is out of reach.

    Args: by_event: do not ask the database, which has just been out of reach.
    Returns: whether the database took it.
    """
    if run.id in _observed:
        _observed.discard(run.id)
        manager.notify("ln_tracking_finished", run=run.id)
    at = schema.now()
    details = _told.pop(run.id, None)
    finished = RunFinished(run=run.id, status=status, at=at, error=error, details=details)
    by_event = by_event or details is not None
    if not by_event:
        try:
            with instance.current().database.begin() as connection:
                connection.execute(
                    update(schema.run)
                    .where(schema.run.c.id == run.id)
                    .values(status=status, finished_at=at, error=error)
                )
        except LaminError as failure:
            logger.info("the end of run %s waits in the spool: %s", run.id, failure)
            by_event = True
    if by_event:
        manager.emit(finished)
    run.status, run.finished_at, run.error = status, at, error
    run._mark_stored()
    _open.pop(run.id, None)
    active.leave(run)
    return not by_event


def _end_all(status: Status, error: str | None = None) -> None:
    waits = False
    # the latest first: a child ends before its parent
    for run in reversed(list(_open.values())):
        if run.pid == os.getpid():  # else a forked child's copy of its parent's run
            waits = not _end(run, status, error, by_event=waits)


@contextmanager
def _waiting_at_most(timeout_s: float) -> Iterator[None]:
    """Wait no longer than this for a lock of the database."""
    waited = settings.busy_timeout_s
    settings.busy_timeout_s = min(timeout_s, waited)
    try:
        yield
    finally:
        settings.busy_timeout_s = waited


@instance.on_reset
def _forget_runs() -> None:
    if _open:
        _end_all("completed")
        recorder.close()  # what they told of their files belongs to this instance
    _open.clear()
    _observed.clear()
    _told.clear()


# --- how the process ends -----------------------------------------------------------------------

_SIGNALS = ("SIGTERM", "SIGHUP")
_watching_pid: int | None = None


def _watch_process() -> None:
    """Have the end of this process close its runs."""
    global _watching_pid
    if threading.current_thread() is threading.main_thread():
        for number in _signals():
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)
    else:
        lastwords.listen(_signals())
    if _watching_pid == os.getpid():
        return
    if _watching_pid is None:
        # forked children inherit these
        endings.watch()
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    _watching_pid = os.getpid()
    parent_process = loaded("multiprocessing", "parent_process")
    if parent_process is not None and parent_process() is not None:
        # such a child ends without the atexit of its parent
        from multiprocessing.util import Finalize

        endings.watch_child()
        Finalize(None, _at_exit, exitpriority=-100)


def _signals() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    for number in _signals():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL)


def _at_exit() -> None:
    ended = endings.status()
    with _waiting_at_most(settings.drain_timeout_s):
        _end_all(*ended)
    for run_id in list(_observed):  # of engines
        manager.notify("ln_tracking_finished", run=run_id)
    # after the runs have told of their files, whichever handler was registered first
    recorder.close()
    lastwords.forget_own()
    endings.keep_interrupt()


def _on_signal(number: int, frame: FrameType | None) -> None:
    # the signal may have come in the middle of a transaction of this very thread, whose lock would
    # be waited for in vain: then the end waits in the spool
    try:
        with _waiting_at_most(1.0):
            if instance.is_open() and _open:
                with suppress(LaminError):
                    instance.current().database.dispose(close=False)
            _end_all("cancelled", signal.Signals(number).name)
        recorder.close(1.0)
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # the exit status names the signal, as it does without us
