"""``ln.why``, ``ln.stale`` and ``ln.diff``: clear answers, also where records do not suffice."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy import update

import lamindb as ln
from lamindb import instance, recorder
from lamindb.cli import main
from lamindb.db import schema
from lamindb.errors import RecordError
from lamindb.graph import staleness
from lamindb.hooks import EnvironmentSeen, RunLinked, emit
from lineage_study import Teller

pytestmark = pytest.mark.databases("full")


@pytest.fixture
def tell() -> Teller:
    ln.setup.init("./mydata")
    return Teller(Path.cwd())


def lamin(*arguments: str) -> str:
    instance.reset()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def pipeline(
    tell: Teller,
    number: int,
    *,
    raw: str = "raw",
    max_z: float = 3.5,
    code: str = "1",
    text: str = "",
) -> str:
    """Tell of ``clean`` (Snakemake) and ``report`` (plain), once more; returns the report's run."""
    tell.step("plain", f"acquire{number}", "acquire", [], ["raw.csv"], text=raw)
    tell.step(
        "snakemake",
        f"clean{number}",
        "clean",
        ["raw.csv"],
        ["clean.csv"],
        text=f"{raw} {max_z} {code}",
        params={"max_z": max_z},
        code=code,
    )
    return tell.step(
        "plain",
        f"report{number}",
        "report",
        ["clean.csv"],
        ["report.html"],
        text=f"{raw} {max_z} {code} {text}",
        params={"title": "A"},
    )


# --- why ----------------------------------------------------------------------------------------


def test_why_goes_back_to_the_param_that_was_changed(tell: Teller) -> None:
    pipeline(tell, 1)
    pipeline(tell, 2, max_z=2.5)
    found = ln.why("report.html")
    assert found.answer.startswith("report.html differs from its previous version, ")
    assert found.answer.endswith("because of params: max_z: 3.5 → 2.5")
    assert [(each.what, each.name) for each in found.changes] == [("params", "max_z")]
    frame = found.df()
    assert list(zip(frame.depth, frame["of"], frame.what, frame.name, strict=True)) == [
        (0, "report.html", "inputs", "clean.csv"),
        (1, "clean.csv", "params", "max_z"),
    ]
    file = ln.select(ln.File, key="report.html").one()
    assert ln.why(file).answer == found.answer
    assert "params: max_z: 3.5 → 2.5" in str(found)
    assert lamin("why", "report.html") == f"{found}\n"
    shown = json.loads(lamin("why", "report.html", "--json"))
    assert shown["changes"] == [
        {"what": "params", "name": "max_z", "before": "3.5", "after": "2.5"}
    ]
    assert shown["previous"]["id"] != file.id
    assert "<pre>" in found._repr_html_()


def test_why_names_new_code_and_a_new_source(tell: Teller) -> None:
    pipeline(tell, 1)
    pipeline(tell, 2, code="2")
    answer = "because of code: clean: version 0 (1) → version 1 (2)"
    assert answer in ln.why("report.html").answer
    pipeline(tell, 3, code="2", raw="other")
    found = ln.why("report.html")
    assert "raw.csv" in str(found)
    assert "nothing that is recorded differs" in str(found)
    assert "no inputs are recorded of either run" in str(found)


def test_why_follows_values_between_tasks(tell: Teller) -> None:
    for number in (1, 2):
        load = tell.step("prefect", f"load{number}", "load", [], [], params={"url": f"v{number}"})
        fit = tell.start("prefect", f"fit{number}", "fit")
        emit(RunLinked(run=fit, other=load, role="informed_by", at=tell.clock.tick()))
        tell.write(fit, "model.json", f"{number}")
        tell.finish(fit)
    assert recorder.flush()
    assert "because of params: url: v1 → v2" in ln.why("model.json").answer
    assert "the value of load" in str(ln.why("model.json"))


def test_why_sees_a_package_that_has_changed(tell: Teller) -> None:
    for number, version in (("a", "1.0"), ("b", "2.0")):
        packages = {"numpy": version, "same": "1"}
        emit(
            EnvironmentSeen(
                id=number, python="CPython 3.11", packages=packages, at=tell.clock.tick()
            )
        )
        tell.step("plain", number, "fit", [], ["fit.csv"], text=version, environment=number)
    assert ln.why("fit.csv").answer.endswith("because of environment: numpy: 1.0 → 2.0")


