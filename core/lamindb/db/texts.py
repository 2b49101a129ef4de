"""Texts as PostgreSQL takes them: it has no NUL character, which names and messages may have."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from psycopg.types.string import StrBinaryDumper, StrDumper


class _Text(StrDumper):
    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "") if "\0" in obj else obj)


class _BinaryText(StrBinaryDumper):
    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "") if "\0" in obj else obj)


def register(connection: Connection[Any]) -> None:
    for dumper in (_BinaryText, _Text):
        connection.adapters.register_dumper(str, dumper)
