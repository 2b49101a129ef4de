"""Prefect flows and tasks that record themselves.

Change one import line::

    from lamindb_prefect import flow, task, materialize   # instead of: from prefect import ...

or none: with ``PREFECT_PLUGINS_ENABLED=1`` in the environment, or after :func:`activate`, flows and
tasks made by Prefect's own decorators record themselves just so.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamindb_prefect.activation import activate
    from lamindb_prefect.decorators import flow, materialize, task

__all__ = ["activate", "flow", "materialize", "task"]

_HOMES = {
    "activate": "lamindb_prefect.activation",
    "flow": "lamindb_prefect.decorators",
    "materialize": "lamindb_prefect.decorators",
    "task": "lamindb_prefect.decorators",
}


def __getattr__(name: str) -> Any:
    # importing this package must not import Prefect, which takes seconds
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
