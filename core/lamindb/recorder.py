"""The core's own plugin: events into the spool at once, and from there into the database.

An engine never waits for the database: ``emit`` appends one line to a file, and two threads of this
module drain it, one for runs, one for files, whose hashing may take its time. What cannot be
recorded now stays in the spool, and the next opening of the instance records it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lamindb import config, lanes, spool
from lamindb.config import InstanceConfig, settings
from lamindb.errors import (
    DatabaseUnreachableError,
    LaminError,
    NoInstanceError,
)
from lamindb.hooks import environments, hookimpl
from lamindb.hooks.events import (
    EnvironmentSeen,
    Event,
    FileRead,
    FileRetracted,
    FileWritten,
    RunFinished,
    RunLinked,
    RunStarted,
)
from lamindb.modules import loaded

if TYPE_CHECKING:
    from lamindb.instance import Instance

logger = logging.getLogger("lamindb")

READ_WAITS_S = 30.0
_OF_FILES = (FileRead, FileWritten, FileRetracted)

# --- the hooks ------------------------------------------------------------------------------------


@hookimpl
def ln_environment_seen(event: EnvironmentSeen) -> None:
    _keep(event)


@hookimpl
def ln_run_started(event: RunStarted) -> None:
    _keep(event)


@hookimpl
def ln_run_finished(event: RunFinished) -> None:
    _keep(event)


@hookimpl
def ln_run_linked(event: RunLinked) -> None:
    _keep(event)


@hookimpl
def ln_file_read(event: FileRead) -> None:
    _keep(event)


@hookimpl
def ln_file_written(event: FileWritten) -> None:
    _keep(event)


@hookimpl
def ln_file_retracted(event: FileRetracted) -> None:
    _keep(event)


def _keep(event: Event) -> None:
    # one that another thread has closed meanwhile does not take it
    while (recorder := _current()) is not None and not recorder.keep(event):
        time.sleep(0)


# --- one recorder a process -----------------------------------------------------------------------


class Recorder:
    """Keeps the events of this process for one instance, and writes them down."""

    def __init__(self, configuration: InstanceConfig) -> None:
        self.config = configuration
        self.pid = os.getpid()
        self._spool: spool.SpoolFile | None = None
        try:
            self._spool = spool.SpoolFile(configuration)
        except OSError as error:
            logger.warning(
                "events cannot be kept on disk (%s): what is not in the database when this "
                "process is killed is lost",
                error,
            )
        # what is in the queues and what is on disk change together
        self._lock = threading.RLock() if self._spool is None else self._spool.lock
        self._is_closed = False
        self._told: set[str] = set()
        self._runs = lanes.Lane("runs", self._record_runs, self)
        self._files = lanes.Lane("files", self._record_files, self)
        self._lanes = (self._runs, self._files)
        self._alive: set[str] = set()
        self._beaten_at = time.monotonic()

    def keep(self, event: Event) -> bool:
        """Take an event, into the queue and onto the disk; False once this is closed."""
        with self._lock:
            if self._is_closed:
                return False
            if isinstance(event, RunStarted):
                self._alive.add(event.run)
            elif isinstance(event, RunFinished):
                self._alive.discard(event.run)
            # first into the queue: what is on disk alone counts as recorded if this is interrupted
            (self._files if isinstance(event, _OF_FILES) else self._runs).put(event)
            if self._spool is not None:
                try:
                    self._spool.append(event)
                except OSError as error:
                    self.warn_once("disk", f"events cannot be kept on disk for now: {error}")
        return True

    def flush(self, timeout_s: float) -> bool:
        """Have everything recorded that was kept before; False when that takes longer."""
        deadline = time.monotonic() + timeout_s
        return all(lane.flush(max(deadline - time.monotonic(), 0.0)) for lane in self._lanes)

    def warn_once(self, subject: str, message: str) -> None:
        if subject not in self._told:
            self._told.add(subject)
            logger.warning("%s", message)

    def say_out_of_reach(self, error: LaminError) -> None:
        self.warn_once("database", _waits(error, "happens meanwhile", self.config))

    def say_left(self, limit_s: float) -> None:
        """Say, unless the reason was said, that some of what was told is not recorded yet."""
        self.warn_once(
            "database",
            f"the database {self.config.database} did not take all within {limit_s:g} s: what is "
            f"left waits on disk, and is recorded when the instance {self.config.name!r} is next "
            "opened",
        )

    def close(self) -> None:
        for lane in self._lanes:
            lane.stop()
        with self._lock:
            self._is_closed = True
            if self._spool is not None:
                self._idle()
                self._spool.close()

    def abandon(self) -> None:
        if self._spool is not None:
            self._spool.abandon()

    @property
    def has_disk(self) -> bool:
        return self._spool is not None

    def on_disk(self, of_files: bool) -> Iterator[list[Event]]:
        """Yield batches of the events that are on disk: of files, or of runs."""
        if self._spool is not None:
            events = spool.read(self._spool.path)
            wanted = (event for event in events if isinstance(event, _OF_FILES) == of_files)
            while batch := list(islice(wanted, lanes.BATCH)):
                yield batch

    def idle(self) -> None:
        """Called by a lane whenever it has nothing to do, at least once a minute."""
        try:
            self._idle()
        except OSError as error:  # of the folder, which may come back
            logger.info("the events on disk stay for now: %s", error)

    def _idle(self) -> None:
        if self._spool is not None:
            self._spool.clear(lambda: all(lane.is_idle for lane in self._lanes))
        now = time.monotonic()
        if now - self._beaten_at >= lanes.BEAT_S:
            self._beaten_at = now
            if self._spool is not None:
                self._spool.touch()
            if self._alive and not any(lane.is_in_trouble for lane in self._lanes):
                self._beat(list(self._alive))

    # the parts that need the database are loaded by the thread that uses them

    def _record_runs(self, events: Sequence[Event]) -> None:
        from lamindb import recording

        recording.record_runs(self._instance(), events)

    def _record_files(self, events: Sequence[Event]) -> None:
        from lamindb import recording

        recording.record_files(self._instance(), events)

    def _instance(self) -> Instance:
        from lamindb import instance

        if self._is_closed:
            # its file is left to whoever opens the instance next, which is not this
            raise NoInstanceError(f"the instance {self.config.name!r} is no longer in use here")
        return instance.opened_from(self.config)

    def _beat(self, run_ids: list[str]) -> None:
        from lamindb import liveness

        try:
            liveness.beat(self._instance().database, run_ids)
        except LaminError as error:
            logger.info("the heartbeat of %d runs is late: %s", len(run_ids), error)


def _waits(error: LaminError, what: str, configuration: InstanceConfig) -> str:
    return (
        f"{error}. What {what} waits on disk, and is recorded when the instance "
        f"{configuration.name!r} is next opened, or by 'lamin doctor --fix'"
    )


# --- its life -------------------------------------------------------------------------------------

_lock = threading.Lock()
_recorder: Recorder | None = None
_is_refused = False
_watching_pid: int | None = None


def _current() -> Recorder | None:
    """The recorder of this process, made when it is first needed; None without an instance."""
    global _recorder, _is_refused
    recorder = _recorder
    if _is_refused or (recorder is not None and config.is_chosen(recorder.config)):
        return recorder
    with _lock:
        recorder = _recorder
        if recorder is not None and not config.is_chosen(recorder.config):
            recorder.close()  # of an instance that was in use before
            recorder = _recorder = None
        if recorder is None and not _is_refused:
            try:
                configuration = config.configuration()
                _recorder = Recorder(configuration)
                # what is told from now on belongs to it, whatever folder the process goes to
                config.choose(configuration)
            except LaminError as error:
                _is_refused = True
                logger.warning("nothing is recorded: %s", error)
                return None
            _watch_exit()
        return _recorder


def flush(timeout_s: float = READ_WAITS_S) -> bool:
    """Have everything recorded that this process has told of; False when that takes longer."""
    recorder = _recorder
    return recorder is None or recorder.flush(timeout_s)


def close(timeout_s: float | None = None) -> None:
    """Flush, for a bounded time, and forget the instance; what is left waits in the spool."""
    global _recorder, _is_refused
    recorder = _recorder
    if recorder is not None:
        limit_s = settings.drain_timeout_s if timeout_s is None else timeout_s
        if not recorder.flush(limit_s):
            recorder.say_left(limit_s)
    # first: what a signal's handler tells while it is closed would else wait for that
    _recorder, _is_refused = None, False
    if recorder is not None:
        recorder.close()
    environments.forget()


@hookimpl
def ln_records_read() -> None:
    flush()


@hookimpl
def ln_instance_closing() -> None:
    close()


@hookimpl
def ln_instance_opened(instance: Instance) -> None:
    """Record what processes that are gone have left in their spools."""
    from lamindb.instance import acting_as

    for path in spool.abandoned(instance.config):
        with spool.claimed(path) as is_ours:
            if not is_ours:
                continue
            try:
                with acting_as(spool.user_of(path)):
                    _replay(instance, path)
            except lanes.OUT_OF_REACH as error:
                message = _waits(error, "was told before", instance.config)
                if _recorder is None:
                    logger.warning("%s", message)
                else:
                    _recorder.warn_once("database", message)
                if isinstance(error, DatabaseUnreachableError):
                    return  # the next one would wait as long


def _replay(here: Instance, path: Path) -> None:
    from lamindb import recording

    events, refused = spool.read(path), 0
    while batch := list(islice(events, lanes.BATCH)):
        for write, wanted in ((recording.record_runs, False), (recording.record_files, True)):
            part = [event for event in batch if isinstance(event, _OF_FILES) == wanted]
            if part:
                refused += lanes.record_each(partial(write, here), part)
    if refused:
        kept = spool.set_aside(path)
        logger.warning("%d events were refused: they are kept in %s", refused, kept)
    else:
        path.unlink(missing_ok=True)


def _watch_exit() -> None:
    global _watching_pid
    if _watching_pid == os.getpid():
        return
    if _watching_pid is None:
        atexit.register(close)  # forked children inherit it
    _watching_pid = os.getpid()
    parent_process = loaded("multiprocessing", "parent_process")
    if parent_process is not None and parent_process() is not None:
        # such a child ends without atexit
        from multiprocessing.util import Finalize

        Finalize(None, close, exitpriority=-200)


def _after_fork() -> None:
    global _lock, _recorder
    _lock = threading.Lock()
    if _recorder is not None:
        _recorder.abandon()
    _recorder = None


# now: a child may be forked while the first event is told
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
