"""Instances: made, found, moved, copied, closed and deleted, with real folders and databases."""

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

import lamindb as ln
from lamindb import config, instance
from lamindb.errors import (
    CredentialsError,
    DatabaseMissingError,
    KeyInvalidError,
    NoInstanceError,
    SetupError,
    StorageMissingError,
)

T = TypeVar("T")


def python(code: str, folder: Path | str = ".", **environment: str) -> str:
    """Run code in a new process that has made no choice of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import lamindb as ln\n{code}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def forget() -> None:
    """Become a process that has made no choice yet."""
    instance.reset()


def used(folder: Path | str = ".", **environment: str) -> str:
    """Return the name of the instance that a process begun in a folder uses."""
    return str(asked(lambda: ln.setup.settings.instance.name, folder, **environment))


def files(folder: Path | str = ".") -> int:
    """Return how many files it has."""
    return int(asked(lambda: ln.select(ln.File).count(), folder))


def asked(ask: Callable[[], T], folder: Path | str = ".", **environment: str) -> T:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        forget()
        answer = ask()
        forget()
    return answer


def add_text(text: str, key: str) -> ln.File:
    path = Path("source.txt")
    path.write_text(text)
    return ln.add(ln.File(path, key=key))


def make(folder: Path, **options: Any) -> config.InstanceConfig:
    """Make an instance with the storage ./mydata in a folder, as the guide does."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    made = ln.setup.init("./mydata", **options)
    os.chdir(before)
    return made


# --- init ---------------------------------------------------------------------------------------


def test_init_makes_the_storage_with_the_database_in_it_and_registers_user_and_storage() -> None:
    made = ln.setup.init(storage="./mydata")

    root = Path.cwd() / "mydata"
    assert made.name == "mydata"
    assert made.storage == str(root)
    assert made.db == f"sqlite:///{root}/.lamindb/lamindb.sqlite"
    assert (root / ".lamindb/lamindb.sqlite").is_file()
    (storage,) = ln.select(ln.Storage).all()
    assert (storage.root, storage.type, storage.managed) == (str(root), "local", True)
    assert (root / ".lamindb/storage_id").read_text().strip() == storage.id
    assert ln.select(ln.User).one() == storage.created_by == ln.setup.settings.user
    assert ln.setup.settings.user.handle == "testuser"


def test_the_settings_say_where_everything_is() -> None:
    ln.setup.init("mydata", name="mine")
    settings = ln.setup.settings

    assert settings.instance.name == "mine"
    assert settings.storage.root == Path.cwd() / "mydata"
    assert isinstance(settings.storage.root, Path)
    assert settings.storage.root_as_str == str(Path.cwd() / "mydata")
    assert settings.storage.type == "local"
    assert settings.storage.cache_dir == Path.home() / ".cache/lamindb"
    assert "mine" in repr(settings)
    assert "mydata" in repr(settings.storage)


def test_the_user_is_named_by_variable_else_by_git_else_by_login_and_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subprocess.run(["git", "config", "--global", "user.email", "me@example.org"], check=True)
    subprocess.run(["git", "config", "--global", "user.name", "Me Myself"], check=True)
    ln.setup.init("mydata")
    user = ln.setup.settings.user
    assert (user.handle, user.email, user.name) == ("testuser", "me@example.org", "Me Myself")

    monkeypatch.delenv("LAMINDB_USER")
    forget()
    assert ln.setup.settings.user.handle == "me@example.org"

    (Path.home() / ".gitconfig").unlink()
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.setenv("LAMINDB_HOST", "laptop")
    forget()
    assert ln.setup.settings.user.handle == "somebody@laptop"


def test_init_again_loads_what_is_there_untouched() -> None:
    made = ln.setup.init("./mydata")
    file = add_text("a", "a.txt")
    before = Path("mydata/.lamindb/lamindb.sqlite").stat().st_ino
    again = ln.setup.init("mydata/")

    assert (again.name, again.storage, again.db) == (made.name, made.storage, made.db)
    assert Path("mydata/.lamindb/lamindb.sqlite").stat().st_ino == before
    assert ln.select(ln.File).one() == file
    assert file.path().read_text() == "a"
    assert ln.select(ln.Storage).count() == 1


