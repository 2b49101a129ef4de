"""What cannot work says so, in words that help, and loses nothing that was there before."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select
from sqlalchemy.exc import MultipleResultsFound, NoResultFound

import lamindb as ln
from lamindb import instance, journal
from lamindb.db import migrate, schema
from lamindb.errors import (
    AddError,
    BusyError,
    CredentialsError,
    DatabaseCorruptError,
    DatabaseMissingError,
    DatabaseTooNewError,
    DatabaseUnreachableError,
    DataChangedError,
    DataMissingError,
    DataNotRegularError,
    DataTypeError,
    DataUnreadableError,
    DeleteError,
    FieldUnknownError,
    HasDependentsError,
    KeyConflictError,
    KeyInvalidError,
    LaminError,
    LinkRefusedError,
    NameRequiredError,
    NoInstanceError,
    ObjectMissingError,
    RecordError,
    StorageFullError,
    StorageMissingError,
    StorageReadOnlyError,
)
from lamindb.storage import store as store_module

TABLES = (schema.file, schema.run_file, schema.storage, schema.journal, schema.claim)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an instance, to be copied."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LAMINDB_CONFIG_DIR", str(folder))
        monkeypatch.setenv("LAMINDB_USER", "testuser")
        monkeypatch.chdir(folder)
        ln.setup.init(storage=folder / "storage")
        fill()
        instance.reset()
    return folder / "storage"


@pytest.fixture
def storage(model: Path, tmp_path: Path) -> Path:
    """An instance that has something to lose."""
    shutil.copytree(model, tmp_path / "storage")
    write("directory/a.txt", "a")
    ln.setup.load(tmp_path / "storage")
    return tmp_path / "storage"


def fill() -> None:
    """Add two versions of a file, a directory, and a file without a key."""
    for content in ("first", "second"):
        ln.add(ln.File(source(content), key="kept/file.txt"))
    write("directory/a.txt", "a")
    ln.add(ln.File("directory", key="kept/directory"))
    ln.add(ln.File(source("keyless"), name="keyless.txt"))


def write(name: str, content: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def source(content: str = "content") -> Path:
    return write("source.txt", content)


def objects(storage: Path) -> dict[str, bytes]:
    """All files of a storage but the database and what names it."""
    own = ("lamindb.sqlite", "instance.toml", "storage_id")
    return {
        path.relative_to(storage).as_posix(): path.read_bytes()
        for path in storage.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.startswith(own)
    }


def rows() -> list[Any]:
    with instance.current().database.read() as connection:
        return [connection.execute(select(table)).all() for table in TABLES]


@contextmanager
def refused(error: type[Exception], *telling: str, storage: Path) -> Iterator[None]:
    """Expect an error that says these things, and everything to be as before afterwards."""
    before = rows(), objects(storage)
    with pytest.raises(error) as raised:
        yield
    assert isinstance(raised.value, LaminError)
    for part in telling:
        assert part in str(raised.value)
    assert (rows(), objects(storage)) == before


def still_works(storage: Path) -> None:
    """Open the instance anew, look at what was there, and use it."""
    instance.reset()
    ln.setup.load(storage)
    files = ln.select(ln.File, all_versions=True, key="kept/file.txt").all()
    assert sorted(file.stage().read_text() for file in files) == ["first", "second"]
    ln.add(ln.File(source("afterwards"), key="afterwards.txt"))
    assert journal.pending(instance.current().database) == []


# --- the instance ---------------------------------------------------------------------------------

CALLS: dict[str, Callable[[], Any]] = {
    "File": lambda: ln.File(source()),
    "add": lambda: ln.add(ln.Transform("t")),
    "select": lambda: ln.select(ln.File).all(),
    "df": lambda: ln.select(ln.File).df(),
    "track": lambda: ln.track(transform=ln.Transform("t")),
    "delete": lambda: ln.delete(ln.Transform("t")),
    "view": lambda: ln.view(),
    "Session": lambda: ln.Session().__enter__(),
    "info": lambda: ln.setup.info(),
    "settings": lambda: ln.setup.settings.storage.root,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_without_an_instance_every_call_names_the_command_that_makes_one(call: Callable[[], Any]):
    with pytest.raises(NoInstanceError, match="lamin init --storage") as raised:
        call()
    assert str(Path.cwd()) in str(raised.value)


def spoiled(kind: str, database: Path) -> None:
    content = database.read_bytes()
    spoil: dict[str, Callable[[], Any]] = {
        "garbage": lambda: database.write_bytes(os.urandom(len(content))),
        "garbage after the header": lambda: database.write_bytes(
            content[:100] + os.urandom(len(content) - 100)
        ),
        "half of it": lambda: database.write_bytes(content[: len(content) // 2]),
        "one page": lambda: database.write_bytes(content[:4096]),
        "nothing": lambda: database.write_bytes(b""),
        "text": lambda: database.write_text("This is not a database.\n" * 300),
    }
    spoil[kind]()


@pytest.mark.parametrize(
    "kind",
    ["garbage", "garbage after the header", "half of it", "one page", "nothing", "text"],
)
def test_a_damaged_database_says_to_put_back_a_backup_and_that_works(kind: str, storage: Path):
    before = objects(storage)
    instance.reset()
    database = storage / ".lamindb/lamindb.sqlite"
    shutil.copy(database, "backup.sqlite")
    spoiled(kind, database)
    spoilt = database.read_bytes()
    ln.setup.close()
    with pytest.raises(DatabaseCorruptError, match="put back a backup") as raised:
        ln.setup.load(storage)
        ln.select(ln.File).df()
        ln.select(ln.Storage).df()
        ln.add(ln.File(source("new"), key="new.txt"))
    assert str(database) in str(raised.value) or "'storage'" in str(raised.value)
    assert objects(storage) == before
    assert database.read_bytes() == spoilt, "what is left of it may be worth saving"
    instance.reset()
    for left in database.parent.glob("lamindb.sqlite*"):
        left.unlink()
    shutil.copy("backup.sqlite", database)
    still_works(storage)


def test_a_database_that_is_gone_is_missed_not_made_anew(storage: Path):
    instance.reset()
    database = storage / ".lamindb/lamindb.sqlite"
    database.rename("elsewhere.sqlite")
    with pytest.raises(DatabaseMissingError, match="Put it back"):
        ln.setup.load(storage)
    assert not database.exists()


def test_a_database_that_goes_while_it_is_used_is_missed_not_made_anew(tmp_path: Path):
    (tmp_path / "databases").mkdir()
    ln.setup.init(storage=tmp_path / "storage", db=f"sqlite:///{tmp_path}/databases/a.sqlite")
    fill()
    instance.current().database.dispose()
    (tmp_path / "databases").rename(tmp_path / "elsewhere")
    with pytest.raises(DatabaseMissingError, match=r"is gone.*Put it back"):
        ln.add(ln.File(source("new"), key="new.txt"))
    assert not (tmp_path / "databases").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "databases")
    still_works(tmp_path / "storage")


def test_a_database_of_a_newer_version_asks_for_that_version(storage: Path):
    set_revision(storage, "9999")
    with pytest.raises(DatabaseTooNewError, match=r"revision 9999.*upgrade the package"):
        ln.setup.load(storage)
    set_revision(storage, migrate.HEAD)
    still_works(storage)


def set_revision(storage: Path, revision: str) -> None:
    instance.reset()
    with closing(sqlite3.connect(storage / ".lamindb/lamindb.sqlite")) as connection, connection:
        connection.execute("UPDATE lamindb_version SET version_num = ?", (revision,))


MIGRATION = """
from alembic import op
import sqlalchemy as sa

