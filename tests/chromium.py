"""A real browser for tests: Debian's Chromium, driven by Playwright; one for a module's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a Playwright browser, or skip the test where there is none.

    Only within one module: while it is open, this thread has a running event loop.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, with all that it says on the console and asks for on the network."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def graph(self, code: str) -> Any:
        """Evaluate JavaScript with ``cy``, the drawn graph."""
        return self.page.evaluate(
            "(() => { const cy = document.getElementById('ln-canvas')._cyreg.cy; return "
            + code
            + " })()"
        )

    def wait_for(self, code: str) -> None:
        """Wait until JavaScript with ``cy`` is true; the page's policy forbids what Playwright's
        own waiting does."""
        for _ in range(200):
            if self.graph(code):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"never true: {code}")

    def labels(self) -> list[str]:
        found = self.graph(
            "cy.nodes().filter(n => n.data('kind') !== 'box').map(n => n.data('label'))"
        )
        return sorted(found)

    def click(self, label: str, times: int = 1) -> None:
        """Click, with the mouse, on the node with this label."""
        place = self.graph(
            f"cy.nodes().filter(n => n.data('full') === {label!r})[0].renderedPosition()"
        )
        box = self.page.locator("#ln-canvas").bounding_box()
        self.page.mouse.click(box["x"] + place["x"], box["y"] + place["y"], click_count=times)

    def panel(self) -> str:
        return str(self.page.locator("#ln-panel").inner_text())

    def wait_drawn(self) -> None:
        self.page.locator("body[data-drawn]").wait_for()


@contextmanager
def watched(browser: Any, url: str, **options: Any) -> Iterator[Watched]:
    """Open a page in a fresh context, and see to it that it says nothing on the console."""
    options.setdefault("viewport", {"width": 1280, "height": 760})
    context = browser.new_context(**options)
    seen = Watched(context.new_page())
    seen.page.set_default_timeout(15_000)
    seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    seen.page.on("dialog", lambda dialog: (seen.said.append("dialog"), dialog.dismiss()))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto(url)
    yield seen
    assert seen.said == []
    context.close()
