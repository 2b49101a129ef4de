"""Plain Python: scripts, notebooks, functions and commands that record themselves.

``flow`` and ``step`` record the calls of functions; they schedule nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamindb_plain.functions import flow, step

__all__ = ["flow", "step"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lamindb_plain import functions

        return getattr(functions, name)
    raise AttributeError(f"module 'lamindb_plain' has no attribute {name!r}")
