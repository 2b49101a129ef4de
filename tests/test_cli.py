"""``lamin``: what a person reads, what a program reads, exit codes, and the page about it."""

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from upath import UPath

import lamindb as ln
from lamindb import instance
from lamindb.cli import COMMANDS, main
from lamindb.hooks import hookimpl, plugins
from read_only import seen_read_only

ROOT = Path(__file__).parent.parent
LAMIN = [sys.executable, "-m", "lamindb"]
ODD_NAMES = [
    "[red]x[/red]",
    "[/red] [link=http://a]b[/link] \\[bold]",
    "two\nlines\r\tand a tab",
    "\x1b[31mred\x1b[0m \x9b1m \x07",
    "\u202egnp.exe",
    "🧪 café 数据",
    "n" * 300,
]


@pytest.fixture
def project() -> Path:
    ln.setup.init("./mydata")
    return Path.cwd()


def invoke(*arguments: str) -> Result:
    """Run a command in this process, as a new one would: with nothing opened yet."""
    instance.reset()
    return CliRunner().invoke(main, arguments)


def lamin(*arguments: str, code: int = 0) -> str:
    """Return what a command prints, which must end with that exit code."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stderr == ""
    return result.stdout


def lamin_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(lamin(*arguments, "--json", code=code))


def refused(*arguments: str) -> str:
    """Return the one line in which a command says why it failed."""
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def spawn(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAMIN, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


def in_terminal(
    *arguments: str, columns: int = 80, typed: str = "", **environment: str
) -> tuple[int, str]:
    """Run a command in a terminal of this width; return its exit code and what it shows."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        [*LAMIN, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environment},
    )
    os.close(terminal)
    if typed:
        os.write(controller, typed.encode())
    shown = b""
    while True:
        try:
            ready, _, _ = select.select([controller], [], [], 40)
            part = os.read(controller, 65536) if ready else b""
        except OSError:  # Linux says so that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(controller)
    return child.wait(), shown.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def step(
    name: str,
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    *,
    content: str | None = None,
    params: dict[str, Any] | None = None,
) -> ln.Run:
    """Record a run that reads and writes files by key."""
    run = ln.track(ln.Transform(name, type="pipeline"), params=params)
    for key in inputs:
        ln.select(ln.File, key=key).one().stage()
    for key in outputs:
        source = Path("source.txt")
        source.write_text(content if content is not None else f"{name} {key}")
        ln.add(ln.File(source, key=key))
    ln.finish()
    return run


def study() -> dict[str, ln.Run]:
    """Record two raw files, one clean one, two results and a report of both."""
    return {
        "acquire": step("acquire", outputs=("raw/1.csv", "raw/2.csv")),
        "clean": step("clean", ("raw/1.csv", "raw/2.csv"), ("clean.csv",), params={"max_z": 3.5}),
        "fit": step("fit", ("clean.csv",), ("fit.csv",)),
        "plot": step("plot", ("clean.csv",), ("plot.png",)),
        "report": step("report", ("fit.csv", "plot.png"), ("report.html",)),
    }


# --- help, usage, errors ------------------------------------------------------------------------


def every_command() -> dict[str, click.Command]:
    context = click.Context(main, info_name="lamin")
    found = {}
    for name in COMMANDS:
        command = main.get_command(context, name)  # type: ignore[attr-defined]
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": each for sub, each in command.commands.items()}
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_in_the_table_is_the_commands_own(name: str) -> None:
    assert COMMANDS[name][1] == every_command()[name].get_short_help_str(limit=1000)


@pytest.mark.parametrize("name", ["", *COMMANDS, "db upgrade"])
def test_each_command_explains_itself(name: str) -> None:
    for option in ("-h", "--help"):
        text = lamin(*name.split(), option)
        assert text.startswith(f"Usage: main {name}".rstrip())
        assert max(len(line) for line in text.splitlines()) <= 80
    for parameter in every_command()[name].params if name else ():
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_page_about_the_command_line_is_current() -> None:
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, content in generate.pages().items():
        assert page.read_text(encoding="utf-8") == content, "run: python dev.py docs"
    assert "## lamin db upgrade" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_page_is_written_the_same_whatever_the_terminal(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    script = tmp_path / "docs" / "generate.py"
    subprocess.run([sys.executable, script], check=True, env={**os.environ, "COLUMNS": "40"})
    written = (tmp_path / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_script_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("lamin")
    first = subprocess.run([script, "--version"], capture_output=True, text=True)
    second = spawn("--version")
    assert first.stdout == second.stdout == f"lamin, version {ln.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["files", "--nonsense"],
        ["files", "--limit", "0"],
        ["files", "--limit", "many"],
        ["files", "a", "b"],
        ["show"],
        ["init"],
        ["load"],
        ["runs", "--status", "finished"],
        ["db", "nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_why(project: Path, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["files"],
        ["runs"],
        ["transforms"],
        ["show", "x"],
        ["doctor"],
        ["db", "upgrade"],
        ["delete", "--force"],
    ],
    ids=" ".join,
)
def test_without_an_instance_each_command_names_the_one_to_run(arguments: list[str]) -> None:
    assert "run 'lamin init --storage ./mydata' here" in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "typo"], "no instance 'typo': known are mydata"),
        (["delete", "typo", "--force"], "no instance 'typo'"),
        (["show", "typo"], "nothing is recorded as 'typo'"),
        (["init", "--storage", "source.txt"], "is a file"),
        (["init", "--storage", "s3://k:s3cr3t@b"], "credentials"),
        (["init", "--storage", "other", "--name", "mydata"], "named 'mydata' exists"),
        (["init", "--storage", "other", "--name", "a b"], "cannot be an instance's name"),
        (["init", "--storage", "other", "--db", "mysql://a:s3cr3t@b/c"], "SQLite or PostgreSQL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_line_on_stderr(project: Path, arguments: list[str], words: str) -> None:
    Path("source.txt").write_text("x")
    line = refused(*arguments)
    assert words in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize("arguments", [["files"], ["show", "x"], ["doctor"], ["info"]])
@pytest.mark.parametrize("damage", ["gone", "garbage", "empty", "folder", "newer"])
def test_a_damaged_database_is_one_line_too(
    project: Path, arguments: list[str], damage: str
) -> None:
    instance.reset()
    path = Path("mydata/.lamindb/lamindb.sqlite")
    if damage == "newer":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE lamindb_version SET version_num = '9999'")
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage in ("garbage", "empty"):
        path.write_bytes(b"no database " * 1000 if damage == "garbage" else b"")
    assert "database" in refused(*arguments)


@pytest.mark.parametrize("variable", ["LAMINDB_BUSY_TIMEOUT", "LAMINDB_CACHE_SIZE"])
@pytest.mark.parametrize("arguments", [["files"], ["--help"], ["nonsense"]])
def test_a_variable_that_is_no_number_is_one_line_too(arguments: list[str], variable: str) -> None:
    done = spawn(*arguments, **{variable: "soon"})
    assert done.returncode == 1
    assert done.stderr == f"Error: {variable}='soon' is not a number: give one, or unset it\n"


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
def test_a_variable_that_is_no_finite_number_is_one_line_too(value: str) -> None:
    done = spawn("files", LAMINDB_CACHE_SIZE=value)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: LAMINDB_CACHE_SIZE={value!r} is not a number: give one, or unset it\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["files"], ["runs", "--transform"], ["init", "--storage"]],
    ids=" ".join,
)
def test_an_argument_that_is_no_unicode_is_one_line_too(
    project: Path, arguments: list[str]
) -> None:
    done = subprocess.run(
        [*(os.fsencode(each) for each in (*LAMIN, *arguments)), b"\xff"], capture_output=True
    )
    assert done.returncode == 1
    assert done.stdout == b""
    [line] = done.stderr.decode().splitlines()
    assert "not valid Unicode" in line
    assert "fault" not in line


