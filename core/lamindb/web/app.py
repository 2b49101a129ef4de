"""The app: what is served at which path, and what a browser may do with it.

It answers to names of this machine only, so that no page elsewhere reaches it by a name of its own
(DNS rebinding); it changes nothing; and the policy of its pages lets no script run but its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lamindb.errors import LaminError, RecordError
from lamindb.graph.page import asset
from lamindb.graph.page import script as graph_script
from lamindb.web import pages
from lamindb.web.rendering import render

logger = logging.getLogger("lamindb.web")

HOSTS = ["127.0.0.1", "localhost", "[::1]"]
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# file → its package, folder and media type
STATIC = {
    "htmx.js": ("lamindb.web", "static/htmx.min.js", "text/javascript"),
    "app.css": ("lamindb.web", "static/app.css", "text/css"),
    "graph.css": ("lamindb.graph", "assets/graph.css", "text/css"),
    "cytoscape.js": ("lamindb.graph", "assets/vendor/cytoscape.min.js", "text/javascript"),
    "cytoscape-dagre.js": (
        "lamindb.graph",
        "assets/vendor/cytoscape-dagre.min.js",
        "text/javascript",
    ),
}


def create_app() -> ASGIApp:
    """Return the app for the instance in use."""
    get = ["GET"]
    routes = [
        Route("/", pages.home, methods=get),
        Route("/files", pages.files, methods=get),
        Route("/runs", pages.runs, methods=get),
        Route("/transforms", pages.transforms, methods=get),
        Route("/stale", pages.stale_files, methods=get),
        Route("/search", pages.search, methods=get),
        Route("/files/{id}", pages.file_page, methods=get),
        Route("/files/{id}/why", pages.why_page, methods=get),
        Route("/runs/{id}", pages.run_page, methods=get),
        Route("/runs/{id}/progress", pages.progress, methods=get),
        Route("/transforms/{id}", pages.transform_page, methods=get),
        Route("/lineage/{id}", pages.lineage_page, methods=get),
        Route("/lineage/{id}/picture", pages.picture, methods=get),
        Route("/diff/{a}/{b}", pages.diff_page, methods=get),
        Route("/static/{name}", static, methods=get),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
        ],
        exception_handlers={
            RecordError: _not_found,
            HTTPException: _refused,
            LaminError: _failed,
        },
    )
    return SecurityHeaders(app)


class SecurityHeaders:
    """Adds the headers to every answer, also to those that say that something failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def static(request: Request) -> Response:
    headers = {"Cache-Control": "max-age=3600"}
    if request.path_params["name"] == "graph.js":
        return Response(graph_script(), media_type="text/javascript", headers=headers)
    found = STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    package, path, kind = found
    folder, _, name = path.partition("/")
    text = asset(name) if package == "lamindb.graph" else _own(folder, name)
    return Response(text, media_type=kind, headers=headers)


def _own(folder: str, name: str) -> str:
    return files("lamindb.web").joinpath(folder, name).read_text("utf-8")


def _not_found(request: Request, error: Exception) -> Response:
    return render(request, "error.html", title="Not found", message=str(error), status=404)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return PlainTextResponse("This is read only: GET alone.\n", status_code=405)
    message = "There is no such page."
    return render(request, "error.html", title="Not found", message=message, status=404)


def _failed(request: Request, error: Exception) -> Response:
    logger.warning("%s: %s", request.url.path, error)
    return render(request, "error.html", title="Out of reach", message=str(error), status=503)


def serve(port: int, *, opened: Callable[[str], Any] | None = None) -> None:
    """Serve until interrupted, on 127.0.0.1.

    Args: port: 0 is any that is free; opened: called with the URL once it answers.
    Raises: OSError: the port is taken.
    """
    import socket

    import uvicorn

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        create_app(),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    sock.listen(64)
    if opened is not None:
        opened(url)
    uvicorn.Server(config).run(sockets=[sock])
