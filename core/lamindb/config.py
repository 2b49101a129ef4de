"""The only reader of the environment and of configuration files.

Which instance, in this order: the one loaded in this process; ``LAMINDB_INSTANCE`` (a name, a
storage folder or a project folder); ``LAMINDB_STORAGE``, with ``LAMINDB_DB`` where it is not the
database that the storage knows; the nearest ``.lamindb/instance.toml`` from the working directory
upward; the user's current instance.
"""

from __future__ import annotations

import getpass
import itertools
import math
import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import platformdirs

from lamindb.errors import CredentialsError, NoInstanceError, SetupError

FOLDER = ".lamindb"
FILE = "instance.toml"
CURRENT = "current"
NAME_PATTERN = re.compile(r"[^\W_][\w.-]{0,63}")

_TRUE = ("1", "true", "yes", "on")


@dataclass
class Settings:
    """What a user may switch, for this process: ``ln.settings``.

    Attributes:
        record_inputs: whether reading a File inside a tracked run makes it that run's input;
            ``LAMINDB_RECORD_INPUTS=0`` turns it off.
        observe: whether a tracked script's reads and writes are looked at; ``LAMINDB_OBSERVE=0``.
        strict: whether a failing plugin raises instead of being logged; ``LAMINDB_STRICT=1``.
        tracebacks: whether ``lamin`` shows where an unexpected error was; ``LAMINDB_TRACEBACK=1``.
        blocked_plugins: entry-point names that are not loaded; ``LAMINDB_BLOCK=a,b``.
        busy_timeout_s: how long to wait for a lock of the database or of a storage key.
        drain_timeout_s: how long the end of a process waits for its events to be recorded; what is
            left then is recorded at the next opening. ``LAMINDB_DRAIN_TIMEOUT``.
        cache_size_bytes: the staging cache is trimmed to this after each download.
        openlineage: file or URL to which runs are mirrored as OpenLineage events, and the key that
            the URL asks for; ``LAMINDB_OPENLINEAGE`` and ``LAMINDB_OPENLINEAGE_KEY``, read once.
    """

    record_inputs: bool = field(
        default_factory=lambda: _environment_flag("LAMINDB_RECORD_INPUTS", True)
    )
    observe: bool = field(default_factory=lambda: _environment_flag("LAMINDB_OBSERVE", True))
    strict: bool = field(default_factory=lambda: _environment_flag("LAMINDB_STRICT", False))
    tracebacks: bool = field(default_factory=lambda: _environment_flag("LAMINDB_TRACEBACK", False))
    blocked_plugins: frozenset[str] = field(
        default_factory=lambda: frozenset(
            filter(None, os.environ.get("LAMINDB_BLOCK", "").split(","))
        )
    )
    busy_timeout_s: float = field(
        default_factory=lambda: _environment_number("LAMINDB_BUSY_TIMEOUT", 60.0)
    )
    drain_timeout_s: float = field(
        default_factory=lambda: _environment_number("LAMINDB_DRAIN_TIMEOUT", 10.0)
    )
    cache_size_bytes: int = field(
        default_factory=lambda: int(_environment_number("LAMINDB_CACHE_SIZE", 50e9))
    )
    openlineage: str | None = field(
        default_factory=lambda: os.environ.get("LAMINDB_OPENLINEAGE") or None
    )
    openlineage_key: str | None = field(
        default_factory=lambda: os.environ.get("LAMINDB_OPENLINEAGE_KEY") or None, repr=False
    )


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


def config_dir() -> Path:
    return _user_dir("LAMINDB_CONFIG_DIR", platformdirs.user_config_dir)


def cache_dir() -> Path:
    return _user_dir("LAMINDB_CACHE_DIR", platformdirs.user_cache_dir)


def data_dir() -> Path:
    return _user_dir("LAMINDB_DATA_DIR", platformdirs.user_data_dir)


def state_dir() -> Path:
    return _user_dir("LAMINDB_STATE_DIR", platformdirs.user_state_dir)


def spool_dir() -> Path | None:
    """Where events wait for the database; ``LAMINDB_SPOOL_DIR``, else each instance has its own."""
    given = os.environ.get("LAMINDB_SPOOL_DIR")
    return expand_user(given) if given else None


# the instance that this process has loaded, whatever the environment says
_chosen: InstanceConfig | None = None


