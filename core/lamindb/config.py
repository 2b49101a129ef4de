"""The only reader of the environment and of configuration files.

Which instance, in this order: the one loaded in this process, ``LAMINDB_INSTANCE`` (a name, a
storage folder or a project folder) or ``LAMINDB_STORAGE`` (with ``LAMINDB_DB``), the nearest
``.lamindb/instance.toml`` from the working directory upward, the user's current instance.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from lamindb.errors import CredentialsError, NoInstanceError, SetupError

FOLDER = ".lamindb"
FILE = "instance.toml"
CURRENT = "current"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_TRUE = ("1", "true", "yes", "on")


@dataclass
class Settings:
    """What a user may switch, for this process: ``ln.settings``.

    Attributes:
        record_inputs: whether reading a File inside a tracked run makes it that run's input;
            ``LAMINDB_RECORD_INPUTS=0`` turns it off.
        strict: whether a failing plugin raises instead of being logged; ``LAMINDB_STRICT=1``.
        blocked_plugins: entry-point names that are not loaded; ``LAMINDB_BLOCK=a,b``.
        busy_timeout_s: how long to wait for a lock of the database or of a storage key.
        cache_size_bytes: the staging cache is trimmed to this after each download.
    """

    record_inputs: bool = field(
        default_factory=lambda: _environment_flag("LAMINDB_RECORD_INPUTS", True)
    )
    strict: bool = field(default_factory=lambda: _environment_flag("LAMINDB_STRICT", False))
    blocked_plugins: frozenset[str] = field(
        default_factory=lambda: frozenset(
            filter(None, os.environ.get("LAMINDB_BLOCK", "").split(","))
        )
    )
    busy_timeout_s: float = field(
        default_factory=lambda: _environment_number("LAMINDB_BUSY_TIMEOUT", 60.0)
    )
    cache_size_bytes: int = field(
        default_factory=lambda: int(_environment_number("LAMINDB_CACHE_SIZE", 50e9))
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


def notebook_path() -> Path | None:
    """The notebook that this kernel runs, as far as the environment knows it."""
    for variable in ("LAMINDB_NOTEBOOK", "PAPERMILL_INPUT_PATH", "JPY_SESSION_NAME"):
        value = os.environ.get(variable)
        if value and Path(value).suffix == ".ipynb" and Path(value).is_file():
            return Path(value).resolve()
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
    email, name = _git_value("user.email"), _git_value("user.name")
    return Identity(given or email or f"{_login()}@{host()}", email, name)


def find_config() -> InstanceConfig:
    """Return the configuration of the instance to use, by the order of this module's docstring.

    Raises: NoInstanceError: nothing says which; the message names the command to run.
    """
    chosen = os.environ.get("LAMINDB_INSTANCE")
    if chosen:
        return config_named(chosen)
    storage = os.environ.get("LAMINDB_STORAGE")
    if storage:
        return config_from_storage(storage, os.environ.get("LAMINDB_DB"))
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / FOLDER / FILE).is_file():
            return read_config(folder / FOLDER / FILE)
    current = config_dir() / CURRENT
    if current.is_file():
        return config_named(current.read_text(encoding="utf-8").strip())
    raise NoInstanceError(
        f"no instance is set up for {Path.cwd()}: run 'lamin init --storage ./mydata' here, "
        "or 'lamin load NAME' for one that exists"
    )


def config_named(reference: str) -> InstanceConfig:
    """Return the configuration of an instance by its name, storage folder or project folder.

    Raises: SetupError: there is none; names those known.
    """
    registered = config_dir() / "instances" / f"{reference}.toml"
    if NAME_PATTERN.fullmatch(reference) and registered.is_file():
        return read_config(registered)
    if "://" not in reference:
        local = Path(reference).expanduser() / FOLDER / FILE
        if local.is_file():
            return read_config(local)
    for config in known_configs():
        if config.storage.rstrip("/") == reference.rstrip("/"):
            return config
    names = ", ".join(sorted(config.name for config in known_configs())) or "none yet"
    raise SetupError(
        f"no instance {reference!r}: known are {names}; 'lamin init --storage {reference}' "
        "makes one"
    )


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
    storage: str, db: str | None = None, name: str | None = None
) -> InstanceConfig:
    """Derive a configuration: the database is SQLite inside a local root, else in the data folder.

    Raises: CredentialsError: the storage URL carries a secret; SetupError: the name is unusable.
    """
    root = normalise_root(storage)
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", root.rstrip("/").rsplit("/", 1)[-1]).strip(
        "-."
    )
    if not NAME_PATTERN.fullmatch(chosen or ""):
        raise SetupError(
            f"{chosen!r} cannot be an instance's name: use up to 64 of letters, digits, '.', '_' "
            "and '-', starting with a letter or digit; pass it as --name"
        )
    if db is None:
        folder = data_dir() / chosen if is_remote(root) else Path(root) / FOLDER
        db = f"sqlite:///{folder / 'lamindb.sqlite'}"
    db, password = _split_password(_absolute_sqlite(db))
    return InstanceConfig(chosen, root, db, password=password)


def normalise_root(storage: str | os.PathLike[str]) -> str:
    """Return a storage root as a URL without a trailing slash, or as an absolute path.

    Raises: CredentialsError: the URL carries a user name, a password or a query.
    """
    text = os.fspath(storage)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if not is_remote(text):
        if not text.strip() or "\0" in text:
            raise SetupError(
                f"{text!r} is no storage root: give a folder or a URL like s3://bucket"
            )
        return str(Path(text).expanduser().resolve())
    refuse_credentials(text)
    return text.rstrip("/") if not text.endswith("://") else text


def is_remote(root: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", root) is not None


def refuse_credentials(url: str) -> None:
    """Raise CredentialsError if a storage URL carries credentials; the message hides them."""
    scheme, _, rest = url.partition("://")
    authority = rest.split("/", 1)[0]
    if "@" in authority or "?" in rest:
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
    """Read one ``instance.toml``; relative paths in it are relative to the folder it serves."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        name, storage, db = values["name"], values["storage"], values["db"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise SetupError(
            f"the instance file {path} cannot be used ({type(error).__name__}: {error}): mend it, "
            "or remove it and run 'lamin init' again"
        ) from error
    base = path.parent.parent
    if not is_remote(storage):
        storage = str((base / storage).resolve())
    if db.startswith("sqlite:///"):
        db = f"sqlite:///{(base / db.removeprefix('sqlite:///')).resolve()}"
    password = values.get("password") or _registered_password(name, db)
    return InstanceConfig(name, storage, db, path, password)


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


