"""Names and versions of code: where it lies, and the hash of what it says."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lamindb import config
from lamindb.errors import LaminError
from lamindb.hooks import Caller
from lamindb.storage.store import Store


def source_hash(text: str) -> str:
    """Return SHA-256 of source text, in hex; line ends do not count."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


@cache
def code_key(path: Path) -> str:
    """The same as :func:`key_of` without the database: the storage's marker names its id."""
    root, storage_id = None, ""
    with suppress(LaminError, OSError):
        store = Store(config.configuration().storage)
        if store.is_local:
            root, storage_id = Path(store.root), store.read_marker() or ""
    return _key(path, root, storage_id)


def key_of(path: Path, caller: Caller) -> str:
    """Return a name for a file of code that is the same wherever the project is checked out.

    ``<git remote>/<path in the repository>``, without credentials; outside of a repository with a
    remote, ``<storage id>/<path>`` relative to the folder that holds the storage, else the absolute
    path.
    """
    return _key(path, caller.storage_root, caller.storage_id)


def _key(path: Path, storage_root: Path | None, storage_id: str) -> str:
    repository = _repository(path.parent)
    if repository is not None:
        top, remote = repository
        return f"{remote}/{path.resolve().relative_to(top).as_posix()}"
    if storage_root is not None and storage_id and path.is_relative_to(storage_root.parent):
        return f"{storage_id}/{path.relative_to(storage_root.parent).as_posix()}"
    return str(path)


def top_of(folder: Path) -> Path | None:
    """Return the folder of the git working tree that holds this one."""
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            return each
    return None


@cache
def _repository(folder: Path) -> tuple[Path, str] | None:
    top = top_of(folder.resolve())
    remote = _git(top, "config", "--get", "remote.origin.url") if top is not None else None
    return (top, without_credentials(remote)) if top and remote else None


@cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and remote of a folder, and whether files of it are changed.

    Files that git does not know make no tree dirty. None outside of a repository.
    """
    top = top_of(folder.resolve())
    if top is None:
        return None
    text = _git(top, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if text is None:
        return None
    lines = text.splitlines()
    heads = dict(line[len("# branch.") :].split(" ", 1) for line in lines if line[:2] == "# ")
    found: dict[str, Any] = {"commit": heads.get("oid"), "dirty": any(s[:2] != "# " for s in lines)}
    if heads.get("head") != "(detached)":
        found["branch"] = heads.get("head")
    repository = _repository(folder.resolve())
    if repository is not None:
        found["remote"] = repository[1]
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # within a git hook these name the hook's repository
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=False,
            # to look must not take the lock that the user's own command waits for
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def without_credentials(remote: str) -> str:
    """Return ``host/owner/name`` of a git remote: the same for ssh and https, and no secrets.

    >>> without_credentials("https://me:token@example.org/lab/study.git")
    'example.org/lab/study'
    >>> without_credentials("git@example.org:lab/study.git")
    'example.org/lab/study'
    """
    text = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", remote)
    has_scheme = text != remote
    text = re.sub(r"^[^/]*@", "", text)
    if not has_scheme:
        text = re.sub(r"^([^/:]+):(?!/)", r"\1/", text)
    return re.split(r"[?#]", text, maxsplit=1)[0].rstrip("/").removesuffix(".git")
