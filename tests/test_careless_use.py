"""What careless use must not destroy."""

import os
import sys
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

import lamindb as ln
from lamindb import endings
from lamindb.doctor import examine
from lamindb.errors import (
    CredentialsError,
    DeleteError,
    KeyConflictError,
    ObjectChangedError,
    RecordError,
    SetupError,
)

pytestmark = pytest.mark.databases("full")


@pytest.fixture(autouse=True)
def here(clean_environment: None) -> None:
    ln.setup.init("./mydata")


def written(name: str, content: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def versions(key: str, *contents: str) -> list[ln.File]:
    return [ln.add(ln.File(written("v.txt", content), key=key)) for content in contents]


def test_a_directory_that_holds_another_instance_is_refused():
    ln.setup.init("./outer/inner", name="inner")
    ln.setup.load("mydata")
    with pytest.raises(KeyConflictError, match="holds the storage of an instance"):
        ln.File("outer")


def test_a_key_that_leads_into_another_instance_is_refused():
    ln.setup.init("./mydata/inner", name="inner")
    ln.setup.load("mydata")
    with pytest.raises(KeyConflictError, match="another instance"):
        ln.add(ln.File(written("a.txt", "a"), key="inner/new.txt"))
    assert not Path("mydata/inner/new.txt").exists()


def test_a_key_that_leads_over_a_link_out_of_the_storage_is_refused(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", "mydata/out")
    with pytest.raises(KeyConflictError, match="over a link out of the storage"):
        ln.add(ln.File(written("a.txt", "a"), key="out/escaped.txt"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_deleting_a_directory_that_has_grown_is_refused():
    written("src/x.txt", "x")
    directory = ln.add(ln.File("src", key="d"))
    notes = written("mydata/d/notes.txt", "work of the user")
    with pytest.raises(DeleteError, match="holds other files"):
        ln.delete(directory, delete_data=True)
    assert notes.read_text() == "work of the user"


def test_replacing_bytes_that_no_record_knows_is_refused():
    file = ln.add(ln.File(written("a.txt", "a"), key="k.txt"))
    written("mydata/k.txt", "edited by hand")
    file.replace(written("b.txt", "b"))
    with pytest.raises(ObjectChangedError, match="replacing it would lose"):
        ln.add(file)
    assert Path("mydata/k.txt").read_text() == "edited by hand"


def test_known_content_is_not_said_to_be_stored_where_other_bytes_lie():
    good = written("a.txt", "good")
    file = ln.add(ln.File(good, key="k.txt"))
    written("mydata/k.txt", "bad!")
    with pytest.raises(ObjectChangedError, match="move it away"):
        ln.add(ln.File(good, key="k.txt"))
    Path("mydata/k.txt").rename("bad.txt")
    assert ln.add(ln.File(good, key="k.txt")) == file
    assert file.stage().read_text() == "good"


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "twice in a list"])
def test_known_content_without_a_key_gets_its_lost_object_back(count: int):
    source = written("b.txt", "b")
    file = ln.add(ln.File(source))
    file.path().unlink()
    again = ln.add([ln.File(source) for _ in range(count)])
    assert again == [file] * count
    assert file.stage().read_text() == "b"
    assert [path.name for path in Path("mydata").glob("*.txt")] == [f"{file.id}.txt"]


def test_known_content_without_a_key_is_not_said_to_be_stored_where_other_bytes_lie():
    source = written("b.txt", "b")
    file = ln.add(ln.File(source))
    Path("mydata", f"{file.id}.txt").write_text("x")
    with pytest.raises(ObjectChangedError, match="move it away"):
        ln.add(ln.File(source))


def test_a_lost_object_of_a_remote_storage_is_put_back(tmp_path: Path):
    root = f"memory://careless-{uuid4().hex}"
    ln.setup.init(root, name="far", db=f"sqlite:///{tmp_path}/far.sqlite")
    source = written("b.txt", "good")
    keyed, keyless = ln.add(ln.File(source, key="k.txt")), ln.add(ln.File(source))
    for file in (keyed, keyless):
        file.path().unlink()
    assert ln.add([ln.File(source, key="k.txt"), ln.File(source)]) == [keyed, keyless]
    assert [file.path().read_text() for file in (keyed, keyless)] == ["good", "good"]
    keyed.path().write_text("bad!")
    with pytest.raises(ObjectChangedError, match="move it away"):
        ln.add(ln.File(source, key="k.txt"))


def test_an_edited_object_is_not_passed_off_as_the_older_version():
    a, *_ = versions("k.txt", "A")
    edited = written("mydata/k.txt", "hand-edited")
    with pytest.raises(ObjectChangedError, match="register it first"):
        versions("k.txt", "B")
    assert edited.read_text() == "hand-edited"
    ln.add(ln.File(edited))
    versions("k.txt", "B", "A")
    kept = [file.stage().read_text() for file in ln.select(ln.File, all_versions=True).all()]
    assert sorted(kept) == ["A", "B", "hand-edited"]
    assert ln.select(ln.File, key="k.txt").one() == a


def test_an_edited_older_version_is_not_removed_when_its_content_comes_back():
    a, _ = versions("k.txt", "A", "B")
    kept = written(f"mydata/.lamindb/versions/{a.id}.txt", "edited")
    with pytest.raises(ObjectChangedError, match="move it away"):
        versions("k.txt", "A")
    assert kept.read_text() == "edited"
    kept.unlink()
    assert versions("k.txt", "A") == [a]


def test_deleting_an_edited_object_is_refused():
    older, latest = versions("k.txt", "A", "B")
    keyless = ln.add(ln.File(written("q.txt", "q")))
    older = ln.select(ln.File, id=older.id, all_versions=True).one()
    places = [
        (older, Path(f"mydata/.lamindb/versions/{older.id}.txt")),
        (latest, Path("mydata/k.txt")),
        (keyless, Path(f"mydata/{keyless.id}.txt")),
    ]
    for file, path in places:
        path.write_text("hand-edited")
        with pytest.raises(DeleteError, match="holds other bytes"):
            ln.delete(file, delete_data=True)
        assert path.read_text() == "hand-edited"
    assert ln.select(ln.File, all_versions=True).count() == 3
    ln.delete(keyless, delete_data=False)
    assert Path(f"mydata/{keyless.id}.txt").exists()


def registered(*paths: str) -> list[ln.File]:
    return [ln.add(ln.File(path)) for path in paths]


def test_deleting_a_directory_around_another_records_file_is_refused():
    x = written("mydata/d/x.txt", "x")
    file, folder = registered("mydata/d/x.txt", "mydata/d")
    for one in (folder, file):
        with pytest.raises(DeleteError, match=r"another record, .*mydata/d.* shares its bytes"):
            ln.delete(one, delete_data=True)
    assert folder.stage() == x.parent.absolute()
    ln.delete([file, folder], delete_data=True)
    assert not x.parent.exists()
    assert ln.select(ln.File).count() == 0


def test_a_directory_may_go_once_the_record_of_its_file_is_gone():
    written("mydata/d/x.txt", "x")
    file, folder = registered("mydata/d/x.txt", "mydata/d")
    ln.delete(file, delete_data=False)
    ln.delete(folder, delete_data=True)
    assert not Path("mydata/d").exists()


def test_new_content_for_a_directory_around_another_records_file_is_refused():
    written("mydata/e/x.txt", "x")
    file, folder = registered("mydata/e/x.txt", "mydata/e")
    source = written("src/y", "y").parent
    with pytest.raises(KeyConflictError, match=r"another record, .*x\.txt"):
        ln.add(ln.File(source, key="e"))
    folder.replace(source)
    with pytest.raises(KeyConflictError, match=r"another record, .*x\.txt"):
        ln.add(folder)
    assert file.stage().read_text() == "x"


def test_the_path_of_an_object_that_an_id_names_is_that_record():
    file = ln.add(ln.File(written("q.txt", "q")))
    assert ln.add(ln.File(file.path())) == file
    assert ln.select(ln.File).all() == [file]
    file.path().write_text("edited")
    with pytest.raises(ObjectChangedError, match=r"file\.replace\(path\)"):
        ln.add(ln.File(file.path()))
    file.replace(file.path())
    assert ln.add(file).stage().read_text() == "edited"


def test_a_key_inside_a_directory_that_an_id_names_is_refused():
    folder = ln.add(ln.File(written("d/x", "x").parent))
    with pytest.raises(KeyConflictError, match="cannot lie inside"):
        ln.add(ln.File(written("a.txt", "a"), key=f"{folder.id}/a.txt"))
    assert folder.stage().exists()


def test_a_file_of_two_storages_is_not_deleted_with_one_of_its_records():
    path = written("mydata/sub/x.txt", "x")
    outer = ln.add(ln.File(path))
    ln.add(ln.Storage("mydata/sub"))
    inner = ln.add(ln.File(path))
    assert inner != outer
    for one in (inner, outer):
        with pytest.raises(DeleteError, match=r"another record, .*mydata/sub/x\.txt"):
            ln.delete(one, delete_data=True)
    ln.delete([inner, outer], delete_data=True)
    assert not path.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "../outside.txt"),
        ("key", ".lamindb/lamindb.sqlite-journal"),
        ("key", "renamed.txt"),
        ("suffix", "/../../../outside.txt"),
        ("id", "../outside"),
        ("storage_id", "elsewhere"),
        ("is_latest", False),
    ],
)
def test_where_a_file_goes_cannot_be_set_after_it_was_made(
    field: str, value: object, tmp_path: Path
):
    keyed, keyless = ln.File(written("a.txt", "a"), key="k.txt"), ln.File(written("b.txt", "b"))
    for file in (keyed, keyless):
        setattr(file, field, value)
        with pytest.raises(RecordError, match=rf"^{field} of .* cannot be set"):
            ln.add(file)
    assert [path for path in tmp_path.rglob("*.txt") if path.parent.name != "work"] == []
    assert ln.select(ln.File, all_versions=True).count() == 0


