"""``lamin run -- COMMAND``: any program as a run, in events alone.

The command gets this process's terminal, streams and signals, and its exit code is ours: whatever
happens to the records, it runs as it would without us.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamindb import config, recorder
from lamindb.hooks import (
    InferredTransform,
    RunFinished,
    RunStarted,
    describe_params,
    emit,
    environment,
    manager,
    mask_arguments,
    mask_text,
    run_id,
    source_hash,
)
from lamindb.hooks.code import git_state
from lamindb.hooks.events import RunStatus
from lamindb.processes import start_time, this_process
from lamindb.rules import Rules
from lamindb_plain import accesses, current, telling
from lamindb_plain.calls import ENGINE
from lamindb_plain.code import code_key

logger = logging.getLogger("lamindb")

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*(?:\.exe)?")
# options of Python that take a value of their own
_PYTHON_VALUES = ("-W", "-X", "--check-hash-based-pycs")
_LARGEST_CODE = 10_000_000
# what a terminal sends to all processes in its foreground itself
_FROM_TERMINAL = ("SIGINT", "SIGQUIT")
_FORWARDED = (*_FROM_TERMINAL, "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_CANCELS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@dataclass(frozen=True)
class Command:
    """A command line and what is declared of it.

    Attributes: params: given by ``--param``, beside those that the command line says.
    """

    words: tuple[str, ...]
    name: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    params: tuple[str, ...] = ()

    @property
    def script(self) -> Path | None:
        """The file of code that it runs, None for a program that is only known by name."""
        words = self.words
        if _PYTHON.fullmatch(Path(words[0]).name):
            found = _python_script(words[1:])
            return found.resolve() if found is not None and found.is_file() else None
        own = Path(words[0])
        # a name alone is looked for on PATH
        return own.resolve() if own.is_file() and os.sep in words[0] else None

    @property
    def arguments(self) -> list[str]:
        """What follows the program, or the script that Python is given."""
        words = list(self.words)
        script = self.script
        if script is not None and _PYTHON.fullmatch(Path(words[0]).name):
            place = next(n for n, each in enumerate(words) if n and Path(each).resolve() == script)
            return words[place + 1 :]
        return words[1:]

    def transform(self) -> InferredTransform:
        script = self.script
        if script is None:
            name = Path(self.words[0]).name
            return InferredTransform(self.name or name, f"command:{self.name or name}", "app")
        is_python = script.suffix == ".py"
        return InferredTransform(
            name=self.name or script.name,
            key=code_key(script),
            type="script" if is_python else "pipeline",
            source_hash=_code_hash(script),
            reference=str(script),
        )

    def described_params(self) -> dict[str, Any]:
        """Return the options by name, the rest under ``args``; ``--param`` wins."""
        named = parsed_arguments(mask_arguments(self.arguments))
        for given in self.params:
            name, _, value = given.partition("=")
            try:
                named[name] = json.loads(value)
            except ValueError:
                named[name] = value
        return describe_params(named)


def _python_script(words: Sequence[str]) -> Path | None:
    skips = False
    for each in words:
        if skips:
            skips = False
        elif each in ("-c", "-m", "-"):
            return None
        elif each in _PYTHON_VALUES:
            skips = True
        elif not each.startswith("-"):
            return Path(each)
    return None


def _code_hash(path: Path) -> str | None:
    try:
        if path.stat().st_size > _LARGEST_CODE:
            return None
        return source_hash(path.read_bytes().decode(errors="replace"))
    except OSError:
        return None


def parsed_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return a command line as names and values, as far as they can be told.

    >>> parsed_arguments(["a.csv", "--n", "3", "--fast", "-x=1", "--", "b"])
    {'n': '3', 'fast': True, 'x': '1', 'args': ['a.csv', 'b']}
    """
    named: dict[str, Any] = {}
    rest: list[str] = []
    name: str | None = None
    only_rest = False
    for word in words:
        is_option = not only_rest and re.match(r"--?[A-Za-z]", word) is not None
        if word == "--" and not only_rest:
            only_rest, name = True, None
        elif is_option:
            option, equals, value = word.lstrip("-").partition("=")
            _add(named, option, value if equals else True)
            name = None if equals else option
        elif name is not None and not only_rest:
            former = named[name]
            named[name] = [*former[:-1], word] if isinstance(former, list) else word
            name = None
        else:
            rest.append(word)
    return {**named, **({"args": rest} if rest else {})}


def _add(named: dict[str, Any], name: str, value: Any) -> None:
    if name not in named:
        named[name] = value
    else:
        former = named[name]
        named[name] = [*(former if isinstance(former, list) else [former]), value]


# --- to run it ------------------------------------------------------------------------------------


def run(command: Command) -> int:
    """Run a command and record it; returns the exit code that a shell would give."""
    record = _Record(command)
    record.begin()
    code, died_of = _execute(command.words)
    record.end(code, died_of)
    recorder.close()
    return code


