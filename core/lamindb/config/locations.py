"""Paths and URLs of storages and databases, as they are kept: absolute, and without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from lamindb.errors import CredentialsError, SetupError


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~`` replaced.

    One behind ``./`` is a folder of that name, and so is that of a user whom nobody knows.
    """
    text = os.fspath(path)
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        return Path(text)


def working_directory() -> Path | None:
    """Return the working directory; None when it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:
        raise SetupError(
            f"the working directory was removed, so that {str(path)!r} leads nowhere: change to "
            "one that is there"
        ) from None


def _as_text(location: object) -> str:
    if getattr(location, "protocol", ""):
        return url_of(location)  # not all UPaths are os.PathLike
    if isinstance(location, str | os.PathLike):
        return os.fsdecode(location)
    return ""


def url_of(path: object) -> str:
    """Return the URL of a UPath; its own text, for SFTP and others, leaves out the host."""
    text = str(path)
    options = getattr(path, "storage_options", {})
    scheme, mark, rest = text.partition(":///")
    if not mark or not options.get("host"):
        return text
    user = f"{options['username']}@" if options.get("username") else ""
    port = f":{options['port']}" if options.get("port") else ""
    return f"{scheme}://{user}{options['host']}{port}/{rest}"


def is_remote(root: str) -> bool:
    return "://" in root and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", root) is not None


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
        root = str(absolute(expand_user(text)).resolve())
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
            "profile (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL; for SFTP: an SSH "
            "agent or FSSPEC_SFTP_USERNAME)"
        )


def checked_db(db: str, base: Path) -> tuple[str, str | None]:
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
    return f"sqlite:///{absolute(base / expand_user(location)).resolve()}"
