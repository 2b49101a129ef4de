"""Names and versions of code, and the state of its repository."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any


def source_hash(text: str) -> str:
    """Return SHA-256 of source text, in hex; line ends do not count."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def key_in_repository(path: Path) -> str | None:
    """Return ``<git remote>/<path in the repository>``, without credentials.

    None outside of a repository with a remote. Asks git, once a folder: takes milliseconds.
    """
    repository = _repository(path.parent)
    if repository is None:
        return None
    top, remote = repository
    return f"{remote}/{path.resolve().relative_to(top).as_posix()}"


def code_key(path: Path, storage_root: Path | None, storage_id: str | None) -> str:
    """Return a name for a file of code that is the same wherever the project is checked out.

    ``<git remote>/<path in the repository>``, without credentials; outside of a repository with a
    remote, ``<storage id>/<path>`` relative to the folder that holds the storage, else the absolute
    path.

    Args: path: absolute; storage_root, storage_id: of the instance, None where it is remote.
    """
    key = key_in_repository(path)
    if key is not None:
        return key
    if storage_root is not None and path.is_relative_to(storage_root.parent):
        return f"{storage_id}/{path.relative_to(storage_root.parent).as_posix()}"
    return str(path)


def project_of(folder: Path, storage_root: Path | None, storage_id: str | None) -> str | None:
    """Return what the keys of a project's code begin with.

    The git remote, without credentials, else the storage id in the folder that holds the storage;
    None elsewhere. Arguments as of :func:`code_key`.
    """
    repository = _repository(folder)
    if repository is not None:
        return repository[1]
    is_beside = storage_root is not None and folder.is_relative_to(storage_root.parent)
    return storage_id if is_beside else None


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
