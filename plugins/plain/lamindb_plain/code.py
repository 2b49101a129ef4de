"""Names of scripts and notebooks: the same wherever their project is checked out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lamindb import hooks
from lamindb.hooks import Caller
from lamindb.storage.project import Project


def key_of(path: Path, caller: Caller) -> str:
    return hooks.code_key(path, caller.storage_root, caller.storage_id)


@cache
def code_key(path: Path) -> str:
    """The same as :func:`key_of` without the database."""
    return Project.unopened().key_of(path)
