"""The door for plugin authors: mark functions with ``hookimpl`` and register by entry point.

A plugin is a module or object with functions named as in :mod:`lamindb.hooks.specs`::

    # pyproject.toml:  [project.entry-points.lamindb]  mine = "my_package.plugin"
    from lamindb.hooks import hookimpl

    @hookimpl
    def ln_loader(suffix):
        return read_fits if suffix == ".fits" else None
"""

from __future__ import annotations

from lamindb.hooks.manager import hookimpl, plugins
from lamindb.hooks.specs import PROJECT, Caller, InferredTransform, Loader, Serializer

__all__ = [
    "PROJECT",
    "Caller",
    "InferredTransform",
    "Loader",
    "Serializer",
    "hookimpl",
    "plugins",
]
