"""How the code of a job knows its run: a variable in the environment of the job's own processes.

Jobs run in threads of one process, which share ``os.environ``; so each child is given its own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any

# the run of a job; of a group that is submitted as one, ``<job>=<run>`` of each member
VARIABLE = "LAMINDB_SNAKEMAKE"
PARENT = "LAMINDB_RUN"
INSTANCE = "LAMINDB_INSTANCE"
_MOST_MEMBERS = 1_000

Environment = Mapping[str, str]


class NotStartedError(Exception):
    """A job's command is not to be run: those of the others have just been interrupted."""


def job_name(rule: str, wildcards: Mapping[str, Any]) -> str:
    """Return 12 characters that name a job in every process of its workflow."""
    named = [rule, *(f"{name}={value}" for name, value in sorted(wildcards.items()))]
    return hashlib.sha256("\0".join(named).encode()).hexdigest()[:12]


def variables(run: str, members: Mapping[str, str], instance: str | None) -> dict[str, str]:
    """Return the variables of a job's processes.

    Args: run: of the job, or of the workflow where several are submitted as one; members: name of
        a job → its run, of those.
    """
    given = {PARENT: run, VARIABLE: run}
    if members:
        some = list(members.items())[:_MOST_MEMBERS]
        given[VARIABLE] = ",".join(f"{name}={member}" for name, member in some)
    if instance:
        given[INSTANCE] = instance
    return given


def exports(given: Environment) -> str:
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())


# --- asked inside of a job ------------------------------------------------------------------------

# the runs of the jobs that this process executes, where it is the one that records
run_of_job: Callable[[int], str | None] | None = None


def current_run() -> str | None:
    """Return the run of the job whose ``script:``, ``run:`` or notebook asks; None outside."""
    running = _running_job()
    if running is not None:
        here = run_of_job(running["jobid"]) if run_of_job is not None else None
        return here or given_run(running["job_rule"].name, running["wildcards"])
    script: Any = getattr(sys.modules.get("__main__"), "snakemake", None)
    if type(script).__name__ == "Snakemake":
        return given_run(script.rule, script.wildcards)
    return None


def given_run(rule: str, wildcards: Any) -> str | None:
    """Return the run of a job as the environment of its process says."""
    given = os.environ.get(VARIABLE, "")
    if "=" not in given:
        return given or None
    members = dict(each.split("=", 1) for each in given.split(","))
    return members.get(job_name(rule, dict(wildcards.items())))


def _running_job() -> Mapping[str, Any] | None:
    """Return the local variables of the function by which this thread executes a job."""
    if "snakemake.executors.local" not in sys.modules:
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "run_wrapper" and "job_rule" in frame.f_locals:
            return frame.f_locals
        frame = frame.f_back
    return None


# --- given to the processes of a job --------------------------------------------------------------


class _Subprocess:
    """Stands for the module ``subprocess`` in another module."""

    def __init__(self, real: Any, environment_of: Callable[[Any], Environment | None]) -> None:
        self._real = real
        self._environment_of = environment_of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _die() -> None:
    """End a child before it runs its command, as the interrupt did that came before it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


class ShellSubprocess(_Subprocess):
    """Stands for ``subprocess`` in ``snakemake.shell``, to add to the variables of each child.

    Snakemake offers no other way to give each job its own: a prefix of the shell would show in its
    error messages.
    """

    @property
    def Popen(self) -> Callable[..., Any]:  # noqa: N802 - the name in the module
        return self._open

    def _open(self, *args: Any, **kwargs: Any) -> Any:
        try:
            jobid = sys._getframe(1).f_locals.get("jobid")
            if jobid is None:
                running = _running_job()
                jobid = running["jobid"] if running is not None else None
            given = self._environment_of(jobid) if jobid is not None else None
            if given:
                kwargs["env"] = {**(kwargs.get("env") or os.environ), **given}
        except NotStartedError:
            kwargs["preexec_fn"] = _die
        except Exception:  # noqa: S110 - the job's process starts as it would without us
            pass
        return self._real.Popen(*args, **kwargs)


def give_to_shells(environment_of: Callable[[int], Environment | None]) -> Callable[[], None]:
    """Add to the variables of what ``shell()`` starts; returns a function that ends this."""
    return _replaced(sys.modules["snakemake.shell"], "sp", ShellSubprocess, environment_of)


class SpawnSubprocess(_Subprocess):
    """Stands for ``subprocess`` in ``snakemake.executors.local``, as :class:`ShellSubprocess` does.

    When a ``run:`` block fails, Snakemake shows the command and who called it: neither may be ours.
    """

    @property
    def check_call(self) -> Callable[..., Any]:
        try:
            given = self._environment_of(sys._getframe(1).f_locals["job"].jobid)
        except NotStartedError:
            return partial(self._real.check_call, preexec_fn=_die)
        except Exception:  # the job's process starts as it would without us
            given = None
        if not given:
            return self._real.check_call  # type: ignore[no-any-return]
        return partial(self._real.check_call, env={**os.environ, **given})


def give_to_spawned(
    executor: Any,
    environment_of: Callable[[Any], Environment | None],
    environment_of_submitted: Callable[[Any], Environment | None],
) -> Callable[[], None]:
    """Add to the variables of the ``snakemake`` that an executor starts for a job or group.

    Args: environment_of: those of a job's number, asked by the job's own thread;
        environment_of_submitted: those of a job or group, asked by the scheduler's thread.

    Returns: a function that ends this.
    """
    local: Any = sys.modules.get(type(executor).__module__)
    spawn = getattr(type(executor), "spawn_job", None)
    if spawn is not None and "check_call" in spawn.__code__.co_names:
        return _replaced(local, "subprocess", SpawnSubprocess, environment_of)
    former = executor.get_job_exec_prefix

    def get_job_exec_prefix(job: Any) -> str:
        prefix: str = former(job)
        try:
            given = environment_of_submitted(job)
        except Exception:  # the job is submitted as it would be without us
            given = None
        if not given:
            return prefix
        return f"{prefix} && {exports(given)}" if prefix else exports(given)

    executor.get_job_exec_prefix = get_job_exec_prefix
    return lambda: None


def _replaced(
    module: Any, name: str, stand_in: type[_Subprocess], environment_of: Any
) -> Callable[[], None]:
    """Let a stand-in take a module's place in another; returns a function that ends this."""
    real = getattr(module, name)
    if isinstance(real, stand_in):
        real = real._real
    ours = stand_in(real, environment_of)
    setattr(module, name, ours)

    def end() -> None:
        if getattr(module, name) is ours:
            setattr(module, name, real)

    return end
