"""The guide runs as it stands, in a real kernel and as a script; notebooks know who they are."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from lamindb import config, instance

pytestmark = [pytest.mark.observing, pytest.mark.databases("full")]

GUIDE = Path(__file__).parent.parent / "docs" / "guide" / "track-files.md"
CELLS = [
    "import lamindb as ln",
    "ln.track()",
    "filepath = ln.dev.datasets.file_jpg_paradisi05().resolve()",
    "filepath",
    'file = ln.File(filepath, key="images/paradisi05_laminopathic_nuclei.jpg")',
    "file",
    "file.run",
    '# a few checks\nassert file.hash == "r4tnqmKI_SjrkdLzpuWp4g"\n'
    "assert file.run == ln.context.run",
    "file = ln.add(file)",
    "ln.select(ln.File).df()",
    "ln.select(ln.Transform).df()",
    "ln.select(ln.Run).df()",
    "!ls ./mydata",
    "ln.setup.settings.storage.root",
    "file.stage()",
    "file.path()",
    'file = ln.select(ln.File, name="paradisi05_laminopathic_nuclei.jpg").one()\n\nfile',
]
CHECKS = 7
PICTURES_HASH = 'assert file.hash == "r4tnqmKI_SjrkdLzpuWp4g"'
# what the line says of the stand-in that takes the picture's place without a network
STAND_INS_HASH = "assert len(file.hash) == 22"


def fences(language: str) -> list[str]:
    found = re.findall(
        rf"^```{language}\n(.*?)\n```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return list(found)


def shown() -> dict[str, str]:
    """Return what the guide says that a cell prints."""
    text = GUIDE.read_text(encoding="utf-8")
    pairs = re.findall(
        r"^```python\n([^`]*?)\n```\n\n```text\n([^`]*?)\n```$", text, re.MULTILINE | re.DOTALL
    )
    return dict(pairs)


@pytest.fixture
def project() -> Path:
    """An instance in the working directory."""
    ln.setup.init("./mydata")
    instance.reset()
    return Path.cwd()


@pytest.fixture
def guided() -> Path:
    """An instance in the working directory, made on the command line as the guide says."""
    (command,) = fences("bash")
    name, *arguments = command.split()
    assert name == "lamin"
    done = subprocess.run(
        [sys.executable, "-m", "lamindb", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return Path.cwd()


def write_notebook(path: Path, cells: list[str], title: str | None = None) -> Any:
    import nbformat

    v4 = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    if title is not None:
        notebook.cells.insert(0, v4.new_markdown_cell(f"Some words.\n\n# {title}\n\nMore words."))
    nbformat.write(notebook, path)
    return notebook


def execute(notebook: Any) -> list[list[dict[str, Any]]]:
    """Run a notebook in a kernel that knows only its folder; return each code cell's outputs."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(Path.cwd())}}
    NotebookClient(notebook, allow_errors=True, resources=resources, timeout=40).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def run_notebook(
    cells: list[str], name: str = "study.ipynb", title: str | None = None
) -> list[list[dict[str, Any]]]:
    """Write and run a notebook in which no cell may fail; return each code cell's outputs."""
    outputs = execute(write_notebook(Path(name), cells, title))
    assert errors(outputs) == {}
    return outputs


def errors(outputs: list[list[dict[str, Any]]]) -> dict[int, str]:
    """Return the traceback of each cell that failed, without colours."""
    return {
        number: re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]))
        for number, cell in enumerate(outputs)
        for output in cell
        if output["output_type"] == "error"
    }


def printed(cell: list[dict[str, Any]]) -> str:
    """Return what a cell shows: its value and its standard output."""
    texts = [
        output["data"]["text/plain"] if "data" in output else output["text"]
        for output in cell
        if "data" in output or output.get("name") == "stdout"
    ]
    return "\n".join(texts).strip()


def warned(outputs: list[list[dict[str, Any]]]) -> str:
    return "".join(
        output["text"] for cell in outputs for output in cell if output.get("name") == "stderr"
    )


