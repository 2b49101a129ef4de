"""From the start of a run to its end: what is declared, what is observed, what is told of it."""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lamindb import config
from lamindb.config import is_remote
from lamindb.errors import LaminError
from lamindb.hooks import FileRead, FileStat, FileWritten, emit
from lamindb.hooks.code import top_of
from lamindb.hooks.events import How
from lamindb.rules import Decision, Rules, compiled
from lamindb_plain import claims, observing, readers
from lamindb_plain.claims import Claims
from lamindb_plain.looks import MOST_ENTRIES, Look, changed, look
from lamindb_plain.observing import Observation, Read, regular

logger = logging.getLogger("lamindb")

CHILD = Path(__file__).parent / "child"
# folders that people call one file
_AS_ONE = re.compile(r"(.*?\.(?:zarr|n5|lance))(?:/.*)?\Z")
_EDITED = (
    ".py",
    ".ipynb",
    ".pyi",
    ".r",
    ".R",
    ".Rmd",
    ".qmd",
    ".jl",
    ".sh",
    ".smk",
    ".toml",
    ".md",
)
# the times of files are those of the kernel's last tick, up to so long ago
TICK_NS = 10_000_000
_WILD = re.compile(r"[*?\[]")


@dataclass
class Watch:
    """One run that is being observed.

    Attributes:
        root: where relative patterns start; outputs, inputs: declared patterns, absolute or URLs.
        before: what the folders held, None where nobody looks.
    """

    observation: Observation
    root: str
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    before: Look | None = None
    declared_before: Look = field(default_factory=Look)
    storage: str | None = None
    exports: bool = False


@dataclass(frozen=True)
class Written:
    """A file as the run left it; stat is None for a folder or URL."""

    stat: FileStat | None
    how: How


