"""Real workflows, run by the real ``snakemake`` in a folder of their own, and what was recorded."""

import atexit
import base64
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from warm_snakemake import WarmSnakemake

import lamindb as ln

BIN = Path(sys.executable).parent


@dataclass
class Done:
    """What a command left: exit code and console."""

    code: int
    out: str
    err: str


@dataclass
class Records:
    """All rows of an instance."""

    runs: list[dict[str, Any]]
    files: list[dict[str, Any]]
    links: list[dict[str, Any]]
    transforms: list[dict[str, Any]]
    attempts: list[dict[str, Any]]

    @property
    def workflow(self) -> dict[str, Any]:
        [found] = [run for run in self.runs if "workflow_id" in (run["details"] or {})]
        return found

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if "rule" in (run["details"] or {})]

    def job(self, name: str) -> dict[str, Any]:
        """The run of a rule, or of ``rule wildcard=value``."""
        found = [run for run in self.jobs if name in (run["name"], run["details"]["rule"])]
        assert len(found) == 1, (name, [run["name"] for run in self.jobs])
        return found[0]

    def file(self, key: str) -> dict[str, Any]:
        found = [file for file in self.files if file["key"] == key and file["is_latest"]]
        assert len(found) == 1, (key, [file["key"] for file in self.files])
        return found[0]

    def linked(self, run: dict[str, Any], role: str) -> set[str]:
        """Keys of a run's inputs or outputs."""
        keys = {file["id"]: file["key"] for file in self.files}
        return {
            keys[link["file_id"]]
            for link in self.links
            if link["run_id"] == run["id"] and link["role"] == role
        }

    def statuses(self) -> dict[str, str]:
        return {run["name"]: run["status"] for run in self.jobs}


@dataclass
class Project:
    """A folder with a Snakefile and an instance."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, **files: str) -> None:
        """Write files; in names, ``__`` stands for a slash and ``_`` for a dot."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def snakefile(self, text: str) -> None:
        (self.folder / "Snakefile").write_text(text)

    def start(
        self,
        *arguments: str,
        plugin: bool = True,
        prefix: Sequence[str] = (),
        **environment: str,
    ) -> Any:
        """Start the command in an interpreter of its own, and a session that can be signalled.

        Args: prefix: a command that runs the one which follows it.
        """
        return subprocess.Popen(
            [*prefix, *command(*arguments, plugin=plugin)],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, plugin: bool = True, **environment: str) -> Done:
        """Run the command to its end, in a process that is forked from one which has imported it.

        In the full run, in an interpreter of its own.
        """
        if os.environ.get("LAMINDB_TEST_FULL") == "1":
            return wait(self.start(*arguments, plugin=plugin, **environment))
        given = command(*arguments, plugin=plugin)
        return Done(*warm().run(given[1:], self.folder, self.environment | environment))

    def python(
        self, code: str, stdin: str = "", timeout_s: float = 150, **environment: str
    ) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=stdin,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @property
    def sqlite(self) -> Path:
        return self.folder / "mydata/.lamindb/lamindb.sqlite"

    def records(self) -> Records:
        """Everything recorded, also what killed processes have left in their spools."""
        ln.setup.load(str(self.folder))
        ln.select(ln.Run).count()
        with sqlite3.connect(self.sqlite) as connection:
            connection.row_factory = sqlite3.Row

            def rows(table: str) -> list[dict[str, Any]]:
                return [_row(row) for row in connection.execute(f"select * from {table}")]

            found = Records(
                *(rows(name) for name in ("run", "file", "run_file", "transform", "attempt"))
            )
        connection.close()
        return found


def command(*arguments: str, plugin: bool) -> list[str]:
    # jobs that are few need no solver
    options = ["--cores", "2", "--scheduler", "greedy", *arguments]
    return [str(BIN / "snakemake"), *options, *(["--logger", "lamindb"] if plugin else [])]


@cache
def warm() -> WarmSnakemake:
    started = WarmSnakemake()
    atexit.register(started.close)
    return started


def wait(process: Any, timeout_s: float = 150) -> Done:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"snakemake hangs:\n{out}\n{err}") from None
    return Done(process.returncode, out, err)


def new_project(folder: Path) -> Project:
    """Make a project with an instance, and an environment for its processes."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LAMINDB_")
    }
    environment |= {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "LAMINDB_USER": "testuser",
        "LAMINDB_CONFIG_DIR": str(home / "config"),
        "LAMINDB_CACHE_DIR": str(home / "cache"),
        "LAMINDB_STATE_DIR": str(home / "state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "lamindb", "init", "--storage", "./mydata"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return Project(folder, environment)


def md5(path: Path) -> str:
    """The hash of a file as lamindb says it, by code of the test's own."""
    digest = hashlib.md5(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _row(row: sqlite3.Row) -> dict[str, Any]:
    found = dict(row)
    for name in ("params", "details"):
        if isinstance(found.get(name), str):
            found[name] = json.loads(found[name])
    if isinstance(found.get("details"), dict):
        found["details"] = found["details"].get("snakemake", found["details"])
    return found
