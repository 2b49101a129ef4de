"""Hashes of files and objects that have not changed since they were read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from lamindb.config import cache_dir
from lamindb.storage.hashing import Digest
from lamindb.storage.sources import (
    Entry,
    Fingerprint,
    LocalSource,
    Source,
    digest,
    parts_tag,
    stored_digest,
)

# A write within the clock's last tick leaves the times of a file as they were, so a hash counts
# only for a file that had been left alone for this long when it was read. 2 s is the tick of FAT;
# others are finer.
_SETTLED_S = 2.0
# reading a smaller file takes no longer than asking for its hash
_SMALLEST = 128 * 1024
# a smaller file is read in less time than its hash is looked up
_SMALL_BYTES = 1 << 20


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
        _remember(_key(entry), found)
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
    if stored is not None and stored.hash == expected:
        return True
    tag = parts_tag(source)
    if tag is not None:
        known = _recall(tag)
        if known is not None:
            return known.hash == expected
    found = digest(source)
    if tag is not None and parts_tag(source) == tag:
        _remember(tag, found)
    return found.hash == expected


def remember_parts(source: Source, found: Digest) -> None:
    """Keep the hash of what has just been uploaded in parts, so that it need not be read again."""
    tag = parts_tag(source)
    if tag is not None:
        _remember(tag, found)


def _is_settled(entry: Entry, at: float) -> bool:
    _, mtime_ns, ctime_ns, *_ = entry.fingerprint
    assert isinstance(mtime_ns, int) and isinstance(ctime_ns, int)
    return at - max(mtime_ns, ctime_ns) / 1e9 > _SETTLED_S


def _recall(key: str) -> Digest | None:
    try:
        with contextlib.closing(connect()) as connection:
            row = connection.execute(
                "SELECT hash, size, type FROM digest WHERE fingerprint = ?", (key,)
            ).fetchone()
    except (sqlite3.Error, OSError):
        return None  # an optimisation: without it the file is read again
    return Digest(*row) if row else None


def _remember(key: str, found: Digest) -> None:
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(connect()) as connection,
        connection,
    ):
        connection.execute(
            "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)",
            (key, found.hash, found.size, found.type),
        )


def _key(entry: Entry) -> str:
    return " ".join(str(part) for part in entry.fingerprint)


def connect() -> sqlite3.Connection:
    """Open what this user's processes on this machine remember; raises sqlite3.Error, OSError."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "hashes.sqlite", timeout=1.0)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS digest "
        "(fingerprint TEXT PRIMARY KEY, hash TEXT, size INTEGER, type TEXT) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS copy (name TEXT PRIMARY KEY, size INTEGER, used_at REAL)"
    )
    return connection
