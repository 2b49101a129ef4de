"""Pages from templates: everything is escaped, and shown on one line without control characters."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lamindb import display, instance
from lamindb._version import __version__
from lamindb.graph.formats import STATUS_SIGNS
from lamindb.graph.page import as_script, asset


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lamindb.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        text=display.printable,
        size=display.size,
        when=_when,
        number=lambda value: f"{value:,}",
        url=lambda value: quote(str(value), safe=""),
    )
    environment.globals.update(
        duration=display.duration,
        counted=display.counted,
        signs=STATUS_SIGNS,
        version=__version__,
        query=_query,
        graph=lambda: Markup(asset("graph.html")),  # noqa: S704 - a file of this package
        script=lambda value: Markup(as_script(value)),  # noqa: S704 - it escapes
    )
    return environment


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, or with the header that htmx sends, the part of it that has changed."""
    here = instance.current().name if instance.is_open() else ""
    text = (
        _environment()
        .get_template(template)
        .render(instance=here, url_path=request.url.path, **values)
    )
    return HTMLResponse(text, status_code=status)


def _when(value: dt.datetime | None) -> Markup | str:
    if value is None:
        return ""
    shown = Markup('<time datetime="{}" title="{}">{}</time>')
    return shown.format(value.isoformat(), value.isoformat(" ", "seconds"), display.minute(value))


def _query(**values: Any) -> str:
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else "?"
