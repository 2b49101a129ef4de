"""Keys and suffixes: pure rules of names, written out as tables and held to by any input."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lamindb as ln
from lamindb.errors import KeyInvalidError, LaminError
from lamindb.storage.keys import MAX_KEY_BYTES, MAX_PART_BYTES, ancestors, suffix_of, validate_key
from lamindb.storage.store import Store

SUFFIXES = {
    # all suffixes, joined
    "a.csv": ".csv",
    "a.tar.gz": ".tar.gz",
    "cells.ome.tiff": ".ome.tiff",
    "archive.part1.rar": ".part1.rar",
    "PHOTO.JPG": ".JPG",
    "a.7z": ".7z",
    "clip.mp4": ".mp4",
    "atlas.h5ad": ".h5ad",
    "store.zarr": ".zarr",
    "code.c++": ".c++",
    "backup.csv~": ".csv~",
    # none
    "a": "",
    "Makefile": "",
    "a.": "",
    "": "",
    # a dot-file has none of its own
    ".bashrc": "",
    ".config.json": ".json",
    "..csv": "",
    # what looks like a version ends it
    "sample.v1.2.bam": ".bam",
    "sample.V2.bam": ".bam",
    "reads.v3.fastq.gz": ".fastq.gz",
    "model-1.0.3.tar.gz": ".tar.gz",
    "run.2024-05-01.csv": ".csv",
    "run.2024_05.csv": ".csv",
    "tool.1.0+local.whl": ".whl",
    "report.1": "",
    "release.v2": "",
    "x.v2.0-rc1": "",
    # so does what is no suffix at all
    "Dr. Smith.pdf": ".pdf",
    "a..csv": ".csv",
    "The end. And so on": "",
    "mean(x).50%.csv": ".csv",
    "naïve.données.csv": ".csv",
    "a.abcdefghijklmnop": ".abcdefghijklmnop",
    "a.abcdefghijklmnopq": "",
    "a.abcdefghijklmnopq.csv": ".csv",
    "a" + ".b" * 40: ".b" * 32,
}


@pytest.mark.parametrize(("name", "suffix"), SUFFIXES.items())
def test_the_suffix_of_a_name_follows_the_rule(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=300))
@example("a" + ".b" * 127)
def test_a_suffix_ends_its_name_and_leaves_room_for_an_id(name: str) -> None:
    suffix = suffix_of(name)
    assert name.endswith(suffix)
    assert name == "" or suffix != name
    assert suffix == "" or suffix.startswith(".")
    assert len(suffix.encode()) + len("incoming") + 22 <= MAX_PART_BYTES
    validate_key(f"{'0' * 20}{suffix}")


# --- keys ---------------------------------------------------------------------------------------

GOOD = [
    "a",
    "a.csv",
    "images/cells.png",
    "a/b/c/d/e",
    "with blank/and  two.csv",
    " leading and trailing ",
    "ünïcödé/データ.csv",
    "#?%+&=;@!$'()[]{}^`~|<>*\",.csv",
    "~/home",
    "...",
    "a..b/..c/d..",
    ".hidden/.file",
    "lamindb/.lamindb2",
    "-rf",
    "C:",
    "x" * MAX_PART_BYTES,
    "/".join(["y" * 255] * 4),
    "é" * (MAX_PART_BYTES // 2),
]

BAD = {
    "": "is empty",
    "/": "is absolute",
    "/etc/passwd": "is absolute",
    "//server/share": "is absolute",
    "C:/Windows": "is absolute",
    "c:\\Windows": "is absolute",
    "..": "has '..'",
    "../a": "has '..'",
    "a/../b": "has '..'",
    "a/..": "has '..'",
    "a\\..\\b": "has a backslash",
    ".": "has an empty part",
    "./a": "has an empty part",
    "a/./b": "has an empty part",
    "a//b": "has an empty part",
    "a/": "has an empty part",
    "a\0b": "has a control character",
    "a\nb": "has a control character",
    "a\x7fb": "has a control character",
    "a\x85b": "has a control character",
    "\udcff": "is not valid Unicode",
    "a?versionId=1": "has '\\?versionId='",
    "x" * 256: "has a part of more than 255 bytes",
    "é" * 128: "has a part of more than 255 bytes",
    "/".join(["d" * 100] * 11): "more than the 1024",
    ".lamindb": "belongs to the instance",
    ".lamindb/versions/a": "belongs to the instance",
    "a/.lamindb/b": "belongs to the instance",
    ".LaminDB/a": "belongs to the instance",
}


@pytest.mark.parametrize("key", GOOD, ids=lambda key: ascii(key)[:40])
def test_a_good_key_is_taken_as_it_is(key: str) -> None:
    assert validate_key(key) == key


@pytest.mark.parametrize(("key", "why"), BAD.items(), ids=lambda text: ascii(text)[:40])
def test_a_bad_key_is_refused_with_the_rule_that_it_breaks(key: str, why: str) -> None:
    with pytest.raises(KeyInvalidError, match=why) as caught:
        validate_key(key)
    assert isinstance(caught.value, ValueError)
    assert caught.value.key == key
    assert "such as 'images/cells.png'" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", [Path("a/b.csv"), b"a", 5, ["a"]], ids=repr)
def test_a_key_that_is_no_string_is_refused_in_the_same_words(key: object) -> None:
    with pytest.raises(KeyInvalidError, match=f"is a {type(key).__name__}, not a string"):
        validate_key(key)


def test_a_file_with_a_bad_key_is_refused_when_it_is_made(tmp_path: Path) -> None:
    ln.setup.init(storage=tmp_path / "storage")
    (tmp_path / "a.csv").write_text("a\n")
    for key in BAD:
        with pytest.raises(ValueError) as caught:
            ln.File(tmp_path / "a.csv", key=key)
        assert isinstance(caught.value, LaminError)
    assert ln.select(ln.File).count() == 0


def test_the_folders_above_a_key_are_listed_nearest_first() -> None:
    assert ancestors("a/b/c") == ["a/b", "a"]
    assert ancestors("a") == []
    assert ancestors("a b/.c/d.e") == ["a b/.c", "a b"]


part = st.one_of(
    st.sampled_from(["..", ".", "", "...", "~", ".lamindb", "C:", " ", "-", "a", "b.csv"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.text("./\\~: ab\0", max_size=6),
)
anything = st.one_of(st.text(max_size=40), st.lists(part, max_size=5).map("/".join))


@settings(max_examples=400)
@given(anything)
@example("~root/a")
@example("a/~/b")
@example("a//b")
def test_a_valid_key_names_one_object_below_the_root(key: str) -> None:
    root = Path("/data/storage root")
    try:
        validate_key(key)
    except KeyInvalidError:
        return
    store = Store(str(root))
    path = store.path(key)
    normal = Path(os.path.normpath(path))
    assert normal == path, "another spelling of the same path would be a second key"
    assert root in path.parents
    assert root / ".lamindb" not in (path, *path.parents)
    assert path.relative_to(root).as_posix() == key
    assert store.key_of(str(path)) == key
    assert all(store.path(folder) in path.parents for folder in ancestors(key))
    assert len(key.encode()) <= MAX_KEY_BYTES


@settings(max_examples=400)
@given(anything)
def test_no_key_is_accepted_whose_path_resolves_outside_the_root(key: str) -> None:
    root = Path("/data/storage")
    try:
        joined = root / key
        outside = not joined.resolve().is_relative_to(root) or joined.resolve() == root
    except (ValueError, OSError):
        outside = True
    if outside or PurePosixPath(key).is_absolute():
        with pytest.raises(KeyInvalidError):
            validate_key(key)
