"""Which instance is used, and the files that say where its records and objects are.

Which instance, in this order: the one loaded in this process; ``LAMINDB_INSTANCE`` (a name, a
storage folder or a project folder); ``LAMINDB_STORAGE``, with ``LAMINDB_DB`` where it is not the
database that the storage knows; the nearest ``.lamindb/instance.toml`` from the working directory
upward; the user's current instance.
"""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamindb.config.locations import (
    absolute,
    checked_db,
    expand_user,
    is_remote,
    normalise_root,
    refuse_credentials,
    working_directory,
)
from lamindb.config.process import config_dir, data_dir
from lamindb.errors import NoInstanceError, SetupError

FOLDER = ".lamindb"

FILE = "instance.toml"

CURRENT = "current"

NAME_PATTERN = re.compile(r"[^\W_][\w.-]{0,63}")


@dataclass(frozen=True)
class InstanceConfig:
    """Where an instance's records and objects are.

    Attributes:
        name: what ``lamin load NAME`` takes.
        storage: URL, or absolute path, of the default storage root.
        db: SQLAlchemy URL; of a network database without its password.
        path: the file this was read from, None when it came from the environment.
        password: of the database, kept apart so that no project file holds it.
    """

    name: str
    storage: str
    db: str
    path: Path | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path | None:
        """The folder whose ``.lamindb/instance.toml`` says this; None when another file does."""
        if self.path is None or self.path.parent.name != FOLDER:
            return None
        return self.path.parent.parent

    @property
    def project_folder(self) -> Path | None:
        """The folder that this instance belongs to: the one that leads to it, or holds its storage.

        The storage's own folder leads to it too, but is its storage.
        """
        folder = self.folder
        if is_remote(self.storage):
            return folder
        storage = Path(self.storage)
        return storage.parent if folder is None or folder == storage else folder

    @property
    def is_sqlite(self) -> bool:
        return self.db.startswith("sqlite")

    @property
    def sqlite_path(self) -> Path | None:
        """The database file; None for a database server."""
        return Path(self.db.split("///", 1)[1]) if self.is_sqlite else None

    @property
    def database(self) -> str:
        """What to call the database in messages: its file, or its URL without the password."""
        return str(self.sqlite_path or self.db)


# the instance that this process has loaded, whatever the environment says
_chosen: InstanceConfig | None = None


def choose(configuration: InstanceConfig | None) -> None:
    """Use this instance in this process; None leaves it to the environment and the folders."""
    global _chosen
    _chosen = configuration


def is_chosen(configuration: InstanceConfig) -> bool:
    """Whether this very configuration was chosen."""
    return _chosen is configuration


def configuration() -> InstanceConfig:
    """Return which instance is used here, without opening it; raises NoInstanceError."""
    return _chosen or find_config()


def find_config() -> InstanceConfig:
    """Return the configuration of the instance to use, by the order of this module's docstring.

    Raises: NoInstanceError: nothing says which; the message names the command to run.
    """
    chosen, storage, db = (
        os.environ.get(f"LAMINDB_{name}") for name in ("INSTANCE", "STORAGE", "DB")
    )
    if chosen:
        return config_named(chosen)
    if storage:
        return (None if db else config_of_storage(storage)) or config_from_storage(storage, db)
    if db:
        raise SetupError("LAMINDB_DB is set without LAMINDB_STORAGE: set both, or unset it")
    here = working_directory()
    for folder in (here, *here.parents) if here is not None else ():
        if (folder / FOLDER / FILE).is_file():
            return read_config(folder / FOLDER / FILE)
    if current := _current_reference():
        return config_named(current)
    raise NoInstanceError(
        f"no instance is set up for {here or 'this working directory, which was removed'}: run "
        "'lamin init --storage ./mydata' here, or 'lamin load NAME' for one that exists"
    )


def _current_reference() -> str | None:
    try:
        return (config_dir() / CURRENT).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def config_named(reference: str) -> InstanceConfig:
    """Return the configuration of an instance by its name, storage folder or project folder.

    Raises: SetupError: there is none; names those known. CredentialsError.
    """
    if NAME_PATTERN.fullmatch(reference) and _registered(reference).is_file():
        return read_config(_registered(reference))
    if is_remote(reference):
        refuse_credentials(reference)
    else:
        local = absolute(expand_user(reference)) / FOLDER / FILE
        if local.is_file():
            return read_config(local)
    known = known_configs()
    for config in known:
        if config.storage.rstrip("/") == reference.rstrip("/"):
            return config
    names = ", ".join(sorted(config.name for config in known)) or "none yet"
    raise SetupError(
        f"no instance {reference!r}: known are {names}; 'lamin init --storage {reference}' "
        "makes one"
    )


def config_of_storage(storage: str | os.PathLike[str]) -> InstanceConfig | None:
    """Return the instance whose default storage this is, as far as is known here."""
    root = normalise_root(storage)
    if is_remote(root):
        return next((known for known in known_configs() if known.storage == root), None)
    path = Path(root) / FOLDER / FILE
    found = read_config(path) if path.is_file() else None
    return found if found is not None and found.storage == root else None


def holder_of_name(config: InstanceConfig) -> InstanceConfig | None:
    """Return another instance that has this one's name in the user's list, and is still there."""
    path = _registered(config.name)
    try:
        known = read_config(path) if path.is_file() else None
    except SetupError:
        return None
    if known is None or (known.storage, known.db) == (config.storage, config.db):
        return None
    is_gone = known.sqlite_path is not None and not known.sqlite_path.exists()
    return None if is_gone else known


