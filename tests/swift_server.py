"""An S3 server that checks signatures: OpenStack Swift with its S3 API, on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KINDS = ("object", "container", "account")
SWIFT = """\
[swift-hash]
swift_hash_path_prefix = p
swift_hash_path_suffix = s
[storage-policy:0]
name = gold
default = yes
"""
STORAGE = """\
[DEFAULT]
{base}
bind_port = {port}
devices = {folder}/srv
mount_check = false
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {folder}/cache
"""
PROXY = """\
[DEFAULT]
{base}
bind_port = {port}
[pipeline:main]
pipeline = catch_errors s3api tempauth copy bulk slo dlo symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""
RING = """
import sys
from swift.common.ring import RingBuilder
for told in sys.argv[2:]:
    kind, port = told.split(":")
    ring = RingBuilder(4, 1, 0)
    ring.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=int(port), device="sdb1", weight=1.0,
                      meta="", replication_ip="127.0.0.1", replication_port=int(port)))
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


@dataclass(frozen=True)
class Server:
    url: str
    key: str = "test:tester"
    secret: str = "testing"


def is_installed() -> bool:
    return (Path(sys.executable).parent / "swift-proxy-server").exists()


@contextmanager
def swift() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="lnswift"))
    try:
        ports = dict(zip(("proxy", *KINDS), _free_ports(4), strict=True))
        _configure(folder, ports)
        started = []
        try:
            for kind in ports:
                with (folder / f"{kind}.log").open("wb") as log:
                    program = Path(sys.executable).parent / f"swift-{kind}-server"
                    command = [str(program), str(folder / f"{kind}.conf")]
                    started.append(subprocess.Popen(command, stdout=log, stderr=log))
            for port in ports.values():
                _wait_for(port, folder)
            yield Server(f"http://127.0.0.1:{ports['proxy']}")
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configure(folder: Path, ports: dict[str, int]) -> None:
    for name in ("srv/sdb1", "cache"):
        (folder / name).mkdir(parents=True)
    (folder / "swift.conf").write_text(SWIFT)
    base = (
        f"swift_dir = {folder}\nbind_ip = 127.0.0.1\nworkers = 0\nuser = {getpass.getuser()}\n"
        "log_level = ERROR"
    )
    for kind in KINDS:
        text = STORAGE.format(base=base, port=ports[kind], folder=folder, kind=kind)
        (folder / f"{kind}.conf").write_text(text)
    filters = "".join(
        f"[filter:{name}]\nuse = egg:swift#{name}\n"
        for name in ("catch_errors", "copy", "bulk", "slo", "dlo", "symlink")
    )
    (folder / "proxy.conf").write_text(PROXY.format(base=base, port=ports["proxy"]) + filters)
    subprocess.run(
        [sys.executable, "-c", RING, str(folder), *(f"{kind}:{ports[kind]}" for kind in KINDS)],
        check=True,
        env=os.environ | {"SWIFT_DIR": str(folder)},
    )


def _wait_for(port: int, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            logs = "".join(log.read_text() for log in folder.glob("*.log"))
            assert time.monotonic() < deadline, f"no answer:\n{logs}"
            time.sleep(0.1)
