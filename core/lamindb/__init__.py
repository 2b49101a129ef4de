"""Provenance for workflows: which run made this file, from what, with which code.

>>> import lamindb as ln
>>> ln.track(transform=ln.Transform("My script", type="pipeline"))
>>> ln.add(ln.File("results.csv", key="tables/results.csv"))
>>> ln.select(ln.File, key="tables/results.csv").one().run

Importing this package loads none of its parts: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lamindb._version import __version__

if TYPE_CHECKING:
    from lamindb import dev, errors, hooks, setup
    from lamindb.config import settings
    from lamindb.graph import Lineage, lineage
    from lamindb.graph.causes import why
    from lamindb.graph.compare import diff
    from lamindb.graph.staleness import stale
    from lamindb.query import Query, Session, select, view
    from lamindb.records import File, Run, Storage, Transform, User
    from lamindb.records.active import context
    from lamindb.records.adding import add
    from lamindb.records.deleting import delete
    from lamindb.tracking import finish, track

_HOMES = {
    "File": "lamindb.records",
    "Lineage": "lamindb.graph",
    "Query": "lamindb.query",
    "Run": "lamindb.records",
    "Session": "lamindb.query",
    "Storage": "lamindb.records",
    "Transform": "lamindb.records",
    "User": "lamindb.records",
    "add": "lamindb.records.adding",
    "context": "lamindb.records.active",
    "delete": "lamindb.records.deleting",
    "diff": "lamindb.graph.compare",
    "finish": "lamindb.tracking",
    "lineage": "lamindb.graph",
    "select": "lamindb.query",
    "settings": "lamindb.config",
    "stale": "lamindb.graph.staleness",
    "track": "lamindb.tracking",
    "view": "lamindb.query",
    "why": "lamindb.graph.causes",
}
# No module may share a name with an object above: importing it would set the module in its place.
_MODULES = ("dev", "errors", "hooks", "setup")

__all__ = [
    "File",
    "Lineage",
    "Query",
    "Run",
    "Session",
    "Storage",
    "Transform",
    "User",
    "__version__",
    "add",
    "context",
    "delete",
    "dev",
    "diff",
    "errors",
    "finish",
    "hooks",
    "lineage",
    "select",
    "settings",
    "setup",
    "stale",
    "track",
    "view",
    "why",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"lamindb.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'lamindb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
