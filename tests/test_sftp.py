"""The storage suite on a real SFTP server, and what is SFTP's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncssh", reason="the server needs pip install 'lamindb-workflows[test]'")
pytest.importorskip("paramiko", reason="the client needs pip install 'lamindb-workflows[sftp]'")

import fsspec
from fsspec.implementations.sftp import SFTPFileSystem
from upath import UPath

import lamindb as ln
from lamindb import doctor
from lamindb.errors import (
    CredentialsError,
    DataUnreadableError,
    LaminError,
    LinkRefusedError,
    SetupError,
    StorageUnreachableError,
)
from lamindb.storage import sftp
from lamindb.storage.store import Store
from sftp_server import PASSWORD, USER, SFTPServer, sftp_server

pytest.register_assert_rewrite("storage_contract")

from storage_contract import Objects, StagingContract, StorageContract, local_file, tree  # noqa: E402


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTPServer]:
    with sftp_server(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def server(serving: SFTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SFTPServer]:
    login = {"username": USER, "password": PASSWORD}
    monkeypatch.setitem(fsspec.config.conf, "sftp", login)
    yield serving
    serving.forbidden.clear()
    serving.unsupported.clear()
    if serving.changes_left is not None or not serving.is_up:
        recover(serving)


def recover(server: SFTPServer) -> None:
    server.changes_left = None
    server.stop()
    for fs in list(sftp._filesystem_class()._cache.values()):
        # a thread of the client's: until it has ended, the connection looks alive
        if (transport := fs.client.get_transport()) is not None:
            transport.join(20)
    server.start()
    SFTPFileSystem.clear_instance_cache()  # the tests' own connections


@pytest.fixture
def place() -> str:
    """Return the name of a folder that no other test has used: the server outlives them."""
    return uuid.uuid4().hex


@pytest.fixture
def root(server: SFTPServer, place: str) -> str:
    return f"{server.url}/{place}/some folder"


@pytest.fixture
def served(server: SFTPServer, place: str) -> Path:
    return server.folder / place / "some folder"


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


class Served(Objects):
    """Puts objects onto the server's disk: old versions of fsspec's own client cannot always."""

    def __init__(self, root: str, folder: Path) -> None:
        super().__init__(root)
        self._folder = folder

    def put(self, key: str, content: bytes) -> str:
        local_file(self._folder, key, content)
        return f"{self.root}/{key}"


class TestSFTP(StagingContract, StorageContract):
    is_local = False
    type = "sftp"
    many = 30

    @pytest.fixture
    def root(self, root: str) -> str:
        return root

    @pytest.fixture
    def objects(self, root: str, served: Path, db: str) -> Objects:
        ln.setup.init(storage=root, name="suite", db=db)
        return Served(root, served)

    def text_of(self, path: Any) -> str:
        """A UPath's own text leaves out the host."""
        options = path.storage_options
        return f"sftp://{options['host']}:{options['port']}{path.path}"


def folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


def test_no_empty_folder_stays_of_what_was_removed(
    root: str, served: Path, db: str, tmp_path: Path
) -> None:
    ln.setup.init(storage=root, db=db)
    local_file(tmp_path / "d", "deep/er/a.txt", "a")
    ln.add(ln.File(tmp_path / "d", key="k/d"))
    file = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="k/l/a.txt"))
    file.replace(local_file(tmp_path, "b.txt", "b"))
    ln.add(file)
    ln.add(ln.File(local_file(tmp_path, "f", "now a file"), key="k/d"))
    ln.delete([file, *ln.select(ln.File, key="k/d", all_versions=True).all()], delete_data=True)
    assert folders(served) <= {".lamindb", ".lamindb/incoming", ".lamindb/versions"}
    assert ln.add(ln.File(local_file(tmp_path, "c", "c"), key="k")).stage().read_text() == "c"


