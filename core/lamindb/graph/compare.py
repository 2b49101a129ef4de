"""``ln.diff``: what differs between two runs, as far as it is recorded."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from lamindb import display
from lamindb.db import schema
from lamindb.db.frames import TEXT, typed_frame
from lamindb.errors import RecordError
from lamindb.graph.model import Row, label
from lamindb.graph.references import first, rows, subject_of

if TYPE_CHECKING:
    import pandas as pd

What = Literal[
    "code",
    "params",
    "command line",
    "inputs",
    "outputs",
    "environment",
    "engine",
    "host",
    "directory",
    "status",
    "content",
]
# of these a run has one, which needs no other name
_SINGLE = ("command line", "engine", "host", "directory", "status")
_COLUMNS = {"what": TEXT, "name": TEXT, "before": TEXT, "after": TEXT}
_MOST_SHOWN = 20
# what plugins call the state of the code's repository, the command and where it ran, in run.details
_COMMITS = ("commit", "git_commit", "git_dirty", "dirty")
_COMMANDS = ("argv", "command")
_DIRECTORIES = ("directory", "workdir")


@dataclass(frozen=True)
class Change:
    """One thing that differs: of what kind, its name, and its values as text.

    Attributes: before, after: None where it was not there.
    """

    what: What
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        name = display.printable(self.name)
        if self.before is None:
            return f"{self.what}: {name} is new{_value(self.after)}"
        if self.after is None:
            return f"{self.what}: {name} is gone{_value(self.before)}"
        before, after = display.printable(self.before), display.printable(self.after)
        if self.what in _SINGLE:
            return f"{self.what}: {before} → {after}"
        return f"{self.what}: {name}: {before} → {after}"


@dataclass(frozen=True)
class Diff:
    """What differs between two runs.

    Attributes:
        before, after: rows of the runs.
        changes: in the order code, params, command line, inputs, environment, engine, host,
            directory, status, outputs.
        unknown: sentences about what is not recorded, and so may differ too.
    """

    before: Row
    after: Row
    changes: list[Change] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def df(self) -> pd.DataFrame:
        """Return one row a change: what, name, before, after, all strings."""
        return frame_of_changes(self.changes)

    def __str__(self) -> str:
        title = f"{_run_title(self.before)} → {_run_title(self.after)}"
        lines = lines_of(self.changes) or ["nothing that is recorded differs"]
        return "\n".join([title, *(f"  {line}" for line in [*lines, *self.unknown])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        html: str = self.df()._repr_html_()  # type: ignore[operator]
        return html


def diff(run_a: Any, run_b: Any) -> Diff:
    """Return what differs between two runs: code, params, inputs, environment, outputs.

    Args: run_a, run_b: Run records or ids; a File or Transform stands for its latest run.
    Raises: RecordError: nothing of that name is recorded, or no run of it.
    """
    before, after = _run_of(run_a), _run_of(run_b)
    found = compare(before, after)
    return Diff(before, after, [*found.changes, *_endings(before, after)], found.unknown)


def frame_of_changes(changes: list[Change]) -> pd.DataFrame:
    rows_ = ((each.what, each.name, each.before, each.after) for each in changes)
    return typed_frame(_COLUMNS, rows_)


def lines_of(changes: list[Change]) -> list[str]:
    lines = [str(each) for each in changes[:_MOST_SHOWN]]
    if len(changes) > _MOST_SHOWN:
        lines.append(f"… {len(changes) - _MOST_SHOWN:,} more differences")
    return lines


def _run_of(given: Any) -> Row:
    subject = subject_of(given)
    if subject.kind == "run":
        return subject.row
    made = maker(subject.row)
    if made is None:
        raise RecordError(f"no run is recorded that wrote {label(subject.row)}: give two runs")
    return made


def maker(file: Row) -> Row | None:
    """Return the run that wrote a file's content last."""
    link, run = schema.run_file, schema.run
    query = (
        select(run)
        .join(link, link.c.run_id == run.c.id)
        .where(link.c.file_id == file["id"], link.c.role == "output")
        .order_by(link.c.created_at.desc(), run.c.id)
        .limit(1)
    )
    found = first(query)
    if found is None and file["run_id"]:
        found = first(select(run).where(run.c.id == file["run_id"]))
    return found


