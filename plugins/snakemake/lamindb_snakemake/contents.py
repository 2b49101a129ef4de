"""Contents of files that may be gone before anybody has the time to read them."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from lamindb.hooks import FileStat
from lamindb.storage.hashing import (
    BUFFER_BYTES,
    FILE_HASH,
    ManifestLine,
    encode,
    hash_bytes,
    manifest_digest,
)
from lamindb.storage.sources import LocalSource, digest

# a process may hold 1,024 by default, and Snakemake needs some of them
MOST_HELD = 256

CHANGED = "it was changed while it was read"
LATE = "the workflow had ended before it could be read"


@dataclass(frozen=True)
class Content:
    """What a file held: hash, its rule and size in bytes; or, hash None, why that is not known."""

    hash: str | None
    hash_type: str | None = None
    size: int | None = None
    note: str | None = None


class Held:
    """A file or folder that is held open, so that it can be read once it was removed."""

    def __init__(self, opened: list[tuple[str, int]], is_folder: bool, release: Release) -> None:
        self._opened, self._is_folder, self._release = opened, is_folder, release

    def read(self) -> Content:
        """Read it, and let it go."""
        try:
            found = [(path, *_md5(descriptor)) for path, descriptor in self._opened]
        except OSError as error:
            return Content(None, note=f"it could not be read: {error}"[:500])
        finally:
            self.close()
        if any(md5 is None for _, md5, _ in found):
            return Content(None, size=sum(size for *_, size in found), note=CHANGED)
        if not self._is_folder:
            [(_, md5, size)] = found
            return Content(encode(md5 or b""), FILE_HASH, size)
        whole = manifest_digest(
            ManifestLine(path, size, (md5 or b"").hex()) for path, md5, size in found
        )
        return Content(whole.hash, whole.type, whole.size)

    def close(self) -> None:
        for _, descriptor in self._opened:
            os.close(descriptor)
        self._release(len(self._opened))
        self._opened = []


Release = Callable[[int], None]


class Holder:
    """Counts what is held: where that would be too much, a file is read by whoever asks."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self._count = 0
        self._lock = threading.Lock()

    def hold(self, path: str) -> Held | Content:
        """Hold what is at a path now.

        Raises: OSError, LaminError: it cannot be opened, or is no regular file.
        """
        if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - one call of the system
            opened = [("", os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))]
            return self._counted(Held(opened, False, self._release), 1)
        source = LocalSource(path)
        entries = source.entries()
        if self._count + len(entries) > self._most:
            whole = digest(source)
            return Content(whole.hash, whole.type, whole.size)
        opened = []
        try:
            for entry in entries:
                with entry.open() as stream:
                    opened.append((entry.path, os.dup(stream.fileno())))
        except BaseException:
            for _, descriptor in opened:
                os.close(descriptor)
            raise
        return self._counted(Held(opened, True, self._release), len(opened))

    def _counted(self, held: Held, count: int) -> Held | Content:
        with self._lock:
            self._count += count
            is_too_much = self._count > self._most
        return held.read() if is_too_much else held

    def _release(self, count: int) -> None:
        with self._lock:
            self._count -= count


def read_unchanged(path: str, seen: FileStat) -> Content | None:
    """Read a small file that is still as it was seen; None where it is not, or is out of reach."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # one byte more than there should be; calls of the system cost more than the hashing
        read = os.pread(descriptor, seen.size + 1, 0)
        if len(read) != seen.size or not _is_as_seen(descriptor, seen):
            return None
        return Content(hash_bytes(read), FILE_HASH, seen.size)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _is_as_seen(descriptor: int, seen: FileStat) -> bool:
    """Whether the bytes are those that were seen: a next job may give them a link or a mode."""
    now = FileStat.of(descriptor)
    return now is not None and replace(now, ctime_ns=seen.ctime_ns) == seen


def _md5(descriptor: int) -> tuple[bytes | None, int]:
    """Return the MD5 of an open file and its size; None if it changed meanwhile."""
    before = os.fstat(descriptor)
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    while chunk := os.pread(descriptor, BUFFER_BYTES, size):
        md5.update(chunk)
        size += len(chunk)
    after = os.fstat(descriptor)
    # not ctime: it changes when the file is removed
    is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return (md5.digest() if is_same and size == after.st_size else None), size
