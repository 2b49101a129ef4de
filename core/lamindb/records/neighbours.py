"""Other records whose objects share bytes with one: at its place, inside it, or around it.

Files and the folders that they lie in may have records of their own, of one storage or of nested
ones, where they are registered in place. What moves or removes one object must ask for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, and_, select, true

from lamindb.db.database import chunked
from lamindb.db.schema import file
from lamindb.identifiers import FILE_ID_LENGTH
from lamindb.instance import Instance, Location
from lamindb.storage.hashing import FILE_HASH
from lamindb.storage.keys import ancestors


@dataclass(frozen=True)
class Moved:
    """An object that is about to be moved or removed: its place, and whether it may be a folder."""

    place: str
    may_be_folder: bool

    def shares_with(self, other: str) -> bool:
        """Whether an object at another place is the same one, around it or inside it."""
        return f"{self.place}/".startswith(f"{other}/") or (
            self.may_be_folder and other.startswith(f"{self.place}/")
        )


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

    def moved(self, storage_id: str, key: str, hash_type: str | None) -> Moved:
        return Moved(self.place(storage_id, key), hash_type != FILE_HASH)

    def find(
        self, connection: Connection, objects: Sequence[Moved], without: Collection[str]
    ) -> tuple[str, str] | None:
        """Return the place of an object, and that of another record's which shares bytes with it.

        Args: without: ids of records that do not count.
        """
        for storage_id, root in self._roots.items() if objects else ():
            for near in _near(root, objects):
                rows = connection.execute(
                    select(file.c.id, file.c.key, file.c.suffix).where(
                        file.c.storage_id == storage_id, file.c.is_latest, near
                    )
                )
                for row in rows:
                    other = f"{root}/{row.key or f'{row.id}{row.suffix}'}"
                    if row.id not in without:
                        for each in objects:
                            if each.shares_with(other):
                                return each.place, other
        return None


def covering(place: str, places: Collection[str]) -> bool:
    """Whether one of the places is a folder above a place."""
    return any(place[:end] in places for end, letter in enumerate(place) if letter == "/")


def _root(location: Location) -> str:
    store = location.store
    return (str(Path(store.root).resolve()) if store.is_local else store.root).rstrip("/")


def _near(root: str, objects: Iterable[Moved]) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that find, among the files of a root, all that share bytes with objects."""
    keys: set[str] = set()
    folders = []
    for each in objects:
        if each.place.startswith(f"{root}/"):
            key = each.place.removeprefix(f"{root}/")
            keys.update((key, *ancestors(key)))
            if each.may_be_folder:
                folders.append(key)
        elif each.may_be_folder and f"{root}/".startswith(f"{each.place}/"):
            yield true()
            return
    ids = {key[:FILE_ID_LENGTH] for key in keys if "/" not in key and len(key) >= FILE_ID_LENGTH}
    for chunk in chunked(sorted(keys)):
        yield file.c.key.in_(chunk)
    for chunk in chunked(sorted(ids)):
        yield and_(file.c.key.is_(None), file.c.id.in_(chunk))
    for key in folders:
        yield and_(file.c.key > f"{key}/", file.c.key < f"{key}0")
