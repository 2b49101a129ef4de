"""Which transform ``ln.track`` means: the given one, or the code that calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from sqlalchemy import select

from lamindb import config
from lamindb.db import schema
from lamindb.errors import TransformUnknownError
from lamindb.hooks import Caller, InferredTransform, manager
from lamindb.instance import Instance
from lamindb.records.transform import Transform
from lamindb.records.versions import version_of
from lamindb.storage.project import Project


def project_at(here: Instance) -> Project:
    """Return the project of an opened instance."""
    location = here.default_location
    return Project(Path(location.store.root) if location.store.is_local else None, location.id)


def inferred(project: Project) -> InferredTransform:
    """Ask the plugins what calls; raises TransformUnknownError."""
    caller = Caller(_calling_frame(), project.storage_root, project.storage_id)
    found = manager.first("ln_transform", caller=caller)
    if not isinstance(found, InferredTransform):
        raise TransformUnknownError(
            "this is no script or notebook that a plugin knows: say what is running, as in "
            "ln.track(transform=ln.Transform('My analysis', type='pipeline'))"
        )
    return found


def given(transform: Transform, project: Project) -> InferredTransform:
    """Describe what the user has asked for."""
    key = transform.key
    if key is None and not transform._was_given("id"):
        top = project.start_of(_code_folder())
        key = f"{top}:{transform.name} ({transform.type})" if top is not None else None
    return InferredTransform(
        name=transform.name,
        key=key or "",
        type=transform.type,  # type: ignore[arg-type]  # the constructor has looked
        source_hash=transform.source_hash,
        reference=transform.reference,
        title=transform.title,
        is_given=True,
        id=transform.id if transform._was_given("id") else None,
        version=transform.version if transform._was_given("version") else None,
    )


def resolved(here: Instance, transform: Transform | None, wanted: InferredTransform) -> Transform:
    """Return the transform, looked up or added.

    Args: transform: as it was given; None if it was inferred.
    Raises: TransformUnknownError: one given by its id alone is not there.
    """
    found = transform or Transform(wanted.name, type=wanted.type)
    with here.begin() as connection:
        if wanted.id is not None and not found._was_given("name"):
            table = schema.transform
            same = [table.c.id == wanted.id]
            if wanted.version is not None:
                same.append(table.c.version == wanted.version)
            if connection.execute(select(table.c.id).where(*same).limit(1)).first() is None:
                raise TransformUnknownError(
                    f"no transform has the id {wanted.id!r}"
                    + (f" and version {wanted.version!r}" if wanted.version is not None else "")
                    + ": look it up with ln.select(ln.Transform).df(), or give a name to add it"
                )
        row = version_of(connection, here, wanted)
    found._set_values(row)
    return found


def _calling_frame() -> FrameType:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "lamindb":
        frame = frame.f_back
    return frame or sys._getframe()


def _code_folder() -> Path:
    """Where the script lies; for what is installed, such as a notebook's kernel, where it runs."""
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(name).resolve() if name else None
    if path is None or path.is_relative_to(sys.prefix):
        return config.working_directory() or Path("/")
    return path.parent
