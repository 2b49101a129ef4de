"""The page of a lineage, in a real browser: what it shows, and that it runs nothing but its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from chromium import chromium, watched
from lamindb import instance
from lamindb.graph.page import as_script, frame
from lamindb.graph.picture import MOST_NODES, picture
from lineage_rows import Rows, fan, long_chain
from lineage_study import Teller, tell_study

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>'",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    "]]>--><!--",
]
ODD = [
    "two\nlines",
    "🧪 café 数据",
    "\u202egnp.exe",
    "مرحبا بالعالم",
    "n" * 300,
    "\u2028\x07\x1b[31m",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def project() -> Path:
    ln.setup.init("./mydata")
    return Path.cwd()


def written(record: Any, name: str = "page.html") -> str:
    path = Path(name)
    path.write_text(ln.lineage(record).html(), encoding="utf-8")
    return path.absolute().as_uri()


def test_a_reader_finds_the_way_back_and_the_details(project: Path, browser: Any) -> None:
    tell_study(project)
    url = written("results/report.html")
    with watched(browser, url) as seen:
        seen.wait_drawn()
        assert seen.asked == [url]  # it opens offline
        assert seen.page.locator("#ln-title").inner_text() == "results/report.html"
        labels = seen.labels()
        assert [each.split("\n")[0] for each in labels] == sorted(
            ["acquire.py", "raw/s*.csv", "trim", "trimmed/s*.csv", "count", "counts/s*.tsv",
             "merge", "counts.tsv", "load", "fit", "models/k*.json", "best", "best.json",
             "report.py", "results/report.html"]
        )  # fmt: skip
        assert "count\n✓  × 6" in labels
        boxes = seen.graph("cy.nodes('[kind=\"box\"]').map(n => n.data('label'))")
        assert sorted(boxes) == ["Snakefile", "model"]
        inside = seen.graph("cy.nodes('[kind=\"box\"]').children().map(n => n.data('full'))")
        assert "counts/s*.tsv" in inside
        assert "counts.tsv" not in inside
        shapes = seen.graph(
            "Object.fromEntries(cy.nodes().map(n => [n.data('full'), n.style('shape')]))"
        )
        assert (shapes["fit"], shapes["count"], shapes["report.py"], shapes["counts.tsv"]) == (
            "round-hexagon", "cut-rectangle", "round-rectangle", "rectangle",
        )  # fmt: skip

        seen.click("counts.tsv")
        file = ln.select(ln.File, key="counts.tsv").one()
        for part in (file.hash, "21 B", str(project / "counts.tsv"), file.id, "the latest"):
            assert part in seen.panel()
        seen.click("merge")
        assert "completed" in seen.panel()
        assert "6 files" in seen.panel()
        seen.click("fit")
        assert "5 runs of a kind: 5 completed" in seen.panel()
        assert "k=0" in seen.panel()
        seen.page.get_by_role("button", name="Open").click()
        assert len([each for each in seen.labels() if each.startswith("fit")]) == 5
        seen.page.keyboard.press("Escape")

        seen.page.get_by_role("button", name="Fewer steps").click()
        assert "acquire.py" not in "".join(seen.labels())
        assert "4 of 5 steps" in seen.page.locator("#ln-steps").inner_text()
        assert any(re.fullmatch(r"\+\d+", each) for each in seen.labels())
        assert "more step on" in seen.page.locator("#ln-hint").inner_text()
        seen.page.get_by_role("button", name="Downstream").click()
        assert seen.labels() == ["results/report.html\n34 B"]

        seen.page.locator("#ln-search").fill("raw/s3")
        seen.page.locator("#ln-search").press("Enter")
        assert seen.page.locator("#ln-title").inner_text() == "raw/s3.csv"
        # a plot was made of the counts, too: that is recorded, and not in this page
        assert [each.split("\n")[0] for each in seen.labels()][:2] == ["+1", "best"]
        seen.page.locator("#ln-canvas").focus()
        seen.page.keyboard.press("ArrowRight")
        assert "trim" in seen.panel()
        assert "sample" in seen.panel()
        seen.page.keyboard.press("Enter")
        assert seen.page.locator("#ln-title").inner_text() == "trim"


def test_statuses_are_told_by_sign_and_colour_in_light_and_dark(
    project: Path, browser: Any
) -> None:
    tell_study(project)
    url = written("Snakefile")
    borders = {}
    for scheme in ("light", "dark"):
        with watched(browser, url, color_scheme=scheme) as seen:
            seen.wait_drawn()
            assert "plot\n✗  6.1 s" in seen.labels()
            legend = seen.page.locator("#ln-legend").inner_text()
            assert "✗" in legend
            assert "failed" in legend
            for name in ("plot", "merge"):
                borders[scheme, name] = seen.graph(
                    f"cy.nodes().filter(n => n.data('full') === '{name}')[0].style('border-color')"
                )
            seen.click("plot")
            assert "no display, again" in seen.panel()
            assert "attempts\n2" in seen.panel()
    assert len(set(borders.values())) == 4


@pytest.mark.parametrize("names", [ATTACKS, ODD], ids=["attacks", "odd"])
def test_names_are_shown_as_they_are_and_never_run(
    project: Path, browser: Any, names: list[str]
) -> None:
    Path("x").write_text("x")
    run = ln.track(
        ln.Transform(names[0], key=names[1], reference="javascript:alert(1)"),
        params={name: name for name in names},
    )
    for number, name in enumerate(names):
        Path("x").write_text(name)
        ln.add(ln.File("x", key=f"{number}/x", name=name, description=name))
    ln.finish()
    instance.reset()
    with watched(browser, written(run)) as seen:
        seen.wait_drawn()
        for number, name in enumerate(names):
            seen.page.locator("#ln-search").fill(f"{number}/x")
            seen.page.locator("#ln-search").press("Enter")
            assert shown(name) in seen.page.locator("#ln-panel").text_content()
        seen.page.locator("#ln-search").fill(shown(names[0])[:20])
        seen.page.locator("#ln-search").press("Enter")
        text = seen.page.locator("#ln-panel").text_content()
        assert all(shown(name) in text for name in names)
        assert seen.page.locator("#ln-panel a").count() == 0
        assert seen.page.locator("script").count() == 4
        assert seen.page.locator("img").count() == 0


def shown(name: str) -> str:
    """Return a name with its control characters escaped, as it is shown everywhere."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )


