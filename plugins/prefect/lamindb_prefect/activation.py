"""Tracks flow files as they are: what Prefect's own decorators make from now on records itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from lamindb_prefect.definitions import Kind
from lamindb_prefect.functions import original
from lamindb_prefect.instruments import instrument


def activate() -> None:
    """Have every flow and task that is defined from now on record itself, in this process.

    Call it before the flows are defined, as in the first cell of a notebook. Calling it again
    changes nothing.
    """
    from prefect.flows import Flow
    from prefect.tasks import Task

    _instrument_new(Task, "task")
    _instrument_new(Flow, "flow")


def _instrument_new(made: type[Any], kind: Kind) -> None:
    former: Callable[..., None] = made.__init__
    if hasattr(former, "_lamindb_former"):
        return

    @wraps(former)
    def init(self: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        former(self, original(fn), *args, **kwargs)
        instrument(self, kind, former=fn)

    init._lamindb_former = former  # type: ignore[attr-defined]
    made.__init__ = init