# --- the parts ------------------------------------------------------------------------------------


@dataclass
class _Found:
    changes: list[Change] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def compare(self, what: What, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        for name in sorted({*old, *new}, key=str):
            before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
            if before != after:
                self.changes.append(Change(what, str(name), _shown(before), _shown(after)))


_ABSENT = object()


def compare(before: Row, after: Row) -> _Found:
    """Return what differs between what went into two runs."""
    found = _Found()
    _compare_code(found, before, after)
    _compare_params(found, before, after)
    _compare_commands(found, before, after)
    _compare_inputs(found, before, after)
    _compare_environments(found, before, after)
    name: Literal["engine", "host"]
    for name in ("engine", "host"):
        if before[name] != after[name] and before[name] and after[name]:
            found.compare(name, {name: before[name]}, {name: after[name]})
    old, new = directory_of(before), directory_of(after)
    if old and new:
        found.compare("directory", {"directory": old}, {"directory": new})
    return found


def _compare_code(found: _Found, before: Row, after: Row) -> None:
    old, new = _code(before), _code(after)
    if old is None or new is None:
        found.unknown.append("which code ran is not recorded of both runs")
    elif (old["id"], old["version"]) != (new["id"], new["version"]):
        is_same = old["id"] == new["id"]
        name = new["name"] if is_same else "transform"
        old_title, new_title = (_code_title(each, with_name=not is_same) for each in (old, new))
        found.compare("code", {name: old_title}, {name: new_title})
    elif old["source_hash"] is None:
        found.unknown.append(f"the code of {old['name']} has no recorded hash: it may differ")
    found.compare("code", _commits(before), _commits(after))


def _code(run: Row) -> Row | None:
    table = schema.transform
    return first(
        select(table).where(
            table.c.id == run["transform_id"], table.c.version == run["transform_version"]
        )
    )


def _code_title(transform: Row, *, with_name: bool) -> str:
    name = f"{transform['name']} " if with_name else ""
    digest = f" ({transform['source_hash']})" if transform["source_hash"] else ""
    return f"{name}version {transform['version']}{digest}"


def _commits(run: Row) -> dict[str, Any]:
    known = _facts(run)
    known += [facts["git"] for facts in known if isinstance(facts.get("git"), dict)]
    return {name: facts[name] for facts in known for name in _COMMITS if name in facts}


def _facts(run: Row) -> list[dict[str, Any]]:
    return [facts for facts in (run["details"] or {}).values() if isinstance(facts, dict)]


def _compare_params(found: _Found, before: Row, after: Row) -> None:
    if before["params"] is None and after["params"] is None:
        found.unknown.append("no params are recorded of either run")
    found.compare("params", before["params"] or {}, after["params"] or {})


def _compare_commands(found: _Found, before: Row, after: Row) -> None:
    old, new = command_of(before), command_of(after)
    if not (old and new):
        return
    # the code is compared already, wherever it lies
    old, new = ([PurePath(words[0]).name, *words[1:]] for words in (old, new))
    if not _say_params(old, new, before["params"] or {}, after["params"] or {}):
        name: Literal["command line"] = "command line"
        found.compare(name, {name: shlex.join(old)}, {name: shlex.join(new)})


def command_of(run: Row) -> list[str] | None:
    """Return the words of the command line that a run had of its own; a notebook's has none."""
    made = _code(run)
    if made is not None and made["type"] == "notebook":
        return None
    known = [facts.get(name) for facts in _facts(run) for name in _COMMANDS]
    return next((list(map(str, words)) for words in known if isinstance(words, list)), None)


def directory_of(run: Row) -> str | None:
    """Return the working directory of a run."""
    known = [facts.get(name) for facts in _facts(run) for name in _DIRECTORIES]
    return next((place for place in known if isinstance(place, str)), None)


def _say_params(
    old: list[str], new: list[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> bool:
    """Whether the words that differ only name or give params that differ."""
    changed = [
        name for name in {*before, *after} if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    return bool(gone or come) and all(
        _parts(word) <= _texts(changed, params)
        for words, params in ((gone, before), (come, after))
        for word in words
    )


def _parts(word: str) -> set[str]:
    """``--max-z=2.5`` → ``max_z``, ``2.5``."""
    if not word.startswith("-"):
        return {word}
    name, equals, value = word.lstrip("-").partition("=")
    return {name.replace("-", "_"), *([value] if equals else [])}


def _texts(names: list[str], params: Mapping[str, Any]) -> set[str]:
    """The names of params, and their values as a command line has them."""
    found = {name.replace("-", "_") for name in names}
    for name in names:
        value = params.get(name)
        found |= {str(each) for each in (value if isinstance(value, list) else [value])}
    return found


def _compare_inputs(found: _Found, before: Row, after: Row) -> None:
    old, new = files_of(before["id"], "input"), files_of(after["id"], "input")
    if not old and not new:
        found.unknown.append("no inputs are recorded of either run")
    _compare_files(found, "inputs", old, new)


def _compare_files(
    found: _Found, what: What, old: Mapping[str, Row], new: Mapping[str, Row]
) -> None:
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is not None and other is not None:
            if one["id"] == other["id"] or (one["hash"] and one["hash"] == other["hash"]):
                continue
            if one["hash"] is None or other["hash"] is None:
                found.unknown.append(f"the content of {name} is not known of both runs")
                continue
        found.changes.append(Change(what, name, _content(one), _content(other)))


def files_of(run_id: str, role: str) -> dict[str, Row]:
    """Return the files that a run read or wrote, by key or name; ``linked_at``: when."""
    link, file = schema.run_file, schema.file
    query = (
        select(file, link.c.created_at.label("linked_at"))
        .join(link, link.c.file_id == file.c.id)
        .where(link.c.run_id == run_id, link.c.role == role)
        .order_by(file.c.created_at)
    )
    return {label(row): row for row in rows(query)}


def _content(file: Row | None) -> str | None:
    return None if file is None else f"{file['hash'] or '?'} ({display.size(file['size'])})"


def _compare_environments(found: _Found, before: Row, after: Row) -> None:
    old, new = before["environment_id"], after["environment_id"]
    if old == new:
        if old is None:
            found.unknown.append("the environment is recorded of neither run")
        return
    table = schema.environment
    known = {row["id"]: row for row in rows(select(table).where(table.c.id.in_([old, new])))}
    if not all(each in known and known[each]["python"] for each in (old, new)):
        found.unknown.append("the environment is recorded of one run only")
        return
    found.compare("environment", {"python": known[old]["python"]}, {"python": known[new]["python"]})
    found.compare("environment", known[old]["packages"], known[new]["packages"])


def _endings(before: Row, after: Row) -> list[Change]:
    found = _Found()
    found.compare("status", {"status": before["status"]}, {"status": after["status"]})
    _compare_files(
        found, "outputs", files_of(before["id"], "output"), files_of(after["id"], "output")
    )
    return found.changes


def _shown(value: Any) -> str | None:
    return None if value is _ABSENT else display.show_value(value)


def _value(value: str | None) -> str:
    return f" ({display.printable(value)})" if value else ""


def name_of(run: Row) -> str:
    """What a person calls a run: its transform's name, else its own, else its id."""
    made = _code(run)
    return str((made["name"] if made else None) or run["name"] or run["id"])


def _run_title(run: Row) -> str:
    name = display.printable(name_of(run))
    return f"{name} {run['id']}, {display.minute(run['started_at']) or 'start unknown'}"
