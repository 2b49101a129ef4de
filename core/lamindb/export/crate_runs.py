"""Runs as actions of a crate: what was run, by which program, from what, with which parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from lamindb import display
from lamindb.graph.model import Row

if TYPE_CHECKING:
    from lamindb.export.ro_crate import Crate

_PROFILES = "https://w3id.org/ro/wfrun"
_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
_STATUSES = {
    "completed": "CompletedActionStatus",
    "cached": "CompletedActionStatus",
    "skipped": "CompletedActionStatus",
    "failed": "FailedActionStatus",
    "aborted": "FailedActionStatus",
    "cancelled": "FailedActionStatus",
    "started": "ActiveActionStatus",
}
_ENGINES = {
    "snakemake": ("Snakemake", "https://snakemake.github.io"),
    "prefect": ("Prefect", "https://www.prefect.io"),
    "plain": ("Python", "https://www.python.org"),
}

Reference = dict[str, str]


def add_runs(crate: Crate) -> None:
    """Describe every run; the workflow that made what was asked for is the crate's main entity."""
    actions = _Actions(crate)
    workflow = _workflow_of(crate)
    profiles = ["process"]
    if workflow is not None:
        profiles += ["workflow", "provenance"]
        actions.add_workflow(workflow)
    for run in crate.found.runs.values():
        crate.root["mentions"].append(actions.action(run))
    for name in profiles:
        reference = crate.add(
            {
                "@id": f"{_PROFILES}/{name}/0.5",
                "@type": "CreativeWork",
                "name": f"{name.capitalize()} Run Crate",
                "version": "0.5",
            }
        )
        crate.root["conformsTo"].append(reference)
    if workflow is not None:
        crate.root["conformsTo"].append(
            crate.add(
                {
                    "@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
                    "@type": "CreativeWork",
                    "name": "Workflow RO-Crate",
                    "version": "1.0",
                }
            )
        )


def _workflow_of(crate: Crate) -> Row | None:
    """The run that started the runs that wrote what was asked for, if one did start them."""
    found = crate.found
    makers = {link.run_id for link in found.links if link.file_id in found.wanted}
    tops = {found.top_of(link) for link in makers if link in found.runs}
    parents = [found.runs[top] for top in sorted(tops) if found.children(top)]
    if not parents:  # what was asked for was made of what one workflow made
        tops = {found.top_of(each) for each in found.runs}
        parents = [found.runs[top] for top in sorted(tops) if found.children(top)]
    # a crate has one main entity, and it must be there to be read
    if len(parents) != 1 or _code_of(found.transform_of(parents[0])) is None:
        return None
    return parents[0]


def _code_of(made: Row | None) -> str | None:
    """Return where a workflow's code is: a URL, or a file of this machine."""
    reference = (made["reference"] if made else None) or ""
    if urlsplit(reference).scheme in ("http", "https"):
        return quote(reference, safe=":/?#[]@!$&'()*+,;=%")
    return reference if reference and Path(reference).is_file() else None


