"""``lamin serve``: a real server and a real browser; read only, and for this machine alone."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from markupsafe import escape
from sqlalchemy import event
from starlette.requests import Request
from starlette.responses import Response

import lamindb as ln
from chromium import chromium, watched
from lamindb import instance, recorder
from lamindb.cli import main
from lamindb.display import printable
from lamindb.web import pages, tables
from lineage_rows import Rows
from lineage_study import Teller, tell_study

pytestmark = pytest.mark.databases("full")
# which the module starts once
of_shared_server = pytest.mark.databases("sqlite")

LAMIN = [sys.executable, "-m", "lamindb"]
ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


# values of which none is a place in a table sorted so
FOREIGN: list[tuple[str, Any]] = [
    *(("size", [each, "a"]) for each in (10**30, True, "a", [1])),
    *(("name", [each, "a"]) for each in (["a"], True, None, "\ud800")),
    *(("created", [each, "a"]) for each in ({"at": "2026-01-01"}, "2026-01-01", {"at": 5}, {})),
    ("name", ["a"]), ("created", {"a": 1}),
]  # fmt: skip


def cursor_of(values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@dataclass
class Server:
    """A server that runs, and the folder of its project."""

    url: str
    folder: Path

    def get(self, path: str, **headers: str) -> tuple[int, str, HTTPMessage]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = urllib.request.Request(self.url + path, headers=names)
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers

    def page(self, path: str) -> str:
        status, text, _ = self.get(path)
        assert status == 200, text
        return text


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Give the module's server a home of its own, as each test has one."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "HOME",
            "XDG_CONFIG_HOME",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
        ):
            patch.setenv(name, str(home))
        patch.setenv("LAMINDB_USER", "testuser")
        yield patch


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, module_home: pytest.MonkeyPatch
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("project")
    module_home.chdir(folder)
    ln.setup.init("./mydata")
    tell_study(folder)
    Path("x").write_text("x")
    run = ln.track(ln.Transform(ATTACK, reference="javascript:alert(1)"), params={ATTACK: ATTACK})
    ln.add(ln.File("x", name=ATTACK, description=ATTACK))
    ln.finish()
    assert run is not None
    instance.reset()
    child = subprocess.Popen(
        [*LAMIN, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    assert child.stdout is not None
    try:
        said = child.stdout.readline()
        [url] = re.findall(r"http://127\.0\.0\.1:\d+", said)
        yield Server(url, folder)
    finally:
        child.terminate()
        assert child.wait(20) in (0, -15)
        child.stdout.close()


class Attributes(HTMLParser):
    """Collects what a browser's policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.inline_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        self.found |= names
        self.inline_scripts += tag == "script" and "src" not in names


def ids(page: str, kind: str) -> list[str]:
    return re.findall(rf'href="/{kind}/(\w{{20}})"', page)


@of_shared_server
def test_a_person_finds_a_file_its_run_and_its_lineage(server: Server, browser: Any) -> None:
    with watched(browser, server.url) as seen:
        page = seen.page
        assert page.locator(".counts").inner_text().split()[:2] in (
            ["27", "files"],
            ["30", "files"],  # with those of a workflow that another test follows
        )
        page.get_by_role("link", name="Files", exact=True).click()
        page.locator(".filters input[name=q]").fill("counts")
        page.locator("#table tbody tr:nth-child(7):last-child").wait_for()
        assert "q=counts" in page.url
        page.get_by_role("link", name="Size").click()
        assert page.locator(".filters input[name=q]").input_value() == "counts"
        page.get_by_role("link", name="counts.tsv", exact=True).click()
        assert page.locator("h1").inner_text() == "counts.tsv"
        seen.wait_drawn()
        assert "merge\n✓  3.2 s" in seen.labels()
        seen.click("merge")
        page.get_by_role("link", name="Open its page").click()
        assert page.locator("h1").inner_text() == "merge"
        assert "snakemake" in page.locator(".title .over").inner_text()
        assert page.get_by_role("link", name="Snakefile").count() == 1
        page.get_by_role("link", name="Lineage on a page of its own").click()
        seen.wait_drawn()
        assert page.locator("#ln-title").inner_text() == "merge"
        page.go_back()
        page.get_by_role("link", name="Transforms", exact=True).click()
        page.get_by_role("link", name="fit", exact=True).click()
        assert page.locator("section").nth(1).locator("tbody tr").count() == 5
        page.get_by_role("link", name="Out of date").click()
        rows = page.locator("main tbody tr").all_inner_texts()
        # but for the file of the workflow that another test follows, whose last run fails
        assert [row for row in rows if not row.startswith("drawn.end")] == []
        assert rows or "Nothing is out of date" in page.locator("main").inner_text()


