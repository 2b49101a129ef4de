"""What lies in a folder before and after a run: writers in C escape the audit hook.

Bounded: at most 20,000 entries are looked at, breadth first, and of a folder that was not reached
before the run nothing is concluded after it.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lamindb.hooks import FileStat

MOST_ENTRIES = 20_000


@dataclass
class Look:
    """The regular files of folders by path, as they were.

    Attributes: folders: those that were read to their end; is_complete: whether all were.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    is_complete: bool = True

    def stat_of(self, path: str) -> FileStat | None:
        found = self.files.get(path)
        return None if found is None else FileStat.from_result(found)

    def knew(self, path: str) -> bool:
        """Whether a file would be in this look if it had been there then."""
        folder = os.path.dirname(path)
        while folder not in self.folders:
            above = os.path.dirname(folder)
            if above == folder:
                return False
            if above in self.folders:
                return True  # so the folder itself was not there
            folder = above
        return True


def look(folders: Iterable[str], may_hold: Callable[[str], bool]) -> Look:
    """Look at all files below folders that may hold some that count."""
    found, left = Look(), MOST_ENTRIES
    waiting = deque(dict.fromkeys(folders))
    while waiting:
        folder = waiting.popleft()
        if folder in found.folders or not may_hold(folder):
            continue
        entries = _entries(folder)
        left -= len(entries)
        if left < 0:
            found.is_complete = False
            break
        found.folders.add(folder)
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                status = entry.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.files[entry.path] = status
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def changed(before: Look, after: Look) -> dict[str, FileStat]:
    """Return the files that are new or have other bytes, each as it is now."""
    found = {}
    for path, now in after.files.items():
        then = before.files.get(path)
        if then is None:
            if before.knew(path):
                found[path] = FileStat.from_result(now)
        elif (then.st_size, then.st_mtime_ns, then.st_ino) != (
            now.st_size,
            now.st_mtime_ns,
            now.st_ino,
        ):
            found[path] = FileStat.from_result(now)
    return found