class _Actions:
    def __init__(self, crate: Crate) -> None:
        self._crate, self._found = crate, crate.found
        self._known: dict[str, Reference] = {}
        # id and version of the main transform, and its entity
        self._main: tuple[str, str] | None = None
        self._workflow: Reference = {}

    # --- an action ----------------------------------------------------------------------------

    def action(self, run: Row) -> Reference:
        known = self._known.get(run["id"])
        if known is not None:
            return known
        found, crate = self._found, self._crate
        inputs = [{"@id": crate.file_ids[row["id"]]} for row in found.linked(run["id"], "input")]
        outputs = [{"@id": crate.file_ids[row["id"]]} for row in found.linked(run["id"], "output")]
        for child in self._family(run):
            inputs += [
                {"@id": crate.file_ids[row["id"]]} for row in found.linked(child["id"], "input")
            ]
            outputs += [
                {"@id": crate.file_ids[row["id"]]} for row in found.linked(child["id"], "output")
            ]
        if self._family(run):  # a workflow takes what none of its steps made, and gives all of it
            made = {each["@id"] for each in outputs}
            inputs = [each for each in inputs if each["@id"] not in made]
        objects = [*_once(inputs), *self._parameters(run), *self._values(run)]
        reference = {"@id": f"#run-{run['id']}"}
        self._known[run["id"]] = reference
        crate.add(
            {
                **reference,
                "@type": "CreateAction",
                "name": f"Run of {found.name_of(run)}",
                "description": self._description(run),
                "identifier": f"lamindb:run/{run['id']}",
                "instrument": self.tool(run),
                "agent": self._agent(run),
                "startTime": _time(run["started_at"]),
                "endTime": _time(run["finished_at"]),
                "actionStatus": f"http://schema.org/{_STATUSES[run['status']]}",
                "error": (run["error"] or run["status"])
                if _STATUSES[run["status"]] == "FailedActionStatus"
                else None,
                "object": objects,
                "result": _once(outputs),
                "subjectOf": self._environment(run),
            }
        )
        return reference

    def _family(self, run: Row) -> list[Row]:
        found: list[Row] = []
        left = self._found.children(run["id"])
        while left:
            child = left.pop()
            found.append(child)
            left += self._found.children(child["id"])
        return found

    def _description(self, run: Row) -> str:
        """What there is no property for, in words."""
        found = self._found
        words = [f"status: {run['status']}"]
        if run["name"] and run["name"] != found.name_of(run):
            words.append(f"name: {run['name']}")
        if run["engine"]:
            words.append(f"engine: {run['engine']}")
        if run["reference"]:
            words.append(f"{run['reference_type'] or 'reference'}: {run['reference']}")
        if found.attempts.get(run["id"], 1) > 1:
            words.append(f"attempts: {found.attempts[run['id']]}")
        words += [
            f"result reused from: lamindb:run/{link.other_id}"
            for link in found.run_links
            if link.run_id == run["id"] and link.role == "cached_from"
        ]
        return "; ".join(words)

    def _agent(self, run: Row) -> Reference | None:
        user = self._found.users.get(run["created_by_id"])
        if user is None:
            return None
        return self._crate.add(
            {
                "@id": f"#person-{user['id']}",
                "@type": "Person",
                "name": user["name"] or user["handle"],
                "email": user["email"],
            }
        )

    def _parameters(self, run: Row) -> list[Reference]:
        return [
            self._crate.add(
                {
                    "@id": f"#param-{run['id']}-{quote(str(name), safe='')}",
                    "@type": "PropertyValue",
                    "name": str(name),
                    "value": _value(value),
                    "exampleOfWork": self._formal(run, str(name), value),
                }
            )
            for name, value in (run["params"] or {}).items()
        ]

    def _formal(self, run: Row, name: str, value: Any) -> Reference | None:
        made = self._found.transform_of(run)
        if made is None:
            return None
        reference = self._crate.add(
            {
                "@id": f"#formal-{_version_id(made)}-{quote(name, safe='')}",
                "@type": "FormalParameter",
                "additionalType": _kind(value),
                "name": name,
                "conformsTo": {"@id": _PARAMETER},
            }
        )
        tool = self._crate.entities[self.tool(run)["@id"]]
        inputs = tool.setdefault("input", [])
        if reference not in inputs:
            inputs.append(reference)
        return reference

    def _values(self, run: Row) -> list[Reference]:
        """What a run took of others without a file: that it did is known, the value is not."""
        found = []
        for link in self._found.run_links:
            if link.run_id != run["id"] or link.role != "informed_by":
                continue
            other = self._found.runs.get(link.other_id)
            if other is None:
                continue
            reference = self._crate.add(
                {
                    "@id": f"#value-{link.other_id}",
                    "@type": "PropertyValue",
                    "name": f"value of {self._found.name_of(other)}",
                    "value": "passed in memory, not recorded",
                }
            )
            found.append(reference)
            action = self._crate.entities[self.action(other)["@id"]]
            results = action.setdefault("result", [])
            if reference not in results:
                results.append(reference)
        return found

    def _environment(self, run: Row) -> Reference | None:
        environment = self._found.environments.get(run["environment_id"])
        if environment is None or not environment["python"]:
            return None
        name = f"environments/{environment['id']}.txt"
        lines = [f"{each}=={version}" for each, version in environment["packages"].items()]
        self._crate.texts[name] = "\n".join([f"# {environment['python']}", *lines, ""])
        return self._crate.part(
            {
                "@id": name,
                "@type": "File",
                "name": f"Packages of {environment['python']}",
                "encodingFormat": "text/plain",
            }
        )

    # --- what was run -------------------------------------------------------------------------

    def tool(self, run: Row) -> Reference:
        """Return the program: a transform in one version, or, of a run without one, its name."""
        made = self._found.transform_of(run)
        if made is None:
            return self._crate.add(
                {
                    "@id": f"#program-{quote(self._found.name_of(run), safe='')}",
                    "@type": "SoftwareApplication",
                    "name": self._found.name_of(run),
                }
            )
        if (made["id"], made["version"]) == self._main:
            return self._workflow
        return self._crate.add(
            {
                "@id": f"#transform-{_version_id(made)}",
                "@type": "SoftwareApplication",
                **_described(made),
            }
        )

    def add_workflow(self, run: Row) -> None:
        """Make a run's transform the main entity, with a step for each kind of its runs."""
        made = self._found.transform_of(run)
        assert made is not None
        crate = self._crate
        self._main = (made["id"], made["version"])
        engine = self._engine(run)
        described, name = _described(made), _code_of(made)
        assert name is not None
        if "://" not in name:
            path = Path(name)
            name = f"workflow/{quote(path.name)}"
            crate.pack(f"workflow/{path.name}", path)
            if _changed_after(path, run):
                described["description"] = (
                    "the code as it was when this crate was made: it was changed after the run, "
                    "and the code that ran is known by its hash alone"
                )
        reference = self._workflow = crate.part(
            {
                "@id": name,
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                **described,
                "programmingLanguage": self._language(run),
            }
        )
        workflow = crate.entities[reference["@id"]]
        crate.root["mainEntity"] = reference
        actions = [(child, self.tool(child), self.action(child)) for child in self._family(run)]
        steps: dict[str, list[Reference]] = {}
        for _, used, action in sorted(actions, key=lambda each: _order(each[0])):
            steps.setdefault(used["@id"], []).append(action)
        workflow["hasPart"] = [{"@id": each} for each in steps]
        workflow["step"] = []
        controls = []
        for position, (tool, done) in enumerate(steps.items(), 1):
            step = crate.add(
                {
                    "@id": f"#step-{position}",
                    "@type": "HowToStep",
                    "position": str(position),
                    "name": crate.entities[tool]["name"],
                    "workExample": {"@id": tool},
                }
            )
            workflow["step"].append(step)
            controls.append(
                crate.add(
                    {
                        "@id": f"#control-{position}",
                        "@type": "ControlAction",
                        "name": f"Orchestration of {crate.entities[tool]['name']}",
                        "instrument": step,
                        "object": done,
                    }
                )
            )
        crate.add(
            {
                "@id": f"#organize-{run['id']}",
                "@type": "OrganizeAction",
                "name": f"Run of {crate.entities[engine['@id']]['name']}",
                "instrument": engine,
                "agent": self._agent(run),
                "object": controls,
                "result": self.action(run),
                "startTime": _time(run["started_at"]),
                "endTime": _time(run["finished_at"]),
            }
        )

    def _engine(self, run: Row) -> Reference:
        name, url = _ENGINES.get(run["engine"] or "", (run["engine"] or "unknown engine", None))
        environment = self._found.environments.get(run["environment_id"])
        version = environment["packages"].get(run["engine"]) if environment else None
        return self._crate.add(
            {
                "@id": f"#engine-{quote(run['engine'] or 'unknown', safe='')}",
                "@type": "SoftwareApplication",
                "name": name,
                "url": url,
                "softwareVersion": version,
            }
        )

    def _language(self, run: Row) -> Reference:
        if run["engine"] == "snakemake":
            return self._crate.add(
                {
                    "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
                    "@type": "ComputerLanguage",
                    "name": "Snakemake",
                    "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
                    "url": {"@id": "https://snakemake.readthedocs.io"},
                }
            )
        return self._crate.add(
            {
                "@id": "#python",
                "@type": "ComputerLanguage",
                "name": "Python",
                "url": "https://www.python.org",
            }
        )


