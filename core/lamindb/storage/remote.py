"""What lies behind URLs, through fsspec: what is there, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, cast

from lamindb.errors import (
    DataChangedError,
    DataError,
    DataMissingError,
    DataTypeError,
    DataUnreadableError,
    LaminError,
    PackageMissingError,
    StorageUnreachableError,
)
from lamindb.storage.sftp import SCHEMES, sftp_filesystem
from lamindb.storage.silence import give_up_on_silence
from lamindb.threads import is_ending, serve_at_exit

# Tries of botocore, and of s3fs around it. Their own 5 times 5 keep a user waiting for 45 s.
S3_ATTEMPTS = 3
S3_RETRIES = 3
_S3 = ("s3://", "s3a://")
# by which S3 says that it would have done it at another time
_PASSING = frozenset(
    (
        *("SlowDown", "ServiceUnavailable", "InternalError", "OperationAborted"),
        *("RequestTimeout", "RequestTimeTooSkewed", "Throttling", "ThrottlingException"),
        *("500", "502", "503", "504"),
    )
)
_NETWORK = frozenset(
    (
        *("HTTPClientError", "ConnectionError", "ClientError"),
        *("NoValidConnectionsError", "SSHException", "EOFError", "gaierror"),
    )
)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path in it.

    fsspec caches filesystems by process and thread, so this is cheap and safe after a fork; one
    must not be kept.

    Raises: DataTypeError: nothing is known that reads such a URL; PackageMissingError.
    """
    try:
        return _filesystem(url)
    except ImportError as error:
        raise PackageMissingError(
            f"{url} cannot be reached ({error}): install what reads it, for S3 and SFTP as in "
            "pip install 'lamindb-workflows[s3,sftp]'"
        ) from error
    except ValueError as error:
        raise DataTypeError(
            f"{url} cannot be reached ({error}): give a path, or a URL that fsspec reads, such as "
            "s3://, gs://, az://, https://"
        ) from error


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    # a listing that another process has outdated would hide objects
    options: dict[str, Any] = {}
    if url.startswith((*_S3, "gs://")):
        options["use_listings_cache"] = False
    if url.startswith(_S3):
        options |= _s3_options()
    if re.search(r"::[A-Za-z][A-Za-z0-9+.-]*://", url):
        fs, path = url_to_fs(url, **options)  # a chain such as zip://a.csv::s3://bucket/b.zip
        return fs, str(path)
    # the path goes past fsspec's reading of URLs: '::' may be part of a name
    scheme, _, rest = url.partition("://")
    first, slash, below = rest.partition("/")
    if scheme.lower() in SCHEMES:
        with explaining(url):  # it connects at once
            return sftp_filesystem(first), f"/{below}".rstrip("/") or "/"
    fs, base = url_to_fs(f"{scheme}://{first}", **options)
    if is_ending() and getattr(fs, "loop", None) is not None:
        serve_at_exit(fs.loop)
    if url.startswith(_S3):
        fs.retries = S3_RETRIES
        give_up_on_silence(fs)
    return fs, f"{str(base).rstrip('/')}{slash}{below}".rstrip("/")


def _s3_options() -> dict[str, Any]:
    """Say how often to try, unless the user has said it: AWS_MAX_ATTEMPTS, AWS_RETRY_MODE, or the
    settings of fsspec."""
    from fsspec.config import conf

    given = dict(conf.get("s3", {}).get("config_kwargs", {}))
    if "retries" not in given and not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & os.environ.keys():
        given["retries"] = {"mode": "standard", "total_max_attempts": S3_ATTEMPTS}
    return {"config_kwargs": given} if given else {}


def files_below(fs: Any, path: str, is_directory: bool | None = None) -> list[str]:
    """Return the path itself if it is a file, else the files in that folder.

    fsspec takes ``*?[`` in names for wildcards when it works recursively, not for one file.

    Args: is_directory: which of the two is meant, where an object store may have both.
    """
    if is_directory is None:
        is_directory = kind_at(fs, path) == "directory"
    if not is_directory:
        return [path]
    return [str(name) for name in fs.find(path) if str(name).startswith(f"{path.rstrip('/')}/")]


