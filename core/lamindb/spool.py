"""Events on disk until they are in the database: the write-ahead log of each process.

One file a process, beside a local SQLite, else in the user's state folder. It outlives its process,
so nothing is lost to ``kill -9`` or to a database that is out of reach; it is not synced, so power
loss may take its last events. Knows nothing of tables.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lamindb.config import Identity, InstanceConfig, identity, spool_dir, state_dir
from lamindb.hooks.events import Event, from_json, to_json
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, is_visible, this_process

logger = logging.getLogger("lamindb")

SUFFIX = ".jsonl"
REFUSED = ".refused"
# in the name of a file that its process has left though it lives
_LEFT = "-left"
# of another host's process nothing can be seen but that it touches its file once a minute
SILENT_S = 30 * 60.0
# so often it looks whether its file is still there; each look lets another thread go first
_LOOK_S = 1.0


def folders(config: InstanceConfig) -> list[Path]:
    """Return where events of an instance may wait, the preferred place first."""
    place = hashlib.sha256(config.db.encode()).hexdigest()[:12]
    own = state_dir() / "spool" / f"{config.name}-{place}"
    given = spool_dir()
    if given is not None:
        return [given / f"{config.name}-{place}", own]
    beside = config.sqlite_path
    return [own] if beside is None else [beside.parent / "spool", own]


class SpoolFile:
    """The events of this process that are not in the database yet. Safe in threads."""

    def __init__(self, config: InstanceConfig) -> None:
        """Raises: OSError: no place can be written."""
        # a signal's handler may write while its own thread does
        self.lock = threading.RLock()
        self._config = config
        self._start = self._size = 0
        self._looked_at = time.time()
        self.path, self._descriptor = self._created()

    def append(self, event: Event) -> None:
        """Write one event: it now survives this process.

        Raises: OSError: the disk is full; nothing of the event is in the file then.
        """
        line = to_json(event).encode("ascii") + b"\n"
        with self.lock:
            if abs(time.time() - self._looked_at) > _LOOK_S:
                self._look()
            self._write(line)

    def clear(self, is_idle: Any) -> None:
        """Forget all events, if nobody has added one meanwhile."""
        with self.lock:
            # once it is closed, another file may have the descriptor's number
            if self._descriptor >= 0 and self._size > self._start and is_idle():
                os.ftruncate(self._descriptor, self._start)
                self._size = self._start

    def touch(self) -> None:
        """Show other hosts that this process lives."""
        with self.lock, suppress(OSError):
            if self._descriptor >= 0:
                os.utime(self._descriptor)

    def close(self) -> None:
        """Close the file, and remove it if it holds no event, else leave it to the next opening."""
        with self.lock, suppress(OSError):
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor < 0:
                return
            os.close(descriptor)
            if self._size <= self._start:
                self.path.unlink(missing_ok=True)
            else:
                left = self.path.with_name(f"{self.path.stem}{_LEFT}{SUFFIX}")
                self.path = self.path.rename(left)

    def abandon(self) -> None:
        """Leave the file to the process that this one was forked from."""
        # the lock may be held by a thread that is not in the child
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def _look(self) -> None:
        """Begin a new file where another host took this process for dead while it was suspended."""
        if os.fstat(self._descriptor).st_nlink == 0:
            os.close(self._descriptor)
            self.path, self._descriptor = self._created()
        self._looked_at = time.time()

    def _created(self) -> tuple[Path, int]:
        """Make the file, which says first whose events it holds."""
        owner, user = this_process().as_json(), asdict(identity())
        header = json.dumps({"owner": owner, "user": user}).encode() + b"\n"
        path, descriptor = _create(self._config)
        try:
            os.write(descriptor, header)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._start = self._size = len(header)
        return path, descriptor

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)


def _create(config: InstanceConfig) -> tuple[Path, int]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    failure: OSError | None = None
    for folder in folders(config):
        path = folder / f"{os.getpid()}-{random_id(8)}{SUFFIX}"
        try:
            if folder.parent.name == ".lamindb" and not folder.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the instance is gone", str(folder.parent))
            folder.mkdir(parents=True, exist_ok=True)
            return path, os.open(path, flags, 0o600)
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


def abandoned(config: InstanceConfig) -> list[Path]:
    """Return the files whose processes are gone, oldest first.

    On this host that is known; a process of another host counts as gone when its file was not
    touched for 30 minutes.
    """
    found: list[tuple[float, Path]] = []
    for folder in folders(config):
        for path in folder.glob(f"*{SUFFIX}"):
            with suppress(OSError, ValueError, KeyError):
                changed_at = path.stat().st_mtime
                silent_s = time.time() - changed_at
                header = _header(path)
                if path.stem.endswith(_LEFT):
                    gone = True
                elif header is None:
                    gone = silent_s > 60.0  # it died before its first line was out
                else:
                    # what cannot be seen from here, as in a container, is known by its silence
                    gone = is_dead(header["owner"]) or (
                        silent_s > SILENT_S and not is_visible(header["owner"])
                    )
                if gone:
                    found.append((changed_at, path))
    return [path for _, path in sorted(found)]


def waiting(config: InstanceConfig) -> dict[Path, int]:
    """Return the files of all processes, living ones too, with the number of events in each."""
    counts = {}
    for folder in folders(config):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            with suppress(OSError):
                counts[path] = max(path.read_bytes().count(b"\n") - 1, 0)
    return {path: count for path, count in counts.items() if count}


def user_of(path: Path) -> Identity | None:
    """Return who told of the events in a file; None if it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        header = _header(path)
        return Identity(**header["user"]) if header is not None else None
    return None


def _header(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as stream:
        line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    return header


def read(path: Path) -> Iterator[Event]:
    """Yield the events of a file; a line that is none is logged and passed over."""
    with path.open("rb") as stream:
        stream.readline()
        for line in stream:
            if not line.endswith(b"\n"):
                return  # the process died while it wrote this
            try:
                event = from_json(line)
            except ValueError as error:
                logger.warning("a line of %s is passed over: %s", path, error)
                continue
            if event is not None:
                yield event


def set_aside(path: Path) -> Path:
    """Keep a file whose events the database refuses, so that nobody tries again; returns where."""
    return path.rename(path.with_suffix(REFUSED))


def refused(config: InstanceConfig) -> list[Path]:
    """Return the files that were set aside."""
    return sorted(path for folder in folders(config) for path in folder.glob(f"*{REFUSED}"))


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold a file for this process alone; False when another has it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor) and path.exists()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return True  # replaying twice is harmless
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
