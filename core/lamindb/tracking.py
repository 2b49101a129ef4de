"""``ln.track`` and ``ln.finish``: the run of plain code, from its start to whatever its end is."""

from __future__ import annotations

import atexit
import builtins
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from opcode import opname
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sqlalchemy import select, update

from lamindb import instance, liveness
from lamindb.config import settings
from lamindb.db import schema
from lamindb.db.database import serialise
from lamindb.errors import LaminError, RecordError, TransformUnknownError
from lamindb.hooks import Caller, InferredTransform, describe_error, manager
from lamindb.instance import Instance
from lamindb.records import active
from lamindb.records.active import context as context
from lamindb.records.adding import write_row
from lamindb.records.run import Run, Status, require_json
from lamindb.records.transform import Transform
from lamindb.records.versions import version_of

logger = logging.getLogger("lamindb")

# runs of this process that have not ended, by id: what the end of the process must close
_open: dict[str, Run] = {}
_lock = threading.RLock()


def track(
    transform: Transform | None = None,
    *,
    new_run: bool | None = None,
    params: dict[str, Any] | None = None,
) -> Run:
    """Start a run of a transform, and make it what files added from now on come from.

    It ends with :func:`finish`, with the next ``track`` in the same place, or with the process:
    ``completed``; ``failed`` after an exception or ``sys.exit`` of another code than 0;
    ``cancelled`` by SIGINT or SIGTERM; ``aborted``, found later, when the process could not say.
    Of ``raise SystemExit(3)`` the interpreter tells nobody: such a run counts as completed.

    Args:
        transform: looked up by id, or by name and type, and added if it is new; None infers the
            script or notebook that calls. Inside the run of an engine, None adopts that run, and a
            transform becomes a child of it.
        new_run: whether a new Run starts though this session already has one of the transform;
            default: notebooks one a kernel session, everything else each call.
        params: JSON-able parameters of the run.
    Returns: the run, status ``started``, also at ``ln.context.run``. A run that this context was
        in before is closed as ``completed``.
    Raises: TransformUnknownError: nobody can tell what is running, or no transform has that id;
        RecordError: params that are not JSON.
    """
    if transform is not None and not isinstance(transform, Transform):
        raise RecordError(
            f"{transform!r} is no Transform: give ln.Transform('My script', type='pipeline')"
        )
    here = instance.current()
    _ = here.user_id  # a new user is registered now: within a transaction it would wait for it
    require_json(params)
    engine_run = active.engine_run()
    with _lock:
        if engine_run is not None and transform is None:
            _end_former()
            return engine_run
        inferred = None if transform is not None else _infer(here)
        if new_run is None and inferred is not None:
            new_run = inferred.new_run
        session = _open_run("key", inferred.key) if inferred is not None else None
        if session is None or new_run:
            found = _resolve(here, transform, inferred)
            session = _open_run("id", found.id)
            if new_run is None:
                new_run = found.type != "notebook"
        if session is not None and not new_run and params in (None, session.params):
            active.enter(session)
            return session
        _end_former()
        run = Run(found, name=found.name, parent=context.run, params=params)
        with here.database.begin() as connection:
            row = write_row(connection, here, run)
        run._set_values(row)
        _open[run.id] = run
        active.enter(run)
        _watch_process()
        _start_heart()
    return run


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
        thread = threading.Thread(target=_beat_forever, name="lamindb-heartbeat", daemon=True)
        _heart = os.getpid(), thread
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


# --- which transform ----------------------------------------------------------------------------


def _infer(here: Instance) -> InferredTransform:
    storage = here.default_location
    root = Path(storage.store.root) if storage.store.is_local else None
    found = manager.first("ln_transform", caller=Caller(_calling_frame(), root, storage.id))
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
            transform = Transform(inferred.name, type=inferred.type)
            found: dict[str, Any] | None = version_of(connection, here, inferred)
        elif transform is not None:
            serialise(connection, f"transform {transform.name} {transform.type}")
            found = _stored(connection, transform) or write_row(connection, here, transform)
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


# --- how a run ends -----------------------------------------------------------------------------


def _end(run: Run, status: Status, error: str | None = None) -> None:
    at = schema.now()
    with instance.current().database.begin() as connection:
        connection.execute(
            update(schema.run)
            .where(schema.run.c.id == run.id)
            .values(status=status, finished_at=at, error=error)
        )
    run.status, run.finished_at, run.error = status, at, error
    run._mark_stored()
    _open.pop(run.id, None)
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


