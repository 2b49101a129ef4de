"""MD5 over whole contents: never only the ends of a large file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from lamindb.progress import counter

# larger buffers fall out of the processor's cache: 64 KiB hashes and copies twice as fast as 4 MiB
BUFFER_BYTES = 64 * 1024

FILE_HASH = "md5"
DIRECTORY_HASH = "md5-d"


@dataclass(frozen=True)
class Digest:
    """What was read or written: ``hash`` is 22 characters, ``size`` in bytes, ``type`` its rule."""

    hash: str
    size: int
    type: str


@dataclass(frozen=True)
class ManifestLine:
    """One file of a directory: ``path`` relative and POSIX, ``md5hex`` of its content."""

    path: str
    size: int
    md5hex: str


def encode(md5: bytes) -> str:
    """Return an MD5 digest as url-safe base64 without padding: 22 characters."""
    return base64.urlsafe_b64encode(md5).rstrip(b"=").decode()


def hash_bytes(content: bytes) -> str:
    return encode(hashlib.md5(content, usedforsecurity=False).digest())


def copy_hashing(source: BinaryIO, target: BinaryIO | None) -> tuple[bytes, int]:
    """Read a stream to its end in one pass, writing it to ``target`` if one is given.

    Returns: the MD5 digest (16 bytes) and the size in bytes.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    readinto = getattr(source, "readinto", None)
    advance = counter()
    size = 0
    while True:
        if readinto is not None:
            count = readinto(buffer)
            chunk = view[:count]
        else:
            chunk = memoryview(source.read(BUFFER_BYTES))
            count = len(chunk)
        if not count:
            return md5.digest(), size
        md5.update(chunk)
        if target is not None:
            _write_all(target, chunk)
        size += count
        if advance is not None:
            advance(count)


def _write_all(target: BinaryIO, chunk: memoryview) -> None:
    # an unbuffered file takes a part, without an error, when a disk or a quota is about to be full
    while chunk:
        taken: int | None = target.write(chunk)
        if taken is None:
            return  # some of fsspec's files say nothing: they have taken all
        chunk = chunk[taken:]


def manifest_digest(lines: Iterable[ManifestLine]) -> Digest:
    """Return the hash of a directory: MD5 over ``path NUL size NUL md5hex LF``.

    Lines are sorted by the UTF-8 bytes of the path, so that names count and order does not; empty
    directories do not count, since object stores have none.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    for line in sorted(lines, key=lambda line: line.path.encode()):
        md5.update(f"{line.path}\0{line.size}\0{line.md5hex}\n".encode())
        size += line.size
    return Digest(encode(md5.digest()), size, DIRECTORY_HASH)