revision = "9998"
down_revision = "{head}"
branch_labels = depends_on = None


def upgrade():
    op.create_table("later", sa.Column("id", sa.Integer))
    {then}
"""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Be the next version of the package, which has one migration more."""
    from alembic.config import Config

    def become(then: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(Path(migrate.__file__).parent / "migrations", folder)
        migration = MIGRATION.format(head=migrate.HEAD, then=then)
        (folder / "versions/9998_later.py").write_text(migration)
        set_option = Config.set_main_option
        monkeypatch.setattr(
            Config,
            "set_main_option",
            lambda config, name, value: set_option(
                config, name, str(folder) if name == "script_location" else value
            ),
        )
        monkeypatch.setattr(migrate, "HEAD", "9998")

    return become


def tables(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def test_a_database_of_an_older_version_is_upgraded_after_a_backup(
    storage: Path, next_version: Callable[[str], None]
):
    ln.add(ln.File(source("in the log only"), key="late.txt"))
    next_version("")
    still_works(storage)
    assert "later" in tables(storage / ".lamindb/lamindb.sqlite")
    (backup,) = (storage / ".lamindb").glob("*.backup")
    assert "later" not in tables(backup)
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT count(*) FROM file").fetchone() == (5,)


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    storage: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context():
        next_version("op.execute('SELECT * FROM missing')")
        instance.reset()
        with pytest.raises(DatabaseCorruptError, match="missing"):
            ln.setup.load(storage)
    monkeypatch.undo()
    assert "later" not in tables(storage / ".lamindb/lamindb.sqlite")


# --- locked ---------------------------------------------------------------------------------------

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
input()
"""


def test_a_database_that_another_process_keeps_locked_says_so_after_the_time_allowed(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    instance.reset()
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.2)
    path = storage / ".lamindb/lamindb.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        ln.setup.load(storage)
        assert ln.select(ln.File).count() == 3  # reading waits for nobody
        with refused(
            DatabaseUnreachableError, "stayed locked", "LAMINDB_BUSY_TIMEOUT", storage=storage
        ):
            ln.add(ln.File(source("new"), key="new.txt"))
        with refused(
            DatabaseUnreachableError, "stayed locked by another process for 0.2 s", storage=storage
        ):
            ln.add(ln.Transform("t"))
        holder.communicate(b"\n")
    still_works(storage)


def test_a_key_that_somebody_keeps_busy_says_so_after_the_time_allowed(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    inside, go_on = threading.Event(), threading.Event()
    place = store_module.Store.place

    def slowly(store: Any, incoming: str, final: str) -> None:
        inside.set()
        go_on.wait(10)
        place(store, incoming, final)

    monkeypatch.setattr(store_module.Store, "place", slowly)
    thread = threading.Thread(
        target=lambda: ln.add(ln.File(write("slow.txt", "slow"), key="kept/file.txt"))
    )
    thread.start()
    inside.wait(10)
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.2)
    with pytest.raises(BusyError, match=r"working on 'kept/file.txt'.*more than 0.2 s"):
        ln.add(ln.File(source("new"), key="kept/file.txt"))
    go_on.set()
    thread.join()
    monkeypatch.undo()
    assert ln.select(ln.File, key="kept/file.txt").one().stage().read_text() == "slow"


# --- the storage ----------------------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A storage whose database lies elsewhere, as on a mounted disk."""
    ln.setup.init(storage=tmp_path / "disk/storage", db=f"sqlite:///{tmp_path}/a.sqlite")
    fill()
    return tmp_path / "disk/storage"


def gone(storage: Path) -> None:
    storage.rename(storage.with_name("elsewhere"))


def unmounted(storage: Path) -> None:
    gone(storage)
    storage.mkdir()


def another(storage: Path) -> None:
    unmounted(storage)
    (storage / ".lamindb").mkdir()
    (storage / ".lamindb/storage_id").write_text("other123\n")


@pytest.mark.parametrize("opened", ["while it is in use", "before it is opened"])
@pytest.mark.parametrize(
    ("go", "telling"),
    [(gone, "is gone"), (unmounted, "has lost its marker"), (another, "to storage other123")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_storage_that_is_not_there_is_not_written_to(
    go: Callable[[Path], None], telling: str, opened: str, apart: Path
):
    kept = ln.select(ln.File, key="kept/file.txt").one()
    go(apart)
    if opened == "before it is opened":
        ln.setup.load("storage")
    before = set(apart.parent.rglob("*"))
    for act in (
        lambda: ln.add(ln.File(source("new"), key="new.txt")),
        lambda: ln.delete(kept, delete_data=True),
    ):
        with refused(StorageMissingError, telling, "mount or move it back", storage=apart):
            act()
    with pytest.raises(ObjectMissingError, match="is gone from"):
        kept.stage()
    assert set(apart.parent.rglob("*")) == before
    if apart.exists():
        shutil.rmtree(apart)
    apart.with_name("elsewhere").rename(apart)
    still_works(apart)


def test_what_a_dead_process_left_waits_for_its_storage_to_come_back(
    apart: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_undo_own", lambda work: True)  # as if it died here
        patch.setattr(store_module.Store, "place", killed)
        with pytest.raises(KeyboardInterrupt):
            ln.add(ln.File(source("third"), key="kept/file.txt"))
    unmounted(apart)
    ln.setup.load("storage")
    assert ln.select(ln.File).count() == 3
    assert "stays for now" in caplog.text
    apart.rmdir()
    apart.with_name("elsewhere").rename(apart)
    still_works(apart)


def killed(*arguments: Any) -> None:
    raise KeyboardInterrupt


# a superuser may write and read anything: these processes give that up
PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
CHILD = (
    "import sys; sys.path.insert(0, {tests!r}); import test_bad_input as t; t.{act}(*sys.argv[1:])"
)


def in_a_process(act: Callable[..., None], *arguments: object, through: list[str]) -> None:
    """Run a function of this module in a process of its own."""
    instance.reset()  # nothing is kept open for it
    code = CHILD.format(tests=str(Path(__file__).parent), act=act.__name__)
    done = subprocess.run(
        [*through, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def plain() -> list[str]:
    """How to start a process that permissions hold for."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("a superuser without setpriv: permissions hold for no process")
    return PLAIN


@contextmanager
def permissions(mode: int, *paths: Path) -> Iterator[None]:
    before = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(mode)
    try:
        yield
    finally:
        for path in paths:
            path.chmod(before[path])


def add_to_a_folder_that_may_not_be_written(storage: str) -> None:
    kept = ln.select(ln.File, key="kept/file.txt").one()
    with permissions(0o555, Path(storage, "kept")):
        for act in (
            lambda: ln.add(ln.File(source("third"), key="kept/file.txt")),
            lambda: ln.add(ln.File(source("new"), key="kept/new.txt")),
            lambda: ln.delete(kept, delete_data=True),
        ):
            with refused(
                StorageReadOnlyError, "may not be written", "permissions", storage=Path(storage)
            ):
                act()
    with (
        permissions(0o555, Path(storage)),
        refused(StorageReadOnlyError, "'top.txt'", storage=Path(storage)),
    ):
        ln.add(ln.File(source("new"), key="top.txt"))
    assert kept.stage().read_text() == "second"
    still_works(Path(storage))


def test_a_folder_that_may_not_be_written_is_named(storage: Path, plain: list[str]):
    in_a_process(add_to_a_folder_that_may_not_be_written, storage, through=plain)


def work_with_a_storage_that_may_not_be_written(storage: str) -> None:
    everything = [Path(storage), *Path(storage).rglob("*")]
    with permissions(0o555, *everything):
        with refused(StorageReadOnlyError, "may not be written", storage=Path(storage)):
            ln.add(ln.File(source("new"), key="new.txt"))
        for file in ln.select(ln.File, all_versions=True).all():
            assert file.stage().exists()
    still_works(Path(storage))


def test_a_storage_that_may_not_be_written_can_be_read(apart: Path, plain: list[str]):
    in_a_process(work_with_a_storage_that_may_not_be_written, apart, through=plain)


def work_with_a_storage_that_may_not_be_entered(storage: str) -> None:
    kept = ln.select(ln.File, key="kept/file.txt").one()
    with permissions(0o000, Path(storage)):
        instance.reset()
        with pytest.raises((StorageReadOnlyError, DataUnreadableError)):
            ln.add(ln.File(source("new"), key="new.txt"))
        with pytest.raises((StorageReadOnlyError, DataUnreadableError)):
            kept.stage()
    still_works(Path(storage))


def test_a_storage_that_may_not_be_entered_says_so(apart: Path, plain: list[str]):
    in_a_process(work_with_a_storage_that_may_not_be_entered, apart, through=plain)


def work_with_a_database_that_may_not_be_written(storage: str) -> None:
    folder = Path(storage) / ".lamindb"
    for mode, path in ((0o444, folder / "lamindb.sqlite"), (0o555, folder)):
        instance.reset()
        with (
            permissions(mode, path),
            pytest.raises(DatabaseUnreachableError, match=r"cannot be written.*permissions.*-wal"),
        ):
            ln.add(ln.File(source("new"), key="new.txt"))
    instance.reset()
    for beside in folder.glob("lamindb.sqlite-*"):
        beside.chmod(0o644)  # made with the permissions that the database had
    still_works(Path(storage))


def test_a_database_that_may_not_be_written_says_so(storage: Path, plain: list[str]):
    before = objects(storage)
    in_a_process(work_with_a_database_that_may_not_be_written, storage, through=plain)
    assert before.items() <= objects(storage).items()


def test_a_database_that_may_not_be_written_can_still_be_read(storage: Path, plain: list[str]):
    in_a_process(read_a_database_that_may_not_be_written, storage, through=plain)


def read_a_database_that_may_not_be_written(storage: str) -> None:
    with permissions(0o444, Path(storage) / ".lamindb/lamindb.sqlite"):
        assert len(ln.select(ln.File).df()) == 3
        assert ln.select(ln.File, key="kept/file.txt").one().stage().read_text() == "second"


# --- a full disk ----------------------------------------------------------------------------------

SMALL = 'mount -t tmpfs -o size=2m tmpfs "$1" && shift && exec "$@"'


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[Path, list[str]]:
    """A disk of 2 MiB for one process and its children, and how to start that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    through = ["unshare", "--mount", "sh", "-c", SMALL, "sh", str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*through, "true"]).returncode:
        pytest.skip("no disk can be mounted here")
    return disk, through


def fill_disk(disk: Path) -> Path:
    """Leave no room on a disk; removing the path that is returned makes some."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as stream, pytest.raises(OSError):
        while stream.write(bytes(512)):
            pass
    return filler


def add_to_a_full_disk(disk: str) -> None:
    storage = Path(disk, "storage")
    ln.setup.init(storage=storage, db=f"sqlite:///{Path.cwd()}/a.sqlite")
    fill()
    large = write("large.bin", "x" * 3_000_000)
    write("folder/small.txt", "small")
    write("folder/sub/large.bin", "y" * 3_000_000)
    replaced = ln.select(ln.File, name="keyless.txt").one()
    replaced.replace(large.rename("large.txt"))
    for act in (
        lambda: ln.add(ln.File("large.txt", key="large.txt")),
        lambda: ln.add(ln.File("large.txt", key="kept/file.txt")),
        lambda: ln.add(ln.File("large.txt")),
        lambda: ln.add(ln.File("folder", key="folder")),
        lambda: ln.add(replaced),
    ):
        with refused(StorageFullError, "no space is left", "free some", storage=storage):
            act()
    with refused(AddError, "large.txt", "no space is left", storage=storage):
        ln.add([ln.File(source("small"), key="small.txt"), ln.File("large.txt", key="large.txt")])
    filler = fill_disk(Path(disk))
    with refused(StorageFullError, "no space is left", storage=storage):
        ln.add(ln.File(source("small"), key="one/two/three/small.txt"))
    ln.delete(ln.select(ln.File, key="kept/directory").one(), delete_data=True)
    filler.unlink()
    still_works(storage)


def test_a_full_disk_is_said_to_be_full(small_disk: tuple[Path, list[str]]):
    disk, through = small_disk
    in_a_process(add_to_a_full_disk, disk, through=through)


def add_with_the_database_on_a_full_disk(disk: str, storage: str) -> None:
    ln.setup.init(storage=storage, db=f"sqlite:///{disk}/a.sqlite")
    fill()
    replaced = ln.select(ln.File, name="keyless.txt").one()
    replaced.replace(source("better"))
    filler = fill_disk(Path(disk))
    for act in (
        lambda: ln.add(ln.File(source("new"), key="new.txt", description="d" * 10_000)),
        lambda: ln.add([ln.File(source("new"), key=f"{n}.txt") for n in range(100)]),
        lambda: ln.add(replaced),
    ):
        with refused(DatabaseUnreachableError, "is full", "free some", storage=Path(storage)):
            act()
    assert replaced.hash == ln.select(ln.File, name="keyless.txt").one().hash
    filler.unlink()
    still_works(Path(storage))


def test_a_database_on_a_full_disk_loses_nothing(
    small_disk: tuple[Path, list[str]], tmp_path: Path
):
    disk, through = small_disk
    in_a_process(add_with_the_database_on_a_full_disk, disk, tmp_path / "storage", through=through)


def fill_the_disk_before_the_last_commit(disk: str, storage: str) -> None:
    ln.setup.init(storage=storage, db=f"sqlite:///{disk}/a.sqlite")
    fill()
    fillers = []

    def full(work: Any, *arguments: Any) -> None:
        fillers.append(fill_disk(Path(disk)))
        end(work, *arguments)

    end = journal.Operation.end
    journal.Operation.end = full  # type: ignore[method-assign]
    replaced = ln.select(ln.File, key="kept/file.txt").one()
    replaced.replace(write("better.txt", "better"))
    for act in (
        lambda: ln.add(ln.File(source("third"), key="kept/file.txt", description="d" * 100_000)),
        lambda: ln.add(ln.File(source("new"), key="new.txt", description="d" * 100_000)),
        lambda: ln.delete([*ln.select(ln.File).all()], delete_data=True),
        lambda: ln.add(replaced),
    ):
        before = objects(Path(storage))
        with pytest.raises(DatabaseUnreachableError, match="is full"):
            act()
        fillers.pop().unlink()
        instance.reset()
        ln.setup.load(storage)
        assert ln.select(ln.File, all_versions=True).count() == 4
        assert objects(Path(storage)) == before
    journal.Operation.end = end  # type: ignore[method-assign]
    still_works(Path(storage))


def test_a_disk_that_is_full_when_the_rows_are_written_loses_nothing(
    small_disk: tuple[Path, list[str]], tmp_path: Path
):
    disk, through = small_disk
    in_a_process(fill_the_disk_before_the_last_commit, disk, tmp_path / "storage", through=through)


def add_beyond_the_limit(storage: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
    large = Path("large.bin")
    with refused(StorageFullError, "no space is left", "File too large", storage=Path(storage)):
        ln.add(ln.File(large, key="large.bin"))
    still_works(Path(storage))


def test_a_limit_on_the_size_of_files_is_like_a_full_disk(storage: Path):
    write("large.bin", "x" * 600_000)
    in_a_process(add_beyond_the_limit, storage, through=[])


# --- keys -----------------------------------------------------------------------------------------

KEYS = {
    "../outside.txt": "..",
    "a/../../outside.txt": "..",
    "..": "..",
    "/absolute.txt": "absolute",
    "C:/absolute.txt": "absolute",
    "C:\\absolute.txt": "absolute",
    "a\0b": "control character",
    "a\nb": "control character",
    "a\x7fb": "control character",
    "a\x85b": "control character",
    "a" * 2000: "2000 bytes",
    "ä" * 600: "1200 bytes",
    "a" * 300: "more than 255 bytes",
    "ä" * 200 + ".txt": "more than 255 bytes",
    "": "is empty",
    "a//b": "empty part",
    "a/": "empty part",
    "./a": "'.'",
    "a\\b": "backslash",
    ".lamindb/incoming/x": "belongs to the instance",
    "a/.lamindb/x": "belongs to the instance",
    ".LaminDB/lamindb.sqlite": "belongs to the instance",
    "\udcff.txt": "not valid Unicode",
}


@pytest.mark.parametrize(("key", "telling"), KEYS.items(), ids=lambda text: repr(text)[:30])
def test_a_key_that_not_every_storage_could_keep_is_refused(key: str, telling: str, storage: Path):
    with refused(KeyInvalidError, telling, "give a relative path", storage=storage):
        ln.add(ln.File(source(), key=key))
    with refused(KeyInvalidError, telling, storage=storage):
        ln.File(pd.DataFrame(), key=key)


@pytest.mark.parametrize("key", [3, b"bytes", Path("path"), ["list"], True], ids=repr)
def test_a_key_that_is_no_text_is_refused(key: Any, storage: Path):
    with refused(KeyInvalidError, type(key).__name__, "not a string", storage=storage):
        ln.File(source(), key=key)


def test_a_refused_key_does_not_fill_the_screen(storage: Path):
    with pytest.raises(KeyInvalidError) as raised:
        ln.File(source(), key="\0" * 5000)
    assert len(str(raised.value)) < 300
    assert raised.value.key == "\0" * 5000


CONFLICTS = {
    "below a file": ("kept/file.txt/below.txt", "cannot lie inside 'kept/file.txt'"),
    "far below a file": ("kept/file.txt/a/b/c.txt", "cannot lie inside 'kept/file.txt'"),
    "below a directory": ("kept/directory/new.txt", "cannot lie inside 'kept/directory'"),
    "above a file": ("kept", "is the folder of 'kept/"),
    "on what no record knows": ("unknown.txt", "an object that no record knows lies at"),
    "below what no record knows": ("unknown.txt/a", "no record knows"),
    "above what no record knows": ("unknown", "no record knows"),
}


@pytest.mark.parametrize(("key", "telling"), CONFLICTS.values(), ids=CONFLICTS)
@pytest.mark.parametrize("data", ["source.txt", "directory"])
def test_a_key_whose_place_is_taken_is_refused(data: str, key: str, telling: str, storage: Path):
    source()
    (storage / "unknown.txt").write_text("of unknown origin")
    (storage / "unknown").mkdir()
    (storage / "unknown/a.txt").write_text("of unknown origin")
    with refused(KeyConflictError, telling, storage=storage):
        ln.add(ln.File(data, key=key))


def test_another_key_for_what_lies_in_the_storage_is_refused(storage: Path):
    (storage / "there.txt").write_text("there")
    with refused(KeyConflictError, "under the key 'there.txt'", "leave out key=", storage=storage):
        ln.File(storage / "there.txt", key="elsewhere.txt")
    for path in (storage / ".lamindb/lamindb.sqlite", storage / ".lamindb"):
        with refused(KeyInvalidError, "belongs to the instance", storage=storage):
            ln.File(path)
    for path, key in ((storage, None), (storage, "all"), (storage.parent, "all")):
        with refused(LaminError, str(storage), storage=storage):
            ln.add(ln.File(path, key=key))


@pytest.mark.parametrize(
    ("keys", "telling"),
    [
        (("a.txt", "b.txt", "a.txt"), "two files of this list have the key 'a.txt'"),
        (("a", "a/b.txt"), "'a/b.txt' cannot lie inside 'a'"),
        (("a/b/c.txt", "a"), "'a/b/c.txt' cannot lie inside 'a'"),
    ],
)
def test_keys_of_one_list_that_exclude_each_other_are_refused(
    keys: tuple[str, ...], telling: str, storage: Path
):
    with refused(KeyConflictError, telling, storage=storage):
        ln.add([ln.File(source(), key=key) for key in keys])


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"bytes", 3, None, ["a.txt"], {"a": 1}, pd.Series([1])], ids=repr)
def test_what_is_no_path_and_no_table_is_refused_by_its_type(data: Any, storage: Path):
    with refused(DataTypeError, type(data).__name__, "give a path", "DataFrame", storage=storage):
        ln.File(data, key="a.txt")


def test_a_table_without_a_name_asks_for_one(storage: Path):
    with refused(NameRequiredError, "pass key=", "name=", storage=storage):
        ln.File(pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize("path", ["missing.txt", "missing/", "source.txt/below", "~/missing", ""])
def test_a_path_where_nothing_lies_is_named(path: str, storage: Path):
    source()
    with refused(DataMissingError, "check the path" if path else "is empty", storage=storage):
        ln.File(path)


@pytest.mark.parametrize("name", [b"\xff.txt", b"\xed\xa0\x80.txt"], ids=repr)
def test_a_file_name_that_is_no_text_is_refused(name: bytes, storage: Path):
    path = os.path.join(os.fsencode(Path.cwd()), name)
    Path(os.fsdecode(path)).write_text("content")
    with refused(KeyInvalidError, "not valid Unicode", "rename", storage=storage):
        ln.File(os.fsdecode(path), key="a.txt")
    with refused(KeyInvalidError, "not valid Unicode", "rename", storage=storage):
        ln.File(Path.cwd(), key="folder")
    with refused(RecordError, "not valid Unicode", storage=storage):
        ln.File(source(), name="\udcff")


SPECIAL = {
    "FIFO": lambda path: os.mkfifo(path),
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(
    kind: str, storage: Path, monkeypatch: pytest.MonkeyPatch
):
    Path("folder").mkdir()
    monkeypatch.chdir("folder")  # a socket's path may not be long
    SPECIAL[kind](Path("special"))
    monkeypatch.chdir("..")
    with refused(DataNotRegularError, f"is a {kind}", "regular file", storage=storage):
        ln.File("folder/special")
    telling = "leads out of" if kind == "device" else f"is a {kind}"
    error = LinkRefusedError if kind == "device" else DataNotRegularError
    with refused(error, "folder/special", telling, storage=storage):
        ln.File("folder", key="folder")


def loop() -> None:
    Path("folder/sub").mkdir()
    Path("folder/sub/back").symlink_to("..")


def outside() -> None:
    write("secret.txt", "secret")
    Path("folder/out").symlink_to("../secret.txt")


def folder_outside() -> None:
    write("other/secret.txt", "secret")
    Path("folder/out").symlink_to(Path("other").resolve())


def nowhere() -> None:
    Path("folder/nowhere").symlink_to("missing")


def to_itself() -> None:
    Path("folder/itself").symlink_to("itself")


@pytest.mark.parametrize(
    ("link", "telling"),
    [
        (loop, "leads back to"),
        (outside, "leads out of"),
        (folder_outside, "leads out of"),
        (nowhere, "loops or leads nowhere"),
        (to_itself, "loops or leads nowhere"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_link_that_has_no_content_of_its_directory_is_refused(
    link: Callable[[], None], telling: str, storage: Path
):
    write("folder/a.txt", "a")
    link()
    with refused(LinkRefusedError, telling, "folder/", storage=storage):
        ln.File("folder", key="folder")


def test_a_link_that_leads_nowhere_is_nothing(storage: Path):
    Path("link").symlink_to("missing")
    Path("itself").symlink_to("itself")
    with refused(DataMissingError, "nothing lies at", storage=storage):
        ln.File("link")
    with refused(LinkRefusedError, "loops", storage=storage):
        ln.File("itself")


def read_what_may_not_be_read(storage: str) -> None:
    write("folder/sub/a.txt", "a")
    for path, act in (
        (source(), lambda: ln.add(ln.File("source.txt", key="a.txt"))),
        (source(), lambda: ln.File("source.txt").hash),
        (Path("folder/sub/a.txt"), lambda: ln.add(ln.File("folder", key="folder"))),
        (Path("folder/sub"), lambda: ln.File("folder", key="folder")),
        (Path("folder"), lambda: ln.File("folder/sub/a.txt")),
    ):
        with (
            permissions(0o000, path),
            refused(DataUnreadableError, "may not be read", str(path), storage=Path(storage)),
        ):
            act()


def test_a_file_that_may_not_be_read_is_named(storage: Path, plain: list[str]):
    in_a_process(read_what_may_not_be_read, storage, through=plain)


def appended(path: Path) -> None:
    with path.open("a") as stream:
        stream.write("more")


def overwritten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[::-1])


def cut(path: Path) -> None:
    os.truncate(path, 10)


def swapped(path: Path) -> None:
    write("other.txt", "b" * path.stat().st_size)
    shutil.copystat(path, "other.txt")
    Path("other.txt").replace(path)


def deleted(path: Path) -> None:
    path.unlink()


def joined(path: Path) -> None:
    (path.parent / "late.txt").write_text("late")


@pytest.mark.parametrize("moment", ["after ln.File", "while it is copied"])
@pytest.mark.parametrize(
    ("whole", "change", "error"),
    [
        *(
            ("file", change, DataMissingError if change is deleted else DataChangedError)
            for change in (appended, overwritten, cut, swapped, deleted)
        ),
        # the folder itself is still there
        *(
            ("folder", change, DataChangedError)
            for change in (appended, overwritten, cut, swapped, deleted, joined)
        ),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_data_that_change_while_they_are_added_are_refused(
    change: Callable[[Path], None],
    error: type[Exception],
    whole: str,
    moment: str,
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = write("folder/a.txt", "a" * 300_000)
    write("folder/b.txt", "b")
    data = path if whole == "file" else path.parent
    files = [ln.File(data, key=key) for key in ("new", "kept/directory")]
    files += [ln.File(data, name="new")]
    if moment == "after ln.File":
        change(path)
    copy = store_module.copy_hashing

    def copy_and_change(stream: Any, *arguments: Any) -> Any:
        start = stream.read(1000)  # has begun
        stream.seek(0)
        if start.startswith(b"aaa"):
            change(path)
        return copy(stream, *arguments)

    monkeypatch.setattr(store_module, "copy_hashing", copy_and_change)
    for file in files:
        if moment == "while it is copied":
            shutil.rmtree("folder")
            write("folder/a.txt", "a" * 300_000)
            write("folder/b.txt", "b")
            file = ln.File(data, key=file.key, name=None if file.key else "new")
        with refused(error, str(data), storage=storage):
            ln.add(file)


def test_a_file_that_is_written_to_all_the_time_is_refused(storage: Path):
    path, stop, written = source("x" * 1_000_000), threading.Event(), threading.Event()

    def go_on_writing() -> None:
        with path.open("a") as stream:
            while not stop.is_set():
                stream.write("more" * 1000)
                stream.flush()
                written.set()
                if stream.tell() > 20_000_000:
                    stream.truncate(1_000_000)
                    stream.seek(1_000_000)

    writer = threading.Thread(target=go_on_writing)
    writer.start()
    written.wait()
    try:
        for _ in range(5):
            with refused(DataChangedError, "wait until its writer is done", storage=storage):
                ln.add(ln.File(path, key="new.txt"))
    finally:
        stop.set()
        writer.join()
    ln.add(ln.File(path, key="new.txt"))


def test_a_file_that_grows_where_it_lies_is_refused(storage: Path, monkeypatch: pytest.MonkeyPatch):
    path = storage / "growing.txt"
    path.write_text("x")
    file = ln.File(path)
    appended(path)
    with refused(DataChangedError, "was written to", storage=storage):
        ln.add(file)


# --- lists ----------------------------------------------------------------------------------------


def test_of_a_list_the_one_that_fails_is_named_and_none_is_added(storage: Path):
    files = [ln.File(write(f"{name}.txt", name), key=f"{name}.txt") for name in "abc"]
    write("b.txt", "changed")
    with refused(
        AddError, "none of 3 records", "1 failed", "b.txt was written to", storage=storage
    ) as _:
        ln.add(files)
    with pytest.raises(AddError) as raised:
        ln.add(files)
    ((record, reason),) = raised.value.failures
    assert record is files[1]
    assert isinstance(reason, DataChangedError)
    files[1] = ln.File("b.txt", key="b.txt")
    assert ln.add(files) == files
    assert [file.stage().read_text() for file in files] == ["a", "changed", "c"]


def test_of_a_list_all_that_fail_are_named(storage: Path):
    files = [ln.File(write(f"{name}.txt", name), name=f"{name}.txt") for name in "abcd"]
    Path("a.txt").unlink()
    appended(Path("c.txt"))
    with refused(AddError, "none of 4", "a.txt", "c.txt", "2 failed", storage=storage):
        ln.add(files)


def test_a_list_of_one_that_fails_names_it_too(storage: Path):
    file = ln.File(source("a"), key="a.txt")
    source("longer")
    with refused(AddError, "none of 1 records", "source.txt", storage=storage):
        ln.add([file])
    with refused(DataChangedError, "source.txt", storage=storage):
        ln.add(file)


def test_rows_of_a_list_come_with_its_objects_or_not_at_all(storage: Path):
    file = ln.File(source("a"), key="a.txt")
    file.run = ln.Run(ln.Transform("new"))
    other = ln.add(ln.Transform("taken", id="abcdefghijkl"))
    with refused(RecordError, "another record has the same unique field", storage=storage):
        ln.add([file, ln.Transform("twice", id=other.id)])
    assert ln.select(ln.Run).all() == []
    assert ln.select(ln.Transform).all() == [other]


@pytest.mark.parametrize(
    "given", ["text", b"bytes", 3, None, ["text"], [None], {"a": 1}, ln.File], ids=repr
)
def test_what_is_no_record_is_neither_added_nor_deleted(given: Any, storage: Path):
    with refused(RecordError, "record", storage=storage):
        ln.add(given)
    with refused(RecordError, "is not a record", storage=storage):
        ln.delete(given)


def test_nothing_is_added_and_deleted_without_complaint(storage: Path):
    assert ln.add([]) == []
    ln.delete([])


# --- replacing and deleting -----------------------------------------------------------------------


def test_only_the_latest_version_is_replaced_however_long_ago_it_was_read(storage: Path):
    stale = ln.select(ln.File, key="kept/file.txt").one()
    stale.replace(write("better.txt", "better"))
    ln.add(ln.File(source("third"), key="kept/file.txt"))
    with refused(RecordError, "is an older version by now", storage=storage):
        ln.add(stale)
    with refused(RecordError, "is an older version", storage=storage):
        stale.replace(source("best"))


def test_a_version_is_not_replaced_by_the_content_of_another(storage: Path):
    latest = ln.select(ln.File, key="kept/file.txt").one()
    latest.replace(source("first"))
    with refused(RecordError, "of the same key", "makes it the latest again", storage=storage):
        ln.add(latest)
    assert ln.select(ln.File, key="kept/file.txt").one().hash == latest.hash
    back = ln.add(ln.File(source("first"), key="kept/file.txt"))
    assert back.stage().read_text() == "first"


def test_a_replacement_that_fails_leaves_the_record_as_it_was(storage: Path):
    record = ln.select(ln.File, key="kept/file.txt").one()
    before = record.hash, record.size, record.source_uri
    path = write("better.txt", "better")
    record.replace(path)
    path.unlink()
    with refused(DataMissingError, "better.txt", storage=storage):
        ln.add(record)
    assert (record.hash, record.size, record.source_uri) == before
    assert record.stage().read_text() == "second"


def test_a_replaced_table_has_no_temporary_path_as_its_source(storage: Path):
    table = ln.add(ln.File(pd.DataFrame({"a": [1]}), key="table.csv"))
    table.replace(pd.DataFrame({"a": [2]}))
    ln.add(table)
    assert table.source_uri is None


def test_a_record_that_was_deleted_meanwhile_is_not_brought_back(storage: Path):
    record = ln.select(ln.File, key="kept/directory").one()
    same = ln.select(ln.File, key="kept/directory").one()
    record.replace("directory")
    record.description = "late"
    ln.delete(same, delete_data=True)
    with refused(RecordError, "was deleted meanwhile", storage=storage):
        ln.add(record)
    for gone in (same, record):
        with refused(RecordError, "is not in the database", storage=storage):
            ln.delete(gone, delete_data=True)


def test_a_record_that_was_never_added_is_not_deleted(storage: Path):
    for record in (ln.File(source(), key="new.txt"), ln.Transform("new"), ln.User("new")):
        with refused(RecordError, "is not in the database", storage=storage):
            ln.delete(record, delete_data=True)


def test_without_a_terminal_it_has_to_be_said_whether_data_go(storage: Path):
    with refused(DeleteError, "delete_data=True or delete_data=False", storage=storage):
        ln.delete(ln.select(ln.File, key="kept/file.txt").one())


@pytest.fixture
def lineage(storage: Path) -> dict[str, Any]:
    """A run that read one file and wrote another, a child of that run, and who they are of."""
    kept = ln.select(ln.File, key="kept/file.txt").one()
    run = ln.track(transform=ln.Transform("reader"))
    kept.load()
    made = ln.add(ln.File(source("made"), key="made.txt"))
    ln.finish()
    child = ln.add(ln.Run(run.transform, parent=run))
    return {
        "file": kept,
        "run": run,
        "child": child,
        "made": made,
        "transform": run.transform,
        "storage": ln.select(ln.Storage).one(),
        "user": ln.select(ln.User).one(),
    }


@pytest.mark.parametrize(
    ("name", "dependent"),
    [
        ("file", "run {run.id}"),
        ("run", "file {made.id}"),
        ("run", "run {child.id}"),
        ("transform", "run {run.id}"),
        ("storage", "the instance, whose default storage it is"),
        ("user", "file {file.id}"),
    ],
)
def test_what_others_need_is_not_deleted(
    name: str, dependent: str, lineage: dict[str, Any], storage: Path
):
    dependent = dependent.format(**lineage)
    with refused(HasDependentsError, "is needed by", dependent, storage=storage):
        ln.delete(lineage[name], delete_data=True)
    with pytest.raises(HasDependentsError) as raised:
        ln.delete(lineage[name], delete_data=True)
    assert dependent in raised.value.dependents
    if name != "file":
        with refused(HasDependentsError, "is needed by", storage=storage):
            ln.delete(lineage[name], delete_data=True, force=True)


@pytest.mark.parametrize(
    "order", [("run", "child", "made"), ("made", "child", "run"), ("child", "run", "made", "run")]
)
def test_what_needs_each_other_is_deleted_together_in_any_order(
    order: tuple[str, ...], lineage: dict[str, Any], storage: Path
):
    ln.delete([lineage[name] for name in order], delete_data=True)
    assert ln.select(ln.Run).all() == []
    assert ln.select(ln.File, key="made.txt").all() == []
    ln.delete([lineage["transform"]])
    still_works(storage)


def test_a_storage_is_deleted_after_its_files(storage: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = ln.add(ln.Storage(tmp_path / "other"))
    path = write(f"{other.root}/a.txt", "a")
    file = ln.add(ln.File(path))
    assert file.storage == other
    with refused(HasDependentsError, f"file {file.id}", storage=storage):
        ln.delete([file, other], delete_data=True)
    ln.delete(file, delete_data=True)
    ln.delete(other)
    assert not path.exists()


# --- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entity", "field", "near"),
    [
        (ln.File, "hsah", "hash"),
        (ln.File, "Key", "key"),
        (ln.File, "storage_idd", "storage_id"),
        (ln.Run, "started", "started_at"),
        (ln.Transform, "nmae", "name"),
        (ln.User, "handel", "handle"),
    ],
)
def test_a_field_that_is_not_there_brings_up_near_names(
    entity: Any, field: str, near: str, storage: Path
):
    with refused(FieldUnknownError, f"no field {field!r}", near, storage=storage):
        ln.select(entity, **{field: 1})
    with pytest.raises(AttributeError):
        ln.select(entity, **{field: 1})


def test_a_field_like_no_other_brings_up_all(storage: Path):
    with refused(FieldUnknownError, "it has id, handle, email", storage=storage):
        ln.select(ln.User, zzz=1)


def test_one_says_when_there_is_none_or_many(storage: Path):
    with pytest.raises(NoResultFound, match=r"'missing\.txt'"):
        ln.select(ln.File, key="missing.txt").one()
    with pytest.raises(MultipleResultsFound, match="3 records match"):
        ln.select(ln.File).one()
    with pytest.raises(MultipleResultsFound, match="2 records match"):
        ln.select(ln.File, all_versions=True, key="kept/file.txt").one_or_none()


# --- credentials ----------------------------------------------------------------------------------

SECRET = "sekrit-Wq3"
URLS = [
    f"s3://AKIA:{SECRET}@bucket/a.txt",
    f"s3://{SECRET}@bucket/a.txt",
    f"https://user:{SECRET}@example.org/a.txt",
    f"https://example.org/a.txt?token={SECRET}",
    f"https://example.org/a.txt?X-Amz-Signature={SECRET}&b=1",
    f"sftp://user:{SECRET}@example.org/a.txt",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "call",
    [ln.File, lambda url: ln.Storage(url), lambda url: ln.setup.init(storage=url)],
    ids=["File", "Storage", "init"],
)
def test_a_url_with_credentials_is_refused_without_repeating_them(
    call: Callable[[str], Any], url: str, storage: Path, capfd: pytest.CaptureFixture[str]
):
    with refused(CredentialsError, "carries credentials", "environment", storage=storage):
        call(url)
    with pytest.raises(CredentialsError) as raised:
        call(url)
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in "".join(capfd.readouterr())
    for path in Path.home().parent.rglob("*.toml"):
        assert SECRET not in path.read_text()


def test_the_password_of_a_database_is_in_no_message(tmp_path: Path):
    url = f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/missing"
    with pytest.raises(LaminError) as raised:
        ln.setup.init(storage=tmp_path / "storage", db=url)
    assert SECRET not in str(raised.value)


# --- values that do not fit their fields ----------------------------------------------------------


def test_a_record_that_lacks_what_it_needs_says_so(storage: Path) -> None:
    file = ln.File(source())
    file.name = None  # type: ignore[assignment]
    with pytest.raises(RecordError, match=r"lacks a value.*name"):
        ln.add(file)


def test_a_name_that_is_no_text_says_so(storage: Path) -> None:
    with pytest.raises(RecordError, match="the name 5 is a int, not a text"):
        ln.File(source(), name=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["all", "first", "count", "df"])
def test_a_value_of_another_type_than_its_field_says_so(storage: Path, end: str) -> None:
    query = ln.select(ln.File, created_at="2024-01-01")
    with pytest.raises(RecordError, match=r"'2024-01-01' is no time: give a datetime"):
        getattr(query, end)()


def test_params_that_are_no_json_say_so(storage: Path) -> None:
    run = ln.track(ln.Transform("x"))
    run.params = {"a": Path("x")}
    with pytest.raises(RecordError, match=r"not JSON serializable.*str.path"):
        ln.add(run)
    run.params = None


@pytest.mark.parametrize("key", ["x" * 250, "x" * 247 + ".parquet"])
def test_a_table_may_have_any_legal_key(storage: Path, key: str) -> None:
    file = ln.add(ln.File(pd.DataFrame({"a": [1]}), key=key))
    assert file.key == file.name == key
    assert file.path().is_file()


@pytest.mark.parametrize("url", ["foo://bar", "foo://bar/x.csv"])
def test_a_url_that_nobody_reads_says_so(storage: Path, url: str) -> None:
    with pytest.raises(DataTypeError, match="Protocol not known: foo"):
        ln.File(url)
