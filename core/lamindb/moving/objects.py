"""The objects of the default storage: copied, and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from lamindb.db.database import Database
from lamindb.db.schema import file
from lamindb.errors import DataMissingError, KeyConflictError, LinkRefusedError
from lamindb.moving.state import Left, State
from lamindb.storage.cache import holds
from lamindb.storage.keys import ancestors, object_key
from lamindb.storage.store import Store

CHUNK = 100
_CHUNK_BYTES = 10**9
_THREADS = 8
_OBJECTS = "objects"

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Stores:
    """Where the objects of one storage are, and where they go."""

    storage_id: str
    source: Store
    target: Store


def size_bytes(target: Database, storage_id: str) -> int:
    """Return how much there is to copy, as the records say."""
    with target.read() as connection:
        total = connection.execute(
            select(func.sum(file.c.size)).where(
                file.c.storage_id == storage_id, file.c.hash.is_not(None)
            )
        ).scalar()
    return int(total or 0)


def copy(state: State, stores: Stores, advance: Advance) -> None:
    """Copy the objects of the records in the target, each of them verified there.

    Raises: StorageError; OSError: what is done stays, and the next call goes on.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        while rows := _page(state, stores.storage_id):
            try:
                found = list(pool.map(lambda row: _copy(stores, row), rows))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            with state.step():
                _note(state, rows, found)
            advance(sum(row.size or 0 for row in rows))
    if state.progress.is_again:
        _sweep(state.target, stores)


def _note(state: State, rows: Sequence[Any], found: Sequence[str | None]) -> None:
    for row, problem in zip(rows, found, strict=True):
        if problem is None:
            state.progress.objects += 1
            state.progress.size_bytes += row.size or 0
        elif problem:
            state.progress.leave(Left(row.id, row.name, problem))
    state.progress.cursors[_OBJECTS] = [rows[-1].id]


def _page(state: State, storage_id: str) -> list[Any]:
    query = select(file).where(file.c.storage_id == storage_id).order_by(file.c.id).limit(CHUNK)
    last = state.progress.cursors.get(_OBJECTS)
    if last is not None:
        query = query.where(file.c.id > last[0])
    with state.target.read() as connection:
        rows = connection.execute(query).all()
    taken, size = [], 0
    for row in rows:
        taken.append(row)
        size += row.size or 0
        if size > _CHUNK_BYTES:
            break
    return taken


def _copy(stores: Stores, row: Any) -> str | None:
    """Copy one object; returns why it cannot be, ``""`` where there was none to begin with."""
    key = object_key(row.id, row.key, row.suffix, is_latest=row.is_latest)
    if row.hash is None:
        return "its content was never hashed, so that nobody can tell whether it is still the same"
    try:
        source = stores.source.source(key, row.hash_type)
        written = _write(stores.target, source, key, row)
    except DataMissingError:
        # an older version that was overwritten in place has no object, and its record says so
        return f"it is gone from {stores.source.uri(key)}" if row.is_latest else ""
    except LinkRefusedError as error:
        return str(error)
    if written is not None and written != row.hash:
        stores.target.remove(key, row.hash_type)
        return f"{stores.source.uri(key)} was changed without lamindb"
    if not holds(stores.target.source(key, row.hash_type), row.hash, anew=True):
        stores.target.remove(key, row.hash_type)
        raise OSError(
            f"{stores.target.uri(key)} does not hold what was written to it: run this once more"
        )
    return None


def _write(target: Store, source: Any, key: str, row: Any) -> str | None:
    """Write an object; returns its hash, or None where a killed process has left it whole."""
    with suppress(KeyConflictError):
        return target.write(source, key).hash
    # nothing but this migration writes here: it is ours, whole or in part
    with suppress(DataMissingError):
        if holds(target.source(key, row.hash_type), row.hash, anew=True):
            return None
    target.remove(key, row.hash_type)
    return target.write(source, key).hash


def _sweep(target: Database, stores: Stores) -> None:
    """Remove what was copied of records that the source has no more."""
    with target.read() as connection:
        rows = connection.execute(
            select(file.c.id, file.c.key, file.c.suffix, file.c.is_latest).where(
                file.c.storage_id == stores.storage_id
            )
        ).all()
    known = {object_key(row.id, row.key, row.suffix, is_latest=row.is_latest) for row in rows}
    for key in _all_keys(stores.target):
        if known.isdisjoint((key, *ancestors(key))):
            stores.target.remove(key)


def _all_keys(store: Store) -> Iterator[str]:
    yield from list(store.keys())
    yield from store.version_keys()
