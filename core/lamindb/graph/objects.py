"""Where the objects of files lie."""

from __future__ import annotations

from pathlib import Path

from lamindb import instance
from lamindb.errors import LaminError
from lamindb.graph.model import Row
from lamindb.storage.keys import object_key


def object_of(row: Row) -> tuple[str | None, bool]:
    """Return where a file's object lies, and whether it is gone from there.

    None for a folder of another host. Behind a URL nothing is looked for.
    """
    try:
        store = instance.current().location(row["storage_id"]).store
    except LaminError:
        return None, False
    key = object_key(row["id"], row["key"], row["suffix"], is_latest=row["is_latest"])
    path = store.uri(key)
    return path, store.is_local and not Path(path).exists()
