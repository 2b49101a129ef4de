"""What runs that observe the same folders at the same time know of each other.

One file a run, in the user's state folder: who observes which folders since when, then what it
writes. A look before and after finds files of others too; those that another run claims, or may
have written while it ran, are not linked. Beside it, one file for each child process that observes
itself for the run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamindb.config import state_dir
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, this_process

SUFFIX = ".jsonl"


def folder() -> Path:
    return state_dir() / "observing"


class Claims:
    """The file of one run in this process. Errors of the disk are let pass: it is a courtesy."""

    def __init__(self, run: str, folders: list[str]) -> None:
        self.path = folder() / f"{run}.run.{os.getpid()}.{random_id(6)}{SUFFIX}"
        self._descriptor = -1
        header = {
            "run": run,
            "owner": this_process().as_json(),
            "since": time.time_ns(),
            "folders": folders,
        }
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags, 0o600)
            self._append(header)

    def wrote(self, path: str) -> None:
        self._append({"w": path})

    def end(self, paths: list[str]) -> None:
        """Say what the run wrote in the end, and remove what nobody needs any more."""
        for path in paths:
            self.wrote(path)
        self._append({"until": time.time_ns()})
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
        others = list(read())
        if not any(each.is_open for each in others):
            for each in others:
                with suppress(OSError):
                    each.path.unlink(missing_ok=True)

    def _append(self, what: dict[str, Any]) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.write(self._descriptor, json.dumps(what).encode() + b"\n")


@dataclass
class Claimed:
    """What another run has said."""

    path: Path
    run: str
    since: int
    until: int
    is_open: bool
    folders: list[str]
    written: set[str] = field(default_factory=set)

    def may_have_written(self, path: str, at_ns: int) -> bool:
        """Whether this run says so, or observed the folder at that time."""
        if path in self.written:
            return True
        return self.since <= at_ns <= self.until and any(
            path.startswith(f"{each.rstrip('/')}/") for each in self.folders
        )


def read() -> Iterator[Claimed]:
    """Yield what all runs of this user on this host say."""
    for path in sorted(folder().glob(f"*.run.*{SUFFIX}")):
        with suppress(OSError, ValueError, KeyError):
            header, *lines = _lines(path)
            found = Claimed(
                path, header["run"], header["since"], time.time_ns(), True, header["folders"]
            )
            for said in lines:
                if "w" in said:
                    found.written.add(said["w"])
                elif "until" in said:
                    found.until, found.is_open = said["until"], False
            if found.is_open and is_dead(header["owner"]):
                found.until, found.is_open = path.stat().st_mtime_ns, False
            found.written.update(line[1] for line in child_accesses(found.run) if "w" in line[0])
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
