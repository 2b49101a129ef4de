"""Files with what they come from as a Workflow Run RO-Crate, for archives and for handing over.

The JSON-LD is written here, not by the ``rocrate`` package: it is a list of flat objects, and that
package fetches and rewrites what a record must keep as it is. Tests read it with that package, with
``roc-validator`` and with ``runcrate``.

Source: RO-Crate 1.1; Process, Workflow and Provenance Run Crate 0.5,
https://www.researchobject.org/workflow-run-crate/. Nothing is invented: what is not recorded is
left out, and a file whose bytes are not as recorded is named by where it was, not packed.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

from lamindb import instance
from lamindb.db import schema
from lamindb.errors import KeyConflictError, LaminError
from lamindb.export.crate_runs import add_runs
from lamindb.export.places import hex_hash, place_of
from lamindb.export.selection import Selection
from lamindb.graph.model import Row, label
from lamindb.progress import progress
from lamindb.storage.hashing import DIRECTORY_HASH
from lamindb.storage.sources import LocalSource, digest

Data = Literal["asked", "all", "none"]
Entity = dict[str, Any]
METADATA = "ro-crate-metadata.json"
_LONGEST_PART = 200  # bytes; file systems take 255
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    {"md5": "https://w3id.org/ro/terms/workflow-run#md5"},
]


class Crate:
    """The entities of a crate by ``@id``, and the files that it packs."""

    def __init__(self, found: Selection, title: str) -> None:
        self.found = found
        self.entities: dict[str, Entity] = {}
        self.packed: dict[str, Path] = {}  # path in the crate → file or folder
        self._folders: set[str] = set()  # of those that are packed
        self._parts: set[str] = set()
        self.texts: dict[str, str] = {}  # path in the crate → its content
        self.file_ids: dict[str, str] = {}  # record → @id
        self.root: Entity = {
            "@id": "./",
            "@type": "Dataset",
            "name": title,
            "description": f"{title}, with the runs that made it, as recorded by lamindb-workflows "
            f"in the instance {instance.current().name}",
            "datePublished": schema.now().date().isoformat(),
            "conformsTo": [],
            "hasPart": [],
            "mentions": [],
        }

    def add(self, entity: Entity) -> dict[str, str]:
        """Add an entity, or leave the one of its id, and return the reference to it."""
        known = {name: value for name, value in entity.items() if value not in (None, "", [], {})}
        self.entities.setdefault(entity["@id"], known)
        return {"@id": entity["@id"]}

    def part(self, entity: Entity) -> dict[str, str]:
        """Add data that belongs to the crate."""
        is_new = entity["@id"] not in self._parts
        self._parts.add(entity["@id"])
        reference = self.add(entity)
        if is_new:
            self.root["hasPart"].append(reference)
        return reference

    def pack(self, name: str, path: Path) -> None:
        """Put a file or folder into the crate under a name that is free."""
        self.packed[name] = path
        self._folders |= {str(each) for each in PurePosixPath(name).parents}

    def is_free(self, name: str) -> bool:
        """Whether nothing has the name, lies below it, or is a file or folder above it."""
        above = {str(each) for each in PurePosixPath(name).parents}
        return name not in self._folders and not (above | {name}) & self.packed.keys()

    def as_json(self) -> str:
        descriptor = {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": [{"@id": "https://w3id.org/ro/crate/1.1"}],
            "about": {"@id": "./"},
        }
        if "mainEntity" in self.root:
            workflow = {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}
            descriptor["conformsTo"].append(workflow)  # type: ignore[attr-defined]
        graph = [descriptor, self.root, *self.entities.values()]
        return json.dumps({"@context": CONTEXT, "@graph": graph}, indent=2, ensure_ascii=False)


def write(
    found: Selection,
    target: Path,
    *,
    title: str,
    data: Data = "asked",
    license: str | None = None,
) -> list[str]:
    """Write a crate to a new folder, or to a new file that ends in ``.zip``.

    Args:
        title: of the crate.
        data: which bytes to pack: of the files that were asked for, of all upstream too, or none.
        license: URL or name, for what is in the crate; validators refuse one without it.
    Returns: keys or names of the files that were to be packed, and are not: their bytes are gone,
        elsewhere, or not those that were recorded.
    Raises: KeyConflictError: there is something at the target.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise KeyConflictError(f"{target} is there already: name a new file or an empty folder")
    crate = Crate(found, title)
    if license:
        crate.root["license"] = license
    with progress("Hashing files"):
        left_out = _add_files(crate, data)
    add_runs(crate)
    with _folder_of(target) as folder:
        with progress("Packing files", lambda: len(crate.packed), "items") as advance:
            for name, source in crate.packed.items():
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, place)
                else:
                    shutil.copyfile(source, place)
                advance(1)
        for name, text in crate.texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / METADATA).write_text(crate.as_json(), encoding="utf-8")
    return left_out


