"""What each page shows."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from sqlalchemy import Table, desc, func, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lamindb.db.schema import attempt, environment, file, run, run_file, transform, user
from lamindb.errors import RecordError
from lamindb.graph import lineage
from lamindb.graph.causes import why
from lamindb.graph.compare import diff
from lamindb.graph.model import Row, label
from lamindb.graph.objects import Objects
from lamindb.graph.page import as_script
from lamindb.graph.references import find, first, rows
from lamindb.graph.staleness import stale_rows
from lamindb.graph.walking import family_of
from lamindb.web import tables
from lamindb.web.rendering import render

_LISTED = 200
_FOUND = 20
_STATUSES = ("started", "completed", "failed", "cancelled", "aborted", "cached", "skipped")


# --- tables ---------------------------------------------------------------------------------------


def home(request: Request) -> Response:
    newest = tables.View("started", True)
    running = replace(newest, filters=(("status", "started"),))
    return render(
        request,
        "home.html",
        counts=tables.counts(),
        running=tables.runs_page(running).rows[:10],
        runs=tables.runs_page(newest).rows[:10],
        files=tables.files_page(tables.View("created", True)).rows[:10],
    )


def files(request: Request) -> Response:
    return _table(request, "files", tables.files_page, "created")


def runs(request: Request) -> Response:
    engines = tables.engines() if "HX-Request" not in request.headers else []
    return _table(request, "runs", tables.runs_page, "started", engines=engines)


def transforms(request: Request) -> Response:
    return _table(request, "transforms", tables.transforms_page, "created")


def _table(request: Request, name: str, read: Any, default: str, **values: Any) -> Response:
    view = _view(request, name, default)
    page = read(view)
    is_part = "HX-Request" in request.headers
    filters = dict(view.filters)
    is_live = (
        name == "runs" and not view.after and any(row["status"] == "started" for row in page.rows)
    )
    return render(
        request,
        f"{name}_rows.html" if is_part else f"{name}.html",
        rows_only=is_part and bool(view.after),
        rows=page.rows,
        following=page.following,
        view=view,
        filters=filters,
        statuses=_STATUSES,
        is_live=is_live,
        **values,
    )


def _view(request: Request, name: str, default: str) -> tables.View:
    given = request.query_params
    sort = given.get("sort", default)
    if sort not in tables.SORTS[name]:
        sort = default
    is_descending = given.get("dir", "asc" if sort == "name" else "desc") == "desc"
    filters = tuple(
        (each, given[each]) for each in ("status", "engine") if name == "runs" and given.get(each)
    )
    return tables.View(
        sort, is_descending, given.get("q", "").strip(), given.get("after", ""), filters
    )


def search(request: Request) -> Response:
    """Go to what has this id, key, path or name; else list what contains it."""
    wanted = request.query_params.get("q", "").strip()
    if wanted:
        try:
            table, row = find(wanted)
            return RedirectResponse(f"/{table.name}s/{row['id']}", status_code=303)
        except RecordError:
            pass
    view = tables.View("created", True, wanted)
    return render(
        request,
        "search.html",
        wanted=wanted,
        files=tables.files_page(view).rows[:_FOUND] if wanted else [],
        runs=tables.runs_page(replace(view, sort="started")).rows[:_FOUND] if wanted else [],
        transforms=tables.transforms_page(view).rows[:_FOUND] if wanted else [],
    )


def stale_files(request: Request) -> Response:
    disk = "disk" in request.query_params
    found = stale_rows(code=True, disk=disk)
    return render(request, "stale.html", rows=found[:_LISTED], total=len(found), disk=disk)


# --- one record -----------------------------------------------------------------------------------


def _get(table: Table, request: Request) -> Row:
    found = first(
        select(table)
        .where(table.c.id == request.path_params["id"])
        .order_by(desc(table.c.created_at))
        .limit(1)
    )
    if found is None:
        raise RecordError(f"no {table.name} is recorded with the id {request.path_params['id']}")
    return found


def file_page(request: Request) -> Response:
    row = _get(file, request)
    versions = rows(
        select(file)
        .where(file.c.storage_id == row["storage_id"], file.c.key == row["key"])
        .order_by(desc(file.c.created_at))
        .limit(_LISTED)
    )
    return render(
        request,
        "file.html",
        row=row,
        label=label(row),
        object=Objects().of(row),
        by=_handle(row),
        versions=versions if row["key"] and len(versions) > 1 else [],
        writers=_runs_of(row["id"], ("output", "retracted")),
        readers=_runs_of(row["id"], ("input",)),
        drawn=_drawn(row["id"]),
    )


def _runs_of(file_id: str, roles: tuple[str, ...]) -> list[Row]:
    return rows(
        tables.named_runs(run_file.c.role)
        .join(run_file, run_file.c.run_id == run.c.id)
        .where(run_file.c.file_id == file_id, run_file.c.role.in_(roles))
        .order_by(desc(run_file.c.created_at))
        .limit(_LISTED)
    )


def run_page(request: Request) -> Response:
    row = _get(run, request)
    return render(request, "run.html", **_about(row), **_progress(row), drawn=_drawn(row["id"]))


def _about(row: Row) -> dict[str, Any]:
    made = first(
        select(transform).where(
            transform.c.id == row["transform_id"],
            transform.c.version == row["transform_version"],
        )
    )
    return {
        "row": row,
        "made": made,
        "title": (made["name"] if made else None) or row["name"] or row["id"],
        "parent": first(select(run).where(run.c.id == row["parent_id"])),
        "before": _run_before(row),
        "by": _handle(row),
        "attempts": rows(
            select(attempt).where(attempt.c.run_id == row["id"]).order_by(attempt.c.number)
        ),
        "inputs": _files_of(row["id"], "input"),
        "outputs": _files_of(row["id"], "output"),
        "environment": first(select(environment).where(environment.c.id == row["environment_id"])),
    }


def _run_before(row: Row) -> Row | None:
    """Return the run before of the same transform; not of a task or job, which has many beside."""
    if row["parent_id"] is not None or row["started_at"] is None:
        return None
    same = run.c.transform_id == row["transform_id"], run.c.parent_id.is_(None)
    return first(
        select(run)
        .where(*same, run.c.started_at < row["started_at"])
        .order_by(desc(run.c.started_at))
        .limit(1)
    )


def _files_of(run_id: str, role: str) -> list[Row]:
    return rows(
        select(file, run_file.c.how)
        .join(run_file, run_file.c.file_id == file.c.id)
        .where(run_file.c.run_id == run_id, run_file.c.role == role)
        .order_by(file.c.key, file.c.name)
        .limit(_LISTED + 1)
    )


def progress(request: Request) -> Response:
    try:
        row = _get(run, request)
    except RecordError as error:
        # by this status htmx shows it, and asks no more
        return render(request, "gone.html", message=str(error), status=286)
    if row["status"] == "started":
        return render(request, "progress.html", row=row, **_progress(row))
    return render(request, "run_ended.html", **_about(row), **_progress(row))


def _progress(row: Row) -> dict[str, Any]:
    """Return the runs that a run started: how many of each status, and the newest."""
    family = family_of(row["id"])
    counted = rows(
        select(run.c.status, func.count().label("count"))
        .join(family, family.c.run_id == run.c.id)
        .where(run.c.id != row["id"])
        .group_by(run.c.status)
    )
    children = rows(
        tables.named_runs()
        .where(run.c.parent_id == row["id"])
        .order_by(desc(run.c.started_at), run.c.id)
        .limit(_LISTED)
    )
    by_status = {each["status"]: each["count"] for each in counted}
    return {
        "progress": [(name, by_status[name]) for name in _STATUSES[::-1] if name in by_status],
        "total": sum(by_status.values()),
        "children": children,
        "listed": _LISTED,
    }


def transform_page(request: Request) -> Response:
    row = _get(transform, request)
    versions = rows(
        select(transform, func.count(run.c.id).label("runs"))
        .outerjoin(run, tables.is_version_of_run())
        .where(transform.c.id == row["id"])
        .group_by(*transform.c)
        .order_by(desc(transform.c.created_at))
    )
    latest = rows(
        tables.named_runs()
        .where(run.c.transform_id == row["id"])
        .order_by(desc(run.c.started_at), run.c.id)
        .limit(_LISTED)
    )
    return render(
        request, "transform.html", row=row, versions=versions, runs=latest, by=_handle(row)
    )


def _handle(row: Row) -> str:
    found = first(select(user.c.handle).where(user.c.id == row["created_by_id"]))
    return str(found["handle"]) if found else ""


# --- lineage and questions ------------------------------------------------------------------------


def lineage_page(request: Request) -> Response:
    found = lineage(request.path_params["id"])
    drawn = _drawn(found.subject.id)
    return render(request, "lineage.html", drawn=drawn, subject=found.subject)


def picture(request: Request) -> Response:
    """What is drawn, for a page that follows runs: 304 while it is the same."""
    drawn = _drawn(request.path_params["id"])
    tag = f'"{sha256(as_script(drawn | {"made_at": ""}).encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(as_script(drawn), media_type="application/json", headers=headers)


def _drawn(record_id: str) -> dict[str, Any]:
    return {**lineage(record_id).picture(), "links": ""}


def why_page(request: Request) -> Response:
    row = _get(file, request)
    than = request.query_params.get("than") or None
    found = why(row["id"], than)
    return render(request, "why.html", row=row, label=label(row), found=found)


def diff_page(request: Request) -> Response:
    found = diff(request.path_params["a"], request.path_params["b"])
    return render(request, "diff.html", found=found)
