"""Local copies of remote objects, and hashes of local files that have not changed since."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from lamindb.config import cache_dir, settings
from lamindb.errors import DataError, ObjectChangedError
from lamindb.identifiers import random_id
from lamindb.storage.hashing import Digest
from lamindb.storage.sources import (
    Entry,
    Fingerprint,
    LocalSource,
    Source,
    digest,
    stored_digest,
)
from lamindb.storage.store import Store

# A write within the clock's last tick leaves the times of a file as they were, so a hash counts
# only for a file that had been left alone for this long when it was read. 2 s is the tick of FAT;
# others are finer.
_SETTLED_S = 2.0
# reading a smaller file takes no longer than asking for its hash
_SMALLEST = 128 * 1024
_INCOMING = "incoming"
# a smaller file is read in less time than its hash is looked up
_SMALL_BYTES = 1 << 20
# after so long a download's process was killed: nobody else takes its copy away
_ABANDONED_S = 24 * 3600.0


def digest_once(source: LocalSource) -> Digest:
    """Hash a local file or directory, or recall the hash if the file is provably the same.

    The key is (device, inode, size, mtime_ns, ctime_ns): a 50 GB reference is read once, not once a
    job. The cache is this user's, on this machine, and is only ever an optimisation. A file system
    that notes no writes through memory maps (tmpfs) hides those from it.
    """
    if source.is_directory:
        return digest(source)
    entry = source.entries()[0]
    if entry.size < _SMALLEST or not _is_settled(entry, time.time()):
        return digest(source)
    known = recall(entry.fingerprint)
    if known is not None:
        return known
    _sync(source.path)
    entry = source.entries()[0]
    found = digest(source)
    if source.entries()[0].fingerprint == entry.fingerprint:
        _remember(entry, found)
    return found


def _sync(path: Path) -> None:
    """Have the file system note the next write through a memory map.

    One to a page that was written to before, and is not on the disk yet, leaves no new time.
    """
    with contextlib.suppress(OSError), path.open("rb") as stream:
        os.fsync(stream.fileno())


def recall(fingerprint: Fingerprint) -> Digest | None:
    """Return the hash that a file had when it was (size, mtime_ns, ctime_ns, device, inode).

    Whatever is there now: the bytes of that moment have been read.
    """
    return _recall(" ".join(str(part) for part in fingerprint))


def holds(source: Source, expected: str, *, anew: bool = False) -> bool:
    """Whether a source has the content that a hash is of.

    An object store that keeps the MD5 of what it was given is asked; else the content is read.

    Args: anew: read a local file even if its hash is known, for bytes that will be lost.
    """
    if isinstance(source, LocalSource):
        is_small = not source.is_directory and source.entries()[0].size <= _SMALL_BYTES
        return (digest(source) if anew or is_small else digest_once(source)).hash == expected
    stored = stored_digest(source)
    return (stored is not None and stored.hash == expected) or digest(source).hash == expected


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
        with contextlib.suppress(OSError):
            os.utime(target)  # what was used last is trimmed last
        return target
    scratch = Store(str(folder))
    incoming = f"{_INCOMING}/{random_id(20)}"
    source = find()
    found = scratch.write(source, incoming)
    if expected and found.hash != expected:
        scratch.remove(incoming)
        raise ObjectChangedError(
            f"{source.uri} has hash {found.hash}, its record says {expected}: it was changed "
            "without lamindb; put the old object back, or add the new one as a new version"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    path = scratch.path(incoming)
    if path.is_file():
        path.chmod(0o444)
    try:
        path.rename(target)
    except OSError:  # a directory is there, which a rename replaces only when it is empty
        if expected and _has_copy(target, expected):
            scratch.remove(incoming)  # another process fetched the same meanwhile
        else:
            _clear(target)
            path.rename(target)
    trim(folder, keep=target)
    return target


def trim(folder: Path, keep: Path) -> None:
    """Remove the copies used longest ago until ``settings.cache_size_bytes`` is kept."""
    found = []
    for path in folder.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            used_at = path.stat().st_mtime
            if path.parent.name != _INCOMING:
                size = sum(entry.size for entry in LocalSource(path).entries())
                found.append((used_at, size, path))
            elif time.time() - used_at > _ABANDONED_S:
                _clear(path)
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= settings.cache_size_bytes:
            return
        if path != keep:
            _clear(path)
            total -= size


def _has_copy(path: Path, expected: str) -> bool:
    try:
        return holds(LocalSource(path), expected)
    except DataError:
        return False  # it is not there, or was trimmed this very moment


def _clear(path: Path) -> None:
    Store(str(path.parent)).remove(path.name)


def _is_settled(entry: Entry, at: float) -> bool:
    _, mtime_ns, ctime_ns, *_ = entry.fingerprint
    assert isinstance(mtime_ns, int) and isinstance(ctime_ns, int)
    return at - max(mtime_ns, ctime_ns) / 1e9 > _SETTLED_S


def _recall(key: str) -> Digest | None:
    try:
        with contextlib.closing(_connect()) as connection:
            row = connection.execute(
                "SELECT hash, size, type FROM digest WHERE fingerprint = ?", (key,)
            ).fetchone()
    except (sqlite3.Error, OSError):
        return None  # an optimisation: without it the file is read again
    return Digest(*row) if row else None


def _remember(entry: Entry, found: Digest) -> None:
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(_connect()) as connection,
        connection,
    ):
        connection.execute(
            "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)",
            (_key(entry), found.hash, found.size, found.type),
        )


def _key(entry: Entry) -> str:
    return " ".join(str(part) for part in entry.fingerprint)


def _connect() -> sqlite3.Connection:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "hashes.sqlite", timeout=1.0)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS digest "
        "(fingerprint TEXT PRIMARY KEY, hash TEXT, size INTEGER, type TEXT) WITHOUT ROWID"
    )
    return connection