def test_init_again_from_elsewhere_makes_that_folder_use_the_instance_too(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    other = tmp_path / "b"
    other.mkdir()
    os.chdir(other)
    ln.setup.init(made.storage)
    assert used(other) == "mydata"
    assert (other / ".lamindb/instance.toml").is_file()


def test_an_existing_folder_keeps_its_files_and_none_is_recorded() -> None:
    Path("mydata/raw").mkdir(parents=True)
    Path("mydata/raw/a.csv").write_text("x")
    ln.setup.init("mydata")
    assert Path("mydata/raw/a.csv").read_text() == "x"
    assert ln.select(ln.File).count() == 0


def test_a_storage_cannot_be_a_file_and_nothing_is_left_behind() -> None:
    Path("taken").write_text("x")
    with pytest.raises(SetupError, match=r"taken is a file: give a folder"):
        ln.setup.init("./taken")
    assert os.listdir() == ["taken"]
    assert Path("taken").read_text() == "x"


@pytest.mark.parametrize("storage", ["", "  ", "a\0b"])
def test_a_storage_without_a_name_is_refused(storage: str) -> None:
    with pytest.raises((SetupError, KeyInvalidError), match="storage root"):
        ln.setup.init(storage)


def test_the_database_can_lie_elsewhere() -> None:
    Path("elsewhere").mkdir()
    made = ln.setup.init("mydata", db="sqlite:///elsewhere/records.db")
    add_text("a", "a.txt")

    assert made.sqlite_path == Path.cwd() / "elsewhere/records.db"
    assert made.sqlite_path.is_file()
    assert not Path("mydata/.lamindb/lamindb.sqlite").exists()
    assert python("print(ln.select(ln.File).one().key)") == "a.txt"
    assert ln.setup.init("mydata").db == made.db


def test_another_database_for_a_storage_that_has_one_is_refused() -> None:
    made = ln.setup.init("mydata")
    add_text("a", "a.txt")
    with pytest.raises(SetupError, match=r"mydata.*has its records in.*lamindb\.sqlite"):
        ln.setup.init("mydata", db="sqlite:///other.db")
    assert ln.setup.init("mydata", db=made.db).db == made.db  # the same one is no other
    assert ln.select(ln.File).count() == 1
    assert not Path("other.db").exists()


@pytest.mark.parametrize(
    ("db", "message"),
    [
        ("mysql://me@host/db", "SQLite or PostgreSQL"),
        ("nonsense", "SQLite or PostgreSQL"),
        ("", "SQLite or PostgreSQL"),
        ("sqlite://", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(db: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        ln.setup.init("mydata", db=db)
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "-a", "a b", "a" * 65, "a\n", "é!"])
def test_a_name_that_could_be_no_files_name_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match="cannot be an instance's name"):
        ln.setup.init("mydata", name=name)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my data (old)", "my-data-old"),
        (".hidden", "hidden"),
        ("Versuch_3.1", "Versuch_3.1"),
        ("дані", "дані"),
        ("a" * 80, "a" * 60),
        ("🧪", "work"),
    ],
)
def test_an_instance_is_named_after_its_folder(folder: str, name: str) -> None:
    assert ln.setup.init(folder).name == name
    assert used() == name


