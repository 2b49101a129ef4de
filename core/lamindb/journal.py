"""Keeps rows and objects together when a process may die between any two steps.

An operation first commits an *intent*: a journal row that says which objects it will write or move,
and claims on the keys concerned, so that no other process touches them. Then it works on the
objects. At last one transaction writes the rows and ends the intent. So an intent that is still
there has no rows: whoever finds its owner dead takes it over as an *undo* of what was done to the
objects. What may only go after the rows are written (the old object of a replaced file) stays in
the journal as a *cleanup* until it is done. No transaction stays open while objects are worked on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from lamindb.config import settings
from lamindb.db.database import Database, serialise
from lamindb.db.schema import claim, journal
from lamindb.errors import (
    BusyError,
    DatabaseConflictError,
    DatabaseError,
    LaminError,
    LeaseLostError,
)
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, this_process
from lamindb.steps import Step, remove_if_ours, undo
from lamindb.storage.keys import ancestors
from lamindb.storage.store import INCOMING, Store
from lamindb.threads import OURS

logger = logging.getLogger("lamindb.journal")

LEASE_S = 120.0
_RETRY_S = 0.02
# the operations that this process is working on
_active: set[str] = set()

Locate = Callable[[str], Store]
Kind = Literal["add", "delete", "undo", "cleanup"]


class Operation:
    """One intent of this process, from claim to end."""

    def __init__(self, database: Database, locate: Locate, operation_id: str | None = None) -> None:
        self.id = operation_id or random_id(20)
        self.database = database
        self.locate = locate
        self.steps: list[Step] = []
        self.leftovers: list[tuple[str, str]] = []
        self.kind: Kind = "add"
        self.lease_until = 0.0
        self.ended = False

    def incoming(self, number: int, kind: str = "new") -> str:
        """Return a key of this operation's own in the instance's folder of a storage."""
        return f"{INCOMING}/{self.id}-{number}.{kind}"

    def amend(self, steps: Sequence[Step]) -> None:
        """Commit a plan that says more than before, ahead of doing what it says."""
        self.steps = list(steps)
        with self.database.begin() as connection:
            self._write_plan(connection)

    def confirm(self) -> None:
        """Make sure, right before an object is moved, that nobody has taken this operation over.

        A computer that slept, or a process that was stopped, may come back after its lease.

        Raises: LeaseLostError.
        """
        while time.time() > self.lease_until:
            self.renew()

    def renew(self) -> None:
        """Extend the lease; raises LeaseLostError."""
        lease_until = time.time() + LEASE_S
        with self.database.begin() as connection:
            self._update(connection, lease_until=lease_until)
        self.lease_until = lease_until

    def become(self, kind: Kind, connection: Connection) -> None:
        """Take over, or begin another part of, an operation whose row this transaction has seen."""
        self.kind, self.lease_until = kind, time.time() + LEASE_S
        connection.execute(
            update(journal)
            .where(journal.c.id == self.id)
            .values(kind=kind, owner=this_process().as_json(), lease_until=self.lease_until)
        )

    def end(self, connection: Connection, leftovers: Sequence[tuple[str, str]] = ()) -> None:
        """End the intent within the transaction that writes the rows.

        Args: leftovers: (storage id, key) of objects to remove once the rows are committed.
        Raises: LeaseLostError: another process took this one for dead and undid its work.
        """
        self.leftovers = list(leftovers)
        if not self.leftovers:
            self._check(connection.execute(delete(journal).where(*self.is_held())).rowcount)
        else:
            plan = [{"storage_id": storage_id, "final": key} for storage_id, key in leftovers]
            self._update(connection, kind="cleanup", plan=plan)
            if all(key.startswith(f"{INCOMING}/{self.id}-") for _, key in leftovers):
                # of anything else, the key must not be used again before it is removed
                connection.execute(delete(claim).where(claim.c.journal_id == self.id))
        self.ended = True

    def is_held(self) -> tuple[ColumnElement[bool], ...]:
        """The condition under which its row is still this operation's own."""
        return journal.c.id == self.id, journal.c.kind == self.kind

    def _write_plan(self, connection: Connection) -> None:
        self._update(connection, plan=[asdict(step) for step in self.steps])

    def _update(self, connection: Connection, **values: Any) -> None:
        self._check(
            connection.execute(update(journal).where(*self.is_held()).values(**values)).rowcount
        )

    def _check(self, rowcount: int) -> None:
        if rowcount == 0:
            raise _lost()


