"""Snakemake workflows that record themselves: ``snakemake --logger lamindb``.

In a Snakefile, ``from lamindb_snakemake import tracked`` gives outputs keys and descriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamindb_snakemake.attach import track as track
    from lamindb_snakemake.flags import tracked as tracked

__all__ = ["track", "tracked"]

_PLACES = {"track": "attach", "tracked": "flags"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
