"""The objects below one storage root: written, moved, removed, each whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from lamindb.config import FOLDER, is_remote
from lamindb.errors import (
    KeyConflictError,
    LaminError,
    StorageError,
    StorageFullError,
    StorageMissingError,
    StorageReadOnlyError,
)
from lamindb.storage.folders import in_folder, link, sync_folder
from lamindb.storage.hashing import DIRECTORY_HASH, FILE_HASH, Digest, copy_hashing
from lamindb.storage.remote import (
    code_of,
    files_below,
    filesystem,
    is_passing,
    kind_at,
    lacks_credentials,
    md5_of,
    rename_or_copy,
    unreachable,
)
from lamindb.storage.sources import (
    Entry,
    LocalSource,
    RemoteSource,
    Source,
    digest,
)
from lamindb.storage.uploads import abort_uploads

MARKER = f"{FOLDER}/storage_id"
INCOMING = f"{FOLDER}/incoming"
VERSIONS = f"{FOLDER}/versions"


class Store:
    """Objects by key below ``root``, a folder or a URL. Keys are relative POSIX paths."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._has_links: bool | None = None  # not asked yet

    @property
    def is_local(self) -> bool:
        """Whether objects can be renamed and linked, so that a switch is one system call."""
        return not is_remote(self.root)

    @property
    def is_atomic(self) -> bool:
        """Whether a file is there as a whole or not at all, whoever writes it."""
        return self.type in ("s3", "s3a", "gs", "gcs")

    @property
    def type(self) -> str:
        return "local" if self.is_local else self.root.partition("://")[0]

    def uri(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}"

    def path(self, key: str) -> Path:
        """Return where a key lies: a Path, or a UPath."""
        if self.is_local:
            return Path(self.root) / key
        from upath import UPath

        # by parts: a whole URL with '::' in it would be read as a chain
        return cast(Path, UPath(self.root).joinpath(*key.split("/")))

    def key_of(self, location: str) -> str | None:
        """Return the key under which a path or URL lies in this store; None when it does not."""
        if self.is_local:
            if is_remote(location):
                return None
            resolved = Path(location).resolve()
            root = Path(self.root).resolve()
            return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else None
        prefix = self.root.rstrip("/") + "/"
        return location[len(prefix) :] if location.startswith(prefix) else None

    # --- the root -------------------------------------------------------------------------------

    def create_root(self) -> None:
        """Make the root of a new storage."""
        with self._explaining("the storage root"):
            if self.is_local:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            else:
                fs, path = filesystem(self.root)
                if kind_at(fs, path) is None:
                    fs.makedirs(path, exist_ok=True)

    def read_marker(self) -> str | None:
        """Return the id that a local root carries, so that a moved root is recognised."""
        try:
            return (Path(self.root) / MARKER).read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._explain(error, MARKER) from error

    def write_marker(self, storage_id: str) -> None:
        with self._explaining("the storage marker"):
            marker = Path(self.root) / MARKER
            marker.parent.mkdir(exist_ok=True)
            marker.write_text(storage_id + "\n", encoding="utf-8")

    def check(self, storage_id: str) -> None:
        """Refuse to write below a local root that is gone, or is an empty mount point.

        Raises: StorageMissingError.
        """
        if not self.is_local:
            return
        found = self.read_marker()
        if found == storage_id:
            return
        if not Path(self.root).is_dir():
            problem = "is gone"
        elif found is None:
            problem = "has lost its marker file, as when another disk is mounted there"
        else:
            problem = f"belongs to storage {found}"
        raise StorageMissingError(
            f"the storage root {self.root} {problem} (expected storage {storage_id} in "
            f"{MARKER}): mount or move it back; nothing was written"
        )

    def refuse_foreign(self, key: str) -> None:
        """Refuse a key that leads, over a link or a nested storage, out of this one's own folder.

        Raises: KeyConflictError.
        """
        if not self.is_local:
            return
        root = Path(self.root).resolve()
        for folder in (self.path(key).parents[number] for number in range(key.count("/"))):
            if (folder / MARKER).exists():
                raise KeyConflictError(
                    f"the key {key!r} leads into the storage of another instance, {folder}: choose "
                    "another key, or load that instance"
                )
            if folder.exists() and not folder.resolve().is_relative_to(root):
                raise KeyConflictError(
                    f"the key {key!r} leads over a link out of the storage, to {folder.resolve()}: "
                    "choose another key"
                )

    # --- objects --------------------------------------------------------------------------------

    # An object store may have a file and a folder under one name: `hash_type`, where it is known,
    # says which of the two is meant.

    def source(self, key: str, hash_type: str | None = None) -> Source:
        """Return an object for reading; raises DataMissingError when there is none."""
        if self.is_local:
            return LocalSource(self.path(key))
        return RemoteSource(self.uri(key), _is_directory(hash_type))

    def exists(self, key: str, hash_type: str | None = None) -> bool:
        if self.is_local:
            return os.path.lexists(self.path(key))
        fs, path = filesystem(self.uri(key))
        with self._explaining(key):
            if hash_type == DIRECTORY_HASH:
                fs.invalidate_cache()
                return bool(files_below(fs, path, is_directory=True))
            kind = kind_at(fs, path)
            return kind is not None if hash_type is None else kind == "file"

    def write(self, source: Source, key: str) -> Digest:
        """Copy a source to a key that is free, hashing in the same pass; nothing partial stays.

        A local object is on the disk, not only in its cache, when this returns.
        """
        if self.is_local and os.path.lexists(self.path(key)):
            raise self._explain(FileExistsError(errno.EEXIST, "it exists", key), key)
        if source.is_directory and self.is_local:
            with self._explaining(key):
                self.path(key).mkdir(parents=True)
        try:
            return self._write(source, key)
        except _UnconditionalError:
            _unconditional.add(self.root)
            return self._write(source, key)

    def _write(self, source: Source, key: str) -> Digest:
        write = self._write_local if self.is_local else self._write_remote
        begun = []

        def place(entry: Entry, stream: BinaryIO) -> tuple[bytes, int]:
            target = f"{key}/{entry.path}" if entry.path else key
            if not self.is_atomic:
                begun.append(target)  # half of it may be there soon
            try:
                with self._explaining(target):
                    found = write(stream, target)
            except KeyConflictError:
                if target in begun:
                    begun.remove(target)  # what is there is another's
                raise
            begun.append(target)
            return found

        try:
            return digest(source, place)
        except BaseException:
            for each in [key] if self.is_local else begun:
                with suppress(LaminError):
                    self.remove(each, None if self.is_local else FILE_HASH)
            raise

    def _write_local(self, stream: BinaryIO, key: str) -> tuple[bytes, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        path = self.path(key)
        descriptor = in_folder(path, lambda: os.open(path, flags, 0o644))
        with os.fdopen(descriptor, "wb", buffering=0) as target:
            result = copy_hashing(stream, cast(BinaryIO, target))
            os.fsync(target.fileno())
        return result

    def _write_remote(self, stream: BinaryIO, key: str) -> tuple[bytes, int]:
        fs, path = filesystem(self.uri(key))
        is_conditional = self.root.startswith(_CONDITIONAL) and self.root not in _unconditional
        target = fs.open(path, "xb" if is_conditional else "wb")
        try:
            result = copy_hashing(stream, target)
            if is_conditional and not result[1] and kind_at(fs, path) == "file":
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        except BaseException:
            _discard(target)
            raise
        try:
            target.close()
        except BaseException as error:
            _discard(target)
            self._explain_close(error, fs, path, result, is_conditional)
        if getattr(target, "parts", None):
            # of a beginning whose answer was lost, and which was tried again
            with suppress(Exception):  # where they may not be listed, they stay
                abort_uploads(fs, path)
        written = fs.info(path)
        if written["size"] != result[1] or not self._is_tagged(fs, path, written, result):
            raise StorageError(
                f"{self.uri(key)} holds other bytes than the {result[1]} that were written: "
                "somebody else writes there, or the store lost some; try again"
            )
        return result

    def _is_tagged(
        self, fs: Any, path: str, info: dict[str, Any], written: tuple[bytes, int]
    ) -> bool:
        """Whether an object's tag, where it can be one, is the MD5 of what was written.

        Of encrypted objects it is not: then the first one of a root is read.
        """
        tag = md5_of(info)
        if tag is None or tag == written[0] or self.root in _opaque:
            return True
        if not _holds(fs, path, written):
            return False
        _opaque.add(self.root)
        return True

    def _explain_close(
        self, error: BaseException, fs: Any, path: str, result: tuple[bytes, int], wished: bool
    ) -> None:
        """Raise what the end of an upload failed of; return if the object is there all the same.

        One whose answer was lost is tried again, and finds what the first one has done.
        """
        code = code_of(error)
        taken = wished and code in _TAKEN
        if wished and code == "NotImplemented":
            raise _UnconditionalError from error
        may_be_there = taken or code == "NoSuchUpload" or is_passing(error)
        with suppress(Exception):  # of the two errors, the first is the one to tell
            if self.is_atomic and may_be_there and _holds(fs, path, result):
                return
        if taken:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        raise error

    def place(self, incoming: str, final: str) -> None:
        """Give a written local object its final key; never over something that is there.

        The incoming name stays for a file, as proof for :meth:`is_placed`, until removed.

        Raises: KeyConflictError: something lies at ``final``.
        """
        source, target = self.path(incoming), self.path(final)

        def place() -> None:
            if source.is_dir() or not link(source, target):
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
                source.rename(target)

        with self._explaining(final):
            in_folder(target, place)
            sync_folder(target.parent)

    def links(self, incoming: str) -> bool:
        """Whether :meth:`place` leaves a proof of a written object: not of a directory, and not
        where the file system has no hard links."""
        path = self.path(incoming)
        if path.is_dir():
            return False
        if self._has_links is None:
            second = path.with_name(f"{path.name}.link")
            with self._explaining(incoming):
                self._has_links = link(path, second)
                second.unlink(missing_ok=True)
        return self._has_links

    def is_placed(self, incoming: str, final: str) -> bool:
        """Whether the object at ``final`` is the very one that was written to ``incoming``."""
        proof, target = self.path(incoming), self.path(final)
        return target.exists() and proof.exists() and proof.samefile(target)

    def move(self, source: str, target: str, hash_type: str | None = None) -> None:
        """Move an object to a key that is free; in a store without renames, copy, then remove."""
        with self._explaining(target):
            if self.is_local:
                path = self.path(target)
                in_folder(path, lambda: self.path(source).rename(path))
                sync_folder(path.parent)
                self._prune(self.path(source))
                return
            fs, origin = filesystem(self.uri(source))
            _, destination = filesystem(self.uri(target))
            rename_or_copy(fs, origin, destination, _is_directory(hash_type))
        self.remove(source, hash_type)

    def remove(self, key: str, hash_type: str | None = None) -> None:
        """Remove an object, and the folders that are empty then; one that is gone is no error."""
        with self._explaining(key):
            if self.is_local:
                self._remove_local(self.path(key))
                return
            fs, path = filesystem(self.uri(key))
            for file in files_below(fs, path, _is_directory(hash_type)):
                with suppress(FileNotFoundError):
                    fs.rm_file(file)
            if hash_type != FILE_HASH:
                with suppress(OSError, NotImplementedError):
                    fs.rmdir(path)  # stores with folders of their own keep empty ones
            if hasattr(fs, "prune"):
                fs.prune(path, filesystem(self.root)[1])

    def _remove_local(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self._prune(path)

    def _prune(self, path: Path) -> None:
        """Remove the folders above a path that is gone, as far as they are empty."""
        root = Path(self.root)
        for folder in path.parents:
            if folder == root or root / FOLDER in (folder, folder.parent):
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or someone else's

    def sizes(self) -> dict[str, int] | None:
        """List all that lies behind a URL with its size in bytes, by key; None for a folder."""
        if self.is_local:
            return None
        fs, path = filesystem(self.root)
        prefix = path.rstrip("/") + "/"
        with self._explaining(""):
            found = fs.find(path, detail=True)
        return {str(name).removeprefix(prefix): int(found[name]["size"] or 0) for name in found}

    def keys(self, sizes: Mapping[str, int] | None = None) -> Iterator[str]:
        """List the keys of all objects: not an instance's own files, nor those of nested storages.

        A storage nested in one behind a URL has no marker, and is not told apart.

        Args: sizes: what :meth:`sizes` has listed, to list it once.
        """
        if self.is_local:
            for folder, names, files in os.walk(self.root):
                if Path(folder) != Path(self.root) and (Path(folder) / MARKER).exists():
                    names.clear()
                    continue
                if FOLDER in names:
                    names.remove(FOLDER)
                for name in files:
                    yield (Path(folder) / name).relative_to(self.root).as_posix()
            return
        for key in self.sizes() or {} if sizes is None else sizes:
            if FOLDER not in key.split("/"):
                yield key

    def version_keys(self, sizes: Mapping[str, int] | None = None) -> Iterator[str]:
        """List where older versions of keys lie, one key for a directory."""
        folder, prefix = self.path(VERSIONS), f"{VERSIONS}/"
        if self.is_local:
            names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        else:
            listed = self.sizes() or {} if sizes is None else sizes
            names = {key[len(prefix) :].split("/")[0] for key in listed if key.startswith(prefix)}
        yield from (f"{VERSIONS}/{name}" for name in sorted(names))

    @contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        try:
            yield
        except (LaminError, _UnconditionalError):
            raise
        except OSError as error:
            raise self._explain(error, key) from error
        except Exception as error:
            # behind a URL any library may raise anything: botocore's errors are no OSError
            if self.is_local:
                raise
            if is_passing(error):
                raise unreachable(self._where(key), error) from error
            kind = PermissionError if lacks_credentials(error) else OSError
            raise self._explain(kind(f"{type(error).__name__}: {error}"), key) from error

    def _where(self, key: str) -> str:
        return f"{key!r} in the storage {self.root}" if key else f"the storage {self.root}"

    def _explain(self, error: OSError, key: str) -> LaminError:
        where = self._where(key)
        if not self.is_local and is_passing(error):
            return unreachable(where, error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StorageFullError(
                f"no space is left for {where} ({error.strerror}): free some, or take another "
                "storage; nothing was recorded"
            )
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            return StorageReadOnlyError(
                f"{where} may not be written ({error}): check permissions, mount and credentials"
            )
        if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
            return KeyConflictError(
                f"something that no record knows lies at {where}, or at a folder above it "
                f"({error.strerror}): register it in place with ln.File({str(self.path(key))!r}), "
                "or choose another key"
            )
        if error.errno == errno.ENAMETOOLONG:
            return KeyConflictError(
                f"{where} is too long for its file system: choose a shorter key"
            )
        if isinstance(error, FileNotFoundError):
            return StorageMissingError(f"{where} cannot be reached ({error}): is its root there?")
        return StorageError(f"{where} failed ({error}): check the disk or the network, try again")


# s3fs writes to a free key only where it is told so, if the store does: for others it is a wish
_CONDITIONAL = ("s3://", "s3a://")
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
# the roots of those that refuse such a wish
_unconditional: set[str] = set()
# the roots of those whose tags are no hashes of the content
_opaque: set[str] = set()


class _UnconditionalError(Exception):
    """The store takes no writes on a condition."""


def _holds(fs: Any, path: str, written: tuple[bytes, int]) -> bool:
    """Whether an object is what was written, by its content."""
    with fs.open(path, "rb") as stream:
        return copy_hashing(stream, None) == written


def _is_directory(hash_type: str | None) -> bool | None:
    return None if hash_type is None else hash_type == DIRECTORY_HASH


def _discard(target: Any) -> None:
    # closing would complete the upload of half a file
    with suppress(Exception):
        target.discard()
    with suppress(AttributeError):
        target.closed = True
