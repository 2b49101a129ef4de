"""Which run read and wrote which file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, select

from lamindb import instance
from lamindb.db import schema
from lamindb.db.database import insert_if_new

if TYPE_CHECKING:
    from lamindb.records.file import File
    from lamindb.records.run import Run

Role = Literal["input", "output"]
How = Literal["declared", "observed"]


def link_file(
    run: Run, file: File, role: Role, how: How = "declared", *, even_own: bool = False
) -> None:
    """Record that a run read or wrote a file; once is enough.

    What a run has itself produced is not its input when it looks at it again, unless ``even_own``.
    """
    database = instance.current().database
    table = schema.run_file
    with database.read() as connection:
        known = (
            connection.execute(
                select(table.c.role).where(table.c.run_id == run.id, table.c.file_id == file.id)
            )
            .scalars()
            .all()
        )
    if role in known or ("output" in known and not even_own):
        return
    with database.begin() as connection:
        write_links(connection, [(run.id, file.id)], role, how)


def write_links(
    connection: Connection,
    pairs: Iterable[tuple[str, str]],
    role: Role,
    how: How = "declared",
) -> None:
    """Record which runs read or wrote which files, unless that is known.

    Args: pairs: (run id, file id).
    """
    at = schema.now()
    rows = [
        {"run_id": run_id, "file_id": file_id, "role": role, "how": how, "created_at": at}
        for run_id, file_id in dict.fromkeys(pairs)
    ]
    insert_if_new(connection, schema.run_file, rows)
