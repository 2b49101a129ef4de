"""What is installed is read once, and again whenever a package comes, goes or changes."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from lamindb import config
from lamindb.hooks import installed

MANY = 30


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that were installed some time ago, alone on the path."""
    folder = tmp_path / "site-packages"
    for number in range(MANY):
        add(folder, f"some_package{number}", "1.0")
    add(folder, "Plug.in", "2.0", "[a.group]\nmine = plugin:one\n\n[other group]\nx = y:z\n")
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(installed, "_SETTLED_S", -1.0)
    monkeypatch.setattr(installed, "_known", {})
    return folder


def add(folder: Path, name: str, version: str, entry_points: str | None = None) -> Path:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    if entry_points is not None:
        info.joinpath("entry_points.txt").write_text(entry_points)
    return info


def kept() -> list[Path]:
    return sorted((config.cache_dir() / "installed").glob("*"))


def in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], list[str]]:
    monkeypatch.setattr(installed, "_known", {})
    points = installed.entry_points(group="a.group")
    return installed.installed_packages(), [point.value for point in points]


def test_what_is_kept_is_what_is_there(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {f"some-package{number}": "1.0" for number in range(MANY)} | {"plug-in": "2.0"}
    for _ in range(2):
        packages, values = in_a_new_process(monkeypatch)
        assert packages == expected
        assert list(packages) == sorted(packages)
        assert values == ["plugin:one"]
        assert len(kept()) == 1
    assert [point.value for point in installed.entry_points(group="other group")] == ["y:z"]
    assert list(installed.entry_points(group="a")) == []


def test_it_is_not_read_twice(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_a_new_process(monkeypatch)
    monkeypatch.setattr(installed, "_entries", lambda folder: pytest.fail("read again"))
    assert in_a_new_process(monkeypatch) == before


def test_a_package_that_comes_goes_or_changes_is_seen(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_new_process(monkeypatch)
    add(site, "new", "0.1", "[a.group]\nanother = new:plugin\n")
    packages, values = in_a_new_process(monkeypatch)
    assert (packages["new"], values) == ("0.1", ["plugin:one", "new:plugin"])
    # within one process, as of a notebook that installs a package
    shutil.rmtree(site / "Plug.in-2.0.dist-info")
    assert "plug-in" not in installed.installed_packages()
    assert [point.value for point in installed.entry_points(group="a.group")] == ["new:plugin"]
    os.rename(site / "new-0.1.dist-info", site / "new-0.2.dist-info")
    assert in_a_new_process(monkeypatch)[0]["new"] == "0.2"


def test_the_first_of_a_name_on_the_path_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "first", "plug_in", "3.0", "[a.group]\nmine = plugin:newer\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(site)])
    for _ in range(2):
        packages, values = in_a_new_process(monkeypatch)
        assert (packages["plug-in"], values) == ("3.0", ["plugin:newer"])


def test_small_folders_and_what_is_no_folder_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "few", "one", "1.0", "[a.group]\nmine = one:plugin\n")
    gone = [str(tmp_path / "gone"), "", "relative", str(tmp_path / "no.zip")]
    monkeypatch.setattr(sys, "path", [*gone, str(tmp_path / "few")])
    monkeypatch.chdir(tmp_path)
    assert in_a_new_process(monkeypatch) == ({"one": "1.0"}, ["one:plugin"])
    assert kept() == []


def test_a_folder_that_has_just_changed_is_not_kept(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "_SETTLED_S", 3600.0)
    assert len(in_a_new_process(monkeypatch)[0]) == MANY + 1
    assert kept() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"stamp": [1]}', "\0\xff"])
def test_a_damaged_file_is_passed_over(
    site: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    before = in_a_new_process(monkeypatch)
    (path,) = kept()
    path.write_text(text, encoding="latin-1")
    assert in_a_new_process(monkeypatch) == before
    assert json.loads(path.read_bytes())["packages"] == before[0]


def test_a_cache_that_cannot_be_written_costs_only_time(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("file").write_text("no folder")
    monkeypatch.setenv("LAMINDB_CACHE_DIR", str(tmp_path / "file"))
    for _ in range(2):
        packages, values = in_a_new_process(monkeypatch)
        assert (len(packages), values) == (MANY + 1, ["plugin:one"])
