"""What is known of a task or flow before it runs: its code, and what it was told to record."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal

from lamindb import config
from lamindb.hooks import InferredTransform, source_hash
from lamindb.storage.project import Project

Kind = Literal["flow", "task"]


@dataclass(frozen=True)
class Options:
    """What the decorators take beside Prefect's own options.

    Attributes:
        outputs: patterns of files that a successful run leaves, relative to the working directory;
            ``{name}`` stands for the run's parameter of that name.
        include, exclude: patterns of files that are recorded, or are not.
    """

    outputs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Options | None:
        """Take ours out of what a decorator was given; None if there is none."""
        own = {each.name: options.pop(each.name) for each in fields(cls) if each.name in options}
        return cls(**{name: _patterns(given) for name, given in own.items()}) if own else None


def _patterns(given: str | PurePath | Iterable[str | PurePath]) -> tuple[str, ...]:
    if isinstance(given, str | PurePath):
        return (str(given),)
    return tuple(str(each) for each in given)


class Definition:
    """The code of a task or flow.

    Travels to workers with the task: where its file lies, and of which repository it is, can only
    be told where it was defined.
    """

    def __init__(
        self,
        kind: Kind,
        function: Callable[..., Any],
        *,
        name: str,
        source: str | None,
        options: Options,
    ) -> None:
        self.kind: Kind = kind
        self.options = options
        self._name = name
        self._qualname = getattr(function, "__qualname__", type(function).__qualname__)
        self._module = getattr(function, "__module__", None) or "__main__"
        self._title = next(iter((inspect.getdoc(function) or "").splitlines()), None) or None
        self._own_name = getattr(function, "__name__", type(function).__name__)
        self._file = _file_of(function)
        self._source = source or _source_of(function)
        self._transform: InferredTransform | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether :meth:`transform` answers at once: the first time it asks git."""
        return self._transform is not None

    def transform(self) -> InferredTransform:
        if self._transform is None:
            self._transform = InferredTransform(
                name=self._name,
                key=self._key(),
                type="pipeline",
                source_hash=source_hash(self._source) if self._source else None,
                reference=str(self._file) if self._file else None,
                title=self._title,
            )
        return self._transform

    def _key(self) -> str:
        variant = "" if _plain(self._name) == _plain(self._own_name) else f" as {self._name}"
        return f"{self._place()}:{self._qualname}{variant}"

    def _place(self) -> str:
        """Name the file, the same wherever the project is checked out; else the module."""
        file = self._file or config.notebook_path()
        if file is None:
            return self._module if self._module != "__main__" else _place_of(Path.cwd())
        if not file.is_relative_to(sys.prefix):
            return _place_of(file)
        return self._module  # an installed package

    def __getstate__(self) -> dict[str, Any]:
        self.transform()
        return vars(self) | {"_source": None}


def _plain(name: str) -> str:
    # Prefect names flows so
    return name.replace("_", "-")


@cache
def _place_of(path: Path) -> str:
    """Return the key of a file without asking the database."""
    return Project.unopened().key_of(path)


def _file_of(function: Callable[..., Any]) -> Path | None:
    try:
        found = inspect.getsourcefile(inspect.unwrap(function))
    except (TypeError, ValueError):
        return None
    path = Path(found).resolve() if found else None
    # what is typed into a notebook or console has a made-up name
    return path if path is not None and path.is_file() else None


def _source_of(function: Callable[..., Any]) -> str | None:
    try:
        return inspect.getsource(function)
    except (TypeError, OSError):
        code = getattr(function, "__code__", None)
        return None if code is None else f"{code.co_code.hex()} {code.co_consts!r}"
