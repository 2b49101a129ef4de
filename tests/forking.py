"""Processes for tests, forked from a warm one: each costs milliseconds, not a second of imports."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast


class Worker:
    """One forked process; what it prints goes to ``output``."""

    def __init__(self, parent: WarmProcess, pid: int, output: Path) -> None:
        self.parent, self.pid, self.output = parent, pid, output
        self._code: int | None = None

    def kill(self) -> int:
        """Send SIGKILL and wait until the process is gone."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        return self.wait()

    def wait_until_stopped(self) -> None:
        """Return when it has sent itself SIGSTOP; :meth:`resume` lets it go on."""
        code = self.parent.ask("stopped", self.pid)
        assert code is None, f"it ended instead, with {code}\n{self.output.read_text()}"

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Return the exit code, negative for a signal."""
        if self._code is None:
            self._code = cast(int, self.parent.ask("wait", self.pid))
        return self._code

    def join(self) -> str:
        """Wait; return what it printed; fail if it did."""
        code, text = self.wait(), self.output.read_text()
        assert code == 0, f"exit code {code}\n{text}"
        return text


class WarmProcess:
    """A process without threads that has imported everything and forks the workers."""

    def __init__(self, *modules: str) -> None:
        """Args: modules: to import beside what adding a file needs."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._workers = 0

    def fork(self, act: Callable[..., Any], *arguments: Any) -> Worker:
        """Run a function of a test module in a new process, which has this one's environment."""
        self._workers += 1
        output = Path(os.environ["HOME"]).parent / f"worker-{self._workers}.txt"
        pid = self.ask("fork", act, arguments, dict(os.environ), str(Path.cwd()), str(output))
        return Worker(self, cast(int, pid), output)

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while True:
        try:
            kind, *values = pickle.load(requests)
        except EOFError:
            return
        if kind == "fork":
            pid = os.fork()
            if pid == 0:
                run(*values)
            answer: int | None = pid
        else:
            _, status = os.waitpid(values[0], os.WUNTRACED if kind == "stopped" else 0)
            answer = None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        pickle.dump(answer, answers)
        answers.flush()


def run(
    act: Callable[..., Any],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    folder: str,
    output: str,
) -> None:
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        silence = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((silence, 0), (descriptor, 1), (descriptor, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        # read when it was imported, before this environment was given
        from lamindb.config import settings

        settings.observe = environment.get("LAMINDB_OBSERVE") != "0"
        act(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def warm_up() -> None:
    """Load whatever adding a file loads, by adding one; nothing stays open."""
    import lamindb as ln
    from lamindb import instance

    for name in ln.__all__:
        getattr(ln, name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAMINDB_CONFIG_DIR"] = folder
        os.chdir(folder)
        ln.setup.init(storage=f"{folder}/storage")
        source = Path(folder, "source.txt")
        for content in ("first", "second"):
            source.write_text(content)
            record = ln.add(ln.File(source, key="a.txt"))
        ln.delete([ln.select(ln.File).one(), *ln.select(ln.File, id=record.id).all()], True)
        instance.reset()
        os.chdir("/")


if __name__ == "__main__":
    # what is printed in here must not reach the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warm_up()
    for module in sys.argv[1:]:
        import_module(module)
    gc.freeze()  # what is not touched stays shared
    serve(sys.stdin.buffer, answers)
