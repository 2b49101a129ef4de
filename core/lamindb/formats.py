"""The built-in readers and writers, as a plugin: another one for the same suffix goes first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lamindb.errors import FormatError
from lamindb.hooks import Loader, Serializer, hookimpl


@hookimpl(trylast=True)
def ln_loader(suffix: str) -> Loader | None:
    return _LOADERS.get(suffix.lower())


@hookimpl(trylast=True)
def ln_serializer(data: Any, suffix: str) -> Serializer | None:
    import pandas as pd

    return _FRAME_WRITERS.get(suffix.lower()) if isinstance(data, pd.DataFrame) else None


def _read_csv(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path)


def _read_tsv(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, sep="\t")


def _read_parquet(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _read_feather(path: Path) -> Any:
    import pandas as pd

    return pd.read_feather(path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _read_text(path: Path) -> Any:
    return path.read_text(encoding="utf-8")


def _read_npy(path: Path) -> Any:
    import numpy as np

    # pickled objects in an array could run code
    return np.load(path, allow_pickle=False)


def _read_h5ad(path: Path) -> Any:
    try:
        import anndata
    except ImportError as error:
        raise FormatError(f"reading {path.name} needs anndata: pip install anndata") from error
    return anndata.read_h5ad(path)


def _read_zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise FormatError(f"reading {path.name} needs zarr: pip install zarr") from error
    return zarr.open(str(path), mode="r")


_LOADERS: dict[str, Loader] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".tsv": _read_tsv,
    ".tsv.gz": _read_tsv,
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".txt": _read_text,
    ".md": _read_text,
    ".npy": _read_npy,
    ".npz": _read_npy,
    ".h5ad": _read_h5ad,
    ".zarr": _read_zarr,
}


def _write_parquet(frame: Any, path: Path) -> None:
    frame.to_parquet(path)


def _write_feather(frame: Any, path: Path) -> None:
    frame.to_feather(path)


def _write_csv(frame: Any, path: Path, separator: str = ",") -> None:
    # a default index is no data: what is read back then has the columns that went in
    index = not _has_default_index(frame)
    # gzip would note the time, and the same frame have another hash a second later
    compression = {"method": "gzip", "mtime": 1} if path.suffix.lower() == ".gz" else None
    frame.to_csv(path, sep=separator, index=index, compression=compression)


def _write_tsv(frame: Any, path: Path) -> None:
    _write_csv(frame, path, "\t")


def _write_json(frame: Any, path: Path) -> None:
    kept = frame if _has_default_index(frame) else frame.reset_index()
    kept.to_json(path, orient="records")


def _has_default_index(frame: Any) -> bool:
    import pandas as pd

    return isinstance(frame.index, pd.RangeIndex) and frame.index.name is None


_FRAME_WRITERS: dict[str, Serializer] = {
    ".parquet": _write_parquet,
    ".feather": _write_feather,
    ".csv": _write_csv,
    ".csv.gz": _write_csv,
    ".tsv": _write_tsv,
    ".tsv.gz": _write_tsv,
    ".json": _write_json,
}
