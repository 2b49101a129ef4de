"""What is kept of parameters, arguments and messages: JSON-able, bounded, without secrets.

Every plugin passes what it keeps through here, so that there is one place to mask a secret.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Any

MASK = "***"
LONGEST_TEXT = 2_000
MOST_ITEMS = 50
DEEPEST = 5
LARGEST_BYTES = 64_000

_SECRET_WORDS = {
    "apikey", "auth", "authorization", "bearer", "cookie", "cookies", "credential", "credentials",
    "passphrase", "passwd", "password", "passwords", "pwd", "secret", "secrets", "token", "tokens",
}  # fmt: skip
# a key alone is a place in storage or in a dict
_KEY_OF = {"access", "account", "api", "encryption", "private", "secret", "session", "signing"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_USERINFO = re.compile(r"(?<=://)[^\s/@?#'\"]+@")
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z][\w.-]*)(?P<sep>=|:\s?)(?!//)(?P<value>[^\s&;,'\"]+)")
# the word after the name only says of what kind the secret is
_HEADER = re.compile(
    r"(?P<name>\bauthorization)(?P<sep>\s*[:=]\s*)(?:bearer|basic|token)\s+[^\s&;,'\"]+",
    re.IGNORECASE,
)
_KNOWN = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}"
    r"|sk-[\w-]{20,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})"
)


def is_secret_name(name: str) -> bool:
    """Whether what is called so is not for others: ``api_key``, ``--token``, ``dbPassword``.

    >>> [is_secret_name(name) for name in ("db_password", "author", "sort_key", "API_KEY")]
    [True, False, False, True]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or (bool(words) and words[-1] == "pass")
        or any(word in ("key", "keys") and before in _KEY_OF for before, word in pairwise(words))
    )


def mask_text(text: str) -> str:
    """Return text without credentials in URLs, ``name=secret`` pairs and tokens of known shape.

    >>> mask_text("postgresql://me:pw@host/db?sslpassword=x")
    'postgresql://***@host/db?sslpassword=***'
    """
    if "@" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    if "=" in text or ":" in text:
        text = _HEADER.sub(rf"\g<name>\g<sep>{MASK}", text)
        text = _ASSIGNED.sub(_mask_assigned, text)
    return _KNOWN.sub(MASK, text)


def _mask_assigned(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]):
        return found[0]
    return f"{found['name']}{found['sep']}{MASK}"


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line without the values of secret options.

    >>> mask_arguments(["run", "--token", "abc", "--n=3"])
    ['run', '--token', '***', '--n=3']
    """
    masked: list[str] = []
    hides_next = False
    for argument in arguments:
        is_option = argument.startswith("-")
        masked.append(MASK if hides_next and not is_option else mask_text(argument))
        hides_next = is_option and "=" not in argument and is_secret_name(argument)
    return masked


def describe_error(error: BaseException) -> str:
    """Return an exception as one line, its type and message, secrets masked."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception's own code may raise anything
        text = "<its message cannot be shown>"
    name = type(error).__name__
    return _text(mask_text(f"{name}: {text}" if text else name))


def describe_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON-able values: secrets masked, the large and the opaque summarised.

    Looks at no more than 50 items of a container and 5 levels down, copies no data and calls no
    ``repr`` of anything that may be large.
    """
    described = {
        _text(str(name)): MASK if is_secret_name(str(name)) else describe(value)
        for name, value in params.items()
    }
    if _size(described) > LARGEST_BYTES:
        room = LARGEST_BYTES // max(len(described), 1)
        described = {
            name: value if _size(value) <= room else f"<{_size(value):,} bytes as JSON>"
            for name, value in described.items()
        }
    return described


def describe(value: Any, depth: int = 0) -> Any:
    """Return one value as :func:`describe_params` does."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return describe(value.value, depth)
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else f"<{value.bit_length()}-bit int>"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return _text(mask_text(value[: LONGEST_TEXT + 1]), len(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{type(value).__name__}, {len(value):,} bytes>"
    if isinstance(value, PurePath):
        return _text(mask_text(str(value)))
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if depth >= DEEPEST:
        return f"<{_kind(value)}>"
    return _describe_object(value, depth)


def _describe_object(value: Any, depth: int) -> Any:
    if "secret" in type(value).__name__.lower():
        return MASK
    try:
        shape = getattr(value, "shape", None)
        if shape == () and type(value).__module__ == "numpy":
            return describe(value.item(), depth + 1)
        if shape is not None:
            return f"<{_kind(value)} {'x'.join(str(each) for each in shape)}>"
        if isinstance(value, Mapping):
            return _describe_mapping(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return _describe_items(value, len(value), depth)
        if is_dataclass(value) and not isinstance(value, type):
            own = {each.name: getattr(value, each.name, None) for each in fields(value)}
            return _describe_mapping(own, depth)
        if isinstance(getattr(type(value), "model_fields", None), dict):  # pydantic
            own = {name: getattr(value, name, None) for name in type(value).model_fields}
            return _describe_mapping(own, depth)
        if callable(value):
            name = getattr(value, "__qualname__", None)
            return f"<{value.__module__}.{name}>" if name else f"<{_kind(value)}>"
        own_repr: object = type(value).__repr__
        if hasattr(value, "__len__") or own_repr is object.__repr__:
            return f"<{_kind(value)}>"
        return _text(mask_text(repr(value)[:200]))
    except Exception:  # a user's object may raise from anything that is asked of it
        return f"<{_kind(value)}>"


def _describe_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for number, (name, item) in enumerate(value.items()):
        if number == MOST_ITEMS:
            described["…"] = f"{len(value) - MOST_ITEMS:,} more"
            break
        text = _text(str(name)[:200])
        described[text] = MASK if is_secret_name(text) else describe(item, depth + 1)
    return described


def _describe_items(value: Iterable[Any], count: int, depth: int) -> list[Any]:
    described = []
    for number, item in enumerate(value):
        if number == MOST_ITEMS:
            described.append(f"… {count - MOST_ITEMS:,} more")
            break
        described.append(describe(item, depth + 1))
    return described


def _text(text: str, length: int | None = None) -> str:
    length = len(text) if length is None else length
    if length > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({length:,} characters)"
    # no database keeps these
    return text.replace("\0", r"\x00").encode(errors="backslashreplace").decode()


def _kind(value: Any) -> str:
    return type(value).__name__


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False))
