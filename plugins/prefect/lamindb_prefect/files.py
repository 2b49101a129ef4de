"""Which files an attempt read and wrote, by its arguments, its results and what it declares."""

from __future__ import annotations

import datetime as dt
import glob
import os
import stat as modes
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamindb.hooks import FileRead, FileRetracted, FileStat, FileWritten, emit
from lamindb.hooks.events import How
from lamindb_prefect.definitions import Options
from lamindb_prefect.paths import STORES, Named, absolute, paths_in, scheme_of
from lamindb_prefect.rules import is_wanted

MOST_ENTRIES = 1000
# what clocks of file systems may be behind by: of a kernel's tick, and of a file server
_TICK_NS = 50_000_000
_SERVER_NS = 60_000_000_000
_MOST_CLAIMS = 10_000


@dataclass(frozen=True)
class Look:
    """A path at one moment.

    Attributes: inside: of a directory, what lies in it, by path; None if that is too much.
    """

    stat: FileStat
    is_directory: bool
    inside: Mapping[str, tuple[int, int, int]] | None = None


def look_at(uri: str) -> Look | None:
    """Look at a local path; None where nothing is."""
    try:
        found = Path(uri).stat()
    except (OSError, ValueError):
        return None
    is_directory = modes.S_ISDIR(found.st_mode)
    if not is_directory and not modes.S_ISREG(found.st_mode):
        return None  # a pipe or device
    inside = _inside(uri) if is_directory else None
    return Look(FileStat.from_result(found), is_directory, inside)


def _inside(folder: str) -> dict[str, tuple[int, int, int]] | None:
    found: dict[str, tuple[int, int, int]] = {}
    left = [folder]
    count = 0
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > MOST_ENTRIES:
                        return None
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif entry.is_file():
                        at = entry.stat()
                        found[entry.path] = at.st_mtime_ns, at.st_size, at.st_ino
        except OSError:
            return None
    return found


