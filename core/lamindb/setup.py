"""Instances: made, loaded, closed, deleted. ``ln.setup``, and ``lamin`` on the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lamindb import config, instance
from lamindb.config import FOLDER, InstanceConfig
from lamindb.db import migrate
from lamindb.db.database import Database
from lamindb.errors import DatabaseError, SetupError
from lamindb.storage.store import Store

if TYPE_CHECKING:
    from lamindb.records import User

__all__ = ["close", "delete", "info", "init", "load", "settings"]


def init(storage: str | Path, name: str | None = None, db: str | None = None) -> InstanceConfig:
    """Make an instance, or load the one that is there, and use it in this process.

    Args:
        storage: folder or URL of the default storage; made if it is missing.
        name: default: the last part of the storage root.
        db: SQLAlchemy URL; default: a SQLite file inside a local root, else in the user's data
            folder.
    Returns: its configuration; ``.db`` says where the database is.
    Raises: SetupError: the name is taken by another instance; CredentialsError; StorageError;
        DatabaseError.
    """
    root = config.normalise_root(storage)
    existing = _existing(root)
    wanted = config.config_from_storage(root, db, name or (existing.name if existing else None))
    if existing is not None and db is None:
        wanted = existing
    _refuse_taken_name(wanted)
    store = Store(wanted.storage)
    if existing is not None and name not in (None, existing.name):
        raise SetupError(
            f"{root} belongs to the instance {existing.name!r}: load that with 'lamin load "
            f"{existing.name}', or choose another storage"
        )
    store.create_root()
    database = Database(wanted)
    try:
        migrate.create(database)
        migrate.ensure_current(database)
        user_id = instance.register_user(database)
        with database.begin() as connection:
            instance.register_storage(connection, wanted.storage, user_id, managed=True)
    finally:
        database.dispose()
    if store.is_local:
        config.write_project_config(wanted, Path(store.root))
    if not (store.is_local and Path(store.root) == Path.cwd()):
        config.write_project_config(wanted, Path.cwd())
    config.register_config(wanted)
    instance.use(wanted)
    return wanted


def load(reference: str | Path) -> InstanceConfig:
    """Use an instance by its name, its storage root or its project folder, from now on.

    Raises: SetupError: there is none; DatabaseError: it cannot be opened.
    """
    found = config.config_named(str(reference))
    instance.use(found)
    instance.current()
    config.register_config(found)
    return found


def close() -> None:
    """Use no instance: not in this process, and none as the user's current one."""
    instance.reset()
    config.forget_current()


def delete(reference: str | None = None, *, force: bool = False) -> None:
    """Delete an instance's records and settings, never the objects in its storage.

    Args: reference: as for :func:`load`; default: the one in use. force: do not ask.
    Raises: SetupError: nobody can be asked, or the answer was not the instance's name.
    """
    found = config.config_named(reference) if reference else _in_use()
    if not force:
        _ask(found)
    instance.reset()
    database = Database(found)
    path = found.sqlite_path
    if path is not None:
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            file.unlink(missing_ok=True)
    else:
        migrate.drop(database)
        database.dispose()
    for folder in (Path(found.storage), Path.cwd()):
        _forget_folder(folder, found)
    config.forget_config(found)


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
    from sqlalchemy import func, select

    from lamindb._version import __version__
    from lamindb.db import schema

    here = instance.current()
    tables = (schema.file, schema.transform, schema.run, schema.storage, schema.user)
    with here.database.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }
    path = here.config.sqlite_path
    return Info(
        here.name,
        here.config.storage,
        here.config.db,
        settings.user.handle,
        str(here.config.path) if here.config.path else None,
        __version__,
        counts,
        path.stat().st_size if path is not None else None,
    )


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


def _existing(root: str) -> InstanceConfig | None:
    """Return the instance whose default storage a root is."""
    if not config.is_remote(root):
        path = Path(root) / FOLDER / config.FILE
        if not path.is_file():
            return None
        found = config.read_config(path)
        return found if found.storage == root else None
    return next((known for known in config.known_configs() if known.storage == root), None)


def _refuse_taken_name(wanted: InstanceConfig) -> None:
    for known in config.known_configs():
        if known.name == wanted.name and (known.storage, known.db) != (wanted.storage, wanted.db):
            if known.sqlite_path is not None and not known.sqlite_path.exists():
                return  # it is gone: the name is free
            raise SetupError(
                f"an instance named {known.name!r} exists with storage {known.storage}: pass "
                "another name, as in 'lamin init --name NAME'"
            )


def _in_use() -> InstanceConfig:
    try:
        return instance.current().config
    except DatabaseError:
        return config.find_config()  # a damaged instance can be deleted too


def _ask(found: InstanceConfig) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise SetupError(
            f"deleting the records of {found.name!r} has to be confirmed: pass --force, or "
            "force=True, where nobody can be asked"
        )
    answer = input(f"Delete all records of the instance {found.name!r}? Type its name: ").strip()
    if answer != found.name:
        raise SetupError("cancelled: nothing was deleted")


def _forget_folder(folder: Path, found: InstanceConfig) -> None:
    path = folder / FOLDER / config.FILE
    if not config.is_remote(str(folder)) and path.is_file():
        there: Any = config.read_config(path)
        if there.name == found.name and there.storage == found.storage:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
