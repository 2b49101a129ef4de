"""Ids of events: cheap, and still nobody else's."""

import os
import random
import subprocess
import sys

from lamindb.hooks import RunFinished
from lamindb.hooks.events import new_event_id


def test_an_event_has_an_id_of_its_own_whatever_the_user_seeds():
    random.seed(1)
    first = RunFinished(run="r", status="completed").event_id
    random.seed(1)
    second = RunFinished(run="r", status="completed").event_id
    assert first != second
    assert len(first) == len(second) == 20
    assert int(first, 16) >= 0


def test_a_forked_child_and_another_process_have_other_ids():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_event_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    code = "from lamindb.hooks.events import new_event_id as new; print(new())"
    others = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        for _ in range(2)
    }
    found = {new_event_id(), os.read(reader, 20).decode(), *others}
    assert len(found) == 4
    os.close(reader)
    os.close(writer)