def test_two_processes_may_init_at_once() -> None:
    failures = []

    def init() -> None:
        done = subprocess.run(
            [sys.executable, "-m", "lamindb", "init", "--storage", "mydata"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            failures.append(done.stderr)

    threads = [threading.Thread(target=init) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ln.select(ln.Storage).count() == ln.select(ln.User).count() == 1


# --- several instances --------------------------------------------------------------------------


def test_projects_whose_storage_folders_have_one_name_do_not_clash(tmp_path: Path) -> None:
    made = [make(tmp_path / place) for place in ("a/study", "b/study", "c/trial", "d/study")]

    assert [each.name for each in made] == [
        "mydata",
        "study-mydata",
        "trial-mydata",
        "study-mydata-2",
    ]
    for each in made:
        folder = Path(each.storage).parent
        assert used(folder) == each.name  # in its folder
        assert ln.setup.load(each.name).storage == each.storage  # and by its name
        assert make(folder).name == each.name  # again


def test_a_name_given_by_the_user_that_is_taken_is_refused(tmp_path: Path) -> None:
    first = make(tmp_path / "a", name="mine")
    with pytest.raises(SetupError, match=r"named 'mine' exists.*--name"):
        make(tmp_path / "b", name="mine")
    assert ln.setup.load("mine").storage == first.storage
    assert not (tmp_path / "b" / "mydata").exists()


def test_an_instance_cannot_be_given_a_second_name() -> None:
    ln.setup.init("mydata", name="one")
    with pytest.raises(SetupError, match="belongs to the instance 'one'"):
        ln.setup.init("mydata", name="two")


def test_the_name_of_an_instance_that_is_gone_is_free_again(tmp_path: Path) -> None:
    make(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    made = make(tmp_path / "b")
    assert made.name == "mydata"
    assert ln.setup.load("mydata").storage == made.storage


# --- which instance is used ---------------------------------------------------------------------


def test_which_instance_is_used_goes_from_the_nearest_choice_to_the_farthest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("loaded", "named", "stored", "outer", "inner", "current"):
        make(tmp_path / name, name=name)  # the last one made is the user's current one
    forget()
    inner = tmp_path / "outer" / "inner"
    shutil.copytree(tmp_path / "inner" / ".lamindb", inner / ".lamindb")
    text = (inner / ".lamindb/instance.toml").read_text()
    (inner / ".lamindb/instance.toml").write_text(
        text.replace('"mydata', f'"{tmp_path}/inner/mydata').replace(
            "///mydata", f"///{tmp_path}/inner/mydata"
        )
    )
    below = inner / "deep" / "down"
    below.mkdir(parents=True)

    os.chdir(tmp_path)
    assert used() == "current"
    os.chdir(tmp_path / "outer")
    assert used() == "outer"
    os.chdir(below)
    assert used() == "inner"
    monkeypatch.setenv("LAMINDB_STORAGE", str(tmp_path / "stored" / "mydata"))
    assert used() == "stored"
    monkeypatch.setenv("LAMINDB_INSTANCE", "named")
    assert used() == "named"
    ln.setup.load("loaded")
    assert ln.setup.settings.instance.name == "loaded"
    assert python("print(ln.setup.settings.instance.name)") == "named"  # another process


@pytest.mark.parametrize("reference", ["mine", "p/mydata", "p", "p/"])
def test_an_instance_is_loaded_by_name_storage_or_project_folder(
    tmp_path: Path, reference: str
) -> None:
    make(tmp_path / "p", name="mine")
    forget()
    os.chdir(tmp_path)
    assert ln.setup.load(reference).name == "mine"
    assert used(LAMINDB_INSTANCE=reference) == "mine"


def test_the_environment_can_name_storage_and_database(tmp_path: Path) -> None:
    made = make(tmp_path / "p", db=f"sqlite:///{tmp_path}/records.db", name="mine")
    assert used(LAMINDB_STORAGE=made.storage) == "mine"  # which knows its database
    assert used(LAMINDB_STORAGE=made.storage, LAMINDB_DB=made.db) == "mydata"


def test_a_database_in_the_environment_without_a_storage_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ln.setup.init("mydata")
    forget()
    monkeypatch.setenv("LAMINDB_DB", "sqlite:///other.db")
    with pytest.raises(SetupError, match="LAMINDB_STORAGE"):
        ln.select(ln.File).all()


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    make(tmp_path / "a", name="one")
    make(tmp_path / "b", name="two")
    with pytest.raises(SetupError, match=r"no instance 'tow': known are one, two"):
        ln.setup.load("tow")


def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path / "gone", name="gone")
    ln.setup.init("mydata")
    shutil.rmtree(tmp_path / "gone/mydata")
    with pytest.raises(DatabaseMissingError):
        ln.setup.load("gone")
    assert ln.setup.settings.instance.name == "mydata"
    os.chdir(tmp_path)
    assert used() == "mydata"


@pytest.mark.parametrize(
    "call",
    [
        lambda: ln.track(ln.Transform("x")),
        lambda: ln.add(ln.Transform("x")),
        lambda: ln.File(__file__, key="x"),
        lambda: ln.select(ln.File).all(),
        lambda: ln.select(ln.File).df(),
        lambda: ln.delete(ln.Transform("x")),
        lambda: ln.view(),
        lambda: ln.Session().__enter__(),
        lambda: ln.setup.info(),
        lambda: ln.setup.delete(),
        lambda: ln.setup.settings.user,
        lambda: ln.setup.settings.storage.root,
        lambda: ln.setup.settings.instance,
    ],
)
def test_without_an_instance_each_call_names_the_command_to_run(call: Any) -> None:
    with pytest.raises(NoInstanceError, match=r"'lamin init --storage \./mydata'"):
        call()


def test_without_an_instance_asking_for_the_context_or_closing_is_no_error() -> None:
    assert ln.context.run is None
    ln.setup.close()
    ln.finish()
    assert ln.Transform("x").name == "x"


def test_close_forgets_the_current_instance_but_not_that_of_a_folder(tmp_path: Path) -> None:
    make(tmp_path / "p")
    ln.setup.close()
    os.chdir(tmp_path)
    with pytest.raises(NoInstanceError):
        ln.setup.info()
    assert used(tmp_path / "p") == "mydata"
    ln.setup.load("mydata")
    assert used() == "mydata"


def test_a_working_directory_that_was_removed_gives_one_clear_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with pytest.raises(NoInstanceError, match="working directory"):
        ln.select(ln.File).all()
    os.chdir(tmp_path)


# --- moved and copied ---------------------------------------------------------------------------


def test_a_moved_project_works_and_its_storages_row_follows(tmp_path: Path) -> None:
    make(tmp_path / "old")
    os.chdir(tmp_path / "old")
    storage = ln.select(ln.Storage).one()
    file = add_text("a", "a.txt")
    forget()
    os.chdir(tmp_path)
    Path("old").rename("new")
    os.chdir("new")

    assert ln.select(ln.File).one().stage() == tmp_path / "new/mydata/a.txt"
    assert ln.select(ln.Storage).one() == storage
    assert ln.select(ln.Storage).one().root == str(tmp_path / "new/mydata")
    assert add_text("b", "b.txt").storage_id == file.storage_id

    os.chdir(tmp_path)
    forget()
    with pytest.raises(DatabaseMissingError, match="moved"):
        ln.setup.load("mydata")  # the user's list still has the old place
    ln.setup.load("new")
    assert files() == 2
    assert ln.setup.load("mydata").storage == str(tmp_path / "new/mydata")


def test_a_moved_project_works_whose_database_locks_readers_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=tmp_path / "project/mydata")
    forget()
    with closing(sqlite3.connect(tmp_path / "project/mydata/.lamindb/lamindb.sqlite")) as database:
        database.execute("PRAGMA journal_mode=DELETE")  # as of a dump that was put back
    (tmp_path / "project").rename(tmp_path / "moved")
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.5)
    ln.setup.load(tmp_path / "moved/mydata")
    assert ln.select(ln.Storage).one().root == str(tmp_path / "moved/mydata")


def test_a_database_file_that_is_there_already_lets_writers_and_readers_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "records.db").touch()
    ln.setup.init(storage="mydata", db=f"sqlite:///{tmp_path}/records.db")
    with closing(sqlite3.connect(tmp_path / "records.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_storage_that_was_moved_alone_is_loaded_from_its_new_place(tmp_path: Path) -> None:
    made = make(tmp_path / "p")
    os.chdir(tmp_path / "p")
    add_text("a", "a.txt")
    forget()
    Path(made.storage).rename(tmp_path / "disk")

    with pytest.raises(DatabaseMissingError):
        ln.select(ln.File).all()
    assert ln.setup.load(tmp_path / "disk").name == "mydata"
    assert ln.select(ln.File).one().stage().read_text() == "a"
    ln.setup.init(tmp_path / "disk")  # so that this folder knows it too
    assert python("print(ln.select(ln.File).one().stage())") == f"{tmp_path}/disk/a.txt"


def test_a_copy_of_a_project_is_an_instance_of_its_own(tmp_path: Path) -> None:
    original = make(tmp_path / "a")
    os.chdir(tmp_path / "a")
    add_text("a", "a.txt")
    forget()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.chdir(tmp_path / "b")
    add_text("b", "b.txt")

    assert ln.select(ln.File).count() == 2
    assert Path("mydata/b.txt").exists()
    assert files(tmp_path / "a") == 1
    ln.setup.init("mydata")
    assert files(tmp_path) == 2  # it is the current one
    assert ln.setup.load("mydata").storage == original.storage  # the name stays with the first
    assert ln.setup.load(tmp_path / "b").storage == str(tmp_path / "b/mydata")


def test_a_checkout_of_the_project_file_alone_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a")
    checkout = tmp_path / "elsewhere" / "checkout"
    shutil.copytree(tmp_path / "a/.lamindb", checkout / ".lamindb")
    forget()
    monkeypatch.setenv("LAMINDB_CONFIG_DIR", str(tmp_path / "another user"))
    os.chdir(checkout)

    with pytest.raises(DatabaseMissingError, match=r"lamin init"):
        ln.select(ln.File).all()
    made = ln.setup.init("./mydata")
    assert (made.name, made.storage) == ("mydata", str(checkout / "mydata"))
    assert ln.select(ln.File).count() == 0


def test_the_project_file_has_relative_paths_so_that_it_can_be_committed() -> None:
    ln.setup.init("mydata")
    for path in (Path(".lamindb/instance.toml"), Path("mydata/.lamindb/instance.toml")):
        assert str(Path.cwd()) not in path.read_text()


@pytest.mark.parametrize("name", ["~", "~data", "~/x"])
def test_a_storage_whose_name_begins_with_a_tilde_is_a_folder_of_that_name(name: str) -> None:
    here = Path.cwd()
    made = ln.setup.init(f"./{name}/deep", db=f"sqlite:///./{name}/records.sqlite")
    file = add_text("a", "a.txt")
    assert made.storage == str(here / name / "deep")
    assert made.sqlite_path == here / name / "records.sqlite"
    assert file.stage() == here / name / "deep" / "a.txt"
    assert asked(lambda: ln.select(ln.File).one()) == file
    assert ln.setup.load(f"./{name}/deep").storage == made.storage
    assert list(Path.home().rglob("*.txt")) == []


def test_a_home_that_is_nobodys_is_a_folder_of_that_name() -> None:
    assert config.normalise_root("~nobody-has-this-name/x") == str(
        Path.cwd() / "~nobody-has-this-name" / "x"
    )


def test_another_storage_mounted_at_the_root_is_noticed(tmp_path: Path) -> None:
    made = ln.setup.init("mydata")
    other = make(tmp_path / "other")
    forget()
    shutil.rmtree("mydata")
    shutil.copytree(other.storage, made.storage)
    shutil.copy(tmp_path / "other/mydata/.lamindb/lamindb.sqlite", "kept.sqlite")
    Path(".lamindb/instance.toml").write_text(
        'name = "mydata"\nstorage = "mydata"\ndb = "sqlite:///kept.sqlite"\n'
    )
    Path("mydata/.lamindb/storage_id").write_text("AAAAAAAA\n")
    with pytest.raises(StorageMissingError, match="not the one its database knows"):
        ln.select(ln.File).all()


# --- remote -------------------------------------------------------------------------------------


def test_a_remote_storage_keeps_its_database_in_the_users_data_folder_and_says_where(
    bucket: str,
) -> None:
    from upath import UPath

    made = ln.setup.init(f"{bucket}/study/")

    assert (made.name, made.storage) == ("study", f"{bucket}/study")
    assert made.db == f"sqlite:///{Path.home()}/.local/share/lamindb/study/lamindb.sqlite"
    assert made.sqlite_path is not None
    assert made.sqlite_path.is_file()
    assert add_text("a", "a.txt").path() == UPath(f"{bucket}/study/a.txt")
    settings = ln.setup.settings.storage
    assert (settings.type, settings.root_as_str) == ("s3", f"{bucket}/study")
    assert isinstance(settings.root, UPath)
    storage = ln.select(ln.Storage).one()
    assert (storage.root, storage.host, storage.type) == (f"{bucket}/study", "", "s3")
    assert ln.setup.init(f"{bucket}/study").db == made.db
    assert ln.select(ln.File).count() == 1
    assert python("print(ln.select(ln.File).one().load())") == "a"


def test_two_buckets_with_one_folder_name_have_two_databases(bucket: str) -> None:
    first = ln.setup.init(f"{bucket}/a/data")
    add_text("a", "a.txt")
    second = ln.setup.init(f"{bucket}/b/data")

    assert (first.name, second.name) == ("data", "b-data")
    assert first.db != second.db
    assert ln.select(ln.File).count() == 0


def test_a_remote_storage_finds_its_database_again_when_the_users_list_is_lost(
    bucket: str,
) -> None:
    first = ln.setup.init(f"{bucket}/a/data")
    add_text("a", "a.txt")
    shutil.rmtree(Path.home() / ".config")

    other = ln.setup.init(f"{bucket}/b/data")
    assert (other.name, ln.select(ln.File).count()) == ("b-data", 0)
    again = ln.setup.init(f"{bucket}/a/data")
    assert (again.db, ln.select(ln.File).count()) == (first.db, 1)


@pytest.mark.parametrize(
    "storage",
    [
        "s3://KEYID:s3cr3t@bucket/path",
        "s3://s3cr3t@bucket",
        "s3://bucket/path?secret=s3cr3t",
        "gs://user:s3cr3t@bucket",
    ],
)
def test_credentials_in_a_storages_url_are_refused_and_not_shown(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CredentialsError) as error:
        ln.setup.init(storage)
    assert "s3cr3t" not in str(error.value)
    assert "environment" in str(error.value)
    assert os.listdir() == []
    assert not (Path.home() / ".config/lamindb").exists()

    monkeypatch.setenv("LAMINDB_INSTANCE", storage)
    with pytest.raises(CredentialsError) as error:
        ln.select(ln.File).all()
    assert "s3cr3t" not in str(error.value)


# --- PostgreSQL's password: what is written, without a server -----------------------------------


@pytest.mark.parametrize(
    ("db", "kept", "password"),
    [
        ("postgresql://host/db", "postgresql+psycopg://host/db", None),
        ("postgres://me@host/db", "postgresql+psycopg://me@host/db", None),
        ("postgresql://me:s3@host/db", "postgresql+psycopg://me@host/db", "s3"),
        ("postgresql+psycopg://me:s3@host:5/db", "postgresql+psycopg://me@host:5/db", "s3"),
        ("postgresql://me:a%40b%2Fc@host/db", "postgresql+psycopg://me@host/db", "a@b/c"),
        ("postgresql://me:a@b/c:d@host/db", "postgresql+psycopg://me@host/db", "a@b/c:d"),
        ("postgresql://:s3@host/db", "postgresql+psycopg://host/db", "s3"),
        ("postgresql://host:5432/db?user=me", "postgresql+psycopg://host:5432/db?user=me", None),
        (
            "postgresql://me@host/db?sslmode=require&password=s%263",
            "postgresql+psycopg://me@host/db?sslmode=require",
            "s&3",
        ),
        ("postgresql://me@/db?host=/run/pg", "postgresql+psycopg://me@/db?host=/run/pg", None),
    ],
)
def test_a_databases_password_is_kept_apart(db: str, kept: str, password: str | None) -> None:
    made = config.config_from_storage("mydata", db)
    assert (made.db, made.password) == (kept, password)
    assert password is None or password not in repr(made)


@pytest.mark.parametrize(
    "db", ["postgresql://me:a?s3cr3t@host/db", "postgresql://me@host/db?sslpassword=s3cr3t"]
)
def test_a_password_that_cannot_be_told_apart_is_refused_and_not_shown(db: str) -> None:
    with pytest.raises(CredentialsError) as error:
        config.config_from_storage("mydata", db)
    assert "s3cr3t" not in str(error.value)


def test_no_project_file_has_the_password_and_the_users_own_is_private() -> None:
    made = config.config_from_storage("mydata", "postgresql://me:s3cr3t@host/db", "shared")
    config.write_project_config(made, Path.cwd())
    config.register_config(made)

    project = Path(".lamindb/instance.toml")
    assert "s3cr3t" not in project.read_text()
    assert config.read_config(project).password == "s3cr3t"  # from the user's own list
    registered = Path.home() / ".config/lamindb/instances/shared.toml"
    assert "s3cr3t" in registered.read_text()
    assert stat.S_IMODE(registered.stat().st_mode) == 0o600

    registered.write_text("damaged [")
    assert config.read_config(project).password is None
    config.forget_config(made)
    assert config.read_config(project).password is None


def test_a_password_that_someone_wrote_into_a_project_file_is_not_shown() -> None:
    path = Path(".lamindb/instance.toml")
    path.parent.mkdir()
    path.write_text('name = "x"\nstorage = "mydata"\ndb = "postgresql://me:s3cr3t@host/db"\n')
    found = config.read_config(path)
    assert (found.db, found.password) == ("postgresql+psycopg://me@host/db", "s3cr3t")
    assert "s3cr3t" not in repr(found)


def test_the_password_in_the_environment_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMINDB_STORAGE", "mydata")
    monkeypatch.setenv("LAMINDB_DB", "postgresql://me:s3cr3t@host/db")
    found = config.find_config()
    assert (found.db, found.password) == ("postgresql+psycopg://me@host/db", "s3cr3t")
    assert os.listdir() == []


# --- damaged and read-only ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"name = ",
        b"\xff\xfe\x00",
        b'name = "x"\nstorage = "mydata"\n',
        b'name = 3\nstorage = "mydata"\ndb = "sqlite:///x.sqlite"\n',
        b'name = "x"\nstorage = ["mydata"]\ndb = "sqlite:///x.sqlite"\n',
        b'name = "x"\nstorage = "mydata"\ndb = 1\n',
        b'name = "../x"\nstorage = "mydata"\ndb = "sqlite:///x.sqlite"\n',
        b'name = "x"\nstorage = "mydata"\ndb = "sqlite://"\n',
        b'name = "x"\nstorage = "mydata"\ndb = "oracle://x"\n',
        b'name = "x"\nstorage = "s3://a:s3cr3t@b"\ndb = "sqlite:///x.sqlite"\n',
        b'name = "x"\nstorage = "\\u0000"\ndb = "sqlite:///x.sqlite"\n',
    ],
)
def test_a_damaged_project_file_is_named_with_what_to_do(content: bytes) -> None:
    ln.setup.init("mydata")
    forget()
    path = Path.cwd() / ".lamindb/instance.toml"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"instance\.toml cannot be used.*lamin init") as error:
        ln.select(ln.File).all()
    assert str(path) in str(error.value)
    assert "s3cr3t" not in str(error.value)

    ln.setup.init("mydata")  # what the message says
    assert used() == "mydata"


