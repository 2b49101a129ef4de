"""``lamin serve``: the records of an instance in the browser, on this machine, read only."""

from __future__ import annotations
