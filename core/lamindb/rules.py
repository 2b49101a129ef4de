"""Which files count: one language of patterns for every plugin, like that of ``.gitignore``.

=============  ====================================================================================
pattern        matches
=============  ====================================================================================
``*.csv``      that name in any folder; ``*`` ``?`` ``[ab]`` never match ``/``
``out/*.csv``  with a slash: from the project's folder down
``out/``       a folder with all that is below it; ``out`` and ``out/**`` as well
``a/**/b``     any number of folders between, also none
``/data/**``   an absolute path; ``~`` is the home folder
``!*.log``     in ``exclude``: counts after all, though a pattern before it, or a default, says no
=============  ====================================================================================

Asked in this order: ``exclude``, ``include``, what never counts by default (interpreter, packages,
caches, temporary files, the instance itself), and at last whether it lies in the project's folder.
What is declared by name is not asked for at all.
"""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import platformdirs

# folders that tools keep for themselves, wherever they are within a project
TOOL_FOLDERS = frozenset(
    [
        ".git",
        ".hg",
        ".svn",
        ".lamindb",
        ".snakemake",
        ".prefect",
        ".dask",
        ".venv",
        "venv",
        "site-packages",
        "dist-packages",
        "node_modules",
        "__pycache__",
        ".ipynb_checkpoints",
        ".cache",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".nox",
        ".eggs",
        ".idea",
        ".vscode",
        ".Trash",
        "lost+found",
    ]
)
# what editors, the interpreter and SQLite leave beside the files that count
SIDE_FILES = (
    "*.py[cod]", ".*.sw?", ".#*", "#*#", "*~", "4913", ".DS_Store", "Thumbs.db", ".nfs*",
    ".~lock.*", "*-journal", "*-wal", "*-shm",
)  # fmt: skip
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/etc")
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what is not to be recorded


@dataclass(frozen=True)
class Decision:
    """Whether a file counts, and in words for people, why."""

    counts: bool
    why: str


