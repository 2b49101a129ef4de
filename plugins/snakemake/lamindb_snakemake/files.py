"""The files of jobs: looked at by Snakemake's threads, read and told of by ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lamindb import config
from lamindb.errors import LaminError
from lamindb.hooks import FileRead, FileStat, FileWritten, emit
from lamindb_snakemake import caching, mapping
from lamindb_snakemake.contents import Content, Held, Holder, read_unchanged
from lamindb_snakemake.far import Far
from lamindb_snakemake.flags import Wish, wish_of
from lamindb_snakemake.options import Options
from lamindb_snakemake.writer import Writer

# so much is read by the thread that tells; more by others, in their own time
SMALL_BYTES = 1 << 20
# and so much by Snakemake's thread, where another job is about to write to the file
_AT_ONCE_BYTES = 1 << 16
_MOST_KNOWN = 100_000

FileEvent = Callable[..., FileRead | FileWritten]


@dataclass(frozen=True)
class Seen:
    """A file at one moment.

    Attributes:
        uri: by which it is recorded; path: where it lies, of a file in a storage its local copy.
        status: None where nothing can be seen; note says why.
        held: open, because it will not stay; or to be asked for in its storage.
    """

    uri: str
    path: str
    status: FileStat | None = None
    is_folder: bool = False
    held: Held | Far | Content | None = None
    note: str | None = None
    wish: Wish | None = None

    @property
    def is_missing(self) -> bool:
        """Whether a file of the workflow's own folder cannot be seen."""
        return self.status is None and self.uri == self.path

    @property
    def stays(self) -> bool:
        return self.status is not None and self.held is None


class Files:
    """Files of one workflow, and what is known of their contents."""

    def __init__(self, base: str, options: Options) -> None:
        self._base = base
        self._wants = options.filter(base)
        self._holder = Holder()
        self._hasher = Writer("lamindb-snakemake-hashes")
        # path → its status, and its content unless that is being read
        self._known: dict[str, tuple[FileStat, Content | None]] = {}

    # --- looking, by Snakemake's threads ----------------------------------------------------------

    def inputs(self, job: Any) -> Iterator[Seen]:
        """Look at what a job is about to read."""
        for file in job.input:
            if _is_stream(file) or job.is_pipe_or_service_input(file):
                continue
            path = self._path(file)
            uri = self._uri(file, path)
            if not self._wants(uri):
                continue
            status, is_folder = _look(path)
            if uri == path:
                if status is None:
                    yield Seen(uri, path, note="it was gone when the job had ended")
                else:
                    yield Seen(uri, path, status, is_folder, _before_update(file, path, status))
            elif status is None:
                yield Seen(uri, path, held=Far(file, uri))
            else:
                is_known = self._known.get(path, (None,))[0] == status
                yield Seen(uri, path, status, is_folder, None if is_known else self._hold(path))

    def outputs(self, job: Any, held: dict[str, Held | Content]) -> Iterator[Seen]:
        """Look at what a job has left.

        Args: held: path → what :meth:`held_in_storage` has held of them.
        """
        for file in job.output:
            path = self._path(file)
            uri = self._uri(file, path)
            if _is_stream(file) or not self._wants(uri):
                continue
            status, is_folder = _look(path)
            own: Held | Far | Content | None = held.pop(path, None)
            if own is None and status is not None and (_is_temporary(file) or uri != path):
                own = self._hold(path)
            if own is None and status is None and uri != path:
                own = Far(file, uri)  # the job ran elsewhere, and has stored it from there
            note = _why_missing(file) if own is None and status is None else None
            wish = wish_of(file, job.wildcards_dict)
            yield Seen(uri, path, status, is_folder, own, note, wish)

    def held_in_storage(self, job: Any) -> dict[str, Held | Content]:
        """Hold the outputs that are about to be moved to a storage: path → each."""
        paths = [self._path(file) for file in job.output if mapping.storage_query(file) is not None]
        return {path: self._hold(path) for path in paths if os.path.exists(path)}  # noqa: PTH110

    def _path(self, file: Any) -> str:
        return os.path.normpath(os.path.join(self._base, str(file)))  # noqa: PTH118

    def _uri(self, file: Any, path: str) -> str:
        query = mapping.storage_query(file)
        if query is None or config.is_remote(query):
            return query or path
        return os.path.join(self._base, query)  # noqa: PTH118 - a storage that is a folder

    def _hold(self, path: str) -> Held | Content:
        try:
            return self._holder.hold(path)
        except (OSError, LaminError) as error:
            return Content(None, note=f"it could not be read: {error}"[:500])

    # --- telling, by our threads ------------------------------------------------------------------

    def tell(self, event: FileEvent, seen: Seen) -> None:
        """Tell of a file with its hash, where that is known, or can be read in no time."""
        if seen.held is not None:
            if seen.status is not None:
                self._know(seen, None)
            self._hasher.put(partial(self._read_and_tell, event, seen))
            return
        status, content = self._known.get(seen.path, (None, None))
        if status is None or status != seen.status:
            content = self._read_small(seen)
        elif content is None:
            self._hasher.put(partial(self._tell_read, event, seen))
            return
        _emit(event, seen, content)

    def tell_maker(self, run: str, seen: Seen) -> None:
        """Tell which earlier run made a file that was taken from a cache."""

        def tell() -> None:
            _, content = self._known.get(seen.path, (None, None))
            caching.link_to_maker(run, seen.path, content.hash if content is not None else None)

        self._hasher.put(tell)

    def end(self, timeout_s: float) -> bool:
        """Finish reading; False where that takes longer."""
        return self._hasher.end(timeout_s)

    def _read_small(self, seen: Seen) -> Content | None:
        if seen.status is None or seen.is_folder or seen.status.size > SMALL_BYTES:
            return None
        content = read_unchanged(seen.path, seen.status)
        if content is not None:
            self._know(seen, content)
        return content

    def _read_and_tell(self, event: FileEvent, seen: Seen) -> None:
        content = seen.held.read() if isinstance(seen.held, Held | Far) else seen.held
        if content is not None:
            self._know(seen, content)
        _emit(event, seen, content)

    def _tell_read(self, event: FileEvent, seen: Seen) -> None:
        """Called once everything that was held before was read."""
        status, content = self._known.get(seen.path, (None, None))
        _emit(event, seen, content if status == seen.status else None)

    def _know(self, seen: Seen, content: Content | None) -> None:
        if seen.status is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[seen.path] = seen.status, content