def test_why_says_where_the_records_do_not_suffice(tell: Teller) -> None:
    tell.step("plain", "1", "fit", [], ["fit.csv"])
    assert ln.why("fit.csv").answer == (
        "fit.csv has one version only, so there is nothing that it differs from"
    )
    assert len(ln.why("fit.csv").df()) == 0
    tell.step("plain", "2", "fit", [], ["fit.csv"], text="random")
    found = ln.why("fit.csv")
    assert "nothing that is recorded of their runs does" in found.answer
    assert "no params are recorded of either run" in str(found)
    assert "the environment is recorded of neither run" in str(found)
    assert found.changes == []
    assert [str(dtype) for dtype in found.df().dtypes] == ["Int64"] + ["string"] * 6

    for text in ("one", "two"):
        Path("given.txt").write_text(text)
        ln.add(ln.File("given.txt", key="given.txt"))
    assert "which run wrote given.txt is not recorded" in ln.why("given.txt").answer
    keyless = ln.add(ln.File("given.txt"))
    assert "has no key" in ln.why(keyless.id).answer
    assert "has the same content as given.txt" in ln.why(keyless.id, than="given.txt").answer
    with instance.current().database.begin() as connection:
        connection.execute(
            update(schema.file)
            .where(schema.file.c.key == "given.txt", schema.file.c.is_latest)
            .values(hash=None, hash_note="it was gone before it could be read")
        )
    assert "is not known: no hash, it was gone" in ln.why("given.txt").answer
    with pytest.raises(RecordError, match="is no file: compare runs by"):
        ln.why(ln.select(ln.Run).first())


def test_an_input_from_outside_is_said_to_be_that(tell: Teller) -> None:
    for number in ("1", "2"):
        (tell.folder / "given.txt").write_text(number)
        tell.step("plain", number, "fit", ["given.txt"], ["fit.csv"], text=number)
    assert str(ln.why("fit.csv")).splitlines()[3:] == [
        "    given.txt",
        "      no run is recorded that wrote either content: it came from outside, or its run was "
        "not tracked",
    ]
    tell.step("plain", "make", "make", [], ["given.txt"], text="3")
    tell.step("plain", "3", "fit", ["given.txt"], ["fit.csv"], text="3")
    assert "no run is recorded that wrote the former content: it came" in str(ln.why("fit.csv"))


def test_content_that_came_back_is_compared_with_the_one_between(tell: Teller) -> None:
    for number, p in (("1", 1), ("2", 2), ("3", 1)):
        tell.step("plain", number, "fit", [], ["fit.csv"], text=f"{p}", params={"p": p})
    assert ln.why("fit.csv").answer.endswith("because of params: p: 2 → 1")
    old = ln.select(ln.File, all_versions=True, is_latest=False).one()
    assert ln.why(old).answer.endswith("because of params: p: 1 → 2")


@pytest.mark.parametrize(
    ("written", "because"), [("1213", "1 → 3"), ("12312", "1 → 2"), ("1221", "2 → 1")]
)
def test_the_previous_version_is_what_was_written_last_before(
    tell: Teller, written: str, because: str
) -> None:
    for number, p in enumerate(written):
        tell.step("plain", f"{number}", "fit", [], ["fit.csv"], text=p, params={"p": int(p)})
    assert ln.why("fit.csv").answer.endswith(f"because of params: p: {because}")


def test_the_oldest_version_is_said_to_be_that(tell: Teller) -> None:
    first = tell.step("plain", "1", "fit", [], ["fit.csv"], text="one")
    tell.step("plain", "2", "fit", [], ["fit.csv"], text="two")
    oldest = ln.select(ln.File, run_id=first, all_versions=True).one()
    assert ln.why(oldest.id).answer == (
        f"{oldest.id} is the oldest version of fit.csv that is recorded, so there is nothing that "
        "it differs from: compare by why(file, than=other)"
    )
    assert ln.why(oldest.id, than="fit.csv").cause is not None


def test_runs_that_only_wrote_the_same_again_are_not_to_blame(tell: Teller) -> None:
    """Code 2 and 4 change nothing that is written; param a does, between them."""
    written = [(1, "1"), (1, "2"), (2, "2"), (2, "4"), (2, "5")]
    for number, (a, code) in enumerate(written):
        values: dict[str, Any] = {"params": {"a": a}, "code": code, "text": f"{a}"}
        tell.step("plain", f"{number}", "fit", [], ["fit.csv"], **values)
        if number in (0, 3):  # before the change, and not at once after it
            tell.step("plain", f"r{number}", "report", ["fit.csv"], ["report"], text=f"{a}")
    for name in ("fit.csv", "report"):
        assert [str(each) for each in ln.why(name).changes] == ["params: a: 1 → 2"]
    former = ln.select(ln.File, key="fit.csv", is_latest=False, all_versions=True).one()
    reverse = ln.why(former.id, than="fit.csv")
    assert [str(each) for each in reverse.changes] == ["params: a: 2 → 1"]


