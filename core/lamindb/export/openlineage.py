"""Runs as OpenLineage events, for catalogues such as Marquez, DataHub or OpenMetadata.

Source: OpenLineage 2-0-2 and its facets, https://openlineage.io/spec. Nothing is invented: what is
not recorded is left out.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import or_, select

from lamindb import display, instance
from lamindb._version import __version__
from lamindb.db.database import chunked
from lamindb.db.schema import run
from lamindb.export.places import place_of
from lamindb.export.selection import Selection, select_runs
from lamindb.graph.model import Row
from lamindb.graph.references import rows

PRODUCER = f"https://pypi.org/project/lamindb-workflows/{__version__}/"
_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
# what makes a UUID of a run's id: the same wherever it is made
_NAMESPACE = uuid.UUID("7d1f4a5e-52a1-4b0e-9a53-6c1f0b7f6a11")

_ENDS = {
    "completed": "COMPLETE",
    "cached": "COMPLETE",
    "skipped": "COMPLETE",
    "failed": "FAIL",
    "aborted": "ABORT",
    "cancelled": "ABORT",
}
_VERSIONS = {
    "DatasetVersionDatasetFacet": "1-0-1",
    "DatasourceDatasetFacet": "1-0-1",
    "DocumentationDatasetFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ExecutionParametersRunFacet": "1-0-0",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "OwnershipJobFacet": "1-0-1",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SourceCodeLocationJobFacet": "1-1-0",
    "StorageDatasetFacet": "1-0-1",
    "TagsRunFacet": "1-0-0",
}
Event = dict[str, Any]


def events_since(since: dt.datetime | None) -> Iterator[Event]:
    """Yield the events of all runs that began or ended since, oldest run first."""
    query = select(run.c.id).order_by(run.c.created_at, run.c.id)
    if since is not None:
        query = query.where(or_(run.c.started_at >= since, run.c.finished_at >= since))
    wanted = [row["id"] for row in rows(query)]
    for chunk in chunked(wanted):
        found = select_runs(chunk)
        for run_id in chunk:
            if run_id in found.runs:
                yield from events_of(found, found.runs[run_id])


def events_of(found: Selection, row: Row) -> Iterator[Event]:
    """Yield the start of a run, and its end; of one that runs, what is known of it so far."""
    if row["started_at"] is not None:
        yield _event("START", row["started_at"], found, row, with_files=False)
    if row["status"] in _ENDS and row["finished_at"] is not None:
        yield _event(_ENDS[row["status"]], row["finished_at"], found, row)
    elif row["started_at"] is not None:
        at = max(
            (link.created_at for link in found.links if link.run_id == row["id"]), default=None
        )
        yield _event("RUNNING", at or row["started_at"], found, row)


def _event(
    kind: str, at: dt.datetime, found: Selection, row: Row, *, with_files: bool = True
) -> Event:
    return {
        "eventType": kind,
        "eventTime": at.isoformat(),
        "producer": PRODUCER,
        "schemaURL": _EVENT,
        "run": {"runId": uuid_of(row["id"]), "facets": _run_facets(found, row, kind)},
        "job": {**_job(found, row), "facets": _job_facets(found, row)},
        "inputs": _datasets(found, row, "input") if with_files else [],
        "outputs": _datasets(found, row, "output") if with_files else [],
    }


def uuid_of(run_id: str) -> str:
    """Return the UUID by which a run is called: OpenLineage takes no other ids."""
    return str(uuid.uuid5(_NAMESPACE, run_id))


def _facet(kind: str, **values: Any) -> dict[str, Any]:
    known = {name: value for name, value in values.items() if value not in (None, "", [])}
    url = f"{_SPEC}/facets/{_VERSIONS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": PRODUCER, "_schemaURL": url, **known}


# --- runs -----------------------------------------------------------------------------------------


def _job(found: Selection, row: Row) -> dict[str, str]:
    """Return the job: a transform by its key, which is unique; a run without one by its name."""
    made = found.transform_of(row)
    name = (made["key"] or made["name"]) if made else row["name"]
    return {"namespace": f"lamindb/{instance.current().name}", "name": str(name or row["id"])}


def _run_facets(found: Selection, row: Row, kind: str) -> dict[str, Any]:
    facets = {"tags": _facet("TagsRunFacet", tags=_tags(found, row))}
    parent = found.runs.get(row["parent_id"])
    if parent is not None:
        top = found.runs[found.top_of(row["id"])]
        facets["parent"] = _facet(
            "ParentRunFacet",
            run={"runId": uuid_of(parent["id"])},
            job=_job(found, parent),
            root={"run": {"runId": uuid_of(top["id"])}, "job": _job(found, top)},
        )
    engine = _engine(found, row)
    if engine is not None:
        facets["processing_engine"] = engine
    if row["params"]:
        facets["executionParameters"] = _facet(
            "ExecutionParametersRunFacet",
            parameters=[
                {"key": str(name), "value": display.show_value(value)}
                for name, value in row["params"].items()
            ],
        )
    if kind in ("FAIL", "ABORT"):
        facets["errorMessage"] = _facet(
            "ErrorMessageRunFacet",
            message=row["error"] or row["status"],
            programmingLanguage="python",
        )
    return facets


def _engine(found: Selection, row: Row) -> dict[str, Any] | None:
    """The engine with its version, where the environment says it."""
    environment = found.environments.get(row["environment_id"])
    if not row["engine"] or environment is None:
        return None
    version = environment["packages"].get(row["engine"])
    if row["engine"] == "plain":
        version = environment["python"]
    if not version:
        return None
    return _facet("ProcessingEngineRunFacet", version=str(version), name=row["engine"])


def _tags(found: Selection, row: Row) -> list[dict[str, str]]:
    environment = found.environments.get(row["environment_id"])
    known = {
        "lamindb_run": row["id"],
        "lamindb_status": row["status"],
        "engine": row["engine"],
        "reference": row["reference"],
        "attempts": found.attempts.get(row["id"]),
        "environment": row["environment_id"],
        "python": environment["python"] if environment else None,
    }
    return [
        {"key": name, "value": str(value), "source": "lamindb-workflows"}
        for name, value in known.items()
        if value
    ]


def _job_facets(found: Selection, row: Row) -> dict[str, Any]:
    made = found.transform_of(row)
    kind = made["type"].upper() if made else None
    facets = {
        "jobType": _facet(
            "JobTypeJobFacet",
            processingType="BATCH",
            integration=(row["engine"] or "lamindb").upper(),
            jobType=kind,
        )
    }
    owner = found.users.get(row["created_by_id"])
    if owner is not None:
        facets["ownership"] = _facet("OwnershipJobFacet", owners=[{"name": owner["handle"]}])
    if made and made["reference"] and urlsplit(made["reference"]).scheme in ("http", "https"):
        facets["sourceCodeLocation"] = _facet(
            "SourceCodeLocationJobFacet",
            type="git" if "git" in made["reference"] else "url",
            url=made["reference"],
            version=made["source_hash"],
        )
    return facets


# --- files ----------------------------------------------------------------------------------------


def _datasets(found: Selection, row: Row, role: str) -> list[dict[str, Any]]:
    return [_dataset(found, file, role) for file in found.linked(row["id"], role)]


def _dataset(found: Selection, file: Row, role: str) -> dict[str, Any]:
    place = place_of(file, found.storages[file["storage_id"]])
    if place.is_local:
        namespace, name = f"file://{place.host}" if place.host else "file", place.full
    else:
        parts = urlsplit(place.full)
        namespace, name = f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
    facets = {
        "storage": _facet(
            "StorageDatasetFacet",
            storageLayer="file" if place.is_local else urlsplit(place.full).scheme,
            fileFormat=file["suffix"].lstrip(".") or None,
        ),
        "dataSource": _facet("DatasourceDatasetFacet", name=namespace, uri=place.uri),
    }
    if file["hash"]:
        version = f"{file['hash_type']}:{file['hash']}"
        facets["version"] = _facet("DatasetVersionDatasetFacet", datasetVersion=version)
    if file["description"]:
        facets["documentation"] = _facet(
            "DocumentationDatasetFacet", description=file["description"]
        )
    kind, key = (
        ("InputStatisticsInputDatasetFacet", "inputStatistics")
        if role == "input"
        else ("OutputStatisticsOutputDatasetFacet", "outputStatistics")
    )
    dataset = {"namespace": namespace, "name": name, "facets": facets}
    if file["size"] is not None:
        statistics = _facet(kind)
        statistics["size"] = file["size"]
        dataset[f"{role}Facets"] = {key: statistics}
    return dataset


def run_events(run_ids: Collection[str]) -> dict[str, list[Event]]:
    """Return the events of runs as they are now, by run."""
    found = select_runs(run_ids)
    return {
        name: list(events_of(found, row)) for name, row in found.runs.items() if name in run_ids
    }
