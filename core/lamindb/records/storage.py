"""A place where objects lie."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy.orm import relationship

from lamindb import config
from lamindb.db import schema
from lamindb.identifiers import STORAGE_ID_LENGTH, random_id
from lamindb.records.base import Record, Related
from lamindb.records.user import User
from lamindb.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Mapped


class Storage(Record):
    """A storage root: a folder of one host, or a URL such as ``s3://bucket/prefix``.

    Attributes:
        id: 8 characters; root: absolute path or URL; host: empty for remote roots;
        type: ``local``, ``s3``, …; region; managed: whether objects are written, moved and removed
        below it, or only known where they lie.
    """

    __table__ = schema.storage
    _shown: ClassVar[tuple[str, ...]] = ("id", "root", "host", "type", "region", "managed")

    if TYPE_CHECKING:
        id: Mapped[str]
        root: Mapped[str]
        host: Mapped[str]
        type: Mapped[str]
        region: Mapped[str | None]
        managed: Mapped[bool]
        created_at: Mapped[dt.datetime]
        updated_at: Mapped[dt.datetime]
        created_by_id: Mapped[str]

    _created_by = relationship(User, viewonly=True)
    created_by = Related[User]("_created_by", created_by_id="id")

    def __init__(
        self, root: str | Path, *, region: str | None = None, managed: bool = True
    ) -> None:
        """Describe a root; ``ln.add`` registers it.

        Raises: CredentialsError: the URL carries secrets.
        """
        store = Store(config.normalise_root(root))
        marker = store.read_marker() if store.is_local and managed else None
        at = schema.now()
        super().__init__(
            id=marker or random_id(STORAGE_ID_LENGTH),
            root=store.root,
            host=config.host() if store.is_local else "",
            type=store.type,
            region=region,
            managed=managed,
            created_at=at,
            updated_at=at,
        )
