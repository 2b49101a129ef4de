"""What a process itself does, told from the threads and tasks beside it."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from lamindb.modules import loaded


def is_main_flow() -> bool:
    """Whether this is what the process itself does, not a thread or task beside others."""
    if threading.current_thread() is not threading.main_thread():
        return False
    task = current_task()
    return task is None or task is _main_task()


def _main_task() -> Any:
    """The task that ``asyncio.run`` or ``run_until_complete`` waits for in this thread."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in ("asyncio.base_events", "asyncio.runners"):
            for name in ("future", "task"):
                found = frame.f_locals.get(name)
                if found is not None and frame.f_code.co_name in ("run_until_complete", "run"):
                    return found
        frame = frame.f_back
    return None


def current_task() -> Any:
    """The asyncio task that this is, but not one in which a notebook runs a cell."""
    running_task = loaded("asyncio", "current_task")
    if running_task is None:
        return None
    try:
        task = running_task()
    except RuntimeError:  # no loop runs in this thread
        return None
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    if frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package in ("ipykernel", "IPython"):
            return None  # each cell of a notebook is run by a task of its own
    return task
