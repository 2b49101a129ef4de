"""One execution of a transform."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sqlalchemy import select
from sqlalchemy.orm import relationship

from lamindb.db import schema
from lamindb.errors import RecordError
from lamindb.identifiers import RUN_ID_LENGTH, random_id
from lamindb.processes import start_time, this_process
from lamindb.records.base import Record, Related, read_all
from lamindb.records.transform import Transform
from lamindb.records.user import User

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

    from lamindb.records.file import File

Status = Literal["started", "completed", "failed", "cancelled", "aborted", "cached", "skipped"]


def require_json(params: dict[str, Any] | None) -> None:
    """Raise RecordError unless params are None, or a dict that every database can keep as JSON."""
    if params is None:
        return
    if not isinstance(params, dict):
        raise RecordError(
            f"params are a {type(params).__name__}: give a dict such as {{'max_z': 3.5}}"
        )
    try:
        text = json.dumps(params, allow_nan=False)
        json.loads(text, object_pairs_hook=_distinct)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(
            f"params cannot be kept as JSON ({error}): give numbers, strings, lists and dicts, and "
            "str(path) for paths"
        ) from error


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two keys are both {twin!r} as JSON")


class Run(Record):
    """One execution, from its start to its end, whatever the end.

    Attributes:
        id: 20 characters; status: see ``Status``.
        started_at, finished_at, heartbeat_at: UTC; finished_at is None while it runs.
        params: JSON-able values; error: why it failed; details: what plugins know, by plugin.
        host, pid, process_started_at: the process that runs it.
    """

    __table__ = schema.run
    _shown: ClassVar[tuple[str, ...]] = (
        "id",
        "transform_id",
        "transform_version",
        "name",
        "engine",
        "status",
        "started_at",
        "finished_at",
        "params",
        "error",
    )

    if TYPE_CHECKING:
        id: Mapped[str]
        transform_id: Mapped[str | None]
        transform_version: Mapped[str | None]
        name: Mapped[str | None]
        engine: Mapped[str | None]
        reference: Mapped[str | None]
        reference_type: Mapped[str | None]
        status: Mapped[str]
        started_at: Mapped[dt.datetime | None]
        finished_at: Mapped[dt.datetime | None]
        parent_id: Mapped[str | None]
        params: Mapped[dict[str, Any] | None]
        environment_id: Mapped[str | None]
        error: Mapped[str | None]
        details: Mapped[dict[str, Any] | None]
        host: Mapped[str | None]
        pid: Mapped[int | None]
        process_started_at: Mapped[dt.datetime | None]
        heartbeat_at: Mapped[dt.datetime | None]
        created_by_id: Mapped[str]
        created_at: Mapped[dt.datetime]

    _transform = relationship(Transform, viewonly=True)
    _parent = relationship(
        "Run", viewonly=True, remote_side=[schema.run.c.id], foreign_keys=[schema.run.c.parent_id]
    )
    _created_by = relationship(User, viewonly=True)
    transform = Related[Transform]("_transform", transform_id="id", transform_version="version")
    parent = Related["Run"]("_parent", parent_id="id")
    created_by = Related[User]("_created_by", created_by_id="id")

    def __init__(
        self,
        transform: Transform | None = None,
        *,
        name: str | None = None,
        parent: Run | None = None,
        params: dict[str, Any] | None = None,
        reference: str | None = None,
        reference_type: str | None = None,
        id: str | None = None,
    ) -> None:
        """Start a run of this process now; ``ln.track`` does this and records it.

        Raises: RecordError: params that are not JSON.
        """
        require_json(params)
        at, owner = schema.now(), this_process()
        super().__init__(
            id=id or random_id(RUN_ID_LENGTH),
            name=name,
            reference=reference,
            reference_type=reference_type,
            status="started",
            started_at=at,
            params=params,
            host=owner.host,
            pid=os.getpid(),
            process_started_at=start_time(owner),
            heartbeat_at=at,
            created_at=at,
        )
        self.transform = transform
        self.parent = parent

    def __repr__(self) -> str:
        # plain code has no engine to speak of
        return self._show(n for n in self._shown if n != "engine" or self.engine != "plain")

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def inputs(self) -> list[File]:
        """The files that this run read, by name."""
        return self._files("input")

    @property
    def outputs(self) -> list[File]:
        """The files that this run produced, by name; also those another run had produced before."""
        return self._files("output")

    @property
    def children(self) -> list[Run]:
        """The runs that this run started, oldest first."""
        return read_all(
            select(Run).where(Run.parent_id == self.id).order_by(Run.started_at, Run.id)
        )

    def view_lineage(self, depth: int | None = None) -> None:
        """Show what this run and those that it started come from; see ``File.view_lineage``."""
        from lamindb.graph import lineage

        lineage(self).show(depth)

    def _files(self, role: str) -> list[File]:
        from lamindb.records.file import File

        link = schema.run_file
        return read_all(
            select(File)
            .join(link, link.c.file_id == File.id)
            .where(link.c.run_id == self.id, link.c.role == role)
            .order_by(File.name, File.id)
        )
