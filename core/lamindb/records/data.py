"""What a File stands for before it is stored: a path, a URL or a DataFrame, and where it goes."""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lamindb import instance
from lamindb.errors import (
    DataChangedError,
    DataMissingError,
    DataTypeError,
    FormatError,
    KeyConflictError,
    NameRequiredError,
    RecordError,
)
from lamindb.hooks import manager
from lamindb.instance import Location
from lamindb.modules import loaded
from lamindb.progress import named, progress
from lamindb.storage.cache import digest_once
from lamindb.storage.copies import fetch
from lamindb.storage.hashing import Digest
from lamindb.storage.keys import suffix_of, validate_key
from lamindb.storage.sources import (
    Fingerprint,
    LocalSource,
    Source,
    digest,
    size_and_fingerprint,
    source_at,
)
from lamindb.storage.store import Store


@dataclass
class Pending:
    """Bytes that a File stands for and ``add`` has yet to store.

    Attributes:
        source, size, fingerprint: as they were when the File was made.
        in_place: whether they lie in a managed storage and stay where they are.
        replaces: whether they take the place of the object that the record has now.
        digest: once they were read.
        place: what the File was made with, and its key has been validated with.
    """

    source: Source
    size: int
    fingerprint: Fingerprint
    in_place: bool
    replaces: bool = False
    digest: Digest | None = None
    place: dict[str, Any] = field(default_factory=dict)

    def read_digest(self) -> Digest:
        if self.digest is None:
            self.check_unchanged()
            with progress(named("Hashing", [self.source.name]), lambda: self.size):
                found = (
                    digest_once(self.source)
                    if isinstance(self.source, LocalSource)
                    else digest(self.source)
                )
            self.check_unchanged()
            self.digest = found
        return self.digest

    @property
    def source_uri(self) -> str | None:
        """The path or URL that the bytes come from; None for data in memory."""
        return None if isinstance(self.source, FrameSource) else self.source.uri

    def check_unchanged(self) -> None:
        """Raise DataChangedError if the source was written to since the File was made."""
        if size_and_fingerprint(self.source)[1] != self.fingerprint:
            raise DataChangedError(
                f"{self.source.uri} was written to after ln.File(...) looked at it: wait until "
                "its writer is done, then make a new ln.File"
            )


class FrameSource(LocalSource):
    """A DataFrame, written to a temporary file that lives as long as this object."""

    def __init__(self, frame: Any, name: str) -> None:
        folder = tempfile.mkdtemp(prefix="lamindb-")
        weakref.finalize(self, _remove_folder, folder, os.getpid())
        # the name may be as long as a key's last part, and yet get a suffix
        path = Path(folder) / f"frame{suffix_of(name)}"
        writer = first_for("ln_serializer", suffix_of(name), data=frame)
        if writer is None:
            raise FormatError(
                f"no writer is known for a {type(frame).__name__} as {suffix_of(name) or name!r}: "
                "take .parquet, .csv, .tsv, .feather or .json"
            )
        writer(frame, path)
        super().__init__(path)
        self.name = name


def first_for(hook: str, suffix: str, **arguments: Any) -> Any:
    """Ask for ``.my.table.csv``, then for ``.table.csv``, then for ``.csv``."""
    while True:
        found = manager.first(hook, suffix=suffix, **arguments)
        if found is not None or "." not in suffix[1:]:
            return found
        suffix = suffix[suffix.index(".", 1) :]


def _remove_folder(folder: str, pid: int) -> None:
    import shutil

    if os.getpid() == pid:  # a forked child ends before its parent needs it
        shutil.rmtree(folder, ignore_errors=True)


def source_of(data: Any, key: str | None, name: str | None, format: str | None) -> Source:
    if key is not None:
        validate_key(key)
    if isinstance(data, str | os.PathLike) or _is_url_path(data):
        if not str(data):
            raise DataMissingError("the path is empty: give the path of a file or directory")
        return source_at(data)
    if not _is_frame(data):
        raise DataTypeError(
            f"a {type(data).__name__} cannot be kept: give a path (str, Path, UPath, URL) of a "
            "file or directory, or a DataFrame"
        )
    if not key and not name:
        raise NameRequiredError(
            "a DataFrame has no name of its own: pass key='tables/x.parquet' or name='x.parquet'"
        )
    leaf = (key or name or "").rsplit("/", 1)[-1]
    own = suffix_of(leaf)
    wanted = own or ".parquet" if format is None else f".{format.removeprefix('.')}"
    if leaf.endswith(wanted):
        return FrameSource(data, leaf)
    if own and first_for("ln_serializer", own, data=data) is not None:
        raise FormatError(f"{leaf!r} ends in another format than {wanted!r}: give one of the two")
    return FrameSource(data, f"{leaf}{wanted}")


def _is_url_path(data: Any) -> bool:
    kind = loaded("upath", "UPath")
    return kind is not None and isinstance(data, kind)


def _is_frame(data: Any) -> bool:
    # without importing pandas: who has a DataFrame has imported it
    kind = loaded("pandas", "DataFrame")
    return kind is not None and isinstance(data, kind)


def place_of(source: Source, key: str | None) -> tuple[Location, str | None, bool]:
    """Return the storage, the key, and whether the bytes stay where they are."""
    here = instance.current()
    if not isinstance(source, FrameSource):
        inside = [
            (len(location.store.root), location, found)
            for location in here.managed_locations()
            if (found := _key_in(location.store, source)) is not None
        ]
        if inside:
            _, location, own_key = max(inside, key=lambda candidate: candidate[0])
            if own_key == ".":
                raise KeyConflictError(
                    f"{source.uri} is the root of a storage: add a file or folder inside it"
                )
            validate_key(own_key)
            if key is not None and key != own_key:
                raise KeyConflictError(
                    f"{source.uri} lies in the storage {location.store.root} already, under the "
                    f"key {own_key!r}: leave out key={key!r}, or move the file there first"
                )
            return location, own_key, True
    location = here.default_location
    if source.is_directory:
        _refuse_folder(source, location.store)
    return location, key, False


def _key_in(store: Store, source: Source) -> str | None:
    return "." if source.uri == store.root else store.key_of(source.uri)


def _refuse_folder(source: Source, store: Store) -> None:
    if Store(source.uri).key_of(store.root) is not None:
        raise KeyConflictError(
            f"{source.uri} holds the storage {store.root} itself, so it cannot be copied into it: "
            "add the folders beside the storage"
        )
    if not store.is_local and not source.entries():
        raise DataMissingError(
            f"the directory {source.uri} holds no file, and {store.root} keeps no empty ones: add "
            "it when there is something in it"
        )


def checked_name(name: str | None, key: str | None, source: Source) -> str:
    if name is not None and not isinstance(name, str):
        raise RecordError(f"the name {name!r} is a {type(name).__name__}, not a text")
    chosen = name or (key.rsplit("/", 1)[-1] if key else source.name)
    if "\0" in chosen:
        raise RecordError(f"the name {chosen!r} has a NUL character: leave it out")
    try:
        chosen.encode()
    except UnicodeEncodeError:
        raise RecordError(f"the name {chosen!r} is not valid Unicode: give another") from None
    return chosen


def path_of(source: Source) -> Path:
    if isinstance(source, LocalSource):
        return source.path
    from upath import UPath

    return cast(Path, UPath(source.uri))


def local_path_of(pending: Pending) -> Path:
    if isinstance(pending.source, LocalSource):
        pending.check_unchanged()
        return pending.source.path
    source = pending.source
    return fetch(lambda: source, pending.read_digest().hash, suffix_of(source.name))