@of_shared_server
def test_the_search_goes_to_what_it_knows_and_lists_what_it_guesses(
    server: Server, browser: Any
) -> None:
    with watched(browser, server.url) as seen:
        field = seen.page.get_by_role("searchbox", name="Find a record")
        for wanted, heading in (
            ("results/report.html", "results/report.html"),
            (str(server.folder / "best.json"), "best.json"),
            ("trim", "trim"),
            ("rimm", "Records like “rimm”"),
            ("no such thing", "Records like “no such thing”"),
        ):
            field.fill(wanted)
            field.press("Enter")
            seen.page.get_by_role("heading", name=heading, exact=True).wait_for()
        assert "Nothing that is recorded" in seen.page.locator("main").inner_text()


@of_shared_server
def test_a_failed_run_shows_its_error_and_attempts(server: Server, browser: Any) -> None:
    [run] = ids(server.page("/runs?status=failed&q=plot"), "runs")
    with watched(browser, f"{server.url}/runs/{run}", color_scheme="dark") as seen:
        text = seen.page.locator("main").inner_text()
        assert "no display, again" in text
        assert "Attempts" in text
        assert seen.page.locator("section", has_text="Attempts").locator("tbody tr").count() == 2
        seen.wait_drawn()


@of_shared_server
def test_a_workflow_that_runs_is_followed_to_its_end(server: Server, browser: Any) -> None:
    os.chdir(server.folder)
    ln.setup.load("./mydata")
    tell = Teller(server.folder)
    tell.clock.now = ln.Run().started_at  # type: ignore[assignment]
    flow = tell.start("prefect", "live", "live-flow")
    task = tell.start("prefect", "live-1", "live-task", parent=flow)
    assert recorder.flush()
    with watched(browser, f"{server.url}/runs/{flow}") as seen:
        tally = seen.page.locator(".tally")
        assert tally.inner_text() == "▶ started 1"
        tell.finish(task)
        tell.start("prefect", "live-2", "live-task", parent=flow)
        assert recorder.flush()
        seen.page.get_by_text("2 runs started by it").wait_for()
        assert tally.inner_text() == "✓ completed 1 · ▶ started 1"
        assert seen.page.locator(".meter rect").count() == 2
        listed = seen.page.context.new_page()
        listed.goto(f"{server.url}/runs")
        listed.get_by_text("live-flow").wait_for()
        assert listed.locator("tr", has_text="live-flow").locator(".status-started").count() == 1
        home = seen.page.context.new_page()
        home.goto(server.url)
        now = home.locator("section", has_text="Running now").locator("tr", has_text="live-flow")
        now.wait_for()
        tell.finish(flow, "failed", error="the end")
        assert recorder.flush()
        now.wait_for(state="detached")
        listed.locator("tr", has_text="live-flow").locator(".status-failed").wait_for()
        seen.page.get_by_text("the end").first.wait_for()