def test_json_in_a_script_element_cannot_end_it() -> None:
    texts = [*ATTACKS, *ODD, "<!--<script>", "&lt;"]
    text = as_script(texts)
    assert not set("<>&\u2028\u2029").intersection(text)
    assert json.loads(text) == texts


def test_a_notebook_gets_the_page_in_a_sandbox(project: Path, browser: Any) -> None:
    tell_study(project)
    html = ln.lineage("best.json")._repr_html_()
    assert html.startswith('<iframe srcdoc="')
    assert 'sandbox="allow-scripts allow-popups"' in html
    Path("notebook.html").write_text(f"<!doctype html><meta charset=utf-8><body>{html}{html}")
    with watched(browser, Path("notebook.html").absolute().as_uri()) as seen:
        for place in (0, 1):
            inner = seen.page.frame_locator("iframe").nth(place)
            assert inner.locator("#ln-title").inner_text() == "best.json"
            inner.locator("#ln-canvas canvas").first.wait_for()
    drawn = picture(ln.lineage("best.json").subject)
    drawn["title"] = ATTACKS[2]
    assert "<svg" not in frame(drawn)


def test_two_thousand_nodes_open_on_a_view_that_can_be_read(project: Path, browser: Any) -> None:
    file_id = fan(lanes=500, stages=2)
    with watched(browser, written(file_id)) as seen:
        seen.wait_drawn()
        labels = seen.labels()
        assert len(labels) <= 12
        assert "stage 0\n✓  × 500" in labels
        seen.page.get_by_role("button", name="Alike as one").click()
        assert 60 < len(seen.labels()) < 300
        assert "have no room" in seen.page.locator("#ln-hint").inner_text()


