"""Whatever instant a process is killed at, rows and objects agree when the instance is opened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.core import url_to_fs
from sqlalchemy import select

import lamindb as ln
from forking import WarmProcess
from lamindb import instance, journal
from lamindb.db import schema
from lamindb.errors import BusyError, DatabaseUnreachableError, LeaseLostError, RecordError
from lamindb.storage.sources import Source, digest
from lamindb.storage.store import INCOMING, VERSIONS, Store

# name → contents, the latest first, then older versions, the one retired last first
State = dict[str, list[str]]
Fresh = Callable[[], None]
Choose = Callable[[int], list[int]]
Steps = Callable[[int], Choose]


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess("s3fs")
    yield process
    process.close()


# --- what is there --------------------------------------------------------------------------------


def bytes_of(content: str) -> bytes:
    """A content's bytes: from some to some hundred thousand, the same for the same content."""
    return f"{content}\n".encode() * (1 + len(content) * 997 * sum(content.encode()) % 20_000)


def write(path: Path, content: str) -> Path:
    """Write a file, or for a content that begins with "dir" a directory."""
    if content.startswith("dir"):
        for part in ("a.txt", "sub/b.txt"):
            write(path / part, f"{part} of {content}")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes_of(content))
    return path


def read(source: Source) -> str:
    """Return the content that an object was written from, of which it must hold all."""
    found = set()
    for entry in source.entries():
        with entry.open() as stream:
            whole = stream.read()
        content = whole.split(b"\n", 1)[0].decode()
        assert whole == bytes_of(content), f"{entry.path} in {source.uri} is not whole"
        found.add(content.split(" of ")[-1])
    assert len(found) == 1, f"{source.uri} holds parts of {found}"
    return found.pop()


def contents(records: list[ln.File]) -> State:
    """Return what the objects of these records hold, after comparing the two."""
    state: State = {}
    for record in sorted(records, key=lambda file: (file.is_latest, file.updated_at), reverse=True):
        store = instance.current().location(record.storage_id).store
        source = store.source(record._object_key())
        found = digest(source)
        assert (found.hash, found.size) == (record.hash, record.size), record
        versions = state.setdefault(record.key or record.name, [])
        versions.append(read(source))
        if record.key is None:
            versions.sort()  # files without a key are no versions of each other
    return state


def observe() -> State:
    """Return what all objects hold; there is none without a record, and none without an object."""
    records = stored()
    latest = [record.key for record in records if record.is_latest and record.key]
    assert len(latest) == len(set(latest)), "a key has two latest records"
    store = instance.current().default_location.store
    expected = {
        f"{record._object_key()}/{entry.path}".rstrip("/")
        for record in records
        for entry in store.source(record._object_key()).entries()
    }
    assert set(store.keys()) | keys_below(store, VERSIONS) == expected
    return contents(records)


def stored() -> list[ln.File]:
    """The files of the storage, without those that a run was seen to write elsewhere."""
    here = instance.current().default_storage_id
    found: list[ln.File] = ln.select(ln.File, all_versions=True, storage_id=here).all()
    return found


def keys_below(store: Store, folder: str) -> set[str]:
    fs, path = url_to_fs(store.uri(folder))
    fs.invalidate_cache()
    return {f"{folder}/{name.removeprefix(f'{path}/')}" for name in fs.find(path)}


def open_afresh() -> State:
    """Open the instance as the next process would, and see that nothing is left half done."""
    instance.reset()
    here = instance.current()
    with here.database.read() as connection:
        assert connection.execute(select(schema.journal)).all() == []
        assert connection.execute(select(schema.claim)).all() == []
    assert keys_below(here.default_location.store, INCOMING) == set()
    return observe()


# --- killed at every step -------------------------------------------------------------------------

EFFECTS = {"write", "fsync", "link", "rename", "unlink", "rmdir", "mkdir", "commit"}


