"""Tells plugins what has been recorded, once it is."""

from __future__ import annotations

from collections.abc import Iterable

from lamindb.hooks import manager
from lamindb.hooks.events import Event


def say_recorded(recorded: Iterable[tuple[Event, str]]) -> None:
    """Call ``ln_event_recorded`` for each event and the id of its record."""
    if manager.plugins().hook.ln_event_recorded.get_hookimpls():
        for event, record_id in recorded:
            manager.notify("ln_event_recorded", event=event, record_id=record_id)
