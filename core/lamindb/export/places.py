"""Where objects are, as URIs that others understand, and hashes as they write them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lamindb import instance
from lamindb.errors import LaminError
from lamindb.graph.model import Row, label
from lamindb.storage.hashing import FILE_HASH
from lamindb.storage.keys import object_key


@dataclass(frozen=True)
class Place:
    """Where an object is, or was when it was recorded.

    Attributes:
        root: of its storage, a URL or absolute path; key: in it; host: of a local one, elsewhere.
        path: None where it is not a file of this machine.
    """

    root: str
    key: str
    host: str
    path: Path | None

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @property
    def full(self) -> str:
        return f"{self.root.rstrip('/')}/{self.key}"

    @property
    def uri(self) -> str:
        if self.is_local:
            return f"file://{self.host}{quote(self.full)}"
        scheme, _, rest = self.full.partition("://")
        return f"{scheme}://{quote(rest)}"


def place_of(file: Row, storage: Row) -> Place:
    """Return where a file's object is; of a folder of another host, where it is there."""
    key = object_key(file["id"], file["key"], file["suffix"], is_latest=file["is_latest"])
    try:
        store = instance.current().location(file["storage_id"]).store
    except LaminError:
        return Place(storage["root"], key, storage["host"], None)
    return Place(store.root, key, "", Path(store.root) / key if store.is_local else None)


def hex_hash(file: Row) -> str | None:
    """Return the MD5 of a file's content as people write it; None of a directory, or unknown."""
    if file["hash"] is None or file["hash_type"] != FILE_HASH:
        return None
    return base64.urlsafe_b64decode(file["hash"] + "==").hex()


def name_of(file: Row) -> str:
    return label(file)
