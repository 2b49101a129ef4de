"""Instances: made, loaded, closed, deleted. ``ln.setup``, and ``lamin`` on the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from lamindb import config, instance
from lamindb.config import FOLDER, InstanceConfig
from lamindb.db import migrate
from lamindb.db.database import Database
from lamindb.errors import DatabaseError, LaminError, SetupError
from lamindb.storage import abilities
from lamindb.storage.store import Store

if TYPE_CHECKING:
    from lamindb.records import User

__all__ = ["close", "delete", "info", "init", "load", "settings"]

logger = logging.getLogger("lamindb")

T = TypeVar("T")


def init(storage: str | Path, name: str | None = None, db: str | None = None) -> InstanceConfig:
    """Make an instance, or load the one that is there, and use it in this process.

    Args:
        storage: folder or URL of the default storage; made if it is missing.
        name: default: the last part of the storage root, with the folder above it or a number where
            another instance of this user has that name.
        db: SQLAlchemy URL; default: a SQLite file inside a local root, else in the user's data
            folder.
    Returns: its configuration; ``.db`` says where the database is.
    Raises: SetupError: the name is taken by another instance; CredentialsError; StorageError;
        DatabaseError.
    """
    root = config.normalise_root(storage)
    existing = config.config_of_storage(root)
    if existing is not None:
        _refuse_other(existing, root, name, db)
        wanted = existing
    elif name is not None:
        wanted = config.config_from_storage(root, db, name)
        _refuse_taken_name(wanted)
    else:
        wanted = _named_by_itself(root, db)
    store = Store(wanted.storage)
    if store.is_local and Path(root).exists() and not Path(root).is_dir():
        raise SetupError(f"the storage root {root} is a file: give a folder, new or existing")
    database = Database(wanted)
    try:
        if existing is None:
            _refuse_database_of_others(database, wanted, store)
        if store.is_local or _has_records(database, wanted):
            store.create_root()
        else:
            abilities.prove(store)
        migrate.create(database)
        migrate.ensure_current(database)
        user_id = instance.register_user(database)
        with database.begin() as connection:
            instance.register_storage(connection, wanted.storage, user_id, managed=True)
    finally:
        database.dispose()
    made = _remember(wanted, store)
    instance.use(made)
    return made


def load(reference: str | Path) -> InstanceConfig:
    """Use an instance by its name, its storage root or its project folder, from now on.

    Raises: SetupError: there is none; DatabaseError: it cannot be opened, and what was used before
        stays in use.
    """
    found = config.config_named(str(reference))
    instance.Instance(found).database.dispose()
    instance.use(found)
    _attempt(lambda: config.register_config(found), found)
    return found


def close() -> None:
    """Use no instance: not in this process, and none as the user's current one."""
    instance.reset()
    config.forget_current()


def delete(reference: str | None = None, *, force: bool = False) -> None:
    """Delete an instance's records and settings, never the objects in its storage.

    Args: reference: as for :func:`load`; default: the one in use. force: do not ask.
    Raises: SetupError: nobody can be asked, or the answer was not the instance's name; or its
        database has the records of others too.
    """
    found = config.config_named(reference) if reference else _in_use()
    database = Database(found)
    try:
        _refuse_to_delete_of_others(database, found)
        if not force:
            _ask(found)
        instance.reset()
        _drop(database)
    finally:
        database.dispose()
    folders = {config.working_directory(), found.folder}
    if not config.is_remote(found.storage):
        folders |= {Path(found.storage), Path(found.storage).parent}
    for folder in folders:
        if folder is not None:
            _forget_folder(folder, found)
    _attempt(lambda: config.forget_config(found), found)


@dataclass(frozen=True)
class Info:
    """What ``lamin info`` shows; sizes in bytes."""

    instance: str
    storage: str
    database: str
    user: str
    configured_in: str | None
    version: str
    counts: dict[str, int]
    database_bytes: int | None


def info() -> Info:
    """Describe the instance in use.

    Raises: NoInstanceError; DatabaseError.
    """
    from lamindb._version import __version__

    here = instance.current()
    counts = _counts(here.database)
    path = here.config.sqlite_path
    return Info(
        here.name,
        here.config.storage,
        here.config.db,
        config.identity().handle,  # as it is, or will be, registered: readers may not write
        str(here.config.path) if here.config.path else None,
        __version__,
        counts,
        path.stat().st_size if path is not None else None,
    )


def _counts(database: Database) -> dict[str, int]:
    from sqlalchemy import func, select

    from lamindb.db import schema

    tables = (schema.file, schema.transform, schema.run, schema.storage, schema.user)
    with database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def in_words(counts: dict[str, int]) -> str:
    """Return ``2 files, 1 run``."""
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


