"""Plugins: found by entry point, asked one by one, and never able to take the others down."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import lamindb as ln
from lamindb.errors import PluginError
from lamindb.hooks import (
    FileWritten,
    RunFinished,
    RunStarted,
    describe_error,
    emit,
    hookimpl,
    key_in_repository,
    manager,
)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretend that distributions with these plugins are installed beside the built-in ones."""
    real = manager.entry_points

    def install(**loaders: Callable[[], Any]) -> None:
        points = [SimpleNamespace(name=name, load=load) for name, load in loaders.items()]
        monkeypatch.setattr(manager, "entry_points", lambda group: [*real(group=group), *points])
        manager.plugins.cache_clear()

    yield install
    manager.plugins.cache_clear()


def plugin(**hooks: Callable[..., Any]) -> Any:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def broken(suffix: str) -> Any:
    raise RuntimeError(f"no idea of {suffix}")


def registered() -> set[str]:
    return {name for name, _ in manager.plugins().list_name_plugin()}


def test_the_built_in_plugins_register_like_any_other() -> None:
    assert {"formats", "plain", "snakemake"} <= registered()


@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "zip"])
def test_of_a_distribution_that_is_twice_on_the_path_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_zipped: bool
) -> None:
    for place, value in (("first", "one"), ("second", "two")):
        info = tmp_path / place / f"Some_Thing-{len(value)}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(
            "Metadata-Version: 2.1\nName: Some-Thing\nVersion: 3\n"
        )
        info.joinpath("entry_points.txt").write_text(f"[a.group]\nplugin = {value}:plugin\n")
        path = info.parent
        if is_zipped:
            path = Path(shutil.make_archive(str(path), "zip", path))
        monkeypatch.setattr(sys, "path", [*sys.path, str(path)])
    found = list(manager.entry_points(group="a.group"))
    assert [(each.name, each.value) for each in found] == [("plugin", "one:plugin")]
    assert list(manager.entry_points(group="a")) == []


def load_badly() -> Any:
    raise ImportError("needs something that is not there")


@pytest.mark.parametrize(
    "load",
    [
        load_badly,
        lambda: plugin(ln_misspelt=lambda: None),
        lambda: plugin(ln_loader=lambda extension: None),
        lambda: SimpleNamespace(ln_loader=hookimpl(wrapper=True)(lambda suffix: (yield))),
    ],
    ids=["import fails", "unknown hook", "unknown argument", "wrapper"],
)
def test_a_plugin_that_cannot_be_used_is_left_out_with_a_warning(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture, load: Callable[[], Any]
) -> None:
    install(bad=load, good=lambda: plugin(ln_loader=lambda suffix: len))
    with caplog.at_level(logging.WARNING, "lamindb.plugins"):
        names = registered()
    assert names >= {"formats", "plain", "good"}
    assert "bad" not in names
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "plugin 'bad' failed in import" in caplog.text
    assert manager.first("ln_loader", suffix=".csv") is len


def test_a_plugin_that_cannot_be_used_is_an_error_in_strict_mode(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ln.settings, "strict", True)
    install(bad=load_badly)
    with pytest.raises(PluginError, match="plugin 'bad' failed in import: ImportError: needs"):
        manager.plugins()


