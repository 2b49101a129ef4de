"""Finds the files that values name: the arguments and the results of tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import PurePath
from typing import Any

from lamindb.modules import loaded

DEEPEST = 4
MOST = 1000
# what an object store is asked by; https is mostly no file
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory", "oss", "r2")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Named:
    """A file that a value names.

    Attributes:
        uri: absolute path or URL; is_text: whether it is a mere string, that may mean another
        thing.
    """

    uri: str
    is_text: bool

    @property
    def is_remote(self) -> bool:
        return _URL.match(self.uri) is not None


def scheme_of(uri: str) -> str | None:
    url = _URL.match(uri)
    return url[1] if url is not None else None


def paths_in(value: Any) -> list[Named]:
    """Return the files that a value names, each once.

    Looks into containers, dataclasses and pydantic models, 4 levels deep and at no more than 1,000
    items; asks no other object for anything.
    """
    found: dict[str, Named] = {}
    left = [MOST]
    for named in _walk(value, DEEPEST, left):
        known = found.get(named.uri)
        if known is None or known.is_text:
            found[named.uri] = named
    return list(found.values())


def _walk(value: Any, depth: int, left: list[int]) -> Iterator[Named]:
    left[0] -= 1
    if left[0] < 0 or value is None or isinstance(value, bool | int | float | bytes):
        return
    named = _named(value)
    if named is not None:
        yield named
        return
    if isinstance(value, str) or depth == 0:
        return
    for item in items_of(value):
        yield from _walk(item, depth - 1, left)
        if left[0] < 0:
            return


def items_of(value: Any) -> Any:
    """Return what a container, dataclass or pydantic model holds; nothing of another object."""
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, type) or type(value).__module__.startswith("prefect."):
        return ()  # the state or future of another run
    if is_dataclass(value):
        return [getattr(value, each.name, None) for each in fields(value)]
    if isinstance(getattr(type(value), "model_fields", None), dict):  # pydantic
        return [getattr(value, name, None) for name in type(value).model_fields]
    return ()


def _named(value: Any) -> Named | None:
    if isinstance(value, str):
        return _named_by_text(value)
    if isinstance(value, PurePath) or type(value).__module__.partition(".")[0] == "upath":
        return Named(absolute(str(value)), is_text=False)
    if isinstance(value, os.PathLike):
        location = os.fspath(value)
        return Named(absolute(location), is_text=False) if isinstance(location, str) else None
    kind = loaded("lamindb.records.file", "File")
    if kind is not None and isinstance(value, kind):
        return Named(absolute(str(value.path())), is_text=False)
    return None


def _named_by_text(text: str) -> Named | None:
    if not text or len(text) > 4096 or "\0" in text or "\n" in text:
        return None
    url = _URL.match(text)
    if url is not None:
        if url[1] == "file":
            return Named(absolute(text), is_text=False)
        is_object = url[1] in STORES and not text.endswith("/")
        return Named(text, is_text=True) if is_object else None
    if os.sep in text or os.path.splitext(text)[1]:  # noqa: PTH122 - on each string of a result
        return Named(absolute(text), is_text=True)
    return None


def absolute(location: str) -> str:
    """Return a path made absolute, its links as they are; a URL stays as it is."""
    if location.startswith("file://"):
        from urllib.parse import unquote, urlparse

        location = unquote(urlparse(location).path)
    elif _URL.match(location):
        return location
    return os.path.abspath(location)  # noqa: PTH100 - Path.absolute leaves '..' in it