class StorageSettings:
    """The default storage of the instance in use."""

    @property
    def root(self) -> Path:
        """A Path when local, a UPath otherwise."""
        store = instance.current().default_location.store
        if store.is_local:
            return Path(store.root)
        from upath import UPath

        return cast(Path, UPath(store.root))

    @property
    def root_as_str(self) -> str:
        return instance.current().default_location.store.root

    @property
    def type(self) -> str:
        """``local``, or the URL's scheme."""
        return instance.current().default_location.store.type

    @property
    def cache_dir(self) -> Path:
        """Where local copies of remote objects are kept."""
        return config.cache_dir()

    def __repr__(self) -> str:
        return f"StorageSettings(root={self.root_as_str!r}, type={self.type!r})"


class SetupSettings:
    """``ln.setup.settings``: who works here, with which instance and storage."""

    storage = StorageSettings()

    @property
    def user(self) -> User:
        from lamindb.records import User
        from lamindb.records.base import read_all

        here = instance.current()
        from sqlalchemy import select

        return cast("User", read_all(select(User).where(User.id == here.user_id))[0])

    @property
    def instance(self) -> InstanceConfig:
        return instance.current().config

    def __repr__(self) -> str:
        return f"SetupSettings(instance={self.instance.name!r}, storage={self.storage!r})"


settings = SetupSettings()


def _refuse_other(existing: InstanceConfig, root: str, name: str | None, db: str | None) -> None:
    """Raise SetupError where an existing instance is asked for under another name or database."""
    if name not in (None, existing.name):
        raise SetupError(
            f"{root} belongs to the instance {existing.name!r}: load that with 'lamin load "
            f"{root}', or choose another storage"
        )
    if db is not None and config.config_from_storage(root, db, existing.name).db != existing.db:
        raise SetupError(
            f"the instance {existing.name!r} of {root} has its records in {existing.db}: leave out "
            "--db to load it, or choose another storage"
        )


def _refuse_taken_name(wanted: InstanceConfig) -> None:
    holder = config.holder_of_name(wanted)
    if holder is not None:
        raise SetupError(
            f"an instance named {holder.name!r} exists with storage {holder.storage}: pass "
            "another name, as in 'lamin init --name NAME', or none"
        )


def _named_by_itself(root: str, db: str | None) -> InstanceConfig:
    """Return a configuration with the first suggested name that is free."""
    for name in config.suggested_names(root):
        wanted = config.config_from_storage(root, db, name)
        is_free = config.holder_of_name(wanted) is None
        if is_free and (db is not None or not config.is_remote(root) or _may_hold(wanted)):
            return wanted
    raise AssertionError("names do not run out")


@dataclass(frozen=True)
class _Root:
    """A managed storage that a database knows; is_own: whether an instance's default one."""

    root: str
    host: str
    is_own: bool


def _roots(database: Database, own: InstanceConfig) -> list[_Root]:
    from sqlalchemy import select

    from lamindb.db.schema import storage

    with database.read() as connection:
        rows = connection.execute(
            select(storage.c.id, storage.c.root, storage.c.host).where(storage.c.managed)
        ).all()
    store = Store(own.storage)
    marker = store.read_marker() if store.is_local else None
    here = (own.storage, config.host() if store.is_local else "")
    is_marked = any(row.id == marker for row in rows)
    return [
        _Root(row.root, row.host, row.id == marker if is_marked else (row.root, row.host) == here)
        for row in rows
    ]


def _sharing(roots: Iterable[_Root], own: InstanceConfig) -> InstanceConfig | None:
    """Return another instance, of this host or user, whose default storage is one of these."""
    for each in roots:
        # the own one may be registered elsewhere: where this is a copy of it
        if each.root == own.storage or each.host not in ("", config.host()):
            continue
        try:
            found = config.config_of_storage(each.root)
        except LaminError:
            continue  # its file is damaged
        if found is not None and (found.db, found.storage) == (own.db, each.root):
            return found
    return None


def _has_records(database: Database, wanted: InstanceConfig) -> bool:
    is_there = wanted.sqlite_path is None or wanted.sqlite_path.exists()
    return is_there and migrate.is_instance(database)


