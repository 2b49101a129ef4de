"""S3 that is busy, slow, or hangs up: all is done that was asked for, or none, with an error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from fault_proxy import PART, Proxy, forget_connections, unfinished_uploads
from lamindb import doctor
from lamindb.errors import DataError, LaminError, StorageError, StorageUnreachableError

pytest.register_assert_rewrite("storage_contract")

from storage_contract import Objects, local_file, tree  # noqa: E402

BIG = os.urandom(PART + 100_000)


class Work:
    """An instance on S3, and things to do with it, each with files of its own."""

    def __init__(self, proxy: Proxy, bucket: str, folder: Path, s3: str) -> None:
        self.proxy, self.bucket, self.folder, self.s3 = proxy, bucket, folder, s3
        self.db = f"sqlite:///{folder / 'records.sqlite'}"
        ln.setup.init(storage=bucket, db=self.db)
        self.objects = Objects(bucket)
        self.number = 0

    def file(self, content: bytes, name: str = "") -> Path:
        self.number += 1
        return local_file(self.folder / "data", name or f"{self.number}.bin", content)

    def kept(self, content: bytes | dict[str, bytes]) -> ln.File:
        self.number += 1
        key = f"k/{self.number}.bin" if isinstance(content, bytes) else f"k/{self.number}"
        if isinstance(content, bytes):
            return ln.add(ln.File(self.file(content), key=key))
        for name, each in content.items():
            local_file(self.folder / f"d{self.number}", name, each)
        return ln.add(ln.File(self.folder / f"d{self.number}", key=key))

    # each returns what to do, and what has to be true of the key's content before and after

    def add_small(self) -> Callable[[], Any]:
        file = ln.File(self.file(b"small"), key=f"k/{self.number}.bin")
        return lambda: ln.add(file)

    def add_empty(self) -> Callable[[], Any]:
        file = ln.File(self.file(b""), key=f"k/{self.number}.bin")
        return lambda: ln.add(file)

    def add_in_parts(self) -> Callable[[], Any]:
        file = ln.File(self.file(BIG), key=f"k/{self.number}.bin")
        return lambda: ln.add(file)

    def add_directory(self) -> Callable[[], Any]:
        self.number += 1
        for name in "xyz":
            local_file(self.folder / f"d{self.number}", name, name)
        file = ln.File(self.folder / f"d{self.number}", key=f"k/{self.number}")
        return lambda: ln.add(file)

    def add_version(self) -> Callable[[], Any]:
        old = self.kept(b"old")
        file = ln.File(self.file(b"newer"), key=old.key)
        return lambda: ln.add(file)

    def replace(self) -> Callable[[], Any]:
        file = self.kept(b"old")
        file.replace(self.file(b"newer"))
        return lambda: ln.add(file)

    def stage_in_parts(self) -> Callable[[], Any]:
        content = BIG + bytes([self.number % 256, self.number // 256])
        file = self.kept(content)
        return lambda: same(file.stage().read_bytes(), content)

    def stage_directory(self) -> Callable[[], Any]:
        content = {"a": b"a%d" % self.number, "b/c": b"c"}
        file = self.kept(content)
        return lambda: same(tree(file.stage()), content)

    def load(self) -> Callable[[], Any]:
        path = self.file(b"text %d" % self.number, f"{self.number}.txt")
        file = ln.add(ln.File(path, key=f"k/{path.name}"))
        return lambda: same(file.load().encode(), path.read_bytes())

    def delete(self) -> Callable[[], Any]:
        file = self.kept(b"gone soon %d" % self.number)
        return lambda: ln.delete(file, delete_data=True)

    def delete_directory(self) -> Callable[[], Any]:
        file = self.kept({"a": b"a", "b/c": b"c%d" % self.number})
        return lambda: ln.delete(file, delete_data=True)

    def delete_version(self) -> Callable[[], Any]:
        old = self.kept(b"old %d" % self.number)
        new = ln.add(ln.File(self.file(b"new %d" % self.number), key=old.key))
        return lambda: ln.delete(new, delete_data=True)

    # --- afterwards -------------------------------------------------------------------------------

    def check_whole(self, *, hashes: bool = True) -> None:
        """Records and objects agree, and nothing else is there."""
        self.proxy.heal()
        forget_connections()
        ln.setup.close()
        ln.setup.init(storage=self.bucket, db=self.db)
        ln.select(ln.File).count()  # opening it has mended what could not be mended before
        assert [f"{each.subject}: {each.message}" for each in doctor.examine(hashes=hashes)] == []
        records = ln.select(ln.File, all_versions=True).all()
        older = {f".lamindb/versions/{each.id}" for each in records if not each.is_latest}
        assert {key.rsplit(".", 1)[0] for key in self.objects.hidden()} == older
        assert unfinished_uploads(self.bucket, self.s3) == []


def same(found: Any, expected: Any) -> None:
    assert found == expected


ALL = [
    Work.add_small,
    Work.add_empty,
    Work.add_in_parts,
    Work.add_directory,
    Work.add_version,
    Work.replace,
    Work.stage_in_parts,
    Work.stage_directory,
    Work.load,
    Work.delete,
    Work.delete_directory,
    Work.delete_version,
]
READING = [Work.stage_in_parts, Work.stage_directory, Work.load]
FAULTS = {
    "puts are busy": ("busy", "^PUT", ALL[:1] + ALL[3:6] + ALL[9:10]),
    "puts are torn": ("torn", "^PUT", ALL[:4]),
    "answers to puts are lost": ("unanswered", "^PUT", ALL[:6] + ALL[11:]),
    "answers to posts are lost": ("unanswered", "^POST", [Work.add_in_parts]),
    "an upload's end is lost": ("unanswered", "^POST.*uploadId", [Work.add_in_parts]),
    "looks are broken": ("broken", "^HEAD", [ALL[3], *ALL[5:8], *ALL[10:]]),
    "looks are refused": ("refused", "^HEAD", [Work.add_small, Work.delete]),
    "downloads are cut": ("cut", r"^GET /[^?]*$", READING),
    "lists are busy": ("busy", r"^GET /.*list-type", [ALL[0], ALL[3], ALL[7], ALL[10]]),
    "removals are broken": ("broken", "^DELETE", [*ALL[4:6], *ALL[9:]]),
    "answers to removals are lost": ("unanswered", "^DELETE", ALL[9:]),
}


@pytest.fixture
def work(proxy: Proxy, bucket: str, tmp_path: Path, s3: str) -> Work:
    return Work(proxy, bucket, tmp_path, s3)


def attempt(work: Work, act: Callable[[], Any]) -> LaminError | None:
    try:
        act()
    except LaminError as error:
        assert isinstance(error, StorageError | DataError)
        return error
    finally:
        work.proxy.heal()
    return None


IN_FULL = (
    "looks are refused",
    "looks are broken",
    "lists are busy",
    "removals are broken",
    "answers to removals are lost",
    "puts are torn",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] if name in IN_FULL else []) for name in FAULTS],
)
def test_a_request_that_fails_once_leaves_all_or_nothing(work: Work, name: str) -> None:
    kind, matches, kinds = FAULTS[name]
    struck = 0
    for prepare in kinds:
        act = prepare(work)
        work.proxy.fault(kind, matches)
        error = attempt(work, act)
        # a single one is tried again; of 'broken', botocore's own tries know, which are off here
        assert error is None or kind in ("broken", "refused"), error
        struck += len(work.proxy.struck)
    assert struck
    work.check_whole()


@pytest.mark.full
def test_a_storage_that_stays_busy_is_a_clear_error_and_leaves_nothing(work: Work) -> None:
    for prepare in ALL:
        act = prepare(work)
        before = work.objects.all()
        work.proxy.fault("busy", "", times=None)
        error = attempt(work, act)
        assert isinstance(error, StorageUnreachableError), (prepare, error)
        assert isinstance(error, ConnectionError)
        assert re.search("answered (SlowDown|503)", str(error))
        assert "try again later" in str(error)
        assert work.objects.all() == before
        act()  # which takes what is left of the first try for what it is
    work.check_whole()


@pytest.mark.full
def test_a_version_that_was_copied_back_but_not_removed_is_no_stranger(work: Work) -> None:
    act = work.delete_version()
    before = work.objects.all()
    # the newer one has gone aside; of the older one, which is to take its place, there are two
    work.proxy.fault("refused", "^DELETE", after=1, times=None)
    assert isinstance(attempt(work, act), StorageUnreachableError)
    work.check_whole()
    assert work.objects.all() == before


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("matches", ["^PUT", "^POST", "^HEAD", "^GET", "^DELETE", ""])
@pytest.mark.parametrize("kind", ["busy", "broken", "refused", "torn", "unanswered", "cut"])
def test_any_fault_for_any_time_leaves_all_or_nothing(
    work: Work, kind: Any, matches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for prepare in ALL:
        for after, times in ((0, 1), (1, 1), (0, 4), (1, None)):
            act = prepare(work)
            forget_connections()
            work.proxy.fault(kind, matches, times=times, after=after)
            attempt(work, act)
    work.check_whole()