class Claims:
    """Which run of this process wrote a path last: the innermost is told of first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_uri: dict[str, tuple[str, FileStat | None, int]] = {}
        self._watchers: dict[str, dict[str, bool]] = {}

    def watch(self, run: str, folder: str) -> None:
        """A run looks at what will appear in a folder; with others, none can tell whose it is."""
        with self._lock:
            watchers = self._watchers.setdefault(folder, {})
            watchers[run] = True
            if len(watchers) > 1:
                watchers.update(dict.fromkeys(watchers, False))

    def unwatch(self, run: str, folder: str) -> bool:
        """Return whether the run was the only one to look, all the time."""
        with self._lock:
            watchers = self._watchers.get(folder, {})
            was_alone = watchers.pop(run, True)
            if not watchers:
                self._watchers.pop(folder, None)
            return was_alone

    def add(self, run: str, uri: str, stat: FileStat | None) -> None:
        with self._lock:
            self._by_uri.pop(uri, None)
            self._by_uri[uri] = run, stat, time.time_ns()
            while len(self._by_uri) > _MOST_CLAIMS:
                del self._by_uri[next(iter(self._by_uri))]

    def is_of_another(self, run: str, uri: str, stat: FileStat | None, since_ns: int) -> bool:
        """Whether a run has claimed these very bytes while this one was under way."""
        claim = self._by_uri.get(uri)
        return claim is not None and claim[0] != run and claim[1] == stat and claim[2] >= since_ns


_claims = Claims()


class Files:
    """What an attempt did to files, told as soon as it is known."""

    def __init__(
        self, run: str, options: Options, at: dt.datetime, *, watches_folders: bool = True
    ) -> None:
        """Args: at: when the attempt began; watches_folders: whether what appears in a folder that
        an argument names is its doing.
        """
        self.run = run
        self._options = options
        self._at = at
        self._began_ns = time.time_ns()
        self._arguments: dict[str, tuple[Named, Look | None, bool]] = {}
        self._watches_folders = watches_folders
        self._watched: list[str] = []
        self._shared: set[str] = set()
        self.written: dict[str, FileStat | None] = {}

    # --- arguments --------------------------------------------------------------------------------

    def begin(self, parameters: Mapping[str, Any], from_upstream: frozenset[str]) -> None:
        """Look at the files that arguments name, before the user's code does.

        Args: from_upstream: names of the parameters whose values another run has made.
        """
        for name, value in parameters.items():
            for named in paths_in(value):
                look = None if named.is_remote else look_at(named.uri)
                is_input = name in from_upstream
                self._arguments[named.uri] = named, look, is_input
                if is_input:  # also for a run that is killed
                    self._tell_read(named, look)
                if look is not None and look.is_directory:
                    if self._watches_folders:
                        self._watched.append(named.uri)
                        _claims.watch(self.run, named.uri)
                    else:
                        self._shared.add(named.uri)

    def read(self, without: Collection[str] = ()) -> None:
        """Tell of the arguments that the attempt has read, however it ended."""
        for uri, (named, before, is_told) in self._arguments.items():
            # what it has written over is no input, unless that is another run's result
            is_input = not is_told and uri not in without and not named.is_remote
            # one that is gone was unpacked, moved or used up
            if is_input and look_at(uri) in (before, None):
                self._tell_read(named, before)

    def _tell_read(self, named: Named, look: Look | None) -> None:
        how: How = "observed" if named.is_text else "declared"
        if not is_wanted(named.uri, self._options, is_named=not named.is_text):
            return
        stat = note = None
        if named.is_remote:
            note = "it is remote, and was not read again to hash it"
        elif look is None or (look.is_directory and not _is_data(named, look)):
            return
        elif not look.is_directory:
            stat = look.stat
        emit(FileRead(run=self.run, uri=named.uri, at=self._at, how=how, stat=stat, hash_note=note))

    def changed_arguments(self) -> None:
        """Tell of the arguments that a successful attempt has created or changed."""
        for uri, (named, before, _) in self._arguments.items():
            if named.is_remote:
                continue
            now = look_at(uri)
            if now is None or now == before:
                continue
            if not now.is_directory or (before is None and not named.is_text):
                self._write(uri, "observed", now, is_named=not named.is_text)
            elif before is not None and uri not in self._shared:
                for inner in _changed_inside(before, now):
                    if (found := look_at(inner)) is not None:
                        self._write(inner, "observed", found, is_named=False)

    def end(self) -> None:
        """Whatever the end: what lies in the folders is no longer this attempt's doing."""
        for folder in self._watched:
            if not _claims.unwatch(self.run, folder):
                self._shared.add(folder)

    # --- results ----------------------------------------------------------------------------------

    def named_by(self, result: Any) -> None:
        """Tell of the files that a result names."""
        for named in paths_in(result):
            if named.is_remote:
                if not named.is_text or named.uri not in self._arguments:
                    self._write_remote(named.uri, "observed" if named.is_text else "declared")
                continue
            now = look_at(named.uri)
            if now is None:
                continue
            argument = self._arguments.get(named.uri)
            if argument is not None and argument[1] == now:
                continue  # handed through
            changed_ns = max(now.stat.mtime_ns, now.stat.ctime_ns)
            if named.is_text:
                if not now.is_directory and changed_ns >= self._began_ns - _TICK_NS:
                    self._write(named.uri, "declared", now, is_named=False)
            elif argument is None and changed_ns < self._began_ns - _SERVER_NS:
                # it was found, not made
                self._tell_read(named, now)
            else:
                self._write(named.uri, "declared", now)

    def reused(self, result: Any) -> list[str]:
        """Tell of the files of a result that was taken from the cache; returns those missing."""
        missing = []
        named_by_result = paths_in(result)
        for named in named_by_result:
            look = None if named.is_remote else look_at(named.uri)
            if look is None and not named.is_remote and not named.is_text:
                missing.append(named.uri)
            how: How = "observed" if named.is_text else "declared"
            if is_wanted(named.uri, self._options, is_named=not named.is_text):
                stat = look.stat if look is not None and not look.is_directory else None
                emit(FileWritten(run=self.run, uri=named.uri, how=how, stat=stat, reused=True))
            # the flow that returns it has not made it either
            _claims.add(self.run, named.uri, look.stat if look is not None else None)
        self.read(without={named.uri for named in named_by_result})
        return missing

    def declared(self, patterns: Iterable[str], parameters: Mapping[str, Any]) -> None:
        """Tell of new and changed files that match the decorator's ``outputs``."""
        for pattern in patterns:
            filled = pattern.format_map({name: str(each) for name, each in parameters.items()})
            # a pattern may be absolute, which Path.glob takes for none
            for path in sorted(glob.glob(filled, recursive=True)):  # noqa: PTH207
                now = look_at(absolute(path))
                if now is None:
                    continue
                changed_ns = max(now.stat.mtime_ns, now.stat.ctime_ns)
                if now.is_directory or changed_ns >= self._began_ns - _TICK_NS:
                    self._write(absolute(path), "declared", now)

    def asset(self, key: str) -> None:
        """Tell of an asset that the task has materialized."""
        scheme = scheme_of(key)
        if scheme == "file":
            named = paths_in(key)[0]
            now = look_at(named.uri)
            if now is not None:
                self._write(named.uri, "declared", now)
        else:
            note = None if scheme in STORES else "an asset that is no file"
            self._write_remote(key, "declared", note)

    def retract(self, reason: str) -> None:
        """Tell that everything written was undone."""
        for uri in self.written:
            emit(FileRetracted(run=self.run, uri=uri, reason=reason))

    def _write(self, uri: str, how: How, now: Look, *, is_named: bool = True) -> None:
        stat = now.stat
        if self.written.get(uri) == stat:
            return
        if not is_wanted(uri, self._options, is_named=is_named):
            return
        if _claims.is_of_another(self.run, uri, stat, self._began_ns):
            return
        if now.is_directory and _holds_everything(uri):
            return  # everybody's
        self.written[uri] = stat
        _claims.add(self.run, uri, stat)
        emit(FileWritten(run=self.run, uri=uri, how=how, stat=None if now.is_directory else stat))

    def _write_remote(self, uri: str, how: How, note: str | None = None) -> None:
        if uri in self.written or not is_wanted(uri, self._options, is_named=True):
            return
        if _claims.is_of_another(self.run, uri, None, self._began_ns):
            return
        self.written[uri] = None
        _claims.add(self.run, uri, None)
        emit(FileWritten(run=self.run, uri=uri, how=how, hash_note=note))


def _changed_inside(before: Look, now: Look) -> list[str]:
    if before.inside is None or now.inside is None:
        return []  # too much to look at
    return [path for path, state in now.inside.items() if before.inside.get(path) != state]


def _is_data(named: Named, look: Look) -> bool:
    """Whether a directory that an argument names is read as one piece of data."""
    return not named.is_text and look.inside is not None and not _holds_everything(named.uri)


def _holds_everything(folder: str) -> bool:
    """Whether a directory is where everybody works, rather than somebody's data."""
    path = Path(folder)
    return any(each.is_relative_to(path) for each in (Path.cwd(), Path.home()))
