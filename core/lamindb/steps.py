"""What an operation does to one object, and how that is undone from wherever it has come to."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lamindb.errors import DataMissingError
from lamindb.identifiers import random_id
from lamindb.storage.hashing import FILE_HASH
from lamindb.storage.sources import digest
from lamindb.storage.store import Store
from lamindb.storage.uploads import abort_uploads_of

logger = logging.getLogger("lamindb.journal")


@dataclass(frozen=True)
class Step:
    """What happens to one object.

    Attributes:
        storage_id, final: where it belongs.
        incoming: where its new bytes are written first, in a store that can rename.
        aside: where the object that is at ``final`` now goes, and ``aside_hash`` its hash.
        back: where an older object lies that moves to ``final``, and ``back_hash`` its hash.
        new_hash: of the new bytes, as proof of whose they are in a store that cannot rename.
        aside_type, back_type, new_type: of these hashes, which tells a file from a folder.
    """

    storage_id: str
    final: str
    incoming: str | None = None
    aside: str | None = None
    aside_hash: str | None = None
    back: str | None = None
    back_hash: str | None = None
    new_hash: str | None = None
    aside_type: str | None = None
    back_type: str | None = None
    new_type: str | None = None


def undo(store: Store, step: Step) -> None:
    """Bring one object back to before its step, from whatever point the step had reached."""
    if step.new_hash is not None:
        abort_uploads_of(store, step.final)
    if step.back is not None and store.exists(step.final, step.back_type):
        if not _holds(store, step.back, step.back_hash, step.back_type):
            store.remove(step.back, step.back_type)
            store.move(step.final, step.back, step.back_type)
        elif not store.is_local and _has_hash(store, step.final, step.back_hash, step.back_type):
            store.remove(step.final, step.back_type)  # the copy there was made, and not yet moved
    if step.aside is None and (store.is_local or step.new_hash is None):
        remove_if_ours(store, step)
    elif step.aside is None:
        _remove_written(store, step)
    elif store.exists(step.aside, step.aside_type):
        if not store.is_local and _holds(store, step.final, step.aside_hash, step.aside_type):
            store.remove(step.aside, step.aside_type)  # the copy aside had not come to its end
        else:
            _clear_way(store, step)
            store.move(step.aside, step.final, step.aside_type)
    if step.incoming is not None:
        store.remove(step.incoming)


def _clear_way(store: Store, step: Step) -> None:
    """Free the key of what was moved aside; what somebody else has put there is kept beside."""
    is_one_file = step.aside_type == FILE_HASH and step.new_type in (None, FILE_HASH)
    if not store.is_local and not (store.is_atomic and is_one_file):
        store.remove(step.final, step.aside_type)  # what is left of it was copied aside
        if step.new_hash is not None and step.new_type != step.aside_type:
            _remove_written(store, step)
        return
    remove_if_ours(store, step)
    if not store.exists(step.final, step.aside_type):
        return
    beside = f"{step.final}.found-{random_id(6)}"
    logger.warning("%s was put where an older object belongs: it is kept as %s", step.final, beside)
    store.move(step.final, beside, step.aside_type)


def _remove_written(store: Store, step: Step) -> None:
    """Remove what was written to a key that was free when it was claimed."""
    if store.is_atomic and step.new_type == FILE_HASH:
        remove_if_ours(store, step)
    else:
        # it holds ours, perhaps in part: half a directory, or of a file what came through
        store.remove(step.final, step.new_type)


def remove_if_ours(store: Store, step: Step) -> None:
    if step.incoming is not None and store.exists(step.incoming):
        if store.is_placed(step.incoming, step.final):
            store.remove(step.final)
        store.remove(step.incoming)
    elif step.new_hash is not None and _has_hash(store, step.final, step.new_hash, step.new_type):
        if step.incoming is not None:
            # goes as a whole: of half a directory nobody could tell any more whose it is
            store.move(step.final, step.incoming)
        store.remove(step.incoming or step.final, step.new_type)


def _holds(store: Store, key: str, expected: str | None, hash_type: str | None) -> bool:
    # a local move is one system call: there, or not there. Elsewhere a copy may be half done.
    return store.exists(key) if store.is_local else _has_hash(store, key, expected, hash_type)


def _has_hash(store: Store, key: str, expected: str | None, hash_type: str | None) -> bool:
    try:
        return digest(store.source(key, hash_type)).hash == expected
    except DataMissingError:
        return False
