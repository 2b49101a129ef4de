"""What a user may switch, for this process."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from lamindb.errors import SetupError

_TRUE = ("1", "true", "yes", "on")


@dataclass
class Settings:
    """What a user may switch, for this process: ``ln.settings``.

    Attributes:
        record_inputs: whether reading a File inside a tracked run makes it that run's input;
            ``LAMINDB_RECORD_INPUTS=0`` turns it off.
        observe: whether a tracked script's reads and writes are looked at; ``LAMINDB_OBSERVE=0``.
        strict: whether a failing plugin raises instead of being logged; ``LAMINDB_STRICT=1``.
        tracebacks: whether ``lamin`` shows where an unexpected error was; ``LAMINDB_TRACEBACK=1``.
        blocked_plugins: entry-point names that are not loaded; ``LAMINDB_BLOCK=a,b``.
        busy_timeout_s: how long to wait for a lock of the database or of a storage key.
        drain_timeout_s: how long the end of a process waits for its events to be recorded; what is
            left then is recorded at the next opening. ``LAMINDB_DRAIN_TIMEOUT``.
        cache_size_bytes: the staging cache is trimmed to this after each download.
        openlineage: file or URL to which runs are mirrored as OpenLineage events, and the key that
            the URL asks for; ``LAMINDB_OPENLINEAGE`` and ``LAMINDB_OPENLINEAGE_KEY``, read once.
    """

    record_inputs: bool = field(
        default_factory=lambda: _environment_flag("LAMINDB_RECORD_INPUTS", True)
    )
    observe: bool = field(default_factory=lambda: _environment_flag("LAMINDB_OBSERVE", True))
    strict: bool = field(default_factory=lambda: _environment_flag("LAMINDB_STRICT", False))
    tracebacks: bool = field(default_factory=lambda: _environment_flag("LAMINDB_TRACEBACK", False))
    blocked_plugins: frozenset[str] = field(
        default_factory=lambda: frozenset(
            filter(None, os.environ.get("LAMINDB_BLOCK", "").split(","))
        )
    )
    busy_timeout_s: float = field(
        default_factory=lambda: _environment_number("LAMINDB_BUSY_TIMEOUT", 60.0)
    )
    drain_timeout_s: float = field(
        default_factory=lambda: _environment_number("LAMINDB_DRAIN_TIMEOUT", 10.0)
    )
    cache_size_bytes: int = field(
        default_factory=lambda: int(_environment_number("LAMINDB_CACHE_SIZE", 50e9))
    )
    openlineage: str | None = field(
        default_factory=lambda: os.environ.get("LAMINDB_OPENLINEAGE") or None
    )
    openlineage_key: str | None = field(
        default_factory=lambda: os.environ.get("LAMINDB_OPENLINEAGE_KEY") or None, repr=False
    )


def _environment_flag(variable: str, default: bool) -> bool:
    value = os.environ.get(variable)
    return default if not value else value.strip().lower() in _TRUE


def _environment_number(variable: str, default: float) -> float:
    value = os.environ.get(variable)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SetupError(f"{variable}={value!r} is not a number: give one, or unset it")
    return number


settings = Settings()
