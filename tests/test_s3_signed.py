"""The storage suite on an S3 server that checks signatures, and what wrong credentials give."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

import lamindb as ln
from fault_proxy import forget_connections, unfinished_uploads
from lamindb.errors import DataUnreadableError, StorageReadOnlyError
from swift_server import Server, is_installed, swift

pytest.register_assert_rewrite("storage_contract")

from storage_contract import StagingContract, StorageContract, local_file  # noqa: E402

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def signed() -> Iterator[Server]:
    if not is_installed():
        pytest.skip("no Swift is installed: it comes with the extra 'test-full'")
    with swift() as server:
        yield server


@pytest.fixture
def own_bucket(signed: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", signed.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", signed.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", signed.secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    forget_connections()
    name = f"bucket-{uuid4().hex}"
    # boto3's default session keeps the credentials of other tests' servers
    boto3.Session().client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}"
    forget_connections()


class TestSwift(StagingContract, StorageContract):
    is_local = False
    type = "s3"
    many = 30

    @pytest.fixture
    def root(self, own_bucket: str) -> str:
        return f"{own_bucket}/some prefix"


def test_wrong_credentials_are_a_clear_error(
    own_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=own_bucket, db=f"sqlite:///{tmp_path / 'records.sqlite'}")
    kept = ln.add(ln.File(local_file(tmp_path, "a.txt", "a"), key="a.txt"))
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + right)
    forget_connections()
    with pytest.raises(StorageReadOnlyError, match="credentials") as caught:
        ln.add(ln.File(local_file(tmp_path, "b.txt", "b"), key="b.txt"))
    assert "wrong-" not in str(caught.value)
    with pytest.raises((StorageReadOnlyError, DataUnreadableError), match="credentials"):
        kept.stage()
    with pytest.raises(StorageReadOnlyError, match="credentials"):
        ln.delete(kept, delete_data=True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", right)
    forget_connections()
    assert ln.select(ln.File).one().load() == "a"


@pytest.mark.timeout(1800)
def test_an_object_larger_than_a_single_request_may_carry(own_bucket: str, tmp_path: Path) -> None:
    size = 5 * 2**30 + 2**20
    if shutil.disk_usage(tmp_path).free < 6 * size:
        pytest.skip("30 GB of disk are needed")
    path = tmp_path / "large.bin"
    with path.open("wb") as stream:
        stream.truncate(size)
        stream.write(b"begin")
    ln.setup.init(storage=own_bucket, db=f"sqlite:///{tmp_path / 'records.sqlite'}")
    file = ln.add(ln.File(path, key="large.bin"))
    path.unlink()
    # it goes aside and comes back, which are copies in parts too
    newer = ln.add(ln.File(local_file(tmp_path, "b.bin", "newer"), key="large.bin"))
    ln.delete(newer, delete_data=True)
    kept = ln.select(ln.File).one()
    assert (kept, kept.size) == (file, size)
    staged = kept.stage()
    with staged.open("rb") as stream:
        assert (staged.stat().st_size, stream.read(5)) == (size, b"begin")
    assert unfinished_uploads(own_bucket, os.environ["AWS_ENDPOINT_URL"]) == []
