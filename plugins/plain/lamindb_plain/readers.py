"""Functions of libraries whose C code opens files itself, which no audit hook sees.

Each is wrapped so that it says first which path it is given, and is then called as it was; it is
wrapped when its module is loaded, never loaded for that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from glob import glob
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from lamindb_plain import accesses
from lamindb_plain.accesses import READ, UPDATE, WRITE
from lamindb_plain.looks import look

# module → function → (name of the argument that holds the path, what happens to it)
_FUNCTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "pyarrow.parquet.core": {
        "ParquetFile.__init__": ("source", READ),
        "ParquetDataset.__init__": ("path_or_paths", READ),
        "ParquetWriter.__init__": ("where", WRITE),
    },
    "pyarrow.dataset": {"dataset": ("source", READ)},
    "pyarrow.csv": {
        "read_csv": ("input_file", READ),
        "open_csv": ("input_file", READ),
        "write_csv": ("output_file", WRITE),
        "CSVWriter": ("sink", WRITE),
    },
    "pyarrow.json": {"read_json": ("input_file", READ)},
    "pyarrow.feather": {
        "read_table": ("source", READ),
        "read_feather": ("source", READ),
        "write_feather": ("dest", WRITE),
    },
    "pyarrow": {
        "memory_map": ("path", READ),
        "input_stream": ("source", READ),
        "output_stream": ("source", WRITE),
    },
    "h5py._hl.files": {"make_fid": ("name", "mode")},
    "polars": {
        f"{verb}_{kind}": ("source", READ)
        for kind in (
            "csv",
            "parquet",
            "ipc",
            "ipc_stream",
            "ndjson",
            "json",
            "avro",
            "lines",
            "excel",
        )
        for verb in ("read", "scan")
    },
}
_WILD = re.compile(r"[*?\[]")
_H5PY_MODES = {"r": READ, "r+": UPDATE, "a": UPDATE, "w": WRITE, "w-": WRITE, "x": WRITE}


def watch() -> None:
    """Have these functions tell, from now on, also those that are loaded later."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        for name in _FUNCTIONS:
            if name in sys.modules:
                _wrap_all(sys.modules[name])


class _Finder(MetaPathFinder):
    """Leaves finding to the others, and has what they find wrapped once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _FUNCTIONS:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(Loader):
    """Loads as the other one does."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._other.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        # the module must look as without us
        module.__loader__ = self._other
        if module.__spec__ is not None:
            module.__spec__.loader = self._other
        self._other.exec_module(module)
        with suppress(Exception):  # of another version of it the files are not seen, no more
            _wrap_all(module)


def _wrap_all(module: ModuleType) -> None:
    for name, (argument, kind) in _FUNCTIONS[module.__name__].items():
        owner: Any = module
        *outer, last = name.split(".")
        for each in outer:
            owner = getattr(owner, each, None)
        function = getattr(owner, last, None)
        if callable(function) and not hasattr(function, "_lamindb_tells"):
            if isinstance(function, type):
                continue
            setattr(owner, last, _telling(function, argument, kind, is_method=bool(outer)))


def _telling(
    function: Callable[..., Any], argument: str, kind: str, *, is_method: bool
) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        positional = args[1:] if is_method else args
        given = positional[0] if positional else options.get(argument)
        what = kind
        if kind == "mode":
            mode = positional[1] if len(positional) > 1 else options.get("mode")
            what = _H5PY_MODES.get(mode or "r", READ)
        for path in _paths(given):
            accesses.told(what, path)
        return function(*args, **options)

    call._lamindb_tells = True  # type: ignore[attr-defined]
    return call


def _paths(given: Any) -> Iterator[str]:
    if isinstance(given, list | tuple):
        for each in given:
            yield from _paths(each)
    elif isinstance(given, str | bytes | Path):
        path = accesses.absolute(given)
        if Path(path).is_dir():
            yield from look([path], lambda _: True).files
        elif _WILD.search(path) and not Path(path).exists():
            yield from glob(path, recursive=True)  # noqa: PTH207 - the pattern is absolute
        else:
            yield path