def test_of_more_of_a_kind_than_the_page_holds_it_tells_one_story(
    project: Path, browser: Any
) -> None:
    rows = Rows()
    source = rows.file("source.csv", None)
    flow = rows.run("flow", engine="plain")
    for number in range(400):
        status = "failed" if number == 390 else "completed"
        step = rows.run("step", number, "plain", parent_id=flow, status=status)
        rows.link(step, source)
        rows.file(f"out/f{number}.csv", step)
    rows.write()
    with watched(browser, written(source)) as seen:
        seen.wait_drawn()
        assert seen.labels() == [
            "out/f*.csv\n× 400",
            "source.csv\n100 B  gone",
            "step\n✗  × 400  1 failed",
        ]
        hint = seen.page.locator("#ln-hint")
        assert hint.inner_text() == "801 of 801 files and runs"
        assert "failed" in seen.page.locator("#ln-legend").inner_text()
        seen.click("step")
        assert "400 runs of a kind: 399 completed, 1 failed" in seen.panel()
        assert "… 300 more, 200 of them not in this page" in seen.panel()
        seen.page.get_by_role("button", name="Open").click()
        assert "step\n✗  the other 360  1 failed" in seen.labels()
        assert "360 runs of a kind: 359 completed, 1 failed" in seen.panel()
        assert "… 260 more, 200 of them not in this page" in seen.panel()
        assert not any(each.startswith("+") for each in seen.labels())
        assert hint.inner_text() == "801 of 801 files and runs"
        # with each drawn alone, no stack stands for those that are not in the page
        seen.page.get_by_role("button", name="Alike as one").click()
        assert "+200" in seen.labels()
        assert re.match(r"220 of 801 .* have no room", hint.inner_text())


@pytest.mark.full
def test_ten_thousand_children_of_one_run_stay_one_node(project: Path, browser: Any) -> None:
    fan(lanes=10_000, stages=1)
    drawn = picture(ln.lineage("flow").subject)
    assert len(drawn["nodes"]) < 1_000
    with watched(browser, written("flow")) as seen:
        seen.wait_drawn()
        assert any(
            re.fullmatch(r"stage 0\n✓  × 10,000|stage 0\n✓  × \d,\d\d\d", each)
            for each in seen.labels()
        )


def test_a_long_chain_is_cut_and_says_so(project: Path, browser: Any) -> None:
    file_id = long_chain(5_000)
    drawn = picture(ln.lineage(file_id).subject)
    assert len(drawn["nodes"]) <= MOST_NODES
    assert drawn["is_cut"]
    with watched(browser, written(file_id)) as seen:
        seen.wait_drawn()
        assert len(seen.labels()) <= 75
        assert "more are recorded" in seen.page.locator("#ln-hint").inner_text()


def test_one_file_a_gone_object_and_a_run_that_runs_are_useful_views(
    project: Path, browser: Any
) -> None:
    Path("alone.txt").write_text("alone")
    alone = ln.add(ln.File("alone.txt", key="alone.txt"))
    with watched(browser, written(alone)) as seen:
        seen.wait_drawn()
        assert seen.labels() == ["alone.txt\n5 B"]
        seen.click("alone.txt")
        assert alone.hash in seen.panel()

    tell = Teller(project)
    busy = tell.start("snakemake", "1", "busy")
    tell.write(busy, "part.txt", "part")
    (project / "part.txt").unlink()
    with watched(browser, written("part.txt")) as seen:
        seen.wait_drawn()
        assert seen.labels() == ["busy\n▶", "part.txt\n4 B  gone"]
        seen.click("part.txt")
        assert "is gone" in seen.panel()
        seen.click("busy")
        assert "started" in seen.panel()
    (project / "part.txt").write_text("by hand")
    with watched(browser, written("part.txt")) as seen:
        seen.wait_drawn()
        assert seen.labels() == ["busy\n▶", "part.txt\n4 B  changed since"]
        seen.click("part.txt")
        assert "has other bytes than were recorded" in seen.panel()


@pytest.mark.full
def test_it_can_be_used_on_a_narrow_screen(project: Path, browser: Any) -> None:
    tell_study(project)
    size = {"width": 420, "height": 740}
    with watched(browser, written("best.json"), viewport=size) as seen:
        seen.wait_drawn()
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 420
        seen.click("best.json")
        assert "hash" in seen.panel()


OVERLAP = """
(() => {
  const room = (n) => n.boundingBox({ includeLabels: false, includeOverlays: false });
  const rooms = cy.nodes().filter((n) => n.data("kind") !== "box").map(room);
  const meet = (a, b) => a.x1 + 3 < b.x2 && b.x1 + 3 < a.x2 && a.y1 + 3 < b.y2 && b.y1 + 3 < a.y2;
  return rooms.some((a, i) => rooms.some((b, j) => i < j && meet(a, b)));
})()
"""


def test_no_two_nodes_overlap(project: Path, browser: Any) -> None:
    tell_study(project)
    with watched(browser, written("counts.tsv")) as seen:
        seen.wait_drawn()
        assert not seen.graph(OVERLAP.strip())
        seen.page.get_by_role("button", name="Alike as one").click()
        assert len(seen.labels()) > 40
        assert not seen.graph(OVERLAP.strip())