def test_a_connection_that_the_server_has_ended_is_made_anew(
    root: str, server: SFTPServer, db: str, tmp_path: Path
) -> None:
    ln.setup.init(storage=root, db=db)
    file = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    server.stop()
    other = ln.File(local_file(tmp_path, "b.txt", "b"), key="b.txt")
    for act in (file.load, lambda: ln.add(other)):
        with pytest.raises(StorageUnreachableError, match="cannot be reached"):
            act()
    [finding] = doctor.examine()
    assert finding.problem == "storage"
    server.start()
    assert file.load() == "a"
    assert ln.add(other).load() == "b"


def works(folder: Path) -> dict[str, Any]:
    """What is done to an instance, by name: made ready first, and then a call."""

    def kept(content: bytes | dict[str, bytes], key: str) -> ln.File:
        if isinstance(content, bytes):
            return ln.add(ln.File(local_file(folder, "kept", content), key=key))
        for name, each in content.items():
            local_file(folder / "kept folder", name, each)
        return ln.add(ln.File(folder / "kept folder", key=key))

    def add() -> Any:
        return lambda: ln.add(ln.File(local_file(folder, "n", b"n" * 200_000), key="k/l/n"))

    def add_version() -> Any:
        kept({"a": b"a", "b/c": b"c"}, "k/d")
        local_file(folder / "e", "x/y", b"y")
        return lambda: ln.add(ln.File(folder / "e", key="k/d"))

    def replace() -> Any:
        file = kept(b"old", "k/f")
        file.replace(local_file(folder, "newer", b"newer"))
        return lambda: ln.add(file)

    def delete_version() -> Any:
        kept({"a": b"a", "b/c": b"c"}, "k/d")
        newer = kept(b"new", "k/d")
        return lambda: ln.delete(newer, delete_data=True)

    return {each.__name__: each for each in (add, add_version, replace, delete_version)}


@pytest.mark.parametrize("name", ["add", "add_version", "replace", "delete_version"])
def test_whatever_change_is_the_last_before_the_server_goes_nothing_is_half_there(
    name: str, root: str, server: SFTPServer, served: Path, db: str, tmp_path: Path
) -> None:
    ln.setup.init(storage=root, db=db)
    for changes in range(40):
        act = works(tmp_path)[name]()
        before = {key: got for key, got in tree(served).items() if "incoming" not in key}
        server.changes_left = changes
        try:
            act()
        except LaminError:
            is_done = False
        else:
            is_done = True
        recover(server)
        ln.setup.close()
        ln.setup.init(storage=root, db=db)
        ln.select(ln.File).count()  # opening it has mended what could not be mended before
        assert [each.message for each in doctor.examine(hashes=True)] == []
        if is_done:
            break
        assert {key: got for key, got in tree(served).items() if "incoming" not in key} == before
        ln.delete(ln.select(ln.File, all_versions=True).all(), delete_data=True)
    assert changes > 2


def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(
    root: str, server: SFTPServer, served: Path, db: str
) -> None:
    ln.setup.init(storage=root, db=db)
    local_file(served, "d/a.txt", "a")
    local_file(served, "d/closed/b.txt", "b")
    server.forbidden.add("closed")
    with pytest.raises(DataUnreadableError):
        ln.File(f"{root}/d")


def test_links_are_followed_to_files_and_refused_to_folders(
    root: str, served: Path, db: str
) -> None:
    ln.setup.init(storage=root, db=db)
    local_file(served, "d/a.txt", "a")
    (served / "d/b.txt").symlink_to("a.txt")
    file = ln.add(ln.File(f"{root}/d"))
    assert tree(file.stage()) == {"a.txt": b"a", "b.txt": b"a"}
    local_file(served, "e/a.txt", "a")
    (served / "e/loop").symlink_to(".")
    with pytest.raises(LinkRefusedError, match="loop"):
        ln.File(f"{root}/e")