def register_config(config: InstanceConfig) -> None:
    """Remember an instance for this user and make it the current one."""
    values = {"name": config.name, "storage": config.storage, "db": config.db}
    if config.password:
        values["password"] = config.password
    path = config_dir() / "instances" / f"{config.name}.toml"
    _write_toml(path, values, mode=0o600)
    _write_text(config_dir() / CURRENT, config.name + "\n")


def forget_current() -> None:
    """Make no instance the user's current one."""
    (config_dir() / CURRENT).unlink(missing_ok=True)


def forget_config(config: InstanceConfig) -> None:
    """Remove an instance from this user's list."""
    current = config_dir() / CURRENT
    if current.is_file() and current.read_text(encoding="utf-8").strip() == config.name:
        current.unlink()
    (config_dir() / "instances" / f"{config.name}.toml").unlink(missing_ok=True)


def _registered_password(name: str, db: str) -> str | None:
    path = config_dir() / "instances" / f"{name}.toml"
    if db.startswith("sqlite") or not path.is_file():
        return None
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    return values.get("password") if values.get("db") == db else None


def _split_password(db: str) -> tuple[str, str | None]:
    match = re.match(r"([^:]+://[^:/@]+):(.*)@([^@]*)$", db)
    return (f"{match[1]}@{match[3]}", match[2]) if match else (db, None)


def _absolute_sqlite(db: str) -> str:
    if not db.startswith("sqlite"):
        return db
    location = db.split("///", 1)[1] if "///" in db else ""
    if not location or location.startswith(":memory:"):
        raise SetupError(
            f"{db!r} names no database file, and an instance outlives its process: "
            "give sqlite:///path/to/file.sqlite"
        )
    return f"sqlite:///{Path(location).expanduser().resolve()}"


def _relative(path: Path, base: Path) -> str:
    try:
        return path.relative_to(base.resolve()).as_posix() or "."
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


def _git_value(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "config", "--get", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _user_dir(variable: str, default: Any) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else Path(default("lamindb", appauthor=False))


def _environment_flag(variable: str, default: bool) -> bool:
    value = os.environ.get(variable)
    return default if not value else value.strip().lower() in _TRUE


def _environment_number(variable: str, default: float) -> float:
    value = os.environ.get(variable)
    if not value:
        return default
    try:
        return float(value)
    except ValueError:
        raise SetupError(f"{variable}={value!r} is not a number: give one, or unset it") from None


settings = Settings()
