"""Inside which run this code is: of a decorated function, or one that is tracked."""

from __future__ import annotations

from dataclasses import dataclass

from lamindb import config
from lamindb.hooks import manager
from lamindb_plain.stack import Layer, Stack


@dataclass
class Inside(Layer):
    """One run that this process is in.

    Attributes: is_function: of a decorated function, which only events know.
    """

    run: str
    is_function: bool


_runs = Stack[Inside]("lamindb_inside")
_started_by = config.parent_run_id()

innermost = _runs.innermost
enter, leave = _runs.enter, _runs.leave
step_out, resumed = _runs.step_out, _runs.resumed


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
