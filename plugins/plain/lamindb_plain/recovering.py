"""The files of runs whose processes died before they could tell of them."""

from __future__ import annotations

from collections.abc import Iterator

from lamindb import recording
from lamindb.instance import Instance
from lamindb.rules import Rules
from lamindb_plain import claims
from lamindb_plain.claims import Claimed
from lamindb_plain.observing import Observation, regular
from lamindb_plain.telling import TICK_NS, Written, events


def recover(instance: Instance) -> None:
    """Record what dead runs of an instance were seen to read and write; raises DatabaseError."""
    known = list(claims.read())
    for each in known:
        if each.has_died and each.instance == claims.instance_key(instance.config):
            observation = Observation(each.run, Rules(each.project), started_ns=each.since)
            for line in each.accesses:
                observation.merge(line)
            others = [other for other in known if other is not each]
            written = dict(_written(each, observation, others)) if each.has_outputs else {}
            found = list(events(observation, observation.reads, written))
            if found:
                recording.record_files(instance, found)
            claims.forget_children(each.run)
            claims.forget(each)


def _written(
    run: Claimed, observation: Observation, others: list[Claimed]
) -> Iterator[tuple[str, Written]]:
    for path, before in observation.writes.items():
        now = regular(path)
        if now is None or now == before or now.ctime_ns < run.since - TICK_NS:
            continue
        # whoever wrote it since has it now
        if not any(path in other.written for other in others if other.until >= run.since):
            yield path, Written(now, "observed")
