"""The guide to lineage shows what the commands print, and pictures that are there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_guide_is_what_its_template_makes() -> None:
    template = (DOCS / "templates" / "lineage.md").read_text(encoding="utf-8")
    page = (DOCS / "lineage.md").read_text(encoding="utf-8")
    parts = re.split(r"```console\n.*?\n```", template, flags=re.DOTALL)
    at = 0
    for part in parts:  # run `python dev.py docs` where this fails
        assert part in page[at:]
        at = page.index(part, at) + len(part)
    assert page.count("```console\n$ lamin ") == len(parts) - 1


def test_every_picture_is_there_and_described() -> None:
    page = (DOCS / "lineage.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[(.+?)\]\((.+?)\)", page)
    assert len(pictures) == 2
    for _, path in pictures:
        assert (DOCS / path).read_bytes().startswith(b"\x89PNG")
