"""``ln.track`` and ``ln.finish``: the run of plain code, from its start to whatever its end is."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from sqlalchemy import func, select, update

from lamindb import instance
from lamindb.config import settings
from lamindb.db import schema
from lamindb.db.database import serialise
from lamindb.errors import LaminError, RecordError, TransformUnknownError
from lamindb.hooks import Caller, InferredTransform, manager
from lamindb.instance import Instance
from lamindb.records import active
from lamindb.records.active import context as context
from lamindb.records.adding import write_row
from lamindb.records.run import Run, Status
from lamindb.records.transform import DEFAULT_VERSION, Transform

logger = logging.getLogger("lamindb")

# runs of this process that have not ended, by id: what the end of the process must close
_open: dict[str, Run] = {}
_sessions: dict[str, Run] = {}
_lock = threading.RLock()


def track(
    transform: Transform | None = None,
    *,
    new_run: bool | None = None,
    params: dict[str, Any] | None = None,
) -> Run:
    """Start a run of a transform, and make it what files added from now on come from.

    Args:
        transform: looked up by id, or by name and type, and added if it is new; None infers the
            script or notebook that calls.
        new_run: whether a new Run starts though this session already has one of the transform;
            default: notebooks one a kernel session, everything else each call.
        params: JSON-able parameters of the run.
    Returns: the run, status ``started``, also at ``ln.context.run``. A run that this context was
        in before is closed as ``completed``.
    Raises: TransformUnknownError: nobody can tell what is running, or no transform has that id;
        RecordError: params that are not JSON.
    """
    here = instance.current()
    _check_params(params)
    engine_run = manager.first("ln_current_run")
    if engine_run is not None and transform is None:
        adopted = context.run
        if adopted is not None:
            return adopted
    inferred = None if transform is not None else _infer(here)
    reuse = inferred is not None and not inferred.new_run if new_run is None else not new_run
    with _lock:
        found = _resolve(here, transform, inferred)
        if reuse and (session := _sessions.get(found.id)) is not None and session.id in _open:
            active.enter(session)
            return session
        former = active.tracked_in_place()
        if former is not None and former.id in _open:
            _end(former, "completed")
        run = Run(found, name=found.name, parent=context.run, params=params)
        with here.database.begin() as connection:
            row = write_row(connection, here, run)
        run._set_values(row)
        _open[run.id] = _sessions[found.id] = run
        active.enter(run)
        _watch_process()
    return run


def finish() -> None:
    """End the run that this context tracks, as ``completed``; does nothing when there is none."""
    run = active.tracked_here()
    if run is not None and run.id in _open:
        _end(run, "completed")


def _check_params(params: dict[str, Any] | None) -> None:
    if params is None:
        return
    try:
        json.dumps(params, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"params cannot be kept as JSON ({error}): give numbers, strings, lists and dicts, and "
            "str(path) for paths"
        ) from error


# --- which transform ----------------------------------------------------------------------------


def _infer(here: Instance) -> InferredTransform:
    store = here.default_location.store
    root = Path(store.root) if store.is_local else None
    found = manager.first("ln_transform", caller=Caller(_calling_frame(), root))
    if not isinstance(found, InferredTransform):
        raise TransformUnknownError(
            "this is no script or notebook that a plugin knows: say what is running, as in "
            "ln.track(transform=ln.Transform('My analysis', type='pipeline'))"
        )
    return found


def _calling_frame() -> FrameType:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "lamindb":
        frame = frame.f_back
    return frame or sys._getframe()


def _resolve(
    here: Instance, transform: Transform | None, inferred: InferredTransform | None
) -> Transform:
    with here.database.begin() as connection:
        if inferred is not None:
            serialise(connection, f"transform {inferred.key}")
            found, transform = _version_of(connection, inferred)
        elif transform is not None:
            serialise(connection, f"transform {transform.name} {transform.type}")
            found = _stored(connection, transform)
        if found is None and transform is not None:
            found = write_row(connection, here, transform)
    if transform is None or found is None:
        raise TransformUnknownError("no transform was given or inferred")
    transform._set_values(found)
    return transform


def _stored(connection: Any, wanted: Transform) -> dict[str, Any] | None:
    """Look a transform up by id, or by name and type; the latest version if none was given."""
    table = schema.transform
    query = select(table).order_by(table.c.created_at.desc()).limit(1)
    if wanted._was_given("id"):
        query = query.where(table.c.id == wanted.id)
    else:
        query = query.where(table.c.name == wanted.name, table.c.type == wanted.type)
    if wanted._was_given("version"):
        query = query.where(table.c.version == wanted.version)
    row = connection.execute(query).mappings().one_or_none()
    if row is None and wanted._was_given("id") and not wanted._was_given("name"):
        raise TransformUnknownError(
            f"no transform has the id {wanted.id!r}"
            + (f" and version {wanted.version!r}" if wanted._was_given("version") else "")
            + ": look it up with ln.select(ln.Transform).df(), or give a name to add it"
        )
    if row is None and not wanted._was_given("id"):
        _share_id(connection, wanted)
    return dict(row) if row is not None else None


def _share_id(connection: Any, wanted: Transform) -> None:
    """A new version of a name that is there gets that transform's id."""
    table = schema.transform
    known = connection.execute(
        select(table.c.id).where(table.c.name == wanted.name, table.c.type == wanted.type).limit(1)
    ).scalar()
    if known is not None:
        wanted.id = known


