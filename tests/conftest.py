"""What every test gets: a home of its own, no network, and an S3 server when it asks for one."""

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import postgres as postgres_server
from fault_proxy import PART, Proxy, faulty, forget_connections

# no test asserts on wall time
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# read before a test takes such variables away
TEST_DB = os.environ.get("LAMINDB_TEST_DB", "sqlite")
NO_NETWORK = Path(__file__).parent / "no_network"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares a server or a process when tests run in parallel."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            if file.startswith("tests/prefect/"):
                return "prefect"
            # half an hour in one process; each of them has a server, a bucket and files of its own
            return nodeid if test.startswith("test_any_fault_for_any_time") else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("LAMINDB_TEST_FULL") == "1":
        return
    skip = pytest.mark.skip(reason="long or heavy: run `python dev.py test --full`")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give the test an empty home and working directory, and forget the instance afterwards."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    for name in [name for name in os.environ if name.startswith("LAMINDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    # These folders do not exist yet, as on a machine's first day.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("LAMINDB_USER", "testuser")
    monkeypatch.setenv("PYTHONPATH", str(NO_NETWORK), prepend=os.pathsep)
    monkeypatch.chdir(work)
    of_engine = request.path.parent.name in ("prefect", "snakemake")
    if request.node.get_closest_marker("observing") is None and not of_engine:
        # the files of the tests themselves are no outputs of what they track
        monkeypatch.setenv("LAMINDB_OBSERVE", "0")
        _observe(False)
    yield
    _observe(True)
    _reset_lamindb()


def _observe(value: bool) -> None:
    from lamindb.config import settings

    settings.observe = value


def _reset_lamindb() -> None:
    """Forget the process-wide instance, context and engine, if a test has made any."""
    if "lamindb.instance" in sys.modules:
        sys.modules["lamindb.instance"].reset()


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A PostgreSQL server; skips where none is installed."""
    if postgres_server.binaries() is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with postgres_server.server() as running:
        yield running


@pytest.fixture
def own_postgres() -> Iterator[postgres_server.Server]:
    """A PostgreSQL server that the test may stop and start."""
    if postgres_server.binaries() is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with postgres_server.server() as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``databases`` with either kind of database.

    ``databases("full")``: with the second one only where everything is run; ``databases("sqlite")``
    in a file of such tests: never with it.
    """
    mark = metafunc.definition.get_closest_marker("databases")
    if mark is not None:
        second = pytest.param("postgresql", marks=[pytest.mark.full] if mark.args else [])
        kinds = ["sqlite"] if mark.args == ("sqlite",) else ["sqlite", second]
        metafunc.parametrize("database_kind", kinds, indirect=True)


@pytest.fixture(autouse=True)
def database_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have an instance that names no database get one of this kind.

    ``LAMINDB_TEST_DB=postgresql`` runs every test so, but for the processes that one starts with an
    instance of their own.
    """
    kind: str = getattr(request, "param", None) or TEST_DB
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        from lamindb import config

        derive = config.config_from_storage
        urls: dict[str, str] = {}

        def with_server(storage: Any, db: str | None = None, name: str | None = None) -> Any:
            if db is None:
                root = config.normalise_root(storage)
                db = urls.get(root) or urls.setdefault(root, server.database())
            return derive(storage, db, name)

        for module in (config, config.instances):
            monkeypatch.setattr(module, "config_from_storage", with_server)
    return kind


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Return the URL of an S3 server in this process, to which the AWS variables point."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield url
    server.stop()


@pytest.fixture
def bucket(s3: str) -> str:
    """Return the address, ``s3://name``, of a fresh and empty bucket."""
    import boto3

    name = f"bucket-{uuid.uuid4().hex}"
    # s3fs.mkdir would send a LocationConstraint that S3 refuses for its default region.
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def proxy(
    s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Proxy]:
    """What clients reach S3 through; they try a request three times, and upload parts of 5 MiB."""
    import fsspec

    caplog.set_level("ERROR", "werkzeug")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_block_size": PART})
    if os.environ.get("LAMINDB_TEST_FULL") != "1":
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own tries take seconds
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        forget_connections()
        yield proxy
        proxy.heal()
    forget_connections()
