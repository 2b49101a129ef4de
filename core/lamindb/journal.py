"""Keeps rows and objects together when a process may die between any two steps.

An operation first commits an *intent*: a journal row that says which objects it will write or move,
and claims on the keys concerned, so that no other process touches them. Then it works on the
objects. At last one transaction writes the rows and ends the intent. So an intent that is still
there has no rows: whoever finds its owner dead undoes what was done to the objects. What may only
go after the rows are written (the old object of a replaced file) stays in the journal as a
*cleanup* until it is done.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from lamindb.config import settings
from lamindb.db.database import Database
from lamindb.db.schema import claim, journal
from lamindb.errors import BusyError, DatabaseError, LaminError, LeaseLostError
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, this_process
from lamindb.storage.sources import digest
from lamindb.storage.store import INCOMING, Store

logger = logging.getLogger("lamindb.journal")

LEASE_S = 120.0
_RETRY_S = 0.02

Locate = Callable[[str], Store]
Kind = Literal["add", "delete", "cleanup"]


@dataclass(frozen=True)
class Step:
    """What happens to one object.

    Attributes:
        storage_id, final: where it belongs.
        incoming: where its new bytes are written first, in a store that can rename.
        aside: where the object that is at ``final`` now goes, and ``aside_hash`` its hash.
        back: where an older object lies that moves to ``final``, and ``back_hash`` its hash.
        new_hash: of the new bytes, as proof of whose they are in a store that cannot rename.
    """

    storage_id: str
    final: str
    incoming: str | None = None
    aside: str | None = None
    aside_hash: str | None = None
    back: str | None = None
    back_hash: str | None = None
    new_hash: str | None = None


class Operation:
    """One intent of this process, from claim to end."""

    def __init__(self, database: Database, locate: Locate) -> None:
        self.id = random_id(20)
        self.database = database
        self.locate = locate
        self.steps: list[Step] = []
        self.leftovers: list[tuple[str, str]] = []
        self.taken_over = False

    def incoming(self, number: int, kind: str = "new") -> str:
        """Return a key of this operation's own in the instance's folder of a storage."""
        return f"{INCOMING}/{self.id}-{number}.{kind}"

    def amend(self, steps: Sequence[Step]) -> None:
        """Commit a plan that says more than before, ahead of doing what it says."""
        self.steps = list(steps)
        with self.database.begin() as connection:
            self._write_plan(connection)

    def _write_plan(self, connection: Connection) -> None:
        changed = connection.execute(
            update(journal)
            .where(journal.c.id == self.id)
            .values(plan=[asdict(step) for step in self.steps])
        )
        self._check_lease(changed.rowcount)

    def end(self, connection: Connection, leftovers: Sequence[tuple[str, str]] = ()) -> None:
        """End the intent within the transaction that writes the rows.

        Args: leftovers: (storage id, key) of objects to remove once the rows are committed.
        Raises: LeaseLostError: another process took this one for dead and undid its work.
        """
        self.leftovers = list(leftovers)
        if not self.leftovers:
            ended = connection.execute(delete(journal).where(journal.c.id == self.id))
        else:
            plan = [{"storage_id": storage_id, "final": key} for storage_id, key in leftovers]
            ended = connection.execute(
                update(journal).where(journal.c.id == self.id).values(kind="cleanup", plan=plan)
            )
            connection.execute(delete(claim).where(claim.c.journal_id == self.id))
        self._check_lease(ended.rowcount)

    def _check_lease(self, rowcount: int) -> None:
        if rowcount == 0:
            self.taken_over = True
            raise LeaseLostError(
                f"this process was silent for more than {LEASE_S:g} s, and another one undid what "
                "it had begun: nothing was recorded; do it again"
            )


@contextmanager
def operation(
    database: Database,
    locate: Locate,
    kind: Literal["add", "delete"],
    keys: Sequence[tuple[str, str]],
    plan: Callable[[Operation, Connection], list[Step]],
) -> Iterator[Operation]:
    """Claim keys, commit the plan, hand out the operation; undo everything if the body raises.

    Args:
        keys: (storage id, key) pairs that no other operation may touch meanwhile.
        plan: called within the claiming transaction, where the rows of those keys stand still.
    Raises: BusyError: another live process holds one of the keys for ``busy_timeout_s``.
    """
    work = Operation(database, locate)
    _claim(work, kind, sorted(set(keys)), plan)
    lease = _Lease(database, work.id)
    try:
        yield work
    except BaseException:
        _undo_own(work)
        raise
    finally:
        lease.stop()
    _clean_own(work)


def _claim(
    work: Operation,
    kind: Kind,
    keys: Sequence[tuple[str, str]],
    plan: Callable[[Operation, Connection], list[Step]],
) -> None:
    deadline = time.monotonic() + settings.busy_timeout_s
    while True:
        try:
            with work.database.begin() as connection:
                connection.execute(
                    insert(journal).values(
                        id=work.id,
                        kind=kind,
                        plan=[],
                        owner=this_process().as_json(),
                        lease_until=time.time() + LEASE_S,
                    )
                )
                if keys:
                    connection.execute(
                        insert(claim),
                        [
                            {"storage_id": storage_id, "key": key, "journal_id": work.id}
                            for storage_id, key in keys
                        ],
                    )
                work.steps = plan(work, connection)
                if work.steps:
                    work._write_plan(connection)
            return
        except IntegrityError:
            if not keys:
                raise
        recover(work.database, work.locate)
        if time.monotonic() > deadline:
            raise BusyError(
                f"another process has been working on {keys[0][1]!r} (or one of {len(keys)} keys) "
                f"for more than {settings.busy_timeout_s:g} s: end it, or try again later"
            )
        time.sleep(_RETRY_S)


class _Lease:
    """Renews an operation's lease while this process works on it, from a thread of its own."""

    def __init__(self, database: Database, operation_id: str) -> None:
        self._database = database
        self._id = operation_id
        self._stopped = threading.Event()
        # most operations end before the first beat: a timer thread costs nothing until then
        self._thread: threading.Timer | None = None
        self._schedule()

    def _schedule(self) -> None:
        self._thread = threading.Timer(LEASE_S / 4, self._beat)
        self._thread.daemon = True
        self._thread.start()

    def _beat(self) -> None:
        if self._stopped.is_set():
            return
        try:
            with self._database.begin() as connection:
                connection.execute(
                    update(journal)
                    .where(journal.c.id == self._id)
                    .values(lease_until=time.time() + LEASE_S)
                )
        except DatabaseError as error:
            logger.warning("the lease of operation %s was not renewed: %s", self._id, error)
        if not self._stopped.is_set():
            self._schedule()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.cancel()


