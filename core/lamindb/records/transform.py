"""What is run: a pipeline, script, notebook, app or function, in one version of its code."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import relationship

from lamindb.db import schema
from lamindb.errors import RecordError
from lamindb.identifiers import TRANSFORM_ID_LENGTH, random_id
from lamindb.records.base import Record, Related, read_all, require
from lamindb.records.user import User

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

    from lamindb.records.run import Run

TransformType = Literal["pipeline", "notebook", "script", "app", "function"]
DEFAULT_VERSION = "0"


class Transform(Record):
    """Something that can be run, in one version.

    Attributes:
        id: 12 characters, the same for all versions; version: default ``"0"``.
        name: what people call it; type: see ``TransformType``.
        key: unique within the instance, for transforms that were inferred.
        source_hash: of the code of this version.
    """

    __table__ = schema.transform
    _shown: ClassVar[tuple[str, ...]] = (
        "id",
        "version",
        "name",
        "type",
        "key",
        "title",
        "reference",
    )

    if TYPE_CHECKING:
        id: Mapped[str]
        version: Mapped[str]
        name: Mapped[str]
        type: Mapped[str]
        key: Mapped[str | None]
        title: Mapped[str | None]
        reference: Mapped[str | None]
        reference_type: Mapped[str | None]
        source_hash: Mapped[str | None]
        created_by_id: Mapped[str]
        created_at: Mapped[dt.datetime]
        updated_at: Mapped[dt.datetime]

    _created_by = relationship(User, viewonly=True)
    created_by = Related[User]("_created_by", created_by_id="id")

    def __init__(
        self,
        name: str | None = None,
        version: str | None = None,
        type: TransformType = "pipeline",
        *,
        id: str | None = None,
        key: str | None = None,
        title: str | None = None,
        reference: str | None = None,
        reference_type: str | None = None,
        source_hash: str | None = None,
    ) -> None:
        """Describe a transform; ``ln.track`` or ``ln.add`` looks it up or adds it.

        Args: id: of a transform that exists; without it, ``track`` looks for the name and type.
        Raises: RecordError: neither name nor id, or an unknown type.
        """
        require(type, "transform type", get_args(TransformType))
        if not name and not id:
            raise RecordError(
                "a Transform needs a name: ln.Transform('My script', type='pipeline')"
            )
        if version is not None and not (isinstance(version, str) and version):
            raise RecordError(f"the version {version!r} is not a string: give one such as '1'")
        at = schema.now()
        super().__init__(
            id=id or random_id(TRANSFORM_ID_LENGTH),
            version=version or DEFAULT_VERSION,
            name=name or id,
            type=type,
            key=key,
            title=title,
            reference=reference,
            reference_type=reference_type,
            source_hash=source_hash,
            created_at=at,
            updated_at=at,
        )
        self.__dict__["_given"] = frozenset(
            field for field, value in (("id", id), ("version", version), ("name", name)) if value
        )

    def _was_given(self, field: str) -> bool:
        """Whether the constructor was given an id, a version or a name, or it is a default."""
        return self._is_stored or field in self.__dict__.get("_given", ())

    @property
    def runs(self) -> list[Run]:
        """The runs of this version, oldest first."""
        from lamindb.records.run import Run

        return read_all(
            select(Run)
            .where(Run.transform_id == self.id, Run.transform_version == self.version)
            .order_by(Run.started_at, Run.id)
        )
