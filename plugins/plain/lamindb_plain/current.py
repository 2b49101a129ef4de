"""Inside which run this code is: of a decorated function, or one that is tracked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from lamindb import config
from lamindb.hooks import manager


@dataclass
class Inside:
    """One run that this process is in.

    Attributes: is_function: of a decorated function, which only events know.
    """

    run: str
    is_function: bool
    outer: Inside | None = None
    is_open: bool = True
    is_main: bool = False
    pid: int = field(default_factory=os.getpid)


_here: ContextVar[Inside | None] = ContextVar("lamindb_inside", default=None)
_main: Inside | None = None
_started_by = config.parent_run_id()


def innermost() -> Inside | None:
    """The run around this code; in a thread without one of its own, that of the main flow."""
    for found in (_here.get(), _main):
        while found is not None and not found.is_open:
            found = found.outer
        if found is not None:
            return found
    return None


def innermost_function() -> str | None:
    """The id of the decorated function's run around this code, tracked runs inside it or not."""
    found = innermost()
    while found is not None and not (found.is_function and found.is_open):
        found = found.outer
    return None if found is None else found.run


def around() -> str | None:
    """The id of the run that a new one in this place is part of: ours, an engine's, or the run of
    the process that started this one."""
    found = innermost()
    engine: str | None = found.run if found is not None else manager.first("ln_current_run")
    return engine or _started_by


def enter(inside: Inside, *, is_main: bool) -> None:
    """Be inside a run; args: is_main: whether threads without a run of their own are too."""
    global _main
    inside.outer, inside.is_main = innermost(), is_main
    _here.set(inside)
    if is_main:
        _main = inside


def leave(inside: Inside) -> None:
    inside.is_open = False
    step_out(inside)


def step_out(inside: Inside) -> None:
    """Be in the run around it, for now."""
    global _main
    if _here.get() is inside:
        _here.set(inside.outer)
    if _main is inside:
        _main = inside.outer


@contextmanager
def resumed(inside: Inside | None) -> Iterator[None]:
    """Within: code of this run, whoever calls it; as a generator goes on where it is asked to."""
    global _main
    if inside is None:
        yield
        return
    here, main = _here.get(), _main
    _here.set(inside)
    if inside.is_main:
        _main = inside
    try:
        yield
    finally:
        _here.set(here)
        if inside.is_main:
            _main = main
