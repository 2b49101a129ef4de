"""A path that says when it is opened for reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class RecordedPath(type(Path())):  # type: ignore[misc]
    """The path of a File's object: a plain Path, but for one call before it is read.

    Paths made from it, and copies of it in other processes, are plain ones.
    """

    _before_reading: Callable[[], None] | None = None

    @classmethod
    def of(cls, path: Path, before_reading: Callable[[], None]) -> RecordedPath:
        recorded = cls(path)
        recorded._before_reading = before_reading
        return recorded

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        if self._before_reading is not None and ("r" in mode or "+" in mode):
            self._before_reading()
        return Path(self).open(mode, *arguments, **options)

    def read_bytes(self) -> bytes:
        with self.open("rb") as stream:
            content: bytes = stream.read()
            return content

    def read_text(self, *arguments: Any, **options: Any) -> str:
        if self._before_reading is not None:
            self._before_reading()
        return Path(self).read_text(*arguments, **options)

    def __repr__(self) -> str:
        return repr(Path(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Path, (str(self),)