def choose(configuration: InstanceConfig | None) -> None:
    """Use this instance in this process; None leaves it to the environment and the folders."""
    global _chosen
    _chosen = configuration


def configuration() -> InstanceConfig:
    """Return which instance is used here, without opening it; raises NoInstanceError."""
    return _chosen or find_config()


def host() -> str:
    """The name by which records tell machines apart; ``LAMINDB_HOST`` overrides it."""
    return os.environ.get("LAMINDB_HOST") or socket.gethostname()


def parent_run_id() -> str | None:
    """The run that started this process, as its environment says."""
    return os.environ.get("LAMINDB_RUN") or None


def export_run_id(run_id: str | None) -> None:
    """Tell child processes which run starts them."""
    if run_id is None:
        os.environ.pop("LAMINDB_RUN", None)
    else:
        os.environ["LAMINDB_RUN"] = run_id


def observed_by() -> str | None:
    """Where this process tells of its files, if the run that started it asked for that."""
    return os.environ.get("LAMINDB_OBSERVED_BY") or None


_observed_by = observed_by()


def observed_by_parent() -> str | None:
    """The same as when this process began."""
    return _observed_by


def export_observer(prefix: str | None, code: Path) -> None:
    """Have Python processes started from now on observe themselves; None no longer.

    Args: prefix: of the files that they write; code: folder of the ``sitecustomize`` that does it.
    """
    former = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    paths = [each for each in former if each != str(code)]
    if prefix is None:
        os.environ.pop("LAMINDB_OBSERVED_BY", None)
    else:
        os.environ["LAMINDB_OBSERVED_BY"] = prefix
        paths.insert(0, str(code))
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    elif former:
        del os.environ["PYTHONPATH"]


def given_notebook() -> str | None:
    """What the user says that this kernel runs."""
    return os.environ.get("LAMINDB_NOTEBOOK") or None


def notebook_path() -> Path | None:
    """The notebook that this kernel runs, as far as the environment knows it."""
    for variable in ("LAMINDB_NOTEBOOK", "PAPERMILL_INPUT_PATH", "JPY_SESSION_NAME"):
        path = expand_user(os.environ.get(variable, ""))
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    return None


@dataclass(frozen=True)
class Identity:
    """Who works here: handle is unique within an instance."""

    handle: str
    email: str | None
    name: str | None


def identity() -> Identity:
    """Return ``LAMINDB_USER``, else git's email, else ``login@host``."""
    given = os.environ.get("LAMINDB_USER")
    git = _git_user()
    email, name = git.get("email"), git.get("name")
    return Identity(given or email or f"{_login()}@{host()}", email, name)


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


def working_directory() -> Path | None:
    """Return the working directory; None when it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


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
        local = _absolute(expand_user(reference)) / FOLDER / FILE
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
    db, password = _checked_db(db, Path())
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


def normalise_root(storage: str | os.PathLike[str]) -> str:
    """Return a storage root as a URL without a trailing slash, or as an absolute path.

    Args: storage: a path or URL, as text, Path or UPath.

    Raises: CredentialsError: the URL carries a user name, a password or a query.
    """
    text = _as_text(storage).removeprefix("file://")
    if not is_remote(text):
        if not text.strip() or "\0" in text:
            raise SetupError(
                f"{storage!r} is no storage root: give a folder or a URL like s3://bucket"
            )
        root = str(_absolute(expand_user(text)).resolve())
        try:
            root.encode()
        except UnicodeEncodeError:
            raise SetupError(
                f"the storage root {root!r} is not valid Unicode, which no database can keep: "
                "rename the folder"
            ) from None
        return root
    refuse_credentials(text)
    scheme, _, rest = text.partition("://")
    if not rest.strip("/") or scheme.lower() in ("http", "https"):
        raise SetupError(
            f"{text!r} cannot hold files: give a folder, or a URL with a bucket such as "
            "s3://bucket/prefix"
        )
    return text.rstrip("/") if not text.endswith("://") else text


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~`` replaced.

    One behind ``./`` is a folder of that name, and so is that of a user whom nobody knows.
    """
    text = os.fspath(path)
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        return Path(text)


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:
        raise SetupError(
            f"the working directory was removed, so that {str(path)!r} leads nowhere: change to "
            "one that is there"
        ) from None


def _as_text(location: object) -> str:
    if getattr(location, "protocol", ""):
        return str(location)  # a UPath with a URL: not all of them are os.PathLike
    if isinstance(location, str | os.PathLike):
        return os.fsdecode(location)
    return ""


