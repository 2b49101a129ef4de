"""Scripts in processes of their own, the server they use, and what they leave in the records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import select

import lamindb as ln
from lamindb import instance
from lamindb.db import schema

HEADER = """\
import asyncio, json, os, sys, time
from pathlib import Path
import lamindb as ln
"""
IMPORTS = "from lamindb_prefect import flow, task, materialize\n"


@dataclass(frozen=True)
class Server:
    """A Prefect server; environment: what a process needs to use it."""

    environment: dict[str, str]

    @property
    def api(self) -> str:
        return self.environment["PREFECT_API_URL"]

    def ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}",
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read() or b"null")


@dataclass
class Script:
    """A script in a process of its own."""

    pid: int
    stdout: Path
    stderr: Path
    warm: Any
    code: int | None = None

    def wait(self, timeout_s: float = 50) -> int:
        deadline = time.monotonic() + timeout_s
        while self.code is None:
            self.code = self.warm.ask(poll=self.pid)["code"]
            if self.code is None and time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"it still runs:\n{self.out}{self.err}")
            time.sleep(0.02)
        return self.code

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        os.kill(self.pid, number)
        return self.wait()

    @property
    def out(self) -> str:
        return self.stdout.read_text()

    @property
    def err(self) -> str:
        return self.stderr.read_text()

    @property
    def told(self) -> Any:
        """What the script printed last, read as JSON."""
        return json.loads(self.out.splitlines()[-1])


class Warm:
    """The process that has Prefect imported."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self._is_ready = False

    def get_ready(self) -> None:
        if not self._is_ready:
            assert json.loads(self._read())["ready"] == self._process.pid
            self._is_ready = True

    def ask(self, **message: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Process:
    """A script that runs until it is stopped, and whatever it has started."""

    def __init__(self, path: Path, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, str(path)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


PREFECT = tuple(int(part) for part in version("prefect").split(".")[:2])


class Runner:
    """Runs scripts in the project's folder."""

    def __init__(self, warm: Warm, server: Server, folder: Path, scripts: Path) -> None:
        self._warm, self.server, self._folder, self._scripts = warm, server, folder, scripts
        self.environment = os.environ | server.environment
        self._started: list[Script] = []
        self._processes: list[Process] = []

    def __call__(self, code: str, *, imports: str = IMPORTS, **environment: str) -> Script:
        """Run a script to its end, which has to be a good one."""
        script = self.start(code, imports=imports, **environment)
        assert script.wait() == 0, script.out + script.err
        # what a busy machine left no time to record is recorded by the next opening
        ln.setup.close()
        return script

    def start(
        self, code: str, *, imports: str = IMPORTS, name: str = "flows.py", **environment: str
    ) -> Script:
        path = self._folder / name
        path.write_text(f"{HEADER}{imports}{textwrap.dedent(code)}")
        number = len(self._started)
        files = {each: str(self._scripts / f"{number}.{each}") for each in ("stdout", "stderr")}
        answered = self._warm.ask(
            script=str(path), cwd=str(self._folder), env=self.environment | environment, **files
        )
        script = Script(answered["pid"], Path(files["stdout"]), Path(files["stderr"]), self._warm)
        self._started.append(script)
        return script

    def process(self, code: str, **environment: str) -> Process:
        """Start a script as a user does."""
        path = self._folder / "process.py"
        path.write_text(f"{HEADER}{IMPORTS}{textwrap.dedent(code)}")
        process = Process(path, self.environment | environment, self._scripts / "process.log")
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.stop()
        for script in self._started:
            if script.code is None:
                os.killpg(script.pid, signal.SIGKILL)
                script.wait()


# --- what is recorded -----------------------------------------------------------------------------


def runs(transform: str) -> list[ln.Run]:
    """Return the runs of a transform, by its name, oldest first."""
    found = ln.select(ln.Run).order_by(ln.Run.started_at).all()
    return [each for each in found if each.transform and each.transform.name == transform]


def run_of(transform: str) -> ln.Run:
    (found,) = runs(transform)
    return found


def names(files: list[ln.File]) -> list[str]:
    return [each.name for each in files]


def linked(run: ln.Run) -> set[tuple[str, str]]:
    """Return role and id of the runs that a run is linked to."""
    table = schema.run_run
    with instance.current().database.read() as connection:
        query = select(table.c.role, table.c.other_id).where(table.c.run_id == run.id)
        return {(row.role, row.other_id) for row in connection.execute(query)}


def attempts(run: ln.Run) -> list[tuple[int, str, str | None]]:
    """Return number, status and error of a run's attempts."""
    table = schema.attempt
    with instance.current().database.read() as connection:
        query = select(table).where(table.c.run_id == run.id).order_by(table.c.number)
        return [(row.number, row.status, row.error) for row in connection.execute(query)]


def roles(run: ln.Run, role: str) -> list[str]:
    """Return the names of the files that a run is linked to in a role."""
    file, link = schema.file, schema.run_file
    with instance.current().database.read() as connection:
        query = (
            select(file.c.name)
            .join(link, link.c.file_id == file.c.id)
            .where(link.c.run_id == run.id, link.c.role == role)
            .order_by(file.c.name)
        )
        return list(connection.execute(query).scalars())


def how_known(run: ln.Run) -> dict[tuple[str, str], str]:
    """Return how each file of a run is known, by name and role."""
    file, link = schema.file, schema.run_file
    with instance.current().database.read() as connection:
        query = select(file.c.name, link.c.role, link.c.how).join(link, link.c.file_id == file.c.id)
        rows = connection.execute(query.where(link.c.run_id == run.id)).all()
    return {(row.name, row.role): row.how for row in rows}
