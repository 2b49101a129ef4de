"""Other records whose objects share bytes with one: at its place, inside it, or around it.

Files and the folders that they lie in may have records of their own, of one storage or of nested
ones, where they are registered in place. What moves or removes one object must ask for the others.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, and_, or_, select, true

from lamindb.db.schema import file
from lamindb.identifiers import FILE_ID_LENGTH
from lamindb.instance import Instance, Location
from lamindb.storage.keys import ancestors


class Neighbours:
    """The storages that can be reached from here, by where they really lie."""

    def __init__(self, here: Instance) -> None:
        self._here = here

    @cached_property
    def _roots(self) -> dict[str, str]:
        return {location.id: _root(location) for location in self._here.locations()}

    def place(self, storage_id: str, key: str) -> str:
        """Return an absolute path or URL; of nested storages' objects, the same for the same.

        Raises: StorageMissingError: a folder of another host.
        """
        root = self._roots.get(storage_id) or _root(self._here.location(storage_id))
        return f"{root}/{key}"

    def find(
        self, connection: Connection, storage_id: str, key: str, without: Collection[str]
    ) -> str | None:
        """Return where another record's object lies that shares bytes with that at a key.

        Args: without: ids of records that do not count.
        """
        place = self.place(storage_id, key)
        for other, root in self._roots.items():
            if f"{root}/".startswith(f"{place}/"):
                shared: ColumnElement[bool] = true()
            elif place.startswith(f"{root}/"):
                shared = _touching(place.removeprefix(f"{root}/"))
            else:
                continue
            found = connection.execute(
                select(file.c.id, file.c.key, file.c.suffix)
                .where(file.c.storage_id == other, file.c.is_latest, shared)
                .limit(len(without) + 1)
            )
            for row in found:
                if row.id not in without:
                    return f"{root}/{row.key or f'{row.id}{row.suffix}'}"
        return None


def covering(place: str, places: Collection[str]) -> bool:
    """Whether one of the places is a folder above a place."""
    return any(place[:end] in places for end, letter in enumerate(place) if letter == "/")


def _root(location: Location) -> str:
    store = location.store
    return (str(Path(store.root).resolve()) if store.is_local else store.root).rstrip("/")


def _touching(key: str) -> ColumnElement[bool]:
    top = key.split("/", 1)[0]
    return or_(
        file.c.key.in_([key, *ancestors(key)]),
        and_(file.c.key > f"{key}/", file.c.key < f"{key}0"),
        and_(
            file.c.key.is_(None),
            file.c.id == top[:FILE_ID_LENGTH],
            file.c.suffix == top[FILE_ID_LENGTH:],
        ),
    )
