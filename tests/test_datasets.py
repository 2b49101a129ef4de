"""The example data: fetched once and checked, or an honest stand-in without a network."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lamindb.dev import datasets

NAME = "paradisi05_laminopathic_nuclei.jpg"


def md5_of(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


def picture(shade: int = 120) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (32, 32), shade).save(stream, "JPEG")
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``body`` on the loopback interface and counts the requests."""

    body = b""
    status = 200
    requests = 0
    agents: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/Laminopathic_nuclei.jpg"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.requests += 1
        server.agents.append(self.headers["User-Agent"])
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as served:
        served.agents = []
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def unreachable() -> Iterator[str]:
    """Return a URL that refuses connections: its port is taken, and nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/Laminopathic_nuclei.jpg"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with an empty cache, without a network and without proxies."""
    working = tmp_path / "work"
    working.mkdir(exist_ok=True)
    monkeypatch.chdir(working)
    monkeypatch.setenv("LAMINDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(datasets, "PARADISI05_URL", unreachable)
    return working


@pytest.fixture
def online(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Serve a picture under the URL and with the hash that the package expects."""
    server.body = picture()
    monkeypatch.setattr(datasets, "PARADISI05_URL", server.url)
    monkeypatch.setattr(datasets, "PARADISI05_HASH", md5_of(server.body))
    return server


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder.parent / "cache").rglob("*") if path.is_file())


def test_the_known_hash_is_the_one_that_the_guide_asserts() -> None:
    algorithm, _, digest = datasets.PARADISI05_HASH.partition(":")
    encoded = base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()

    assert (algorithm, encoded) == ("md5", "r4tnqmKI_SjrkdLzpuWp4g")


def test_the_picture_is_fetched_into_the_working_directory(online: Server, folder: Path) -> None:
    path = datasets.file_jpg_paradisi05()

    assert path.resolve() == folder / NAME
    assert path.read_bytes() == online.body
    assert [item.name for item in folder.iterdir()] == [NAME]


def test_the_server_learns_who_asks(online: Server) -> None:
    datasets.file_jpg_paradisi05()

    assert "lamindb-workflows/" in online.agents[0]


def test_a_second_call_asks_the_network_nothing(online: Server) -> None:
    first = datasets.file_jpg_paradisi05()
    second = datasets.file_jpg_paradisi05()

    assert first == second
    assert online.requests == 1


def test_another_folder_gets_the_picture_from_the_cache(
    online: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.file_jpg_paradisi05()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = datasets.file_jpg_paradisi05()

    assert path.read_bytes() == online.body
    assert path.resolve().parent == tmp_path / "elsewhere"
    assert online.requests == 1


def test_a_damaged_cache_is_fetched_anew(online: Server, folder: Path) -> None:
    datasets.file_jpg_paradisi05()
    (kept,) = [path for path in (folder.parent / "cache").rglob("*") if path.is_file()]
    kept.write_bytes(b"half a picture")
    (folder / NAME).unlink()

    assert datasets.file_jpg_paradisi05().read_bytes() == online.body
    assert online.requests == 2


def test_fetching_says_nothing_and_leaves_the_fetchers_logger_as_it_was(online: Server) -> None:
    import pooch

    logger, said = pooch.get_logger(), io.StringIO()
    handler, before = logging.StreamHandler(said), logger.level
    logger.addHandler(handler)
    try:
        datasets.file_jpg_paradisi05()
    finally:
        logger.removeHandler(handler)

    assert online.requests == 1
    assert said.getvalue() == ""
    assert logger.level == before


def test_without_a_network_a_stand_in_is_written_and_said_to_be_one(
    folder: Path, unreachable: str
) -> None:
    with pytest.warns(datasets.StandInWarning) as caught:
        path = datasets.file_jpg_paradisi05()

    (warning,) = caught
    text = str(warning.message)
    assert path.resolve() == folder / NAME
    assert warning.filename == __file__
    assert "stand-in" in text
    assert "hash" in text
    assert unreachable in text
    assert issubclass(datasets.StandInWarning, UserWarning)
    with Image.open(path) as image:
        image.load()
        assert image.format == "JPEG"
        assert image.mode == "L"
        assert image.size == (500, 500)
        assert b"stand-in" in image.info["comment"]
        shades = image.tobytes()
    assert max(shades) - min(shades) > 150


def test_the_stand_in_has_the_same_bytes_each_time(folder: Path) -> None:
    with pytest.warns(datasets.StandInWarning):
        first = datasets.file_jpg_paradisi05().read_bytes()
    (folder / NAME).unlink()
    with pytest.warns(datasets.StandInWarning):
        second = datasets.file_jpg_paradisi05().read_bytes()

    assert first == second


def test_a_stand_in_already_there_is_left_untouched(folder: Path) -> None:
    with pytest.warns(datasets.StandInWarning):
        path = datasets.file_jpg_paradisi05()
    before = path.stat()
    with pytest.warns(datasets.StandInWarning):
        datasets.file_jpg_paradisi05()

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_picture_replaces_the_stand_in_once_it_can_be_had(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(datasets.StandInWarning):
        datasets.file_jpg_paradisi05()
    server.body = picture()
    monkeypatch.setattr(datasets, "PARADISI05_URL", server.url)
    monkeypatch.setattr(datasets, "PARADISI05_HASH", md5_of(server.body))

    assert datasets.file_jpg_paradisi05().read_bytes() == server.body


def test_the_picture_in_the_working_directory_needs_no_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / NAME).write_bytes(picture())
    monkeypatch.setattr(datasets, "PARADISI05_HASH", md5_of(picture()))

    assert datasets.file_jpg_paradisi05().read_bytes() == picture()


def test_other_bytes_than_the_known_ones_are_dropped(online: Server, folder: Path) -> None:
    online.body = b"<html>Please log in to the hotel's network</html>"
    with pytest.warns(datasets.StandInWarning, match="hash"):
        path = datasets.file_jpg_paradisi05()

    assert b"stand-in" in path.read_bytes()
    assert cached(folder) == []


def test_a_server_that_refuses_leads_to_the_stand_in(online: Server, folder: Path) -> None:
    online.status = 503
    with pytest.warns(datasets.StandInWarning, match="503"):
        datasets.file_jpg_paradisi05()

    assert online.requests == 1
    assert cached(folder) == []


def test_a_server_that_never_answers_leads_to_the_stand_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(
            datasets, "PARADISI05_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/"
        )
        with pytest.warns(datasets.StandInWarning, match=r"timeout=0\.1"):
            datasets.file_jpg_paradisi05()


def test_a_cache_that_cannot_be_written_leads_to_the_stand_in(online: Server, folder: Path) -> None:
    (folder.parent / "cache").write_text("a file where the folder should be")

    with pytest.warns(datasets.StandInWarning):
        path = datasets.file_jpg_paradisi05()
    assert b"stand-in" in path.read_bytes()


@pytest.mark.parametrize("mine", [b"my own picture", picture(7)])
def test_a_file_of_the_users_own_is_never_overwritten(
    mine: bytes, online: Server, folder: Path
) -> None:
    (folder / NAME).write_bytes(mine)
    with pytest.raises(FileExistsError, match="move it away"):
        datasets.file_jpg_paradisi05()

    assert (folder / NAME).read_bytes() == mine
    assert online.requests == 0


def test_an_edited_stand_in_is_the_users_own(folder: Path) -> None:
    with pytest.warns(datasets.StandInWarning):
        path = datasets.file_jpg_paradisi05()
    edited = path.read_bytes() + b"annotation"
    path.write_bytes(edited)

    with pytest.raises(FileExistsError):
        datasets.file_jpg_paradisi05()
    assert path.read_bytes() == edited


def test_a_directory_of_that_name_is_named_in_the_error(folder: Path) -> None:
    (folder / NAME).mkdir()

    with pytest.raises(FileExistsError, match=NAME):
        datasets.file_jpg_paradisi05()


def test_plates_have_the_columns_of_a_reader(folder: Path) -> None:
    paths = datasets.plate_readout(folder / "raw")
    plate = pd.read_csv(paths[0])

    assert [path.name for path in paths] == ["plate_1.csv", "plate_2.csv", "plate_3.csv"]
    assert list(plate.columns) == [
        "plate",
        "well",
        "compound",
        "concentration_nM",
        "fluorescence_counts",
    ]
    assert len(plate) == 96
    assert plate["well"].is_unique
    assert set(plate["compound"]) == {"blank", "vehicle", *datasets.DOSE_RESPONSES}


def test_plates_have_the_same_bytes_each_time(folder: Path) -> None:
    first = [path.read_bytes() for path in datasets.plate_readout(folder / "a")]
    second = [path.read_bytes() for path in datasets.plate_readout(folder / "b")]

    assert first == second


def test_another_seed_is_another_measurement(folder: Path) -> None:
    (first, *_) = datasets.plate_readout(folder / "a")
    (second, *_) = datasets.plate_readout(folder / "b", seed=8)

    assert first.read_bytes() != second.read_bytes()


def test_plates_written_before_are_kept_and_others_never_overwritten(folder: Path) -> None:
    paths = datasets.plate_readout(folder)
    before = [path.stat().st_mtime_ns for path in paths]

    assert datasets.plate_readout(folder) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    with pytest.raises(FileExistsError, match=r"plate_1\.csv"):
        datasets.plate_readout(folder, seed=8)


def test_importing_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, lamindb.dev; "
        "print(sorted({'numpy', 'pandas', 'PIL', 'pooch', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_no_warning_is_given_for_the_real_picture(online: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets.file_jpg_paradisi05()
