"""What a user may choose, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lamindb.rules import compiled


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

    def filter(self, base: str) -> Callable[[str], bool]:
        """Return a function that tells whether a file, by path or URL, is to be recorded.

        Args: base: where patterns with a slash start from.
        """
        include = [compiled(pattern, base) for pattern in self.include]
        # the last pattern that matches decides
        exclude = [
            (compiled(pattern.removeprefix("!"), base), pattern.startswith("!"))
            for pattern in reversed(self.exclude)
        ]

        def wants(uri: str) -> bool:
            for matches, keeps in exclude:
                if matches(uri):
                    return keeps
            return not include or any(matches(uri) for matches in include)

        return wants
