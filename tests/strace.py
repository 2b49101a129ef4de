"""What a program really does with files, from the kernel: the ground truth for what is recorded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(
    STRACE is None, reason="strace is missing: apt-get install strace (Linux only)"
)
_LINE = re.compile(r"(?P<at>\d+\.\d+) (?P<call>\w+)\((?P<args>.*)\)\s+= (?P<result>.*)")
_OPENED = re.compile(r"\d+<(?P<path>/.*?)>(?: \(deleted\))?$")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass
class Truth:
    """Paths below a folder, relative to it."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


def trace(command: Sequence[str], folder: Path, traces: Path) -> Truth:
    """Run a command in a folder; return which of the folder's files it read, and which it left.

    Read is what was opened to be read before the command itself had written it; left is what was
    opened to be written, or got its name by a rename, and is there and changed in the end.
    """
    assert STRACE is not None
    before = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    traces.mkdir(parents=True)
    options = ["-ff", "-ttt", "-y", "-s", "4096", "-e", "trace=file,process", "-o", traces / "t"]
    done = subprocess.run(
        [STRACE, *map(str, options), *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = Truth()
    for kind, path in _accesses(traces, folder):
        if folder not in Path(path).parents or _is_code(path):
            continue
        name = str(Path(path).relative_to(folder))
        if kind == "write":
            found.written.add(name)
        elif name not in found.written and folder / name in before:
            found.read.add(name)
    found.written = {
        name
        for name in found.written
        if (folder / name).is_file() and _differs(folder / name, before.get(folder / name))
    }
    return found


def _differs(path: Path, before: os.stat_result | None) -> bool:
    now = path.stat()
    return before is None or (now.st_mtime_ns, now.st_size, now.st_ino) != (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )


def _is_code(path: str) -> bool:
    # code is the transform, not an input; SQLite's and Python's side files belong to others
    return path.endswith((".py", ".pyc", "-journal", "-wal", "-shm")) or "/__pycache__/" in path


def _accesses(traces: Path, folder: Path) -> list[tuple[str, str]]:
    """Return ("read" or "write", absolute path) of all processes, in the order of time."""
    calls = []
    for file in traces.iterdir():
        pid = int(file.suffix[1:])
        for line in file.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is not None and not match["result"].startswith("-1"):
                calls.append((float(match["at"]), pid, match))
    where: dict[int, str] = {}
    found: list[tuple[str, str]] = []
    for _, pid, match in sorted(calls, key=lambda call: call[:2]):
        base = where.setdefault(pid, str(folder))
        call, args = match["call"], match["args"]
        texts = [os.path.normpath(os.path.join(base, _decoded(t))) for t in _TEXT.findall(args)]
        if call in ("clone", "clone3", "fork", "vfork"):
            where[int(match["result"].split()[0])] = base
        elif call == "chdir":
            where[pid] = texts[0]
        elif call in ("open", "openat", "creat"):
            opened = _OPENED.match(match["result"])
            if opened is None or "O_DIRECTORY" in args:
                continue
            path = opened["path"]
            updates = "O_RDWR" in args and "O_TRUNC" not in args
            if updates or (not re.search(r"O_WRONLY|O_RDWR", args) and call != "creat"):
                found.append(("read", path))
            if re.search(r"O_WRONLY|O_RDWR", args) or call == "creat":
                found.append(("write", path))
        elif call in ("rename", "renameat", "renameat2", "link", "linkat", "truncate"):
            target = texts[-1]
            inside = [str(each) for each in Path(target).rglob("*") if each.is_file()]
            found += [("write", each) for each in inside or [target]]
    return found


def _decoded(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")


def python(script: str) -> list[str]:
    return [sys.executable, script]
