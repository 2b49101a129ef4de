"""A process that has imported Prefect, which takes seconds, and forks a child for each script.

Reads one JSON object a line: which script to run, where, and with which environment; answers with
the child's number, and with its exit code, if there is one yet, when that is asked for.
"""

import json
import os
import random
import runpy
import sys
import threading


def main() -> None:
    import prefect.flow_engine
    import prefect.flows
    import prefect.runner
    import prefect.task_engine
    import prefect.task_runners  # noqa: F401

    import lamindb_prefect.attempts
    import lamindb_prefect.decorators  # noqa: F401

    assert threading.active_count() == 1, "a child would inherit the locks of other threads"
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer({"code": os.waitstatus_to_exitcode(status) if pid else None})
            continue
        pid = os.fork()
        if pid == 0:
            become(asked)
            return
        answer({"pid": pid})


def become(asked: dict) -> None:
    os.setsid()
    random.seed()
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for target, name in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
        flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.argv[:] = [asked["script"]]
    sys.path[0] = os.path.dirname(asked["script"])
    runpy.run_path(asked["script"], run_name="__main__")


def answer(message: dict) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
