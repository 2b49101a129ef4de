"""What the bytes of a file were at the moment that an event speaks of, as far as can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lamindb.errors import LaminError
from lamindb.hooks.events import FileRead, FileStat, FileWritten
from lamindb.recording.places import Place
from lamindb.storage.cache import digest_once, recall
from lamindb.storage.hashing import FILE_HASH, Digest
from lamindb.storage.keys import suffix_of
from lamindb.storage.sources import LocalSource, digest, size_and_fingerprint, source_at

GONE = "it was gone before it could be read"
CHANGED = "it was changed before it could be read"


@dataclass(frozen=True)
class Look:
    """A file event with its place and content.

    Attributes: hash: None where the bytes of that moment are no more to be had, as note says.
    """

    event: FileRead | FileWritten
    place: Place
    suffix: str
    size: int | None
    hash: str | None
    hash_type: str | None
    note: str | None

    @property
    def is_output(self) -> bool:
        return isinstance(self.event, FileWritten)


def look_at(event: FileRead | FileWritten, place: Place) -> Look:
    """Hash what an event speaks of.

    The bytes count only if size, times and inode agree with the event before and after they are
    read: a late replay must not take a successor's bytes for them.
    """
    size = event.size if event.stat is None else event.stat.size
    note = event.hash_note
    found: Digest | None = None
    if event.hash is not None:
        found = Digest(event.hash, size or 0, event.hash_type or FILE_HASH)
    elif note is None:
        found, note = _read(event.uri, event.stat)
    if found is not None:
        size = found.size if event.hash is None else size
    return Look(
        event,
        place,
        suffix_of(place.name),
        size,
        found.hash if found else None,
        found.type if found else event.hash_type,
        None if found else note,
    )


def _read(uri: str, stat: FileStat | None) -> tuple[Digest | None, str | None]:
    try:
        source = source_at(uri, any_name=True)
        if not isinstance(source, LocalSource) or source.is_directory:
            before = size_and_fingerprint(source)
            found = digest(source)
            return (found, None) if size_and_fingerprint(source) == before else (None, CHANGED)
        if stat is not None and FileStat.of(uri) != stat:
            known = recall(_fingerprint(stat))
            return (known, None) if known else (None, _why(uri))
        seen = stat or FileStat.of(uri)
        found = digest_once(source)
        return (found, None) if FileStat.of(uri) == seen else (None, CHANGED)
    except (LaminError, OSError) as error:
        known = recall(_fingerprint(stat)) if stat is not None else None
        return (known, None) if known else (None, _why(uri, error))


def _fingerprint(stat: FileStat) -> tuple[object, ...]:
    return stat.size, stat.mtime_ns, stat.ctime_ns, stat.device, stat.inode


def _why(uri: str, error: Exception | None = None) -> str:
    if isinstance(error, FileNotFoundError) or (error is None and FileStat.of(uri) is None):
        return GONE
    return CHANGED if error is None else f"it could not be read: {error}"[:500]
