"""Modules that may be loaded, or are about to be, in another thread."""

import importlib
import threading
from pathlib import Path

import pytest

from lamindb.modules import loaded

HALF = """
import threading
early = 1
threading.began.set()
threading.go_on.wait(20)
late = 2
"""


def test_what_another_thread_is_about_to_load_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loaded_by_half.py").write_text(HALF)
    monkeypatch.syspath_prepend(tmp_path)
    began, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "began", began, raising=False)
    monkeypatch.setattr(threading, "go_on", go_on, raising=False)
    names = ("early", "late", "never")
    assert [loaded("loaded_by_half", name) for name in names] == [None, None, None]
    loading = threading.Thread(target=importlib.import_module, args=["loaded_by_half"])
    loading.start()
    try:
        assert began.wait(20)
        assert [loaded("loaded_by_half", name) for name in names] == [None, None, None]
    finally:
        go_on.set()
        loading.join()
    assert [loaded("loaded_by_half", name) for name in names] == [1, 2, None]