def known_configs() -> list[InstanceConfig]:
    """Return the instances that this user has made or loaded, by name."""
    found = []
    for path in sorted((config_dir() / "instances").glob("*.toml")):
        try:
            found.append(read_config(path))
        except SetupError:
            continue  # one damaged file must not hide the others
    return found


def config_from_storage(
    storage: str | os.PathLike[str], db: str | None = None, name: str | None = None
) -> InstanceConfig:
    """Derive a configuration: the database is SQLite inside a local root, else in the data folder.

    Raises: CredentialsError: a URL carries a secret that cannot be kept apart; SetupError: the name
        or the database is unusable.
    """
    root = normalise_root(storage)
    chosen = next(suggested_names(root)) if name is None else name
    if not NAME_PATTERN.fullmatch(chosen):
        raise SetupError(
            f"{chosen!r} cannot be an instance's name: use up to 64 of letters, digits, '.', '_' "
            "and '-', starting with a letter or digit; pass it as --name"
        )
    if db is None:
        folder = data_dir() / chosen if is_remote(root) else Path(root) / FOLDER
        db = f"sqlite:///{folder / 'lamindb.sqlite'}"
    db, password = checked_db(db, Path())
    return InstanceConfig(chosen, root, db, password=password)


def suggested_names(root: str) -> Iterator[str]:
    """Yield names for an instance: ``mydata``, ``study-mydata``, ``study-mydata-2``, ….

    Args: root: of its storage, here ``…/study/mydata``.
    """
    parts = re.split(r"[/\\]+", root.partition("://")[2] or root)
    usable = [
        usable for part in parts if (usable := re.sub(r"[^\w.-]+", "-", part).strip("-._")[:60])
    ]
    name = usable[-1] if usable else "data"
    yield name
    if len(usable) > 1:
        name = f"{usable[-2]}-{name}"[:60]
        yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def read_config(path: Path) -> InstanceConfig:
    """Read one ``instance.toml``; relative paths in it are relative to the folder it serves.

    Raises: SetupError: says what is wrong with it and what to do.
    """
    try:
        values = _read_values(path)
        base = absolute(path.parent.parent)
        storage = values["storage"]
        if not is_remote(storage):
            storage = str(base / expand_user(storage))
        storage = normalise_root(storage)
        db, password = checked_db(values["db"], base)
    # ValueError: no TOML, not UTF-8, a NUL in a path, or a URL that carries credentials
    except (OSError, ValueError, SetupError) as error:
        raise SetupError(
            f"the instance file {path} cannot be used ({error}): mend it, or remove it and run "
            "'lamin init' again"
        ) from error
    password = password or values.get("password") or _registered_password(values["name"], db)
    return InstanceConfig(values["name"], storage, db, path, password)


def _read_values(path: Path) -> dict[str, str]:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in ("name", "storage", "db"):
        if not isinstance(values.get(name), str):
            raise SetupError(f"its {name} is missing, or no text")
    if not NAME_PATTERN.fullmatch(values["name"]):
        raise SetupError(f"{values['name']!r} cannot be an instance's name")
    return values


def write_project_config(config: InstanceConfig, folder: Path) -> Path:
    """Write ``folder/.lamindb/instance.toml`` with paths relative to the folder where they can be.

    It holds no password, so that it may be committed.
    """
    storage, db = config.storage, config.db
    if not is_remote(storage):
        storage = _relative(Path(storage), folder)
    if (sqlite := config.sqlite_path) is not None:
        db = f"sqlite:///{_relative(sqlite, folder)}"
    path = folder / FOLDER / FILE
    _write_toml(path, {"name": config.name, "storage": storage, "db": db})
    return path


def register_config(config: InstanceConfig, *, is_current: bool = True) -> None:
    """Remember an instance for this user and, by default, make it the current one.

    A copy of an instance leaves the name to the one that has it, and is remembered by its folder.
    """
    if holder_of_name(config) is None:
        values = {"name": config.name, "storage": config.storage, "db": config.db}
        if config.password:
            values["password"] = config.password
        _write_toml(_registered(config.name), values, mode=0o600)
        reference = config.name
    else:
        reference = str(config.folder or config.storage)
    if is_current:
        _write_text(config_dir() / CURRENT, reference + "\n")


def forget_current() -> None:
    """Make no instance the user's current one."""
    _remove(config_dir() / CURRENT)


def forget_config(config: InstanceConfig) -> None:
    """Remove an instance from this user's list."""
    if _current_reference() == config.name:
        forget_current()
    _remove(_registered(config.name))


def _registered(name: str) -> Path:
    return config_dir() / "instances" / f"{name}.toml"


def _registered_password(name: str, db: str) -> str | None:
    if db.startswith("sqlite"):
        return None
    try:
        values = _read_values(_registered(name))
    except (OSError, ValueError, SetupError):
        return None
    return values.get("password") if values["db"] == db else None


def _relative(path: Path, base: Path) -> str:
    try:
        relative = path.relative_to(base.resolve()).as_posix()
        return f"./{relative}" if relative.startswith("~") else relative
    except ValueError:
        return str(path)


def _write_toml(path: Path, values: dict[str, Any], mode: int = 0o644) -> None:
    import tomli_w

    _write_text(path, tomli_w.dumps(values), mode)


def _write_text(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    beside.replace(path)


def _remove(path: Path) -> None:
    if path.exists():
        path.unlink()
