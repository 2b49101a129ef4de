"""Folders on another machine, over SFTP: fsspec's client, and what it leaves to do."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from lamindb.config import FOLDER

SCHEMES = ("sftp", "ssh")

# a server that says nothing for so long is taken for gone
_CONNECT_S = 15.0
_ANSWER_S = 60.0
_FOLDER_TRIES = 50
# so many of 32 KiB are under way at once
_REQUESTS = 64


def sftp_filesystem(host: str) -> Any:
    """Return the filesystem of ``sftp://host`` for this thread, connected.

    A connection takes one request after the other, so each thread has its own; one that the server
    has ended is made anew.

    Raises: ImportError: paramiko is not there; what paramiko raises.
    """
    kind = _filesystem_class()
    fs = kind(**kind._get_kwargs_from_urls(f"sftp://{host}"))
    transport = fs.client.get_transport()
    if transport is None or not transport.is_active() or fs.ftp.get_channel().closed:
        fs._connect()
    return fs


@lru_cache
def _filesystem_class() -> Any:
    # both are slow to import, and paramiko need not be there
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class Folders(SFTPFileSystem):  # type: ignore[misc]
        """Makes the folders that a file needs, renames, and raises where a listing fails."""

        def __init__(self, host: str, **options: Any) -> None:
            for name in ("timeout", "banner_timeout", "auth_timeout"):
                options.setdefault(name, _CONNECT_S)
            super().__init__(host, **options)

        def _connect(self) -> None:
            policy = getattr(self, "host_key_policy", None) or paramiko.AutoAddPolicy()
            client = paramiko.SSHClient()
            # fsspec's own would take another key from a host that is known, too
            client.load_system_host_keys()
            client.set_missing_host_key_policy(policy)
            try:
                client.connect(self.host, **self.ssh_kwargs)
                ftp = client.open_sftp()
            except BaseException:
                client.close()  # it would be taken for a connection, without a login
                raise
            ftp.get_channel().settimeout(_ANSWER_S)
            self.client, self.ftp = client, ftp

        def makedirs(self, path: str, exist_ok: bool = False, mode: int = 0o777) -> None:
            # another process may make the same at the same time, for which there is no error of
            # its own, or one may not look into the folders above
            if self._is_folder(path):
                if not exist_ok:
                    raise FileExistsError(f"File exists: {path}")
                return
            parent = path.rstrip("/").rpartition("/")[0]
            if parent:
                self.makedirs(parent, exist_ok=True)
            try:
                self.ftp.mkdir(path, mode)
            except OSError:
                if not self._is_folder(path):
                    raise

        def _is_folder(self, path: str) -> bool:
            try:
                return bool(self.info(path)["type"] == "directory")
            except FileNotFoundError:
                return False

        def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            # one request after the other takes a way there and back for each 32 KiB
            if "r" in mode:
                stream = super()._open(path, mode, **options)
                stream.prefetch(max_concurrent_requests=_REQUESTS)
                return stream
            stream = self._in_folder(
                path, lambda: super(Folders, self)._open(path, mode, **options)
            )
            stream.set_pipelined(True)
            return stream

        def rename_whole(self, origin: str, target: str) -> None:
            """Move a file, or a folder with all that it holds, at once."""
            self._in_folder(target, lambda: self.ftp.posix_rename(origin, target))

        def _in_folder(self, path: str, act: Any) -> Any:
            # who removes a file takes the folder along that is empty then
            for tries_left in reversed(range(_FOLDER_TRIES)):
                try:
                    return act()
                except FileNotFoundError:
                    if not tries_left:
                        raise
                self.makedirs(path.rpartition("/")[0], exist_ok=True)
            return None

        def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
            found = [self._followed(info) for info in super().ls(path, detail=True)]
            return found if detail else sorted(info["name"] for info in found)

        def _followed(self, info: dict[str, Any]) -> dict[str, Any]:
            """Return what a link to a file leads to; one to a folder could lead to itself."""
            if info["type"] != "link":
                return info
            with suppress(FileNotFoundError):
                target = self.ftp.stat(info["name"])
                if stat.S_ISREG(target.st_mode or 0):
                    return {**self._decode_stat(target), "name": info["name"]}
            return info

        def find(self, path: str, detail: bool = False, **options: Any) -> Any:
            # fsspec's own takes a folder that cannot be listed for an empty one
            found = {info["name"]: info for info in self._below(path)}
            return found if detail else sorted(found)

        def _below(self, path: str) -> Iterator[dict[str, Any]]:
            try:
                info = self.info(path)
                if info["type"] != "directory":
                    yield info
                    return
                listed = self.ls(path, detail=True)
            except FileNotFoundError:
                return  # removed meanwhile
            for each in listed:
                if each["type"] == "directory":
                    yield from self._below(each["name"])
                else:
                    yield each

        def prune(self, path: str, root: str) -> None:
            """Remove the folders at a path, and above it as far as the root, that are empty."""
            with suppress(FileNotFoundError):
                for info in self.ls(path, detail=True) if self._is_folder(path) else []:
                    if info["type"] == "directory":
                        self.prune(info["name"], path)
            root = root.rstrip("/")
            own = f"{root}/{FOLDER}"
            while path.startswith(f"{root}/") and own not in (path, path.rpartition("/")[0]):
                try:
                    if self._is_folder(path):
                        self.ftp.rmdir(path)
                except OSError:
                    return  # not empty, or another process was first
                path = path.rpartition("/")[0]

    return Folders