class _Record:
    """What is told of a command. Fails nothing: the command comes first."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self.run = run_id(ENGINE, uuid.uuid4().hex)
        self._watch: telling.Watch | None = None

    def begin(self) -> None:
        try:
            self._begin()
        except Exception as error:  # the command is to run, whatever is wrong here
            logger.warning("this run is not recorded as it should be: %r", error)

    def _begin(self) -> None:
        command, owner, folder = self._command, this_process(), os.getcwd()
        script = command.script
        details: dict[str, Any] = {
            "argv": mask_arguments(command.words),
            "directory": mask_text(folder),
        }
        git = git_state(script.parent if script is not None else Path(folder))
        if git is not None:
            details["git"] = git
        rules = telling.rules_for(folder, command.include, command.exclude)
        emit(
            RunStarted(
                run=self.run,
                engine=ENGINE,
                transform=command.transform(),
                name=command.name,
                parent=current.around(),
                params=command.described_params() or None,
                host=owner.host,
                pid=owner.pid,
                process_started_at=start_time(owner),
                environment=environment() if _is_own_python(command.words[0]) else None,
                details=details,
            )
        )
        config.export_run_id(self.run)
        self._watch = telling.begin(
            self.run,
            rules,
            folder,
            outputs=command.outputs,
            inputs=command.inputs,
            is_main=True,
        )
        for word in command.words[1:]:
            for each in accesses.words_of(word):
                path = os.path.abspath(each)
                if os.path.isfile(path) and Path(path) != script:
                    self._watch.observation.see(accesses.SPAWN, path, None)

    def end(self, code: int, died_of: int | None) -> None:
        try:
            if self._watch is not None:
                telling.finish(self._watch)
            status, error = _meaning(code, died_of)
            emit(RunFinished(run=self.run, status=status, error=error))
        except Exception as error:  # its exit code is what is asked for
            logger.warning("this run is not recorded as it should be: %r", error)


def _meaning(code: int, died_of: int | None) -> tuple[RunStatus, str | None]:
    if died_of is not None:
        name = signal.Signals(died_of).name
        if died_of in _CANCELS:
            return "cancelled", name
        return ("aborted" if name == "SIGKILL" else "failed"), name
    return ("completed", None) if code == 0 else ("failed", f"exit code {code}")


def _is_own_python(program: str) -> bool:
    found = shutil.which(program)
    return found is not None and Path(found).absolute() == Path(sys.executable).absolute()


def _execute(words: Sequence[str]) -> tuple[int, int | None]:
    """Run a command here; returns the exit code as a shell has it, and the signal it died of."""
    started = time.monotonic()
    with _forwarding() as forward_to:
        try:
            child = subprocess.Popen(list(words), env=_child_environment())
        except FileNotFoundError:
            sys.stderr.write(f"lamin: {words[0]}: command not found\n")
            return 127, None
        except OSError as error:
            sys.stderr.write(f"lamin: {words[0]}: {error.strerror}\n")
            return 126, None
        forward_to(child)
        code = child.wait()
    logger.debug("the command took %.3f s", time.monotonic() - started)
    return (code, None) if code >= 0 else (128 - code, -code)


def _child_environment() -> dict[str, str]:
    found = dict(os.environ)
    for wanted in manager.every("ln_command_environment"):
        found |= wanted
    return found


@contextmanager
def _forwarding() -> Iterator[Any]:
    """Pass on signals that are meant for the command; those ignored here it ignores itself."""
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        if not children:
            early.append(number)
        elif not (signal.Signals(number).name in _FROM_TERMINAL and _is_in_foreground()):
            children[0].send_signal(number)

    def forward_to(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in early:
            child.send_signal(number)

    former = {}
    for name in _FORWARDED:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            former[number] = signal.signal(number, on_signal)
    try:
        yield forward_to
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """Whether the terminal sends its signals to the command as well."""
    for stream in (0, 1, 2):
        with suppress(OSError, AttributeError):
            return os.tcgetpgrp(stream) == os.getpgrp()
    return False


# --- to say what would be recorded ----------------------------------------------------------------

MOST_SHOWN = 200


def plan(command: Command) -> Iterator[str]:
    """Yield lines that say what would be recorded of a command, and which files count."""
    folder = os.getcwd()
    rules = telling.rules_for(folder, command.include, command.exclude)
    made = command.transform()
    yield f"would run  {' '.join(mask_arguments(command.words))}"
    yield f"transform  {made.name} ({made.type}), key {made.key}"
    yield f"params     {json.dumps(command.described_params(), ensure_ascii=False)}"
    for what, patterns in (("input", command.inputs), ("output", command.outputs)):
        for pattern in patterns:
            found = telling.matching(pattern, folder)
            yield f"{what:<9}  {pattern}: matches {len(found)} files now, declared"
    yield from _decisions(rules)


def _decisions(rules: Rules) -> Iterator[str]:
    yield f"observed   files in {', '.join(rules.folders) or 'no folder'}"
    for number, (path, decision) in enumerate(telling.decisions(rules)):
        if number == MOST_SHOWN:
            yield "…"
            return
        yield f"  {'counts' if decision.counts else 'not   '}  {path}  ({decision.why})"
