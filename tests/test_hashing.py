"""Hashes and ids: the values that other programs can compute too."""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lamindb as ln
from lamindb.identifiers import BASE62, derived_run_id, random_id
from lamindb.storage import cache
from lamindb.storage.hashing import (
    BUFFER_BYTES,
    ManifestLine,
    copy_hashing,
    hash_bytes,
    manifest_digest,
)
from lamindb.storage.sources import LocalSource, RemoteSource, digest, source_at

VECTORS = {b"a": "DMF1ucDxtqgxw5niaXcmYQ", b"": "1B2M2Y8AsgTpgAmY7PhCfg"}
GIB = 1024**3
# hashes a file in a process that may use 64 MiB more than it has after its imports
HASH_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from lamindb.storage.sources import LocalSource, digest
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
print(digest(LocalSource(sys.argv[1])).hash)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    ln.setup.init(storage=tmp_path / "storage")
    return tmp_path / "storage"


def manifest_hash(files: dict[str, bytes]) -> str:
    """The rule of the contract, written down a second time."""
    lines = b"".join(
        path.encode()
        + b"\x00"
        + str(len(content)).encode()
        + b"\x00"
        + hashlib.md5(content).hexdigest().encode()
        + b"\n"
        for path, content in sorted(files.items(), key=lambda item: item[0].encode())
    )
    return base64.b64encode(hashlib.md5(lines).digest(), b"-_").decode().strip("=")


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


