"""What runs that observe the same folders at the same time know of each other.

One file a run, in the user's state folder: who observes which folders since when, then what it
writes. A look before and after finds files of others too; those that another run claims, or may
have written while it ran, are not linked. Beside it, one file for each child process that observes
itself for the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamindb.config import InstanceConfig, configuration, state_dir
from lamindb.errors import LaminError
from lamindb.hooks import FileStat
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, this_process
from lamindb_plain.accesses import MOVE, WRITE

SUFFIX = ".jsonl"
# in the order of accesses.STAT_FIELDS
_FIELDS = ("size", "mtime_ns", "ctime_ns", "device", "inode")


def folder() -> Path:
    return state_dir() / "observing"


class Claims:
    """The file of one run in this process. Errors of the disk are let pass: it is a courtesy."""

    def __init__(
        self, run: str, project: list[str], looked_at: list[str], *, has_outputs: bool
    ) -> None:
        """Args: project: where files count; looked_at: the folders of which a look after the run
        may find files of others; has_outputs: whether a run that dies has any.
        """
        self.path = folder() / f"{run}.run.{os.getpid()}.{random_id(6)}{SUFFIX}"
        self._descriptor = -1
        header = {
            "run": run,
            "instance": _instance(),
            "owner": this_process().as_json(),
            "since": time.time_ns(),
            "project": project,
            "folders": looked_at,
            "has_outputs": has_outputs,
        }
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags, 0o600)
            self._append(header)

    def saw(
        self,
        kind: str,
        path: str,
        found: FileStat | None = None,
        *,
        other: str | None = None,
        md5: str | None = None,
    ) -> None:
        """Keep what the run does, in the manner of :class:`accesses.Relay`."""
        fields = None if found is None else [getattr(found, name) for name in _FIELDS]
        self._append([kind, path, other, fields, time.time_ns(), md5])

    def end(self, paths: list[str]) -> None:
        """Say what the run wrote in the end, and remove what nobody needs any more."""
        for path in paths:
            self.saw(WRITE, path)
        self._append({"until": time.time_ns()})
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
        others = list(read())
        if not any(each.is_open or each.has_died for each in others):
            for each in others:
                forget(each)

    def _append(self, what: dict[str, Any] | list[Any]) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.write(self._descriptor, json.dumps(what).encode() + b"\n")


def forget(claimed: Claimed) -> None:
    with suppress(OSError):
        claimed.path.unlink(missing_ok=True)


def _instance() -> str | None:
    try:
        return instance_key(configuration())
    except LaminError:
        return None


def instance_key(config: InstanceConfig) -> str:
    return hashlib.sha256(config.db.encode()).hexdigest()[:12]


@dataclass
class Claimed:
    """What another run has said.

    Attributes: until: ns since the epoch, as far as is known; has_died: it never came to its end.
    """

    path: Path
    run: str
    instance: str | None
    since: int
    until: int
    project: list[str]
    folders: list[str]
    has_outputs: bool
    is_open: bool = True
    has_died: bool = False
    accesses: list[list[Any]] = field(default_factory=list)

    @property
    def written(self) -> set[str]:
        found = {line[1] for line in self.accesses if "w" in line[0]}
        return found | {line[2] for line in self.accesses if line[0] == MOVE}

    def may_have_written(self, path: str, at_ns: int) -> bool:
        """Whether this run says so, or observed the folder at that time."""
        if path in self.written:
            return True
        return self.since <= at_ns <= self.until and any(
            path.startswith(f"{each.rstrip('/')}/") for each in self.folders
        )


def read() -> Iterator[Claimed]:
    """Yield what all runs of this user on this host say, child processes among them."""
    for path in sorted(folder().glob(f"*.run.*{SUFFIX}")):
        with suppress(OSError, ValueError, KeyError):
            header, *lines = _lines(path)
            found = Claimed(
                path,
                header["run"],
                header["instance"],
                header["since"],
                time.time_ns(),
                header["project"],
                header["folders"],
                header["has_outputs"],
            )
            for said in lines:
                if isinstance(said, list):
                    found.accesses.append(said)
                else:
                    found.until, found.is_open = said["until"], False
            if found.is_open and is_dead(header["owner"]):
                found.until, found.is_open, found.has_died = path.stat().st_mtime_ns, False, True
            found.accesses += child_accesses(found.run)
            found.accesses.sort(key=lambda line: line[4])
            yield found


def child_prefix(run: str) -> str:
    """Where child processes write what they do for a run: see :class:`accesses.Relay`."""
    return str(folder() / f"{run}.child")


def child_accesses(run: str) -> list[list[Any]]:
    """Return what the child processes of a run did, in the order of time."""
    lines = []
    for path in folder().glob(f"{run}.child.*{SUFFIX}"):
        with suppress(OSError, ValueError):
            lines += _lines(path)
    return sorted(lines, key=lambda line: line[4])


def forget_children(run: str) -> None:
    for path in folder().glob(f"{run}.child.*{SUFFIX}"):
        with suppress(OSError):
            path.unlink()


def _lines(path: Path) -> list[Any]:
    # what follows the last line end was not written to its end
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
