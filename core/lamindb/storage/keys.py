"""Rules for storage keys and suffixes: pure functions of names."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from lamindb.config import FOLDER
from lamindb.errors import KeyInvalidError

MAX_KEY_BYTES = 1024
MAX_PART_BYTES = 255
MAX_SUFFIX_LENGTH = 64

_VERSION_LIKE = re.compile(r"\.v?\d+([-_+].*)?", re.IGNORECASE)
_SUFFIX_LIKE = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9_+~-]{0,15}")


def validate_key(key: str) -> str:
    """Return the key if it can name an object in every kind of store.

    Args: key: relative POSIX path, at most 1,024 UTF-8 bytes, each part at most 255.
    Raises: KeyInvalidError: says which rule it breaks.
    """
    problem = _problem(key)
    if problem:
        shown = repr(key)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise KeyInvalidError(
            f"the key {shown} {problem}: give a relative path such as 'images/cells.png'", key
        )
    return key


def _problem(key: str) -> str | None:
    if not isinstance(key, str):
        return f"is a {type(key).__name__}, not a string"
    if not key:
        return "is empty"
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size_bytes > MAX_KEY_BYTES:
        return f"has {size_bytes} bytes, more than the {MAX_KEY_BYTES} that object stores take"
    if key.startswith("/") or re.match(r"[A-Za-z]:[\\/]", key):
        return "is absolute"
    if any(unicodedata.category(character) == "Cc" for character in key):
        return "has a control character"
    if "\\" in key:
        return "has a backslash"
    parts = key.split("/")
    if ".." in parts:
        return "has '..', which could leave the storage"
    if "" in parts or "." in parts:
        return "has an empty part or '.'"
    if "?versionId=" in key:
        return "has '?versionId=', which S3's tools take for the version of another key"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"has a part of more than {MAX_PART_BYTES} bytes, which file systems refuse"
    # case does not tell folders apart on every file system
    if FOLDER in (part.casefold() for part in parts):
        return f"lies in {FOLDER!r}, which belongs to the instance"
    return None


def suffix_of(name: str) -> str:
    """Return all suffixes of a file name joined: ``a.tar.gz`` → ``.tar.gz``, none → ``""``.

    A dot-file has none (``.bashrc`` → ``""``). Reading stops, from the right, at the first part
    that is no suffix: one that looks like a version (``.1``, ``.v2``, ``.2024-05``), is longer than
    16 characters, or has other characters than letters, digits, ``_ + ~ -``; and before the whole
    is longer than 64 characters, since it also ends names that are made of an id. So
    ``sample.v1.2.bam`` → ``.bam`` and ``reads.v3.fastq.gz`` → ``.fastq.gz``.
    """
    taken = ""
    leaf = name.rstrip("/").rpartition("/")[2]
    parts = [] if leaf.endswith(".") else leaf.lstrip(".").split(".")[1:]
    for part in reversed(parts):
        suffix = f".{part}"
        if _VERSION_LIKE.fullmatch(suffix) or not _SUFFIX_LIKE.fullmatch(suffix):
            break
        if len(suffix) + len(taken) > MAX_SUFFIX_LENGTH:
            break
        taken = suffix + taken
    return taken


def ancestors(key: str) -> list[str]:
    """Return the folders above a key, nearest first: ``a/b/c`` → ``["a/b", "a"]``."""
    return [str(parent) for parent in PurePosixPath(key).parents if str(parent) != "."]


def version_key(file_id: str, suffix: str) -> str:
    """Return where the object of an older version of a key lies."""
    return f"{FOLDER}/versions/{file_id}{suffix}"


def object_key(file_id: str, key: str | None, suffix: str, *, is_latest: bool) -> str:
    """Return where a record's object lies: its key, or by its id; an older version aside."""
    if key is None:
        return f"{file_id}{suffix}"
    return key if is_latest else version_key(file_id, suffix)