def test_a_record_does_not_delete_what_a_changed_key_leads_to():
    c, d = (ln.add(ln.File(written(f"{name}.txt", name), key=f"{name}.txt")) for name in "cd")
    c.key = "d.txt"
    with pytest.raises(RecordError, match=r"key of c\.txt cannot be set"):
        ln.delete(c, delete_data=True)
    assert d.stage().read_text() == "d"


def test_a_deleted_record_hands_out_no_bytes():
    file = ln.add(ln.File(written("a.txt", "a"), key="k.txt"))
    file.replace(written("c.txt", "c"))
    ln.delete(file, delete_data=True)
    with pytest.raises(FileNotFoundError):
        file.stage()


def test_a_folder_named_tilde_is_not_the_home_folder():
    written("~/a.txt", "here")
    written(f"{os.environ['HOME']}/a.txt", "at home")
    assert ln.add(ln.File("./~/a.txt", key="t")).stage().read_text() == "here"
    assert ln.add(ln.File("~/a.txt", key="u")).stage().read_text() == "at home"


def test_a_record_of_another_instance_is_not_said_to_be_added():
    file = ln.add(ln.File(written("a.txt", "a"), key="k.txt"))
    ln.setup.init("./two", name="two")
    with pytest.raises(RecordError, match="is not in the instance 'two'"):
        ln.add(file)


