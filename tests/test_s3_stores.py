"""S3 servers that are down, ignore what they are asked, or keep what nobody finished."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest

import lamindb as ln
from fault_proxy import PART, Proxy, forget_connections, unfinished_uploads
from lamindb import doctor
from lamindb.config import cache_dir
from lamindb.errors import LaminError, StorageError, StorageUnreachableError
from lamindb.storage import cache, copies

pytest.register_assert_rewrite("storage_contract")

from storage_contract import Objects, hash_of, local_file, tree  # noqa: E402


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture
def objects(proxy: Proxy, bucket: str, db: str) -> Objects:
    ln.setup.init(storage=bucket, db=db)
    return Objects(bucket)


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


# --- down ---------------------------------------------------------------------------------------


def test_an_endpoint_that_is_down_is_a_clear_error_after_few_tries(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port
    slept: list[float] = []
    import asyncio

    real = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda s, *rest: (slept.append(s), real(0))[1])
    forget_connections()
    file = ln.File(local_file(tmp_path, "b.txt", "b"), key="b.txt")
    for act in (
        lambda: ln.add(file),
        kept.stage,
        kept.load,
        lambda: ln.delete(kept, delete_data=True),
        lambda: ln.File("s3://elsewhere/a.txt"),
    ):
        slept.clear()
        with pytest.raises(StorageUnreachableError, match=r"Could not connect.*127\.0\.0\.1:9"):
            act()
        assert sum(slept) < 15  # not the minutes of tries within tries
    assert ln.select(ln.File).one() == kept
    [finding] = doctor.examine()
    assert finding.problem == "storage"
    assert "cannot be reached" in finding.message


def test_an_endpoint_that_takes_connections_and_says_nothing_is_given_up_after_three_tries(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    config = {"config_kwargs": {"read_timeout": 0.2}}  # the user's own, which is kept
    monkeypatch.setitem(fsspec.config.conf, "s3", config)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    file = ln.File(local_file(tmp_path, "b.txt", "b"), key="b.txt")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        forget_connections()
        for act in (lambda: ln.add(file), kept.stage, lambda: ln.File("s3://elsewhere/a.txt")):
            with pytest.raises(StorageUnreachableError, match="Read timeout"):
                act()
            tries = 0
            silent.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    silent.accept()[0].close()
                    tries += 1
            assert tries == 3  # not three times three, each of which would take 15 s


def test_a_script_that_is_run_does_not_notice_that_its_storage_is_down(
    objects: Objects, proxy: Proxy
) -> None:
    proxy.fault("busy", times=None)
    command = [sys.executable, "-m", "lamindb", "run", "--", "sh", "-c", "echo made > out.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    proxy.heal()
    run = ln.select(ln.Run).one()
    assert run.status == "completed"
    [file] = run.outputs
    assert (file.name, file.hash, file.load()) == ("out.txt", hash_of(b"made\n"), "made\n")


# --- deaf to conditions -------------------------------------------------------------------------

WRITER = """
import sys, pathlib
import lamindb as ln
for number in range(5):
    path = pathlib.Path(f"{sys.argv[1]}{number}.txt")
    path.write_text(path.name)
    ln.add(ln.File(path, key="contested.txt"))
