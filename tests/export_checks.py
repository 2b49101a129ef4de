"""What those who read exports say of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lamindb import instance
from lamindb.cli import main

ROOT = Path(__file__).parent.parent
CHECK = Path(__file__).parent / "crate_check.py"
SCHEMAS = next(
    (each / "shared" / "openlineage" for each in ROOT.parents[:2] if (each / "shared").is_dir()),
    ROOT / "absent",
)


def lamin(*arguments: str, code: int = 0) -> str:
    instance.reset()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def entities(crate: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def of_type(crate: Path, kind: str) -> list[dict[str, Any]]:
    return [each for each in entities(crate).values() if kind in each["@type"]]


def checked(cache: Path, **crates: str) -> list[dict[str, Any]]:
    """Return what others say of crates; the profile is written with _ for -."""
    checks = [
        f"{name.split('__')[0].replace('_', '-')}-0.5={Path(path).absolute()}"
        for name, path in crates.items()
    ]
    done = subprocess.run(
        [sys.executable, str(CHECK), str(cache), *checks],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def events_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def validator() -> Any:
    """Return what raises unless an event, and each facet of it, is as its official schema says."""
    if not SCHEMAS.is_dir():
        pytest.skip("the official OpenLineage schemas are not beside this checkout, in ../shared")
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry, Resource

    schemas = [json.loads(path.read_text()) for path in SCHEMAS.rglob("*.json")]
    registry: Any = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )

    def check(value: Any, url: str) -> None:
        Draft202012Validator(
            {"$ref": url}, registry=registry, format_checker=FormatChecker()
        ).validate(value)

    def validate(event: dict[str, Any]) -> None:
        check(event, event["schemaURL"])
        holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
        for holder in holders:
            for name in ("facets", "inputFacets", "outputFacets"):
                for facet in holder.get(name, {}).values():
                    check(facet, facet["_schemaURL"])

    return validate
