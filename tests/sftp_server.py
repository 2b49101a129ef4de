"""A real SFTP server on loopback, in a thread of this process, from the package asyncssh."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = "tester"
PASSWORD = "the password of the sftp server"
_CHANGES = ("mkdir", "remove", "rmdir", "rename", "posix_rename", "write")


class SFTPServer:
    """Serves one folder as its root.

    Attributes: folder: what clients see as ``/``; changes_left: so many changes it makes before it
    hangs up on everybody, and is down until it is started again; forbidden: the names of folders
    that it does not list; unsupported: the requests that it does not know.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.is_up = False
        self.changes_left: int | None = None
        self.forbidden: set[str] = set()
        self.unsupported: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        return f"sftp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Come up, at the same port as before."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    def stop(self) -> None:
        """End all connections and take no more."""

        async def stop() -> None:
            self.hang_up()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(30)

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        import asyncssh

        self._connections: set[Any] = set()
        self._server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _login(self._connections),
            sftp_factory=lambda channel: _files(self, channel),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            reuse_address=True,
        )
        self.port = self._server.get_port()
        self.is_up = True

    def hang_up(self) -> None:
        self.is_up = False
        self._server.close()
        for connection in self._connections:
            connection.abort()


def _login(connections: set[Any]) -> Any:
    import asyncssh

    class Login(asyncssh.SSHServer):
        def connection_made(self, connection: Any) -> None:
            connections.add(connection)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    return Login()


def _files(server: SFTPServer, channel: Any) -> Any:
    import asyncssh

    class Files(asyncssh.SFTPServer):
        def scandir(self, path: bytes) -> Any:
            if path.decode().rsplit("/", 1)[-1] in server.forbidden:
                raise asyncssh.SFTPPermissionDenied("Permission denied")
            return super().scandir(path)

        def __getattribute__(self, name: str) -> Any:
            if name in server.unsupported:
                raise asyncssh.SFTPOpUnsupported("Operation unsupported")
            if name in _CHANGES and server.changes_left is not None:
                server.changes_left -= 1
                if server.changes_left < 0:
                    server.hang_up()
                    raise asyncssh.SFTPConnectionLost("Connection lost")
            return super().__getattribute__(name)

    return Files(channel, chroot=str(server.folder).encode())


@contextmanager
def sftp_server(folder: Path) -> Iterator[SFTPServer]:
    server = SFTPServer(folder)
    try:
        yield server
    finally:
        server.end()
