"""One Prefect server and one warm process for all tests of the plugin; scripts run in its children.

Prefect leaves sockets and threads behind, and tracking changes its classes: none of that belongs
into the process of the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_scripts import Runner, Server, Warm

import lamindb as ln


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            # a server takes its time to start on a busy machine, and says itself if it does not
            item.add_marker(pytest.mark.timeout(180, func_only=True))


@pytest.fixture(scope="session")
def _starting() -> Iterator[tuple[Server, Warm]]:
    """Start both at once: each takes many seconds."""
    home = Path(tempfile.mkdtemp(prefix="lamindb-prefect-"))
    port = _free_port()
    environment = {
        "PREFECT_HOME": str(home),
        # Prefect 3.4 looks for it in the home of the user
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
    address = ["--host", "127.0.0.1", "--port", str(port)]
    server = Server(environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"})
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", *address],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
    warm = Warm(server.environment)
    try:
        _wait_for(server, process, home / "server.log")
        yield server, warm
    finally:
        warm.close()
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            server.ask("health")
            return
        except OSError:
            assert process.poll() is None, f"it has ended:\n{log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, f"no answer:\n{log.read_text(errors='replace')}"
            time.sleep(0.2)


@pytest.fixture
def run(_starting: tuple[Server, Warm], tmp_path: Path) -> Iterator[Runner]:
    """Run scripts in a fresh folder that holds an instance."""
    server, warm = _starting
    warm.get_ready()
    ln.setup.init(storage="./mydata")
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    runner = Runner(warm, server, Path.cwd(), scripts)
    yield runner
    runner.close()