def test_a_damaged_file_in_the_users_list_hides_no_other_instance(tmp_path: Path) -> None:
    make(tmp_path / "p", name="mine")
    folder = Path.home() / ".config/lamindb"
    (folder / "instances/broken.toml").write_text("damaged [")
    assert ln.setup.load("mine").name == "mine"
    with pytest.raises(SetupError, match=r"broken\.toml cannot be used"):
        ln.setup.load("broken")
    (folder / "current").write_text("")
    with pytest.raises(NoInstanceError):
        python_error = config.find_config()
        raise AssertionError(python_error)


def test_an_unwritable_settings_folder_prevents_neither_init_nor_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")  # root may write anywhere but below a file
    monkeypatch.setenv("LAMINDB_CONFIG_DIR", str(tmp_path / "file" / "settings"))
    with caplog.at_level(logging.WARNING):
        made = ln.setup.init("mydata")
    assert made.name == "mydata"
    assert caplog.text.count(str(tmp_path / "file" / "settings")) == 1
    assert add_text("a", "a.txt").run is None
    assert files() == 1

    with caplog.at_level(logging.WARNING):
        assert ln.setup.load("./mydata").name == "mydata"
    ln.setup.delete(force=True)
    assert not Path("mydata/.lamindb/lamindb.sqlite").exists()
    ln.setup.close()