@pytest.mark.full
@of_shared_server
def test_the_picture_follows_a_workflow_and_stays_as_people_have_it(
    server: Server, browser: Any
) -> None:
    os.chdir(server.folder)
    ln.setup.load("./mydata")
    tell = Teller(server.folder)
    tell.clock.now = ln.Run().started_at  # type: ignore[assignment]
    Path("drawn.in").write_text("0")
    flow = tell.start("prefect", "drawn", "drawn-flow")
    one = tell.start("prefect", "drawn-1", "first", parent=flow)
    tell.read(one, "drawn.in")
    tell.write(one, "drawn.out", "1")
    assert recorder.flush()
    with watched(browser, f"{server.url}/runs/{flow}") as seen:
        page = seen.page
        seen.wait_drawn()
        page.evaluate("window.isTheSamePage = true")
        page.locator("#ln-canvas").scroll_into_view_if_needed()
        seen.click("first")
        assert "started" in seen.panel()
        seen.graph("(cy.zoom(0.8), cy.pan({x: 111, y: 222}), 1)")

        def place() -> list[float]:
            found = seen.graph(
                "[cy.zoom(), ...Object.values(cy.nodes(':selected').renderedPosition())]"
            )
            return [round(each, 3) for each in found]

        before = place()
        tell.finish(one)
        two = tell.start("prefect", "drawn-2", "second", parent=flow)
        tell.read(two, "drawn.out")
        tell.write(two, "drawn.end", "drawn.end")
        assert recorder.flush()
        seen.wait_for("cy.nodes().some(n => n.data('full') === 'drawn.end')")
        assert place() == before
        assert "completed" in seen.panel()
        assert seen.graph("cy.nodes(':selected').data('full')") == "first"
        drawn = page.locator("body").get_attribute("data-drawn")
        tell.finish(two, "failed", error="out of memory")
        tell.finish(flow, "failed", error="its end")
        assert recorder.flush()
        page.get_by_text("its end").first.wait_for()
        seen.wait_for("cy.nodes().filter(n => n.data('status') === 'failed').length === 2")
        assert place() == before
        # what is only of another colour is not laid out anew
        assert page.locator("body").get_attribute("data-drawn") == drawn
        assert page.evaluate("window.isTheSamePage")
        asked = len(seen.asked)
        page.wait_for_timeout(2500)
        assert len(seen.asked) == asked  # nothing runs any more


@pytest.mark.full
@of_shared_server
def test_a_record_that_is_deleted_while_it_is_looked_at(server: Server, browser: Any) -> None:
    os.chdir(server.folder)
    ln.setup.load("./mydata")
    tell = Teller(server.folder)
    flow = tell.start("prefect", "deleted", "deleted-flow")
    assert recorder.flush()
    with watched(browser, f"{server.url}/runs/{flow}") as seen:
        seen.wait_drawn()
        ln.delete(ln.select(ln.Run, id=flow).one())
        seen.page.get_by_text("It was deleted meanwhile").wait_for()
        seen.page.wait_for_timeout(2500)
        asked = len(seen.asked)
        seen.page.wait_for_timeout(2500)
        assert len(seen.asked) == asked
        seen.page.reload()
        assert "no run is recorded with the id" in seen.page.inner_text("main")
        # the browser says so of what it could not get
        seen.said = [each for each in seen.said if "404" not in each]


@of_shared_server
def test_names_are_shown_and_never_run(server: Server, browser: Any) -> None:
    file = ids(server.page("/files?q=onerror"), "files")[0]
    [run] = ids(server.page("/runs?q=onerror"), "runs")
    transform = re.findall(r'href="/transforms/(\w+)"', server.page("/transforms?q=onerror"))[0]
    query = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    paths = (
        f"/files/{file}", f"/runs/{run}", f"/transforms/{transform}", f"/lineage/{file}",
        "/files?q=onerror", "/runs?q=onerror", "/transforms?q=onerror", "/", f"/search?q={query}",
        f"/files?q={query}&sort={query}&dir={query}", f"/runs?status={query}&engine={query}",
        f"/files/{file}/why", f"/diff/{run}/{run}",
    )  # fmt: skip
    with watched(browser, server.url) as seen:
        for path in paths:
            seen.page.goto(server.url + path, wait_until="domcontentloaded")
            if path.startswith("/lineage"):
                seen.wait_drawn()
            assert seen.page.locator("img").count() == 0
            assert seen.page.locator("a[href^=javascript]").count() == 0
            if "?" not in path or "onerror" in path:
                assert ATTACK in seen.page.inner_text("body"), path


