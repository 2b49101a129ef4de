"""Who works here, as the records know it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lamindb as ln
from lamindb.hooks import FileWritten, RunStarted, emit, run_id
from postgres import Server


@pytest.mark.databases
def test_a_user_new_to_the_instance_can_track_and_add_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LAMINDB_BUSY_TIMEOUT", "2")
    made = ln.setup.init("./mydata")
    monkeypatch.setenv("LAMINDB_USER", "somebody-else")
    ln.setup.load(made.name)
    ln.track(transform=ln.Transform("first thing they do"))
    assert ln.context.run.created_by.handle == "somebody-else"

    monkeypatch.setenv("LAMINDB_USER", "a-third")
    ln.setup.load(made.name)
    assert ln.add(ln.Transform("only added")).created_by.handle == "a-third"


@pytest.mark.databases
@pytest.mark.parametrize("first", ["a run", "a file"])
def test_an_engine_may_be_what_a_user_does_first_in_an_instance(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMINDB_BUSY_TIMEOUT", "2")
    made = ln.setup.init("./mydata")
    monkeypatch.setenv("LAMINDB_USER", "somebody-else")
    ln.setup.load(made.name)
    run = run_id("test", first)
    if first == "a run":
        emit(RunStarted(run=run, engine="test"))
    else:
        (tmp_path / "out.txt").write_text("new")
        emit(FileWritten(run=run, uri=str(tmp_path / "out.txt"), how="declared"))
    assert ln.select(ln.Run).one().created_by.handle == "somebody-else"
    assert ln.select(ln.File).count() == (first == "a file")


SCRIPT = """
from pathlib import Path
import lamindb as ln
from lamindb.hooks import RunFinished, RunStarted, emit, run_id
import sys
name, storage, db = sys.argv[1:]
ln.setup.init(storage, db=db)
run = ln.track(ln.Transform("shared analysis", type="pipeline"))
Path(f"{name}.txt").write_text(name)
ln.add(ln.File(f"{name}.txt", key=f"{name}.txt"))
if name == "grace":
    ln.select(ln.File, key="ada.txt").one().load()
emit(RunStarted(run=run_id("test", name), engine="test"))
emit(RunFinished(run=run_id("test", name), status="completed"))
ln.finish()
print(ln.setup.settings.user.handle)
"""


def test_two_people_in_one_instance_are_told_apart(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, storage = postgres.database(), str(tmp_path / "shared")
    for name in ("ada", "grace"):
        # each has a computer, and the address that git knows
        home, folder = tmp_path / f"home of {name}", tmp_path / f"work of {name}"
        folder.mkdir()
        home.mkdir()
        (home / ".gitconfig").write_text(
            f"[user]\n email = {name}@lab.org\n name = {name.title()}\n"
        )
        mine = {
            each: value for each, value in os.environ.items() if not each.startswith("LAMINDB_")
        }
        mine |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
        mine |= {"LAMINDB_HOST": f"{name}s-laptop", "LAMINDB_OBSERVE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, storage, db],
            cwd=folder,
            env=mine,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{name}@lab.org\n"
    monkeypatch.setenv("LAMINDB_USER", "ada@lab.org")
    ln.setup.init(storage, db=db)
    users = {user.name: user for user in ln.select(ln.User).all()}
    assert {name: user.handle for name, user in users.items()} == {
        "Ada": "ada@lab.org",
        "Grace": "grace@lab.org",
    }
    for name, user in users.items():
        [file] = ln.select(ln.File, created_by_id=user.id).all()
        assert file.key == f"{name.lower()}.txt"
        assert file.run.created_by == file.created_by == user
        theirs = ln.select(ln.Run, created_by_id=user.id).all()
        assert {run.host for run in theirs} >= {f"{name.lower()}s-laptop"}
        assert sorted(run.engine for run in theirs) == ["plain", "test"]
    # and what one makes of the other's is lineage as any
    [shared] = ln.select(ln.Transform).all()
    assert shared.created_by == users["Ada"]
    [reader] = [run for run in shared.runs if run.created_by == users["Grace"]]
    assert [file.key for file in reader.inputs] == ["ada.txt"]
