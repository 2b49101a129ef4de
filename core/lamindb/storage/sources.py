"""What can be read and hashed: a local path, or an fsspec URL; a file, or a directory of files."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from lamindb.config import FOLDER, expand_user, is_remote, refuse_credentials, url_of
from lamindb.errors import (
    DataError,
    DataMissingError,
    DataNotRegularError,
    DataUnreadableError,
    KeyConflictError,
    KeyInvalidError,
    LinkRefusedError,
)
from lamindb.storage.hashing import FILE_HASH as FILE_HASH
from lamindb.storage.hashing import Digest, ManifestLine, copy_hashing, encode, manifest_digest
from lamindb.storage.remote import (
    ExplainingStream,
    explaining,
    files_below,
    filesystem,
    info_at,
    md5_of,
)

Fingerprint = tuple[object, ...]


@dataclass(frozen=True)
class Entry:
    """One file of a source: ``path`` relative and POSIX, ``""`` when the source is one file.

    Attributes: md5: 16 bytes, where its store has them and says so.
    """

    path: str
    size: int
    fingerprint: Fingerprint
    open: Callable[[], BinaryIO]
    md5: bytes | None = None


class Source(Protocol):
    """Bytes at a place.

    Attributes: uri: absolute path or URL; name: its last part; is_directory.
    """

    uri: str
    name: str
    is_directory: bool

    def entries(self) -> list[Entry]:
        """List its files as they are now, sorted by path.

        Raises: DataMissingError, DataUnreadableError, DataNotRegularError, LinkRefusedError.
        """
        ...


def size_and_fingerprint(source: Source) -> tuple[int, Fingerprint]:
    """Return a source's size in bytes and a value that changes when it is written to."""
    entries = source.entries()
    return (
        sum(entry.size for entry in entries),
        tuple((entry.path, *entry.fingerprint) for entry in entries),
    )


def digest(
    source: Source,
    write: Callable[[Entry, BinaryIO], tuple[bytes, int]] | None = None,
) -> Digest:
    """Hash a source in one pass, handing each open file to ``write`` if one is given.

    Args: write: reads the stream to its end, puts it somewhere, returns its MD5 and size.
    """
    lines = []
    for entry in source.entries():
        with entry.open() as stream:
            md5, size = copy_hashing(stream, None) if write is None else write(entry, stream)
        if not source.is_directory:
            return Digest(encode(md5), size, FILE_HASH)
        lines.append(ManifestLine(entry.path, size, md5.hex()))
    return manifest_digest(lines)


def stored_digest(source: Source) -> Digest | None:
    """Return the hash by what the store says of its objects, unread; None where it says nothing.

    An encrypted object's may differ from its content's, but none has another's by chance.
    """
    lines = []
    for entry in source.entries():
        if entry.md5 is None:
            return None
        if not source.is_directory:
            return Digest(encode(entry.md5), entry.size, FILE_HASH)
        lines.append(ManifestLine(entry.path, entry.size, entry.md5.hex()))
    return manifest_digest(lines)


def parts_tag(source: Source) -> str | None:
    """Return what a store says of a file that was uploaded in parts: another's has another.

    It is made of the MD5 of each part; None where there is none.
    """
    if source.is_directory or isinstance(source, LocalSource):
        return None
    entry = source.entries()[0]
    tag = str(entry.fingerprint[1]).strip('"')
    return f"parts {tag} {entry.size}" if re.fullmatch("[0-9a-f]{32}-[0-9]+", tag) else None


def source_at(location: str | os.PathLike[str], *, any_name: bool = False) -> Source:
    """Return the source at a local path or a URL, without reading its content.

    Args: any_name: take a path that is no valid Unicode, too.
    Raises: CredentialsError: a URL carries secrets; KeyInvalidError: the path is no valid Unicode;
        and what :meth:`Source.entries` raises for a single file.
    """
    protocol = getattr(location, "protocol", "")  # UPath and fsspec-aware paths say it themselves
    text = url_of(location) if protocol not in ("", "file", "local") else os.fspath(location)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if is_remote(text):
        refuse_credentials(text)
        return RemoteSource(text)
    return LocalSource(text, any_name=any_name)


class LocalSource:
    """A local file or directory."""

    def __init__(self, path: str | Path, *, any_name: bool = False) -> None:
        if "\0" in str(path):
            raise KeyInvalidError(
                f"the path {str(path)!r} has a NUL character: give another", str(path)
            )
        # absolute, not resolved: the name that the user gave stays, also for a link
        self.path = Path(os.path.abspath(expand_user(path)))  # noqa: PTH100
        self.uri = str(self.path)
        self.name = self.path.name
        try:
            self.uri.encode(errors="surrogateescape" if any_name else "strict")
        except UnicodeEncodeError:
            raise KeyInvalidError(
                f"the path {self.uri!r} is not valid Unicode, which no database can keep: "
                "rename the file",
                self.uri,
            ) from None
        self.is_directory = stat.S_ISDIR(_status(self.path).st_mode)

    def entries(self) -> list[Entry]:
        if self.is_directory:
            found = list(_walk(self.path, self.path, (self.path.resolve(),)))
            return sorted(found, key=lambda entry: entry.path.encode())
        return [_local_entry(self.path, "", _status(self.path))]