def test_what_was_taken_back_without_effect_is_not_to_blame(tell: Teller) -> None:
    for number, (raw, a) in enumerate([("one", 1), ("two", 2), ("two", 1)]):
        (tell.folder / "raw.csv").write_text(raw)
        values: dict[str, Any] = {"params": {"a": a}, "code": f"{a}", "text": raw}
        tell.step("plain", f"{number}", "fit", ["raw.csv"], ["fit.csv"], **values)
        tell.step("plain", f"r{number}", "report", ["fit.csv"], ["report"], text=raw)
    for name in ("fit.csv", "report"):
        changes = ln.why(name).changes
        assert [(each.what, each.name) for each in changes] == [("inputs", "raw.csv")]


@pytest.mark.databases("full")
def test_a_chain_of_yesterdays_is_followed_to_its_end(tell: Teller) -> None:
    days = 25
    for text in ("", "b"):
        for day in range(days):
            read = [f"{day - 1}.txt"] if day else []
            tell.step("plain", f"{text}{day}", "step", read, [f"{day}.txt"], text=text)
    found = ln.why(f"{days - 1}.txt")
    assert list(found.df().depth) == list(range(days - 1))
    assert len(str(found).splitlines()) > days


def test_one_change_that_came_by_several_ways_is_said_once(tell: Teller) -> None:
    for number in ("1", "2"):
        tell.step("plain", f"a{number}", "a", [], ["a.txt"], text=number, params={"p": number})
        tell.step("plain", f"b{number}", "b", ["a.txt"], ["b1.txt", "b2.txt"], text=number)
        read = ["a.txt", "b1.txt", "b2.txt"]
        tell.step("plain", f"c{number}", "c", read, ["c.txt"], text=number)
    found = ln.why("c.txt")
    assert [str(each) for each in found.changes] == ["params: p: 1 → 2"]
    assert found.answer.endswith("because of params: p: 1 → 2")
    assert str(found).count("params: p: 1 → 2") == 2  # in the answer, and where it is explained
    assert "b2.txt: as said elsewhere" in str(found)


# --- diff ---------------------------------------------------------------------------------------


@pytest.mark.databases
def test_diff_compares_what_went_in_and_what_came_out(tell: Teller) -> None:
    one = tell.step("plain", "1", "fit", [], ["a.csv"], params={"p": 1, "q": [1]}, host="h1")
    other = tell.step(
        "prefect", "2", "fit", ["a.csv"], ["b.csv"], "failed", params={"p": 2, "r": None},
        error="x", code="2", host="h2",
    )  # fmt: skip
    found = ln.diff(one, other)
    assert [(each.what, each.name, each.before, each.after) for each in found.changes][:4] == [
        ("code", "fit", "version 0 (1)", "version 1 (2)"),
        ("params", "p", "1", "2"),
        ("params", "q", "[1]", None),
        ("params", "r", None, "None"),
    ]
    assert [(each.what, each.name) for each in found.changes][4:] == [
        ("inputs", "a.csv"), ("engine", "engine"), ("host", "host"), ("status", "status"),
        ("outputs", "a.csv"), ("outputs", "b.csv"),
    ]  # fmt: skip
    assert list(found.df().columns) == ["what", "name", "before", "after"]
    assert "params: q is gone ([1])" in str(found)
    assert "inputs: a.csv is new" in str(found)
    assert lamin("diff", one, other) == f"{found}\n"
    assert json.loads(lamin("diff", one, other, "--json"))["changes"][1]["after"] == "2"
    runs = ln.select(ln.Run).all()
    same = ln.diff(runs[0], runs[0])
    assert same.changes == []
    assert "nothing that is recorded differs" in str(same)
    assert len(ln.diff("a.csv", "b.csv").changes) == len(found.changes)
    assert "<table" in found._repr_html_()


def commanded(tell: Teller, number: int, argv: list[str], **values: Any) -> str:
    folder = values.pop("directory", "/work")
    details = {"argv": argv, "directory": folder}
    write = {"text": f"{number}", "details": details, **values}
    return tell.step("plain", f"{number}", "q.py", [], ["q.txt"], **write)