def is_remote(root: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", root) is not None


def refuse_credentials(url: str) -> None:
    """Raise CredentialsError if a URL, or a link of a chain of them, carries credentials.

    The message hides them.
    """
    first, *others = re.split(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)", url)
    for other in others:
        refuse_credentials(other)
    scheme, _, rest = first.partition("://")
    authority = rest.split("/", 1)[0]
    # a question mark may be part of an object's name; options are name=value
    if "@" in authority or re.search(r"\?[^/?]*=", rest):
        shown = (
            f"{scheme}://…@{authority.rsplit('@', 1)[-1]}"
            if "@" in authority
            else f"{scheme}://…?…"
        )
        raise CredentialsError(
            f"the storage URL {shown} carries credentials or options, which would be stored with "
            "every record: give the plain URL, and put credentials into the environment or a "
            "profile (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)"
        )


def read_config(path: Path) -> InstanceConfig:
    """Read one ``instance.toml``; relative paths in it are relative to the folder it serves.

    Raises: SetupError: says what is wrong with it and what to do.
    """
    try:
        values = _read_values(path)
        base = _absolute(path.parent.parent)
        storage = values["storage"]
        if not is_remote(storage):
            storage = str(base / expand_user(storage))
        storage = normalise_root(storage)
        db, password = _checked_db(values["db"], base)
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


def _checked_db(db: str, base: Path) -> tuple[str, str | None]:
    """Return a database's URL as it is kept, and its password."""
    scheme, _, rest = db.partition("://")
    dialect, _, driver = scheme.partition("+")
    if dialect == "sqlite":
        return _absolute_sqlite(rest, base), None
    if not rest or dialect not in ("postgresql", "postgres"):
        raise SetupError(
            "an instance's records are kept in SQLite or PostgreSQL: give a URL like "
            "sqlite:///path/to/file.sqlite or postgresql://user@host/name"
        )
    rest, password = _split_password(rest)
    return f"postgresql+{driver or 'psycopg'}://{rest}", password


def _split_password(rest: str) -> tuple[str, str | None]:
    """Take the password out of what follows ``://``; raise if one may be left that is not seen."""
    location, mark, query = rest.partition("?")
    options = [option for option in query.split("&") if option]
    names = [option.partition("=")[0] for option in options]
    if "@" in query or "sslpassword" in names:
        raise CredentialsError(
            "the database's URL has a secret that cannot be kept apart: write '?' and '@' in a "
            "password as %3F and %40, and keep the password of a key in the environment "
            "(PGSSLPASSWORD) or in ~/.pgpass"
        )
    password = None
    if "@" in location:
        who, _, where = location.rpartition("@")
        user, _, password = who.partition(":")
        location = f"{user}@{where}" if user else where
    for name, option in zip(names, options, strict=True):
        if name == "password":
            password = option.partition("=")[2]
    query = "&".join(
        option for name, option in zip(names, options, strict=True) if name != "password"
    )
    return location + (mark + query if query else ""), unquote(password) if password else None


def _absolute_sqlite(rest: str, base: Path) -> str:
    location = rest.removeprefix("/")
    if location == rest or not location or location.startswith(":memory:"):
        raise SetupError(
            f"'sqlite://{rest}' names no database file, and an instance outlives its process: "
            "give sqlite:///path/to/file.sqlite"
        )
    return f"sqlite:///{_absolute(base / expand_user(location)).resolve()}"


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


def _git_user() -> dict[str, str]:
    """Return ``email`` and ``name`` of git's user, as far as they are set."""
    try:
        done = subprocess.run(
            ["git", "config", "--null", "--get-regexp", r"^user\.(email|name)$"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (each.partition("\n") for each in done.stdout.split("\0") if each)
    # of a setting that several files have, git names the one that counts last
    return {name.removeprefix("user."): value.strip() for name, _, value in lines if value.strip()}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _user_dir(variable: str, default: Any) -> Path:
    value = os.environ.get(variable)
    return expand_user(value) if value else Path(default("lamindb", appauthor=False))


def _environment_flag(variable: str, default: bool) -> bool:
    value = os.environ.get(variable)
    return default if not value else value.strip().lower() in _TRUE


def _environment_number(variable: str, default: float) -> float:
    value = os.environ.get(variable)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SetupError(f"{variable}={value!r} is not a number: give one, or unset it")
    return number


settings = Settings()
