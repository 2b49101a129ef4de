"""What plugins tell each other: frozen events that cross threads, processes and machines as JSON.

Every event is an upsert. Duplicates, replays, and a finish that arrives before its start are
harmless, so whoever emits needs to know nothing of what was emitted before.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import random
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

How = Literal["declared", "observed"]
RunStatus = Literal["started", "completed", "failed", "cancelled", "aborted", "cached", "skipped"]
TransformType = Literal["pipeline", "notebook", "script", "app", "function"]
LinkRole = Literal["cached_from", "informed_by"]


# asking the system for random bytes takes longer than all else that an event costs
_ids = random.Random()  # noqa: S311 - names, no secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def new_event_id() -> str:
    """Return 20 hex characters that no other process has, whatever the user seeds."""
    return f"{_ids.getrandbits(80):020x}"


@dataclass(frozen=True)
class InferredTransform:
    """What a plugin found to be running.

    Attributes:
        name: what people call it, such as ``analysis.py``.
        key: unique within the instance: git remote + path, or storage id + relative path, or an
            absolute path.
        type: the kind of thing that runs.
        source_hash: of its code; another hash is another version of the same transform.
        reference: where its code lies, a path or URL.
        title: a human's heading for it.
        new_run: whether each ``track()`` is a run of its own, or one session is one run.
        is_given: whether a user has named it: it is looked up by ``id``, else by name and type
            among those of the project, and ``version`` is the one wanted, None for the latest.
    """

    name: str
    key: str
    type: TransformType
    source_hash: str | None = None
    reference: str | None = None
    title: str | None = None
    new_run: bool = True
    is_given: bool = False
    id: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class FileStat:
    """What tells one content of a local file from the next: size in bytes, times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, path: str | os.PathLike[str] | int) -> FileStat | None:
        """Look at a path or an open descriptor; None when nothing is there."""
        try:
            return cls.from_result(os.stat(path))  # noqa: PTH116 - takes descriptors too
        except (OSError, ValueError):
            return None

    @classmethod
    def from_result(cls, found: os.stat_result) -> FileStat:
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes: at: when, timezone-aware UTC; event_id: of this very event, 20 hex characters.
    """

    hook: ClassVar[str]

    at: dt.datetime = field(default_factory=utc_now)
    event_id: str = field(default_factory=new_event_id)


@dataclass(frozen=True, kw_only=True)
class EnvironmentSeen(Event):
    """An interpreter and its packages; ``id`` is derived from both, so that each is kept once.

    Attributes: packages: name → version.
    """

    hook = "ln_environment_seen"

    id: str
    python: str
    packages: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """An attempt of a run began, before any of the user's code.

    Attributes:
        run: 20 characters, see :func:`lamindb.hooks.run_id`.
        engine: ``prefect``, ``snakemake``, ``plain``, …
        attempt: counted from 1; a retry is the next attempt of the same run.
        parent: id of the run inside which it began.
        params: JSON-able, secrets masked; see :func:`lamindb.hooks.describe_params`.
        user: handle, default: who works in this process.
        host, pid, process_started_at: the process whose death ends the run.
        reference, reference_type: the engine's own id or URL of it, and which of the two.
        environment: id of an :class:`EnvironmentSeen`.
        details: JSON-able, what the plugin knows beside.
    """

    hook = "ln_run_started"

    run: str
    engine: str
    attempt: int = 1
    transform: InferredTransform | None = None
    parent: str | None = None
    name: str | None = None
    params: dict[str, Any] | None = None
    user: str | None = None
    host: str | None = None
    pid: int | None = None
    process_started_at: dt.datetime | None = None
    reference: str | None = None
    reference_type: str | None = None
    environment: str | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """An attempt of a run ended.

    Attributes:
        details: join those of the start, key by key.
        result: where the engine keeps the result, for runs that will reuse it.
    """

    hook = "ln_run_finished"

    run: str
    status: RunStatus
    attempt: int = 1
    error: str | None = None
    details: dict[str, Any] | None = None
    result: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunLinked(Event):
    """A run took the result of another (``cached_from``), or a value of it (``informed_by``).

    Attributes:
        other: None where the engine knows only where it keeps the result; then it is the latest
            completed run of the same transform that ended with this ``result``.
    """

    hook = "ln_run_linked"

    run: str
    role: LinkRole
    other: str | None = None
    result: str | None = None


@dataclass(frozen=True, kw_only=True)
class _FileEvent(Event):
    """A run touched a file.

    Attributes:
        uri: absolute path or URL.
        how: whether it was declared, by the code or to the engine, or observed.
        stat: of a local file, at that moment: its bytes are hashed later, and only while this is
            still true of it.
        hash, hash_type, size: where the plugin had to read the bytes itself, as before a temporary
            file goes.
        hash_note: why there can be no hash.
    """

    run: str
    uri: str
    how: How = "observed"
    stat: FileStat | None = None
    size: int | None = None
    hash: str | None = None
    hash_type: str | None = None
    hash_note: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileRead(_FileEvent):
    """A run read a file."""

    hook = "ln_file_read"


@dataclass(frozen=True, kw_only=True)
class FileWritten(_FileEvent):
    """A run left these bytes, and is done with them.

    Attributes:
        copy: whether the bytes go into the instance's storage, rather than stay where they are.
        key: there; given, the bytes are copied.
        description: of the file, for people.
        reused: whether another run had left them, and this one only took its result: it is linked
            to what is recorded of these very bytes, and to nothing if they have changed.
    """

    hook = "ln_file_written"

    copy: bool = False
    reused: bool = False
    key: str | None = None
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileRetracted(Event):
    """What a run had written was taken back, as by the rollback of a transaction."""

    hook = "ln_file_retracted"

    run: str
    uri: str
    reason: str


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        EnvironmentSeen,
        RunStarted,
        RunFinished,
        RunLinked,
        FileRead,
        FileWritten,
        FileRetracted,
    )
}


def to_json(event: Event) -> str:
    """Return an event as one line of ASCII, without what has its default."""
    kind = type(event)
    defaults = _DEFAULTS[kind]
    values: dict[str, Any] = {"event": kind.__name__}
    for name, value in vars(event).items():
        if value is not None and value != defaults[name]:
            values[name] = value
    return _ENCODER.encode(values)


def from_json(line: str | bytes) -> Event | None:
    """Return the event of one line; None for a kind that only a newer version knows.

    Raises: ValueError: it is no event.
    """
    values = json.loads(line)
    if not isinstance(values, dict) or "event" not in values:
        raise ValueError(f"no event: {line[:80]!r}")
    kind = KINDS.get(values.pop("event"))
    if kind is None:
        return None
    readers = _readers(kind)
    try:
        return kind(
            **{name: readers[name](value) for name, value in values.items() if name in readers}
        )
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"no {kind.__name__}: {error}") from error


_DEFAULTS = {
    kind: {each.name: each.default for each in dataclasses.fields(kind)} for kind in KINDS.values()
}


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, InferredTransform | FileStat):
        return vars(value)
    raise TypeError(f"{value!r} is no JSON")


# made once: json.dumps makes one for each call that is not of the default form
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_plain)


_READERS: dict[type[Event], dict[str, Any]] = {}


def _readers(kind: type[Event]) -> dict[str, Any]:
    known = _READERS.get(kind)
    if known is None:
        hints = typing.get_type_hints(kind)
        known = _READERS[kind] = {
            each.name: _reader(hints[each.name]) for each in dataclasses.fields(kind)
        }
    return known


def _reader(hint: Any) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if dt.datetime in kinds:
        return dt.datetime.fromisoformat
    for kind in (InferredTransform, FileStat):
        if kind in kinds:
            names = {each.name for each in dataclasses.fields(kind)}
            return lambda value: kind(**{k: v for k, v in value.items() if k in names})
    return lambda value: value
