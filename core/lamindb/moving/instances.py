"""One instance becomes another one, with the same records and objects; the first stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Table, func, select
from sqlalchemy.exc import IntegrityError

from lamindb import config, instance, journal, spool
from lamindb.config import InstanceConfig
from lamindb.db import migrate, schema
from lamindb.db.database import Database
from lamindb.db.server import fit
from lamindb.display import counted
from lamindb.errors import SetupError
from lamindb.instance import Instance
from lamindb.moving import objects, rows
from lamindb.moving.objects import Stores
from lamindb.moving.rows import Row, Tally
from lamindb.moving.state import Left, State, begin
from lamindb.storage.store import Store

_ROUNDS = 3

What = Literal["records", "objects"]
# what is being copied; how much of it was, or is there in all: rows, or bytes
Tell = Callable[[What, int, int], None]


@dataclass(frozen=True)
class Moved:
    """What a migration has done.

    Attributes:
        config: of the new instance; is_new_storage: whether its objects were copied.
        rows: by table, as many as in the source, and equal to them.
        objects, size_bytes: copied and read back; left: those that the source does not hold.
        elsewhere: by root, the files of storages that stay where they are.
        running: runs of the source that have not ended.
        was_there: whether an earlier call had done it all.
    """

    config: InstanceConfig
    is_new_storage: bool
    rows: dict[str, int]
    objects: int
    size_bytes: int
    left: list[Left]
    elsewhere: dict[str, int]
    running: int
    was_there: bool


def move(
    db: str, storage: str | None = None, name: str | None = None, tell: Tell | None = None
) -> Moved:
    """Copy the instance in use into another database and storage, or go on with that.

    Args:
        db: SQLAlchemy URL of an empty database; of SQLite, the file may be missing.
        storage: folder or URL of an empty storage; None leaves the objects where they are.
        name: of the new instance; default: the last part of the storage.
    Raises: SetupError: the source is in use, or the target holds something else; DatabaseError;
        StorageError: run it again.
    """
    here = instance.reading()
    _refuse_unsettled(here)
    wanted = _wanted(here, db, storage, name)
    target = Database(wanted)
    try:
        return _Move(here, target, tell or _silent).run()
    finally:
        target.dispose()


def _silent(what: What, done: int, total: int) -> None:
    pass


class _Move:
    """The copy of one instance into a database."""

    def __init__(self, here: Instance, target: Database, tell: Tell) -> None:
        self.here, self.target, self.tell = here, target, tell
        self.stores = Stores(
            here.default_storage_id, here.default_location.store, Store(target.config.storage)
        )
        self.is_new_storage = target.config.storage != here.config.storage

    def run(self) -> Moved:
        self._refuse_storage()
        if not self.target.is_sqlite or _exists(self.target):
            _refuse_same(self.here, self.target)
        state = self._begin()
        if state is None:
            return self._moved(self._refuse_other_instance(), None)
        if self.is_new_storage:
            self._prepare_storage()
        for _ in range(_ROUNDS):
            found = self._copy(state)
            if found is not None:
                state.finish()
                return self._moved(found, state)
            state.start_over()
        raise SetupError(
            f"the instance {self.here.name!r} is being written to, and what was copied is no "
            "longer what it holds: end what uses it, then run this again"
        )

    def _begin(self) -> State | None:
        is_empty = not self.is_new_storage or _is_empty(self.stores.target)
        is_begun = _exists(self.target) and not _is_blank(self.target)
        if not is_empty and not is_begun:
            raise SetupError(
                f"the storage {self.stores.target.root} holds something already: give an empty "
                "one, such as a new folder or prefix"
            )
        return begin(self.target, self.here.config, self.stores.storage_id, self.stores.target.root)

    def _prepare_storage(self) -> None:
        store = self.stores.target
        store.create_root()
        if store.is_local:
            store.write_marker(self.stores.storage_id)

    def _copy(self, state: State) -> dict[str, Tally] | None:
        """Copy all; returns what it is, or None if the source has changed meanwhile."""
        with self.here.database.read() as connection:
            total, done = rows.count(connection), 0

            def copied(count: int) -> None:
                nonlocal done
                done += count
                self.tell("records", done, total)

            try:
                rows.copy(connection, state, self._change, copied)
            except IntegrityError:
                return None
        found = self._compare()
        if found is None or not self.is_new_storage:
            return found
        size, sent = objects.size_bytes(self.target, self.stores.storage_id), 0

        def advance(count: int) -> None:
            nonlocal sent
            sent += count
            self.tell("objects", sent, size)

        objects.copy(state, self.stores, advance)
        return self._compare()

    def _compare(self) -> dict[str, Tally] | None:
        """Return what both databases hold; None if they differ."""
        with self.here.database.read() as connection:
            there = rows.tallies(connection, self._change)
        with self.target.read() as connection:
            return there if rows.tallies(connection, rows.unchanged) == there else None

    def _change(self, table: Table, row: Row) -> Row:
        """Return a row of the source as it is in the target."""
        changed = dict(row) if self.target.is_sqlite else {n: fit(each) for n, each in row.items()}
        is_own = table is schema.storage and changed["id"] == self.stores.storage_id
        if is_own and self.is_new_storage:
            store = self.stores.target
            host = config.host() if store.is_local else ""
            changed |= {"root": store.root, "host": host, "type": store.type, "region": None}
        return changed

    def _refuse_storage(self) -> None:
        if not self.is_new_storage:
            return
        root = self.stores.target.root
        for location in self.here.locations():
            known = location.store
            is_inside = location.managed and known.key_of(root) is not None
            if known.root == root or is_inside or self.stores.target.key_of(known.root):
                raise SetupError(
                    f"{root} is, is in, or holds, the storage {known.root} of the instance "
                    f"{self.here.name!r}: give a place of its own"
                )

    def _refuse_other_instance(self) -> dict[str, Tally]:
        where = self.target.config.database
        found = self._compare() if _is_current(self.target) else None
        if found is None:
            raise SetupError(
                f"the database {where} holds the records of an instance already, which are not "
                f"those of {self.here.name!r}: give another database, new or empty"
            )
        return found

    def _moved(self, found: dict[str, Tally], state: State | None) -> Moved:
        made = self.target.config
        progress = state.progress if state is not None else None
        config.register_config(made, is_current=False)
        if self.is_new_storage and self.stores.target.is_local:
            config.write_project_config(made, Path(made.storage))
        return Moved(
            made,
            self.is_new_storage,
            {name: tally.rows for name, tally in found.items()},
            progress.objects if progress else 0,
            progress.size_bytes if progress else 0,
            [Left(**each) for each in progress.left] if progress else [],
            self._elsewhere(),
            self._running(),
            state is None,
        )

    def _elsewhere(self) -> dict[str, int]:
        storage, file = schema.storage, schema.file
        with self.here.database.read() as connection:
            found = connection.execute(
                select(storage.c.root, storage.c.id, func.count())
                .join(file, file.c.storage_id == storage.c.id)
                .group_by(storage.c.id, storage.c.root)
                .order_by(storage.c.root)
            ).all()
        return {
            root: files
            for root, storage_id, files in found
            if not self.is_new_storage or storage_id != self.stores.storage_id
        }

    def _running(self) -> int:
        run = schema.run
        with self.here.database.read() as connection:
            query = select(func.count()).select_from(run).where(run.c.status == "started")
            return int(connection.execute(query).scalar_one())


def _wanted(here: Instance, db: str, storage: str | None, name: str | None) -> InstanceConfig:
    root = here.config.storage if storage is None else config.normalise_root(storage)
    for each in [name] if name is not None else config.suggested_names(root):
        wanted = config.config_from_storage(root, db, each)
        if config.holder_of_name(wanted) is None:
            return wanted
    raise SetupError(f"another instance is named {name!r}: pass another --name, or none")


def _refuse_unsettled(here: Instance) -> None:
    waiting = spool.waiting(here.config)
    if waiting:
        raise SetupError(
            f"{counted(sum(waiting.values()), 'event')} of other processes wait to be recorded "
            f"({', '.join(str(path) for path in list(waiting)[:3])}): wait for the end of those "
            "processes, then run this again"
        )
    if open_ones := journal.pending(here.database):
        owner = open_ones[0]["owner"]
        raise SetupError(
            f"process {owner['pid']} of {owner['host']} is adding or deleting files: wait for its "
            "end, then run this again; what a dead process has left, 'lamin doctor --fix' ends"
        )


def _refuse_same(here: Instance, target: Database) -> None:
    if target.config.db == here.config.db:
        raise SetupError(
            f"{target.config.database} is the database of the instance "
            f"{here.name!r} itself: give another one"
        )


def _exists(target: Database) -> bool:
    path = target.config.sqlite_path
    return path is None or path.exists()


def _is_blank(target: Database) -> bool:
    return not migrate.is_instance(target) and not migrate.foreign_tables(target)


def _is_current(target: Database) -> bool:
    return migrate.revision(target) == migrate.HEAD


def _is_empty(store: Store) -> bool:
    if store.is_local:
        root = Path(store.root)
        if root.exists() and not root.is_dir():
            raise SetupError(f"the storage root {root} is a file: give a folder, new or existing")
        return not root.exists() or not any(root.iterdir())
    return next(iter(store.keys()), None) is None and not any(store.version_keys())