def _walk(root: Path, folder: Path, chain: tuple[Path, ...]) -> Iterator[Entry]:
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except PermissionError as error:
        raise _unreadable(folder) from error
    except FileNotFoundError as error:
        raise _missing(folder) from error
    for child in children:
        path = Path(child.path)
        relative = path.relative_to(root).as_posix()
        try:
            relative.encode()
        except UnicodeEncodeError:
            raise KeyInvalidError(
                f"{relative!r} in {root} is not valid Unicode: rename it", relative
            ) from None
        if child.is_symlink():
            target = _link_target(path)
            if not target.is_relative_to(chain[0]):
                raise LinkRefusedError(
                    f"the link {path} leads out of {root}, to {target}: replace it by what it "
                    "points to, or leave it out"
                )
        status = _status(path)
        if child.name == FOLDER and stat.S_ISDIR(status.st_mode):
            raise KeyConflictError(
                f"{root} holds the storage of an instance, {path.parent}, whose files it would "
                "take along: give the folders beside it"
            )
        if stat.S_ISDIR(status.st_mode):
            real = path.resolve()
            if real in chain:
                raise LinkRefusedError(f"the link {path} leads back to {real}: remove the loop")
            yield from _walk(root, path, (*chain, real))
        else:
            yield _local_entry(path, relative, status)


def _link_target(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        # a loop is ELOOP, and RuntimeError before Python 3.13
        raise LinkRefusedError(
            f"the link {path} loops or leads nowhere: remove or mend it"
        ) from error


def _local_entry(path: Path, relative: str, status: os.stat_result) -> Entry:
    if not stat.S_ISREG(status.st_mode):
        raise DataNotRegularError(
            f"{path} is a {_kind(status.st_mode)}, whose content cannot be kept: give a regular "
            "file or a directory"
        )
    fingerprint = (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
    )
    return Entry(relative, status.st_size, fingerprint, lambda: _open(path))


def _open(path: Path) -> BinaryIO:
    try:
        return cast(BinaryIO, path.open("rb", buffering=0))
    except PermissionError as error:
        raise _unreadable(path) from error
    except FileNotFoundError as error:
        raise _missing(path) from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except NotADirectoryError as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise _unreadable(path) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LinkRefusedError(f"the link {path} loops: remove or mend it") from error
        if error.errno == errno.ENAMETOOLONG:
            raise _missing(path) from error
        raise DataError(f"{path} cannot be looked at ({error.strerror}): check the disk") from error


def _missing(path: Path | str) -> DataMissingError:
    return DataMissingError(f"nothing lies at {path}: check the path and the working directory")


def _unreadable(path: Path) -> DataUnreadableError:
    return DataUnreadableError(f"{path} may not be read: change its permissions, or the user")


def _kind(mode: int) -> str:
    for name, test in (("FIFO", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if test(mode):
            return name
    return "device"


class RemoteSource:
    """A file or a folder behind an fsspec URL.

    Where an object store has both under one name, it is the file, unless the folder is asked for.
    """

    def __init__(self, url: str, is_directory: bool | None = None) -> None:
        self.uri = url.rstrip("/")
        self.name = self.uri.rsplit("/", 1)[-1]
        if is_directory:
            fs, path = filesystem(self.uri)
            fs.invalidate_cache()
            with explaining(self.uri):
                found = files_below(fs, path, is_directory=True)
            if not found:
                raise _missing(self.uri)
            self.is_directory = True
        else:
            self.is_directory = info_at(self.uri)["type"] == "directory"
            if self.is_directory and is_directory is False:
                raise _missing(self.uri)

    def entries(self) -> list[Entry]:
        fs, path = filesystem(self.uri)
        fs.invalidate_cache()
        if not self.is_directory:
            return [_remote_entry(self.uri, fs, path, "", info_at(self.uri))]
        prefix = path.rstrip("/") + "/"
        with explaining(self.uri):
            found = fs.find(path, detail=True)
        for name in (name for name, info in found.items() if info["type"] == "link"):
            raise LinkRefusedError(
                f"the link {name} in {self.uri} leads to a folder, or nowhere: replace it by what "
                "it points to, or leave it out"
            )
        return sorted(
            (
                _remote_entry(self.uri, fs, name, name.removeprefix(prefix), info)
                for name, info in found.items()
                # object stores mark folders by empty objects whose key ends in a slash
                if info["type"] == "file" and name.startswith(prefix) and not name.endswith("/")
            ),
            key=lambda entry: entry.path.encode(),
        )


def _remote_entry(root: str, fs: Any, path: str, relative: str, info: dict[str, Any]) -> Entry:
    url = f"{root}/{relative}" if relative else root
    stamp = next(
        (
            str(info[name])
            for name in ("ETag", "LastModified", "mtime", "created")
            if info.get(name)
        ),
        "",
    )
    return Entry(
        relative,
        int(info["size"] or 0),  # a web server need not say
        (info["size"], stamp),
        lambda: cast(BinaryIO, ExplainingStream(url, fs, path)),
        md5_of(info),
    )
