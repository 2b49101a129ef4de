"""What is installed on ``sys.path``: packages, and who has entry points.

To ask hundreds of distributions takes longer than all else that starts a run, and on a shared file
system much longer. So what a large folder holds is kept in the cache folder until the folder
changes, as it does when a package comes, goes, or gets another version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoint, PathDistribution, distributions
from pathlib import Path
from typing import NamedTuple

from lamindb import config

_INSTALLED = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist-info|egg-info)")
_GROUP = re.compile(r"^\s*\[(.+?)\]", re.MULTILINE)

# fewer are read as fast as what would be kept of them
_FEW = 20
# within the resolution of its time, a folder can change unseen
_SETTLED_S = 2.0


class Contents(NamedTuple):
    """What a folder of packages holds.

    Attributes:
        packages: normalised name → version.
        groups: of entry points → names of the ``.dist-info`` folders that name it.
    """

    packages: dict[str, str]
    groups: dict[str, list[str]]


def installed_packages() -> dict[str, str]:
    """Return name → version of the distributions that an import would find, by name.

    From the names of the folders that installers leave: a hundred times faster than reading them.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        kept = _kept(folder)
        packages = _packages(_entries(folder)) if kept is None else kept.packages
        found = {**packages, **found}  # the first on the path wins
    return dict(sorted(found.items()))


def entry_points(group: str) -> Iterator[EntryPoint]:
    """Yield those of a group, of each distribution that is first on the path.

    What is edited by hand in the metadata of an installed package is seen when that is installed.
    """
    seen: set[str] = set()
    for folder in sys.path:
        for distribution in _with_group(folder, group):
            # importlib.metadata's own takes it from the folder's name, without parsing METADATA
            name = getattr(distribution, "_normalized_name", None) or distribution.name
            if name not in seen:
                seen.add(name)
                yield from distribution.entry_points.select(group=group)


def _with_group(folder: str, group: str) -> Iterable[Distribution]:
    kept = _kept(folder)
    if kept is None:
        found = distributions(path=[folder])
        return [each for each in found if group in _groups(each.read_text("entry_points.txt"))]
    return [PathDistribution(Path(folder, name)) for name in kept.groups.get(group, [])]


def _entries(folder: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder or "."))
    except (OSError, ValueError):
        return []  # a zip, or no longer there


def _packages(entries: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        match = _INSTALLED.fullmatch(entry)
        if match:
            found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])
    return found


def _groups(entry_points_text: str | None) -> list[str]:
    return _GROUP.findall(entry_points_text or "")


# --- what is kept --------------------------------------------------------------------------------

# by folder: when it was changed last, and what it held
_known: dict[str, tuple[list[int], Contents]] = {}


def _kept(folder: str) -> Contents | None:
    """Return what a folder has held since its last change; None for a small one, or none at all."""
    stamp = _stamp(folder)
    if stamp is None:
        return None
    known = _known.get(folder)
    if known is None or known[0] != stamp:
        contents = _load(folder, stamp)
        if contents is None:
            entries = _entries(folder)
            packages = _packages(entries)
            if len(packages) <= _FEW:
                return None
            contents = Contents(packages, _groups_of(folder, entries))
            _store(folder, stamp, contents)
        known = _known[folder] = stamp, contents
    return known[1]


def _groups_of(folder: str, entries: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.endswith((".dist-info", ".egg-info")):
            # hundreds of Paths take longer to make than their files to read
            with suppress(OSError), open(f"{folder}/{entry}/entry_points.txt", "rb") as stream:  # noqa: PTH123
                for group in _groups(stream.read().decode(errors="replace")):
                    found.setdefault(group, []).append(entry)
    return found


def _stamp(folder: str) -> list[int] | None:
    """Return what tells a folder's states apart, or None where there is none."""
    path = Path(folder)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if not (path.is_absolute() and stat.S_ISDIR(found.st_mode)):
        return None
    # a container's image may set the first alike for every build, but not the others
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _path(folder: str) -> Path:
    name = hashlib.md5(os.fsencode(folder), usedforsecurity=False).hexdigest()
    return config.cache_dir() / "installed" / f"{name}.json"


def _load(folder: str, stamp: list[int]) -> Contents | None:
    try:
        kept = json.loads(_path(folder).read_bytes())
        return Contents(kept["packages"], kept["groups"]) if kept["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(folder: str, stamp: list[int], contents: Contents) -> None:
    changed_s = max(stamp[:2]) / 1e9
    if abs(time.time() - changed_s) < _SETTLED_S or _stamp(folder) != stamp:
        return
    path = _path(folder)
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"stamp": stamp, **contents._asdict()}))
        part.replace(path)
    except OSError:  # a full disk, a home that nobody may write
        with suppress(OSError):
            part.unlink()
