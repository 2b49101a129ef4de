"""The interpreter and its packages, as they are on ``sys.path``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
from functools import cache

from lamindb.hooks.events import EnvironmentSeen
from lamindb.hooks.installed import installed_packages
from lamindb.hooks.manager import emit


def environment() -> str:
    """Return the id of this process's environment, telling the plugins of it the first time.

    Returns: 22 characters, the same for the same Python and packages wherever they are.
    """
    return _tell(os.getpid())


def forget() -> None:
    """Tell of the environment again when it is next asked for: another instance listens now."""
    _tell.cache_clear()
    this_environment.cache_clear()


@cache
def _tell(pid: int) -> str:
    event = this_environment()
    emit(event)
    return event.id


@cache
def this_environment() -> EnvironmentSeen:
    """Return this process's environment without telling of it."""
    python, packages = python_version(), installed_packages()
    content = json.dumps([python, packages], sort_keys=True).encode()
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    environment_id = base64.urlsafe_b64encode(md5).rstrip(b"=").decode()
    return EnvironmentSeen(id=environment_id, python=python, packages=packages)


def python_version() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"