@of_shared_server
def test_only_this_machine_is_answered_and_nothing_can_be_changed(server: Server) -> None:
    status, text, headers = server.get("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    attributes = Attributes()
    attributes.feed(text)
    assert not {name for name in attributes.found if name == "style" or name.startswith("on")}
    assert attributes.inline_scripts == 0
    assert server.get("/", Host="evil.example")[0] == 400
    assert server.get("/", Host="127.0.0.1.evil.example")[0] == 400
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        asked = urllib.request.Request(f"{server.url}/files", method=method, data=b"")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=20)
        assert refused.value.code == 405
        assert refused.value.headers["Content-Security-Policy"] == policy
        refused.value.close()
    port = int(server.url.rsplit(":", 1)[1])
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{port:04X} 00000000:0000 0A" not in listening


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/files/nowhere", "/runs/../../etc/passwd", "/static/../app.py", "/lineage/none",
     "/diff/a/b", "/files?after=nonsense", "/files?after=W10=", "/static/none", "/search/none",
     "/files/%00", "/files/%ED%A0%80", "/lineage/%00", "/lineage/none/picture",
     *(f"/files?sort={sort}&after={cursor_of(values)}" for sort, values in FOREIGN)],
)  # fmt: skip
@of_shared_server
def test_what_is_not_there_is_said_plainly(server: Server, path: str) -> None:
    status, text, headers = server.get(path)
    assert status == 404
    assert "Traceback" not in text
    assert "Content-Security-Policy" in headers


def test_an_empty_instance_says_how_to_begin(tmp_path: Path) -> None:
    ln.setup.init("./mydata")
    assert "Nothing is recorded yet" in answered(pages.home, "/")
    assert "No files yet" in answered(pages.files, "/files")
    assert "No runs yet" in answered(pages.runs, "/runs")
    assert "No transforms yet" in answered(pages.transforms, "/transforms")
    assert "Nothing is out of date" in answered(pages.stale_files, "/stale")
    assert "Nothing that is recorded" in answered(pages.search, "/search", "q=x")


def answered(page: Callable[[Request], Response], path: str, query: str = "", **params: str) -> str:
    scope = {"type": "http", "path": path, "query_string": query.encode(), "headers": []}
    scope["path_params"] = params
    response = page(Request({**scope, "server": ("127.0.0.1", 1), "scheme": "http"}))
    return bytes(response.body).decode()


# --- odd records ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ATTACK,
        'it\'s "quoted"',
        "two\nlines",
        "👩\u200d🔬 数据",
        "\u202egnp.exe",
        "שלום",
        "n" * 300,
        "{{ 7*7 }}",
    ],
)
def test_odd_names_are_on_every_page(name: str) -> None:
    ln.setup.init("./mydata")
    Path("x").write_text("x")
    run = ln.track(ln.Transform(name), params={name: name})
    file = ln.add(ln.File("x", name=name, description=name))
    ln.finish()
    wanted = str(escape(printable(name)))
    for page, path, record in (
        (pages.file_page, "/files", file.id), (pages.run_page, "/runs", run.id),
        (pages.transform_page, "/transforms", run.transform.id), (pages.files, "/files", ""),
        (pages.runs, "/runs", ""), (pages.transforms, "/transforms", ""), (pages.home, "/", ""),
        (pages.lineage_page, "/lineage", file.id), (pages.diff_page, "/diff", run.id),
    ):  # fmt: skip
        text = answered(page, path, id=record, a=record, b=record)
        assert wanted in text or page is pages.diff_page, path
        assert "<script>alert" not in text and "<img" not in text, path
        assert "\u202e" not in text, path
    assert f"/files/{file.id}" in answered(pages.files, "/files", f"q={quote(name)}")


def test_a_run_with_ten_thousand_children_is_a_page_like_any() -> None:
    ln.setup.init("./mydata")
    rows = Rows()
    top = rows.run("workflow", status="started", finished_at=None)
    for number in range(10_000):
        status = "completed" if number < 9_000 else "started"
        run = rows.run("job", number + 1, parent_id=top, status=status)
        rows.file(f"out/{number}.csv", run)
    rows.write()
    text = answered(pages.run_page, "/runs", id=top)
    assert "10,000 runs started by it" in text
    assert "<strong>9,000</strong>" in text and "<strong>1,000</strong>" in text
    assert "The 200 that started last" in text
    assert len(text) < 2_000_000
    shown = CliRunner().invoke(main, ["show", top]).stdout
    assert "  … 9,800 more: --json has all" in shown
    assert len(shown.splitlines()) < 300