def rename_or_copy(fs: Any, origin: str, target: str, is_directory: bool | None) -> None:
    """Put an object at another path, too; where the store renames, only there, at once."""
    if hasattr(fs, "rename_whole"):
        fs.rename_whole(origin, target)
        return
    for name in files_below(fs, origin, is_directory):
        fs.cp_file(name, target + name[len(origin) :])


def kind_at(fs: Any, path: str) -> Literal["file", "directory"] | None:
    """Return what lies at a path, the file where there are both; None for nothing.

    Unlike fsspec's ``isfile`` and ``exists``, does not take an error for an answer.
    """
    try:
        return cast(Literal["file", "directory"], fs.info(path)["type"])
    except FileNotFoundError:
        return None


def info_at(url: str) -> dict[str, Any]:
    """Return what a store says of an object.

    Raises: DataMissingError; DataUnreadableError; StorageUnreachableError; DataError.
    """
    fs, path = filesystem(url)
    with explaining(url):
        return cast(dict[str, Any], fs.info(path))


def md5_of(info: dict[str, Any]) -> bytes | None:
    """Return the MD5 of an object that was uploaded in one part, where its store says it."""
    tag = re.fullmatch('"?([0-9a-f]{32})"?', str(info.get("ETag", "")))
    return bytes.fromhex(tag[1]) if tag else None


@contextmanager
def explaining(url: str) -> Iterator[None]:
    """Turn what goes wrong while a URL is read into an error that says it."""
    try:
        yield
    except (LaminError, ImportError):
        raise
    except FileNotFoundError as error:
        raise DataMissingError(
            f"nothing lies at {url}: check the path and the working directory"
        ) from error
    except Exception as error:  # any library may raise anything: botocore's errors are no OSError
        if isinstance(error, PermissionError) or lacks_credentials(error):
            raise DataUnreadableError(
                f"{url} may not be read ({error}): check the credentials in the environment"
            ) from error
        if is_passing(error):
            raise unreachable(url, error) from error
        if type(error).__name__ == "FileExpired" or code_of(error) == "PreconditionFailed":
            raise DataChangedError(f"{url} was written to while it was read: try again") from error
        raise DataError(
            f"{url} cannot be looked at ({type(error).__name__}: {error}): check the network and "
            "the credentials in the environment"
        ) from error


def unreachable(what: str, error: BaseException) -> StorageUnreachableError:
    return StorageUnreachableError(
        f"{what} cannot be reached, or its server is too busy ({_reason(error)}): check the "
        "network and the endpoint, or try again later"
    )


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at another time: the network's, or a busy server's."""
    if code_of(error) in _PASSING or isinstance(error, TimeoutError | ConnectionError):
        return True
    if lacks_credentials(error):
        return False
    if isinstance(getattr(error, "response", None), dict):
        return False  # the server has answered
    # of botocore, aiohttp and paramiko, which need not be there
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _NETWORK) or str(error) == "Socket is closed"  # paramiko's, an OSError


def lacks_credentials(error: BaseException) -> bool:
    """Whether there are no credentials to use, not those that were told, or none that a server
    takes: of botocore and paramiko."""
    return type(error).__name__ in (
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError"),
        *("AuthenticationException", "BadAuthenticationType", "PasswordRequiredException"),
        "BadHostKeyException",
    ) or str(error).startswith("No authentication methods available")


def code_of(error: BaseException) -> str:
    """Return the code by which S3 says why it refused; s3fs hides it behind a builtin error."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _reason(error: BaseException) -> str:
    code = code_of(error)
    return f"it answered {code}" if code else f"{type(error).__name__}: {error}"


class ExplainingStream:
    """A stream from behind a URL, whose errors say what they mean."""

    def __init__(self, url: str, fs: Any, path: str) -> None:
        self._url = url
        with explaining(url):
            self._stream = fs.open(path, "rb")

    def readinto(self, buffer: Any) -> int:
        with explaining(self._url):
            return int(self._stream.readinto(buffer))

    def read(self, size: int = -1) -> bytes:
        with explaining(self._url):
            return bytes(self._stream.read(size))

    def __enter__(self) -> BinaryIO:
        return cast(BinaryIO, self)

    def __exit__(self, *error: object) -> None:
        self._stream.close()
