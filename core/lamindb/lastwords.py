"""What a process that a signal kills at once still says: which signal it was.

A thread other than the main one cannot have Python handle a signal. ``faulthandler`` can from any
thread have C code write to an open file and then let the signal do what it does: what is in the
file when the process is gone tells SIGTERM from SIGKILL.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lamindb.config import state_dir
from lamindb.processes import this_process

# the last words of this process: its number, and by signal the open file
_files: dict[tuple[int, int], int] = {}


def listen(signals: Iterable[signal.Signals]) -> None:
    """Have those signals noted that nobody handles; callable from any thread."""
    if not hasattr(faulthandler, "register"):
        return  # Windows has no such signals
    for number in signals:
        if (os.getpid(), number) in _files or signal.getsignal(number) is not signal.SIG_DFL:
            continue
        owner = this_process()
        with suppress(OSError, RuntimeError):
            path = _folder() / f"{owner.pid}-{owner.started_at:.0f}-{number.name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            faulthandler.register(number, file=descriptor, all_threads=False, chain=True)
            _files[os.getpid(), number] = descriptor


def found(pid: int, started_at: float) -> str | None:
    """Return the name of the signal that ended a process of this host, if it left word."""
    for path in _folder().glob(f"{pid}-*"):
        _, started, name = path.name.split("-")
        with suppress(OSError, ValueError):
            if abs(float(started) - started_at) < 2.0 and path.stat().st_size:
                return name
    return None


def forget(pid: int) -> None:
    """Remove the files of a process."""
    for path in _folder().glob(f"{pid}-*"):
        with suppress(OSError):
            path.unlink()


def forget_own() -> None:
    """Remove the files of this process, if there are any."""
    if any(pid == os.getpid() for pid, _ in _files):
        forget(os.getpid())


def _after_fork() -> None:
    for _, number in _files:
        faulthandler.unregister(number)  # it would write into the file of its parent
    for descriptor in _files.values():
        os.close(descriptor)
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _folder() -> Path:
    return state_dir() / "last-words"
