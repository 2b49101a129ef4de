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
        the epoch, UTC.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started_at: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def this_process() -> Owner:
    return _describe(os.getpid())


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether an owner is provably dead: False for anything that cannot be seen from here."""
    me = this_process()
    if owner["host"] != me.host or owner["namespace"] != me.namespace:
        return False
    if owner["boot"] != me.boot:
        return True
    return not is_running(owner["pid"], owner["started_at"])


def is_running(pid: int, started_at: float) -> bool:
    """Whether a process of this machine lives: the same number, started at the same second."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1:
            # killed threads end one by one: with others left, one may still be writing
            return False
        # the clock may be set between two readings of a start time
        return abs(process.create_time() - started_at) < 2.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def start_time(owner: Owner) -> dt.datetime:
    return dt.datetime.fromtimestamp(owner.started_at, dt.UTC)


@cache
def _describe(pid: int) -> Owner:
    import psutil

    return Owner(host(), _boot(), _namespace(), pid, psutil.Process(pid).create_time())


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
