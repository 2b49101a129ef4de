"""Rows as typed DataFrames: with the same columns and dtypes however many rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Integer, Table

from lamindb.db.schema import UtcDateTime

if TYPE_CHECKING:
    import pandas as pd

TIME, TEXT, TRUTH, WHOLE = "datetime64[us, UTC]", "string", "boolean", "Int64"


def frame_of(table: Table, rows: Iterable[Any]) -> pd.DataFrame:
    """Return rows of all columns of a table as a DataFrame, indexed by the primary key."""
    dtypes = {column.name: dtype_of(column) for column in table.columns}
    frame = typed_frame(dtypes, rows)
    index = [column.name for column in table.primary_key]
    return frame.set_index(index[0] if len(index) == 1 else index)


def typed_frame(dtypes: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return rows, whose values are in the order of the columns, as a DataFrame.

    Args: dtypes: column → dtype.
    """
    by_column = list(zip(*rows, strict=True)) or [()] * len(dtypes)
    return frame_of_columns(
        {
            name: (dtype, values)
            for (name, dtype), values in zip(dtypes.items(), by_column, strict=True)
        }
    )


def frame_of_columns(columns: Mapping[str, tuple[str, Sequence[Any]]]) -> pd.DataFrame:
    """Return a DataFrame of columns, each given by its dtype and values."""
    import pandas as pd

    series = {
        name: pd.Series(list(values), dtype=dtype) for name, (dtype, values) in columns.items()
    }
    return pd.DataFrame(series, columns=list(columns))


def dtype_of(column: Any) -> str:
    kind = column.type
    if isinstance(kind, UtcDateTime):
        return TIME
    if isinstance(kind, Boolean):
        return TRUTH
    if isinstance(kind, Integer):
        return WHOLE
    if isinstance(kind, JSON):
        return "object"
    return TEXT
