"""Asks about modules that may be loaded, without loading them."""

from __future__ import annotations

import sys
from typing import Any


def loaded(module: str, name: str) -> Any:
    """Return what a module calls by a name; None unless the module is loaded.

    One that another thread is about to load lacks some of its names.
    """
    found = sys.modules.get(module)
    if getattr(getattr(found, "__spec__", None), "_initializing", False):
        return None
    return getattr(found, name, None)