def test_a_project_folder_that_cannot_be_written_is_no_obstacle_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".lamindb").write_text("a file in the way")
    with caplog.at_level(logging.WARNING):
        ln.setup.init(tmp_path / "mydata")
    assert str(Path.cwd() / ".lamindb") in caplog.text
    assert used() == "mydata"  # as the user's current one


# --- delete -------------------------------------------------------------------------------------


def test_delete_removes_the_records_and_keeps_the_data(tmp_path: Path) -> None:
    made = make(tmp_path / "p")
    os.chdir(tmp_path / "p")
    add_text("a", "a.txt")
    Path("mydata/own.txt").write_text("own")
    ln.setup.delete("mydata", force=True)

    assert Path("mydata/a.txt").read_text() == "a"
    assert Path("mydata/own.txt").read_text() == "own"
    assert list(Path("mydata/.lamindb").glob("lamindb.sqlite*")) == []
    with pytest.raises(NoInstanceError):
        ln.select(ln.File).all()
    with pytest.raises(SetupError, match="no instance 'mydata'"):
        ln.setup.load("mydata")

    again = ln.setup.init("mydata")
    assert again.name == made.name
    assert ln.select(ln.File).count() == 0
    assert Path("mydata/a.txt").read_text() == "a"


@pytest.mark.parametrize("place", ["p", "p/sub/deep", "p/mydata", "."])
def test_delete_leaves_no_project_file_behind_wherever_it_is_called(
    tmp_path: Path, place: str
) -> None:
    make(tmp_path / "p")
    forget()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    os.chdir(tmp_path / place)
    ln.setup.delete(None if place != "." else "mydata", force=True)
    assert list(tmp_path.rglob("instance.toml")) == []


