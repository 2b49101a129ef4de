"""A proxy on loopback, in front of an S3 server, that fails as networks and busy servers do."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

PART = 5 * 2**20

Kind = Literal[
    "busy",  # 503 SlowDown, as of a bucket with too many requests
    "broken",  # 500, of which botocore knows that it may be tried again
    "refused",  # the connection is closed before a byte is read
    "torn",  # the connection is closed after half of the request
    "unanswered",  # the request is done, and the connection closed without a word
    "cut",  # half of the answer's body comes through
    "slow",  # it takes a while
    "denied",  # 403
]
_ERRORS = {
    "busy": (503, "SlowDown", "Please reduce your request rate."),
    "broken": (500, "InternalError", "We encountered an internal error."),
    "denied": (403, "AccessDenied", "Access Denied"),
}


@dataclass
class Fault:
    """What happens to the next requests that match.

    Attributes: matches: pattern of ``METHOD /path?query``; times: how many, None for all of them;
        after: how many go through first; seconds: of a slow one.
    """

    kind: Kind
    matches: str = ""
    times: int | None = 1
    after: int = 0
    seconds: float = 0.3
    seen: int = 0

    def strikes(self, request: str) -> bool:
        if not re.search(self.matches, request):
            return False
        self.seen += 1
        number = self.seen - self.after
        return number > 0 and (self.times is None or number <= self.times)


@dataclass
class Proxy:
    """Attributes: url: what clients are given; requests: those that came, in order; struck: those
    that failed; stripped: headers that the server behind does not get to see; meddler: called
    after each request that was done, before its answer.
    """

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    stripped: frozenset[str] = frozenset()
    meddler: Callable[[str], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, *args: Any, **kwargs: Any) -> Fault:
        self.faults.append(Fault(*args, **kwargs))
        return self.faults[-1]

    def heal(self) -> None:
        self.faults.clear()

    def next_fault(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.strikes(request):
                    self.struck.append(request)
                    return fault
        return None


@contextmanager
def faulty(target: str) -> Iterator[Proxy]:
    """Run a proxy in front of a server in a thread of this process."""
    proxy = Proxy()

    class Handler(_Handler):
        state = proxy
        behind = urlsplit(target).netloc

    server = _Server(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients give up, too


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Proxy
    behind: str

    def log_message(self, *arguments: object) -> None:
        pass

    def _handle(self) -> None:
        fault = self.state.next_fault(f"{self.command} {self.path}")
        kind = fault.kind if fault is not None else None
        length = int(self.headers.get("Content-Length") or 0)
        if kind == "refused":
            return self._hang_up()
        if kind == "torn":
            self.rfile.read(length // 2)
            return self._hang_up()
        body = self._body(length)
        if kind in _ERRORS:
            return self._refuse(*_ERRORS[kind])
        if fault is not None and kind == "slow":
            time.sleep(fault.seconds)
        status, reason, headers, answer = self._forward(body)
        if self.state.meddler is not None:
            self.state.meddler(f"{self.command} {self.path}")
        if kind == "unanswered":
            return self._hang_up()
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        self.wfile.write(answer[: len(answer) // 2] if kind == "cut" else answer)
        return self._hang_up() if kind == "cut" else None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def _body(self, length: int) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(length)
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forward(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.behind, timeout=50)
        dropped = {"transfer-encoding", "connection", "expect", "content-length"}
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in dropped | self.state.stripped
        }
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kept = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection", "content-length")
        ]
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if size is not None and answer.status != 204:
            kept.append(("Content-Length", size))
        return answer.status, answer.reason, kept, content

    def _refuse(self, status: int, code: str, message: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def forget_connections() -> None:
    """Have clients of this process look at the environment again."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def unfinished_uploads(bucket: str, endpoint: str) -> list[Any]:
    import boto3

    # boto3's default session would keep the credentials of an earlier test
    client = boto3.Session().client("s3", endpoint_url=endpoint)
    answer = client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    return list(answer.get("Uploads", []))