class Effects:
    """Counts what this process does to files and database; dies or stops right after one of it."""

    def __init__(self, last: int | None = None, sent: int = signal.SIGKILL) -> None:
        self.count = 0
        self.names = EFFECTS
        self._last = last
        self._sent = sent
        self._lock = threading.Lock()

    def __enter__(self) -> Effects:
        if self._last == 0:
            os.kill(os.getpid(), self._sent)
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _look(self, frame: Any, event: str, function: Any) -> None:
        if event != "c_return":
            return
        name = function.__name__
        if name in self.names or (name == "open" and function.__module__ == "posix"):
            self.add()

    def add(self) -> None:
        if isinstance(threading.current_thread(), threading.Timer):
            return  # renews a lease: what is looked at goes on elsewhere
        with self._lock:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), self._sent)


class Gone(Exception):
    """What an operation is to work on is not there."""


def find(**fields: Any) -> ln.File:
    found: list[ln.File] = ln.select(ln.File, **fields).all()
    if not found:
        raise Gone(fields)
    assert len(found) == 1
    return found[0]


def new_key() -> None:
    ln.add(ln.File(write(Path("new.txt"), "new"), key="new/folder/new.txt"))


def new_version() -> None:
    ln.add(ln.File(write(Path("new.txt"), "third"), key="table.txt"))


def old_version_again() -> None:
    ln.add(ln.File(write(Path("new.txt"), "first"), key="table.txt"))


def same_content() -> None:
    ln.add(ln.File(write(Path("new.txt"), "second"), key="table.txt"))


def keyless() -> None:
    ln.add(ln.File(write(Path("new.txt"), "new"), name="another.txt"))


def directory() -> None:
    ln.add(ln.File(write(Path("new"), "dir new"), key="new/folder"))


def new_version_of_a_directory() -> None:
    ln.add(ln.File(write(Path("new"), "dir third"), key="folder"))


def list_of_files() -> None:
    ln.add(
        [
            ln.File(write(Path("0.txt"), "new"), key="new/new.txt"),
            ln.File(write(Path("1.txt"), "third"), key="table.txt"),
            ln.File(write(Path("2.txt"), "new"), name="another.txt"),
            ln.File(write(Path("3"), "dir third"), key="folder"),
        ]
    )


def replaced() -> None:
    record = find(key="table.txt")
    record.replace(write(Path("new.txt"), "better"))
    ln.add(record)


def replaced_keyless() -> None:
    record = find(name="keyless.txt")
    record.replace(write(Path("new.txt"), "better"))
    ln.add(record)


def replaced_directory() -> None:
    record = find(key="folder")
    record.replace(write(Path("new"), "dir better"))
    ln.add(record)


def deleted() -> None:
    ln.delete(find(key="single/alone.txt"), delete_data=True)


def deleted_keyless() -> None:
    ln.delete(find(name="keyless.txt"), delete_data=True)


def deleted_so_that_an_older_version_comes_back() -> None:
    ln.delete(find(key="table.txt"), delete_data=True)


def deleted_so_that_an_older_directory_comes_back() -> None:
    ln.delete(find(key="folder"), delete_data=True)


def deleted_older_version() -> None:
    older = find(all_versions=True, key="table.txt", is_latest=False)
    ln.delete(older, delete_data=True)


def deleted_list() -> None:
    ln.delete(ln.select(ln.File, all_versions=True).all(), delete_data=True)


OPERATIONS: list[Callable[[], None]] = [
    new_key,
    new_version,
    old_version_again,
    same_content,
    keyless,
    directory,
    new_version_of_a_directory,
    list_of_files,
    replaced,
    replaced_keyless,
    replaced_directory,
    deleted,
    deleted_keyless,
    deleted_so_that_an_older_version_comes_back,
    deleted_so_that_an_older_directory_comes_back,
    deleted_older_version,
    deleted_list,
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, warm: WarmProcess) -> Path:
    """An instance to copy: two versions of a file and of a directory, and files alone."""
    root = tmp_path_factory.mktemp("model") / "storage"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HOME", str(root.parent / "home"))
        monkeypatch.setenv("LAMINDB_USER", "testuser")
        monkeypatch.setenv("LAMINDB_CONFIG_DIR", str(root.parent / "config"))
        root.parent.joinpath("home").mkdir()
        monkeypatch.chdir(root.parent)
        warm.fork(make_model, str(root)).join()
    return root