def _emit(event: FileEvent, seen: Seen, content: Content | None) -> None:
    if content is not None:
        emit(
            event(
                uri=seen.uri,
                size=content.size,
                hash=content.hash,
                hash_type=content.hash_type,
                hash_note=content.note,
            )
        )
    elif seen.note is not None:
        emit(event(uri=seen.uri, hash_note=seen.note))
    else:
        # what the status of a folder says is nothing about what is in it
        emit(event(uri=seen.uri, stat=None if seen.is_folder else seen.status))


def _look(path: str) -> tuple[FileStat | None, bool]:
    """Look at a regular file or a folder, and say which; None for anything else."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call of the system
    except (OSError, ValueError):
        return None, False
    is_folder = stat.S_ISDIR(found.st_mode)
    if not (is_folder or stat.S_ISREG(found.st_mode)):
        return None, False
    return FileStat.from_result(found), is_folder


def _before_update(file: Any, path: str, status: FileStat) -> Content | None:
    """Read what another job will write to as soon as this one has ended, if it is small."""
    is_asked = mapping.is_flagged(file, "before_update") and status.size <= _AT_ONCE_BYTES
    return read_unchanged(path, status) if is_asked else None


def _is_stream(file: Any) -> bool:
    return mapping.is_flagged(file, "pipe") or mapping.is_flagged(file, "service")


def _is_temporary(file: Any) -> bool:
    return mapping.is_flagged(file, "temp") or mapping.is_flagged(file, "nodelocal")


def _why_missing(file: Any) -> str:
    if mapping.is_flagged(file, "nodelocal"):
        return "it was only on the node that ran the job"
    if mapping.is_flagged(file, "temp"):
        return "it was removed where the job ran, before the workflow's process saw it"
    return "it was not there when the job had ended"