def test_a_limit_beyond_what_databases_count_is_wrong_usage(project: Path) -> None:
    result = invoke("files", "-n", "9" * 23)
    assert result.exit_code == 2
    assert "is not in the range" in result.stderr


@pytest.mark.parametrize("storage", ["./x", "absolute"])
def test_init_in_a_removed_folder_says_so_or_does_without(storage: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    if storage == "./x":
        assert "the working directory was removed" in refused("init", "--storage", storage)
    else:
        assert lamin("init", "--storage", str(tmp_path / "x")).startswith("instance x\n")
        ln.setup.delete("x", force=True)
    os.chdir(tmp_path)


def test_init_says_that_the_records_were_gone(project: Path) -> None:
    instance.reset()
    Path("mydata/.lamindb/lamindb.sqlite").unlink()
    first = lamin("init", "--storage", "./mydata").splitlines()[0]
    assert first == "instance mydata, whose database was gone: this is a new one, without records"


def test_a_fault_is_one_line_and_where_it_was_can_be_asked_for(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ZeroDivisionError("of\nsomething\x1b[31m")

    monkeypatch.setattr("lamindb.setup.info", fails)
    line = refused("info")
    assert r"ZeroDivisionError: of something\x1b[31m" in line
    assert "LAMINDB_TRACEBACK=1" in line

    monkeypatch.setattr(ln.settings, "tracebacks", True)
    result = invoke("info")
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupting_a_command_shows_no_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lamindb.setup.info", interrupted)
    result = invoke("info")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_a_reader_that_stops_early_is_no_error(project: Path) -> None:
    step("many", outputs=tuple(f"{number}.txt" for number in range(30)))
    command = " ".join([*LAMIN, "files", "--json", "|", "head", "-1"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[\n", "")


# --- instances ----------------------------------------------------------------------------------


def test_init_says_what_it_made_and_where_and_whether_it_was_there(tmp_path: Path) -> None:
    first = lamin("init", "--storage", "./mydata")
    root = Path.cwd() / "mydata"
    assert first.splitlines() == [
        "instance mydata",
        f"  storage   {root}",
        f"  database  {root}/.lamindb/lamindb.sqlite",
        "Used in this folder and below it, and by you wherever no other instance is.",
    ]
    again = lamin("init", "--storage", "mydata")
    assert again.splitlines()[0] == "instance mydata, which was there already"
    assert again.splitlines()[1:] == first.splitlines()[1:]


def test_init_of_a_bucket_says_where_the_database_is(bucket: str) -> None:
    path = Path.home() / ".local/share/lamindb/study/lamindb.sqlite"
    assert f"  database  {path}\n" in lamin("init", "--storage", f"{bucket}/study")
    assert f"database       {path}\n" in lamin("info")


def test_info_shows_the_instance_in_use(project: Path) -> None:
    step("a", outputs=("a.txt",))
    text = lamin("info")
    assert re.search(r"^instance +mydata$", text, re.MULTILINE)
    assert re.search(
        r"^records +1 file, 1 transform, 1 run, 1 storage, 1 user$", text, re.MULTILINE
    )
    step("b", outputs=("b.txt",))
    assert "2 files, 2 transforms, 2 runs, 1 storage, 1 user" in lamin("info")
    assert lamin_json("info") == {
        "instance": "mydata",
        "storage": str(project / "mydata"),
        "database": f"sqlite:///{project}/mydata/.lamindb/lamindb.sqlite",
        "user": "testuser",
        "configured_in": str(project / ".lamindb/instance.toml"),
        "version": ln.__version__,
        "counts": {"file": 2, "transform": 2, "run": 2, "storage": 1, "user": 1},
        "database_bytes": Path("mydata/.lamindb/lamindb.sqlite").stat().st_size,
    }


def test_info_tells_a_reader_who_they_are_without_registering_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMINDB_USER", "reader")
    for _ in range(2):
        assert re.search(r"^user +reader$", lamin("info"), re.MULTILINE)
    assert lamin_json("info")["counts"]["user"] == 1
    instance.reset()
    database = project / "mydata/.lamindb/lamindb.sqlite"
    command = [*seen_read_only(database), *LAMIN, "info"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^user +reader$", done.stdout, re.MULTILINE)


def test_load_says_when_another_instance_goes_first_here(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(tmp_path / "other")
    ln.setup.init("./mydata")
    text = lamin("load", "other")
    assert text.splitlines()[0] == f"instance other with storage {tmp_path}/other"
    assert f"Not in this folder: {project}/.lamindb/instance.toml names 'mydata'" in text
    monkeypatch.chdir(tmp_path)
    assert "Not in this folder" not in lamin("load", "other")
    assert re.search(r"^instance +other$", lamin("info"), re.MULTILINE)


def test_close_forgets_the_current_instance(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "mydata" in lamin("info")
    lamin("close")
    assert "no instance is set up" in refused("info")


def test_delete_wants_the_instances_name_typed_at_a_terminal(project: Path) -> None:
    step("a", outputs=("a.txt",))
    assert "pass --force" in refused("delete")
    code, shown = in_terminal("delete", typed="nonsense\n")
    assert code == 1
    assert "Error: cancelled: nothing was deleted" in shown
    assert lamin_json("files")[0]["key"] == "a.txt"

    code, shown = in_terminal("delete", typed="mydata\n")
    assert code == 0
    assert "1 file, 1 transform, 1 run" in shown
    assert f"{project}/mydata" in shown
    assert (project / "mydata/a.txt").exists()
    assert "no instance is set up" in refused("files")


def test_delete_by_force_asks_nobody(project: Path) -> None:
    assert "the data in the storage is untouched" in lamin("delete", "mydata", "--force")
    assert not (project / "mydata/.lamindb/lamindb.sqlite").exists()


# --- files, runs, transforms --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["files", "runs", "transforms"])
def test_an_empty_instance_says_so_and_is_an_empty_list(project: Path, name: str) -> None:
    assert lamin(name) == f"No {name} yet.\n"
    assert lamin_json(name) == []


def lines(text: str) -> list[list[str]]:
    """Return a printed table as rows of cells, which two spaces part."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_files_are_listed_newest_first(project: Path) -> None:
    runs = study()
    found = {file.key: file for file in ln.select(ln.File).all()}
    heading, *rows = lines(lamin("files"))

    assert heading == ["id", "key or name", "size", "hash", "made by", "created"]
    assert [row[1] for row in rows] == [
        "report.html",
        "plot.png",
        "fit.csv",
        "clean.csv",
        "raw/2.csv",
        "raw/1.csv",
    ]
    first = found["report.html"]
    assert rows[0][:5] == [first.id, "report.html", f"{first.size} B", first.hash, "report"]
    assert [row[1] for row in lines(lamin("files", "raw"))[1:]] == ["raw/2.csv", "raw/1.csv"]
    assert [row[1] for row in lines(lamin("files", "c*n.csv"))[1:]] == ["clean.csv"]
    assert lamin("files", "100%") == "No files match.\n"
    assert [row[1] for row in lines(lamin("files", "--run", runs["fit"].id))[1:]] == ["fit.csv"]


def test_a_run_that_made_what_was_there_before_made_it_too(project: Path) -> None:
    step("first", outputs=("a.txt",), content="same")
    again = step("again", outputs=("a.txt",), content="same")
    assert [file["key"] for file in lamin_json("files", "--run", again.id)] == ["a.txt"]


def test_older_versions_are_listed_when_asked_for(project: Path) -> None:
    step("first", outputs=("a.txt",))
    step("second", outputs=("a.txt",))
    assert [row[1] for row in lines(lamin("files"))[1:]] == ["a.txt"]
    rows = lines(lamin("files", "--all-versions"))[1:]
    assert [(row[1], row[4]) for row in rows] == [("a.txt", "second"), ("a.txt (older)", "first")]


def test_runs_are_listed_with_how_they_ended(project: Path) -> None:
    runs = study()
    done = subprocess.run(
        [sys.executable, "-"],
        input="import lamindb as ln\nln.track(ln.Transform('bad'), params={'n': 3})\n1 / 0",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    heading, first, second, *_ = lines(lamin("runs"))
    assert heading == ["id", "transform", "status", "started", "took", "params", "error"]
    assert first[1:3] == ["bad", "failed"]
    assert first[-2:] == ['{"n": 3}', "ZeroDivisionError: division by zero"]
    assert second[:3] == [runs["report"].id, "report", "completed"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", second[3])
    assert re.fullmatch(r"\d+\.\d s", second[4])
    assert [row[1] for row in lines(lamin("runs", "--status", "failed"))[1:]] == ["bad"]
    assert [row[1] for row in lines(lamin("runs", "--transform", "fit"))[1:]] == ["fit"]
    transform_id = runs["fit"].transform_id
    assert [run["name"] for run in lamin_json("runs", "--transform", transform_id)] == ["fit"]
    assert lamin("runs", "--transform", "typo") == "No runs match.\n"


def test_transforms_are_listed_with_their_runs(project: Path) -> None:
    study()
    step("fit")
    heading, *rows = lines(lamin("transforms"))
    # a checkout without a remote, as from an archive, has no keys
    assert [name for name in heading if name != "key"] == [
        "id", "version", "name", "type", "runs", "created",
    ]  # fmt: skip
    assert [(row[2], row[4]) for row in rows] == [
        ("report", "1"),
        ("plot", "1"),
        ("fit", "2"),
        ("clean", "1"),
        ("acquire", "1"),
    ]


def test_a_long_table_is_cut_and_says_so_and_json_is_complete(project: Path) -> None:
    step("many", outputs=tuple(f"{number:02}.txt" for number in range(25)))
    text = lamin("files")
    assert text.splitlines()[-1] == "20 of 25 files; --limit shows more."
    assert len(text.splitlines()) == 22
    assert len(lines(lamin("files", "-n", "100"))) == 26
    assert len(lamin_json("files")) == 25
    assert len(lamin_json("files", "--limit", "3")) == 3
    assert lamin("runs", "--limit", "1").splitlines()[-1].startswith(ln.select(ln.Run).one().id)


def test_more_rows_than_a_statement_has_variables_can_be_listed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = step("one")
    instance.reset()
    with closing(sqlite3.connect("mydata/.lamindb/lamindb.sqlite")) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(run)")]
        (values,) = connection.execute("SELECT * FROM run").fetchall()
        rows = [(f"{number:020}", *values[1:]) for number in range(40_000)]
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO run VALUES ({marks})", rows)
    printed: list[Any] = []
    monkeypatch.setattr(
        "lamindb.cli.output.print_table", lambda columns, rows, **_: printed.extend(rows)
    )
    lamin("runs", "--limit", "50000")
    assert len(printed) == 40_001
    assert {row[1] for row in printed} == {"one"}
    assert run.id in {row[0] for row in printed}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_shown_escaped_and_whole_when_piped(project: Path, name: str) -> None:
    run = ln.track(ln.Transform(name), params={name: name})
    Path("a.txt").write_text("a")
    file = ln.add(ln.File("a.txt", name=name))
    ln.finish()
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in name
    )

    for arguments in (["files"], ["runs"], ["transforms"], ["show", file.id], ["show", run.id]):
        text = lamin(*arguments)
        assert shown in text, arguments
        assert all(character.isprintable() or character == "\n" for character in text)
    assert len(lamin("files").splitlines()) == 2
    assert lamin_json("files")[0]["name"] == name
    assert lamin_json("runs")[0]["params"] == {name: name}
    assert lamin_json("show", name)["file"]["id"] == file.id


def test_what_a_terminal_cannot_show_is_escaped(project: Path) -> None:
    Path("a.txt").write_text("a")
    ln.add(ln.File("a.txt", key="🧪 café.txt"))
    for arguments in (["files"], ["files", "--json"], ["show", "🧪 café.txt"]):
        done = spawn(*arguments, PYTHONIOENCODING="ascii")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    done = spawn("files", "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout)[0]["key"] == "🧪 café.txt"


def test_piped_output_has_one_row_a_line_and_no_colours(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    step("t" * 100, outputs=("k" * 200,), params={"p": "v" * 100})
    file, run = ln.select(ln.File).one(), ln.select(ln.Run).one()
    for arguments in (["files"], ["runs"], ["transforms"]):
        done = spawn(*arguments, COLUMNS="40")
        assert "\x1b" not in done.stdout
        assert len(done.stdout.splitlines()) == 2
        assert "t" * 100 in done.stdout
        assert not any(line.endswith(" ") for line in done.stdout.splitlines())
    assert spawn("files").stdout.splitlines()[1].startswith(f"{file.id}  {'k' * 200}  ")
    assert '{"p": "' + "v" * 100 + '"}' in spawn("runs").stdout
    tree = spawn("show", "k" * 200, COLUMNS="40").stdout.splitlines()[-1]
    assert tree.endswith(f"run {run.id}")


@pytest.mark.parametrize("columns", [40, 50, 80, 200])
def test_a_table_fits_the_terminal_and_ids_stay_whole(project: Path, columns: int) -> None:
    step("t" * 60, outputs=("folder/" + "k" * 60,), params={"p": "v" * 60})
    file, run = ln.select(ln.File).one(), ln.select(ln.Run).one()
    transform = ln.select(ln.Transform).one()
    for name, record in (("files", file), ("runs", run), ("transforms", transform)):
        code, shown = in_terminal(name, columns=columns)
        assert code == 0
        heading, row = plain(shown).splitlines()
        assert row.startswith(record.id)
        assert max(len(heading), len(row)) <= columns
        assert "…" in row or columns == 200
        assert "\x1b[" in shown
        assert name != "runs" or "completed" in row


def test_a_tree_fits_the_terminal_and_names_and_ids_stay_whole(project: Path) -> None:
    runs, key = [], "plates/first.csv"
    flow = ln.add(ln.Run(ln.Transform("dose_response"), name="olive-camel"))
    for number in range(8):
        inputs = (key,) if number else ()
        key = f"plates/{'normalised/' * 8}plate_{number}.csv"
        runs.append(step(f"clean_{number}", inputs, (key,), params={"alpha": "v" * 100}).id)
        flow = ln.add(ln.Run(ln.Transform(f"part {number}"), parent=flow, params={"p": "v" * 100}))
    ids = [run.id for run in ln.select(ln.Run).all()]
    for columns in (40, 50, 80):
        for arguments, expected in (
            (["lineage", key], runs),
            (["show", key], runs),
            (["runs", "--tree"], ids),
        ):
            code, shown = in_terminal(*arguments, columns=columns)
            assert code == 0
            text = plain(shown).split("comes from\n")[-1]
            assert max(len(line) for line in text.splitlines()) <= columns
            assert [run_id for run_id in expected if run_id not in text] == []
            assert "v…v" in text
            assert all(f"clean_{number}" in text for number in range(8))
            assert arguments[0] == "runs" or all(f"{n}.csv" in text for n in range(8))
    _, shown = in_terminal("lineage", key, "--depth", "3", columns=40)
    words = re.sub(r"[^a-z0-9;-]+", " ", plain(shown))
    assert words.endswith("5 more runs upstream; --depth shows more ")


def test_a_deep_tree_has_narrower_guides_in_a_narrow_terminal(project: Path) -> None:
    step("first", outputs=("a.txt",))
    step("second", ("a.txt",), ("b.txt",))
    _, shown = in_terminal("lineage", "b.txt", columns=80)
    assert plain(shown).splitlines()[3].startswith("        └── by first")
    _, shown = in_terminal("lineage", "b.txt", columns=36)
    found = [line.split("  2")[0] for line in plain(shown).splitlines() if "└" in line]
    assert found == ["└ by second", "  └ a.txt  11 B", "    └ by first"]


@pytest.mark.parametrize("name", ["数据" * 40, " " * 100 + "x", "a  b " * 30, "🧪" * 40])
def test_odd_names_fit_the_terminal_too(project: Path, name: str) -> None:
    key = f"{name}.csv"
    step(name, outputs=(key,))
    for arguments in (["lineage", key], ["runs", "--tree"], ["files"]):
        code, shown = in_terminal(*arguments, columns=40)
        assert code == 0
        assert max(cell_len(line) for line in plain(shown).splitlines()) <= 40


def test_of_long_keys_the_end_stays_which_tells_them_apart(project: Path) -> None:
    step("acquire", outputs=tuple(f"assay/2026-11/raw counts/plate_{n}.csv" for n in (1, 2)))
    _, shown = in_terminal("files", columns=80)
    keys = [row[1] for row in lines(plain(shown))[1:]]
    assert [key[0] for key in keys] == ["…", "…"]
    assert [key[-12:] for key in keys] == ["/plate_2.csv", "/plate_1.csv"]


def test_a_package_that_is_missing_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr("lamindb.setup.info", fails)
    assert "No module named 'psycopg'" in refused("info")


def test_no_color_is_honoured(project: Path) -> None:
    step("a", outputs=("a.txt",))
    for arguments in (["runs"], ["show", "a.txt"]):
        code, shown = in_terminal(*arguments, NO_COLOR="1")
        assert code == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


# --- show ---------------------------------------------------------------------------------------


def tree(reference: str, *options: str) -> list[str]:
    """Return the way back as it is shown, without times and ids."""
    text = lamin("show", reference, *options)
    shown = text[text.index("comes from\n") :].splitlines()[1:]
    return [re.sub(r"  \d{4}-.*?run \w{20}", "", line) for line in shown]


def test_show_tells_where_a_file_comes_from(project: Path) -> None:
    study()
    assert tree("report.html") == [
        "report.html",
        "└── by report",
        "    ├── fit.csv  11 B",
        "    │   └── by fit",
        "    │       └── clean.csv  15 B",
        "    │           └── by clean  max_z=3.5",
        "    │               ├── raw/1.csv  17 B",
        "    │               │   └── by acquire",
        "    │               └── raw/2.csv  17 B",
        "    │                   └── by acquire",
        "    └── plot.png  13 B",
        "        └── by plot",
        "            └── clean.csv  15 B",
        "                └── by clean  max_z=3.5",
        "                    └── … as above",
    ]


def test_show_finds_a_record_by_whatever_names_it(project: Path) -> None:
    runs = study()
    file = ln.select(ln.File, key="raw/1.csv").one()
    for reference in (file.id, "raw/1.csv", "mydata/raw/1.csv", str(project / "mydata/raw/1.csv")):
        assert lamin_json("show", reference)["file"]["id"] == file.id
    other = project / "other.txt"
    other.write_text("other")
    added = ln.add(ln.File(other, key="deep/renamed.txt", name="Other"))
    for reference in ("other.txt", "./other.txt", "Other"):
        assert lamin_json("show", reference)["file"]["id"] == added.id

    assert lamin_json("show", runs["fit"].id)["run"]["id"] == runs["fit"].id
    transform_id = runs["fit"].transform_id
    for reference in ("fit", transform_id):
        assert lamin_json("show", reference)["transform"]["id"] == transform_id


def test_a_path_with_dots_or_through_a_link_is_found(project: Path) -> None:
    inner = project / "inner"
    inner.mkdir()
    (project / "alink").symlink_to(inner)
    (inner / "real.csv").write_text("real")
    (inner / "own.csv").symlink_to("real.csv")
    recorded = {}
    for name in ("real.csv", "own.csv"):
        recorded[name] = ln.add(ln.File(inner / name, key=f"kept/{name}")).id
    step("make", outputs=("stored.csv",))
    recorded["stored.csv"] = ln.select(ln.File, key="stored.csv").one().id
    os.chdir(inner)
    for reference, name in (
        ("../inner/real.csv", "real.csv"),
        (f"{project}/alink/../inner/real.csv", "real.csv"),
        ("../alink/real.csv", "real.csv"),
        ("../alink/own.csv", "own.csv"),
        ("own.csv", "own.csv"),
        ("../mydata/stored.csv", "stored.csv"),
    ):
        assert lamin_json("show", reference)["file"]["id"] == recorded[name], reference
    # found by the whole way, where nothing is recorded under the name of the link itself
    (project / "other.csv").symlink_to(inner / "real.csv")
    assert lamin_json("show", "../other.csv")["file"]["id"] == recorded["real.csv"]


def test_show_finds_an_object_by_its_url(bucket: str) -> None:
    ln.setup.init(f"{bucket}/study")
    file = step("a", outputs=("x/a.txt",)).outputs[0]
    assert lamin_json("show", f"{bucket}/study/x/a.txt")["file"]["id"] == file.id
    assert f"{bucket}/study/x/a.txt" in lamin("show", "x/a.txt")


def test_show_says_what_it_looked_for(project: Path) -> None:
    assert refused("show", "typo\x1b[31m").startswith(
        r"Error: nothing is recorded as 'typo\x1b[31m'"
    )


def test_show_of_a_file_says_who_made_it_and_where_it_lies(project: Path) -> None:
    runs = study()
    file = ln.select(ln.File, key="fit.csv").one()
    text = lamin("show", "fit.csv")
    fields = dict(line.split(None, 1) for line in text.split("\n\n")[0].splitlines())
    assert fields["file"] == file.id
    assert fields["key"] == "fit.csv"
    assert fields["size"] == "11 B"
    assert fields["hash"] == f"{file.hash} (md5)"
    assert fields["path"] == str(project / "mydata/fit.csv")
    assert fields["source"] == str(project / "source.txt")
    assert fields["run"] == f"{runs['fit'].id}, fit"
    assert fields["added"].endswith(" by testuser")


def test_show_of_an_older_version_says_so_and_what_it_was_made_from(project: Path) -> None:
    step("first", outputs=("a.txt",))
    old = ln.select(ln.File).one()
    step("read", ("a.txt",), ("b.txt",))
    step("second", outputs=("a.txt",))
    new = ln.select(ln.File, key="a.txt").one()

    assert tree("b.txt") == [
        "b.txt",
        "└── by read",
        "    └── a.txt  11 B  an older version",
        "        └── by first",
    ]
    assert tree(old.id) == ["a.txt", "└── by first"]
    assert f"an older one: the latest is {new.id}" in lamin("show", old.id)
    assert lamin_json("show", "a.txt")["file"]["id"] == new.id


def test_a_file_whose_object_is_gone_is_said_to_be(project: Path) -> None:
    step("first", outputs=("a.txt",))
    step("read", ("a.txt",), ("b.txt",))
    (project / "mydata/a.txt").unlink()
    assert tree("b.txt") == [
        "b.txt",
        "└── by read",
        "    └── a.txt  11 B  gone",
        "        └── by first",
    ]
    assert tree("a.txt") == ["a.txt  gone", "└── by first"]
    assert re.search(r"^path .*a\.txt, gone$", lamin("show", "a.txt"), re.MULTILINE)
    assert not re.search(r"^path .* gone$", lamin("show", "b.txt"), re.MULTILINE)


def test_a_file_that_was_changed_after_its_run_is_said_to_be(project: Path) -> None:
    study()
    (project / "mydata/fit.csv").write_text("much more than the run wrote")
    (project / "mydata/clean.csv").write_text("clean CLEAN.csv")  # as many bytes as before
    assert tree("fit.csv") == [
        "fit.csv  changed since",
        "└── by fit",
        "    └── clean.csv  15 B  changed since",
        "        └── by clean  max_z=3.5",
        "            ├── raw/1.csv  17 B",
        "            │   └── by acquire",
        "            └── raw/2.csv  17 B",
        "                └── by acquire",
    ]
    assert re.search(r"^path .*fit\.csv, changed since$", lamin("show", "fit.csv"), re.MULTILINE)
    assert "changed since" not in lamin("show", "raw/1.csv")
    # touched, but with its own bytes again
    (project / "mydata/clean.csv").write_text("clean clean.csv")
    assert "changed since" not in lamin("show", "clean.csv")
    assert lamin("lineage", "clean.csv", "--downstream").count("changed since") == 1
    (project / "mydata/fit.csv").unlink()
    (project / "mydata/fit.csv").mkdir()
    assert tree("fit.csv")[0] == "fit.csv  changed since"


def test_stale_says_of_which_files_the_object_is_gone(project: Path) -> None:
    study()
    step("acquire", outputs=("raw/1.csv",), content="newer")
    (project / "mydata/fit.csv").unlink()
    (project / "mydata/report.html").write_text("by hand")
    shown = [re.split("  +", line)[0] for line in lamin("stale").splitlines()[1:]]
    assert sorted(shown) == ["clean.csv", "fit.csv, gone", "plot.png", "report.html, changed since"]
    assert ", gone" not in lamin("stale", "--no-disk")
    assert {row["file"] for row in lamin_json("stale")} >= {"fit.csv", "report.html"}


def test_show_of_a_run_lists_what_it_read_and_wrote(project: Path) -> None:
    runs = study()
    text = lamin("show", runs["clean"].id)
    assert re.search(r"^transform +clean \(pipeline\)", text, re.MULTILINE)
    assert re.search(r'^params +\{"max_z": 3.5\}$', text, re.MULTILINE)
    assert re.search(r"^status +completed$", text, re.MULTILINE)
    assert [row[1] for row in lines(text[text.index("\nread\n") :]) if len(row) > 1] == [
        "raw/1.csv",
        "raw/2.csv",
        "clean.csv",
    ]
    shown = lamin_json("show", runs["clean"].id)
    assert [(file["role"], file["key"]) for file in shown["files"]] == [
        ("input", "raw/1.csv"),
        ("input", "raw/2.csv"),
        ("output", "clean.csv"),
    ]
    assert shown["transform"]["name"] == "clean"


def test_show_of_a_run_names_its_parent_and_its_children(project: Path) -> None:
    outer = ln.track(ln.Transform("outer"))
    Path("child.py").write_text("import lamindb as ln\nln.track()\n")
    subprocess.run([sys.executable, "child.py"], check=True)
    ln.finish()
    child = ln.select(ln.Run, name="child.py").one()
    assert re.search(rf"^parent +{outer.id}, outer$", lamin("show", child.id), re.MULTILINE)
    assert child.id in lamin("show", outer.id)
    assert [run["id"] for run in lamin_json("show", outer.id)["children"]] == [child.id]


def test_show_of_a_transform_lists_the_runs_of_all_versions(project: Path) -> None:
    Path("fit.py").write_text("import lamindb as ln\nln.track()\n")
    subprocess.run([sys.executable, "fit.py"], check=True)
    Path("fit.py").write_text("import lamindb as ln\nln.track()\n# changed\n")
    subprocess.run([sys.executable, "fit.py"], check=True)

    text = lamin("show", "fit.py")
    assert re.search(r"^version +1$", text, re.MULTILINE)
    runs = [row for row in lines(text[text.index("latest runs") :]) if len(row) > 1]
    assert [row[1] for row in runs] == ["v1", "v0"]
    assert len(lamin_json("show", "fit.py")["runs"]) == 2


def test_a_file_that_several_runs_wrote_names_them_all(project: Path) -> None:
    step("first", outputs=("a.txt",), content="same")
    step("again", outputs=("a.txt",), content="same")
    assert tree("a.txt") == ["a.txt", "├── by first", "└── also by again"]


def test_a_file_without_a_run_says_so(project: Path) -> None:
    Path("raw.txt").write_text("raw")
    ln.add(ln.File("raw.txt", key="raw.txt"))
    assert tree("raw.txt") == ["raw.txt", "└── no recorded run"]


def test_a_run_that_reads_and_writes_one_file_is_walked_once(project: Path) -> None:
    step("make", outputs=("a.txt",), content="same")
    step("rewrite", ("a.txt",), ("a.txt",), content="same")
    assert tree("a.txt") == [
        "a.txt",
        "├── by make",
        "└── also by rewrite",
        "    └── a.txt  4 B",
        "        ├── by make",
        "        └── also by rewrite",
        "            └── … as above",
    ]
    assert len(lamin_json("show", "a.txt")["lineage"]["links"]) == 3


def chain(length: int) -> None:
    step("step 0", outputs=("0.txt",))
    here = instance.current()
    # as the runs before, without what tracking costs
    file, run = ln.select(ln.File).one(), ln.select(ln.Run).one()
    from sqlalchemy import insert

    from lamindb.db import schema

    runs, files, links = [], [], []
    for number in range(1, length):
        runs.append({**run._values(), "id": f"run{number:017}"})
        key = f"{number}.txt"
        files.append(
            {**file._values(), "id": f"file{number:016}", "key": key, "run_id": runs[-1]["id"]}
        )
        before = file.id if number == 1 else f"file{number - 1:016}"
        for file_id, role in ((before, "input"), (files[-1]["id"], "output")):
            links.append(
                {"run_id": runs[-1]["id"], "file_id": file_id, "role": role, "how": "declared"}
            )
    with here.database.begin() as connection:
        connection.execute(insert(schema.run), runs)
        connection.execute(insert(schema.file), files)
        connection.execute(insert(schema.run_file), links)


def test_a_long_way_back_is_cut_with_a_hint_and_shown_whole_when_asked_for(project: Path) -> None:
    chain(500)
    shown = tree("499.txt")
    assert len(shown) == 1 + 2 * 10 + 1
    assert shown[-1].strip() == "└── … 490 more runs upstream; --depth shows more"
    assert [line.strip() for line in tree("499.txt", "--depth", "1")] == [
        "499.txt  gone",  # of all but the first there is no object
        "└── by step 0",
        "└── 498.txt  12 B  gone",
        "└── … 499 more runs upstream; --depth shows more",
    ]
    whole = tree("499.txt", "--depth", "500")
    assert len(whole) == 2 * 500
    assert whole[-1].strip() == "└── by step 0"
    assert len(lamin_json("show", "499.txt")["lineage"]["runs"]) == 500
    code, text = in_terminal("show", "499.txt", "--depth", "500")
    assert code == 0
    assert "498.txt" in text
    assert "  0.txt" in text.replace("\x1b[", " ")


def test_a_wide_way_back_is_shown_in_good_time(project: Path) -> None:
    chain(2)
    from sqlalchemy import insert

    from lamindb.db import schema

    file = ln.select(ln.File, key="0.txt").one()
    run_id = ln.select(ln.File, key="1.txt").one().run_id
    files = [{**file._values(), "id": f"wide{n:016}", "key": f"wide/{n}"} for n in range(3000)]
    links = [
        {"run_id": run, "file_id": each["id"], "role": role, "how": "declared"}
        for each in files
        for run, role in ((run_id, "input"), (file.run_id, "output"))
    ]
    with instance.current().database.begin() as connection:
        connection.execute(insert(schema.file), files)
        connection.execute(insert(schema.run_file), links)
    assert len(tree("1.txt")) == 2 + 2 * 3001


def test_a_run_whose_start_is_not_known_yet_does_not_stop_show(project: Path) -> None:
    step("first", outputs=("a.txt",), content="same")
    stub = step("again", outputs=("a.txt",), content="same")
    with closing(sqlite3.connect("mydata/.lamindb/lamindb.sqlite")) as connection, connection:
        connection.execute("UPDATE run SET started_at = NULL WHERE id = ?", [stub.id])
        connection.execute("UPDATE run SET transform_id = NULL WHERE id = ?", [stub.id])
    assert [line.split()[-1] for line in tree("a.txt")[1:2]] == ["first"]
    lamin("show", stub.id)
    lamin("runs")


# --- doctor -------------------------------------------------------------------------------------


def findings(*options: str, code: int = 1) -> dict[str, dict[str, Any]]:
    found = lamin_json("doctor", *options, code=code)
    return {each["problem"]: each for each in found}


def test_a_sound_instance_has_no_findings(project: Path) -> None:
    study()
    step("again", outputs=("clean.csv",))
    assert lamin("doctor") == "Everything is as recorded.\n"
    assert lamin("doctor", "--hash", "--fix") == "Everything is as recorded.\n"
    assert lamin_json("doctor") == []


def test_doctor_leaves_the_files_of_nested_storages_and_instances_to_those(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project / "mydata/inner"
    inner.mkdir()
    ln.add(ln.Storage(inner))
    (inner / "x.txt").write_text("x")
    ln.add(ln.File(inner / "x.txt"))
    ln.setup.init(project / "mydata/deep", name="deep")
    monkeypatch.setenv("LAMINDB_INSTANCE", str(project / "mydata"))
    (project / "mydata/sub/.lamindb").mkdir(parents=True)
    (project / "mydata/sub/.lamindb/instance.toml").write_text("of a project folder")
    (inner / "unknown.txt").write_text("?")
    assert findings().keys() == {"object-unrecorded"}
    [found] = lamin_json("doctor", code=1)
    assert found["subject"] == str(inner / "unknown.txt")


def test_doctor_leaves_the_files_of_nested_buckets_to_those(bucket: str, tmp_path: Path) -> None:
    ln.setup.init(bucket, db=f"sqlite:///{tmp_path}/records.sqlite")
    ln.add(ln.Storage(f"{bucket}/inner"))
    (UPath(bucket) / "inner" / "x.txt").write_text("x")
    ln.add(ln.File(f"{bucket}/inner/x.txt"))
    assert lamin_json("doctor") == []


def test_doctor_finds_what_was_done_to_objects_and_leaves_it_to_people(project: Path) -> None:
    study()
    (project / "mydata/clean.csv").unlink()
    (project / "mydata/fit.csv").write_text("something longer than before")
    (project / "mydata/plot.png").write_text("x" * 13)
    (project / "mydata/own").mkdir()
    (project / "mydata/own/notes.txt").write_text("mine")

    found = findings("--fix")
    assert set(found) == {"object-missing", "object-changed", "object-unrecorded"}
    assert "clean.csv" in found["object-missing"]["message"]
    assert "fit.csv" in found["object-changed"]["message"]
    assert found["object-unrecorded"]["subject"] == str(project / "mydata/own/notes.txt")
    assert not any(each["mended"] for each in found.values())
    assert (project / "mydata/own/notes.txt").exists()

    text = lamin("doctor", code=1)
    assert text.splitlines()[-1] == "3 findings."
    hashed = lamin_json("doctor", "--hash", code=1)
    changed = [each["message"] for each in hashed if each["problem"] == "object-changed"]
    assert len(changed) == 2
    assert any("plot.png" in message for message in changed)


def killed(code: str) -> None:
    """Run code in a process that kills itself."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=f"import os\nimport lamindb as ln\n{code}",
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    instance.reset()


def test_doctor_finds_a_dead_run_and_fix_marks_it_as_aborted(project: Path) -> None:
    killed("ln.track(ln.Transform('x'))\nos.kill(os.getpid(), 9)")
    found = findings()["dead-run"]
    assert findings()["dead-run"] == found  # looking alone mends nothing
    assert found["mended"] is False

    mended = findings("--fix", code=0)["dead-run"]
    assert mended == {**found, "mended": True}
    assert ln.select(ln.Run, id=found["subject"]).one().status == "aborted"
    assert lamin("doctor") == "Everything is as recorded.\n"


def test_doctor_finds_an_interrupted_add_and_fix_undoes_it(project: Path) -> None:
    killed(
        "from pathlib import Path\n"
        "from lamindb.storage.store import Store\n"
        "Path('a.txt').write_text('a')\n"
        "Store.place = lambda *_: os.kill(os.getpid(), 9)\n"
        "ln.add(ln.File('a.txt', key='a.txt'))"
    )
    assert "interrupted add" in findings()["interrupted"]["message"]
    text = lamin("doctor", "--fix")
    assert text.startswith("mended  interrupted")
    assert text.splitlines()[-1] == "1 finding, mended."
    assert lamin("doctor") == "Everything is as recorded.\n"
    assert ln.select(ln.File).count() == 0
    assert list((project / "mydata").rglob("*.new")) == []


def test_doctor_finds_a_storage_that_cannot_be_reached(project: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    other = ln.add(ln.Storage(tmp_path / "disk"))
    step("a", outputs=("a.txt",))
    shutil.rmtree(tmp_path / "disk")
    found = findings()
    assert set(found) == {"storage"}
    assert found["storage"]["subject"] == other.id
    assert "is gone" in found["storage"]["message"]
    (project / "mydata/.lamindb/storage_id").unlink()
    assert [each["problem"] for each in lamin_json("doctor", code=1)] == ["storage", "storage"]


def test_doctor_finds_a_damaged_index(project: Path) -> None:
    step("a")
    instance.reset()
    # an index that lacks one row, as after a crash of a disk
    with closing(
        sqlite3.connect("mydata/.lamindb/lamindb.sqlite", isolation_level=None)
    ) as connection:
        ((kind, name, table, page, sql),) = connection.execute(
            "SELECT * FROM sqlite_master WHERE name LIKE 'ix_run_status_started_at_id'"
        ).fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", [name])
    with closing(
        sqlite3.connect("mydata/.lamindb/lamindb.sqlite", isolation_level=None)
    ) as connection:
        connection.execute("UPDATE run SET status = 'failed'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", [kind, name, table, page, sql]
        )
    found = findings()["database"]
    assert "index" in found["message"]
    assert "backup" in found["message"]


def distribution(folder: Path, name: str, **files: str) -> Path:
    """Lay out an installed distribution, as pip would, in a folder for PYTHONPATH."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for file, content in files.items():
        (info / f"{file}.txt").write_text(content)
    return folder


def test_doctor_finds_another_distribution_with_this_import_name(
    project: Path, tmp_path: Path
) -> None:
    place = distribution(tmp_path / "site", "lamindb", top_level="lamindb\n")
    done = spawn("doctor", PYTHONPATH=f"{place}{os.pathsep}{os.environ['PYTHONPATH']}")
    assert done.returncode == 1
    assert "the distribution lamindb also owns the import name 'lamindb'" in done.stdout
    assert "pip uninstall lamindb" in done.stdout
    assert done.stderr == ""


def test_db_upgrade_says_that_there_is_nothing_to_do(project: Path) -> None:
    assert "as it should be" in lamin("db", "upgrade")


# --- plugins ------------------------------------------------------------------------------------

PLUGIN = """
import click
from lamindb.hooks import hookimpl

@click.command()
@click.argument("name", default="you")
def hello(name):
    "Greet somebody."
    if name == "nobody":
        raise KeyError(name)
    click.echo(f"hello {name}")

@hookimpl
def ln_cli(group):
    group.add_command(hello)
"""


def test_a_plugins_command_is_one_of_lamin(tmp_path: Path) -> None:
    place = distribution(
        tmp_path / "site", "greeter", entry_points="[lamindb]\ngreeter = greeter_plugin\n"
    )
    (place / "greeter_plugin.py").write_text(PLUGIN)
    path = {"PYTHONPATH": f"{place}{os.pathsep}{os.environ['PYTHONPATH']}"}

    assert re.search(r"^  hello +Greet somebody\.$", spawn("--help", **path).stdout, re.MULTILINE)
    assert spawn("hello", "world", **path).stdout == "hello world\n"
    failed = spawn("hello", "nobody", **path)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: KeyError: 'nobody'")
    assert failed.stderr.count("\n") == 1
    assert spawn("hello", **path, LAMINDB_BLOCK="greeter").returncode == 2


@pytest.fixture
def register() -> Any:
    added = []

    def add(act: Callable[[click.Group], None]) -> None:
        plugin = SimpleNamespace(ln_cli=hookimpl(act))
        plugins().register(plugin)
        added.append(plugin)
        main.commands.clear()  # type: ignore[attr-defined] # asked for when they are next needed

    commands = dict(main.commands)  # type: ignore[attr-defined]
    yield add
    for plugin in added:
        plugins().unregister(plugin)
    main.commands.clear()  # type: ignore[attr-defined]
    main.commands.update(commands)  # type: ignore[attr-defined]


def test_a_plugin_cannot_take_the_name_of_a_command_of_ours(project: Path, register: Any) -> None:
    register(lambda group: group.add_command(click.Command("files", help="Mine.")))
    assert "Mine." not in lamin("--help")
    assert lamin("files") == "No files yet.\n"


def test_a_plugin_that_fails_does_not_take_the_help_with_it(
    register: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(group: click.Group) -> None:
        raise RuntimeError("broken")

    register(fails)
    assert "Commands:" in lamin("--help")
    assert "failed in ln_cli: RuntimeError: broken" in caplog.text


def test_a_tree_of_runs_says_what_was_run_and_where_it_leaves_something_out(project: Path) -> None:
    flow = ln.add(ln.Run(ln.Transform("dose_response"), name="olive-camel"))
    params = {"path": "x" * 200}
    ln.add(ln.Run(ln.Transform("clean"), name="clean-bbe", parent=flow, params=params))
    top, below = lamin("runs", "--tree").splitlines()
    assert top.startswith("dose_response olive-camel  started")
    assert below.startswith("└── clean-bbe  started")
    assert "x…  " in below
