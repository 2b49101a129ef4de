"""Files in a storage that the submitting host has no copy of: jobs elsewhere made or read them.

Nothing large is downloaded to be hashed: an object store says what the MD5 of most objects is.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from lamindb import config
from lamindb.errors import LaminError
from lamindb.storage.hashing import FILE_HASH, encode
from lamindb.storage.sources import LocalSource, digest
from lamindb_snakemake.contents import Content

# what was uploaded in parts, or is encrypted with a key of its own, is read up to this size
MOST_READ_BYTES = 64 * 2**20

GONE = "it was gone from its storage before it could be read"
UNREAD = (
    "it is in its storage alone, which does not say its hash, and too large to be read from here"
)


class Far:
    """A file in a storage of Snakemake's, which Snakemake's own client asks for it."""

    def __init__(self, file: Any, uri: str) -> None:
        self._uri = uri
        self._find: Any = getattr(getattr(file, "storage_object", None), "s3obj", None)

    def read(self) -> Content:
        """Ask for its hash, or read it."""
        try:
            if not config.is_remote(self._uri):
                found = digest(LocalSource(self._uri))
                return Content(found.hash, found.type, found.size)
            if self._find is not None:
                return _of_s3(self._find())
        except (OSError, LaminError) as error:
            return Content(None, note=f"it could not be read: {error}"[:500])
        except Exception as error:  # whatever a client of a storage raises
            code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
            is_gone = code in ("404", "NoSuchKey")
            return Content(None, note=GONE if is_gone else f"it could not be read: {error}"[:500])
        return Content(None, note="it is in its storage alone, where it could not be read")


def _of_s3(found: Any) -> Content:
    """Return what an S3 object holds; of one that is no file, as a folder, nothing is known.

    Args: found: boto3's Object, whose client, unlike itself, threads may share.
    """
    client, place = found.meta.client, {"Bucket": found.bucket_name, "Key": found.key}
    said = client.head_object(**place)
    size = int(said["ContentLength"])
    tag = re.fullmatch('"?([0-9a-f]{32})"?', said.get("ETag", ""))
    # of what such a key has encrypted, the tag is no MD5
    has_own_key = said.get("SSEKMSKeyId") or said.get("SSECustomerAlgorithm")
    if tag is not None and not has_own_key:
        return Content(encode(bytes.fromhex(tag[1])), FILE_HASH, size)
    if size > MOST_READ_BYTES:
        return Content(None, size=size, note=UNREAD)
    md5 = hashlib.md5(usedforsecurity=False)
    for chunk in client.get_object(**place, IfMatch=said["ETag"])["Body"].iter_chunks(1 << 20):
        md5.update(chunk)
    return Content(encode(md5.digest()), FILE_HASH, size)