"""


@pytest.mark.full
def test_two_writers_of_one_key_lose_nothing_where_conditions_are_ignored(
    objects: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.stripped = frozenset(("if-none-match", "if-match"))
    command = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "pq"
    ]
    for writer in writers:
        assert writer.communicate(timeout=50)[1] == ""
    versions = ln.select(ln.File, all_versions=True, key="contested.txt").all()
    written = {f"{name}{number}.txt" for name in "pq" for number in range(5)}
    assert {version.stage().read_text() for version in versions} == written
    assert all(hash_of(each.stage().read_bytes()) == each.hash for each in versions)
    [latest] = [version for version in versions if version.is_latest]
    assert objects.seen() == {"contested.txt": latest.stage().read_bytes()}
    assert list(doctor.examine(hashes=True)) == []


@pytest.mark.parametrize("size", [5, PART + 9], ids=["in one part", "in several"])
def test_bytes_that_somebody_else_puts_over_ours_are_never_taken_for_them(
    objects: Objects, proxy: Proxy, tmp_path: Path, size: int
) -> None:
    proxy.stripped = frozenset(("if-none-match", "if-match"))
    theirs = b"\1" * size
    waiting = ["theirs"]

    def meddle(request: str) -> None:
        is_end = "PUT" in request and "partNumber" not in request
        if (is_end or ("POST" in request and "uploadId" in request)) and waiting:
            waiting.clear()
            objects.put("k.bin", theirs)

    proxy.meddler = meddle
    file = ln.File(local_file(tmp_path, "a.bin", bytes(size)), key="k.bin")
    with pytest.raises(StorageError, match="somebody else writes there"):
        ln.add(file)
    proxy.meddler = None
    assert objects.seen() == {"k.bin": theirs}
    assert ln.select(ln.File).count() == 0


# --- what nobody finished -----------------------------------------------------------------------

UPLOADER = """
import lamindb as ln
ln.add(ln.File("big.bin", key="big.bin"))
"""


def test_an_upload_whose_process_is_killed_leaves_no_part(
    objects: Objects, proxy: Proxy, bucket: str, s3: str
) -> None:
    Path("big.bin").write_bytes(os.urandom(3 * PART))
    proxy.fault("slow", "^PUT.*partNumber=2", times=None, seconds=30)
    config = "import fsspec; fsspec.config.conf['s3'] = {'default_block_size': 5 * 2**20}\n"
    uploader = python(config + UPLOADER)
    deadline = time.monotonic() + 40
    while not proxy.struck and time.monotonic() < deadline:
        assert uploader.poll() is None, uploader.communicate()
        time.sleep(0.05)
    uploader.send_signal(signal.SIGKILL)
    uploader.communicate()
    proxy.heal()
    assert len(unfinished_uploads(bucket, s3)) == 1
    ln.setup.close()
    ln.setup.init(storage=bucket, db=f"sqlite:///{Path.cwd().parent / 'records.sqlite'}")
    assert ln.select(ln.File).count() == 0
    assert unfinished_uploads(bucket, s3) == []
    assert ln.add(ln.File("big.bin", key="big.bin")).stage().stat().st_size == 3 * PART
    assert list(doctor.examine(hashes=True)) == []


def test_an_object_is_hashed_though_the_interpreter_ends_that_has_to_find_its_host(
    bucket: str, s3: str, db: str, tmp_path: Path
) -> None:
    boto3.client("s3", endpoint_url=s3).put_object(
        Bucket=bucket.removeprefix("s3://"), Key="a.csv", Body=b"1\n"
    )
    ln.setup.init(storage="./data", db=db)
    Path("script.py").write_text(
        f"import lamindb as ln\nln.track(inputs=['{bucket}/a.csv'])\n", encoding="utf-8"
    )
    # a name, which an event loop looks up in its pool of threads
    there = {**os.environ, "AWS_ENDPOINT_URL": s3.replace("127.0.0.1", "localhost")}
    done = subprocess.run([sys.executable, "script.py"], env=there, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    [file] = ln.select(ln.Run).one().inputs
    assert (file.hash, file.hash_note) == (hash_of(b"1\n"), None)


def test_doctor_names_the_uploads_of_others_and_ends_those_a_day_old(
    objects: Objects, bucket: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("s3", endpoint_url=s3)
    client.create_multipart_upload(Bucket=bucket.removeprefix("s3://"), Key="theirs/a.bin")
    # moto says of all that they were begun in 2010
    monkeypatch.setattr(doctor, "_UPLOAD_TAKES", dt.timedelta(days=36500))
    for fix, mended in ((False, False), (True, False)):
        [finding] = doctor.examine(fix=fix)
        assert (finding.problem, finding.subject) == ("upload-unfinished", f"{bucket}/theirs/a.bin")
        assert (finding.mended, "'lamin doctor --fix' removes" in finding.message) == (mended, True)
    assert len(unfinished_uploads(bucket, s3)) == 1
    monkeypatch.setattr(doctor, "_UPLOAD_TAKES", dt.timedelta(days=1))
    assert [finding.mended for finding in doctor.examine(fix=True)] == [True]
    assert unfinished_uploads(bucket, s3) == []
    assert list(doctor.examine()) == []


def test_doctor_asks_for_lists_not_for_each_object(
    objects: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    for number in range(5):
        local_file(tmp_path / "d", f"{number}", str(number))
    ln.add([ln.File(tmp_path / "d" / f"{number}", key=f"k/{number}") for number in range(5)])
    folder = ln.add(ln.File(tmp_path / "d", key="d"))
    ln.add(ln.File(local_file(tmp_path, "newer", "newer"), key="k/1"))
    proxy.requests.clear()
    assert list(doctor.examine()) == []
    assert len(proxy.requests) < 5
    objects.remove("k/3")
    objects.put("d/3", b"longer")
    objects.put("k/4", b"longer")
    found = {finding.problem: finding.subject for finding in doctor.examine()}
    assert found.keys() == {"object-missing", "object-changed"}
    assert folder.id in {finding.subject for finding in doctor.examine()}


@pytest.mark.full
def test_half_an_object_that_was_resumed_is_whole(
    objects: Objects, proxy: Proxy, bucket: str, s3: str, tmp_path: Path
) -> None:
    content = os.urandom(3 * PART + 17)
    path = local_file(tmp_path, "a.bin", content)
    proxy.fault("torn", "partNumber=2")
    proxy.fault("unanswered", "partNumber=3")
    file = ln.add(ln.File(path, key="a.bin"))
    assert proxy.struck
    assert (file.size, file.hash) == (len(content), hash_of(content))
    assert file.stage().read_bytes() == content
    proxy.heal()
    proxy.fault("refused", "partNumber=2", times=None)
    with pytest.raises(StorageUnreachableError):
        ln.add(ln.File(local_file(tmp_path, "b.bin", content[::-1]), key="b.bin"))
    assert objects.seen().keys() == {"a.bin"}
    assert unfinished_uploads(bucket, s3) == []


# --- copies on this machine -----------------------------------------------------------------------


def test_large_objects_are_not_downloaded_to_be_checked(
    objects: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    content = os.urandom(PART + 99)
    file = ln.add(ln.File(local_file(tmp_path, "a.bin", content), key="a.bin"))
    again = ln.add(ln.File(tmp_path / "a.bin", key="a.bin"))
    assert again == file
    proxy.requests.clear()
    ln.delete(file, delete_data=True)
    assert [each for each in proxy.requests if re.match("GET [^?]*$", each)] == []
    assert objects.seen() == {}
    other = ln.add(ln.File(local_file(tmp_path, "b.bin", content[::-1]), key="b.bin"))
    objects.put("b.bin", os.urandom(PART + 99))
    with pytest.raises(RuntimeError, match="other bytes"):
        ln.delete(other, delete_data=True)


def test_a_download_does_not_look_at_all_that_is_kept(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    real = copies._look
    monkeypatch.setattr(copies, "_look", lambda folder: looked.append(folder) or real(folder))
    for number in range(5):
        path = local_file(tmp_path, f"{number}.bin", bytes([number]) * 1000)
        ln.add(ln.File(path, key=path.name)).stage()
    assert len(looked) == 1  # of what was there before the first
    monkeypatch.setattr(ln.settings, "cache_size_bytes", 4000)
    monkeypatch.setattr(copies, "_IN_USE_S", -1.0)
    ln.add(ln.File(local_file(tmp_path, "z.bin", b"z" * 1000), key="z.bin")).stage()
    assert len(looked) == 2
    kept = [path for path in (cache_dir() / "objects").glob("??/*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) <= 4000


def test_a_copy_that_is_used_again_is_not_hashed_again(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ln.add(ln.File(local_file(tmp_path, "a.bin", os.urandom(2 * 2**20)), key="a.bin"))
    monkeypatch.setattr(cache, "_SETTLED_S", -1.0)
    staged = file.stage()
    file.stage()
    read: list[Any] = []
    monkeypatch.setattr(cache, "digest", lambda *rest, **named: read.append(rest))
    assert file.stage() == staged
    assert read == []


STAGER = """
import sys
import lamindb as ln
for file in ln.select(ln.File).order_by(ln.File.key).all():
    print(file.stage())