def make_model(root: str) -> None:
    ln.setup.init(storage=root)
    for content in ("first", "second"):
        ln.add(ln.File(write(Path("source.txt"), content), key="table.txt"))
        shutil.rmtree("source", ignore_errors=True)
        ln.add(ln.File(write(Path("source"), f"dir {content}"), key="folder"))
    ln.add(ln.File(write(Path("source.txt"), "alone"), key="single/alone.txt"))
    ln.add(ln.File(write(Path("source.txt"), "keyless"), name="keyless.txt"))
    instance.reset()


BEFORE: State = {
    "table.txt": ["second", "first"],
    "folder": ["dir second", "dir first"],
    "single/alone.txt": ["alone"],
    "keyless.txt": ["keyless"],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one: the process is killed, not the machine."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture
def fresh(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fresh]:
    """Make a copy of the model the instance in use, each time it is called."""
    monkeypatch.setenv("LAMINDB_INSTANCE", str(folder / "storage"))
    # without the cache of hashes, which makes the number of steps depend on what was read before
    monkeypatch.setenv("LAMINDB_CACHE_DIR", "/dev/null/none")
    monkeypatch.setenv("PATH", "")  # without git, which each process would ask for the user's name

    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")

    def copy() -> None:
        instance.reset()
        shutil.rmtree(folder / "storage", ignore_errors=True)
        shutil.copytree(model, folder / "storage")
        for left in Path.cwd().iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    yield copy
    instance.reset()
    monkeypatch.undo()


def count_effects(act: Callable[[], None], without_links: bool) -> None:
    instance.current()
    if without_links:
        refuse_links()
    with Effects() as effects:
        act()
    print(effects.count)


def die_after(act: Callable[[], None], number: int, without_links: bool) -> None:
    instance.current()
    if without_links:
        refuse_links()
    with Effects(number):
        act()
    raise AssertionError(f"{act.__name__} came to its end before effect {number}")


def refuse_links() -> None:
    """Be a file system that has no hard links, as FAT and many network ones."""

    def link(*arguments: Any, **options: Any) -> None:
        raise OSError(1, "Operation not permitted")

    os.link = link


@pytest.fixture(params=["some steps", pytest.param("every step", marks=pytest.mark.full)])
def steps(request: pytest.FixtureRequest) -> Steps:
    """Choose among the numbers from 0 to a count: some, up to a limit, or all."""

    def up_to(limit: int) -> Choose:
        def choose(count: int) -> list[int]:
            if request.param == "every step" or count < limit:
                return list(range(count + 1))
            return sorted({0, count, *random.sample(range(count), limit)})

        return choose

    return up_to


def kill(
    act: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    choose: Choose,
    without_links: bool = False,
) -> None:
    fresh()
    effects = int(warm.fork(count_effects, act, without_links).join())
    after = open_afresh()
    outcomes = []
    for number in choose(effects):
        fresh()
        worker = warm.fork(die_after, act, number, without_links)
        assert worker.wait() == -signal.SIGKILL, worker.output.read_text()
        found = open_afresh()
        assert found in (BEFORE, after), f"killed after effect {number} of {effects}"
        outcomes.append(found == after)
    if after != BEFORE:
        assert not outcomes[0]
        assert outcomes[-1]


@pytest.mark.parametrize("act", OPERATIONS, ids=lambda act: act.__name__)
def test_a_process_killed_after_any_step_leaves_all_or_nothing(
    act: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    steps: Steps,
):
    kill(act, warm, fresh, steps(6))


@pytest.mark.parametrize(
    "act", [new_key, new_version, keyless, list_of_files, replaced], ids=lambda act: act.__name__
)
def test_a_process_killed_after_any_step_leaves_all_or_nothing_without_hard_links(
    act: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    steps: Steps,
):
    kill(act, warm, fresh, steps(4), without_links=True)


def open_and_die_after(number: int) -> None:
    with Effects(number):
        instance.current()


@pytest.mark.parametrize("act", OPERATIONS, ids=lambda act: act.__name__)
def test_one_that_is_killed_while_it_cleans_up_leaves_the_rest_to_the_next(
    act: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    steps: Steps,
):
    fresh()
    effects = int(warm.fork(count_effects, act, False).join())
    after = open_afresh()
    for first in steps(1)(effects):
        fresh()
        warm.fork(die_after, act, first, False).wait()
        second = 0
        while warm.fork(open_and_die_after, second := second + 1).wait() != 0:
            pass
        assert open_afresh() in (BEFORE, after), f"killed after effect {first}, then again"


# --- two processes --------------------------------------------------------------------------------


def stop_after(act: Callable[[], None], number: int, lease_s: float) -> None:
    journal.LEASE_S = lease_s
    instance.current()
    with Effects(number, signal.SIGSTOP):
        attempt(act)


def attempt(act: Callable[[], None]) -> None:
    try:
        act()
    except (RecordError, LeaseLostError, Gone) as error:
        print(type(error).__name__)  # what it works on was deleted or outdated by the other


def in_a_folder_of_its_own(act: Callable[[], None]) -> None:
    folder = Path(f"folder-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir()
    os.chdir(folder)
    try:
        act()
    finally:
        os.chdir("..")


def one_after_the_other(fresh: Fresh, *acts: Callable[[], None]) -> State:
    fresh()
    for act in acts:
        attempt(lambda act=act: in_a_folder_of_its_own(act))
    return open_afresh()


def interleave(
    act: Callable[[], None],
    other: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    monkeypatch: pytest.MonkeyPatch,
    choose: Choose,
    lease_s: float = 120.0,
) -> None:
    """Stop one process after a step, let another work on the same, let the first go on or die."""
    fresh()
    effects = int(warm.fork(count_effects, act, False).join())
    alone = [one_after_the_other(fresh, act), one_after_the_other(fresh, other)]
    both = [one_after_the_other(fresh, act, other), one_after_the_other(fresh, other, act)]
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.03)
    for number in choose(effects - 1):
        for killed in (False, True):
            fresh()
            worker = warm.fork(stop_after, act, number, lease_s)
            worker.wait_until_stopped()
            time.sleep(0.0 if lease_s > 1 else lease_s)
            instance.reset()
            try:
                instance.current()
                attempt(lambda: in_a_folder_of_its_own(other))
                done = True
            except (BusyError, DatabaseUnreachableError):
                done = False
            if killed:
                worker.kill()
            else:
                worker.resume()
            was_first = (False, True) if killed else (not worker.join(),)
            ends = {
                (True, True): both,
                (True, False): alone[:1],
                (False, True): alone[1:],
                (False, False): [BEFORE],
            }
            allowed = [state for first in was_first for state in ends[first, done]]
            print(f"stopped after effect {number} of {effects}, {killed=}, {was_first=}, {done=}")
            assert open_afresh() in allowed


def another_version() -> None:
    ln.add(ln.File(write(Path("other.txt"), "fourth"), key="table.txt"))


def same_keyless_content() -> None:
    ln.add(ln.File(write(Path("other.txt"), "keyless"), name="keyless.txt"))


PAIRS = [
    (new_version, another_version),
    (old_version_again, another_version),
    (replaced, another_version),
    (replaced_keyless, replaced_keyless),
    (replaced_keyless, deleted_keyless),
    (deleted_keyless, replaced_keyless),
    (deleted_keyless, same_keyless_content),
    (same_keyless_content, deleted_keyless),
    (same_keyless_content, replaced_keyless),
    (deleted_so_that_an_older_version_comes_back, another_version),
    (another_version, deleted_so_that_an_older_version_comes_back),
    (list_of_files, list_of_files),
]


@pytest.mark.parametrize(("act", "other"), PAIRS, ids=lambda act: act.__name__)
def test_two_processes_on_the_same_files_act_as_if_one_came_after_the_other(
    act: Callable[[], None],
    other: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    monkeypatch: pytest.MonkeyPatch,
    steps: Steps,
):
    interleave(act, other, warm, fresh, monkeypatch, steps(2))


@pytest.mark.parametrize(
    ("act", "other"),
    [
        (new_version, another_version),
        (replaced, another_version),
        (new_version_of_a_directory, deleted_so_that_an_older_directory_comes_back),
        (deleted_so_that_an_older_version_comes_back, another_version),
    ],
    ids=lambda act: act.__name__,
)
def test_a_process_that_stood_still_for_longer_than_its_lease_finds_its_work_undone(
    act: Callable[[], None],
    other: Callable[[], None],
    warm: WarmProcess,
    fresh: Fresh,
    monkeypatch: pytest.MonkeyPatch,
    steps: Steps,
):
    interleave(act, other, warm, fresh, monkeypatch, steps(2), lease_s=0.05)


# --- killed at random -----------------------------------------------------------------------------

SHARED = "shared/all.txt"


def changed(state: State, act: list[Any]) -> State:
    """Return what an act makes of a state."""
    kind, name, content = act
    after = {other: list(versions) for other, versions in state.items()}
    if name == SHARED:
        return after
    versions = after.setdefault(name, [])
    if kind == "add":
        after[name] = [content, *(version for version in versions if version != content)]
    elif kind == "replace":
        versions[0] = content
    else:
        versions.pop(0)
    return {other: versions for other, versions in after.items() if versions}


def next_act(state: State, own: str, number: int) -> list[Any]:
    """Choose something to do with one of few keys, so that all of it happens often."""
    if random.random() < 0.1:
        return ["add", SHARED, f"{own} {number}"]
    name = f"{own}/{random.choice(['1.txt', '2.txt', 'folder'])}"
    if random.random() < 0.2:
        name = f"{own}-{random.randrange(3)}.txt"  # has no key
    versions = state.get(name, [])
    content = f"{'dir ' * ('folder' in name)}{own} {number}"
    kinds = ["replace", "delete", "delete"] if versions else ["add"]
    if "/" in name and len(versions) < 4:
        kinds += ["add", "add"]
        if len(versions) > 1 and random.random() < 0.3:
            return ["add", name, versions[1]]
    return [random.choice(kinds), name, content]


def do(act: list[Any], own: str) -> None:
    kind, name, content = act
    source = Path(f"{own} source{'' if 'dir' in content else '.txt'}")
    if kind != "delete":
        shutil.rmtree(source, ignore_errors=True)
        write(source, content)
    key = {"key": name} if "/" in name else {"name": name}
    if kind == "add":
        ln.add(ln.File(source, **key))
    elif kind == "replace":
        record = find(**key)
        record.replace(source)
        ln.add(record)
    else:
        ln.delete(find(**key), delete_data=True)


def keep_busy(own: str, log: str, seed: int, until: str = "") -> None:
    """Do one thing after the other, writing down what begins and what is done."""
    random.seed(seed)
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(word: str, value: Any) -> None:
        os.write(notes, json.dumps([word, value]).encode() + b"\n")

    ln.track(transform=ln.Transform(own))
    state = contents([file for file in stored() if (file.key or file.name).startswith(own)])
    note("start", state)
    number = 0
    while not (until and Path(until).exists()):
        number += 1
        act = next_act(state, own, seed * 1000 + number)
        note("begin", act)
        do(act, own)
        note("done", act)
        state = changed(state, act)
    ln.finish()


def follow(log: Path, possible: list[State], shared: set[str]) -> list[State]:
    """Return what may be there after what a log says; what began may have come to its end."""
    begun = None
    for line in log.read_text().splitlines() if log.exists() else []:
        word, value = json.loads(line)
        if word == "start":
            assert value in possible
            possible = [value]
        elif word == "begin":
            begun = value
        else:
            if value[1] == SHARED:
                shared.add(value[2])
            begun, possible = None, [changed(possible[0], value)]
    return possible + [changed(state, begun) for state in possible if begun]


def own_part(state: State, own: str) -> State:
    return {name: versions for name, versions in state.items() if name.startswith(own)}


def storm(warm: WarmProcess, folder: Path, state: State, shared: set[str]) -> list[State]:
    """Start processes one after the other, kill each at some instant, say what may be there."""
    possible, log = [state], folder / "mine.log"
    for _ in range(5):
        log.unlink(missing_ok=True)
        worker = warm.fork(keep_busy, "mine", str(log), random.randrange(10**6))
        time.sleep(random.uniform(0.02, 0.3))
        assert worker.kill() == -signal.SIGKILL, worker.output.read_text()
        possible = follow(log, possible, shared)
    return possible


@pytest.fixture(params=[4, *(pytest.param(20 + n, marks=pytest.mark.full) for n in range(3))])
def rounds(request: pytest.FixtureRequest) -> range:
    return range(request.param)


def test_what_was_acknowledged_is_there_after_kills_at_random_instants(
    warm: WarmProcess, fresh: Fresh, folder: Path, rounds: range
):
    fresh()
    found = open_afresh()
    for _ in rounds:
        shared: set[str] = set()
        possible = storm(warm, folder, own_part(found, "mine"), shared)
        found = open_afresh()
        assert own_part(found, "mine") in possible
        assert shared <= set(found.get(SHARED, []))
        assert ln.select(ln.Run, status="started").all() == []


def test_a_process_that_works_on_is_not_disturbed_by_others_that_are_killed(
    warm: WarmProcess, fresh: Fresh, folder: Path, rounds: range
):
    fresh()
    found = open_afresh()
    for number in rounds:
        end, log, shared = folder / f"end {number}", folder / f"other {number}.log", set[str]()
        before = own_part(found, "other")
        other = warm.fork(keep_busy, "other", str(log), number, str(end))
        possible = storm(warm, folder, own_part(found, "mine"), shared)
        end.touch()
        other.join()
        (others,) = follow(log, [before], shared)
        found = open_afresh()
        assert own_part(found, "other") == others
        assert own_part(found, "mine") in possible
        assert shared <= set(found.get(SHARED, []))


# --- killed while it works on an object store -----------------------------------------------------


class Requests(Effects):
    """Counts the requests that change an object store, and the commits."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__(last)
        self.names = {"commit"}

    def __enter__(self) -> Requests:
        from aiobotocore.client import AioBaseClient

        call = AioBaseClient._make_api_call

        async def counted(client: Any, name: str, parameters: Any) -> Any:
            answer = await call(client, name, parameters)
            if name.startswith(("Put", "Copy", "Delete", "Upload", "Complete")):
                self.add()
            return answer

        AioBaseClient._make_api_call = counted
        super().__enter__()
        return self

    def _look(self, frame: Any, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ == "commit":
            self.add()


def count_requests(act: Callable[[], None]) -> None:
    instance.current()
    with Requests() as requests:
        act()
    print(requests.count)


def die_after_request(act: Callable[[], None], number: int) -> None:
    instance.current()
    with Requests(number):
        act()


@pytest.fixture
def fresh_bucket(
    bucket: str, folder: Path, warm: WarmProcess, monkeypatch: pytest.MonkeyPatch
) -> Fresh:
    """Bring a bucket and the database of its instance back to the model, at each call."""
    monkeypatch.setenv("LAMINDB_DATA_DIR", str(folder))
    monkeypatch.setenv("LAMINDB_INSTANCE", bucket)
    warm.fork(make_model, bucket).join()
    database = ln.setup.load(bucket).sqlite_path
    instance.reset()
    assert database is not None
    database.rename(folder / "model.sqlite")
    fs, name = url_to_fs(bucket, use_listings_cache=False)
    objects = {path: fs.cat_file(path) for path in fs.find(name)}

    def restore() -> None:
        instance.reset()
        for path in {*fs.find(name)} - {*objects}:
            fs.rm_file(path)
        fs.pipe(objects)
        for left in (*database.parent.glob(f"{database.name}*"), *Path.cwd().iterdir()):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copy(folder / "model.sqlite", database)

    return restore


@pytest.mark.parametrize(
    "act",
    [
        new_version_of_a_directory,
        *(
            pytest.param(act, marks=pytest.mark.full)
            for act in OPERATIONS
            if act not in (new_version_of_a_directory, deleted_list)
        ),
    ],
    ids=lambda act: act.__name__,
)
def test_a_process_killed_after_any_request_to_an_object_store_leaves_all_or_nothing(
    act: Callable[[], None], warm: WarmProcess, fresh_bucket: Fresh, steps: Steps
):
    fresh_bucket()
    requests = int(warm.fork(count_requests, act).join())
    after = open_afresh()
    for number in steps(2)(requests):
        fresh_bucket()
        worker = warm.fork(die_after_request, act, number)
        assert worker.wait() == -signal.SIGKILL, worker.output.read_text()
        assert open_afresh() in (BEFORE, after), f"killed after request {number} of {requests}"