def _lost() -> LeaseLostError:
    return LeaseLostError(
        f"this process was silent for more than {LEASE_S:g} s, and another one undid what it had "
        "begun: nothing was recorded; do it again"
    )


@contextmanager
def operation(
    database: Database,
    locate: Locate,
    kind: Literal["add", "delete"],
    keys: Sequence[tuple[str, str]],
    plan: Callable[[Operation], list[Step]],
) -> Iterator[Operation]:
    """Claim keys, commit the plan, hand out the operation; undo everything if the body raises.

    Args:
        keys: (storage id, key) pairs that no other operation may touch meanwhile, nor a folder
            above them or a key inside them.
        plan: called once they are claimed, when their rows and objects stand still. No transaction
            is open: it may ask a remote store, while others write to the database.
    Raises: BusyError: another live process holds one of the keys for ``busy_timeout_s``;
        LeaseLostError: another process took this one for dead and undid its work.
    """
    work = Operation(database, locate)
    work.kind = kind
    _active.add(work.id)
    try:
        _claim(work, sorted(set(keys)))
        lease = _Lease(work)
        try:
            if steps := plan(work):
                work.amend(steps)
            yield work
        except BaseException as error:
            lease.stop()
            if not _undo_own(work) and isinstance(error, LaminError):
                raise _lost() from error
            raise
        lease.stop()
        _clean_own(work)
    finally:
        _active.discard(work.id)


def _claim(work: Operation, keys: Sequence[tuple[str, str]]) -> None:
    deadline = time.monotonic() + settings.busy_timeout_s
    while True:
        work.lease_until = time.time() + LEASE_S
        try:
            with work.database.begin() as connection:
                connection.execute(
                    insert(journal).values(
                        id=work.id,
                        kind=work.kind,
                        plan=[],
                        owner=this_process().as_json(),
                        lease_until=work.lease_until,
                    )
                )
                if keys:
                    serialise(connection, "claims")
                    _refuse_near(connection, keys)
                    connection.execute(
                        insert(claim),
                        [
                            {"storage_id": storage_id, "key": key, "journal_id": work.id}
                            for storage_id, key in keys
                        ],
                    )
            return
        except (_NearbyError, DatabaseConflictError):
            pass
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


class _NearbyError(Exception):
    """Another operation holds a folder above a key, or a key inside it."""