def test_the_version_before_comes_back_though_another_was_edited_since():
    a, b, c = versions("k.txt", "a", "b", "c")
    a = ln.select(ln.File, id=a.id, all_versions=True).one()
    a.description = "the first"
    ln.add(a)
    ln.delete(c, delete_data=True)
    assert ln.select(ln.File, key="k.txt").one() == b
    assert Path("mydata/k.txt").read_text() == "b"


def test_a_version_that_lost_its_bytes_is_passed_over_when_one_comes_back():
    a, b, c = versions("k.txt", "a", "b", "c")
    (Path("mydata/.lamindb/versions") / f"{b.id}.txt").unlink()
    ln.delete(c, delete_data=True)
    assert ln.select(ln.File, key="k.txt").one() == a


def test_a_latest_version_is_not_deleted_around_its_data():
    _, b = versions("k.txt", "a", "b")
    with pytest.raises(DeleteError, match="older versions"):
        ln.delete(b, delete_data=False)
    assert ln.select(ln.File, key="k.txt").one() == b


def test_params_changed_in_place_are_saved():
    run = ln.track(transform=ln.Transform("measure"), params={"n": 1})
    run.params["n"] = 2
    ln.add(run)
    assert ln.select(ln.Run, id=run.id).one().params == {"n": 2}


