"""Which files this process opens, renames and removes, by an audit hook of the interpreter.

This file stands alone: no import but of the standard library, so that a child process with another
Python can load it by its path. It costs next to nothing while nobody listens.

Source: PEP 578 and the audit events table of the standard library.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import sys
import threading
import time

# what is told of a path: it is about to be read, written, read and written; a database is opened;
# it is about to be renamed to another; removed; handed to a program
READ, WRITE, UPDATE, DATABASE, MOVE, REMOVE, SPAWN = "r", "w", "rw", "db", "mv", "rm", "sp"
# written by lamindb itself, or by the import system
OWN = "own"

# what reads code, which is no data
_CODE_READERS = frozenset(
    (
        "importlib._bootstrap_external",
        "_frozen_importlib_external",
        "zipimport",
        "runpy",
        "site",
        "tokenize",
        "linecache",
        "pkgutil",
        "inspect",
        "doctest",
        "py_compile",
        "_lamindb_accesses",
    )
)
# its name where it was loaded by its path
ALONE = "_lamindb_accesses"
_SKIPPED = ("/proc/", "/sys/", "/dev/")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Listener = Callable[[str, str, "str | None"], None]

_listener: Listener | None = None
_state = threading.local()


def listen(listener: Listener | None) -> None:
    """Call ``listener(kind, path, other)`` from now on, in the thread that does it; None stops it.

    Paths are absolute texts; other is the new path of a renamed one.
    """
    global _listener
    if listener is not None and not getattr(sys, "_lamindb_listens", False):
        sys._lamindb_listens = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    _listener = listener


def told(kind: str, path: Any, other: Any = None) -> None:
    """Tell the listener of what the audit hook does not see."""
    listener = _listener
    if listener is None or getattr(_state, "busy", False) or _is_by_others(sys._getframe(1)):
        return
    _state.busy = True
    try:
        listener(kind, absolute(path), None if other is None else absolute(other))
    except Exception:  # noqa: S110 - nothing here is a reason for the script to fail
        pass
    finally:
        _state.busy = False


def absolute(path: Any) -> str:
    """Return a path as an absolute text, by the working directory of this moment."""
    return os.path.abspath(os.fsdecode(path))


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _listener is None:
        return
    handler = _HANDLERS.get(event)
    if handler is None or getattr(_state, "busy", False):
        return
    _state.busy = True
    try:
        listener = _listener
        if listener is not None:
            handler(listener, *arguments)
    except Exception:  # noqa: S110 - an exception of a hook would be one of the script's open()
        pass
    finally:
        _state.busy = False


def _opened(listener: Listener, path: Any, mode: str | None, flags: int) -> None:
    if path is None or isinstance(path, int):
        return
    path = absolute(path)
    if path.startswith(_SKIPPED):
        return
    kind = _kind(mode, flags)
    if kind == READ:
        found = _stat(path)
        if found is None or not stat.S_ISREG(found.st_mode) or not os.access(path, os.R_OK):
            return
    if not _is_by_others(sys._getframe(2)):
        listener(kind, path, None)
    elif kind != READ:
        listener(OWN, path, None)


def _kind(mode: str | None, flags: int) -> str:
    """Tell reading from writing: C code gives a mode and no flags, ``os.open`` flags alone."""
    if isinstance(mode, str) and not flags:
        if "+" in mode:
            return WRITE if "w" in mode else UPDATE
        return READ if "r" in mode or not mode.strip("bt") else WRITE
    access = (flags or 0) & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
    if access == os.O_RDONLY:
        return READ
    if access == os.O_WRONLY or flags & os.O_TRUNC:
        return WRITE
    return UPDATE


def _is_by_others(frame: FrameType | None) -> bool:
    """Whether the import system, or lamindb itself, does this, and not the script."""
    if frame is None or frame.f_globals.get("__name__") in _CODE_READERS:
        return True
    for _ in range(100):
        if frame is None:
            return False
        name = frame.f_globals.get("__name__") or ""
        if name.startswith("lamindb.") and not name.startswith("lamindb.testing"):
            return True
        frame = frame.f_back
    return False


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _renamed(
    listener: Listener, source: Any, target: Any, source_dir: int = -1, target_dir: int = -1
) -> None:
    if source_dir == -1 and target_dir == -1:
        if _is_by_others(sys._getframe(2)):
            listener(OWN, absolute(target), None)
        else:
            listener(MOVE, absolute(source), absolute(target))


def _removed(listener: Listener, path: Any, folder: int = -1) -> None:
    if folder == -1 and not _is_by_others(sys._getframe(2)):
        listener(REMOVE, absolute(path), None)


def _linked(listener: Listener, source: Any, target: Any, *_: Any) -> None:
    if not _is_by_others(sys._getframe(2)):
        listener(WRITE, absolute(target), None)


def _truncated(listener: Listener, path: Any, length: int) -> None:
    if not isinstance(path, int) and not _is_by_others(sys._getframe(2)):
        listener(UPDATE if length else WRITE, absolute(path), None)


def _connected(listener: Listener, database: Any) -> None:
    name = os.fsdecode(database) if isinstance(database, (str, bytes, os.PathLike)) else ""
    if name.startswith("file:"):
        from urllib.parse import unquote

        name, _, options = name[5:].partition("?")
        if "mode=memory" in options:
            return
        name = unquote(name)
        name = "/" + name.lstrip("/") if name.startswith("//") else name
    if name and name != ":memory:" and not _is_by_others(sys._getframe(2)):
        listener(DATABASE, absolute(name), None)


def _spawned(
    listener: Listener, program: Any, arguments: Any, folder: Any = None, environment: Any = None
) -> None:
    if _is_by_others(sys._getframe(2)):
        return
    if isinstance(arguments, (str, bytes)):
        arguments = [arguments]
    base = absolute(folder) if folder else os.getcwd()
    for each in list(arguments or ())[:100]:
        if not isinstance(each, (str, bytes, os.PathLike)):
            continue
        for word in words_of(os.fsdecode(each)):
            path = os.path.abspath(os.path.join(base, word))
            found = _stat(path)
            if found is not None and stat.S_ISREG(found.st_mode):
                listener(SPAWN, path, None)


def words_of(text: str) -> list[str]:
    """Return what in an argument may be a path: itself, an option's value, a shell's words."""
    words = [text]
    if "=" in text:
        words.append(text.partition("=")[2])
    if " " in text or "<" in text:
        import shlex

        with contextlib.suppress(ValueError):
            words += shlex.split(text.replace("<", " ").replace(">", " > "))
    return [word for word in words if word and "\0" not in word and len(word) < 4096]


def _ran(listener: Listener, command: Any) -> None:
    _spawned(listener, None, [command])


_HANDLERS: dict[str, Callable[..., None]] = {
    "open": _opened,
    "os.rename": _renamed,
    "os.remove": _removed,
    "os.link": _linked,
    "os.symlink": _linked,
    "os.truncate": _truncated,
    "sqlite3.connect": _connected,
    "subprocess.Popen": _spawned,
    "os.system": _ran,
}


# --- child processes ------------------------------------------------------------------------------

STAT_FIELDS = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_dev", "st_ino")


class Relay:
    """A listener that writes what it is told into a file, for the run that started this process.

    A line: kind, path, other path, what was there (see STAT_FIELDS), ns since the epoch, MD5. The
    MD5, of kind ``h``, is of a file that this process has read and is about to change.
    """

    def __init__(self, prefix: str) -> None:
        """Args: prefix: of the file's path, before the number of the process."""
        self._prefix = prefix
        self._pid = 0
        self._start()

    def _start(self) -> None:
        # also in a forked child, whose parent goes on with the former file
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._told: set[tuple[str, str]] = set()
        self._read: dict[str, list[int]] = {}
        self._descriptor: int | None = None

    def __call__(self, kind: str, path: str, other: str | None) -> None:
        if kind == OWN:
            return
        if os.getpid() != self._pid:
            self._start()
        with self._lock:
            if kind in (WRITE, UPDATE, DATABASE, REMOVE, MOVE):
                for each in (path, other):
                    self._keep_hash(each)
            if kind not in (MOVE, REMOVE):
                if (kind, path) in self._told:
                    return
                self._told.add((kind, path))
            found = stat_list(path)
            if kind in (READ, UPDATE, DATABASE) and found is not None:
                self._read.setdefault(path, found)
            self._write([kind, path, other, found, time.time_ns(), None])

    def _keep_hash(self, path: str | None) -> None:
        found = self._read.pop(path, None) if path is not None else None
        if path is not None and found is not None and stat_list(path) == found:
            self._write(["h", path, None, found, time.time_ns(), md5_of(path)])

    def _write(self, line: list[Any]) -> None:
        if self._descriptor is None:
            name = f"{self._prefix}.{os.getpid()}.{time.time_ns():x}.jsonl"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(name, flags, 0o600)
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def stat_list(path: str) -> list[int] | None:
    """Look at a regular file."""
    found = _stat(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    return [getattr(found, name) for name in STAT_FIELDS]


def md5_of(path: str) -> str:
    """Hash a file as records do: url-safe base64 without padding."""
    md5 = hashlib.md5()  # noqa: S324 - the records' hash, against accidents
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 16):
            md5.update(chunk)
    return base64.urlsafe_b64encode(md5.digest()).rstrip(b"=").decode()