# --- how the process ends -----------------------------------------------------------------------

_SIGNALS = ("SIGTERM", "SIGHUP")
_watching_pid: int | None = None
# the main thread's first frame, or in a child of multiprocessing the one that catches everything,
# and what the main thread last gave to sys.exit
_outermost: FrameType | None = None
_catching: FrameType | None = None
_exit_status: object = None


def _watch_process() -> None:
    """Have the end of this process close its runs."""
    global _watching_pid, _outermost, _catching
    if threading.current_thread() is threading.main_thread():
        for number in _signals():
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)
    if _watching_pid == os.getpid():
        return
    if _watching_pid is None:
        # forked children inherit these
        _outermost = _frames_of_main_thread()[-1]
        atexit.register(_at_exit)
        _note_exits()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    _watching_pid = os.getpid()
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        # such a child ends without the atexit of its parent
        from multiprocessing.util import Finalize

        frames = _frames_of_main_thread()
        _catching = next((each for each in frames if each.f_code.co_name == "_bootstrap"), None)
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
    _end_all(*_meaning(_caught() if _catching is not None else _uncaught()))


def _frames_of_main_thread() -> list[FrameType]:
    """Return what the main thread executes, the innermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0, sys._getframe())
    frames = [frame]
    while (outer := frames[-1].f_back) is not None:
        frames.append(outer)
    return frames


def _caught() -> BaseException | None:
    """Return what ended a child of multiprocessing, as far as it is still known.

    Until Python 3.12 this is called while the exception is on its way; later ones leave its code.
    """
    error = sys.exc_info()[1]
    if error is not None or _catching is None:
        return error
    code = _catching.f_locals.get("exitcode")
    return SystemExit(_exit_status if code and isinstance(_exit_status, str) else code)


def _uncaught() -> BaseException | None:
    """Return what ended the main thread; None when it came to its last line.

    The interpreter gives ``atexit`` no hint of it, but its first frame has stopped at a return or
    elsewhere. An exception that was shown, by whichever hook, is in ``sys.last_value``.
    """
    frame = _outermost
    if frame is None or opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN"):
        return None
    shown: BaseException | None = getattr(sys, "last_value", None)
    trace = shown.__traceback__ if shown is not None else None
    # one that a debugger has caught did not get as far as the first frame
    if trace is not None and trace.tb_frame is frame:
        return shown
    return SystemExit(_exit_status)


def _meaning(error: BaseException | None) -> tuple[Status, str | None]:
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "KeyboardInterrupt"
    if error is not None and not isinstance(error, SystemExit):
        return "failed", describe_error(error)
    code = error.code if error is not None else None
    if code is None or code == 0:
        return "completed", None
    return "failed", f"exit code {int(code)}" if isinstance(code, int) else f"exit code 1: {code}"


def _note_exits() -> None:
    """Remember what the main thread gives to ``sys.exit``, or to ``exit`` and ``quit``."""
    sys_exit = sys.exit

    @wraps(sys_exit)
    def exit(status: Any = None, /) -> NoReturn:
        _note_status(status)
        sys_exit(status)

    sys.exit = exit
    quitter: Any = type(getattr(builtins, "exit", None))
    if quitter.__module__ == "_sitebuiltins":
        quitter.__call__ = _noting(quitter.__call__)


def _noting(former: Callable[[Any, Any], None]) -> Callable[..., None]:
    @wraps(former)
    def call(self: Any, code: Any = None) -> None:
        _note_status(code)
        former(self, code)

    return call


def _note_status(status: object) -> None:
    global _exit_status
    if threading.current_thread() is threading.main_thread():
        _exit_status = status


def _on_signal(number: int, frame: FrameType | None) -> None:
    # the signal may have come in the middle of a transaction of this very thread, whose lock would
    # be waited for in vain: then the run is found aborted on the next look
    waited, settings.busy_timeout_s = settings.busy_timeout_s, 1.0
    try:
        if _open:
            instance.current().database.dispose(close=False)
            _end_all("cancelled", signal.Signals(number).name)
    finally:
        settings.busy_timeout_s = waited
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # the exit status names the signal, as it does without us
