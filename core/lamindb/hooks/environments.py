"""The interpreter and its packages, as they are on ``sys.path``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import sys
from functools import cache

from lamindb.hooks.events import EnvironmentSeen
from lamindb.hooks.manager import emit

_INSTALLED = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist-info|egg-info)")


def environment() -> str:
    """Return the id of this process's environment, telling the plugins of it the first time.

    Returns: 22 characters, the same for the same Python and packages wherever they are.
    """
    return _tell(os.getpid())


def forget() -> None:
    """Tell of the environment again when it is next asked for: another instance listens now."""
    _tell.cache_clear()


@cache
def _tell(pid: int) -> str:
    python, packages = python_version(), installed_packages()
    content = json.dumps([python, packages], sort_keys=True).encode()
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    environment_id = base64.urlsafe_b64encode(md5).rstrip(b"=").decode()
    emit(EnvironmentSeen(id=environment_id, python=python, packages=packages))
    return environment_id


def python_version() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def installed_packages() -> dict[str, str]:
    """Return name → version of the distributions that an import would find, by name.

    From the names of the folders that installers leave: a hundred times faster than reading them.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = sorted(entry.name for entry in os.scandir(folder or "."))
        except OSError:
            continue
        for entry in entries:
            match = _INSTALLED.fullmatch(entry)
            if match:
                name = re.sub(r"[-_.]+", "-", match[1]).lower()
                found.setdefault(name, match[2])  # the first on the path wins
    return dict(sorted(found.items()))
