"""What a store has to be able to do to keep an instance's objects, tried out once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from lamindb.errors import (
    KeyConflictError,
    SetupError,
    StorageError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from lamindb.identifiers import random_id
from lamindb.storage.remote import filesystem, is_passing, unreachable
from lamindb.storage.store import INCOMING, Store


def prove(store: Store) -> None:
    """Make the root of a new storage behind a URL, and write, list, read, copy and remove in it.

    Raises: SetupError: it cannot do one of these; StorageReadOnlyError: these credentials may not;
        StorageUnreachableError; DataTypeError or PackageMissingError: nothing reads such a URL.
    """
    fs, path = _begin(store)
    key = store.uri(f"{INCOMING}/{random_id(20)}")
    name = filesystem(key)[1]
    second = f"{name}.copy"
    folder = name.rsplit("/", 1)[0]
    try:
        with suppress(FileExistsError):
            fs.makedirs(folder, exist_ok=True)
        _try(store, "be written to", lambda: fs.pipe_file(name, b"lamindb"))
        _try(store, "be listed", lambda: name in fs.find(path))
        _try(store, "be read", lambda: fs.cat_file(name) == b"lamindb")
        if hasattr(fs, "rename_whole"):
            _try(store, "rename an object", lambda: fs.rename_whole(name, second))
            _try(store, "remove an object", lambda: fs.rm_file(second))
        else:
            _try(store, "copy an object", lambda: fs.cp_file(name, second))
            _try(store, "remove an object", lambda: [fs.rm_file(each) for each in (second, name)])
        name = second = ""
    finally:
        for each in filter(None, (name, second)):
            with suppress(Exception):
                fs.rm_file(each)
        with suppress(Exception):
            fs.rmdir(folder)  # stores with folders of their own keep empty ones


def _begin(store: Store) -> tuple[Any, str]:
    try:
        store.create_root()
        return filesystem(store.root)
    except (StorageError, KeyConflictError) as error:
        if isinstance(error, StorageUnreachableError | StorageReadOnlyError):
            raise
        raise SetupError(_cannot(store, "be opened", error)) from error


def _try(store: Store, what: str, act: Any) -> None:
    try:
        if act() is False:
            raise SetupError(_cannot(store, what, "it holds something else than was put there"))
    except SetupError:
        raise
    except PermissionError as error:
        raise StorageReadOnlyError(
            f"the storage {store.root} may not {what} ({error}): check the credentials in the "
            "environment, and what they allow"
        ) from error
    except Exception as error:  # any library may raise anything
        if is_passing(error):
            raise unreachable(f"the storage {store.root}", error) from error
        raise SetupError(_cannot(store, what, error)) from error


def _cannot(store: Store, what: str, why: object) -> str:
    return (
        f"{store.root} cannot be a storage, for it cannot {what} ({why}): give a folder, or the "
        "URL of a store that can be written to, such as s3://bucket/prefix"
    )