def test_the_command_line_and_directory_of_a_run_are_compared_and_shown(tell: Teller) -> None:
    one = commanded(tell, 1, ["q.py", "3"])
    other = commanded(tell, 2, ["/work/q.py", "4", "a b"])
    assert ln.why("q.txt").answer.endswith("because of command line: q.py 3 → q.py 4 'a b'")
    third = commanded(tell, 3, ["q.py", "4", "a b"], directory="/else")
    assert [str(each) for each in ln.diff(one, third).changes[:2]] == [
        "command line: q.py 3 → q.py 4 'a b'",
        "directory: /work → /else",
    ]
    assert ln.why("q.txt").answer.endswith("because of directory: /work → /else")
    shown = lamin("show", other).splitlines()
    assert "command line   /work/q.py 4 'a b'" in shown
    assert "directory      /work" in shown
    details = json.loads(lamin("show", other, "--json"))["run"]["details"]
    assert details["plain"]["argv"] == ["/work/q.py", "4", "a b"]


def test_a_command_line_that_says_what_params_say_is_not_said_twice(tell: Teller) -> None:
    argv = ["q.py", "--n", "1", "--max-z=2.5", "x"]
    commanded(tell, 1, argv, params={"n": 1, "max_z": 2.5, "args": ["x"]})
    argv = ["q.py", "--n", "2", "--max-z=2.5", "y", "--fast"]
    commanded(tell, 2, argv, params={"n": 2, "max_z": 2.5, "args": ["y"], "fast": True})
    assert [each.name for each in ln.why("q.txt").changes] == ["args", "fast", "n"]
    commanded(tell, 3, [*argv, "more"], params={"n": 3})
    assert "command line" in [each.name for each in ln.why("q.txt").changes]
    # that of a notebook is its kernel's, with a file that each has for itself
    commanded(tell, 4, ["kernel.py", "-f", "a.json"], type="notebook", code="4")
    commanded(tell, 5, ["kernel.py", "-f", "b.json"], type="notebook", code="4")
    assert ln.why("q.txt").changes == []


# --- stale --------------------------------------------------------------------------------------


def stale(**options: bool) -> list[tuple[str, int, str]]:
    frame = ln.stale(**options)
    return list(zip(frame.file, frame.distance, frame.reason, strict=True))


def test_what_was_made_from_an_older_version_is_stale_across_engines(tell: Teller) -> None:
    pipeline(tell, 1)
    assert stale() == []
    assert "Nothing is out of date" in lamin("stale")
    tell.step("plain", "again", "acquire", [], ["raw.csv"], text="new")
    assert stale() == [("clean.csv", 1, "input"), ("report.html", 2, "upstream")]
    frame = ln.stale()
    assert list(frame.because) == ["raw.csv has a newer version", "clean.csv is out of date"]
    assert list(frame.engine) == ["snakemake", "plain"]
    assert list(frame.index) == [
        ln.select(ln.File, key=key).one().id for key in ("clean.csv", "report.html")
    ]
    text = lamin("stale")
    assert "raw.csv has a newer version" in text
    assert json.loads(lamin("stale", "--json"))[1]["reason"] == "upstream"
    tell.step("snakemake", "clean-again", "clean", ["raw.csv"], ["clean.csv"], text="anew")
    assert stale() == [("report.html", 1, "input")]
    tell.step("plain", "report-again", "report", ["clean.csv"], ["report.html"], text="anew")
    assert stale() == []


def test_making_the_same_content_anew_is_enough(tell: Teller) -> None:
    pipeline(tell, 1)
    tell.step("plain", "again", "acquire", [], ["raw.csv"], text="new")
    tell.step("snakemake", "2", "clean", ["raw.csv"], ["clean.csv"], text="raw 3.5 1")
    assert stale() == []


def test_newer_code_makes_stale_unless_it_is_not_to_count(tell: Teller) -> None:
    pipeline(tell, 1)
    tell.step("snakemake", "other", "clean", ["raw.csv"], ["elsewhere.csv"], code="2")
    assert stale() == [("clean.csv", 1, "code"), ("report.html", 2, "upstream")]
    assert ln.stale().because.iloc[0] == "clean (version 1) is newer code"
    assert stale(code=False) == []
    assert "Nothing is out of date" in lamin("stale", "--no-code")


