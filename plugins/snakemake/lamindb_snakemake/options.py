"""What a user may choose, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any


@dataclass(frozen=True)
class Options:
    """The settings of one workflow; see ``snakemake --help`` for each."""

    instance: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    copy: bool = False

    @classmethod
    def of(cls, settings: Any) -> Options:
        return cls(
            instance=settings.instance or None,
            include=tuple(settings.include or ()),
            exclude=tuple(settings.exclude or ()),
            copy=bool(settings.copy),
        )

    def wants(self, uri: str) -> bool:
        """Whether a file is to be recorded."""
        if self.include and not any(_matches(uri, pattern) for pattern in self.include):
            return False
        return not any(_matches(uri, pattern) for pattern in self.exclude)


def _matches(uri: str, pattern: str) -> bool:
    return fnmatch(uri, pattern) or fnmatch(uri, f"*/{pattern}")
