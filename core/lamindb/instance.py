"""The instance in use: its database, its user, its storages; one per process."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from lamindb import config, journal, liveness
from lamindb.config import Identity, InstanceConfig
from lamindb.db import migrate, schema
from lamindb.db.database import Database, serialise
from lamindb.errors import LaminError, NoInstanceError, StorageMissingError
from lamindb.hooks import manager
from lamindb.identifiers import STORAGE_ID_LENGTH, USER_ID_LENGTH, random_id
from lamindb.storage.store import Store

logger = logging.getLogger("lamindb")

_LOCATED_S = 1.0

_lock = threading.RLock()
_current: Instance | None = None
_acting: ContextVar[Identity | None] = ContextVar("lamindb_acting", default=None)


@dataclass(frozen=True)
class Location:
    """A storage as this process sees it: its row's id, and its store where it lies here."""

    id: str
    store: Store
    managed: bool


class Instance:
    """One opened instance."""

    def __init__(self, configuration: InstanceConfig) -> None:
        self.config = configuration
        self.database = Database(configuration)
        # by who acts, None for who works here
        self._user_ids: dict[Identity | None, str] = {}
        # root → id of the storages whose files are only known where they lie
        self.unmanaged_storages: dict[str, str]
        try:
            migrate.ensure_current(self.database)
            storages = self._read_storages()
            self._located_at = time.monotonic()
            self.default_storage_id = self._find_default_storage(storages)
            self._locations: dict[str, Location] | None = self._reachable(storages)
            self.unmanaged_storages = {
                each.store.root: each.id for each in self.locations() if not each.managed
            }
        except BaseException:
            self.database.dispose()
            raise

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def user_id(self) -> str:
        """The id of the user who works here, or for whom is written, registered when first seen."""
        who = _acting.get()
        found = self._user_ids.get(who)
        if found is None:
            found = self._user_ids[who] = register_user(self.database, who)
        return found

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As :meth:`lamindb.db.database.Database.begin`, to write records that say who made them.

        A new user is registered before: within the transaction that would wait for its end.
        """
        _ = self.user_id
        try:
            with self.database.begin() as connection:
                yield connection
        except IntegrityError:
            self._user_ids.clear()  # the user may have been deleted meanwhile
            raise

    @cached_property
    def project_folder(self) -> Path | None:
        """See :attr:`lamindb.config.InstanceConfig.project_folder`."""
        return self.config.project_folder

    @property
    def default_location(self) -> Location:
        return self.location(self.default_storage_id)

    def location(self, storage_id: str) -> Location:
        """Return a storage by id.

        Raises: StorageMissingError: a folder of another host, which cannot be reached from here.
        """
        known = self._locations
        if known is None or storage_id not in known:
            known = self._locations = self._read_locations()
        try:
            return known[storage_id]
        except KeyError:
            raise StorageMissingError(
                f"storage {storage_id} is a folder of another host: reach its files there, or "
                "mount it here and add it with ln.add(ln.Storage(root))"
            ) from None

    def managed_locations(self) -> list[Location]:
        """Return the storages whose files stay where they are when they are added."""
        return [location for location in self.locations() if location.managed]

    def locations(self) -> list[Location]:
        """Return the storages that can be reached from here, those too whose files are only known.

        One that another process has added is known here within a second.
        """
        known = self._locations
        if known is None or time.monotonic() - self._located_at > _LOCATED_S:
            known = self._locations = self._read_locations()
            self._located_at = time.monotonic()
        return list(known.values())

    def forget_locations(self) -> None:
        self._locations = None

    def settle(self) -> None:
        """Undo or finish what dead processes have left, and close their runs.

        What cannot be done now is logged and left to the next opening: an instance that may not be
        written can still be read.
        """
        try:
            journal.recover(self.database, lambda storage_id: self.location(storage_id).store)
            for location in self.managed_locations():
                if location.store.is_local and location.store.read_marker() == location.id:
                    journal.sweep_incoming(self.database, location.id, location.store)
            manager.notify("ln_instance_opened", instance=self)
            liveness.close_dead_runs(self.database)
        except (LaminError, OSError) as error:
            logger.warning("what dead processes have left stays for now: %s", error)

    def _read_locations(self) -> dict[str, Location]:
        return self._reachable(self._read_storages())

    def _read_storages(self) -> Sequence[Row[str, str, str, bool]]:
        table = schema.storage
        columns = (table.c.id, table.c.root, table.c.host, table.c.managed)
        with self.database.read() as connection:
            return connection.execute(select(*columns)).all()

    def _reachable(self, storages: Sequence[Row[str, str, str, bool]]) -> dict[str, Location]:
        here = {
            row.id: Location(row.id, Store(row.root), row.managed)
            for row in storages
            if row.host in ("", config.host())
        }
        # the configuration knows where the root lies for this user, also when it was moved or is
        # mounted elsewhere than where it was registered
        default = self.default_storage_id
        here[default] = Location(default, Store(self.config.storage), True)
        return here

    def _find_default_storage(self, storages: Sequence[Row[str, str, str, bool]]) -> str:
        store = Store(self.config.storage)
        host = config.host() if store.is_local else ""
        marker = store.read_marker() if store.is_local else None
        marked = next((row for row in storages if row.id == marker), None)
        if marked is not None:
            if marked.root != store.root and marked.host == host:
                self._follow_moved_root(marked.id, store.root, marked.root)
            return str(marked.id)
        for row in storages:
            if (row.root, row.host) == (store.root, host):
                return str(row.id)
        raise StorageMissingError(
            f"the storage root {store.root} of instance {self.name!r} is not the one its "
            "database knows: mount or move it back, or correct the instance's file "
            f"{self.config.path or ''}".rstrip()
        )

    def _follow_moved_root(self, storage_id: str, root: str, old_root: str) -> None:
        if Store(old_root).read_marker() == storage_id:
            return  # a copy, or a second mount: the registered place is still good
        with self.database.begin() as connection:
            connection.execute(
                update(schema.storage)
                .where(schema.storage.c.id == storage_id)
                .values(root=root, updated_at=schema.now())
            )


@contextmanager
def acting_as(who: Identity | None) -> Iterator[None]:
    """Write down in the name of somebody else; None is who works here."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def current() -> Instance:
    """Return the instance in use, opening it when it is first asked for.

    Raises: NoInstanceError; DatabaseError.
    """
    global _current
    found = _current
    if found is None:
        with _lock:
            found = _current
            if found is None:
                found = _current = Instance(config.configuration())
                is_new = True
            else:
                is_new = False
        if is_new:
            # without the lock: what is left may be recorded by threads that ask for the instance
            found.settle()
    return found


