"""What a rule is, as code: its name across checkouts, and the hash that makes its version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lamindb.hooks import InferredTransform, mask_text, source_hash
from lamindb.storage.project import Project


def location_of(source: Any) -> str:
    """Return the path or URL of one of Snakemake's sources of code, without secrets."""
    try:
        return str(source.get_path_or_uri(secret_free=True))
    except TypeError:  # Snakemake 9.0 knows no such option
        return mask_text(str(source.get_path_or_uri()))


class Namer:
    """Names the code of one workflow; not safe in threads."""

    def __init__(self, snakefile: str) -> None:
        self.snakefile = snakefile
        self._project = Project.unopened()
        self._key = self._key_of(snakefile)
        self._rules: dict[tuple[str, str | None], InferredTransform] = {}
        self._texts: dict[str, tuple[Any, str | None]] = {}

    def workflow(self, snakefiles: list[str]) -> InferredTransform:
        """Describe the workflow: all of its Snakefiles are its code."""
        texts = [self._text(path) or "" for path in snakefiles]
        path = Path(self.snakefile)
        folder = path.parent.parent if path.parent.name == "workflow" else path.parent
        return InferredTransform(
            name=folder.name or path.name,
            key=self._key,
            type="pipeline",
            source_hash=source_hash("\n\0".join(texts)),
            reference=self.snakefile,
        )

    def rule(self, rule: Any, script: str | None) -> InferredTransform:
        """Describe a rule.

        Args: script: path or URL of the script or notebook of the very job, whose name may depend
            on wildcards.
        """
        text = self._text(script) if script is not None else None
        known = (rule.name, source_hash(text) if text is not None else script)
        found = self._rules.get(known)
        if found is None:
            found = self._rules[known] = InferredTransform(
                name=rule.name,
                key=f"{self._key}:{rule.name}",
                type=_type_of(rule),
                source_hash=source_hash(text if text is not None else _code_of(rule, script)),
                reference=script if script is not None else self.snakefile_of(rule),
                title=_first_line(rule.docstring),
            )
        return found

    def named(self, rule: str, version: str) -> InferredTransform:
        """Describe a rule of which only the name and the hash of its code are known."""
        key = f"{self._key}:{rule}"
        return InferredTransform(rule, key, "pipeline", version, self.snakefile)

    def snakefile_of(self, rule: Any) -> str:
        return str(getattr(rule, "snakefile", None) or self.snakefile)

    def _key_of(self, path: str) -> str:
        if not os.path.isabs(path):  # noqa: PTH117 - a URL
            return path
        return self._project.key_of(Path(path))

    def _text(self, path: str) -> str | None:
        """Return what a file of code says, reading it again only when it was changed."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return None
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        former, text = self._texts.get(path, (None, None))
        if former != seen:
            try:
                text = Path(path).read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = None
            self._texts[path] = seen, text
        return text


def _type_of(rule: Any) -> Any:
    return "notebook" if rule.notebook else "script" if rule.script else "pipeline"


def _code_of(rule: Any, script: str | None) -> str:
    """Return what a rule does, without where it stands."""
    for kind in ("shellcmd", "wrapper", "cwl", "template_engine"):
        if text := getattr(rule, kind, None):
            return f"{kind}\0{text}"
    if script is not None:
        return f"script\0{script}"
    return f"run\0{getattr(rule, 'run_func_src', None) or ''}"


def _first_line(docstring: str | None) -> str | None:
    lines = (docstring or "").strip().splitlines()
    return lines[0].strip()[:200] if lines else None
