"""The language of include and exclude patterns, and what never counts."""

import sys
from pathlib import Path

import pytest

from lamindb.rules import Rules, compiled


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.csv", ["a.csv", "x/y/a.csv"], ["a.csv.gz", "x/a.txt"]),
        ("a?[bc].txt", ["a1b.txt", "x/a2c.txt"], ["a/b.txt", "a1d.txt"]),
        ("a[!b].txt", ["ac.txt"], ["ab.txt", "a/.txt"]),
        ("out/*.csv", ["out/a.csv"], ["x/out/a.csv", "out/x/a.csv"]),
        ("./out/*.csv", ["out/a.csv"], ["x/out/a.csv"]),
        ("out/", ["out/a", "out/x/a", "x/out/a"], ["out", "outer/a"]),
        ("out", ["out", "out/x/a", "x/out"], ["outer"]),
        ("out/**", ["out/a", "out/x/a"], ["out", "x.out/a"]),
        ("x/**/b.csv", ["x/b.csv", "x/1/b.csv", "x/1/2/b.csv"], ["b.csv", "x/ab.csv"]),
        ("**/logs", ["logs", "x/logs", "x/logs/1"], ["xlogs"]),
        ("**", ["a", "x/y"], []),
        ("a+b (1).csv", ["a+b (1).csv"], ["aab (1).csv"]),
    ],
)
def test_a_pattern_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    matches = compiled(pattern, "/project")
    assert [path for path in matching if not matches(f"/project/{path}")] == []
    assert [path for path in other if matches(f"/project/{path}")] == []


def test_absolute_patterns_and_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert compiled("/data/**", "/project")("/data/x/y")
    assert not compiled("/data/**", "/project")("/project/data/x")
    assert compiled("~/data", "/project")("/home/me/data/x")


def test_as_a_path_a_pattern_without_a_slash_is_one_place() -> None:
    matches = compiled("a.csv", "/project", is_path=True)
    assert matches("/project/a.csv")
    assert not matches("/project/x/a.csv")


def decisions(rules: Rules, *paths: str) -> list[bool]:
    return [rules.decide(path).counts for path in paths]


def test_by_default_what_lies_in_the_project_counts(tmp_path: Path) -> None:
    rules = Rules([tmp_path])
    assert decisions(rules, f"{tmp_path}/a", f"{tmp_path}/x/y/b") == [True, True]
    assert decisions(rules, f"{tmp_path.parent}/a", "/data/x", f"{tmp_path}x/a") == [False] * 3
    assert "outside of" in rules.decide("/data/x").why


@pytest.mark.parametrize(
    "path",
    [
        ".git/index", ".lamindb/lamindb.sqlite", ".snakemake/log/x", "x/__pycache__/a.pyc",
        ".venv/lib/x", ".a.txt.swp", "a.txt~", "db.sqlite-wal", "#a#", "lib.egg-info/PKG-INFO",
        ".ipynb_checkpoints/a.ipynb",
    ],
)  # fmt: skip
def test_tools_own_files_do_not_count(tmp_path: Path, path: str) -> None:
    decision = Rules([tmp_path]).decide(f"{tmp_path}/{path}")
    assert not decision.counts
    assert "of a tool" in decision.why


def test_the_interpreter_and_temporary_files_do_not_count() -> None:
    rules = Rules(["/project"])
    assert "interpreter" in rules.decide(f"{sys.base_prefix}/lib/x.py").why
    assert "temporary" in rules.decide("/tmp/x").why
    assert decisions(rules, "/proc/self/status", "/etc/hosts") == [False, False]


def test_the_innermost_folder_decides() -> None:
    # a project in a temporary folder, with an environment of its own inside
    rules = Rules(["/tmp/project"], never=["/tmp/project/cache"])
    assert decisions(rules, "/tmp/project/a", "/tmp/project/cache/a") == [True, False]


def test_exclude_wins_over_include_and_an_exclamation_mark_takes_it_back() -> None:
    rules = Rules(
        ["/project"], include=["/data/**", ".venv/x"], exclude=["*.log", "!keep.log", "/data/raw/"]
    )
    assert decisions(rules, "/data/a", "/data/a.log", "/data/keep.log") == [True, False, True]
    assert decisions(rules, "/data/raw/a", "/project/.venv/x", "/project/a") == [False, True, True]
    assert rules.decide("/data/a.log").why == "exclude '*.log'"
    assert rules.decide("/data/a").why == "include '/data/**'"
