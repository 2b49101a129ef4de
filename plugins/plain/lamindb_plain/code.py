"""Names of code by where it lies."""

from __future__ import annotations

from pathlib import Path

from lamindb.hooks import Caller, key_in_repository, source_hash

__all__ = ["key_of", "source_hash"]


def key_of(path: Path, caller: Caller) -> str:
    """Return a name for a file of code that is the same wherever the project is checked out.

    ``<git remote>/<path in the repository>``, without credentials; outside of a repository with a
    remote, ``<storage id>/<path>`` relative to the folder that holds the storage, else the absolute
    path.
    """
    key = key_in_repository(path)
    if key is not None:
        return key
    if caller.storage_root is not None and path.is_relative_to(caller.storage_root.parent):
        relative = path.relative_to(caller.storage_root.parent).as_posix()
        return f"{caller.storage_id}/{relative}"
    return str(path)
