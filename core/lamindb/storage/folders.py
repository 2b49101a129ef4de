"""Local folders and links, whatever other processes do with them at the same time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_FOLDER_TRIES = 50


def in_folder(path: Path, act: Callable[[], T]) -> T:
    """Do something with a path whose folders are made first.

    Another thread or process may remove a folder of them, empty for an instant, at any point
    between, and make it again before this one can look: then all is done once more.
    """
    for _ in range(_FOLDER_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError):
            continue  # the latter when it is gone before mkdir looks whether it is a folder
        with suppress(FileNotFoundError):
            return act()
    path.parent.mkdir(parents=True, exist_ok=True)
    return act()


def link(source: Path, target: Path) -> bool:
    """Link a file to a free name in one step; False where the file system has no links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV):
            return False
        raise
    return True


def sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
