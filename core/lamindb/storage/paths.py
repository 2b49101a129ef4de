"""A path that says when it is opened for reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class RecordedPath(type(Path())):  # type: ignore[misc]
    """The path of a File's object: a plain Path, but for one call once it was opened for reading.

    Paths made from it, and copies of it in other processes, are plain ones.
    """

    _on_reading: Callable[[], None] | None = None

    @classmethod
    def of(cls, path: Path, on_reading: Callable[[], None]) -> RecordedPath:
        recorded = cls(path)
        recorded._on_reading = on_reading
        return recorded

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        stream = Path(self).open(mode, *arguments, **options)  # noqa: SIM115 - the caller closes it
        if "r" in mode or "+" in mode:
            try:
                self._say_read()
            except BaseException:
                stream.close()
                raise
        return stream

    def read_bytes(self) -> bytes:
        content = Path(self).read_bytes()
        self._say_read()
        return content

    def read_text(self, *arguments: Any, **options: Any) -> str:
        content = Path(self).read_text(*arguments, **options)
        self._say_read()
        return content

    def _say_read(self) -> None:
        if self._on_reading is not None:
            self._on_reading()

    def __repr__(self) -> str:
        return repr(Path(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Path, (str(self),)
