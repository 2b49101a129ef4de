"""Who runs an operation or a run, and whether that process is still alive."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lamindb.config import host


@dataclass(frozen=True)
class Owner:
    """One process, told apart from every other that ever had its number.

    Attributes:
        host: machine name; boot: of this start of the machine; namespace: of process numbers, so
        that one container does not take another's processes for dead; started_at: seconds since
        the epoch, UTC; ticks: of the kernel's clock from the boot to its start, which no setting of
        the clock moves, None where the system does not tell.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started_at: float
    ticks: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def this_process() -> Owner:
    return _describe(os.getpid())


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether an owner is provably dead: False for anything that cannot be seen from here."""
    if not is_visible(owner):
        return False
    me = this_process()
    if owner["boot"] != me.boot:
        return True
    found = _read_stat(owner["pid"]) if owner.get("ticks") is not None else None
    if found is None:
        return not is_running(owner["pid"], owner["started_at"])
    return found.ticks != owner["ticks"] or found.is_gone


def is_visible(owner: dict[str, Any]) -> bool:
    """Whether this process would see that an owner lives: it is of the same host and container."""
    me = this_process()
    return bool(owner["host"] == me.host and owner["namespace"] == me.namespace)


def is_running(pid: int, started_at: float) -> bool:
    """Whether a process of this machine lives: the same number, started at the same second.

    One that this user may not look at is taken to live.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1:
            # killed threads end one by one: with others left, one may still be writing
            return False
        # the clock may be set between two readings of a start time
        return abs(process.create_time() - started_at) < 2.0
    except psutil.NoSuchProcess:
        return _is_hidden(pid)
    except psutil.AccessDenied:
        return True


def _is_hidden(pid: int) -> bool:
    """Whether a process is there that the system does not show to this user, as with hidepid."""
    if os.name != "posix":
        return False  # os.kill would end it
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # a zombie, or ended and begun just now


@dataclass(frozen=True)
class _Stat:
    """What Linux says of a process; is_gone: whether it has ended, with all of its threads."""

    ticks: int
    is_gone: bool


def _read_stat(pid: int) -> _Stat | None:
    """Read ``/proc/PID/stat``; None where there is none."""
    try:
        # the name before the last bracket may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        # fields 3, 20 and 22 of proc_pid_stat(5)
        return _Stat(int(fields[19]), fields[0] in "ZX" and int(fields[17]) <= 1)
    except (OSError, ValueError, IndexError):
        return None


def start_time(owner: Owner) -> dt.datetime:
    return dt.datetime.fromtimestamp(owner.started_at, dt.UTC)


@cache
def _describe(pid: int) -> Owner:
    import psutil

    stat = _read_stat(pid)
    started_at = psutil.Process(pid).create_time()
    return Owner(host(), _boot(), _namespace(), pid, started_at, stat.ticks if stat else None)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
