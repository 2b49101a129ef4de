"""Writes docs/lineage.md and its pictures: ``python dev.py docs``.

Each command of the template is run in a study, and each picture is what the product draws of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))
CONSOLE = re.compile(r"```console\n\$ (.*?)\n```", re.DOTALL)
LAMIN = [sys.executable, "-m", "lamindb"]


def lineage_page(template: str) -> str:
    """Return the guide with what each of its commands prints in the study of the tests."""
    with study() as names:

        def run(found: re.Match[str]) -> str:
            command = found[1]
            for name, value in names.items():
                command = command.replace(name, value)
            words = [word.strip("'") for word in command.split()]
            done = subprocess.run([*LAMIN, *words[1:]], capture_output=True, text=True, check=True)
            return f"```console\n$ {command}\n{done.stdout.rstrip()}\n```"

        return CONSOLE.sub(run, template)


@contextmanager
def study() -> Iterator[dict[str, str]]:
    """Make the study in a folder that becomes the working one; yields names of runs in it."""
    import lamindb as ln
    from lamindb import instance, recorder
    from lineage_study import tell_study

    before, environment = Path.cwd(), dict(os.environ)
    with TemporaryDirectory() as folder:
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[name] = str(Path(folder) / "home")
        os.environ |= {"LAMINDB_USER": "ada", "TZ": "UTC", "NO_COLOR": "1"}
        time.tzset()
        (Path(folder) / "study").mkdir()
        os.chdir(Path(folder) / "study")
        ln.setup.init("./mydata")
        tell = tell_study(Path.cwd())
        tell.clock.tick(86_400)
        _run_again(tell)
        tell.step("plain", "new", "acquire.py", [], ["raw/s2.csv", "raw/s4.csv"], text="batch 2")
        assert recorder.flush()
        runs = {each.reference: each.id for each in ln.select(ln.Run).all() if each.reference}
        instance.reset()
        try:
            yield {"RUN_BEFORE": runs["wf-1/merge"], "RUN_AFTER": runs["wf-2/merge"]}
        finally:
            instance.reset()
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)
            time.tzset()


def _run_again(tell: Any) -> None:
    """Merge with another parameter, and make all of it anew from there."""
    from lamindb.hooks import RunLinked, emit

    counts, models = [f"counts/s{n}.tsv" for n in range(6)], [f"models/k{n}.json" for n in range(5)]
    script = str(Path.cwd() / "Snakefile")
    genome = {"genome": "GRCh38"}
    workflow = tell.start("snakemake", "wf-2", "Snakefile", params=genome, script=script)
    merge = {"parent": workflow, "params": {"normalise": True}, "text": "normalised"}
    tell.step("snakemake", "wf-2/merge", "merge", counts, ["counts.tsv"], **merge)
    tell.finish(workflow)
    flow = tell.start("prefect", "flow-2", "model", params={"k": 5})
    load = tell.step("prefect", "load-2", "load", ["counts.tsv"], parent=flow)
    for k, model in enumerate(models):
        fit = {"parent": flow, "params": {"k": k}, "text": "normalised"}
        run = tell.step("prefect", f"fit-2-{k}", "fit", [], [model], **fit)
        emit(RunLinked(run=run, other=load, role="informed_by", at=tell.clock.tick()))
    tell.step("prefect", "best-2", "best", models, ["best.json"], parent=flow, text="normalised")
    tell.finish(flow)
    read, wrote = ["counts.tsv", "best.json"], ["results/report.html"]
    report = {"type": "script", "text": "normalised", "params": {"title": "Counts & models"}}
    tell.step("plain", "report-2", "report.py", read, wrote, **report)


def take_pictures() -> None:
    """Draw the pictures of the guide, with the page and the web app themselves."""
    import lamindb as ln
    from chromium import chromium, watched

    with study(), chromium() as browser:
        size = {"width": 1280, "height": 560}
        ln.setup.load("./mydata")
        page = Path("page.html")
        page.write_text(ln.lineage("results/report.html").html(), encoding="utf-8")
        with watched(browser, page.absolute().as_uri(), viewport=size) as seen:
            seen.wait_drawn()
            seen.click("merge")
            seen.page.mouse.move(5, 5)
            seen.page.screenshot(path=DOCS / "pictures" / "page.png")
        run = ln.select(ln.Run, reference="wf-1").one()
        server = subprocess.Popen(
            [*LAMIN, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        url = server.stdout.readline().split(": ", 1)[1].split()[0]
        with watched(
            browser, f"{url}/runs/{run.id}", viewport={"width": 1280, "height": 900}
        ) as seen:
            seen.wait_drawn()
            seen.page.screenshot(path=DOCS / "pictures" / "run.png")
        server.terminate()
        server.wait()


if __name__ == "__main__":
    template = (DOCS / "templates" / "lineage.md").read_text(encoding="utf-8")
    (DOCS / "lineage.md").write_text(lineage_page(template), encoding="utf-8")
    try:
        take_pictures()
    except BaseException as error:
        if type(error).__name__ != "Skipped":  # as pytest calls what cannot be had here
            raise
        print(f"no new pictures: {error}", file=sys.stderr)
