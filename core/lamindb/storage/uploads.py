"""Objects that are uploaded in parts, and what is left of those that never were put together."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamindb.storage.remote import explaining, filesystem

if TYPE_CHECKING:
    from lamindb.storage.store import Store


@dataclass(frozen=True)
class Upload:
    """Parts of an object that was never put together: they cost, and no listing shows them.

    Attributes: path: in its filesystem; begun_at: by the clock of its store.
    """

    path: str
    id: str
    begun_at: dt.datetime


def unfinished_uploads(fs: Any, path: str) -> list[Upload]:
    """Return what was begun in parts at a path of S3, or below it; nothing elsewhere."""
    if not hasattr(fs, "list_multipart_uploads"):
        return []
    bucket, _, prefix = path.partition("/")
    found: list[Upload] = []
    start: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **start)
        found += [
            Upload(f"{bucket}/{each['Key']}", each["UploadId"], each["Initiated"])
            for each in answer.get("Uploads", [])
            if not prefix or each["Key"] == prefix or each["Key"].startswith(f"{prefix}/")
        ]
        if not answer.get("IsTruncated"):
            return found
        start = {
            "KeyMarker": answer["NextKeyMarker"],
            "UploadIdMarker": answer["NextUploadIdMarker"],
        }


def abort_uploads(fs: Any, path: str) -> int:
    """Remove the parts that were uploaded to a path, or below it, and never put together."""
    uploads = unfinished_uploads(fs, path)
    for upload in uploads:
        bucket, _, key = upload.path.partition("/")
        with suppress(FileNotFoundError):
            fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.id)
    return len(uploads)


def uploads_of(store: Store) -> list[Upload]:
    """List the unfinished uploads of a storage, also those under way.

    Raises: DataUnreadableError: they may not be listed; StorageUnreachableError.
    """
    if store.is_local:
        return []
    fs, path = filesystem(store.root)
    with explaining(store.root):
        return unfinished_uploads(fs, path)


def abort_uploads_of(store: Store, key: str) -> None:
    """Remove the parts of a key's object, or of a folder's; where they may not be listed, none."""
    if not store.is_local:
        fs, path = filesystem(store.uri(key))
        with suppress(Exception):
            abort_uploads(fs, path)
