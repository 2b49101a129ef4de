"""What code is inside of, by context: runs, and the noting of their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar


@dataclass(kw_only=True)
class Layer:
    """One thing that code is inside of.

    Attributes: outer: of the layer around it; is_main: whether threads that are inside of nothing
        are inside of it; pid: of the process that entered it.
    """

    outer: Any = None
    is_open: bool = True
    is_main: bool = False
    pid: int = field(default_factory=os.getpid)


L = TypeVar("L", bound=Layer)


class Stack(Generic[L]):
    """Layers inside each other, in each context its own; all may lie in one of the main flow."""

    def __init__(self, name: str) -> None:
        self._here: ContextVar[L | None] = ContextVar(name, default=None)
        self._main: L | None = None

    def innermost(self) -> L | None:
        """The layer around this code; in a thread without one of its own, that of the main flow."""
        for found in (self._here.get(), self._main):
            while found is not None and not found.is_open:
                found = found.outer
            if found is not None:
                return found
        return None

    def enter(self, layer: L, *, is_main: bool) -> None:
        """Be inside; args: is_main: whether threads without a layer of their own are too."""
        layer.outer, layer.is_main = self.innermost(), is_main
        self._here.set(layer)
        if is_main:
            self._main = layer

    def leave(self, layer: L) -> None:
        """Be inside no longer, from wherever this is called."""
        layer.is_open = False
        self.step_out(layer)

    def step_out(self, layer: L) -> None:
        """Be in the layer around it, for now."""
        if self._here.get() is layer:
            self._here.set(layer.outer)
        if self._main is layer:
            self._main = layer.outer

    @contextmanager
    def resumed(self, layer: L | None) -> Iterator[None]:
        """Within: inside this layer, whoever calls; as a generator goes on where it is asked to."""
        if layer is None:
            yield
            return
        here, main = self._here.get(), self._main
        self._here.set(layer)
        if layer.is_main:
            self._main = layer
        try:
            yield
        finally:
            self._here.set(here)
            if layer.is_main:
                self._main = main