def test_a_file_whose_object_is_gone_is_shown_as_such() -> None:
    ln.setup.init("./mydata")
    Path("x").write_text("x")
    file = ln.add(ln.File("x", key="gone.txt"))
    Path("mydata/gone.txt").unlink()
    assert "its object is gone" in answered(pages.file_page, "/files", id=file.id)
    assert "gone.txt" in answered(pages.files, "/files")
    Path("mydata/gone.txt").write_text("by hand")
    assert "its object has changed since" in answered(pages.file_page, "/files", id=file.id)


# --- tables ---------------------------------------------------------------------------------------


@pytest.fixture
def many() -> None:
    ln.setup.init("./mydata")
    rows = Rows()
    for number in range(230):
        run = rows.run(f"step {number % 3}", number, status=("completed", "failed")[number % 2])
        size = None if number % 5 == 0 else number % 7
        rows.file(f"{number % 11}/{number}.csv", run, size=size)
    rows.write()


@pytest.mark.parametrize("table", ["files", "runs", "transforms"])
@pytest.mark.databases
def test_pages_hold_each_row_once_in_every_order(many: None, table: str) -> None:
    read = {
        "files": tables.files_page,
        "runs": tables.runs_page,
        "transforms": tables.transforms_page,
    }[table]
    expected = {"files": 230, "runs": 230, "transforms": 3}[table]
    for sort, (column, *_) in tables.SORTS[table].items():
        for is_descending in (True, False):
            found, after = [], ""
            while after is not None:
                page = read(tables.View(sort, is_descending, after=after))
                assert len(page.rows) <= tables.PAGE
                found += page.rows
                after = page.following  # type: ignore[assignment]
            assert len({row["id"] for row in found}) == len(found) == expected
            values = [row[column.name] for row in found]
            present = [value for value in values if value is not None]
            assert present == sorted(present, reverse=is_descending)
            empty = [None] * (len(values) - len(present))
            assert values == (present + empty if is_descending else empty + present)


@pytest.mark.databases
def test_a_search_takes_what_it_is_given_literally(many: None) -> None:
    def found(wanted: str) -> int:
        return len(tables.files_page(tables.View("created", True, wanted)).rows)

    assert found("10/") == 20
    assert found("%") == found("_") == found("'") == found('"; DROP TABLE file') == 0
    assert found("0/") > 0


def plans_of(read: Callable[[], Any]) -> list[str]:
    """Return how SQLite finds what is read, one text for each query."""
    engine, asked = instance.current().database.engine, []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        read()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with instance.current().database.read() as connection:
        return [
            " | ".join(
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each}", values)
            )
            for each, values in asked
            if re.search(r"FROM (file|run)\b", each)
        ]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("filters", [(), (("status", "failed"),), (("engine", "snakemake"),)])
def test_every_page_in_every_order_is_found_by_an_index(
    many: None, filters: tuple[tuple[str, str], ...]
) -> None:
    for table, read in (("file", tables.files_page), ("run", tables.runs_page)):
        if filters and table == "file":
            continue
        for sort in tables.SORTS[f"{table}s"]:
            if sort == "status" and filters:
                continue  # of one engine they are sorted, which no index is worth
            for is_descending in (True, False):
                view = tables.View(sort, is_descending, filters=filters)
                following = read(view).following
                assert following is not None
                for each in (view, replace(view, after=following)):
                    plans = plans_of(lambda read=read, each=each: read(each))  # type: ignore[misc]
                    assert plans
                    for plan in plans:
                        assert f"SCAN {table} |" not in f"{plan} |", (each, plan)
                        assert "TEMP B-TREE" not in plan, (each, plan)


@of_shared_server
def test_a_taken_port_is_said_in_one_line(server: Server) -> None:
    port = server.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [*LAMIN, "serve", "--port", port], capture_output=True, text=True, cwd=server.folder
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: port {port} on 127.0.0.1 cannot be had")


@of_shared_server
def test_without_the_extra_the_command_says_what_to_install(server: Server) -> None:
    code = "import sys; sys.modules['jinja2'] = None; from lamindb.cli import main; main(['serve'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=server.folder
    )
    assert done.returncode == 1
    assert "pip install 'lamindb-workflows[serve]'" in done.stderr