def test_a_server_without_renames_is_refused_before_anything_is_made(
    root: str, server: SFTPServer, served: Path, db: str, tmp_path: Path
) -> None:
    server.unsupported.add("posix_rename")
    with pytest.raises(SetupError, match="cannot rename an object"):
        ln.setup.init(storage=root, db=db)
    assert tree(served) == {}
    assert not (tmp_path / "records.sqlite").exists()


def test_wrong_credentials_are_said_to_be_wrong_and_none_is_taken_from_the_url(
    root: str, db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CredentialsError) as caught:
        ln.setup.init(storage=root.replace("//", f"//{USER}:hush@"), db=db)
    assert "hush" not in str(caught.value)
    assert "FSSPEC_SFTP_USERNAME" in str(caught.value)
    with pytest.raises(CredentialsError):
        ln.setup.init(storage=UPath(root.replace("//", f"//{USER}@")), db=db)
    for login in ({"username": USER, "password": "no"}, {"username": USER}):
        monkeypatch.setitem(fsspec.config.conf, "sftp", {**login, "look_for_keys": False})
        with pytest.raises(PermissionError, match="credentials"):
            ln.setup.init(storage=root, db=db)
    assert not (tmp_path / "records.sqlite").exists()


def test_another_machine_in_the_place_of_a_known_one_gets_no_password(
    root: str, server: SFTPServer, db: str
) -> None:
    import asyncssh

    recover(server)  # what is connected already stays so
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()
    known = Path.home() / ".ssh" / "known_hosts"
    known.parent.mkdir()
    known.write_text(f"[127.0.0.1]:{server.port} {key[0]} {key[1]}\n")
    with pytest.raises(PermissionError, match=r"Host key.*does not match"):
        ln.setup.init(storage=root, db=db)
    known.unlink()
    ln.setup.init(storage=root, db=db)


def test_a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "_CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"sftp://127.0.0.1:{silent.getsockname()[1]}/lab"
        with pytest.raises(StorageUnreachableError):
            ln.setup.init(storage=url, db=db)


def test_one_that_falls_silent_is_not_waited_for(
    root: str, server: SFTPServer, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "_ANSWER_S", 0.5)
    recover(server)  # what is connected already would wait for longer
    ln.setup.init(storage=root, db=db)
    file = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    fs = sftp.sftp_filesystem(root.split("/")[2])
    monkeypatch.setattr(type(fs.ftp), "_send_packet", lambda *rest: None)
    with pytest.raises(StorageUnreachableError):
        file.load()
    recover(server)


WRITER = """
import sys, pathlib, lamindb as ln
for number in range(8):
    path = pathlib.Path(f"{sys.argv[1]}{number}.txt")
    path.write_text(path.name)
    file = ln.add(ln.File(path, key=f"deep/{number % 2}/contested.txt"))
    assert file.stage().read_text() == path.name
    mine = ln.add(ln.File(path, key=f"deep/{number % 2}/{path.name}"))
    ln.delete(mine, delete_data=True)
"""


def test_two_processes_that_make_and_empty_the_same_folders_lose_nothing(
    root: str, db: str
) -> None:
    ln.setup.init(storage=root, db=db)
    environment = os.environ | {"FSSPEC_SFTP_USERNAME": USER, "FSSPEC_SFTP_PASSWORD": PASSWORD}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in "pq"
    ]
    for writer in writers:
        assert writer.communicate(timeout=100)[1] == ""
        assert writer.returncode == 0
    versions = ln.select(ln.File, all_versions=True).all()
    written = {f"{name}{number}.txt" for name in "pq" for number in range(8)}
    assert {version.stage().read_text() for version in versions} == written
    assert list(doctor.examine(hashes=True)) == []


def test_a_fork_uses_a_connection_of_its_own(root: str, db: str, tmp_path: Path) -> None:
    ln.setup.init(storage=root, db=db)
    file = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if ln.select(ln.File).one().load() == "a" else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert Store(root).exists("a.txt")
    assert file.load() == "a"
    assert Objects(root).seen() == {"a.txt": b"a"}