@contextmanager
def _folder_of(target: Path) -> Iterator[Path]:
    if target.suffix.lower() != ".zip":
        target.mkdir(parents=True, exist_ok=True)
        yield target
        return
    with TemporaryDirectory() as name:
        yield Path(name)
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
            paths = sorted(Path(name).rglob("*"))
            with progress(f"Writing {target.name}", lambda: len(paths), "items") as advance:
                for path in paths:
                    archive.write(path, path.relative_to(name).as_posix())
                    advance(1)


# --- files ----------------------------------------------------------------------------------------


def _add_files(crate: Crate, data: Data) -> list[str]:
    left_out = []
    for file in sorted(crate.found.files.values(), key=lambda row: (label(row), row["id"])):
        is_wanted = data == "all" or (data == "asked" and file["id"] in crate.found.wanted)
        place = place_of(file, crate.found.storages[file["storage_id"]])
        path = place.path if is_wanted else None
        is_packed = path is not None and _is_as_recorded(path, file)
        if is_wanted and not is_packed:
            left_out.append(label(file))
        is_folder = file["hash_type"] == DIRECTORY_HASH
        if is_packed:
            assert path is not None
            inside = _inside(crate, file)
            crate.pack(inside, path)
            name = quote(inside)
        else:
            name = place.uri
        reference = crate.part(
            {
                "@id": _unique(crate, f"{name}/" if is_folder else name, file),
                "@type": "Dataset" if is_folder else "File",
                "name": label(file),
                "description": file["description"],
                "contentSize": None if file["size"] is None or is_folder else str(file["size"]),
                "dateModified": file["created_at"].isoformat(),
                "md5": hex_hash(file),
                "identifier": f"lamindb:file/{file['id']}",
                "url": None if not is_packed else place.uri,
                "disambiguatingDescription": _note(file),
            }
        )
        crate.file_ids[file["id"]] = reference["@id"]
    return left_out


def _note(file: Row) -> str | None:
    notes = []
    if not file["is_latest"]:
        notes.append("an older version: the key has newer content since")
    if file["hash"] is None:
        notes.append(f"its content is not known: {file['hash_note'] or 'no hash was recorded'}")
    elif file["hash_type"] == DIRECTORY_HASH:
        notes.append(f"a folder, whose {DIRECTORY_HASH} is {file['hash']}")
    return "; ".join(notes) or None


def _is_as_recorded(path: Path, file: Row) -> bool:
    if file["hash"] is None or not path.exists():
        return False
    try:
        return digest(LocalSource(path)).hash == str(file["hash"])
    except (LaminError, OSError):
        return False


def _inside(crate: Crate, file: Row) -> str:
    """Return where a file is packed: by its key, or, where that is taken, by its id too."""
    name = f"data/{label(file)}" if file["key"] else f"data/{file['id']}/{file['name']}"
    parts = [_short(part) for part in name.split("/") if part not in ("", ".", "..")]
    name = "/".join(part.replace("\\", "_") for part in parts)
    if not crate.is_free(name):
        name = f"data/{file['id']}/{parts[-1]}"
    return name


def _short(part: str) -> str:
    """Return a name that file systems take: with its start and end, for it may end in a suffix."""
    if len(part.encode()) <= _LONGEST_PART:
        return part
    half = _LONGEST_PART // 2
    start, end = part.encode()[: half - 3], part.encode()[-half:]
    return start.decode(errors="ignore") + "…" + end.decode(errors="ignore")


def _unique(crate: Crate, name: str, file: Row) -> str:
    """Two contents at one place are two entities: a fragment tells them apart."""
    return name if name not in crate.entities else f"{name}#{file['id']}"


__all__ = ["METADATA", "Crate", "Data", "write"]
