"""The storage suite on a local folder, on fsspec's memory and on S3; and what is one's own."""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import lamindb as ln
from fault_proxy import unfinished_uploads
from lamindb import instance
from lamindb.config import cache_dir
from lamindb.errors import (
    DeleteError,
    KeyConflictError,
    ObjectMissingError,
    RecordError,
    StorageFullError,
)
from lamindb.storage.sources import LocalSource, stored_digest
from lamindb.storage.store import Store

pytest.register_assert_rewrite("storage_contract")

from storage_contract import (  # noqa: E402
    Objects,
    StagingContract,
    StorageContract,
    hash_of,
    local_file,
    tree,
)


class TestLocalFolder(StorageContract):
    is_local = True
    type = "local"

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return str(tmp_path / "storage root")


class TestMemory(StagingContract, StorageContract):
    is_local = False
    type = "memory"

    @pytest.fixture
    def root(self) -> Iterator[str]:
        name = f"storage-{uuid4().hex}"
        yield f"memory://{name}"
        fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


class TestS3(StagingContract, StorageContract):
    is_local = False
    type = "s3"
    many = 30

    @pytest.fixture
    def root(self, bucket: str, caplog: pytest.LogCaptureFixture) -> str:
        caplog.set_level("ERROR", "werkzeug")  # the server would write each request down
        return f"{bucket}/some prefix"

    def test_threads_that_stage_the_same_at_once_all_get_it(
        self, objects: Objects, data: Path
    ) -> None:
        local_file(data / "d", "deep/a.txt", "a")
        folder = ln.add(ln.File(data / "d", key="d"))
        file = ln.add(ln.File(local_file(data, "a.bin", bytes(10**6)), key="a.bin"))
        with ThreadPoolExecutor(8) as pool:
            staged = list(pool.map(lambda number: [file, folder][number % 2].stage(), range(16)))
        assert {path.read_bytes() for path in staged[::2]} == {bytes(10**6)}
        assert [tree(path) for path in staged[1::2]] == [{"deep/a.txt": b"a"}] * 8
        assert list((cache_dir() / "objects" / "incoming").glob("*")) == []

    def test_a_file_beside_a_folder_of_its_name_is_that_file_alone(
        self, objects: Objects, data: Path
    ) -> None:
        others = {"data/other.txt": b"of somebody", "data.txt": b"of somebody too"}
        for key, content in others.items():
            objects.put(key, content)
        first = ln.add(ln.File(objects.put("data", b"first")))
        second = ln.add(ln.File(local_file(data, "2", "second"), key="data"))
        assert objects.seen() == {**others, "data": b"second"}
        older = ln.select(ln.File, id=first.id, all_versions=True).one()
        assert older.stage().read_bytes() == b"first"
        second.replace(local_file(data, "3", "third"))
        ln.add(second)
        assert objects.seen() == {**others, "data": b"third"}
        local_file(data / "d", "a.txt")
        with pytest.raises(KeyConflictError, match="no record knows"):
            ln.add(ln.File(data / "d", key="data"))
        ln.delete([second, older], delete_data=True)
        assert objects.seen() == others
        assert objects.hidden() == set()

    def test_a_directory_beside_a_file_of_its_name_is_that_directory_alone(
        self, objects: Objects, data: Path
    ) -> None:
        local_file(data / "d", "a.txt", "a")
        folder = ln.add(ln.File(data / "d", key="data"))
        objects.put("data", b"of somebody")
        ln.delete(folder, delete_data=True)
        assert objects.seen() == {"data": b"of somebody"}

    @pytest.mark.parametrize("size", [5, 60 * 2**20], ids=["in one part", "in several"])
    def test_what_another_puts_at_the_key_meanwhile_stays(
        self, objects: Objects, data: Path, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = local_file(data, "a.bin", bytes(size))
        write = Store.write

        def after_another(store: Store, *arguments: Any) -> Any:
            objects.put("k.bin", b"of a colleague")
            return write(store, *arguments)

        monkeypatch.setattr(Store, "write", after_another)
        with pytest.raises(KeyConflictError, match="no record knows"):
            ln.add(ln.File(source, key="k.bin"))
        assert objects.seen() == {"k.bin": b"of a colleague"}

    def test_what_another_puts_into_a_folder_meanwhile_stays(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "abc":
            local_file(data / "d", f"{name}.txt")
        write = Store._write_remote

        def after_another(store: Store, stream: Any, key: str, *arguments: Any) -> Any:
            if key == "d/b.txt":
                objects.put("d/b.txt", b"of a colleague")
            return write(store, stream, key, *arguments)

        monkeypatch.setattr(Store, "_write_remote", after_another)
        with pytest.raises(KeyConflictError, match="no record knows"):
            Store(objects.root).write(LocalSource(data / "d"), "d")
        assert objects.seen() == {"d/b.txt": b"of a colleague"}

    def test_undoing_does_not_remove_what_another_has_put_at_the_key(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(store: Store, *arguments: Any) -> Any:
            objects.put("k.txt", b"of a colleague")
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Store, "write", fail)
        with pytest.raises(OSError, match="Input/output"):
            ln.add(ln.File(local_file(data, "a.txt", "a"), key="k.txt"))
        assert objects.seen() == {"k.txt": b"of a colleague"}

    def test_a_store_without_conditional_writes_is_written_to_all_the_same(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from s3fs.core import S3File

        call = S3File._call_s3
        refused = []

        def refuse(file: Any, method: str, *arguments: Any, **options: Any) -> Any:
            if options.get("IfNoneMatch"):
                refused.append(method)
                response = {"Error": {"Code": "NotImplemented", "Message": "If-None-Match"}}
                raise OSError(5, "no such header") from ClientError(response, method)
            return call(file, method, *arguments, **options)

        monkeypatch.setattr(S3File, "_call_s3", refuse)
        for name in "ab":
            ln.add(ln.File(local_file(data, name, name), key=name))
        assert objects.seen() == {"a": b"a", "b": b"b"}
        assert len(refused) == 1

    def test_the_store_says_itself_what_its_objects_hold(
        self, objects: Objects, data: Path
    ) -> None:
        local_file(data / "d", "deep/a.txt", "a")
        local_file(data / "d", "b.txt", "b")
        for source in (data / "d" / "b.txt", data / "d"):
            file = ln.add(ln.File(source, key=f"k/{source.name}"))
            location = instance.current().location(file.storage_id)
            stored = stored_digest(location.store.source(file.key))
            assert stored is not None
            assert (stored.hash, stored.size, stored.type) == (file.hash, file.size, file.hash_type)

    @pytest.mark.full
    def test_many_more_files_are_added_as_one(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(self), "many", 300)
        self.test_many_files_are_added_as_one(objects, data)


# --- a local folder alone -----------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Objects:
    ln.setup.init(storage=tmp_path / "storage")
    return Objects(str(tmp_path / "storage"))


@pytest.mark.parametrize("surplus", [10, 3_000_000], ids=["the last bytes", "most of it"])
def test_a_disk_that_fills_up_while_a_file_is_copied_leaves_nothing(
    local: Objects, tmp_path: Path, surplus: int
) -> None:
    limit = 8 * 2**20  # of one file; the database stays far below it
    path = local_file(tmp_path, "a.bin", bytes(limit + surplus))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StorageFullError, match="no space is left"):
            ln.add(ln.File(path, key="a.bin"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert local.seen() == {}
    assert local.hidden() == set()
    assert ln.select(ln.File).count() == 0
    assert ln.add(ln.File(path, key="a.bin")).size == limit + surplus


def test_bytes_overwritten_in_place_are_never_taken_for_the_old_ones(local: Objects) -> None:
    path = local.put("in/place.txt", b"old")
    old = ln.add(ln.File(path))
    local.put("in/place.txt", b"newer")
    new = ln.add(ln.File(path))
    assert new != old
    assert (new.key, new.stage().read_bytes()) == ("in/place.txt", b"newer")
    assert ln.select(ln.File).one() == new
    older = ln.select(ln.File, all_versions=True, is_latest=False).one()
    for record in (old, older):
        with pytest.raises(ObjectMissingError, match="overwritten in place"):
            record.stage()
    local.put("in/place.txt", b"old")
    assert ln.add(ln.File(path)) == old
    assert ln.select(ln.File).one().stage().read_bytes() == b"old"


def test_a_link_into_the_storage_stands_for_what_lies_there(local: Objects, tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(local.put("real.txt", b"x"))
    file = ln.add(ln.File(tmp_path / "link.txt"))
    assert (file.key, local.seen()) == ("real.txt", {"real.txt": b"x"})


def test_a_link_out_of_the_storage_is_copied_like_any_file(local: Objects, tmp_path: Path) -> None:
    outside = local_file(tmp_path, "outside.txt", b"x")
    Path(local.root, "link.txt").symlink_to(outside)
    file = ln.add(ln.File(Path(local.root, "link.txt"), key="copy.txt"))
    assert file.key == "copy.txt"
    assert Path(local.root, "copy.txt").read_bytes() == b"x"
    assert not Path(local.root, "copy.txt").is_symlink()


def test_a_directory_that_holds_the_storage_is_refused(local: Objects, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds the storage"):
        ln.File(tmp_path, key="everything")


def test_the_instances_own_folder_is_no_data(local: Objects) -> None:
    with pytest.raises(ValueError, match="belongs to the instance"):
        ln.File(Path(local.root, ".lamindb", "storage_id"))


def test_the_innermost_storage_has_the_file(local: Objects) -> None:
    path = local.put("outer/inner/deep/a.txt", b"x")
    inner = ln.add(ln.Storage(Path(local.root, "outer", "inner")))
    file = ln.add(ln.File(path))
    assert (file.storage, file.key) == (inner, "deep/a.txt")
    other = ln.add(ln.File(local.put("outer/b.txt", b"y")))
    assert (other.storage == inner, other.key) == (False, "outer/b.txt")
    assert file.stage().read_bytes() == b"x"
    ln.delete(file, delete_data=True)
    assert set(local.seen()) == {"outer/b.txt", "outer/inner/.lamindb/storage_id"}


def test_a_second_storage_may_be_of_another_kind(local: Objects, tmp_path: Path) -> None:
    root = f"memory://second-{uuid4().hex}"
    second = Objects(root)
    url = second.put("far/a.txt", b"far")
    storage = ln.add(ln.Storage(root))
    file = ln.add(ln.File(url))
    assert (file.storage, file.key) == (storage, "far/a.txt")
    assert (local.seen(), second.all()) == ({}, {"far/a.txt": b"far"})
    assert file.stage().read_bytes() == b"far"
    near = ln.add(ln.File(local_file(tmp_path, "b.txt"), key="b.txt"))
    assert near.storage != storage
    ln.delete(file, delete_data=True)
    assert second.all() == {}


def test_a_moved_root_is_recognised(local: Objects, tmp_path: Path) -> None:
    file = ln.add(ln.File(local_file(tmp_path, "a.txt"), key="a.txt"))
    ln.setup.close()
    Path(local.root).rename(tmp_path / "moved")
    ln.setup.load(tmp_path / "moved")
    assert ln.setup.settings.storage.root == tmp_path / "moved"
    assert ln.select(ln.File).one().stage() == tmp_path / "moved" / "a.txt"
    assert ln.add(ln.File(tmp_path / "moved" / "a.txt")) == file
    assert ln.select(ln.Storage).count() == 1


def test_the_same_folder_of_two_hosts_is_two_storages(
    local: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    here = ln.add(ln.Storage(tmp_path / "data", managed=False))
    monkeypatch.setenv("LAMINDB_HOST", "another-laptop")
    there = ln.add(ln.Storage(tmp_path / "data", managed=False))
    assert here != there
    assert here.root == there.root
    assert there.host == "another-laptop"


# --- registered where it lies, in a folder that is not managed ------------------------------------


@pytest.fixture
def registered(local: Objects, tmp_path: Path) -> ln.File:
    """The record of a file in a project folder, as an engine's plugin leaves it."""
    from lamindb import instance
    from lamindb.db import schema

    local_file(tmp_path / "project", "out/a.txt", b"made here")
    project = ln.add(ln.Storage(tmp_path / "project", managed=False))
    row: dict[str, Any] = {
        "id": "F" * 20,
        "name": "a.txt",
        "suffix": ".txt",
        "size": 9,
        "hash": hash_of(b"made here"),
        "hash_type": "md5",
        "key": "out/a.txt",
        "storage_id": project.id,
        "created_by_id": ln.setup.settings.user.id,
    }
    with instance.current().database.begin() as connection:
        connection.execute(schema.file.insert().values(**row))
    return ln.select(ln.File).one()


def test_a_file_registered_in_place_is_read_where_it_lies(
    registered: ln.File, tmp_path: Path
) -> None:
    assert registered.stage() == tmp_path / "project" / "out" / "a.txt"
    assert registered.load() == "made here"
    (tmp_path / "project" / "out" / "a.txt").write_bytes(b"overwritten")
    with pytest.raises(OSError, match="changed without lamindb"):
        registered.load()


def test_a_folder_that_is_not_managed_changes_nothing_for_add(
    registered: ln.File, local: Objects, tmp_path: Path
) -> None:
    file = ln.add(ln.File(tmp_path / "project" / "out" / "a.txt", key="kept.txt"))
    assert file != registered
    assert file.storage != registered.storage
    assert local.seen() == {"kept.txt": b"made here"}


def test_the_bytes_of_a_file_registered_in_place_are_not_touched(
    registered: ln.File, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="only registered where it lies"):
        registered.replace(local_file(tmp_path, "b.txt", b"other"))
    with pytest.raises(DeleteError, match="only registered where it lies"):
        ln.delete(registered, delete_data=True)
    assert ln.select(ln.File).one() == registered
    ln.delete(registered, delete_data=False)
    assert ln.select(ln.File).count() == 0
    assert tree(tmp_path / "project") == {"out/a.txt": b"made here"}


# --- S3 alone -----------------------------------------------------------------------------------


@pytest.fixture
def s3_storage(bucket: str, tmp_path: Path) -> Objects:
    ln.setup.init(storage=bucket, db=f"sqlite:///{tmp_path / 'records.sqlite'}")
    return Objects(bucket)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads go in parts of 5 MiB, the least that S3 takes, instead of 50."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_block_size": 5 * 2**20})


@pytest.mark.parametrize(
    "size", [12 * 10**6, pytest.param(120 * 10**6, marks=pytest.mark.full)], ids=["12M", "120M"]
)
def test_a_large_file_goes_to_s3_in_parts_and_comes_back(
    s3_storage: Objects, s3: str, small_parts: None, tmp_path: Path, size: int
) -> None:
    content = random.Random(0).randbytes(size)
    file = ln.add(ln.File(local_file(tmp_path, "a.bin", content), key="a.bin"))
    assert (file.size, file.hash) == (size, hash_of(content))
    assert file.stage().read_bytes() == content
    newer = ln.add(ln.File(local_file(tmp_path, "b.bin", b"newer"), key="a.bin"))
    assert s3_storage.seen() == {"a.bin": b"newer"}
    ln.delete(newer, delete_data=True)
    assert ln.select(ln.File).one().stage().read_bytes() == content
    assert unfinished_uploads(s3_storage.root, s3) == []


def test_an_upload_in_parts_that_breaks_off_leaves_no_part(
    s3_storage: Objects,
    s3: str,
    small_parts: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lamindb.storage import sources
    from storage_contract import FailsMidway

    path = local_file(tmp_path, "a.bin", bytes(12 * 10**6))
    real, opened = sources._open, list[Path]()

    def breaking(other: Path) -> Any:
        opened.append(other)
        stream = real(other)
        return FailsMidway(stream, 11 * 10**6) if len(opened) == 2 else stream

    monkeypatch.setattr(sources, "_open", breaking)
    with pytest.raises(OSError):
        ln.add(ln.File(path, key="a.bin"))
    assert s3_storage.all() == {}
    assert unfinished_uploads(s3_storage.root, s3) == []


def test_an_s3_object_is_a_source_for_a_local_storage(local: Objects, bucket: str) -> None:
    far = Objects(bucket)
    file = ln.add(ln.File(far.put("deep/a b.txt", b"far"), key="near.txt"))
    assert (file.source_uri, local.seen()) == (f"{bucket}/deep/a b.txt", {"near.txt": b"far"})
    folder = ln.add(ln.File(f"{bucket}/deep", key="folder"))
    assert tree(folder.stage()) == {"a b.txt": b"far"}


def test_a_folder_marker_in_s3_is_no_file(local: Objects, bucket: str) -> None:
    far = Objects(bucket)
    far.put("d/a.txt", b"a")
    fs, path = far._at("d")
    fs.call_s3("put_object", Bucket=path.split("/")[0], Key="d/", Body=b"")
    file = ln.add(ln.File(f"{bucket}/d", key="d"))
    assert tree(file.stage()) == {"a.txt": b"a"}


def test_the_bucket_around_the_storage_is_not_copied_into_it(bucket: str, tmp_path: Path) -> None:
    ln.setup.init(storage=f"{bucket}/inner", db=f"sqlite:///{tmp_path / 'records.sqlite'}")
    Objects(bucket).put("outer/a.txt", b"x")
    with pytest.raises(ValueError, match="holds the storage"):
        ln.File(bucket, key="everything")


class Pages(BaseHTTPRequestHandler):
    """Serves ``/sized.txt``, and ``/stream.txt`` without saying how long it is."""

    def do_HEAD(self) -> None:
        known = self.path in ("/sized.txt", "/stream.txt")
        self.send_response(200 if known else 404)
        if self.path == "/sized.txt":
            self.send_header("Content-Length", "8")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"from web")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["sized.txt", "stream.txt"])
def test_a_web_page_is_a_source_whether_it_says_its_size_or_not(
    local: Objects, web: str, name: str
) -> None:
    file = ln.add(ln.File(f"{web}/{name}", key=name))
    assert (file.source_uri, file.size) == (f"{web}/{name}", 8)
    assert local.seen() == {name: b"from web"}
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        ln.File(f"{web}/missing.txt")


def test_a_url_with_a_password_is_refused_without_showing_it(local: Objects) -> None:
    for url in (
        "s3://AKIA:s3cr3t@bucket/a.txt",
        "https://example.org/a.txt?X-Amz-Signature=s3cr3t",
        "s3://bucket?secret=s3cr3t",
    ):
        for use in (ln.File, ln.Storage):
            with pytest.raises(ValueError, match="credentials") as caught:
                use(url)
            assert "s3cr3t" not in str(caught.value)
            assert "s3cr3t" not in repr(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("root", [None, 5, b"folder", "", "a\0b"], ids=repr)
def test_what_is_no_root_is_refused(root: Any) -> None:
    with pytest.raises(RuntimeError, match="is no storage root"):
        ln.setup.init(storage=root)
    assert list(Path.cwd().iterdir()) == []


# --- any sequence of calls ----------------------------------------------------------------------


class Versions(RuleBasedStateMachine):
    """Adds, replaces and deletes versions of few keys, beside a plain model of what is kept.

    The model: key → contents, the older the further left, the latest last.
    """

    keys = st.sampled_from(["a.txt", "d/b.txt", "d/e/c.txt"])
    contents = st.sampled_from([b"", b"1", b"22", b"333"])
    root_of_next: str

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        self.model: dict[str, list[bytes]] = {}
        root = self.root_of_next.format(uuid4().hex)
        db = None if root.startswith("/") else f"sqlite:///{self.folder / 'records.sqlite'}"
        ln.setup.init(storage=root, name=uuid4().hex, db=db)
        self.objects = Objects(root)

    def file(self, content: bytes) -> Path:
        return local_file(self.folder, f"{uuid4().hex}.txt", content)

    @rule(key=keys, content=contents)
    def add(self, key: str, content: bytes) -> None:
        versions = self.model.setdefault(key, [])
        record = ln.add(ln.File(self.file(content), key=key))
        assert record.is_latest
        assert record.hash == hash_of(content)
        if content in versions:
            versions.remove(content)
        versions.append(content)

    @rule(choices=st.dictionaries(keys, contents, min_size=2))
    def add_several(self, choices: dict[str, bytes]) -> None:
        ln.add([ln.File(self.file(content), key=key) for key, content in choices.items()])
        for key, content in choices.items():
            versions = self.model.setdefault(key, [])
            if content in versions:
                versions.remove(content)
            versions.append(content)

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data(), content=contents)
    def replace(self, data: st.DataObject, content: bytes) -> None:
        key = data.draw(st.sampled_from([key for key, kept in self.model.items() if kept]))
        latest = ln.select(ln.File, key=key).one()
        latest.replace(self.file(content))
        if content in self.model[key][:-1]:
            with pytest.raises(RecordError):
                ln.add(latest)
        else:
            ln.add(latest)
            self.model[key][-1] = content

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, kept in self.model.items() if kept]))
        content = data.draw(st.sampled_from(self.model[key]))
        record = ln.select(ln.File, all_versions=True, key=key, hash=hash_of(content)).one()
        ln.delete(record, delete_data=True)
        self.model[key].remove(content)

    @rule()
    def reopen(self) -> None:
        name = ln.setup.settings.instance.name
        ln.setup.close()
        ln.setup.load(name)

    @invariant()
    def rows_and_objects_are_those_of_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        latest = {key: kept[-1] for key, kept in self.model.items() if kept}
        assert self.objects.seen() == latest
        rows = ln.select(ln.File, all_versions=True).all()
        assert sorted((row.key, row.hash, row.is_latest) for row in rows) == sorted(
            (key, hash_of(content), content == latest[key])
            for key, kept in self.model.items()
            for content in kept
        )
        assert all(hash_of(row.stage().read_bytes()) == row.hash for row in rows)
        older = sum(len(kept) - 1 for kept in self.model.values() if kept)
        assert len(self.objects.hidden()) == older

    def teardown(self) -> None:
        ln.setup.close()


@pytest.mark.parametrize("kind", ["a folder", "memory"])
@pytest.mark.parametrize(
    "examples", [8, pytest.param(30, marks=pytest.mark.full)], ids=["few", "many"]
)
def test_after_any_calls_rows_and_objects_agree(kind: str, examples: int, tmp_path: Path) -> None:
    root = f"{tmp_path}/{{}}" if kind == "a folder" else "memory://any-{}"
    machine = type("Machine", (Versions,), {"root_of_next": root})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=15, deadline=None),
    )