def test_a_failing_hook_stops_no_other_and_is_logged_by_name(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    install(zzz=lambda: plugin(ln_loader=broken), aaa=lambda: plugin(ln_loader=lambda suffix: len))
    with caplog.at_level(logging.WARNING, "lamindb.plugins"):
        assert manager.every("ln_loader", suffix=".csv")
        assert manager.first("ln_loader", suffix=".unknown") is len
    assert "plugin 'zzz' failed in ln_loader: RuntimeError: no idea of .csv" in caplog.text


def test_a_failing_hook_raises_in_strict_mode_once_the_others_were_asked(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ln.settings, "strict", True)
    asked: list[str] = []
    install(
        first=lambda: plugin(ln_loader=lambda suffix: asked.append(suffix)),
        second=lambda: plugin(ln_loader=broken),
    )
    for ask in (manager.first, manager.every):
        asked.clear()
        with pytest.raises(PluginError, match="plugin 'second' failed in ln_loader") as caught:
            ask("ln_loader", suffix=".x")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert asked == [".x"]


def test_a_blocked_plugin_is_not_even_imported(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ln.settings, "blocked_plugins", frozenset({"bad"}))
    install(bad=lambda: pytest.fail("it was imported"))
    assert "bad" not in registered()


def test_a_plugin_brings_a_format_and_goes_before_the_built_in_one(
    install: Callable[..., None], tmp_path: Path
) -> None:
    def write(data: Any, suffix: str) -> Any:
        if suffix == ".lines":
            return lambda frame, path: path.write_text("\n".join(frame["x"]))
        return None

    def read(suffix: str) -> Any:
        return {
            ".lines": lambda path: path.read_text().split("\n"),
            ".csv": lambda path: "mine",
        }.get(suffix)

    install(lines=lambda: plugin(ln_serializer=write, ln_loader=read))
    ln.setup.init(storage=tmp_path / "storage")
    frame = pd.DataFrame({"x": ["a", "b"]})
    assert ln.add(ln.File(frame, key="t.lines")).load() == ["a", "b"]
    assert ln.add(ln.File(frame, key="t.csv")).load() == "mine"
    pd.testing.assert_frame_equal(ln.add(ln.File(frame, key="t.parquet")).load(), frame)


def test_a_loader_that_fails_on_a_file_is_the_callers_error(
    install: Callable[..., None], tmp_path: Path
) -> None:
    ln.setup.init(storage=tmp_path / "storage")
    (tmp_path / "a.json").write_text("{")
    file = ln.add(ln.File(tmp_path / "a.json"))
    run = ln.track(ln.Transform("Reader"))
    with pytest.raises(ValueError, match="line 1"):
        file.load()
    assert run.inputs == []


def test_an_error_is_described_in_one_line_without_its_secrets() -> None:
    class Hidden(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert describe_error(ValueError("two\n  lines")) == "ValueError: two lines"
    assert describe_error(KeyError()) == "KeyError"
    assert (
        describe_error(OSError("https://me:pw@host failed")) == "OSError: https://***@host failed"
    )
    assert describe_error(Hidden()) == "Hidden: <its message cannot be shown>"


def test_code_outside_of_a_repository_has_no_key_there(tmp_path: Path) -> None:
    assert key_in_repository(tmp_path / "flow.py") is None


# --- moments --------------------------------------------------------------------------------------


def test_a_plugin_that_raises_at_a_moment_stops_neither_the_others_nor_the_caller(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    ln.setup.init(storage="mydata")
    told: list[str] = []

    def bad(event: Any) -> None:
        raise RuntimeError("bad plugin")

    install(
        aaa=lambda: plugin(ln_run_started=lambda event: told.append(f"aaa {event.run}")),
        bad=lambda: plugin(ln_run_started=bad),
        zzz=lambda: plugin(ln_run_started=lambda event: told.append(f"zzz {event.run}")),
    )
    with caplog.at_level(logging.WARNING, "lamindb.plugins"):
        emit(RunStarted(run="r1", engine="test"))
    assert sorted(told) == ["aaa r1", "zzz r1"]
    assert ln.select(ln.Run).one().id == "r1"
    assert caplog.text.count("plugin 'bad' failed in ln_run_started: RuntimeError") == 1


def test_a_plugin_that_raises_at_a_moment_raises_in_strict_mode_after_all_were_told(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage="mydata")
    install(bad=lambda: plugin(ln_run_finished=lambda event: 1 / 0))
    monkeypatch.setattr(ln.settings, "strict", True)
    with pytest.raises(PluginError, match="'bad' failed in ln_run_finished: ZeroDivisionError"):
        emit(RunFinished(run="r1", status="completed"))
    assert ln.select(ln.Run).one().status == "completed"


def test_a_blocked_plugin_is_not_even_loaded(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ln.settings, "blocked_plugins", frozenset({"bad"}))
    monkeypatch.setattr(ln.settings, "strict", True)
    install(bad=load_badly)
    assert "bad" not in registered()


def test_events_are_told_again_once_they_are_recorded(install: Callable[..., None]) -> None:
    ln.setup.init(storage="mydata")
    recorded: list[tuple[str, str]] = []

    def note(event: Any, record_id: str) -> None:
        recorded.append((type(event).__name__, record_id))

    install(mirror=lambda: plugin(ln_event_recorded=note))
    emit(RunStarted(run="r1", engine="test"))
    Path("a.csv").write_text("a")
    emit(FileWritten(run="r1", uri=str(Path("a.csv").resolve())))
    file = ln.select(ln.File).one()
    assert sorted(recorded) == [("FileWritten", file.id), ("RunStarted", "r1")]


# --- a third party's ------------------------------------------------------------------------------

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "lamindb-tiny"
version = "1"
[project.entry-points.lamindb]
tiny = "lamindb_tiny"
"""
PLUGIN = """
import click
from lamindb.hooks import *

@hookimpl
def ln_loader(suffix):
    return (lambda path: path.read_text().upper()) if suffix == ".shout" else None

@hookimpl
def ln_cli(group):
    @group.command()
    def shout():
        "Say it loud."
        click.echo("LOUD")

@hookimpl
def ln_run_details(run):
    return {"mood": "good"}

RUN = run_id("tiny", "1")

@hookimpl
def ln_current_run():
    return RUN

def work():
    emit(RunStarted(run=RUN, engine="tiny", transform=InferredTransform("t", "tiny/t", "function")))
    open("out.shout", "w").write("hello")
    import os
    path = os.path.abspath("out.shout")
    emit(FileWritten(run=RUN, uri=path, stat=FileStat.of(path)))
    emit(RunFinished(run=RUN, status="completed"))
"""
USE = """
import lamindb as ln, lamindb_tiny
lamindb_tiny.work()
file = ln.select(ln.File, name="out.shout").one()
assert file.run.engine == "tiny" and file.transform.key == "tiny/t"
assert file.load() == "HELLO"
assert ln.context.run.id == lamindb_tiny.RUN
"""


def test_a_third_partys_plugin_is_like_one_of_ours(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "lamindb_tiny.py").write_text(PLUGIN)
    install = ["-m", "uv", "pip", "install", "--no-build-isolation", "--no-deps", "--offline"]
    subprocess.run(
        [sys.executable, *install, "--target", place, source], check=True, capture_output=True
    )
    paths = os.pathsep.join([str(place), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": paths}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "lamindb", "init", "--storage", "mydata")
    run("-c", USE)
    assert "shout" in run("-m", "lamindb", "--help")
    assert run("-m", "lamindb", "shout") == "LOUD\n"
