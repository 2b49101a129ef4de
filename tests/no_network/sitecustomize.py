"""Refuse every address but loopback, in each Python that has this folder on PYTHONPATH.

pytest-socket does the same for the test process; this reaches the processes that tests
start, except those run with ``-I``, ``-E`` or ``-S``. It sees Python's own sockets, not the
ones that a C library opens. ``TEST_OWN_ADDRESSES`` names further addresses of this very host, for
what cannot be told to use loopback.
"""

import errno
import ipaddress
import os
import socket

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


def _is_local(host):
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    if host in os.environ.get("TEST_OWN_ADDRESSES", "").split(","):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified  # 0.0.0.0: what servers listen on


def _is_refused(sock, address):
    return sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0])


def _refusal(host):
    return f"tests reach loopback only, not {host!r}: serve it from 127.0.0.1"


def connect(sock, address):
    if _is_refused(sock, address):
        raise OSError(errno.ENETUNREACH, _refusal(address[0]))
    return _connect(sock, address)


def connect_ex(sock, address):
    if _is_refused(sock, address):
        raise OSError(errno.ENETUNREACH, _refusal(address[0]))
    return _connect_ex(sock, address)


def getaddrinfo(host, *args, **kwargs):
    if not _is_local(host):
        raise socket.gaierror(socket.EAI_FAIL, _refusal(host))
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = connect
socket.socket.connect_ex = connect_ex
socket.getaddrinfo = getaddrinfo
