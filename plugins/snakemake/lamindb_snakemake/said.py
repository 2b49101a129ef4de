"""Stand-ins for Snakemake's objects, made from what its log records say and nothing else.

For a version that hides its workflow: less is known then, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MISSING = "params, attempts, scripts, real paths of files in storages, hashes of temporary files"
# what Snakemake adds to a path when it shows it
_SHOWN = re.compile(r" \((?P<kind>pipe|service|[^()]*storage[^()]*|update|[a-z ]+)\)$")


class SaidFile(str):
    """A path as it is shown, with the flags that this tells."""

    flags: Mapping[str, bool]

    @classmethod
    def of(cls, shown: object) -> SaidFile:
        found = _SHOWN.search(str(shown))
        file = cls(str(shown)[: found.start()] if found else str(shown))
        kind = found["kind"] if found else ""
        # of what lies in a storage the path is not said: it is passed over like a pipe
        file.flags = {"pipe": True} if kind in ("pipe", "service") or "storage" in kind else {}
        return file


@dataclass(eq=False)
class SaidJob:
    """A job as its start was logged."""

    jobid: int
    rule: Any
    input: list[SaidFile]
    output: list[SaidFile]
    wildcards_dict: dict[str, str]
    attempt: int = 1
    group: None = None

    @classmethod
    def of(cls, said: Mapping[str, Any], attempt: int) -> SaidJob:
        rule = SimpleNamespace(
            name=said["rule_name"],
            shellcmd=None,
            docstring=None,
            run_func_src=None,
            norun=False,
            snakefile=None,
            **dict.fromkeys(("script", "notebook", "wrapper", "cwl", "template_engine")),
            **dict.fromkeys(("env_modules", "conda_env", "container_img")),
        )
        return cls(
            int(said["jobid"]),
            rule,
            [SaidFile.of(path) for path in said.get("input") or ()],
            [SaidFile.of(path) for path in said.get("output") or ()],
            {name: str(value) for name, value in dict(said.get("wildcards") or {}).items()},
            attempt,
        )

    def is_group(self) -> bool:
        return False

    def is_pipe_or_service_input(self, file: object) -> bool:
        return False


@dataclass
class SaidWorkflow:
    """A workflow as its start was logged."""

    snakefile: str
    config: dict[str, Any] = field(default_factory=dict)
    scheduler: None = None
    is_hidden: bool = True

    @property
    def included(self) -> list[Any]:
        return [SimpleNamespace(get_path_or_uri=lambda secret_free: self.snakefile)]
