"""Who works here, as the records know it."""

import pytest

import lamindb as ln

pytestmark = pytest.mark.databases


def test_a_user_new_to_the_instance_can_track_and_add_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LAMINDB_BUSY_TIMEOUT", "2")
    made = ln.setup.init("./mydata")
    monkeypatch.setenv("LAMINDB_USER", "somebody-else")
    ln.setup.load(made.name)
    ln.track(transform=ln.Transform("first thing they do"))
    assert ln.context.run.created_by.handle == "somebody-else"

    monkeypatch.setenv("LAMINDB_USER", "a-third")
    ln.setup.load(made.name)
    assert ln.add(ln.Transform("only added")).created_by.handle == "a-third"