class Rules:
    """Decides which paths count. Safe in threads."""

    def __init__(
        self,
        folders: Iterable[str | os.PathLike[str]],
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        *,
        base: str | os.PathLike[str] | None = None,
        never: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        """Args: folders: of the project, where files count by default; base: where patterns with
        a slash start from, default the first folder; never: folders whose files do not count.
        """
        self.folders = list(dict.fromkeys(_normal(folder) for folder in folders))
        base = _normal(base or (self.folders[0] if self.folders else os.sep))
        self._include = [(each, compiled(each, base)) for each in include]
        self._exclude = [
            (each, compiled(each.removeprefix("!"), base), not each.startswith("!"))
            for each in exclude
        ]
        # the innermost that holds a path decides; a project's own folder wins over an equal one
        self._homes = {**_excluded_folders(), **{_normal(each): "the instance" for each in never}}
        self._homes.update(dict.fromkeys(self.folders, ""))
        self._of_folder: dict[str, tuple[str, Decision | None]] = {}

    def decide(self, path: str) -> Decision:
        """Say whether an absolute path counts."""
        for pattern, matches, excludes in reversed(self._exclude):
            if matches(path):
                return Decision(not excludes, f"{'exclude' if excludes else 'kept'} {pattern!r}")
        for pattern, matches in self._include:
            if matches(path):
                return Decision(True, f"include {pattern!r}")
        folder, _, name = path.rpartition("/")
        home, decision = self.of_folder(folder or "/")
        if decision is not None:
            return decision
        if _is_side_file(name):
            return Decision(False, f"{name} is a side file of a tool")
        return Decision(True, f"in {home}")

    def may_hold(self, folder: str) -> bool:
        """Whether to look for files below a folder."""
        return self.of_folder(folder)[1] is None

    def of_folder(self, folder: str) -> tuple[str, Decision | None]:
        """Return the project folder around a folder, or the decision on all that lies in it."""
        known = self._of_folder.get(folder)
        if known is None:
            known = self._of_folder[folder] = self._look_up(folder)
        return known

    def _look_up(self, folder: str) -> tuple[str, Decision | None]:
        home = folder
        while home not in self._homes:
            if home in ("/", "") or home == (above := os.path.dirname(home)):  # noqa: PTH120
                project = self.folders[0] if self.folders else "the project"
                return "", Decision(False, f"outside of {project}: include it by a pattern")
            home = above
        if why := self._homes[home]:
            return home, Decision(False, f"{home} is {why}")
        for part in folder[len(home) :].split("/"):
            if part in TOOL_FOLDERS or part.endswith((".egg-info", ".dist-info")):
                return home, Decision(False, f"{part} is a folder of a tool")
        return home, None


def compiled(pattern: str, base: str, *, is_path: bool = False) -> re.Pattern[str].match:  # type: ignore[valid-type]
    """Return a function that tells whether an absolute path matches.

    Args: base: where a pattern with a slash starts from; is_path: whether one without a slash does
        too, as a shell has it, rather than being a name in any folder.
    """
    text = pattern.replace(os.sep, "/")
    if text.startswith("~"):
        text = os.path.expanduser(text)  # noqa: PTH111 - patterns are no paths
    is_folder = text.endswith("/")
    text = text.rstrip("/") or "/"
    if text.endswith("/**"):
        text, is_folder = text[:-3], True
    while text.startswith("./"):
        text = text[2:]
    if text in (".", "", "**"):
        start, text = re.escape(base), ""
    elif text.startswith("/"):
        start = ""
    elif "/" in text or is_path:
        start = re.escape(base.rstrip("/")) + "/"
    else:
        start = r"(?:.*/)?"
    below = r"/.*" if is_folder or not text else r"(?:/.*)?"
    return re.compile(start + translated(text) + below + r"\Z", re.DOTALL).match


def translated(glob: str) -> str:
    """Return a glob as a regular expression; only ``**`` crosses folders."""
    parts: list[str] = []
    position = 0
    while position < len(glob):
        rest = glob[position:]
        if rest.startswith("**/"):
            parts.append(r"(?:[^/]*/)*")
            position += 3
        elif rest.startswith("**"):
            parts.append(r".*")
            position += 2
        elif rest[0] == "*":
            parts.append(r"[^/]*")
            position += 1
        elif rest[0] == "?":
            parts.append(r"[^/]")
            position += 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inside = rest[1:end].replace("\\", r"\\").replace("[", r"\[")
            inside = f"^/{inside[1:]}" if inside[0] in "!^" else inside
            parts.append(f"[{inside}]")
            position += end + 1
        else:
            parts.append(re.escape(rest[0]))
            position += 1
    return "".join(parts)


_is_side_file = re.compile("|".join(f"(?:{translated(each)}\\Z)" for each in SIDE_FILES)).match


def _normal(folder: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(folder)).replace(os.sep, "/")  # noqa: PTH100 - links are kept


@cache
def _excluded_folders() -> dict[str, str]:
    """Return the folders whose files never count, each with what it is."""
    known: dict[str, str] = {}
    for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts", "include", "data"):
        known[sysconfig.get_paths().get(name, sys.prefix)] = "the interpreter"
    known.update(dict.fromkeys((sys.prefix, sys.base_prefix, sys.exec_prefix), "the interpreter"))
    known.update(dict.fromkeys((*site.getsitepackages(), site.getusersitepackages()), "packages"))
    known.update(dict.fromkeys(_SYSTEM, "the system"))
    known[platformdirs.user_cache_path().as_posix()] = "a cache"
    temporary = (tempfile.gettempdir(), *_TEMPORARY)
    known.update(dict.fromkeys(temporary, "for temporary files"))
    found: dict[str, str] = {}
    for folder, what in known.items():
        for each in (folder, os.path.realpath(folder)):
            found.setdefault(_normal(each), what)
    found.pop("/", None)
    return found
