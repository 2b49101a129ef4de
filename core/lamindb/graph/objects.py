"""Where the objects of files lie, and whether they are still what was recorded."""

from __future__ import annotations

import datetime as dt
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamindb import instance
from lamindb.errors import LaminError
from lamindb.graph.model import Row
from lamindb.storage.cache import digest_once
from lamindb.storage.hashing import DIRECTORY_HASH
from lamindb.storage.keys import object_key
from lamindb.storage.sources import LocalSource

State = Literal["", "gone", "changed since"]
# a view is not to wait for more to be read: what is beyond counts as unchanged
_MOST_HASHED_BYTES = 64 << 20


@dataclass(frozen=True)
class Object:
    """A file's object: where it lies, and what has become of it since it was recorded.

    Attributes: path: None for a folder of another host.
    """

    path: str | None
    state: State


class Objects:
    """The objects of what one view shows, each looked at once.

    Behind a URL nothing is looked for. Bytes are compared only where neither size nor times tell,
    and of a view no more than 64 MiB.
    """

    def __init__(self) -> None:
        self._found: dict[str, Object] = {}
        self._left = _MOST_HASHED_BYTES

    def of(self, row: Row) -> Object:
        """Return the object of a file."""
        if row["id"] not in self._found:
            self._found[row["id"]] = self._look(row)
        return self._found[row["id"]]

    def _look(self, row: Row) -> Object:
        try:
            store = instance.current().location(row["storage_id"]).store
        except LaminError:
            return Object(None, "")
        key = object_key(row["id"], row["key"], row["suffix"], is_latest=row["is_latest"])
        path = store.uri(key)
        return Object(path, self._state(row, path) if store.is_local else "")

    def _state(self, row: Row, path: str) -> State:
        try:
            there = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return "gone"
        except OSError:
            return ""  # in a folder of others
        is_changed = row["is_latest"] and self._is_changed(row, path, there)
        return "changed since" if is_changed else ""

    def _is_changed(self, row: Row, path: str, there: os.stat_result) -> bool:
        is_folder = row["hash_type"] == DIRECTORY_HASH
        if row["size"] is None or is_folder != stat.S_ISDIR(there.st_mode):
            return row["size"] is not None
        if is_folder:
            return False  # to be sure, all that is in it had to be read
        if there.st_size != row["size"]:
            return True
        touched_at = dt.datetime.fromtimestamp(max(there.st_mtime, there.st_ctime), dt.UTC)
        if row["hash"] is None or touched_at <= row["created_at"] or there.st_size > self._left:
            return False
        self._left -= there.st_size
        try:
            found = digest_once(LocalSource(path, any_name=True))
        except (LaminError, OSError):
            return False
        return found.hash != str(row["hash"])