def rules_for(root: str, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Rules:
    """Return what counts for work in a folder: its repository, and the project of the instance."""
    folders = [str(top_of(Path(root)) or root)] if root else []
    try:
        project = config.configuration().project_folder
    except LaminError:
        project = None
    if project is not None:
        folders.append(str(project))
    # a home or a root is no project, unless an instance says so
    home = {str(Path.home()), os.path.abspath(os.sep)}  # noqa: PTH100
    kept = [each for each in folders if each not in home or each == str(project)]
    own = (config.state_dir(), config.cache_dir(), config.config_dir())
    return Rules(kept, include, exclude, base=root or None, never=own)


def begin(
    run: str,
    rules: Rules,
    root: str,
    *,
    outputs: tuple[str, ...] = (),
    inputs: tuple[str, ...] = (),
    is_main: bool,
    observe: bool = True,
    looks: bool = True,
    is_call: bool = False,
) -> Watch:
    """Begin to observe a run in this context; takes note of what is declared as input.

    Args: looks: whether to look at the project before and after, unless a run around does;
        is_call: whether it is the call of a function, which has no outputs if it does not return.
    """
    watch = Watch(
        Observation(run, rules),
        root,
        tuple(_absolute(each, root) for each in outputs),
        tuple(_absolute(each, root) for each in inputs),
        storage=_storage(),
    )
    watch.declared_before = look(_bases(watch.outputs), lambda _: True)
    for path in _matches(watch.inputs):
        if is_remote(path):
            emit(FileRead(run=run, uri=path, how="declared"))
        else:
            watch.observation.read(path, "declared")
    if not observe:
        return watch
    around = observing.current()
    if around is not None and around.pid == os.getpid():
        looks = False
    else:
        if is_main:
            watch.exports = True
            config.export_observer(claims.child_prefix(run), CHILD)
        # what is claimed here, a run around it in another process does not take for its own
        watch.observation.claims = Claims(
            run, rules.folders, rules.folders if looks else [], has_outputs=not is_call
        )
    if looks:
        watch.before = look(rules.folders, rules.may_hold)
        if not watch.before.is_complete:
            logger.info("only the first %d entries of the project are looked at", MOST_ENTRIES)
    observing.begin(watch.observation, is_main=is_main)
    readers.watch()
    return watch


def finish(
    watch: Watch,
    outputs: Iterable[str] = (),
    inputs: Iterable[str] = (),
    *,
    has_outputs: bool = True,
) -> None:
    """Tell of all files that a run has read and written.

    Args: outputs: paths that the run gave back; inputs: paths that it was given, and left alone;
        has_outputs: whether what it has written counts: of a call that failed, it does not.
    """
    observation = watch.observation
    observing.end(observation)
    if watch.exports:
        config.export_observer(config.observed_by_parent(), CHILD)
    for line in claims.child_accesses(observation.run):
        observation.merge(line)
    others = [each for each in claims.read() if each.run != observation.run]
    for path in inputs:
        if observation.rules.decide(path).counts:
            observation.read(path)
    written = dict(_written(watch, others))
    for path in outputs:
        if path not in observation.made and (now := regular(path)) is not None:
            written[path] = Written(now, "declared")
    reads = dict(_read(watch, others, written))
    if observation.outer is not None:
        observation.outer.made |= {*written, *observation.writes, *observation.made}
    if observation.claims is not None:
        observation.claims.end(list(written))
        claims.forget_children(observation.run)
    for event in events(observation, reads, written if has_outputs else {}):
        emit(event)


def _written(watch: Watch, others: list[claims.Claimed]) -> Iterator[tuple[str, Written]]:
    observation = watch.observation
    for path, before in list(observation.writes.items()):
        now = regular(path)
        if now is not None and now != before and observation.rules.decide(path).counts:
            yield path, Written(now, "observed")
    if watch.before is not None:
        after = look(observation.rules.folders, observation.rules.may_hold)
        for path, now in changed(watch.before, after).items():
            if path in observation.writes or path in observation.made:
                continue
            if path.endswith(_EDITED):
                continue  # people save such files while something runs
            if watch.storage is not None and path.startswith(f"{watch.storage}/"):
                continue  # what code puts there itself is seen, the rest is ours
            if any(each.may_have_written(path, now.ctime_ns) for each in others):
                continue
            if observation.rules.decide(path).counts:
                yield path, Written(now, "observed")
    for path in _matches(watch.outputs):
        stat = None if is_remote(path) else regular(path)
        if stat is None and not is_remote(path):
            continue
        if stat is None or stat != watch.declared_before.stat_of(path):
            yield path, Written(stat, "declared")


def _read(
    watch: Watch, others: list[claims.Claimed], written: dict[str, Written]
) -> Iterator[tuple[str, Read]]:
    observation, before = watch.observation, watch.before
    for path, read in observation.reads.items():
        if read.how == "observed" and before is not None and before.knew(path):
            is_new = path not in before.files
            if is_new and not any(path in each.written for each in others):
                continue  # a program that this run started made it
        yield path, read
    for path, read in observation.spawned.items():
        if path not in observation.reads and path not in written and regular(path) == read.stat:
            yield path, read


def events(
    observation: Observation, reads: dict[str, Read], written: dict[str, Written]
) -> Iterator[FileRead | FileWritten]:
    """Yield what is to be told of a run's files."""
    now, run = time.time_ns(), observation.run
    whole = {folder for path in written if (folder := _whole(path)) is not None}
    for path, read in reads.items():
        folder = _whole(path)
        if folder is None:
            size = read.stat.size
            yield FileRead(
                run=run, uri=path, how=read.how, at=read.at, stat=read.stat, size=size,
                hash=read.hash,
            )  # fmt: skip
        elif folder not in whole:
            whole.add(folder)
            yield FileRead(run=run, uri=folder, how=read.how, at=read.at)
    told = set()
    for path, final in written.items():
        uri = _whole(path) or path
        if uri in told:
            continue
        told.add(uri)
        changed_ns = final.stat.ctime_ns + TICK_NS if final.stat is not None else now
        yield FileWritten(
            run=run,
            uri=uri,
            how=final.how,
            at=_time(min(max(changed_ns, observation.started_ns), now)),
            stat=final.stat if uri == path else None,
        )


def _whole(path: str) -> str | None:
    found = None if is_remote(path) else _AS_ONE.match(path)
    return found[1] if found is not None and Path(found[1]).is_dir() else None


def _time(ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ns // 1000 / 1e6, dt.UTC)


def _storage() -> str | None:
    try:
        storage = config.configuration().storage
    except LaminError:
        return None
    return None if is_remote(storage) else storage


# --- what is declared -----------------------------------------------------------------------------


def _absolute(pattern: str, root: str) -> str:
    if is_remote(pattern):
        return pattern
    return os.path.normpath(Path(root) / Path(pattern).expanduser()) + (
        "/" if pattern.endswith("/") else ""
    )


def matching(pattern: str, root: str) -> list[str]:
    """Return the files that a declared pattern means now."""
    return _matches([_absolute(pattern, root)])


def decisions(rules: Rules) -> Iterator[tuple[str, Decision]]:
    """Yield each file of the project, and each folder that is left out as a whole."""
    left_out: dict[str, Decision] = {}

    def may_hold(folder: str) -> bool:
        decision = rules.of_folder(folder)[1]
        if decision is not None:
            left_out[f"{folder}/"] = decision
        return decision is None

    found = {path: rules.decide(path) for path in look(rules.folders, may_hold).files}
    yield from sorted({**left_out, **found}.items())


def _bases(patterns: Iterable[str]) -> list[str]:
    """Return the folders below which files may match."""
    bases = []
    for pattern in patterns:
        if is_remote(pattern):
            continue
        wild = _WILD.search(pattern)
        fixed = pattern.rstrip("/") if wild is None else pattern[: wild.start()]
        bases.append(fixed if Path(fixed).is_dir() else os.path.dirname(fixed) or "/")  # noqa: PTH120
    return bases


def _matches(patterns: Iterable[str]) -> list[str]:
    """Return the files that match, and URLs as they are."""
    found: dict[str, None] = {}
    for pattern in patterns:
        if is_remote(pattern) or (not _WILD.search(pattern) and Path(pattern).is_file()):
            found[pattern] = None
            continue
        matches = compiled(pattern, "/")
        for path in look(_bases([pattern]), lambda _: True).files:
            if matches(path):
                found[path] = None
    return list(found)
