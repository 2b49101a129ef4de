"""A PostgreSQL server of the tests' own, from the system's binaries, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Return where the newest server's programs are; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _version(program: Path) -> int:
    return int(program.parts[-3]) if program.parts[-3].isdecimal() else 0


class Server:
    """One cluster without a password, whose databases are copies of an empty instance's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = binaries()
        assert programs is not None
        self._programs = programs
        # the server refuses to run as root
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def url(self, name: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def create(self) -> None:
        if self._as_user:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.run(
            "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync",
            "-E", "UTF8", "--locale=C",
        )  # fmt: skip

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        options = (
            f"-k {self.folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off "
            "-c max_connections=300"
        )
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def restart(self) -> None:
        """End all sessions as a crash does, and come back."""
        self.stop("immediate")
        self.start()

    def database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"db_{uuid.uuid4().hex[:12]}"
        self.run("createdb", "-h", self.folder, "-U", "postgres", name)
        return self.url(name)

    def run(self, program: str, *arguments: str | Path) -> None:
        command = [*self._as_user, self._programs / program, *arguments]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/tmp"
        )


@contextmanager
def server() -> Iterator[Server]:
    """Run a server in a folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="lnpg", dir="/tmp"))
    running = Server(folder)
    try:
        running.create()
        running.start()
        try:
            yield running
        finally:
            if (running.data / "postmaster.pid").exists():
                running.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
