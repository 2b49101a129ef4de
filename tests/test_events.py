"""Events as JSON, and what is kept of parameters: bounded, and without secrets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunStarted,
    describe_params,
    mask_arguments,
    mask_text,
)
from lamindb.hooks.events import KINDS, Event, from_json, to_json

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)


def strategy_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    fields = {
        "at": st.datetimes(timezones=st.just(dt.UTC)),
        "process_started_at": st.none() | st.datetimes(timezones=st.just(dt.UTC)),
        "params": st.none() | st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
        "details": st.none() | st.dictionaries(st.text(), st.integers() | st.booleans()),
        "packages": st.dictionaries(st.text(), st.text()),
    }
    return st.builds(
        kind,
        **{
            each.name: fields[each.name] for each in dataclasses.fields(kind) if each.name in fields
        },
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_event_is_the_same_after_json(kind: type[Event]) -> None:
    @given(strategy_of(kind))
    def is_the_same(event: Event) -> None:
        line = to_json(event)
        assert "\n" not in line and line.isascii()
        assert from_json(line) == event

    is_the_same()


def test_an_event_keeps_its_time_to_the_microsecond_and_has_an_id_of_its_own() -> None:
    one, other = FileRead(run="r", uri="/a"), FileRead(run="r", uri="/a")
    assert one.event_id != other.event_id and len(one.event_id) == 20
    assert one.at.tzinfo is dt.UTC
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.uri = "/b"  # type: ignore[misc]


def test_an_event_of_a_newer_version_is_passed_over_and_its_new_fields_too() -> None:
    assert from_json('{"event": "RunTeleported", "run": "r"}') is None
    line = to_json(FileWritten(run="r", uri="/a", stat=FileStat(1, 2, 3, 4, 5)))
    values = json.loads(line) | {"novelty": 1}
    values["stat"]["novelty"] = 2
    event = from_json(json.dumps(values))
    assert isinstance(event, FileWritten) and event.stat == FileStat(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"event": "FileRead"}', '{"event": "FileRead", "at": 5}']
)
def test_what_is_no_event_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


def test_a_transform_travels_with_the_start_of_a_run() -> None:
    transform = InferredTransform("clean", "lab/clean", "pipeline", source_hash="h", title="T")
    event = from_json(to_json(RunStarted(run="r", engine="e", transform=transform)))
    assert isinstance(event, RunStarted) and event.transform == transform


# --- parameters -----------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Config:
    rate: float
    api_key: str


class Opaque:
    pass


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class SecretStr:
    pass


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (2**80, "<81-bit int>"),
        ("text", "text"),
        (b"abc", "<bytes, 3 bytes>"),
        (Path("a/b"), "a/b"),
        (NOW, "2026-11-26T12:00:00+00:00"),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        (Config(0.5, "k"), {"rate": 0.5, "api_key": "***"}),
        (SecretStr(), "***"),
        (Opaque(), "<Opaque>"),
        (Rude(), "<Rude>"),
        (len, "<builtins.len>"),
        (pd.DataFrame({"a": [1, 2]}), "<DataFrame 2x1>"),
        (np.zeros((3, 4)), "<ndarray 3x4>"),
        (np.float64(2.5), 2.5),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.datetime64("2026-11-26"), "2026-11-26"),
        (np.array("text"), "text"),
        ("a\0b\udc80", "a\\x00b\\udc80"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_parameter_is_kept_as_json(value: Any, kept: Any) -> None:
    assert describe_params({"x": value}) == {"x": kept}


def test_large_parameters_are_summarised() -> None:
    kept = describe_params({"many": list(range(1_000_000)), "long": "x" * 10_000_000})
    assert kept["many"][:2] == [0, 1] and kept["many"][-1] == "… 999,950 more"
    assert kept["long"].endswith("… (10,000,000 characters)")
    assert len(json.dumps(kept)) < 5_000
    wide = describe_params({f"p{number}": "y" * 1_900 for number in range(100)})
    assert len(json.dumps(wide)) < 70_000


def test_what_refers_to_itself_comes_to_an_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert json.dumps(describe_params({"loop": loop}))


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "dbPassword", "API_KEY", "apiKey", "aws-secret-access-key",
     "token", "GITHUB_TOKEN", "authorization", "cookie", "db_pass", "credentials"],
)  # fmt: skip
def test_a_secret_is_masked_by_its_name(name: str) -> None:
    assert describe_params({name: "s3cr3t"}) == {name: "***"}
    assert describe_params({"config": {name: ["s3cr3t"]}}) == {"config": {name: "***"}}
    assert "s3cr3t" not in " ".join(mask_arguments([f"--{name}=s3cr3t", f"--{name}", "s3cr3t"]))


@pytest.mark.parametrize("name", ["author", "key", "sort_key", "monkey", "passes", "compass", "n"])
def test_what_is_no_secret_is_kept(name: str) -> None:
    assert describe_params({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:pw@db.example.org/x", "postgresql://***@db.example.org/x"),
        ("https://host/a?token=abc&n=3", "https://host/a?token=***&n=3"),
        ("PASSWORD=hunter2 make", "PASSWORD=*** make"),
        ("Authorization: Bearer a.b-c, Accept: x", "Authorization: ***, Accept: x"),
        ("curl -H 'Authorization: Basic dXNlcjpwdw=='", "curl -H 'Authorization: ***'"),
        ("key ghp_" + "a" * 30, "key ***"),
        ("AKIA" + "A" * 16, "***"),
        ("a plain sentence: nothing = here", "a plain sentence: nothing = here"),
        ("s3://bucket/key@2", "s3://bucket/key@2"),
    ],
)
def test_secrets_in_texts_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_any_parameter_ends_as_json_that_every_database_keeps(value: Any) -> None:
    text = json.dumps(describe_params({"x": value}), allow_nan=False)
    # a backslash of the text itself is two in JSON
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()
