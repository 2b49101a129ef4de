"""A folder that a command sees read-only, also when it runs as root."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def seen_read_only(place: Path) -> list[str]:
    """Return what to put before a command, so that for it alone a folder or file is read-only."""
    prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c", _MOUNT, "sh", str(place)]
    probe = place / "probe" if place.is_dir() else place
    try:
        done = subprocess.run([*prefix, "touch", str(probe)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no unshare here, to mount a folder read-only")
    if b"Read-only file system" not in done.stderr:
        pytest.skip(f"this system lets nobody mount: {done.stderr.decode(errors='replace')}")
    return prefix
