"""What every storage promises, whatever lies behind it: one suite, a short subclass a backend.

A subclass gives ``root`` and says what its store can do; see ``test_storage.py``.
"""

from __future__ import annotations

import hashlib
import os
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from uuid import uuid4

import fsspec
import pandas as pd
import pytest
from fsspec.core import url_to_fs
from upath import UPath

import lamindb as ln
from lamindb.config import cache_dir
from lamindb.errors import (
    AddError,
    DataChangedError,
    DataError,
    DataMissingError,
    DeleteError,
    KeyConflictError,
    ObjectChangedError,
    ObjectMissingError,
    StorageError,
)
from lamindb.storage import cache, copies, sources

FRAME = pd.DataFrame({"name": ["a", "b", None], "value": [1, 2, 3]})


ODD_NAMES = {
    "blanks and letters": ["with blank and  two.csv", " .csv", "ünïcödé データ 🧬.csv", "n" * 204],
    "signs of URLs": ["#.csv", "100%.csv", "%41%2F.csv", "a+b&c=d;e,f@g!$.csv", "a:b.csv"],
    "options of URLs": ["what?.csv", "x?name=value.csv"],
    "chains of URLs": ["a::b.csv"],
    "wildcards": ["[a-z]*.csv", "{a}.csv", "**"],
    "signs of shells": ["~.csv", 'it\'s "quoted".csv', "-rf", "$(x)`y`|<z>.csv"],
}


def hash_of(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.md5(content).digest()).decode().rstrip("=")


class Objects:
    """Looks into a storage, and meddles with it, without lamindb."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def _at(self, key: str) -> tuple[Any, str]:
        fs, path = url_to_fs(self.root)
        fs.invalidate_cache()
        return fs, f"{path.rstrip('/')}/{key}".rstrip("/")

    def all(self) -> dict[str, bytes]:
        """Every object by key; folders that hold nothing are no objects."""
        fs, path = self._at("")
        return {name.removeprefix(f"{path}/"): fs.cat_file(name) for name in sorted(fs.find(path))}

    def seen(self) -> dict[str, bytes]:
        """The objects outside the instance's own folder."""
        return {key: got for key, got in self.all().items() if not key.startswith(".lamindb/")}

    def hidden(self) -> set[str]:
        """What is in the instance's own folder beside its settings and its database."""
        own = ("storage_id", "instance.toml", "lamindb.sqlite", "spool")
        return {
            key
            for key in self.all()
            if key.startswith(".lamindb/") and not key.split("/")[1].startswith(own)
        }

    def put(self, key: str, content: bytes) -> str:
        fs, path = self._at(key)
        fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        fs.pipe_file(path, content)
        return f"{self.root}/{key}"

    def remove(self, key: str) -> None:
        fs, path = self._at(key)
        fs.rm(path, recursive=True)


class FailsMidway:
    """A stream that breaks off after some bytes, as a disk or a network does."""

    def __init__(self, stream: BinaryIO, after: int) -> None:
        self._stream = stream
        self._left = after

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise OSError(5, "Input/output error")
        count = self._stream.readinto(buffer)
        self._left -= count
        return int(count)

    def __enter__(self) -> FailsMidway:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def local_file(folder: Path, name: str, content: bytes | str = b"content") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def runs_of(file: ln.File) -> set[str]:
    return {run.id for run in ln.select(ln.Run).all() if file in run.outputs}