def _refuse_database_of_others(database: Database, wanted: InstanceConfig, store: Store) -> None:
    """Raise SetupError where a new instance's database is one that others keep something in."""
    if wanted.sqlite_path is not None and not wanted.sqlite_path.exists():
        return
    if not migrate.is_instance(database):
        if foreign := migrate.foreign_tables(database):
            raise SetupError(
                f"the database {wanted.database} holds other tables than lamindb's "
                f"({', '.join(foreign[:5])}): give one of its own, new or empty"
            )
        return
    other = _sharing(_roots(database, wanted), wanted)
    if other is not None:
        raise SetupError(
            f"the database {wanted.database} holds the records of the instance "
            f"{other.name!r} with storage {other.storage}: give another one, or 'lamin load "
            f"{other.storage}' and add {store.root} to it with ln.add(ln.Storage(...))"
        )


def _refuse_to_delete_of_others(database: Database, found: InstanceConfig) -> None:
    """Raise SetupError where the records of others would go with those of an instance."""
    try:
        roots = _roots(database, found)
    except DatabaseError:
        return  # it is gone or damaged: nobody can read records in it
    other = _sharing(roots, found)
    if other is not None:
        raise SetupError(
            f"the database {found.database} also holds the records of the instance "
            f"{other.name!r} with storage {other.storage}, which would go with those of "
            f"{found.name!r}: nothing was deleted; delete single records with ln.delete"
        )
    path = found.sqlite_path
    hosts = sorted({each.host for each in roots if not each.is_own} - {"", config.host()})
    if hosts and not (path is not None and path.is_relative_to(found.storage)):
        raise SetupError(
            f"the database {path or found.db} also knows storages of other hosts: "
            f"{', '.join(hosts)}: delete those first with ln.delete, in case nobody there uses it "
            "any more; nothing was deleted"
        )


def _drop(database: Database) -> None:
    """Remove an instance's tables, and the file of a database that holds nothing else."""
    path = database.config.sqlite_path
    if path is None:
        migrate.drop(database)
        return
    if not path.exists():
        return
    is_own = path.parent in (
        Path(database.config.storage) / FOLDER,
        config.data_dir() / database.config.name,
    )
    try:
        if migrate.foreign_tables(database):
            if migrate.is_instance(database):
                migrate.drop(database)
            return
    except DatabaseError as error:
        if not is_own:
            logger.warning(
                "%s stays, since it cannot be read (%s): remove it yourself", path, error
            )
            return
    database.dispose()
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)
    if path.parent.parent == config.data_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _may_hold(wanted: InstanceConfig) -> bool:
    """Whether the database in the user's data folder is new, or that of this very storage.

    It outlives the user's list of instances, where it could be looked up.
    """
    from sqlalchemy import select

    from lamindb.db import schema

    if wanted.sqlite_path is None or not wanted.sqlite_path.exists():
        return True
    database = Database(wanted)
    try:
        with database.read() as connection:
            roots = connection.execute(select(schema.storage.c.root)).scalars().all()
    except DatabaseError:
        return False
    finally:
        database.dispose()
    return wanted.storage in roots


def _remember(wanted: InstanceConfig, store: Store) -> InstanceConfig:
    """Note an instance in its storage, in this folder and for this user, where that is allowed."""
    here = config.working_directory()
    folders = [] if here is None else [here]
    if store.is_local and Path(store.root) != here:
        folders.insert(0, Path(store.root))
    made = wanted
    for folder in folders:
        path = _attempt(partial(config.write_project_config, wanted, folder), wanted)
        made = made if path is None else replace(made, path=path)
    _attempt(lambda: config.register_config(made), made)
    return made


def _attempt(act: Callable[[], T], found: InstanceConfig) -> T | None:
    try:
        return act()
    except OSError as error:
        logger.warning(
            "the settings of instance %r could not be written (%s): where no folder leads to it, "
            "name it by the environment variable LAMINDB_INSTANCE=%s",
            found.name,
            error,
            found.storage,
        )
        return None


def _in_use() -> InstanceConfig:
    # without opening it: a damaged instance can be deleted too
    return instance.current().config if instance.is_open() else config.configuration()


def _ask(found: InstanceConfig) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise SetupError(
            f"deleting the records of {found.name!r} has to be confirmed: pass --force, or "
            "force=True, where nobody can be asked"
        )
    database = Database(found)
    try:
        records = in_words(_counts(database))
    except DatabaseError:
        records = "which cannot be read"
    finally:
        database.dispose()
    answer = input(
        f"Delete all records of the instance {found.name!r}: {records}?\n"
        f"The data in {found.storage} stays. Type the instance's name: "
    ).strip()
    if answer != found.name:
        raise SetupError("cancelled: nothing was deleted")


def _forget_folder(folder: Path, found: InstanceConfig) -> None:
    path = folder / FOLDER / config.FILE
    try:
        there = config.read_config(path) if path.is_file() else None
    except LaminError:
        return  # damaged, or another's
    if there is not None and (there.name, there.storage) == (found.name, found.storage):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