def _undo_own(work: Operation) -> None:
    if work.taken_over:
        # the rows of others may have come since: only what is provably ours goes
        for step in work.steps:
            _remove_if_ours(work.locate(step.storage_id), step)
        return
    try:
        _settle(work.database, work.locate, work.id)
    except (LaminError, OSError) as error:
        logger.warning(
            "operation %s could not be undone yet (%s): the next opening of the instance, or "
            "'lamin doctor --fix', does it",
            work.id,
            error,
        )


def _clean_own(work: Operation) -> None:
    for step in work.steps:
        if step.incoming is not None:
            work.locate(step.storage_id).remove(step.incoming)
    if work.leftovers:
        try:
            _settle(work.database, work.locate, work.id)
        except (LaminError, OSError) as error:
            logger.warning("objects no longer needed stay for now: %s", error)


def recover(database: Database, locate: Locate) -> int:
    """Undo or finish what processes that died have begun; returns how many operations.

    An operation is taken over when its owner is provably dead, or its lease has run out.
    """
    with database.read() as connection:
        found = connection.execute(
            select(journal.c.id, journal.c.owner, journal.c.lease_until)
        ).all()
    settled = 0
    for row in found:
        if is_abandoned(dict(row._mapping)):
            try:
                settled += _settle(database, locate, row.id)
            except (LaminError, OSError) as error:
                logger.warning("operation %s of a dead process stays for now: %s", row.id, error)
    return settled


def is_abandoned(row: Mapping[str, Any]) -> bool:
    """Whether nobody works on an operation any more: its lease ran out, or its owner is dead."""
    return bool(row["lease_until"] < time.time()) or is_dead(row["owner"])


def sweep_incoming(database: Database, storage_id: str, store: Store) -> int:
    """Remove what ended operations have left in a storage's incoming folder."""
    folder = store.path(INCOMING)
    if not folder.is_dir():
        return 0
    # list first, then ask: an operation's intent is committed before it writes there
    names = [path.name for path in folder.iterdir()]
    if not names:
        return 0
    with database.read() as connection:
        open_ids = set(connection.execute(select(journal.c.id)).scalars())
    ended = [name for name in names if name.split("-", 1)[0] not in open_ids]
    for name in ended:
        store.remove(f"{INCOMING}/{name}")
    return len(ended)


def _settle(database: Database, locate: Locate, operation_id: str) -> bool:
    """Undo an intent, or finish a cleanup, and end it; False if somebody else did."""
    with database.begin() as connection:
        row = connection.execute(
            select(journal.c.kind, journal.c.plan)
            .where(journal.c.id == operation_id)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return False
        for step in (Step(**values) for values in row.plan):
            store = locate(step.storage_id)
            store.check(step.storage_id)
            if row.kind == "cleanup":
                store.remove(step.final)
            else:
                undo(store, step)
        connection.execute(delete(journal).where(journal.c.id == operation_id))
    return True


def undo(store: Store, step: Step) -> None:
    """Bring one object back to before its step, from whatever point the step had reached."""
    if (
        step.back is not None
        and not _holds(store, step.back, step.back_hash)
        and store.exists(step.final)
    ):
        store.remove(step.back)
        store.move(step.final, step.back)
    if step.aside is None:
        _remove_if_ours(store, step)
    elif store.exists(step.aside):
        if not store.is_local and _holds(store, step.final, step.aside_hash):
            store.remove(step.aside)  # the copy aside had not come to its end
        else:
            store.remove(step.final)
            store.move(step.aside, step.final)
    if step.incoming is not None:
        store.remove(step.incoming)


def _remove_if_ours(store: Store, step: Step) -> None:
    if step.incoming is not None and store.exists(step.incoming):
        if store.is_placed(step.incoming, step.final):
            store.remove(step.final)
        store.remove(step.incoming)
    elif step.new_hash is not None and _has_hash(store, step.final, step.new_hash):
        store.remove(step.final)


def _holds(store: Store, key: str, expected: str | None) -> bool:
    # a local move is one system call: there, or not there. Elsewhere a copy may be half done.
    return store.exists(key) if store.is_local else _has_hash(store, key, expected)


def _has_hash(store: Store, key: str, expected: str | None) -> bool:
    return store.exists(key) and digest(store.source(key)).hash == expected


def pending(database: Database) -> list[dict[str, Any]]:
    """Return the operations under way, with their owners."""
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(journal)).mappings()]
