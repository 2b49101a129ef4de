"""Finds plugins, and calls their hooks so that one failing plugin stops nobody else.

There are no historic hooks: a plugin that registers late is not told of what was before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import pluggy

from lamindb.config import settings
from lamindb.errors import PluginError
from lamindb.hooks import specs
from lamindb.hooks.events import Event
from lamindb.hooks.installed import entry_points
from lamindb.hooks.specs import PROJECT

hookimpl = pluggy.HookimplMarker(PROJECT)
logger = logging.getLogger("lamindb.plugins")


@cache
def plugins() -> pluggy.PluginManager:
    """Return this process's plugin manager; plugins register when it is first asked for.

    A plugin that cannot be used is left out with a warning: it must not take the others down.

    Raises: PluginError: in strict mode, the first such failure.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    failures: list[PluginError] = []
    for point in sorted(entry_points(group=PROJECT), key=lambda point: point.name):
        if point.name in settings.blocked_plugins or manager.has_plugin(point.name):
            continue
        try:
            manager.register(point.load(), name=point.name)
            _check(manager, point.name)
        except Exception as error:  # a third party's import may raise anything
            failures.append(_report(point.name, "import", error))
            if manager.has_plugin(point.name):
                manager.unregister(name=point.name)
    if failures and settings.strict:
        raise failures[0]
    return manager


def are_loaded() -> bool:
    """Whether anybody has asked for a plugin yet; before that, none can have told anything."""
    return plugins.cache_info().currsize > 0


def _check(manager: pluggy.PluginManager, name: str) -> None:
    """Refuse hooks that nobody would call, and those that can only be called around others."""
    manager.check_pending()
    for hook in manager.get_hookcallers(manager.get_plugin(name)) or ():
        for implementation in hook.get_hookimpls():
            if implementation.wrapper or implementation.hookwrapper:
                raise TypeError(f"{hook.name} is a wrapper, which {PROJECT} does not call")


def first(hook: str, **arguments: Any) -> Any:
    """Return the first answer that is not None, asking the plugin registered last first.

    Raises: PluginError: in strict mode, the first failure, after the others were asked.
    """
    failures: list[PluginError] = []
    answer = next(
        (given for given in _answers(hook, arguments, failures) if given is not None), None
    )
    if failures and settings.strict:
        raise failures[0]
    return answer


def every(hook: str, **arguments: Any) -> list[Any]:
    """Return all answers that are not None; raises like :func:`first`."""
    failures: list[PluginError] = []
    answers = [given for given in _answers(hook, arguments, failures) if given is not None]
    if failures and settings.strict:
        raise failures[0]
    return answers


def every_by_plugin(hook: str, **arguments: Any) -> dict[str, Any]:
    """Return each plugin's answer that is not None, by its name; raises like :func:`first`."""
    failures: list[PluginError] = []
    answers = {
        name: given
        for name, given in _named_answers(hook, arguments, failures)
        if given is not None
    }
    if failures and settings.strict:
        raise failures[0]
    return answers


def notify(hook: str, **arguments: Any) -> None:
    """Tell every plugin of a moment. What one of them raises is logged: it stops nobody.

    Raises: PluginError: in strict mode, the first failure, after all were told.
    """
    every(hook, **arguments)


def emit(event: Event) -> None:
    """Tell every plugin of an event; the recorder writes it down. Returns within microseconds.

    Raises: PluginError: in strict mode only.
    """
    notify(event.hook, event=event)


def _answers(hook: str, arguments: dict[str, Any], failures: list[PluginError]) -> Iterator[Any]:
    return (given for _, given in _named_answers(hook, arguments, failures))


def _named_answers(
    hook: str, arguments: dict[str, Any], failures: list[PluginError]
) -> Iterator[tuple[str, Any]]:
    # pluggy's own call stops at the first exception, so each implementation is called alone
    for implementation in reversed(getattr(plugins().hook, hook).get_hookimpls()):
        wanted = {name: arguments[name] for name in implementation.argnames}
        try:
            yield implementation.plugin_name, implementation.function(*wanted.values())
        except Exception as error:  # a plugin may raise anything
            failures.append(_report(implementation.plugin_name, hook, error))


def _report(plugin: str, hook: str, error: Exception) -> PluginError:
    failure = PluginError(f"plugin {plugin!r} failed in {hook}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    logger.warning("%s", failure)
    return failure
