"""The files that runs of this process read and write, each noted for the innermost run."""

from __future__ import annotations

import datetime as dt
import os
import stat
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from lamindb import config
from lamindb.errors import LaminError
from lamindb.hooks import FileStat
from lamindb.hooks.events import How, utc_now
from lamindb.rules import Rules
from lamindb_plain import accesses, claims
from lamindb_plain.claims import Claims
from lamindb_plain.looks import look
from lamindb_plain.stack import Layer, Stack


@dataclass
class Read:
    """A file as it was when the run first read it.

    Attributes: hash: taken where the run itself was about to change the file.
    """

    stat: FileStat
    at: dt.datetime
    how: How = "observed"
    hash: str | None = None


@dataclass
class Observation(Layer):
    """What one run does with files.

    Attributes:
        writes: by path, what was there before the first write;
        made: what runs inside it wrote, or lamindb itself;
        spawned: files named to programs, as they were then.
    """

    run: str
    rules: Rules
    started_ns: int = field(default_factory=time.time_ns)
    reads: dict[str, Read] = field(default_factory=dict)
    writes: dict[str, FileStat | None] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    spawned: dict[str, Read] = field(default_factory=dict)
    claims: Claims | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    # --- what is seen -----------------------------------------------------------------------------

    def see(self, kind: str, path: str, other: str | None) -> None:
        """Take note of what the process is about to do."""
        if kind == accesses.OWN:
            self.made.add(path)
        elif kind == accesses.MOVE and other is not None:
            self._moved(path, other)
        elif not self.rules.decide(path).counts:
            return
        elif kind == accesses.READ:
            self.read(path)
        elif kind == accesses.WRITE:
            self.write(path)
        elif kind == accesses.UPDATE:
            self.read(path)
            self.write(path)
        elif kind == accesses.DATABASE:
            self.read(path, hashed=True)
            self.write(path)
        elif kind == accesses.REMOVE:
            self._keep_hash(path)
        elif kind == accesses.SPAWN:
            self._spawned(path)

    def merge(self, line: list[Any]) -> None:
        """Take note of what a child process did, in the order of time: see accesses.Relay."""
        kind, path, other, found, at_ns, md5 = line
        then = None if found is None else FileStat(*found)
        at = dt.datetime.fromtimestamp(at_ns / 1e9, dt.UTC)
        if kind == accesses.MOVE:
            self.writes.pop(path, None)
            path, kind, then = other, accesses.WRITE, self.writes.get(other)
        if kind == accesses.REMOVE or not self.rules.decide(path).counts:
            return
        if kind == "h":
            noted = self.reads.get(path)
            if noted is not None and noted.hash is None and noted.stat == then:
                noted.hash = md5
            return
        is_new = path not in self.reads and path not in self.writes and path not in self.made
        if kind == accesses.SPAWN and then is not None:
            self.spawned.setdefault(path, Read(then, at))
        elif kind != accesses.WRITE and then is not None and is_new:
            self.reads[path] = Read(then, at)
        if kind in (accesses.WRITE, accesses.UPDATE, accesses.DATABASE):
            self.writes.setdefault(path, then)

    def read(self, path: str, how: How = "observed", *, hashed: bool = False) -> None:
        with self.lock:
            if path in self.reads or path in self.writes or path in self.made:
                return
            found = regular(path)
            if found is None:
                return
            self.reads[path] = Read(found, utc_now(), how)
            self._keep(accesses.READ, path, found)
        if hashed:
            self._keep_hash(path)

    def write(self, path: str) -> None:
        self._keep_hash(path)
        with self.lock:
            if path not in self.writes:
                self.writes[path] = found = regular(path)
                self._keep(accesses.WRITE, path, found)

    def _moved(self, path: str, other: str) -> None:
        if os.path.isdir(path):
            inside = list(look([path], lambda _: True).files)
            for each in inside:
                self._moved(each, other + each[len(path) :])
            return
        for each in (path, other):
            self._keep_hash(each)
        with self.lock:
            if self.writes.pop(path, None) is not None or self.rules.decide(path).counts:
                self._keep(accesses.MOVE, path, None, other)
            if self.rules.decide(other).counts:
                self.write(other)

    def _spawned(self, path: str) -> None:
        with self.lock:
            found = regular(path)
            if found is not None and path not in self.spawned:
                self.spawned[path] = Read(found, utc_now())

    def _keep_hash(self, path: str) -> None:
        """Read a file that the run has read, before the run changes it."""
        noted = self.reads.get(path)
        if noted is not None and noted.hash is None and regular(path) == noted.stat:
            noted.hash = hash_of(path)
            if self.claims is not None:
                self.claims.saw("h", path, noted.stat, md5=noted.hash)

    def _keep(self, kind: str, path: str, found: FileStat | None, other: str | None = None) -> None:
        """Keep it on disk too, where there is a place for it: the process may die."""
        if self.claims is not None:
            self.claims.saw(kind, path, found, other=other)


def regular(path: str) -> FileStat | None:
    """Look at a regular file; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return FileStat.from_result(found) if stat.S_ISREG(found.st_mode) else None


def hash_of(path: str) -> str | None:
    from lamindb.storage.cache import digest_once
    from lamindb.storage.sources import LocalSource, source_at

    try:
        source = source_at(path)
        return digest_once(source).hash if isinstance(source, LocalSource) else None
    except (LaminError, OSError):
        return None


# --- which run it is for ------------------------------------------------------------------------

_observations = Stack[Observation]("lamindb_observation")
current, step_out, resumed = _observations.innermost, _observations.step_out, _observations.resumed
# of runs that other processes observe, by where to write what this one does for them
_relays: dict[str, accesses.Relay] = {}
_given = config.observed_by_parent()


def begin(observation: Observation, *, is_main: bool) -> None:
    """Note for this run what follows in this context, or in all that have none of their own."""
    _observations.enter(observation, is_main=is_main)
    _accesses().listen(_heard)


def end(observation: Observation) -> None:
    """Stop; what this run made is no input of the run around it."""
    _observations.leave(observation)
    if current() is None and _given is None:
        _accesses().listen(None)


def _heard(kind: str, path: str, other: str | None) -> None:
    observation = current()
    if observation is None:
        if _given is not None:
            _relay(_given)(kind, path, other)
    elif observation.pid == os.getpid():
        observation.see(kind, path, other)
    elif kind == accesses.MOVE or observation.rules.decide(path).counts:
        _relay(claims.child_prefix(observation.run))(kind, path, other)


def _relay(prefix: str) -> accesses.Relay:
    relay = _relays.get(prefix)
    if relay is None:
        relay = _relays.setdefault(prefix, accesses.Relay(prefix))
    return relay


def _accesses() -> Any:
    """The module whose audit hook is in place: a child process may have loaded it by its path."""
    return sys.modules.get(accesses.ALONE, accesses)