def test_other_params_are_another_run_in_a_session():
    notebook = ln.Transform("notebook", type="notebook")
    first = ln.track(transform=notebook, params={"n": 3})
    assert ln.track(transform=notebook) == first
    assert ln.track(transform=notebook, params={"n": 4}) != first


def test_get_or_create_of_a_file_gets_the_latest():
    _, b = versions("k.txt", "a", "b")
    assert ln.add(ln.File, key="k.txt") == b


def test_credentials_in_a_chain_of_urls_are_refused():
    with pytest.raises(CredentialsError) as caught:
        ln.File("zip://a.csv::https://me:secret@example.org/b.zip")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("root", ["s3://", "http://example.org/x"])
def test_a_storage_that_cannot_hold_files_is_refused(root: str):
    with pytest.raises(SetupError, match="cannot hold files"):
        ln.setup.init(root)


@pytest.mark.parametrize("wrong", [5, "x", [], ln.File])
def test_tracking_what_is_no_transform_says_so(wrong: object):
    with pytest.raises(RecordError, match="is no Transform"):
        ln.track(transform=wrong)  # type: ignore[arg-type]


def test_a_run_that_is_no_run_says_so():
    with pytest.raises(RecordError, match="is no Run record"):
        ln.File(written("a.txt", "a"), run=5)  # type: ignore[arg-type]


def test_the_heart_of_a_run_beats(monkeypatch: pytest.MonkeyPatch):
    from lamindb import tracking

    run = ln.track(transform=ln.Transform("long"))
    before = ln.select(ln.Run, id=run.id).one().heartbeat_at
    tracking._beat()
    assert ln.select(ln.Run, id=run.id).one().heartbeat_at > before


class NamelessModule(ModuleType):
    """As cffi's libraries are, which stand among the modules and have no ``__dict__``."""

    __dict__ = property()  # type: ignore[assignment]


def test_a_module_without_names_of_its_own_does_not_keep_a_run_from_starting(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "nameless", NamelessModule("nameless"))
    endings._rebind(sys.exit, sys.exit)
    assert ln.track(ln.Transform("x")).status == "started"


def test_the_doctor_finds_what_an_older_version_has_left():
    old, _ = versions("k.txt", "old", "new")
    assert list(examine()) == []
    ln.delete(old, delete_data=False)
    [finding] = examine()
    assert finding.problem == "object-unrecorded"
    assert finding.subject.endswith(f"versions/{old.id}.txt")


def test_what_a_dead_process_was_writing_goes_from_every_storage():
    ln.add(ln.Storage(written("second/x.txt", "x").parent))
    for storage in ("mydata", "second"):
        written(f"{storage}/.lamindb/incoming/gone-0.new", "half")
    ln.setup.load("mydata")
    assert ln.select(ln.File).count() == 0
    for storage in ("mydata", "second"):
        assert list(Path(storage, ".lamindb/incoming").iterdir()) == []