"""


@pytest.mark.full
def test_processes_that_fetch_the_same_at_once_share_one_copy(
    objects: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    local_file(tmp_path / "d", "deep/a.txt", "a")
    local_file(tmp_path / "d", "b.txt", "b")
    big = os.urandom(2 * PART)
    ln.add(ln.File(local_file(tmp_path, "a.bin", big), key="a.bin"))
    ln.add(ln.File(tmp_path / "d", key="d"))
    proxy.fault("slow", "^GET /[^?]*$", times=None, seconds=0.5)
    stagers = [python(STAGER) for _ in range(3)]
    told = [stager.communicate(timeout=50) for stager in stagers]
    assert {err for _, err in told} == {""}
    [out] = {out for out, _ in told}
    file, folder = map(Path, out.splitlines())
    assert file.read_bytes() == big
    assert tree(folder) == {"deep/a.txt": b"a", "b.txt": b"b"}
    assert list((cache_dir() / "objects" / "incoming").iterdir()) == []


def test_a_download_that_is_killed_leaves_no_wrong_bytes(
    objects: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    content = os.urandom(3 * PART)
    file = ln.add(ln.File(local_file(tmp_path, "a.bin", content), key="a.bin"))
    proxy.struck.clear()
    proxy.fault("slow", "^GET /[^?]*$", times=None, after=1, seconds=30)
    stager = python(
        "import fsspec; fsspec.config.conf['s3'] = {'default_block_size': 99999}" + STAGER
    )
    deadline = time.monotonic() + 40
    while not proxy.struck and time.monotonic() < deadline:
        assert stager.poll() is None, stager.communicate()
        time.sleep(0.05)
    stager.send_signal(signal.SIGKILL)
    stager.communicate()
    proxy.heal()
    copy = cache_dir() / "objects"
    assert [path.parent.name for path in copy.glob("*/*")] == ["incoming"]
    assert file.stage().read_bytes() == content


# --- credentials, and other stores --------------------------------------------------------------

SECRET = "the-secret-of-a-profile"


def test_the_credentials_of_a_profile_are_used_and_kept_nowhere(
    proxy: Proxy, bucket: str, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aws").write_text(
        f"[profile lab]\naws_access_key_id = AKIALAB\naws_secret_access_key = {SECRET}\n"
        f"region = us-east-1\nendpoint_url = {proxy.url}\n"
    )
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    forget_connections()
    with pytest.raises(PermissionError, match=r"profile \(other\).*credentials"):
        ln.setup.init(storage=bucket, db=db)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    forget_connections()
    ln.setup.init(storage=bucket, db=db)
    ln.track(ln.Transform(name="uses S3", type="pipeline"))
    file = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    assert file.load() == "a"
    command = [sys.executable, "-m", "lamindb", "run", "--", "sh", "-c", "echo made > out.txt"]
    assert subprocess.run(command).returncode == 0
    ln.finish()
    ln.setup.close()
    found = [
        str(path)
        for path in tmp_path.rglob("*")
        if path.is_file()
        and any(each in path.read_bytes() for each in (b"AKIALAB", SECRET.encode()))
    ]
    assert found == [str(tmp_path / "aws")]
    assert all(SECRET.encode() not in content for content in Objects(bucket).all().values())


# universal_pathlib's own warning, before 0.3
@pytest.mark.filterwarnings("ignore:UPath 'zip' filesystem not explicitly implemented")
@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("zip://archive/inside", "be opened"),
        ("github://owner/repository", "be opened"),
        ("nosuch://bucket/path", "Protocol not known"),
    ],
)
def test_a_store_that_cannot_hold_an_instance_is_refused_before_anything_is_made(
    root: str, reason: str, db: str, tmp_path: Path
) -> None:
    with pytest.raises(LaminError, match=reason) as caught:
        ln.setup.init(storage=root, db=db)
    assert "s3://" in str(caught.value)
    assert not (tmp_path / "records.sqlite").exists()


@pytest.mark.parametrize(
    ("matches", "what"),
    [("^PUT", "be written to"), ("^DELETE", "remove an object"), ("list-type", "be listed")],
)
def test_a_bucket_in_which_something_is_not_allowed_is_refused(
    proxy: Proxy, bucket: str, db: str, tmp_path: Path, matches: str, what: str
) -> None:
    proxy.fault("denied", matches, times=None)
    with pytest.raises(PermissionError, match=rf"may not {what}.*credentials"):
        ln.setup.init(storage=bucket, db=db)
    proxy.heal()
    assert not (tmp_path / "records.sqlite").exists()
    ln.setup.init(storage=bucket, db=db)
    assert Objects(bucket).seen() == {}
