"""``snakemake`` from a process that has imported it: each costs half a second, not two and a half.

The child that is forked is the command from there on: it calls the command's own entry point, and
ends as an interpreter ends.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORTED = (
    "snakemake.cli",
    "snakemake.api",
    "snakemake.workflow",
    "snakemake.dag",
    "snakemake.executors.local",
    "snakemake.executors.dryrun",
    "snakemake.scheduling.job_scheduler",
    "snakemake.scheduling.greedy",
    "snakemake.report",
    # every command imports every plugin that is installed
    "snakemake_storage_plugin_s3",
    "snakemake_storage_plugin_fs",
    "snakemake_executor_plugin_cluster_generic",
    "smart_open",
    "requests",
    "reretry",
    "appdirs",
    "argparse_dataclass",
    "graphlib",
    "snakemake.profiles",
    "snakemake.storage",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.sqlite",
    "fsspec",
    "upath",
    "psutil",
    "pandas",
)


class WarmSnakemake:
    """Runs one command of Snakemake after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> Any:
        """Return exit code, stdout and stderr."""
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            request = [arguments, str(folder), environment, str(out), str(err)]
            assert self._process.stdin is not None and self._process.stdout is not None
            print(json.dumps(request), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return code, out.read_text(), err.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # another version keeps it elsewhere
    for line in sys.stdin:
        arguments, folder, environment, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            become(arguments, folder, environment, out, err)
            return
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.killpg(child, signal.SIGKILL))
        signal.alarm(55)
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(
    arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str
) -> None:
    """Be this command; returns never, or by SystemExit."""
    os.setsid()
    signal.alarm(0)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()


if __name__ == "__main__":
    serve()
