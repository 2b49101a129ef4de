"""What the environment says of this process: its folders, its user, and who started it."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from lamindb.config.locations import expand_user


def config_dir() -> Path:
    return _user_dir("LAMINDB_CONFIG_DIR", platformdirs.user_config_dir)


def cache_dir() -> Path:
    return _user_dir("LAMINDB_CACHE_DIR", platformdirs.user_cache_dir)


def data_dir() -> Path:
    return _user_dir("LAMINDB_DATA_DIR", platformdirs.user_data_dir)


def state_dir() -> Path:
    return _user_dir("LAMINDB_STATE_DIR", platformdirs.user_state_dir)


def spool_dir() -> Path | None:
    """Where events wait for the database; ``LAMINDB_SPOOL_DIR``, else each instance has its own."""
    given = os.environ.get("LAMINDB_SPOOL_DIR")
    return expand_user(given) if given else None


def host() -> str:
    """The name by which records tell machines apart; ``LAMINDB_HOST`` overrides it."""
    return _plain(os.environ.get("LAMINDB_HOST") or socket.gethostname())


def parent_run_id() -> str | None:
    """The run that started this process, as its environment says."""
    return os.environ.get("LAMINDB_RUN") or None


def export_run_id(run_id: str | None) -> None:
    """Tell child processes which run starts them."""
    if run_id is None:
        os.environ.pop("LAMINDB_RUN", None)
    else:
        os.environ["LAMINDB_RUN"] = run_id


def observed_by() -> str | None:
    """Where this process tells of its files, if the run that started it asked for that."""
    return os.environ.get("LAMINDB_OBSERVED_BY") or None


_observed_by = observed_by()


def observed_by_parent() -> str | None:
    """The same as when this process began."""
    return _observed_by


def export_observer(prefix: str | None, code: Path) -> None:
    """Have Python processes started from now on observe themselves; None no longer.

    Args: prefix: of the files that they write; code: folder of the ``sitecustomize`` that does it.
    """
    former = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    paths = [each for each in former if each != str(code)]
    if prefix is None:
        os.environ.pop("LAMINDB_OBSERVED_BY", None)
    else:
        os.environ["LAMINDB_OBSERVED_BY"] = prefix
        paths.insert(0, str(code))
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    elif former:
        del os.environ["PYTHONPATH"]


def given_notebook() -> str | None:
    """What the user says that this kernel runs."""
    return os.environ.get("LAMINDB_NOTEBOOK") or None


def notebook_path() -> Path | None:
    """The notebook that this kernel runs, as far as the environment knows it."""
    for variable in ("LAMINDB_NOTEBOOK", "PAPERMILL_INPUT_PATH", "JPY_SESSION_NAME"):
        path = expand_user(os.environ.get(variable, ""))
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    return None


@dataclass(frozen=True)
class Identity:
    """Who works here: handle is unique within an instance."""

    handle: str
    email: str | None
    name: str | None


# what the tables take
_LONGEST_NAME = 255


def identity() -> Identity:
    """Return ``LAMINDB_USER``, else git's email, else ``login@host``."""
    given = os.environ.get("LAMINDB_USER")
    git = _git_user()
    email, name = git.get("email"), git.get("name")
    handle = given or email or f"{_login()}@{host()}"
    return Identity(
        _plain(handle),
        None if email is None else _plain(email),
        None if name is None else _plain(name),
    )


def forget_identity() -> None:
    """Ask git again when it is next asked who works here."""
    _git_user.cache_clear()


def _plain(name: str) -> str:
    """Return a name as every database takes it: Unicode, and not too long."""
    # what of a variable is no UTF-8, Python makes surrogates of
    return name.encode(errors="replace").decode()[:_LONGEST_NAME]


@cache
def _git_user() -> dict[str, str]:
    """Return ``email`` and ``name`` of git's user, as far as they are set."""
    try:
        done = subprocess.run(
            ["git", "config", "--null", "--get-regexp", r"^user\.(email|name)$"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (each.partition("\n") for each in done.stdout.split("\0") if each)
    # of a setting that several files have, git names the one that counts last
    return {name.removeprefix("user."): value.strip() for name, _, value in lines if value.strip()}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _user_dir(variable: str, default: Any) -> Path:
    value = os.environ.get(variable)
    return expand_user(value) if value else Path(default("lamindb", appauthor=False))
