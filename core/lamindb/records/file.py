"""A stored object with its hash and where it came from."""

from __future__ import annotations

import datetime as dt
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import relationship, synonym

from lamindb import instance, journal
from lamindb.config import settings
from lamindb.db import schema
from lamindb.errors import (
    DataMissingError,
    ObjectChangedError,
    ObjectMissingError,
    RecordError,
)
from lamindb.identifiers import FILE_ID_LENGTH, random_id
from lamindb.instance import Location
from lamindb.progress import named, progress
from lamindb.records import active
from lamindb.records.base import Record, Related
from lamindb.records.data import (
    Pending,
    checked_name,
    first_for,
    local_path_of,
    path_of,
    place_of,
    source_of,
)
from lamindb.records.links import link_file
from lamindb.records.run import Run
from lamindb.records.storage import Storage
from lamindb.records.transform import Transform
from lamindb.records.user import User
from lamindb.storage.cache import digest_once
from lamindb.storage.copies import fetch
from lamindb.storage.hashing import DIRECTORY_HASH, FILE_HASH
from lamindb.storage.keys import object_key, suffix_of, version_key
from lamindb.storage.paths import RecordedPath
from lamindb.storage.sources import (
    LocalSource,
    digest,
    size_and_fingerprint,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

logger = logging.getLogger("lamindb")

# what belongs to the object, and is no more the record's to say
_PLACE = frozenset({"id", "key", "suffix", "storage_id", "is_latest"})
_CONTENT = frozenset({"hash", "hash_type", "size"})
_RETRY_S = 0.02


class File(Record):
    """A file, or a directory of files, kept in a storage.

    Attributes:
        id: 20 characters; name; suffix: all suffixes joined; size: bytes.
        hash: MD5 of the whole content, 22 characters of url-safe base64; hash_type: ``md5``, or
        ``md5-d`` for a directory's manifest; hash_note: why there is no hash.
        key: relative path in the storage, None where the object is named by its id.
        source_uri: the path that the bytes came from.
        is_latest: whether no newer content has this key.
    """

    __table__ = schema.file
    _shown: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "suffix",
        "size",
        "hash",
        "key",
        "run_id",
        "description",
    )

    if TYPE_CHECKING:
        _hash: Mapped[str | None]
        id: Mapped[str]
        name: Mapped[str]
        suffix: Mapped[str]
        size: Mapped[int | None]
        hash: Mapped[str | None]
        hash_type: Mapped[str | None]
        hash_note: Mapped[str | None]
        key: Mapped[str | None]
        run_id: Mapped[str | None]
        transform_id: Mapped[str | None]
        transform_version: Mapped[str | None]
        storage_id: Mapped[str]
        source_uri: Mapped[str | None]
        is_latest: Mapped[bool]
        description: Mapped[str | None]
        created_at: Mapped[dt.datetime]
        updated_at: Mapped[dt.datetime]
        created_by_id: Mapped[str]
    else:
        _hash = schema.file.c.hash
        hash = synonym(
            "_hash",
            descriptor=property(
                lambda self: self._read_hash(), lambda self, value: setattr(self, "_hash", value)
            ),
        )

    _run = relationship(Run, viewonly=True)
    _transform = relationship(Transform, viewonly=True)
    _storage = relationship(Storage, viewonly=True)
    _created_by = relationship(User, viewonly=True)
    run = Related[Run]("_run", run_id="id")
    transform = Related[Transform]("_transform", transform_id="id", transform_version="version")
    storage = Related[Storage]("_storage", storage_id="id")
    created_by = Related[User]("_created_by", created_by_id="id")

    def __init__(
        self,
        data: Any,
        *,
        key: str | None = None,
        name: str | None = None,
        run: Run | None = None,
        format: str | None = None,
        description: str | None = None,
    ) -> None:
        """Describe data; ``ln.add`` stores it. Nothing is written yet, and nothing large is read.

        Args:
            data: a path (str, Path, UPath, fsspec URL) of a file or directory, or a DataFrame.
            key: relative path that it gets in the storage; without one it is named by its id.
            name: else the key's last part, else the path's name.
            run: that produced it; else the run tracked here.
            format: suffix for a DataFrame, such as ``.csv``; default ``.parquet``.
        Raises: DataTypeError; DataMissingError; DataNotRegularError; LinkRefusedError;
            NameRequiredError: a DataFrame without name and key; KeyInvalidError;
            KeyConflictError: data inside a managed storage with another key than its path.
        """
        source = source_of(data, key, name, format)
        location, key, in_place = place_of(source, key)
        size, fingerprint = size_and_fingerprint(source)
        pending = Pending(source, size, fingerprint, in_place)
        at = schema.now()
        super().__init__(
            id=random_id(FILE_ID_LENGTH),
            name=checked_name(name, key, source),
            suffix=suffix_of(source.name),
            size=size,
            hash_type=DIRECTORY_HASH if source.is_directory else FILE_HASH,
            key=key,
            storage_id=location.id,
            source_uri=pending.source_uri,
            is_latest=True,
            description=description,
            created_at=at,
            updated_at=at,
        )
        pending.place = {name: getattr(self, name) for name in _PLACE}
        self.__dict__["_pending"] = pending
        self.run = run or active.context.run
        if self.run is None:
            logger.info("%s has no run: call ln.track() first to link it to one", self.name)
        else:
            self.transform = self.run.transform

    def _changes(self) -> dict[str, Any]:
        self.refuse_moved()
        return super()._changes()

    def refuse_moved(self) -> None:
        """Raise RecordError if fields were set that say where the object is, or what it holds."""
        pending = self._pending
        known = self.__dict__.get("_stored") or (pending.place if pending is not None else {})
        replaced = _CONTENT if pending is not None and pending.replaces else frozenset()
        fixed = (_CONTENT | _PLACE).intersection(known) - replaced
        moved = [name for name in sorted(fixed) if getattr(self, name) != known[name]]
        if moved:
            raise RecordError(
                f"{', '.join(moved)} of {self.name} cannot be set, since its object would "
                "not follow: give it other content with file.replace(…); for another key, add a "
                "copy of the object as a new ln.File"
            )

    def __repr__(self) -> str:
        pending = self._pending
        # showing a record neither reads 50 GB nor fails because they have changed
        unread = pending is not None and pending.digest is None and not pending.replaces
        return self._show(name for name in self._shown if not (unread and name == "hash"))

    # --- where the bytes are --------------------------------------------------------------------

    @property
    def _pending(self) -> Pending | None:
        return self.__dict__.get("_pending")

    def _read_hash(self) -> str | None:
        pending = self._pending
        if pending is not None and not pending.replaces:
            return pending.read_digest().hash
        stored: str | None = self._hash
        return stored

    def _object_key(self) -> str:
        """The key of its object below the storage root."""
        return object_key(self.id, self.key, self.suffix, is_latest=self.is_latest)

    def _current_key(self) -> str:
        """The key of its object, though others may have added versions since this was read."""
        if self.key is not None:
            table = schema.file
            with instance.current().database.read() as connection:
                found = connection.execute(
                    select(table.c.is_latest).where(table.c.id == self.id)
                ).scalar()
            if found is not None:
                self.is_latest = self.__dict__.setdefault("_stored", {})["is_latest"] = found
        return self._object_key()

    def path(self) -> Path:
        """Return where the object lies: a Path, or a UPath in a remote storage.

        Its ``open``, ``read_text`` and ``read_bytes`` make a local one an input of the tracked run;
        the builtin ``open`` does not. Of a remote one, asking for the path does.
        """
        pending = self._pending
        if pending is not None and not self._is_stored:
            return path_of(pending.source)
        location = self._location()
        path = location.store.path(self._current_key())
        if not location.store.is_local:
            self._record_input(None)
            return path
        return RecordedPath.of(path, lambda: self._record_input(None))

    def stage(self, is_run_input: bool | None = None) -> Path:
        """Return a local path of verified content: the object itself, or a cached copy.

        Args: is_run_input: whether this makes it an input of the run tracked here; None leaves it
            to ``ln.settings.record_inputs``.
        Raises: ObjectMissingError; ObjectChangedError: never returns other bytes than recorded.
        """
        path = self._verified_path()
        self._record_input(is_run_input)
        return path

    def load(self, is_run_input: bool | None = None) -> Any:
        """Return the content in memory, read by the loader for the suffix.

        Returns: a DataFrame for tables, a str for text, …; the staged path for other suffixes.
        Raises: as :meth:`stage`; FormatError: the library that reads this format is missing.
        """
        path = self._verified_path()
        loader = first_for("ln_loader", self.suffix)
        content = path
        if loader is not None:
            content = loader(path)
            self._verified_path()  # it may have been written to while it was read
        self._record_input(is_run_input)
        return content

    def view_lineage(self, depth: int | None = None) -> None:
        """Show what this file comes from: a picture in a notebook, a tree elsewhere.

        Args: depth: runs to walk; None is as many as there is room for.
        """
        from lamindb.graph import lineage

        lineage(self).show(depth)

    def replace(self, data: Any, *, format: str | None = None) -> None:
        """Give this record new content, which takes the old one's place at the next ``ln.add``.

        Its run becomes the one tracked here; with none, it is not known who made the new content.

        Raises: RecordError: the record is not added yet, is an older version, or is registered in
            place; or the suffix differs, which would leave the key wrong.
        """
        if not self._is_stored:
            raise RecordError(f"{self.name} was never added: make a new ln.File instead")
        self._current_key()
        if not self.is_latest:
            raise RecordError(f"{self!r} is an older version: replace the latest one")
        location = self._location()
        if not location.managed:
            raise RecordError(
                f"{self.name} is only registered where it lies, below {location.store.root}: "
                "overwrite it there and register it again"
            )
        source = source_of(data, self.key, self.name, format or self.suffix)
        if suffix_of(source.name) != self.suffix:
            raise RecordError(
                f"{source.name} has another suffix than {self.name} ({self.suffix!r}): add it as a "
                "new ln.File"
            )
        size, fingerprint = size_and_fingerprint(source)
        inside = location.store.key_of(source.uri)
        in_place = inside is not None and inside == self._object_key()
        self.__dict__["_pending"] = Pending(source, size, fingerprint, in_place, replaces=True)
        self.run = active.context.run
        self.transform = self.run.transform if self.run is not None else None

    def _verified_path(self) -> Path:
        pending = self._pending
        if pending is not None and not self._is_stored:
            return local_path_of(pending)
        here = instance.current()
        give_up_at = time.monotonic() + settings.busy_timeout_s
        was_busy = True
        while True:
            try:
                return self._look_up()
            except (ObjectMissingError, ObjectChangedError) as error:
                self._refuse_replaced(error)
                is_busy = journal.is_claimed(here.database, self.storage_id, self._object_key())
                if not (is_busy or was_busy) or time.monotonic() > give_up_at:
                    raise
                was_busy = is_busy  # what has just ended may have brought the object back
            journal.recover(here.database, lambda storage_id: here.location(storage_id).store)
            time.sleep(_RETRY_S)

    def _refuse_replaced(self, error: Exception) -> None:
        """Raise ObjectChangedError if the record has other content by now than when it was read."""
        table = schema.file
        with instance.current().database.read() as connection:
            row = connection.execute(
                select(table.c.hash).where(table.c.id == self.id)
            ).one_or_none()
        if row is not None and row.hash != self._hash:
            raise ObjectChangedError(
                f"{self.name} was replaced meanwhile: select it again, to get its new content"
            ) from error

    def _look_up(self) -> Path:
        """Return a local path of the recorded content, where it lies now."""
        key = self._object_key()
        try:
            return self._verify(key)
        except (ObjectMissingError, ObjectChangedError):
            if self._current_key() != key:
                return self._verify(self._object_key())
            if self.key is None or not self.is_latest:
                raise
            try:
                # another process may be about to record a newer version of the key
                return self._verify(version_key(self.id, self.suffix))
            except (ObjectMissingError, ObjectChangedError):
                pass
            raise

    def _verify(self, key: str) -> Path:
        """Return a local path of the object at a key, if its content is the recorded one."""
        store = self._location().store
        try:
            if not store.is_local:
                with progress(named("Downloading", [self.name]), lambda: self.size):
                    return fetch(lambda: store.source(key, self.hash_type), self._hash, self.suffix)
            source = store.source(key, self.hash_type)
            with progress(named("Checking", [self.name]), lambda: self.size):
                found = digest_once(source) if isinstance(source, LocalSource) else digest(source)
        except DataMissingError as error:
            raise ObjectMissingError(self._why_missing(store.uri(key))) from error
        if self._hash is not None and found.hash != self._hash:
            raise ObjectChangedError(
                f"{store.uri(key)} has hash {found.hash}, the record of {self.name} says "
                f"{self._hash}: it was changed without lamindb. Put the old content back, or "
                f"register the new with ln.add(ln.File({store.uri(key)!r}))"
            )
        return store.path(key)

    def _why_missing(self, uri: str) -> str:
        if not self.is_latest:
            return (
                f"the content of this older version of {self.key} is not kept at {uri}: it was "
                "overwritten in place, and only its hash is known"
            )
        return f"the object of {self.name} is gone from {uri}: put it back, or delete the record"

    def _location(self) -> Location:
        return instance.current().location(self.storage_id)

    def _record_input(self, is_run_input: bool | None) -> None:
        wanted = settings.record_inputs if is_run_input is None else is_run_input
        run = active.context.run if wanted else None
        if run is not None and self._is_stored:
            link_file(run, self, "input", even_own=is_run_input is True)