def _refuse_near(connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Raise _NearbyError if claims of others lie above or inside these keys."""
    if connection.execute(select(claim.c.key).limit(1)).scalar() is None:
        return
    for storage_id, key in keys:
        near = select(claim.c.key).where(
            claim.c.storage_id == storage_id,
            or_(
                claim.c.key.in_(ancestors(key)),
                and_(claim.c.key > f"{key}/", claim.c.key < f"{key}0"),
            ),
        )
        if connection.execute(near.limit(1)).scalar() is not None:
            raise _NearbyError


class _Lease:
    """Renews an operation's lease while this process works on it, from a thread of its own."""

    def __init__(self, work: Operation) -> None:
        self._work = work
        self._stopped = threading.Event()
        # most operations end before the first beat
        self._thread: threading.Timer | None = None
        self._schedule()

    def _schedule(self) -> None:
        self._thread = threading.Timer(LEASE_S / 4, self._beat)
        self._thread.daemon = True
        self._thread.name = f"{OURS}lease"
        # from Python 3.12 on, the interpreter that ends starts none
        with suppress(RuntimeError):
            self._thread.start()

    def _beat(self) -> None:
        if self._stopped.is_set():
            return
        try:
            self._work.renew()
        except LeaseLostError:
            return  # the operation itself finds out when it goes on
        except DatabaseError as error:
            logger.warning("the lease of operation %s was not renewed: %s", self._work.id, error)
        if not self._stopped.is_set():
            self._schedule()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.cancel()


def _undo_own(work: Operation) -> bool:
    """Undo what this process has begun; False if another process had taken it over."""
    try:
        if _settle(work, _is_own) or work.ended:
            return True
        if not _is_there(work):
            # its taker cannot have undone what was done since. Others may have recorded the same
            # bytes under the key: only the very object that was written here goes
            for step in work.steps:
                remove_if_ours(work.locate(step.storage_id), replace(step, new_hash=None))
    except (LaminError, OSError) as error:
        logger.warning(
            "operation %s could not be undone yet (%s): the next opening of the instance, or "
            "'lamin doctor --fix', does it",
            work.id,
            error,
        )
        return True
    return False


def _clean_own(work: Operation) -> None:
    try:
        for step in work.steps:
            if step.incoming is not None:
                work.locate(step.storage_id).remove(step.incoming)
        if work.leftovers:
            _settle(work, _is_own)
    except (LaminError, OSError) as error:
        logger.warning("objects no longer needed stay for now: %s", error)


def _is_own(row: Mapping[str, Any]) -> bool:
    return bool(row["owner"] == this_process().as_json())


def _is_there(work: Operation) -> bool:
    with work.database.read() as connection:
        found = connection.execute(select(journal.c.id).where(journal.c.id == work.id))
        return found.scalar() is not None


def recover(database: Database, locate: Locate) -> int:
    """Undo or finish what processes that died have begun; returns how many operations.

    An operation is taken over when its owner is provably dead, or its lease has run out. One whose
    storage cannot be reached is logged and stays.

    Raises: DatabaseError.
    """
    settled = 0
    for row in pending(database):
        if is_abandoned(row):
            try:
                settled += _settle(Operation(database, locate, row["id"]), is_abandoned)
            except DatabaseError:
                raise  # the next one would fail too, after waiting as long
            except (LaminError, OSError) as error:
                logger.warning("operation %s of a dead process stays for now: %s", row["id"], error)
    return settled


def is_claimed(database: Database, storage_id: str, key: str) -> bool:
    """Whether an operation is working on the object at a key, or is to be undone there."""
    with database.read() as connection:
        found = connection.execute(
            select(claim.c.key).where(claim.c.storage_id == storage_id, claim.c.key == key)
        )
        return found.scalar() is not None


def is_abandoned(row: Mapping[str, Any]) -> bool:
    """Whether nobody works on an operation any more: its lease ran out, or its owner is dead.

    Of this process's own, it is known; one that could not be undone when it failed is left over.
    """
    if _is_own(row):
        return row["id"] not in _active
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


def _settle(work: Operation, may: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Take an operation over and undo it, or finish its cleanup; False if it is not there, or not
    to be had.

    The objects are worked on between two short transactions: a large directory takes its time.
    """
    with work.database.begin() as connection:
        found = connection.execute(select(journal).where(journal.c.id == work.id).with_for_update())
        row = found.mappings().one_or_none()
        if row is None or not may(dict(row)):
            return False
        work.become("cleanup" if row["kind"] == "cleanup" else "undo", connection)
        _active.add(work.id)
    lease = _Lease(work)
    try:
        for step in (Step(**values) for values in row["plan"]):
            store = work.locate(step.storage_id)
            store.check(step.storage_id)
            if row["kind"] == "cleanup":
                store.remove(step.final)
            else:
                undo(store, step)
        with work.database.begin() as connection:
            connection.execute(delete(journal).where(*work.is_held()))
    except BaseException:
        _abandon(work)
        raise
    finally:
        lease.stop()
        _active.discard(work.id)
    return True


def _abandon(work: Operation) -> None:
    """Let whoever comes first try again, without waiting for the lease to run out."""
    with suppress(LaminError), work.database.begin() as connection:
        connection.execute(update(journal).where(*work.is_held()).values(lease_until=0.0))


def pending(database: Database) -> list[dict[str, Any]]:
    """Return the operations under way, with their owners."""
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(journal)).mappings()]
