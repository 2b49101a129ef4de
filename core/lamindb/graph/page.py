"""One self-contained HTML page of a lineage: it opens offline, and can be mailed."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files
from typing import Any

from lamindb._version import __version__

_LIBRARIES = ("vendor/cytoscape.min.js", "vendor/cytoscape-dagre.min.js")
# one script: what a part names, those after it know
_PARTS = ("shown.js", "elements.js", "drawing.js", "panel.js", "following.js", "acting.js")
_STYLES = ("graph.css", "page.css")
# cytoscape adds this rule as an element of its own unless one with the id is there, and a content
# security policy would refuse that
_CYTOSCAPE_STYLE = ".__________cytoscape_container { position: relative; }"


@cache
def asset(name: str) -> str:
    """Return a text file of this package's ``assets``."""
    return files("lamindb.graph").joinpath("assets", name).read_text("utf-8")


@cache
def script() -> str:
    """Return what draws the lineage in #lineage from the JSON in #lineage-data.

    All texts become text nodes.
    """
    parts = "\n".join(asset(f"graph/{name}") for name in _PARTS)
    return f'(function () {{\n"use strict";\n{parts}}})();\n'


def page(drawn: dict[str, Any]) -> str:
    """Return a page that draws what :func:`lamindb.graph.picture.picture` returned."""
    scripts = [*(asset(name) for name in _LIBRARIES), script()]
    style = "\n".join(asset(name) for name in _STYLES)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(_hash(each) for each in scripts)}",
            f"style-src {_hash(style)} {_hash(_CYTOSCAPE_STYLE)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    title = html.escape(str(drawn["title"]))
    about = html.escape(
        f"Recorded in the instance {drawn['instance']}, drawn {str(drawn['made_at'])[:16]} UTC by "
        f"lamindb-workflows {__version__}"
    )
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{title} – lineage</title>",
            f"<style>{style}</style>",
            f'<style id="__________cytoscape_stylesheet">{_CYTOSCAPE_STYLE}</style>',
            "</head>",
            "<body>",
            f"<main>{asset('graph.html')}</main>",
            f"<footer>{about}</footer>",
            f'<script type="application/json" id="lineage-data">{as_script(drawn)}</script>',
            *(f"<script>{each}</script>" for each in scripts),
            "</body>",
            "</html>",
            "",
        )
    )


def frame(drawn: dict[str, Any], height: int = 520) -> str:
    """Return the page for a notebook: in a frame that can reach nothing of what is around it."""
    inner = html.escape(page(drawn), quote=True)
    return (
        f'<iframe srcdoc="{inner}" sandbox="allow-scripts allow-popups" width="100%" '
        f'height="{height}" style="border: 1px solid #d9dde3; border-radius: 8px" '
        f'title="Lineage of {html.escape(str(drawn["title"]), quote=True)}"></iframe>'
    )


def as_script(value: Any) -> str:
    """Return JSON that can stand in a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