def test_code_that_was_taken_back_is_the_code_of_today(tell: Teller) -> None:
    for engine in ("plain", "snakemake"):
        for number, code in enumerate("121"):
            write = [f"{engine}{number}.csv", f"{engine}.csv"]
            tell.step(engine, f"{engine}{number}", engine, [], write, code=code, text=code)
    assert stale() == [("plain1.csv", 1, "code"), ("snakemake1.csv", 1, "code")]
    frame = ln.stale()
    assert list(frame.because) == ["plain is back at version 0", "snakemake is back at version 0"]
    back_at = [ln.select(ln.Run, name=name).all()[-1].started_at for name in ("plain", "snakemake")]
    tell.step("plain", "once-more", "plain", [], ["plain4.csv"], code="1")
    assert list(ln.stale().changed_at) == back_at
    tell.step("plain", "other", "plain", [], ["plain1.csv"], code="3")
    because = dict(zip(ln.stale().file, ln.stale().because, strict=True))
    assert because["plain0.csv"] == "plain (version 2) is newer code"
    assert "plain1.csv" not in because


def test_who_rewrites_its_input_is_not_stale_by_that(tell: Teller) -> None:
    tell.step("plain", "0", "begin", [], ["state.txt"])
    for day in range(3):
        tell.step("plain", f"day{day}", "append", ["state.txt"], ["state.txt"], text=f"{day}")
    assert stale() == []


def test_bytes_that_changed_on_disk_count_before_any_run_has_read_them(tell: Teller) -> None:
    (tell.folder / "source.csv").write_text("one")
    tell.step("plain", "1", "clean", ["source.csv"], ["clean.csv"])
    assert stale() == []
    os.utime("source.csv")
    assert stale() == []  # touched, not changed
    (tell.folder / "source.csv").write_text("two")
    assert stale() == [("clean.csv", 1, "disk")]
    assert ln.stale().because.iloc[0] == "source.csv has other bytes than were read"
    assert stale(disk=False) == []
    (tell.folder / "source.csv").unlink()
    assert stale() == []


def test_an_older_file_of_the_same_size_that_was_moved_there_counts(tell: Teller) -> None:
    tell.clock.now = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    source, backup = tell.folder / "source.csv", tell.folder / "backup.csv"
    source.write_text("one")
    backup.write_text("two")
    old = dt.datetime(2019, 1, 1, tzinfo=dt.UTC).timestamp()
    os.utime(source, (old, old))
    os.utime(backup, (old, old))  # as cp -p, rsync -a and tar leave it
    tell.step("plain", "1", "clean", ["source.csv"], ["clean.csv"])
    assert stale() == []
    backup.replace(source)
    assert stale() == [("clean.csv", 1, "disk")]
    moved_at = ln.stale().changed_at.iloc[0]
    assert moved_at.timestamp() == pytest.approx(source.stat().st_ctime, abs=0.01)


def test_what_lies_there_since_before_it_was_read_is_not_hashed(
    tell: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell.clock.now = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    (tell.folder / "source.csv").write_text("one")
    tell.step("plain", "1", "clean", ["source.csv"], ["clean.csv"])
    hashed: list[Any] = []
    monkeypatch.setattr(staleness, "digest_once", hashed.append)
    assert stale() == []
    assert hashed == []


@pytest.mark.parametrize(
    ("status", "because"),
    [
        ("failed", "its last run failed"),
        ("cancelled", "its last run was cancelled"),
        ("aborted", "its last run was aborted"),
    ],
)
def test_a_run_that_came_to_no_good_end_has_made_nothing_anew(
    tell: Teller, status: str, because: str
) -> None:
    pipeline(tell, 1)
    tell.step("plain", "again", "acquire", [], ["raw.csv"], text="new")
    clean = tell.start("snakemake", "2", "clean")
    tell.read(clean, "raw.csv")
    tell.write(clean, "clean.csv", "only the head\n")
    assert stale() == [("report.html", 1, "input")]  # it still runs
    tell.finish(clean, status, error="no luck")
    assert stale() == [("clean.csv", 1, "run"), ("report.html", 1, "input")]
    assert ln.stale().because.iloc[0] == because
    assert because in lamin("stale", "--no-code", "--no-disk")
    tell.step("snakemake", "3", "clean", ["raw.csv"], ["clean.csv"], text="anew")
    assert stale() == [("report.html", 1, "input")]


def test_a_frame_of_nothing_stale_has_its_columns(tell: Teller) -> None:
    empty = ln.stale()
    pipeline(tell, 1)
    tell.step("plain", "again", "acquire", [], ["raw.csv"], text="new")
    full = ln.stale()
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)
    assert empty.index.name == full.index.name == "id"
    assert empty.index.dtype == full.index.dtype
