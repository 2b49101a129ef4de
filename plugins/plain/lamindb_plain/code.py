"""Names of scripts and notebooks: the same wherever their project is checked out."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from lamindb import config, hooks
from lamindb.errors import LaminError
from lamindb.hooks import Caller
from lamindb.storage.store import Store


def key_of(path: Path, caller: Caller) -> str:
    return hooks.code_key(path, caller.storage_root, caller.storage_id)


@cache
def code_key(path: Path) -> str:
    """The same as :func:`key_of` without the database: the storage's marker names its id."""
    root, storage_id = None, None
    with suppress(LaminError, OSError):
        store = Store(config.configuration().storage)
        if store.is_local and (storage_id := store.read_marker()) is not None:
            root = Path(store.root)
    return hooks.code_key(path, root, storage_id)