# --- the guide ----------------------------------------------------------------------------------


def test_the_guide_has_exactly_these_cells() -> None:
    assert fences("python") == CELLS
    assert fences("bash") == ["lamin init --storage ./mydata"]


def test_without_a_network_only_the_check_of_the_pictures_hash_fails(guided: Path) -> None:
    outputs = execute(write_notebook(Path("track-files.ipynb"), fences("python"), "Track files"))

    assert list(errors(outputs)) == [CHECKS]
    traceback = errors(outputs)[CHECKS]
    assert "AssertionError" in traceback
    (arrow,) = [line for line in traceback.splitlines() if line.startswith("---->")]
    assert PICTURES_HASH in arrow
    assert "generated stand-in" in warned(outputs)


def test_everything_else_runs_to_the_end_and_prints_what_the_guide_says(guided: Path) -> None:
    cells = [source.replace(PICTURES_HASH, STAND_INS_HASH) for source in fences("python")]
    assert cells != fences("python")
    outputs = run_notebook(cells, "track-files.ipynb", "Track files")

    for source, expected in shown().items():
        actual = printed(outputs[CELLS.index(source)])
        assert typical(actual, guided) == typical(expected, Path("/home/me/study"))
    file = ln.select(ln.File).one()
    run = ln.select(ln.Run).one()
    assert file.key == "images/paradisi05_laminopathic_nuclei.jpg"
    assert file.run == run
    assert (run.status, run.error) == ("completed", None)
    assert run.inputs == []  # it looked at what it had itself written
    transform = ln.select(ln.Transform).one()
    assert run.transform == file.transform == transform
    assert (transform.name, transform.title) == ("track-files.ipynb", "Track files")


def typical(text: str, folder: Path) -> str:
    """Leave out what differs from one machine, picture and time to the next."""
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"size=\d+", "size=SIZE", text)
    text = re.sub(r"hash='[\w-]{22}'", "hash='HASH'", text)
    return re.sub(r"id='[0-9A-Za-z]{12,20}'", "id='ID'", text)


def script_of_the_guide() -> str:
    return "\n".join(source for source in fences("python") if not source.startswith("!"))


