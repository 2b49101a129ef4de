"""Where a path or URL belongs: in which storage, under which key."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection

from lamindb.config import FOLDER, is_remote
from lamindb.instance import Instance, register_storage


@dataclass(frozen=True)
class Place:
    """A key in a storage.

    Attributes:
        storage_id: None for the root of files in place that has no row yet.
        root: of the storage; uri: as it is kept, a text that every database can hold.
    """

    storage_id: str | None
    root: str
    key: str
    uri: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2] or self.key


def place_of(
    here: Instance, uri: str, realpath: Callable[[str], str] = os.path.realpath
) -> Place | None:
    """Return where a file is registered without being moved; None for the instance's own files.

    In the innermost managed storage that holds it; else in the project folder, the one that leads
    to the instance; else in a storage of the whole file system, or of the bucket.
    """
    real = uri if is_remote(uri) else _real(uri, realpath)
    managed = [
        (len(location.store.root), location.id, location.store.root, key)
        for location in here.managed_locations()
        if (key := _key_below(location.store.root, real)) is not None
    ]
    if managed:
        _, storage_id, root, key = max(managed)
        return _place(storage_id, root, key, uri)
    for root in _roots(here, real):
        found = _key_below(root, real)
        if found is not None:
            return _place(None, root, found, uri)
    return None


def _real(path: str, realpath: Callable[[str], str]) -> str:
    """Return a path whose folders are resolved; a link keeps the name by which it is used."""
    folder, name = os.path.split(path)
    if name in ("", os.curdir, os.pardir):
        return realpath(path)
    return os.path.join(realpath(folder), name)  # noqa: PTH118


def _key_below(root: str, real: str) -> str | None:
    """Return the key of a resolved location below a root, ``.`` for the root itself."""
    if is_remote(root) != is_remote(real):
        return None
    base = root.rstrip("/") if is_remote(root) else _resolved(root)
    if real == base:
        return "."
    prefix = base if base.endswith(os.sep) else f"{base}/"
    return real[len(prefix) :].replace(os.sep, "/") if real.startswith(prefix) else None


@lru_cache(maxsize=64)
def _resolved(root: str) -> str:
    return os.path.realpath(root)


def _place(storage_id: str | None, root: str, key: str, uri: str) -> Place | None:
    if key == "." or FOLDER in key.split("/"):
        return None
    return Place(storage_id, root, _text(key), _text(uri))


def _text(name: str) -> str:
    # file names are bytes, and some are no Unicode
    return name.replace("\0", "").encode(errors="backslashreplace").decode()


def _roots(here: Instance, uri: str) -> list[str]:
    if is_remote(uri):
        scheme, _, rest = uri.partition("://")
        return [f"{scheme}://{rest.partition('/')[0]}"]
    project = here.project_folder
    roots = [] if project is None else [str(project)]
    return [*roots, os.sep if uri.startswith(os.sep) else Path(uri).anchor]


def storage_at(connection: Connection, here: Instance, place: Place) -> str:
    """Return the id of a place's storage, adding its row for the first file in it."""
    if place.storage_id is not None:
        return place.storage_id
    known = here.unmanaged_storages.get(place.root)
    if known is None:
        known = register_storage(connection, place.root, here.user_id, managed=False)
        here.unmanaged_storages[place.root] = known
    return known