def _version_of(
    connection: Any, inferred: InferredTransform
) -> tuple[dict[str, Any] | None, Transform]:
    """Return the row of code seen before, and the transform that becomes it or is new."""
    table = schema.transform
    versions = (
        connection.execute(
            select(table).where(table.c.key == inferred.key).order_by(table.c.created_at.desc())
        )
        .mappings()
        .all()
    )
    transform = Transform(
        inferred.name,
        type=inferred.type,
        key=inferred.key,
        title=inferred.title,
        reference=inferred.reference,
        source_hash=inferred.source_hash,
    )
    for row in versions:
        if inferred.source_hash is None or row["source_hash"] == inferred.source_hash:
            return dict(row), transform
    if versions:
        transform.id = versions[0]["id"]
        count = connection.execute(
            select(func.count()).select_from(table).where(table.c.key == inferred.key)
        ).scalar_one()
        transform.version = str(max(count, int(DEFAULT_VERSION) + 1))
    return None, transform


# --- how a run ends -----------------------------------------------------------------------------


def _end(run: Run, status: Status, error: str | None = None) -> None:
    _open.pop(run.id, None)
    at = schema.now()
    with instance.current().database.begin() as connection:
        connection.execute(
            update(schema.run)
            .where(schema.run.c.id == run.id)
            .values(status=status, finished_at=at, error=error)
        )
    run.status, run.finished_at, run.error = status, at, error
    run._mark_stored()
    active.leave(run)


def _end_all(status: Status, error: str | None = None) -> None:
    # the latest first: a child ends before its parent
    for run in reversed(list(_open.values())):
        if run.pid != os.getpid():
            continue  # a forked child's copy of its parent's run
        try:
            _end(run, status, error)
        except LaminError as failure:
            logger.warning("the end of run %s was not recorded: %s", run.id, failure)


@instance.on_reset
def _forget_runs() -> None:
    if _open:
        _end_all("completed")
    _open.clear()
    _sessions.clear()


class _Ending:
    """How the process is about to end, as far as is known."""

    status: Status = "completed"
    error: str | None = None


_watching_pid: int | None = None


def _watch_process() -> None:
    """Have the end of this process close its runs; once a process."""
    global _watching_pid
    if _watching_pid == os.getpid():
        return
    first = _watching_pid is None
    _watching_pid = os.getpid()
    if not first:
        return  # a forked child has inherited what is set up below
    atexit.register(_at_exit)
    sys.excepthook = _noting_exceptions(sys.excepthook)
    sys.exit = _noting_exits(sys.exit)
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)


def _at_exit() -> None:
    _end_all(_Ending.status, _Ending.error)


def _noting_exceptions(
    former: Callable[..., Any],
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def note(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            _Ending.status, _Ending.error = "cancelled", "KeyboardInterrupt"
        else:
            _Ending.status, _Ending.error = "failed", describe(error)
        former(kind, error, traceback)

    return note


def describe(error: BaseException) -> str:
    """Return an exception as one line: its type and message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _noting_exits(former: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``sys.exit`` so that a non-zero code is known at exit.

    The interpreter gives ``atexit`` no hint of it. The exception tells it itself: it is let go only
    after the last Python frame when nobody caught it. ``raise SystemExit(3)`` stays unseen, which
    is what ``lamin run`` is for.
    """

    class ExitNoted(SystemExit):
        def __del__(self) -> None:
            if sys._getframe().f_back is None and self.code not in (None, 0):
                shown = self.code if isinstance(self.code, int) else 1
                _Ending.status, _Ending.error = "failed", f"exit code {shown}"

    ExitNoted.__name__ = ExitNoted.__qualname__ = "SystemExit"
    ExitNoted.__module__ = "builtins"

    @wraps(former)
    def exit(status: Any = None, /) -> NoReturn:
        raise ExitNoted(status)

    return exit


def _on_signal(number: int, frame: FrameType | None) -> None:
    # the signal may have come in the middle of a transaction of this very thread, whose lock would
    # be waited for in vain: then the run is found aborted on the next look
    waited, settings.busy_timeout_s = settings.busy_timeout_s, 1.0
    instance.current().database.dispose(close=False)
    _end_all("cancelled", signal.Signals(number).name)
    settings.busy_timeout_s = waited
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)  # the exit status names the signal, as it does without us