def test_the_cells_are_a_script_too(guided: Path) -> None:
    code = script_of_the_guide()
    Path("guide.py").write_text(code.replace(PICTURES_HASH, STAND_INS_HASH))
    done = subprocess.run([sys.executable, "guide.py"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert ln.select(ln.File).one().run.status == "completed"
    assert ln.select(ln.Transform).one().type == "script"


@pytest.mark.full
def test_the_script_stops_at_the_pictures_hash_without_a_network(guided: Path) -> None:
    Path("guide.py").write_text(script_of_the_guide())
    done = subprocess.run([sys.executable, "guide.py"], capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "AssertionError"
    assert PICTURES_HASH in done.stderr[done.stderr.index("Traceback") :]
    run = ln.select(ln.Run).one()
    assert (run.status, run.error) == ("failed", "AssertionError")
    assert ln.select(ln.File).count() == 0


def test_the_other_way_to_track_runs_as_well(guided: Path) -> None:
    (code,) = fences("py")
    Path("pipeline.py").write_text(f"import lamindb as ln\n{code}\n")
    done = subprocess.run([sys.executable, "pipeline.py"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    found = ln.select(ln.Run).one().transform
    assert (found.name, found.type) == ("My script", "pipeline")


# --- which notebook, and which run --------------------------------------------------------------

TRACK = "import lamindb as ln\nrun = ln.track()"


def transform_in(outputs: list[list[dict[str, Any]]]) -> ln.Transform:
    assert errors(outputs) == {}
    found: ln.Transform = ln.select(ln.Run).all()[-1].transform
    return found


def test_a_notebook_is_found_by_the_cell_that_is_executed(project: Path) -> None:
    # as JupyterLab's neighbours: another notebook, one that is none, one that is damaged
    write_notebook(project / "other.ipynb", ["print('other')"], "Other")
    (project / "text.ipynb").write_text("no notebook")
    (project / "list.ipynb").write_text("[1]")
    outputs = run_notebook(["x = 1", f"%matplotlib --list\n{TRACK}"], "mine.ipynb", "Mine")

    found = transform_in(outputs)
    assert (found.name, found.title, found.type) == ("mine.ipynb", "Mine", "notebook")
    assert found.key == f"{ln.select(ln.Storage).one().id}/mine.ipynb"
    assert found.reference == str(project / "mine.ipynb")
    assert warned(outputs) == ""


@pytest.mark.parametrize("holders", [0, 2])
def test_a_notebook_that_cannot_be_told_is_recorded_under_its_folder_with_one_warning(
    project: Path, holders: int
) -> None:
    notebook = write_notebook(project / "a.ipynb", [TRACK, TRACK, "ln.track(new_run=True)"])
    if holders:
        write_notebook(project / "b.ipynb", [TRACK])
    else:
        (project / "a.ipynb").unlink()
    outputs = execute(notebook)

    found = transform_in(outputs)
    assert (found.name, found.type, found.version) == (project.name, "notebook", "0")
    assert ln.select(ln.Transform).count() == 1
    assert warned(outputs).count("does not know its notebook") == 1
    assert "LAMINDB_NOTEBOOK=path/to/it.ipynb" in warned(outputs)
    assert "plugin.py" not in warned(outputs)  # it points at the user's own line


def test_the_environment_names_the_notebook(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = write_notebook(project / "a.ipynb", [TRACK])
    write_notebook(project / "b.ipynb", [TRACK], "B")
    monkeypatch.setenv("LAMINDB_NOTEBOOK", "b.ipynb")
    outputs = execute(notebook)

    found = transform_in(outputs)
    assert (found.name, found.title) == ("b.ipynb", "B")
    assert warned(outputs) == ""


def test_jupyter_and_papermill_name_it_too_unless_the_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.notebook_path() is None
    for variable in ("JPY_SESSION_NAME", "PAPERMILL_INPUT_PATH", "LAMINDB_NOTEBOOK"):
        path = tmp_path / f"{variable}.ipynb"
        monkeypatch.setenv(variable, str(path))
        assert config.notebook_path() != path  # it is not there
        write_notebook(path, ["pass"])
        assert config.notebook_path() == path
    # Jupyter gives consoles and other documents a session name, too
    monkeypatch.delenv("LAMINDB_NOTEBOOK")
    monkeypatch.delenv("PAPERMILL_INPUT_PATH")
    monkeypatch.setenv("JPY_SESSION_NAME", __file__)
    assert config.notebook_path() is None


@pytest.mark.full
def test_a_variable_of_ours_that_names_no_notebook_is_reported(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMINDB_NOTEBOOK", "typo.ipynb")
    outputs = run_notebook([TRACK, TRACK + " "], "a.ipynb")

    assert transform_in(outputs).name == "a.ipynb"
    assert warned(outputs).count("LAMINDB_NOTEBOOK='typo.ipynb' is no notebook") == 1


def test_vs_code_names_the_notebook(project: Path) -> None:
    path = project / "sub" / "code.ipynb"
    path.parent.mkdir()
    write_notebook(path, ["pass"], "VS Code")
    notebook = write_notebook(project / "a.ipynb", [f"__vsc_ipynb_file__ = {str(path)!r}", TRACK])
    found = transform_in(execute(notebook))
    assert (found.name, found.title) == ("code.ipynb", "VS Code")


def test_a_kernel_session_is_one_run_until_new_run_asks_for_another(project: Path) -> None:
    outputs = run_notebook(
        [
            f"{TRACK}\nfirst = run",
            TRACK,
            "assert run == first == ln.context.run\n"
            "second = ln.track(new_run=True)\n"
            "assert second != first",
            "print(first.status, second.parent_id, ln.context.run == second)",
            "third = ln.track(new_run=True)\nawait __import__('asyncio').sleep(0)",
            "print(second.status, third.parent_id, ln.context.run == third)",
            "ln.track() == third",
            "step = ln.track(ln.Transform('step', type='notebook'))\n"
            "ln.track(ln.Transform('step', type='notebook')) == step",
            "print(third.status, step.parent_id, ln.context.run == step)",
            "ln.finish()\nln.context.run",
        ]
    )
    assert [printed(cell) for cell in outputs] == [
        "",
        "",
        "",
        "completed None True",
        "",
        "completed None True",
        "True",
        "True",
        "completed None True",
        "",
    ]
    assert [run.status for run in ln.select(ln.Run).all()] == ["completed"] * 4
    assert ln.select(ln.Transform).count() == 2


def test_a_changed_notebook_is_a_new_version_and_the_same_code_reuses_its_own(
    project: Path,
) -> None:
    # words may change: what counts is code
    for code, title in (("# a", "A"), ("# b", "B"), ("# a", "C")):
        run_notebook([TRACK, code], title=title)

    found = [(run.transform_id, run.transform_version) for run in ln.select(ln.Run).all()]
    assert [version for _, version in found] == ["0", "1", "0"]
    assert len({transform_id for transform_id, _ in found}) == 1
    assert [each.title for each in ln.select(ln.Transform).all()] == ["A", "B"]


@pytest.mark.full
def test_a_notebook_that_is_edited_while_it_runs_stays_one_run_of_one_version(
    project: Path,
) -> None:
    edit = (
        "import json, pathlib\n"
        "path = pathlib.Path('study.ipynb')\n"
        "content = json.loads(path.read_text())\n"
        "content['cells'][-1]['source'] = ['# edited']\n"
        "path.write_text(json.dumps(content))"
    )
    run_notebook([TRACK, edit, TRACK, "pass"])
    assert ln.select(ln.Run).count() == 1
    assert ln.select(ln.Transform).count() == 1


def test_a_notebook_in_the_top_folder_of_a_repository_is_keyed_by_the_remote(project: Path) -> None:
    subprocess.run(["git", "init"], check=True, capture_output=True)
    remote = "https://token@example.org/lab/study.git"
    subprocess.run(["git", "remote", "add", "origin", remote], check=True)
    run_notebook([TRACK])
    assert ln.select(ln.Transform).one().key == "example.org/lab/study/study.ipynb"

    notebook = write_notebook(project / "study.ipynb", ["pass"])
    notebook.cells[0].source = TRACK
    outputs = execute(notebook)
    assert transform_in(outputs).key == "example.org/lab/study/*.ipynb"


def test_what_a_subprocess_of_a_notebook_tracks_is_a_child_of_its_run(project: Path) -> None:
    Path("child.py").write_text("import lamindb as ln\nln.track()\n")
    outputs = run_notebook(
        [TRACK, f"import subprocess\nsubprocess.run([{sys.executable!r}, 'child.py']).returncode"]
    )
    assert printed(outputs[1]) == "0"
    child = ln.select(ln.Run, name="child.py").one()
    assert child.parent.name == "study.ipynb"


def test_each_cells_files_belong_to_the_run_of_the_session(project: Path) -> None:
    Path("a.txt").write_text("a")
    run_notebook(
        [
            TRACK,
            "ln.add(ln.File('a.txt', key='a.txt')).run == run",
            "import asyncio, threading\n"
            "async def seen(): return ln.context.run\n"
            "assert await asyncio.create_task(seen()) == run\n"
            "found = []\n"
            "t = threading.Thread(target=lambda: found.append(ln.context.run))\n"
            "t.start(); t.join()\n"
            "assert found == [run]",
        ]
    )
    run = ln.select(ln.Run).one()
    assert [file.key for file in run.outputs] == ["a.txt"]