def opened_from(configuration: InstanceConfig) -> Instance:
    """Return the instance in use if it is this one.

    Raises: NoInstanceError: another one is; DatabaseError.
    """
    here = current()
    if here.config.db != configuration.db:
        raise NoInstanceError(
            f"the instance {configuration.name!r} is no longer the one in use here, which is "
            f"{here.name!r}"
        )
    return here


def reading() -> Instance:
    """Return the instance in use, once it holds all that this process has told of.

    Raises: as :func:`current`.
    """
    if manager.are_loaded():
        manager.notify("ln_records_read")
    return current()


def is_open() -> bool:
    return _current is not None


def use(configuration: InstanceConfig | None) -> None:
    """Choose the instance of this process; None leaves it to the environment and the folders."""
    reset()
    config.choose(configuration)


def reset() -> None:
    """Forget the open instance and the choice made in this process."""
    global _current
    # without the lock: a thread of the recorder may be opening the instance
    for forget in _on_reset:
        forget()
    if manager.are_loaded():
        manager.notify("ln_instance_closing")
    with _lock:
        if _current is not None:
            _current.database.dispose()
        _current = None
        config.choose(None)
        config.forget_identity()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that held it is not in the forked child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


# what a higher layer does before an instance is forgotten
_on_reset: list[Callable[[], None]] = []


def on_reset(act: Callable[[], None]) -> Callable[[], None]:
    """Register ``act()`` to run before an instance is forgotten."""
    _on_reset.append(act)
    return act


def register_user(database: Database, who: Identity | None = None) -> str:
    """Return the id of a user, adding its row when it is new; default: who works here."""
    table, who = schema.user, who or config.identity()
    with database.read() as connection:
        found = connection.execute(select(table.c.id).where(table.c.handle == who.handle)).scalar()
    if found is None:
        try:
            with database.begin() as connection:
                found = random_id(USER_ID_LENGTH)
                connection.execute(
                    insert(table).values(
                        id=found, handle=who.handle, email=who.email, name=who.name
                    )
                )
        except IntegrityError:  # another process of the same user was first
            return register_user(database, who)
    return str(found)


def register_storage(
    connection: Connection,
    root: str,
    user_id: str,
    *,
    managed: bool,
    storage_id: str | None = None,
    region: str | None = None,
) -> str:
    """Return the id of the storage at a root, adding its row and marker when it is new."""
    store, table = Store(root), schema.storage
    host = config.host() if store.is_local else ""
    known = select(table.c.id).where(table.c.root == root, table.c.host == host)
    found = connection.execute(known).scalar()
    if found is None:
        serialise(connection, f"storage {root} {host}")
        found = connection.execute(known).scalar()
    if found is not None:
        return str(found)
    marker = store.read_marker() if store.is_local and managed else None
    new = marker or storage_id or random_id(STORAGE_ID_LENGTH)
    if connection.execute(select(table.c.id).where(table.c.id == new)).scalar() is not None:
        return new  # the same folder, seen from another host or path
    connection.execute(
        insert(table).values(
            id=new,
            root=root,
            host=host,
            type=store.type,
            region=region,
            managed=managed,
            created_by_id=user_id,
        )
    )
    if store.is_local and managed and marker is None:
        store.write_marker(new)
    return new
