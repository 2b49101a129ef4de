"""The processes that tests start reach this machine only."""

import subprocess
import sys

import pytest

CONNECT = "import socket; socket.create_connection(({host!r}, {port}))"
CONNECT_EX = "import socket; socket.socket().connect_ex(({host!r}, {port}))"
RESOLVE = "import socket; socket.getaddrinfo({host!r}, {port})"
LOOPBACK = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(("localhost", server.getsockname()[1]))
server.accept()[0].sendall(b"heard")
print(client.recv(5).decode())
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    # The limit is what "at once" means: a real attempt on 192.0.2.1 hangs far longer.
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    ("code", "host"),
    [
        (CONNECT, "192.0.2.1"),
        (CONNECT, "2001:db8::1"),
        (CONNECT_EX, "192.0.2.1"),
        (RESOLVE, "192.0.2.1"),
        (RESOLVE, "example.com"),
        (CONNECT, "example.com"),
    ],
)
def test_a_child_is_refused_the_network_at_once(code: str, host: str) -> None:
    child = run_python(code.format(host=host, port=80))
    assert child.returncode == 1
    assert f"tests reach loopback only, not {host!r}" in child.stderr


def test_a_childs_child_is_refused_the_network_too() -> None:
    resolve = RESOLVE.format(host="example.com", port=80)
    child = run_python(f"import subprocess as s, sys; s.run([sys.executable, '-c', {resolve!r}])")
    assert "tests reach loopback only" in child.stderr


def test_a_child_may_talk_to_its_own_machine() -> None:
    child = run_python(LOOPBACK)
    assert child.stderr == ""
    assert child.stdout == "heard\n"
