"""The function of a task or flow, as Prefect calls it and as everybody else sees it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamindb_prefect.attempts import Attempt
    from lamindb_prefect.definitions import Definition


class TrackedFunction:
    """Calls the user's function, and records the call if it is one of Prefect's.

    Outside of its own run, as in a unit test that calls ``task.fn()``, it is the function. It also
    looks like it to ``inspect`` and to Prefect, which hashes its code for task and cache keys.
    An object of an importable class, so that it travels to workers by any pickler.
    """

    __wrapped__: Any

    def __init__(self, function: Callable[..., Any], definition: Definition) -> None:
        update_wrapper(self, function)
        self.definition = definition
        self.__prefect_task_source__ = function  # Prefect 3.9 takes the code from here

    @property
    def __code__(self) -> Any:
        return self.__wrapped__.__code__

    @property
    def __globals__(self) -> Any:
        return self.__wrapped__.__globals__

    @property
    def __defaults__(self) -> Any:
        return self.__wrapped__.__defaults__

    @property
    def __kwdefaults__(self) -> Any:
        return self.__wrapped__.__kwdefaults__

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from lamindb_prefect import attempts

        function = self.__wrapped__
        context = attempts.own_context(self)
        if context is None:
            return function(*args, **kwargs)
        if inspect.iscoroutinefunction(function):
            return _call_async(self, context, args, kwargs)
        if inspect.isasyncgenfunction(function):
            return _generate_async(self, context, args, kwargs)
        attempt = attempts.begin(self, context)
        if attempt is None:
            return function(*args, **kwargs)
        if inspect.isgeneratorfunction(function):
            return _generate(attempt, function, args, kwargs)
        return _call(attempt, function, args, kwargs)


def original(function: Any) -> Any:
    """Return the user's function: what is not tracked is returned as it is."""
    return function.__wrapped__ if isinstance(function, TrackedFunction) else function


def _call(attempt: Attempt, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        attempt.raised(error)
        raise
    attempt.returned(result)
    return result


async def _call_async(tracked: TrackedFunction, context: Any, args: Any, kwargs: Any) -> Any:
    from lamindb_prefect import attempts

    attempt = await attempts.begin_async(tracked, context)
    if attempt is None:
        return await tracked.__wrapped__(*args, **kwargs)
    try:
        result = await tracked.__wrapped__(*args, **kwargs)
    except BaseException as error:
        attempt.raised(error)
        raise
    attempt.returned(result)
    return result


def _generate(
    attempt: Attempt, function: Callable[..., Any], args: Any, kwargs: Any
) -> Generator[Any, Any, Any]:
    try:
        generator = function(*args, **kwargs)
        value = next(generator)
        while True:
            attempt.yielded(value)
            try:
                sent = yield value
            except BaseException as error:
                attempt.resumed()
                value = generator.throw(error)
            else:
                attempt.resumed()
                value = generator.send(sent)
    except StopIteration as end:
        attempt.returned(end.value)
        return end.value
    except BaseException as error:
        attempt.raised(error)
        raise


async def _generate_async(
    tracked: TrackedFunction, context: Any, args: Any, kwargs: Any
) -> AsyncGenerator[Any, Any]:
    from lamindb_prefect import attempts

    generator = tracked.__wrapped__(*args, **kwargs)
    attempt = await attempts.begin_async(tracked, context)
    if attempt is None:
        async for value in generator:
            yield value
        return
    try:
        value = await anext(generator)
        while True:
            attempt.yielded(value)
            try:
                sent = yield value
            except BaseException as error:
                attempt.resumed()
                value = await generator.athrow(error)
            else:
                attempt.resumed()
                value = await generator.asend(sent)
    except StopAsyncIteration:
        attempt.returned(None)
    except BaseException as error:
        attempt.raised(error)
        raise