def _version_id(made: Row) -> str:
    return f"{made['id']}-{quote(made['version'], safe='')}"


def _described(made: Row) -> dict[str, Any]:
    is_url = made["reference"] and urlsplit(made["reference"]).scheme in ("http", "https")
    words = [f"code: {made['key']}"] if made["key"] else []
    if made["reference"] and not is_url:
        words.append(f"at: {made['reference']}")
    if made["source_hash"]:
        words.append(f"hash of the code: {made['source_hash']}")
    return {
        "name": made["name"],
        "description": made["title"],
        "version": made["version"],
        "identifier": f"lamindb:transform/{made['id']}",
        "url": made["reference"] if is_url else None,
        "disambiguatingDescription": "; ".join(words) or None,
    }


def _changed_after(path: Path, run: Row) -> bool:
    started = run["started_at"]
    return started is None or path.stat().st_mtime > started.timestamp()


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    return "Float" if isinstance(value, float) else "Text"


def _time(value: Any) -> str | None:
    return None if value is None else value.isoformat()


def _order(run: Row) -> tuple[bool, str, str]:
    return run["started_at"] is None, display.show_value(run["started_at"]), run["id"]


def _once(references: list[Reference]) -> list[Reference]:
    return [{"@id": name} for name in dict.fromkeys(each["@id"] for each in references)]
