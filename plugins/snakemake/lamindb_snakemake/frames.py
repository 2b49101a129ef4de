"""Snakemake's objects, found where they are: on the stack of who calls.

No version of Snakemake hands them out. A later one may hide them, and then nothing is found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

LOGGER = "snakemake.logging"


def frames() -> Iterator[FrameType]:
    """Yield who has called, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def workflow_here() -> Any:
    """Return the workflow that this thread reads or executes; None outside of one."""
    for frame in frames():
        found = frame.f_locals.get("self")
        kind = type(found)
        if kind.__name__ == "Workflow" and kind.__module__.startswith("snakemake"):
            return found
    return None


def local_of(function: str, name: str) -> Any:
    """Return a local variable of the innermost caller with that name; None if there is none."""
    for frame in frames():
        if frame.f_code.co_name == function and name in frame.f_locals:
            return frame.f_locals[name]
    return None
