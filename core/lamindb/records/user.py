"""Who made a record."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, ClassVar

from lamindb.db import schema
from lamindb.identifiers import USER_ID_LENGTH, random_id
from lamindb.records.base import Record

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped


class User(Record):
    """A person or a service account.

    Attributes: id: 8 characters; handle: unique; email; name; created_at, updated_at: UTC.
    """

    __table__ = schema.user
    _shown: ClassVar[tuple[str, ...]] = ("id", "handle", "email", "name")

    if TYPE_CHECKING:
        id: Mapped[str]
        handle: Mapped[str]
        email: Mapped[str | None]
        name: Mapped[str | None]
        created_at: Mapped[dt.datetime]
        updated_at: Mapped[dt.datetime]

    def __init__(
        self,
        handle: str,
        *,
        email: str | None = None,
        name: str | None = None,
        id: str | None = None,
    ) -> None:
        at = schema.now()
        super().__init__(
            id=id or random_id(USER_ID_LENGTH),
            handle=handle,
            email=email,
            name=name,
            created_at=at,
            updated_at=at,
        )