class StorageContract:
    """Subclass it with ``root``; the class variables say what the store cannot do."""

    is_local: ClassVar[bool]
    type: ClassVar[str]
    many: ClassVar[int] = 300

    @pytest.fixture
    def root(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def objects(self, root: str, tmp_path: Path) -> Objects:
        db = None if self.is_local else f"sqlite:///{tmp_path / 'records.sqlite'}"
        ln.setup.init(storage=root, name="suite", db=db)
        return Objects(root)

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """A folder outside of any storage."""
        (tmp_path / "data").mkdir()
        return tmp_path / "data"

    def text_of(self, path: Any) -> str:
        """Return where a path or UPath leads, as its user would say it."""
        return str(path)

    # --- the root -------------------------------------------------------------------------------

    def test_the_settings_name_the_root(self, objects: Objects, root: str) -> None:
        settings = ln.setup.settings.storage
        assert settings.root_as_str == root
        assert settings.type == self.type
        assert self.text_of(settings.root) == root
        assert isinstance(settings.root, UPath) != self.is_local
        storage = ln.select(ln.Storage).one()
        assert (storage.root, storage.type, storage.managed) == (root, self.type, True)
        assert (storage.host == "") != self.is_local

    def test_making_an_instance_twice_loads_what_is_there(
        self, objects: Objects, root: str, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt"), key="a.txt"))
        before = objects.all()
        ln.setup.close()
        ln.setup.init(storage=root)
        assert ln.select(ln.File).one() == file
        assert ln.select(ln.Storage).count() == 1
        assert {key: objects.all()[key] for key in objects.seen()} == {
            key: before[key] for key in objects.seen()
        }

    def test_a_storage_is_found_again_by_its_root_in_any_form(self, objects: Objects) -> None:
        given = ln.setup.settings.storage
        for root in (given.root, given.root_as_str, f"{given.root_as_str}/"):
            assert ln.add(ln.Storage(root)).id == ln.select(ln.Storage).one().id

    # --- add ------------------------------------------------------------------------------------

    def test_a_file_with_a_key_is_copied_there(self, objects: Objects, data: Path) -> None:
        path = local_file(data, "source.tar.gz", b"content")
        file = ln.File(path, key="images/deep/target.tar.gz")
        assert objects.seen() == {}
        assert ln.add(file) is file
        assert objects.seen() == {"images/deep/target.tar.gz": b"content"}
        assert path.read_bytes() == b"content"
        stored = ln.select(ln.File).one()
        assert stored == file
        assert (stored.key, stored.name, stored.suffix, stored.size) == (
            "images/deep/target.tar.gz",
            "target.tar.gz",
            ".tar.gz",
            7,
        )
        assert (stored.hash, stored.hash_type, stored.hash_note) == (
            hash_of(b"content"),
            "md5",
            None,
        )
        assert stored.source_uri == str(path)
        assert stored.storage == ln.select(ln.Storage).one()
        assert stored.is_latest
        assert objects.hidden() == set()

    def test_a_file_without_a_key_is_named_by_its_id(self, objects: Objects, data: Path) -> None:
        file = ln.add(ln.File(local_file(data, "sample.v1.tar.gz", b"x")))
        assert (file.key, file.name, file.suffix) == (None, "sample.v1.tar.gz", ".tar.gz")
        assert objects.seen() == {f"{file.id}.tar.gz": b"x"}
        assert file.stage().read_bytes() == b"x"

    @pytest.mark.parametrize("key", ["tables/run", None])
    def test_a_directory_is_kept_as_one_file(
        self, objects: Objects, data: Path, key: str | None
    ) -> None:
        content = {"a.txt": b"one", "deep/b c.txt": b"two", "deep/er/empty": b""}
        for name, each in content.items():
            local_file(data / "results", name, each)
        file = ln.add(ln.File(data / "results", key=key))
        assert (file.hash_type, file.size, file.suffix) == ("md5-d", 6, "")
        assert objects.seen() == {f"{key or file.id}/{name}": got for name, got in content.items()}
        again = ln.select(ln.File).one()
        assert tree(again.stage()) == content
        assert again.load() == again.stage()
        assert objects.hidden() == set()

    def test_a_dataframe_comes_back_as_it_went_in(self, objects: Objects) -> None:
        file = ln.add(ln.File(FRAME, key="tables/frame.parquet"))
        assert (file.name, file.suffix, file.source_uri) == ("frame.parquet", ".parquet", None)
        pd.testing.assert_frame_equal(ln.select(ln.File).one().load(), FRAME)
        assert list(objects.seen()) == ["tables/frame.parquet"]

    @pytest.mark.parametrize("content", [b"", b"\0" * 3], ids=["empty", "zeros"])
    def test_hardly_any_bytes_are_kept_too(
        self, objects: Objects, data: Path, content: bytes
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.bin", content), key="a.bin"))
        assert (file.size, file.hash) == (len(content), hash_of(content))
        assert objects.seen() == {"a.bin": content}
        assert file.stage().read_bytes() == content

    def test_an_empty_directory_comes_back_or_is_refused(
        self, objects: Objects, data: Path
    ) -> None:
        (data / "hollow").mkdir()
        if self.is_local:
            assert list(ln.add(ln.File(data / "hollow", key="hollow")).stage().iterdir()) == []
            return
        with pytest.raises(DataMissingError, match="holds no file"):
            ln.File(data / "hollow", key="hollow")
        assert ln.select(ln.File).count() == 0

    @pytest.mark.parametrize("names", ODD_NAMES.values(), ids=ODD_NAMES)
    def test_any_name_is_kept_and_found_again(
        self, objects: Objects, data: Path, names: list[str]
    ) -> None:
        keys = {name: f"odd {name[:3]}/{name}" for name in names}
        paths = {name: local_file(data, name, name) for name in names}
        ln.add([ln.File(paths[name], key=key) for name, key in keys.items()])
        assert objects.seen() == {key: name.encode() for name, key in keys.items()}
        for name, key in keys.items():
            again = ln.select(ln.File, key=key).one()
            assert (again.name, again.source_uri) == (name, str(paths[name]))
            assert again.stage().read_bytes() == name.encode()
            assert again.path().read_bytes() == name.encode()
        newer = ln.add(
            [ln.File(local_file(data, name, f"new {name}"), key=key) for name, key in keys.items()]
        )
        for old in ln.select(ln.File, all_versions=True, is_latest=False).all():
            assert old.stage().read_bytes() == old.name.encode()
        ln.delete(newer, delete_data=True)
        assert objects.seen() == {key: name.encode() for name, key in keys.items()}
        assert objects.hidden() == set()

    def test_many_files_are_added_as_one(self, objects: Objects, data: Path) -> None:
        numbers = range(self.many)
        paths = [local_file(data, f"{number:03}.txt", str(number)) for number in numbers]
        files = [ln.File(path, key=f"many/{path.name}") for path in paths]
        assert ln.add(files) == files
        assert objects.seen() == {
            f"many/{number:03}.txt": str(number).encode() for number in numbers
        }
        assert [file.name for file in ln.select(ln.File).order_by(ln.File.name).all()] == [
            path.name for path in paths
        ]
        again = [ln.File(path, key=f"many/{path.name}") for path in paths[::10]]
        assert ln.add(again) == files[::10]
        assert ln.select(ln.File, all_versions=True).count() == self.many
        assert objects.hidden() == set()

    def test_a_name_with_wildcards_stands_for_itself_alone(
        self, objects: Objects, data: Path
    ) -> None:
        names = ["*.txt", "[ab].txt", "?.txt", "a.txt", "b.txt"]
        paths = {name: local_file(data, name, name) for name in names}
        files = {name: ln.add(ln.File(path, key=f"w/{name}")) for name, path in paths.items()}
        for wild in names[:3]:
            files[wild].replace(local_file(data, "new", "new").rename(data / "new.txt"))
            ln.add(files[wild])
            ln.delete(files.pop(wild), delete_data=True)
            assert objects.seen() == {f"w/{name}": name.encode() for name in files}
        assert objects.hidden() == set()

    def test_a_directory_with_wildcards_in_its_names_is_kept_whole(
        self, objects: Objects, data: Path
    ) -> None:
        content = {"*.txt": b"star", "[ab].txt": b"set", "a.txt": b"a", "?/x": b"x"}
        for name, each in content.items():
            local_file(data / "d*", name, each)
        first = ln.add(ln.File(data / "d*", key="d*"))
        ln.add(ln.File(local_file(data, "dd", b"sibling"), key="dd"))
        second = ln.add(ln.File(local_file(data, "other", b"file"), key="d*"))
        older = ln.select(ln.File, all_versions=True, id=first.id).one()
        assert tree(older.stage()) == content
        ln.delete([older, second], delete_data=True)
        assert objects.seen() == {"dd": b"sibling"}
        assert objects.hidden() == set()

    # --- registered where they lie --------------------------------------------------------------

    def test_what_lies_in_the_storage_already_stays_where_it_is(self, objects: Objects) -> None:
        location = objects.put("existing/cells.ome.tiff", b"cells")
        file = ln.add(ln.File(location))
        assert (file.key, file.name, file.suffix) == (
            "existing/cells.ome.tiff",
            "cells.ome.tiff",
            ".ome.tiff",
        )
        assert file.hash == hash_of(b"cells")
        assert objects.seen() == {"existing/cells.ome.tiff": b"cells"}
        assert file.stage().read_bytes() == b"cells"
        assert ln.add(ln.File(location, key="existing/cells.ome.tiff")) == file
        assert objects.hidden() == set()

    def test_a_directory_in_the_storage_stays_where_it_is(self, objects: Objects) -> None:
        objects.put("existing/a.txt", b"a")
        objects.put("existing/deep/b.txt", b"b")
        file = ln.add(ln.File(f"{objects.root}/existing"))
        assert (file.key, file.hash_type, file.size) == ("existing", "md5-d", 2)
        assert tree(file.stage()) == {"a.txt": b"a", "deep/b.txt": b"b"}
        assert set(objects.seen()) == {"existing/a.txt", "existing/deep/b.txt"}

    def test_another_key_for_what_lies_in_the_storage_is_refused(self, objects: Objects) -> None:
        location = objects.put("here.txt", b"x")
        with pytest.raises(KeyConflictError, match=r"leave out key='there\.txt'"):
            ln.File(location, key="there.txt")
        with pytest.raises(KeyConflictError, match="root of a storage"):
            ln.File(objects.root)
        assert objects.seen() == {"here.txt": b"x"}

    def test_an_object_that_no_record_knows_is_never_overwritten(
        self, objects: Objects, data: Path
    ) -> None:
        objects.put("taken.txt", b"mine")
        with pytest.raises(KeyConflictError, match="no record knows"):
            ln.add(ln.File(local_file(data, "a.txt"), key="taken.txt"))
        assert objects.all()["taken.txt"] == b"mine"
        assert ln.select(ln.File).count() == 0
        assert objects.hidden() == set()

    # --- get it back ----------------------------------------------------------------------------

    def test_the_path_leads_to_the_object(self, objects: Objects, data: Path) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "text"), key="deep/a.txt"))
        path = file.path()
        assert self.text_of(path) == f"{objects.root}/deep/a.txt"
        assert isinstance(path, UPath) != self.is_local
        assert path.read_bytes() == b"text"
        with path.open("r") as stream:
            assert stream.read() == "text"
        assert path.exists()
        assert path.name == "a.txt"

    def test_staging_gives_a_local_path_of_verified_content(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.tar.gz", b"bytes"), key="a.tar.gz"))
        staged = file.stage()
        assert isinstance(staged, Path)
        assert staged.read_bytes() == b"bytes"
        assert staged.name.endswith(".tar.gz")
        if self.is_local:
            assert staged == Path(objects.root) / "a.tar.gz"
        else:
            assert staged.is_relative_to(cache_dir())
            assert not staged.stat().st_mode & 0o222

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("a.csv", "x,y\n1,2\n", pd.DataFrame({"x": [1], "y": [2]})),
            ("a.tsv", "x\ty\n1\t2\n", pd.DataFrame({"x": [1], "y": [2]})),
            ("my.table.csv", "x,y\n1,2\n", pd.DataFrame({"x": [1], "y": [2]})),
            ("a.json", '{"x": [1, null]}', {"x": [1, None]}),
            ("a.yaml", "x: [1, two]\n", {"x": [1, "two"]}),
            ("a.txt", "Grüße\n", "Grüße\n"),
        ],
    )
    def test_loading_reads_by_the_suffix(
        self, objects: Objects, data: Path, name: str, text: str, expected: Any
    ) -> None:
        loaded = ln.add(ln.File(local_file(data, name, text), key=f"deep/{name}")).load()
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(loaded, expected)
        else:
            assert loaded == expected

    def test_loading_an_unknown_suffix_gives_the_staged_path(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.unknown", "?"), key="a.unknown"))
        assert file.load() == file.stage()
        assert file.load().read_bytes() == b"?"

    def test_a_missing_object_is_an_error_that_says_where_it_was(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt"), key="a.txt"))
        objects.remove("a.txt")
        for read in (file.stage, file.load):
            with pytest.raises(ObjectMissingError, match=r"a\.txt is gone from .*a\.txt") as caught:
                read()
            assert isinstance(caught.value, FileNotFoundError)

    def test_a_missing_directory_is_an_error_too(self, objects: Objects, data: Path) -> None:
        local_file(data / "d", "a.txt")
        file = ln.add(ln.File(data / "d", key="d"))
        objects.remove("d")
        with pytest.raises(ObjectMissingError):
            file.stage()

    def test_changed_bytes_are_an_error_and_never_handed_out(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", b"good"), key="a.txt"))
        objects.put("a.txt", b"evil")
        for read in (file.stage, file.load):
            with pytest.raises(ObjectChangedError, match=hash_of(b"evil")) as caught:
                read()
            assert hash_of(b"good") in str(caught.value)
            assert isinstance(caught.value, OSError)

    def test_a_changed_file_in_a_directory_is_an_error_too(
        self, objects: Objects, data: Path
    ) -> None:
        local_file(data / "d", "a.txt")
        local_file(data / "d", "b.txt")
        file = ln.add(ln.File(data / "d", key="d"))
        objects.remove("d/b.txt")
        with pytest.raises(ObjectChangedError):
            file.stage()

    # --- versions -------------------------------------------------------------------------------

    def test_new_content_under_a_key_is_a_new_version(self, objects: Objects, data: Path) -> None:
        versions = [
            ln.add(ln.File(local_file(data, f"{text}.txt", text), key="a/k.txt"))
            for text in ("one", "two", "three")
        ]
        assert objects.seen() == {"a/k.txt": b"three"}
        assert ln.select(ln.File, key="a/k.txt").one() == versions[2]
        kept = ln.select(ln.File, all_versions=True).order_by(ln.File.created_at).all()
        assert kept == versions
        assert [file.is_latest for file in kept] == [False, False, True]
        assert [file.key for file in kept] == ["a/k.txt"] * 3
        assert [file.stage().read_text() for file in kept] == ["one", "two", "three"]
        assert [file.path().read_text() for file in kept] == ["one", "two", "three"]

    def test_a_record_read_before_it_was_superseded_finds_its_bytes(
        self, objects: Objects, data: Path
    ) -> None:
        first = ln.add(ln.File(local_file(data, "1.txt", "one"), key="k.txt"))
        ln.add(ln.File(local_file(data, "2.txt", "two"), key="k.txt"))
        assert first.stage().read_text() == "one"
        assert first.path().read_text() == "one"

    def test_former_content_makes_its_record_the_latest_again(
        self, objects: Objects, data: Path
    ) -> None:
        a, b = local_file(data, "a.txt", "A"), local_file(data, "b.txt", "B")
        first, second = (ln.add(ln.File(path, key="k.txt")) for path in (a, b))
        again = ln.add(ln.File(a, key="k.txt"))
        assert again == first
        assert again.is_latest
        assert objects.seen() == {"k.txt": b"A"}
        assert ln.select(ln.File).one() == first
        older = ln.select(ln.File, all_versions=True, is_latest=False).one()
        assert older == second
        assert older.stage().read_text() == "B"
        assert {key.split("/")[1] for key in objects.hidden()} == {"versions"}
        assert len(objects.hidden()) == 1

    def test_a_directory_has_versions_too(self, objects: Objects, data: Path) -> None:
        local_file(data / "d", "a.txt", "one")
        first = ln.add(ln.File(data / "d", key="d"))
        local_file(data / "d", "b.txt", "more")
        second = ln.add(ln.File(data / "d", key="d"))
        assert tree(second.stage()) == {"a.txt": b"one", "b.txt": b"more"}
        older = ln.select(ln.File, all_versions=True, id=first.id).one()
        assert tree(older.stage()) == {"a.txt": b"one"}
        assert set(objects.seen()) == {"d/a.txt", "d/b.txt"}

    def test_a_directory_and_a_file_may_follow_each_other_under_a_key(
        self, objects: Objects, data: Path
    ) -> None:
        local_file(data / "d", "a.txt", "in folder")
        folder = ln.add(ln.File(data / "d", key="k"))
        file = ln.add(ln.File(local_file(data, "f", "file"), key="k"))
        assert objects.seen() == {"k": b"file"}
        older = ln.select(ln.File, all_versions=True, id=folder.id).one()
        assert tree(older.stage()) == {"a.txt": b"in folder"}
        assert ln.add(ln.File(data / "d", key="k")) == folder
        assert objects.seen() == {"k/a.txt": b"in folder"}
        assert ln.select(ln.File, all_versions=True, id=file.id).one().load().read_text() == "file"

    def test_the_same_content_under_the_same_key_is_the_same_record(
        self, objects: Objects, data: Path
    ) -> None:
        first_run = ln.track(ln.Transform("One"))
        first = ln.add(ln.File(local_file(data, "a.txt", "same"), key="k.txt"))
        second_run = ln.track(ln.Transform("Two"))
        given = ln.File(local_file(data, "b.txt", "same"), key="k.txt")
        second = ln.add(given)
        assert second is given
        assert second == first
        assert (second.id, second.run, second.source_uri) == (
            first.id,
            first_run,
            str(data / "a.txt"),
        )
        assert runs_of(first) == {first_run.id, second_run.id}
        assert ln.select(ln.File, all_versions=True).count() == 1
        assert objects.seen() == {"k.txt": b"same"}
        assert objects.hidden() == set()

    def test_the_same_content_under_another_key_is_a_second_record(
        self, objects: Objects, data: Path
    ) -> None:
        path = local_file(data, "a.txt", "same")
        first, second = (ln.add(ln.File(path, key=key)) for key in ("one.txt", "two.txt"))
        assert first != second
        assert first.hash == second.hash
        assert objects.seen() == {"one.txt": b"same", "two.txt": b"same"}
        ln.delete(first, delete_data=True)
        assert second.stage().read_text() == "same"

    def test_the_same_keyless_content_is_the_same_record_if_its_name_is(
        self, objects: Objects, data: Path
    ) -> None:
        first = ln.add(ln.File(local_file(data, "a.txt", "same")))
        assert ln.add(ln.File(local_file(data / "elsewhere", "a.txt", "same"))) == first
        other = ln.add(ln.File(local_file(data, "b.txt", "same")))
        assert other != first
        assert objects.seen() == {f"{first.id}.txt": b"same", f"{other.id}.txt": b"same"}

    def test_adding_twice_changes_nothing(self, objects: Objects, data: Path) -> None:
        run = ln.track(ln.Transform("One"))
        file = ln.add(ln.File(local_file(data, "a.txt"), key="k.txt"))
        before, row = objects.seen(), ln.select(ln.File).df()
        assert ln.add(file) is file
        assert ln.add([file, file]) == [file, file]
        pd.testing.assert_frame_equal(ln.select(ln.File).df(), row)
        assert objects.seen() == before
        assert run.outputs == [file]

    # --- replace --------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["deep/k.txt", None])
    def test_replacing_gives_the_same_record_new_content(
        self, objects: Objects, data: Path, key: str | None
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "old"), key=key))
        place = key or f"{file.id}.txt"
        file.replace(local_file(data, "b.txt", "newer"))
        assert objects.seen() == {place: b"old"}
        assert ln.select(ln.File).one().hash == hash_of(b"old")
        assert file.stage().read_text() == "old"
        assert ln.add(file) is file
        assert objects.seen() == {place: b"newer"}
        assert objects.hidden() == set()
        stored = ln.select(ln.File, all_versions=True).one()
        assert stored == file
        assert (stored.hash, stored.size, stored.source_uri) == (
            hash_of(b"newer"),
            5,
            str(data / "b.txt"),
        )
        assert stored.updated_at > stored.created_at
        assert stored.stage().read_text() == file.stage().read_text() == "newer"
        assert (file.hash, file.size) == (hash_of(b"newer"), 5)

    def test_a_frame_can_be_replaced_by_another(self, objects: Objects) -> None:
        file = ln.add(ln.File(FRAME, key="t.parquet"))
        file.replace(FRAME.head(1))
        ln.add(file)
        pd.testing.assert_frame_equal(ln.select(ln.File).one().load(), FRAME.head(1))
        assert ln.select(ln.File).one().source_uri is None

    def test_the_run_that_replaces_the_content_becomes_its_run(
        self, objects: Objects, data: Path
    ) -> None:
        first = ln.track(ln.Transform("One"))
        file = ln.add(ln.File(local_file(data, "a.txt", "old"), key="k.txt"))
        reader = ln.track(ln.Transform("Reader"))
        file.stage()
        second = ln.track(ln.Transform("Two"))
        file.replace(local_file(data, "b.txt", "new"))
        ln.add(file)
        stored = ln.select(ln.File).one()
        assert (stored.run, stored.transform) == (second, second.transform)
        # what the first run made is no more; that another has read this record stays true
        assert runs_of(stored) == {second.id}
        assert (first.outputs, reader.inputs) == ([], [stored])
        third = ln.track(ln.Transform("Three"))
        file.replace(local_file(data, "c.txt", "new"))
        ln.add(file)
        assert runs_of(stored) == {second.id, third.id}

    @pytest.mark.parametrize("superseded", ["before replace", "before add"])
    def test_an_older_version_is_not_replaced(
        self, objects: Objects, data: Path, superseded: str
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "one"), key="k.txt"))
        newer = local_file(data, "b.txt", "two")
        if superseded == "before replace":
            ln.add(ln.File(newer, key="k.txt"))
            with pytest.raises(ValueError, match="older version"):
                file.replace(local_file(data, "c.txt", "three"))
        else:
            file.replace(local_file(data, "c.txt", "three"))
            ln.add(ln.File(newer, key="k.txt"))
            with pytest.raises(ValueError, match="older version"):
                ln.add(file)
        latest = ln.select(ln.File).one()
        assert latest.stage().read_text() == "two"
        older = ln.select(ln.File, all_versions=True, is_latest=False).one()
        assert older.stage().read_text() == "one"
        assert objects.seen() == {"k.txt": b"two"}

    def test_a_directory_can_be_replaced_by_another(self, objects: Objects, data: Path) -> None:
        local_file(data / "one", "a.txt", "one")
        local_file(data / "two", "b.txt", "two")
        file = ln.add(ln.File(data / "one", key="d"))
        file.replace(data / "two")
        ln.add(file)
        assert objects.seen() == {"d/b.txt": b"two"}
        assert tree(ln.select(ln.File).one().stage()) == {"b.txt": b"two"}
        assert objects.hidden() == set()

    # --- delete ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["deep/k.txt", None])
    def test_deleting_with_data_removes_row_and_object(
        self, objects: Objects, data: Path, key: str | None
    ) -> None:
        kept = ln.add(ln.File(local_file(data, "kept.txt"), key="kept.txt"))
        file = ln.add(ln.File(local_file(data, "a.txt", "gone"), key=key))
        ln.delete(file, delete_data=True)
        assert ln.select(ln.File, all_versions=True).all() == [kept]
        assert set(objects.all()) & {"deep/k.txt", f"{file.id}.txt"} == set()
        assert objects.seen() == {"kept.txt": b"content"}
        assert objects.hidden() == set()

    def test_deleting_without_data_leaves_the_object(self, objects: Objects, data: Path) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "stays"), key="k.txt"))
        ln.delete(file, delete_data=False)
        assert ln.select(ln.File, all_versions=True).count() == 0
        assert objects.seen() == {"k.txt": b"stays"}
        again = ln.add(ln.File(f"{objects.root}/k.txt"))
        assert again != file
        assert again.hash == hash_of(b"stays")

    def test_deleting_the_latest_version_brings_the_older_back(
        self, objects: Objects, data: Path
    ) -> None:
        first, second, third = (
            ln.add(ln.File(local_file(data, f"{text}.txt", text), key="k.txt"))
            for text in ("one", "two", "three")
        )
        ln.delete(third, delete_data=True)
        assert ln.select(ln.File).one() == second
        assert objects.seen() == {"k.txt": b"two"}
        ln.delete(ln.select(ln.File, all_versions=True, id=first.id).one(), delete_data=True)
        assert ln.select(ln.File, all_versions=True).one() == second
        assert ln.select(ln.File).one().stage().read_text() == "two"
        assert objects.hidden() == set()

    def test_deleting_all_versions_leaves_nothing(self, objects: Objects, data: Path) -> None:
        files = [
            ln.add(ln.File(local_file(data, f"{text}.txt", text), key="k.txt"))
            for text in ("one", "two", "three")
        ]
        ln.delete(files, delete_data=True)
        assert ln.select(ln.File, all_versions=True).count() == 0
        assert objects.seen() == {}
        assert objects.hidden() == set()

    def test_deleting_a_directory_removes_all_of_it(self, objects: Objects, data: Path) -> None:
        local_file(data / "d", "deep/a.txt")
        local_file(data / "d", "b.txt")
        ln.delete(ln.add(ln.File(data / "d", key="d")), delete_data=True)
        assert objects.seen() == {}
        assert objects.hidden() == set()

    def test_a_record_whose_object_is_gone_can_be_deleted(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt"), key="k.txt"))
        objects.remove("k.txt")
        ln.delete(file, delete_data=True)
        assert ln.select(ln.File, all_versions=True).count() == 0

    def test_a_deleted_record_cannot_come_back_without_its_bytes(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt"), key="k.txt"))
        ln.delete(file, delete_data=True)
        with pytest.raises(ValueError, match="deleted"):
            ln.add(file)
        assert ln.select(ln.File, all_versions=True).count() == 0

    def test_nobody_to_ask_refuses_to_delete(self, objects: Objects, data: Path) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt"), key="k.txt"))
        with pytest.raises(DeleteError, match="delete_data=True or delete_data=False"):
            ln.delete(file)
        assert ln.select(ln.File).one() == file
        assert objects.seen() == {"k.txt": b"content"}

    # --- sources elsewhere ----------------------------------------------------------------------

    @pytest.fixture
    def elsewhere(self) -> Iterator[Objects]:
        """A store that is no storage of the instance."""
        there = Objects(f"memory://elsewhere-{uuid4().hex}")
        yield there
        fsspec.filesystem("memory").rm(there.root.removeprefix("memory:/"), recursive=True)

    @pytest.mark.parametrize("form", [str, UPath], ids=["text", "UPath"])
    def test_a_url_is_a_source_like_any_other(
        self, objects: Objects, elsewhere: Objects, form: Callable[[str], Any]
    ) -> None:
        url = elsewhere.put("deep/a.tar.gz", b"far away")
        file = ln.File(form(url), key="near.tar.gz")
        assert (file.name, file.suffix, file.size) == ("near.tar.gz", ".tar.gz", 8)
        assert file.hash == hash_of(b"far away")
        assert ln.add(file).source_uri == url
        assert objects.seen() == {"near.tar.gz": b"far away"}
        assert elsewhere.all() == {"deep/a.tar.gz": b"far away"}
        assert ln.add(ln.File(form(url))).name == "a.tar.gz"

    def test_a_folder_behind_a_url_is_a_source_too(
        self, objects: Objects, elsewhere: Objects
    ) -> None:
        elsewhere.put("d/a.txt", b"a")
        elsewhere.put("d/deep/b.txt", b"b")
        file = ln.add(ln.File(f"{elsewhere.root}/d", key="d"))
        assert (file.hash_type, file.size) == ("md5-d", 2)
        assert objects.seen() == {"d/a.txt": b"a", "d/deep/b.txt": b"b"}
        assert tree(file.stage()) == {"a.txt": b"a", "deep/b.txt": b"b"}

    @pytest.mark.filterwarnings("ignore:in a future version of UPath")  # of 0.2 itself
    @pytest.mark.parametrize("form", ["file://{}", "{}", "UPath", "UPath file://"])
    def test_a_local_source_may_be_given_as_a_url(
        self, objects: Objects, data: Path, form: str
    ) -> None:
        path = local_file(data, "a b.txt", "here")
        given = {"UPath": UPath(path), "UPath file://": UPath(f"file://{path}")}.get(
            form, form.format(path)
        )
        file = ln.add(ln.File(given, key="k.txt"))
        assert file.source_uri == str(path)
        assert file.stage().read_text() == "here"

    def test_a_remote_source_can_be_read_before_it_is_added(
        self, objects: Objects, elsewhere: Objects
    ) -> None:
        for name in ("top.txt", "deep/a.txt"):
            file = ln.File(elsewhere.put(name, b"far away"), key="k.txt")
            assert file.load() == "far away"
            assert file.stage().read_bytes() == b"far away"
            assert file.path().read_bytes() == b"far away"
            assert str(file.path()) == f"{elsewhere.root}/{name}"

    @pytest.mark.parametrize("url", ["memory://nothing/here.txt", "file:///nothing/here.txt"])
    def test_a_url_where_nothing_lies_is_a_missing_file(self, objects: Objects, url: str) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing/here\.txt") as caught:
            ln.File(url)
        assert isinstance(caught.value, DataError)

    # --- when something goes wrong --------------------------------------------------------------

    @pytest.fixture
    def break_reading(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Make a local file's stream break off; ``turn`` counts how often it was opened."""
        opened: dict[Path, int] = {}
        real = sources._open

        def break_reading(path: Path, after: int, turn: int) -> None:
            def breaking(other: Path) -> Any:
                opened[other] = opened.get(other, 0) + 1
                stream = real(other)
                broken = other == path and opened[other] == turn
                return FailsMidway(stream, after) if broken else stream

            monkeypatch.setattr(sources, "_open", breaking)

        return break_reading

    @pytest.mark.parametrize("turn", [1, 2], ids=["the first reading", "the second reading"])
    def test_a_source_that_breaks_off_leaves_nothing(
        self, objects: Objects, data: Path, break_reading: Callable[..., None], turn: int
    ) -> None:
        path = local_file(data, "a.bin", random.Random(0).randbytes(3_000_000))
        break_reading(path, 2_000_000, turn)
        if turn == 2 and self.is_local:
            assert ln.add(ln.File(path, key="k.bin")).size == 3_000_000  # one reading is enough
            return
        with pytest.raises(OSError, match=r"Input/output error|failed"):
            ln.add(ln.File(path, key="k.bin"))
        assert ln.select(ln.File, all_versions=True).count() == 0
        assert objects.seen() == {}
        assert objects.hidden() == set()
        assert ln.add(ln.File(path, key="k.bin")).stage().stat().st_size == 3_000_000

    def test_a_new_version_that_breaks_off_leaves_the_old_one(
        self, objects: Objects, data: Path, break_reading: Callable[..., None]
    ) -> None:
        old = ln.add(ln.File(local_file(data, "a.bin", b"old"), key="k.bin"))
        path = local_file(data, "b.bin", random.Random(0).randbytes(300_000))
        break_reading(path, 100_000, 1 if self.is_local else 2)
        with pytest.raises(OSError):
            ln.add(ln.File(path, key="k.bin"))
        assert objects.seen() == {"k.bin": b"old"}
        assert objects.hidden() == set()
        assert ln.select(ln.File, all_versions=True).one() == old
        assert old.stage().read_bytes() == b"old"

    def test_one_bad_file_of_many_keeps_all_of_them_out(
        self, objects: Objects, data: Path, break_reading: Callable[..., None]
    ) -> None:
        paths = [local_file(data, f"{number}.bin", bytes(200_000)) for number in range(6)]
        local_file(data / "d", "a.txt")
        files = [ln.File(path, key=f"many/{path.name}") for path in [*paths, data / "d"]]
        break_reading(paths[3], 100_000, 1)
        paths[4].write_bytes(b"written to meanwhile")
        with pytest.raises(AddError) as caught:
            ln.add(files)
        assert [record.key for record, _ in caught.value.failures] == ["many/3.bin", "many/4.bin"]
        assert isinstance(caught.value.failures[1][1], DataChangedError)
        message = str(caught.value)
        assert "none of 7 records was added, because 2 failed" in message
        assert "many/3.bin" in message
        assert "many/4.bin" in message
        assert "many/5.bin" not in message
        assert ln.select(ln.File, all_versions=True).count() == 0
        assert objects.seen() == {}
        assert objects.hidden() == set()

    def test_a_source_written_to_after_it_was_looked_at_is_refused(
        self, objects: Objects, data: Path
    ) -> None:
        path = local_file(data, "a.txt", "one")
        file = ln.File(path, key="k.txt")
        path.write_text("other")
        with pytest.raises(DataChangedError, match=r"make a new ln\.File"):
            ln.add(file)
        assert repr(file).startswith("File(id=")
        assert objects.seen() == {}
        assert ln.select(ln.File).count() == 0

    def test_a_file_too_large_for_its_key_as_a_folder_is_refused(
        self, objects: Objects, data: Path
    ) -> None:
        ln.add(ln.File(local_file(data, "a.txt", "a"), key="a"))
        with pytest.raises(KeyConflictError, match="inside 'a'"):
            ln.add(ln.File(local_file(data, "b.txt", "b"), key="a/b"))
        ln.add(ln.File(local_file(data, "c.txt", "c"), key="d/c"))
        with pytest.raises(KeyConflictError, match="folder of 'd/c'"):
            ln.add(ln.File(local_file(data, "d.txt", "d"), key="d"))
        assert objects.seen() == {"a": b"a", "d/c": b"c"}

    def test_a_storage_error_is_an_os_error(self) -> None:
        assert issubclass(StorageError, OSError)


class StagingContract:
    """What a remote storage's cached copies promise; mixed into :class:`StorageContract`."""

    @pytest.fixture
    def fetched(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The keys that were really downloaded."""
        from lamindb.storage.store import Store

        names: list[str] = []
        real = Store.write

        def counting(store: Store, source: Any, key: str, *rest: Any) -> Any:
            if store.root.startswith(str(cache_dir())):
                names.append(source.uri)
            return real(store, source, key, *rest)

        monkeypatch.setattr(Store, "write", counting)
        return names

    def test_a_staged_copy_is_fetched_once_and_shared(
        self, objects: Objects, data: Path, fetched: list[str]
    ) -> None:
        path = local_file(data, "a.txt", "same")
        one, two = (ln.add(ln.File(path, key=key)) for key in ("one.txt", "two.txt"))
        assert one.stage() == two.stage() == ln.select(ln.File, key="one.txt").one().stage()
        assert fetched == [f"{objects.root}/one.txt"]
        assert tree(cache_dir() / "objects").keys() == {f"{one.hash[:2]}/{one.hash}.txt"}

    def test_a_damaged_copy_is_fetched_again(
        self, objects: Objects, data: Path, fetched: list[str]
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "good"), key="k.txt"))
        staged = file.stage()
        staged.chmod(0o644)
        staged.write_text("evil")
        assert file.stage().read_text() == "good"
        assert file.load() == "good"
        assert len(fetched) == 2

    def test_a_damaged_copy_of_a_directory_is_fetched_again(
        self, objects: Objects, data: Path, fetched: list[str]
    ) -> None:
        local_file(data / "d", "a.txt", "good")
        file = ln.add(ln.File(data / "d", key="d"))
        (file.stage() / "extra.txt").write_text("evil")
        assert tree(file.stage()) == {"a.txt": b"good"}
        assert len(fetched) == 2

    def test_a_download_with_other_bytes_leaves_nothing_in_the_cache(
        self, objects: Objects, data: Path
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "good"), key="k.txt"))
        objects.put("k.txt", b"evil")
        with pytest.raises(ObjectChangedError):
            file.stage()
        assert tree(cache_dir() / "objects") == {}

    def test_a_copy_that_goes_while_it_is_looked_at_is_fetched_again(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = ln.add(ln.File(local_file(data, "a.txt", "text"), key="a.txt"))
        staged = file.stage()
        real = cache.digest_once

        def trimmed_meanwhile(*arguments: Any) -> Any:
            staged.unlink(missing_ok=True)
            return real(*arguments)

        monkeypatch.setattr(cache, "digest_once", trimmed_meanwhile)
        assert file.stage().read_text() == "text"

    def test_what_a_killed_download_has_left_is_cleared_when_it_is_old(
        self, objects: Objects, data: Path
    ) -> None:
        incoming = cache_dir() / "objects" / "incoming"
        old, new = local_file(incoming, "old"), local_file(incoming, "new")
        os.utime(old, (0, 0))
        local_file(cache_dir() / "objects", ".DS_Store")
        ln.add(ln.File(local_file(data, "a.txt", "text"), key="a.txt")).stage()
        assert (old.exists(), new.exists()) == (False, True)

    def test_the_cache_is_trimmed_to_its_size_oldest_use_first(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ln.settings, "cache_size_bytes", 2500)
        clock = iter(range(1000, 100_000, 1000))
        monkeypatch.setattr(copies, "_now", lambda: float(next(clock)))
        staged = []
        for number in range(4):
            path = local_file(data, f"{number}.bin", bytes([number]) * 1000)
            file = ln.add(ln.File(path, key=path.name))
            staged.append(file.stage())
            if number in (1, 2):
                ln.select(ln.File, key="0.bin").one().stage()  # used again, so not the oldest
        assert [path.exists() for path in staged] == [True, False, False, True]
        assert ln.select(ln.File, key="1.bin").one().stage().read_bytes() == b"\1" * 1000

    def test_a_copy_larger_than_the_whole_cache_is_handed_out_all_the_same(
        self, objects: Objects, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ln.settings, "cache_size_bytes", 10)
        file = ln.add(ln.File(local_file(data, "a.bin", bytes(1000)), key="a.bin"))
        assert file.stage().read_bytes() == bytes(1000)