def test_delete_asks_and_without_a_terminal_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    ln.setup.init("mydata")
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 - closed with the test
    with pytest.raises(SetupError, match=r"force=True"):
        ln.setup.delete()
    sys.stdin.close()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SetupError, match=r"force=True"):
        ln.setup.delete()
    assert ln.select(ln.User).count() == 1


def test_a_damaged_instance_can_be_deleted_and_made_again() -> None:
    ln.setup.init("mydata")
    forget()
    Path("mydata/.lamindb/lamindb.sqlite").write_bytes(b"no database" * 1000)
    ln.setup.delete(force=True)
    ln.setup.init("mydata")
    assert ln.select(ln.File).count() == 0


def test_deleting_the_records_closes_a_run_without_an_error() -> None:
    ln.setup.init("mydata")
    ln.track(ln.Transform("x"))
    ln.setup.delete(force=True)
    assert ln.context.run is None


def test_delete_takes_the_database_of_a_remote_storage_and_no_object(bucket: str) -> None:
    made = ln.setup.init(f"{bucket}/study")
    path = add_text("a", "a.txt").path()
    ln.setup.delete(force=True)
    assert path.read_text() == "a"
    assert made.sqlite_path is not None
    assert not made.sqlite_path.parent.exists()


def tables(path: str) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def thesis(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE thesis (x)")
        connection.commit()


def test_a_database_with_tables_of_others_is_refused_and_left_as_it_is() -> None:
    thesis("app.db")
    with pytest.raises(SetupError, match=r"holds other tables than lamindb's \(thesis\)"):
        ln.setup.init("d1", db="sqlite:///app.db")
    assert tables("app.db") == {"thesis"}
    assert not Path("d1").exists()


def test_delete_leaves_the_tables_that_others_have_put_into_its_database() -> None:
    ln.setup.init("d1", db="sqlite:///app.db")
    thesis("app.db")
    ln.setup.delete(force=True)
    assert tables("app.db") == {"thesis"}


def test_delete_leaves_a_file_that_is_no_database_where_the_user_has_put_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ln.setup.init("d1", db="sqlite:///app.db")
    forget()
    Path("app.db").write_bytes(b"no database" * 1000)
    ln.setup.delete(force=True)
    assert Path("app.db").exists()
    assert "remove it yourself" in caplog.text


def test_the_database_of_another_instance_is_refused(tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/lab.sqlite"
    make(tmp_path / "p1", db=db, name="p1")
    with pytest.raises(SetupError, match=r"the records of the instance 'p1'"):
        make(tmp_path / "p2", db=db)
    os.chdir(tmp_path)
    assert not Path("p2/mydata").exists()
    assert ln.setup.init("p1/mydata", db=db).name == "p1"


def test_a_database_that_serves_two_instances_is_not_deleted_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = f"sqlite:///{tmp_path}/lab.sqlite"
    monkeypatch.setenv("LAMINDB_HOST", "one")
    make(tmp_path / "p1", db=db, name="p1")
    add_text("a", "a.txt")
    monkeypatch.setenv("LAMINDB_HOST", "two")
    make(tmp_path / "p2", db=db, name="p2")
    with pytest.raises(SetupError, match=r"of other hosts: one"):
        ln.setup.delete("p2", force=True)
    monkeypatch.setenv("LAMINDB_HOST", "one")
    ln.setup.load("p1")
    with pytest.raises(SetupError, match=r"other hosts: two"):
        ln.setup.delete("p1", force=True)
    assert ln.select(ln.File).one().key == "a.txt"


def test_a_database_that_serves_two_instances_of_one_host_is_not_deleted_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = f"sqlite:///{tmp_path}/lab.sqlite"
    make(tmp_path / "p1", db=db, name="p1")
    Path(tmp_path, "p1").rename(tmp_path / "away")
    make(tmp_path / "p2", db=db, name="p2")
    Path(tmp_path, "away").rename(tmp_path / "p1")
    with pytest.raises(SetupError, match=r"the instance 'p1'"):
        ln.setup.delete("p2", force=True)
    assert ln.select(ln.Storage).count() == 2


def test_a_copy_of_a_project_does_not_take_the_records_of_both(tmp_path: Path) -> None:
    make(tmp_path / "p", db=f"sqlite:///{tmp_path}/lab.sqlite")
    shutil.copytree(tmp_path / "p", tmp_path / "copy")
    with pytest.raises(SetupError, match=str(tmp_path / "p/mydata")):
        ln.setup.delete(str(tmp_path / "copy"), force=True)
    Path(tmp_path, "p").rename(tmp_path / "moved")
    ln.setup.delete(str(tmp_path / "moved"), force=True)
    assert not Path(tmp_path, "lab.sqlite").exists()


def test_a_process_that_has_opened_one_instance_deletes_that_one(tmp_path: Path) -> None:
    opened = make(tmp_path / "opened", name="opened")
    other = make(tmp_path / "other", name="other")
    forget()
    os.chdir(tmp_path / "opened")
    ln.select(ln.File).all()
    os.chdir(tmp_path / "other")
    ln.setup.delete(force=True)
    assert opened.sqlite_path is not None
    assert other.sqlite_path is not None
    assert not opened.sqlite_path.exists()
    assert other.sqlite_path.exists()


def test_info_counts_what_there_is() -> None:
    ln.setup.init("mydata")
    ln.track(ln.Transform("x"))
    add_text("a", "a.txt")
    found = ln.setup.info()
    assert found.instance == "mydata"
    assert found.counts == {"file": 1, "transform": 1, "run": 1, "storage": 1, "user": 1}
    assert found.user == "testuser"
    assert found.configured_in is not None
    path = Path("mydata/.lamindb/lamindb.sqlite")
    assert found.database_bytes == path.stat().st_size
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
