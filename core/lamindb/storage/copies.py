"""Local copies of remote objects, verified, kept by content, and shared by all processes."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from lamindb.config import cache_dir, settings
from lamindb.errors import DataError, LaminError, ObjectChangedError
from lamindb.identifiers import random_id
from lamindb.storage.cache import connect, holds
from lamindb.storage.sources import LocalSource, Source
from lamindb.storage.store import Store

_INCOMING = "incoming"
# after so long a download's process was killed: nobody else takes its copy away
_ABANDONED_S = 24 * 3600.0
# what was handed out so lately may not be open yet
_IN_USE_S = 60.0
# so much of the limit is left full, so that not every download has to look at all that is there
_KEPT = 0.9
_TRIES = 20


def fetch(find: Callable[[], Source], expected: str | None, suffix: str) -> Path:
    """Return a verified local copy of a remote object, downloading it if need be.

    Copies are kept by content below the cache folder, read-only, and shared by all processes.

    Args: find: asked for the object only when it has to be downloaded.
    Raises: DataMissingError: no such object; ObjectChangedError: it has another hash than expected.
    """
    folder = cache_dir() / "objects"
    name = f"{expected}{suffix}" if expected else f"{random_id(20)}{suffix}"
    target = folder / name[:2] / name
    if expected and _has_copy(target, expected):
        _note(target)
        return target
    scratch = Store(str(folder))
    _sweep(folder / _INCOMING)
    incoming = f"{_INCOMING}/{random_id(20)}"
    source = find()
    found = scratch.write(source, incoming)
    if expected and found.hash != expected:
        scratch.remove(incoming)
        raise ObjectChangedError(
            f"{source.uri} has hash {found.hash}, its record says {expected}: it was changed "
            "without lamindb; put the old object back, or add the new one as a new version"
        )
    path = scratch.path(incoming)
    if path.is_file():
        path.chmod(0o444)
    _publish(path, target, expected)
    trim(folder, keep=target, size=found.size)
    return target


def _publish(path: Path, target: Path, expected: str | None) -> None:
    """Give a verified download its name, whatever lies there, or others do at the same time."""
    for tries_left in reversed(range(_TRIES)):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.rename(target)
            return
        except OSError:  # a directory is there, which a rename replaces only when it is empty
            if expected and _has_copy(target, expected):
                _clear(path)  # another process fetched the same meanwhile
                return
            if not tries_left:
                raise
            with contextlib.suppress(OSError):
                # aside first: a half-removed directory must not be taken for the whole one
                aside = path.with_name(f"{path.name}.old")
                target.rename(aside)
                _clear(aside)


def trim(folder: Path, keep: Path, size: int) -> None:
    """Remove the copies used longest ago once there are more than ``settings.cache_size_bytes``.

    What they take is noted as they come, so that the folder is looked at only then.

    Args: keep: the copy that has just come, of this size in bytes.
    """
    limit, noted = settings.cache_size_bytes, _noted_bytes()
    if noted is not None:
        _note(keep, size)
        if noted + size <= limit:
            return
    found = _look(folder)
    kept, total, wanted = [], sum(size for _, size, _ in found), limit
    if total > limit:
        wanted = int(limit * _KEPT)
    for used_at, size, path in sorted(found):
        if path == keep:
            kept.append((_now(), size, path))
        elif total > wanted and _now() - used_at > _IN_USE_S:
            _clear(path)
            total -= size
        else:
            kept.append((used_at, size, path))
    _note_all(kept)


def _now() -> float:
    return time.time()


def _look(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each copy was last used, its size in bytes, and where it is."""
    used = _noted_uses()
    found = []
    for path in folder.glob("*/*"):
        if path.parent.name == _INCOMING:
            continue
        with contextlib.suppress(OSError, LaminError):  # trimmed by another process meanwhile
            size = sum(entry.size for entry in LocalSource(path).entries())
            found.append((used.get(path.name) or path.stat().st_mtime, size, path))
    return found


def _sweep(incoming: Path) -> None:
    """Clear what killed downloads have left."""
    with contextlib.suppress(OSError):
        for path in incoming.iterdir():
            with contextlib.suppress(OSError, LaminError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    _clear(path)


def _has_copy(path: Path, expected: str) -> bool:
    try:
        return holds(LocalSource(path), expected)
    except DataError:
        return False  # it is not there, or was trimmed this very moment


def _clear(path: Path) -> None:
    Store(str(path.parent)).remove(path.name)


# --- the notes: an optimisation, without which the folder is looked at ----------------------------

# not the times of the files themselves: a new one would have the file hashed anew


def _note(path: Path, size: int | None = None) -> None:
    """Note that a copy is used now, and its size when it is new."""
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(connect()) as connection,
        connection,
    ):
        now = _now()
        if size is not None:
            row = (path.name, size, now)
            connection.execute("INSERT OR REPLACE INTO copy VALUES (?, ?, ?)", row)
        else:
            connection.execute("UPDATE copy SET used_at = ? WHERE name = ?", (now, path.name))


def _note_all(found: list[tuple[float, int, Path]]) -> None:
    rows = [(path.name, size, used_at) for used_at, size, path in found]
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(connect()) as connection,
        connection,
    ):
        connection.execute("DELETE FROM copy")
        connection.executemany("INSERT OR REPLACE INTO copy VALUES (?, ?, ?)", rows)


def _noted_bytes() -> int | None:
    """Return the size of all copies together, None where it is not known."""
    try:
        with contextlib.closing(connect()) as connection:
            row = connection.execute("SELECT sum(size) FROM copy").fetchone()
    except (sqlite3.Error, OSError):
        return None
    return row[0] if row else None


def _noted_uses() -> dict[str, float]:
    try:
        with contextlib.closing(connect()) as connection:
            return dict(connection.execute("SELECT name, used_at FROM copy").fetchall())
    except (sqlite3.Error, OSError):
        return {}