# --- one file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", VECTORS, ids=repr)
def test_the_hash_of_a_file_is_the_one_of_the_contract(
    content: bytes, storage: Path, tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    file = ln.File(path)
    assert file.hash == hash_bytes(content) == VECTORS[content]
    assert (file.hash_type, file.size) == ("md5", len(content))
    added = ln.add(file)
    assert (added.hash, added.hash_type, added.size) == (VECTORS[content], "md5", len(content))


def test_a_hash_is_url_safe_and_22_characters_long() -> None:
    # the digest of b"44" has both characters that plain base64 writes as + and /
    found = [hash_bytes(str(number).encode()) for number in range(2000)]
    assert {len(each) for each in found} == {22}
    characters = set("".join(found))
    assert {"-", "_"} <= characters
    assert not characters & set("+/=")


@pytest.mark.parametrize("url", ["memory://hashed/a.txt", "memory:///hashed/a.txt"])
def test_an_object_behind_a_url_is_hashed_like_a_local_file(url: str) -> None:
    fsspec.filesystem("memory").pipe("/hashed/a.txt", b"a")
    found = digest(source_at(url))
    assert (found.hash, found.size, found.type) == (VECTORS[b"a"], 1, "md5")


# size → MD5 of as many zeros, and of the same with a one in the middle, both from md5sum
SPARSE = {
    GIB // 5: ("85ZvFeXfsRSP60mkbyAThQ", "QXSEC4uYbzSrcwzkXw-Gag"),
    3 * GIB: ("xpjIf7UwWNSTSSth9MdBiQ", "69njCWhM7ExTeYLF7HIIeQ"),
}


@pytest.mark.parametrize("changed", [False, True], ids=["zeros", "a byte changed"])
@pytest.mark.parametrize(
    "size", [GIB // 5, pytest.param(3 * GIB, marks=pytest.mark.full)], ids=["200M", "3G"]
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
def test_a_large_file_is_hashed_whole_in_constant_memory(
    size: int, changed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as stream:
        stream.truncate(size)
        if changed:
            stream.seek(size // 2)
            stream.write(b"\x01")
    child = subprocess.run(
        [sys.executable, "-c", HASH_IN_LITTLE_MEMORY, str(path)], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == SPARSE[size][changed]


@pytest.mark.parametrize("offset", [0, 40 * 1024**2, 40 * 1024**2 - 1])
def test_a_byte_anywhere_in_a_large_remote_object_counts(offset: int) -> None:
    content = bytearray(40 * 1024**2 + 1)
    fs = fsspec.filesystem("memory")
    fs.pipe("/large.bin", bytes(content))
    before = digest(RemoteSource("memory://large.bin")).hash
    content[offset] = 1
    fs.pipe("/large.bin", bytes(content))
    after = digest(RemoteSource("memory://large.bin")).hash
    fs.rm("/large.bin")
    assert before != after == hash_bytes(content)


class Dribble(io.RawIOBase):
    """Hands out a few bytes at a time, as a socket does."""

    def __init__(self, content: bytes, steps: list[int]) -> None:
        self._rest = content
        self._steps = iter(steps)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(next(self._steps, len(buffer)), len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class OnlyRead:
    """A stream without ``readinto``, as some fsspec file systems give."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, count: int = -1) -> bytes:
        return self._stream.read(count)


class SaysNothing(io.BytesIO):
    """Returns nothing from ``write``, as some fsspec file systems do."""

    def write(self, data: Any) -> None:
        super().write(data)


class ShortWriter(io.RawIOBase):
    """Takes only a part of what it is given, as a raw file does on a disk that fills up."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data[: max(1, len(data) // 2)])
        self.content += taken
        return len(taken)


around_the_buffer = st.one_of(
    st.integers(0, 40),
    *(st.integers(max(0, BUFFER_BYTES * n - 3), BUFFER_BYTES * n + 3) for n in (1, 2, 3)),
)


@settings(max_examples=60, deadline=None)
@given(size=around_the_buffer, seed=st.integers(), steps=st.lists(st.integers(1, 70_000)))
def test_copying_gives_the_bytes_and_the_hash_of_hashlib(
    size: int, seed: int, steps: list[int]
) -> None:
    content = random.Random(seed).randbytes(size)
    expected = (hashlib.md5(content).digest(), size)
    sources: list[Callable[[], Any]] = [
        lambda: io.BytesIO(content),
        lambda: Dribble(content, steps),
        lambda: OnlyRead(content),
    ]
    for make in sources:
        target, mute, short = io.BytesIO(), SaysNothing(), ShortWriter()
        assert copy_hashing(make(), target) == expected
        assert copy_hashing(make(), mute) == expected
        assert copy_hashing(make(), short) == expected
        assert copy_hashing(make(), None) == expected
        assert target.getvalue() == mute.getvalue() == bytes(short.content) == content


# --- a directory --------------------------------------------------------------------------------

TREE = {"b.txt": b"two", "a/x.txt": b"one", "a/deep/er.bin": b"\x00\xff", "empty": b""}


def test_the_hash_of_a_directory_is_that_of_its_manifest(storage: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", TREE)
    file = ln.File(root, key="tree")
    assert file.hash == manifest_hash(TREE) == "f_kwoeHaRnzG6tvd7secWQ"
    assert (file.hash_type, file.size) == ("md5-d", 8)
    added = ln.add(file)
    assert (added.hash, added.hash_type, added.size) == (manifest_hash(TREE), "md5-d", 8)


def test_a_directory_of_nothing_has_the_hash_of_an_empty_manifest(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    found = digest(LocalSource(tmp_path / "nothing"))
    assert (found.hash, found.size, found.type) == (VECTORS[b""], 0, "md5-d")


def test_a_manifest_is_ordered_by_the_bytes_of_the_paths(tmp_path: Path) -> None:
    # Folder by folder, 'a' would come first; by UTF-16, U+10000 would come before U+FFFD.
    names = ["a/b", "a-b", "a.b", "a0", "A", "é", "z", "\N{REPLACEMENT CHARACTER}", "\U00010000"]
    files = {name: name.encode() for name in names}
    lines = [
        ManifestLine(name, len(content), hashlib.md5(content).hexdigest())
        for name, content in files.items()
    ]
    found = {manifest_digest(random.sample(lines, len(lines))).hash for _ in range(5)}
    on_disk = digest(LocalSource(write_tree(tmp_path / "tree", files))).hash
    assert found == {on_disk} == {manifest_hash(files)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.lists(st.text("ab.é-\U00010000", min_size=1, max_size=3), min_size=1, max_size=3)
        .map("/".join)
        .filter(lambda path: not {".", ".."} & set(path.split("/"))),
        st.binary(max_size=20),
        max_size=6,
    )
)
def test_any_tree_has_the_hash_of_its_manifest_also_in_an_object_store(
    files: dict[str, bytes],
) -> None:
    # a path cannot be a file and a folder at once
    files = {
        path: content
        for path, content in files.items()
        if not any(other.startswith(f"{path}/") for other in files)
    }
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    fs.makedirs("/tree", exist_ok=True)
    fs.pipe({f"/tree/{path}": content for path, content in files.items()})
    assert digest(RemoteSource("memory://tree")).hash == manifest_hash(files)


def test_a_file_and_a_directory_that_holds_only_it_have_different_hashes(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a": b"a"})
    assert digest(LocalSource(root)).hash != digest(LocalSource(root / "a")).hash


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "empty": b"x"},
        {name if name != "empty" else "hollow": content for name, content in TREE.items()},
        {name: content for name, content in TREE.items() if name != "empty"},
        {"b.txt": b"two", "a/x.txt": b"one", "a/deep": b"", "er.bin": b"\x00\xff", "empty": b""},
    ],
    ids=["content", "a name", "a file", "a folder"],
)
def test_another_tree_has_another_hash(other: dict[str, bytes], tmp_path: Path) -> None:
    one = digest(LocalSource(write_tree(tmp_path / "one", TREE)))
    two = digest(LocalSource(write_tree(tmp_path / "two", other)))
    assert one.hash != two.hash


def test_empty_folders_and_times_and_permissions_do_not_count(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", TREE)
    before = digest(LocalSource(root))
    (root / "hollow" / "inner").mkdir(parents=True)
    (root / "b.txt").chmod(0o600)
    os.utime(root / "b.txt", (0, 0))
    assert digest(LocalSource(root)) == before


def test_links_inside_a_directory_count_as_what_they_point_to(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"real.txt": b"a", "folder/inner.txt": b"b"})
    (root / "link.txt").symlink_to("real.txt")
    (root / "folder" / "up.txt").symlink_to(Path("..") / "real.txt")
    (root / "again").symlink_to(root / "folder")
    expected = {
        "real.txt": b"a",
        "link.txt": b"a",
        "folder/inner.txt": b"b",
        "folder/up.txt": b"a",
        "again/inner.txt": b"b",
        "again/up.txt": b"a",
    }
    assert digest(LocalSource(root)).hash == manifest_hash(expected)


def test_a_link_to_a_directory_has_the_hash_of_the_directory(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", TREE)
    (tmp_path / "link").symlink_to(root)
    assert digest(LocalSource(tmp_path / "link")).hash == manifest_hash(TREE)


# --- hashes that are remembered -----------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that were really read, with files counted as large and left alone."""
    read: list[Path] = []

    def counting(source: Any, *arguments: Any, **options: Any) -> Any:
        read.append(source.path)
        return digest(source, *arguments, **options)

    monkeypatch.setattr(cache, "digest", counting)
    monkeypatch.setattr(cache, "_SETTLED_S", -1.0)
    monkeypatch.setattr(cache, "_SMALLEST", 0)
    return read


def test_a_file_that_is_left_alone_is_read_once(reads: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    found = [cache.digest_once(LocalSource(path)) for _ in range(3)]
    assert {each.hash for each in found} == {VECTORS[b"a"]}
    assert {each.type for each in found} == {"md5"}
    assert reads == [path]


def test_a_change_that_hides_behind_an_old_time_is_read_again(
    reads: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    status = path.stat()
    cache.digest_once(LocalSource(path))
    path.write_bytes(b"b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.digest_once(LocalSource(path)).hash == hash_bytes(b"b")
    assert len(reads) == 2


def test_a_change_through_a_memory_map_that_was_written_to_before_is_seen(
    reads: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"A" * 8192)
    if not notes_changes_of_maps(path):
        pytest.skip("a file system in memory notes no change through a map")
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 8192) as mapped:
        mapped[0] = 66
        time.sleep(0.05)
        assert cache.digest_once(LocalSource(path)).hash == hash_bytes(mapped[:])
        time.sleep(0.05)
        mapped[1] = 67
        assert cache.digest_once(LocalSource(path)).hash == hash_bytes(mapped[:])


def notes_changes_of_maps(path: Path) -> bool:
    before = path.stat().st_mtime_ns
    time.sleep(0.05)
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 1) as mapped:
        mapped[0] = mapped[0]
        mapped.flush()
    return path.stat().st_mtime_ns != before


def test_a_file_written_a_moment_ago_is_never_remembered(
    reads: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "_SETTLED_S", 2.0)
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    for _ in range(2):
        cache.digest_once(LocalSource(path))
    assert len(reads) == 2


def test_without_a_cache_folder_files_are_hashed_all_the_same(
    reads: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    monkeypatch.setenv("LAMINDB_CACHE_DIR", str(path / "no folder"))
    found = [cache.digest_once(LocalSource(path)).hash for _ in range(2)]
    assert found == [VECTORS[b"a"]] * 2
    assert len(reads) == 2


def test_a_damaged_cache_of_hashes_does_no_harm(reads: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    folder = ln.setup.settings.storage.cache_dir
    folder.mkdir(parents=True)
    (folder / "hashes.sqlite").write_bytes(b"this is no database" * 100)
    assert cache.digest_once(LocalSource(path)).hash == VECTORS[b"a"]


# --- ids ----------------------------------------------------------------------------------------


def test_ids_have_the_alphabet_and_the_lengths_of_the_contract(
    storage: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    transform = ln.Transform("One")
    made = {
        20: [ln.File(path).id, ln.Run(transform).id],
        12: [transform.id],
        8: [ln.Storage(tmp_path / "other").id, ln.User("someone").id, ln.setup.settings.user.id],
    }
    for length, ids in made.items():
        assert {len(each) for each in ids} == {length}
        assert all(set(each) <= set(BASE62) for each in ids)


def test_the_alphabet_is_base62_and_all_of_it_is_used() -> None:
    assert BASE62 == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert set(random_id(20_000)) == set(BASE62)


def test_random_ids_do_not_follow_a_seed() -> None:
    ids = set()
    for _ in range(1000):
        random.seed(0)
        ids.add(random_id(8))
    assert len(ids) == 1000


def independent_run_id(engine: str, engine_id: str) -> str:
    """SHA-256 as one number with 43 digits of base 62, of which the first 20."""
    number = int(hashlib.sha256(f"{engine}\0{engine_id}".encode()).hexdigest(), 16)
    places = [62**place for place in range(42, -1, -1)]
    return "".join(BASE62[number // place % 62] for place in places)[:20]


GOLDEN = {
    ("prefect", "3f1c9a52-6d0e-4b7a-9a57-0c1d2e3f4a5b"): "c6zNMliOVoaIcl9C5X8g",
    ("snakemake", "6f0d4f7e/17"): "XuJGP3eRMaixnt8qyhQ9",
}


@pytest.mark.parametrize(("engine", "engine_id"), GOLDEN)
def test_the_id_of_an_engines_run_never_changes(engine: str, engine_id: str) -> None:
    expected = GOLDEN[engine, engine_id]
    assert derived_run_id(engine, engine_id) == independent_run_id(engine, engine_id) == expected


def test_another_process_derives_the_same_id() -> None:
    code = "from lamindb.identifiers import derived_run_id; print(derived_run_id('prefect', 'x'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {derived_run_id("prefect", "x")}


@given(st.text(), st.text(), st.text(), st.text())
def test_different_runs_have_different_ids(engine: str, one: str, other: str, second: str) -> None:
    try:
        ids = {derived_run_id(engine, one), derived_run_id(engine, other)}
    except UnicodeEncodeError:
        return
    assert len(ids) == len({one, other})
    assert all(len(each) == 20 and set(each) <= set(BASE62) for each in ids)
